// SPDX-License-Identifier: MIT
#include "team.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <span>

#include "pavise/core/error.hpp"
#ifdef PAVISE_WITH_MPI
#include "pavise_mpi/world.hpp"
#endif
#ifdef PAVISE_WITH_NCCL
#include "pavise_nccl/peers.hpp"
#endif

namespace pavise::program {

#ifdef PAVISE_WITH_MPI
struct Team::Ranks {
  std::unique_ptr<mpi::World> world;
};
#else
struct Team::Ranks {};
#endif

Team::Team() = default;
Team::~Team() = default;

void Team::start([[maybe_unused]] int& argc, [[maybe_unused]] char**& argv) {
  // What Open MPI's, MPICH's and Slurm's launchers tell each process.
  bool launched = false;
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"}) {
    launched = launched || std::getenv(name) != nullptr;
  }
  if (!launched) {
    return;
  }
#ifdef PAVISE_WITH_MPI
  ranks_ = std::make_unique<Ranks>();
  ranks_->world = mpi::start(argc, argv);
  if (!ranks_->world->first()) {  // the first rank speaks for all
    require<IoError>(std::freopen("/dev/null", "w", stdout) != nullptr, "/dev/null: cannot be opened");
  }
#else
  const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
  size = size != nullptr ? size : std::getenv("PMI_SIZE");
  require<Error>(size == nullptr || std::atoi(size) <= 1, "started as one of ", size == nullptr ? "" : size,
                 " processes, and built without MPI; configure with -DPAVISE_MPI=ON");
#endif
}

Communicator* Team::ranks() const {
#ifdef PAVISE_WITH_MPI
  return ranks_ ? ranks_->world.get() : nullptr;
#else
  return nullptr;
#endif
}

bool Team::writes() const { return ranks() == nullptr || ranks()->first(); }

void Team::share(CLI::App& app, const std::vector<std::string>& names) const {
  if (ranks() == nullptr || ranks()->size() == 1) {
    return;
  }
  for (auto* command : app.get_subcommands({})) {
    if (std::find(names.begin(), names.end(), command->get_name()) == names.end()) {
      command->parse_complete_callback([command, names, n = ranks()->size()] {
        throw ValueError(concat(command->get_name(), ": started as ", n, " processes, expected one; ", join(names),
                                " share their work"));
      });
    }
  }
}

int Team::fail(const std::string& message) const {
#ifdef PAVISE_WITH_MPI
  if (ranks_ && ranks_->world->size() > 1) {
    ranks_->world->abort("pavise: " + message, 1);
  }
#endif
  std::cerr << "pavise: " << message << "\n";
  return 1;
}

namespace {

/// How many ranks before this one have the same bytes.
template <class T>
int same_before(Communicator& team, const T& own) {
  const auto all = gather(team, std::span<const T>(&own, 1));
  return static_cast<int>(std::count(all.begin(), all.begin() + team.rank(), own));
}

}  // namespace

Device device_of(const std::string& name, Communicator* team) {
  const Device first = Device::named(name);
  if (name != "cuda" || team == nullptr) {
    return first;
  }
  std::array<char, 256> machine{};
  require<Error>(gethostname(machine.data(), machine.size() - 1) == 0, "this machine has no name");
  return Device::cuda(same_before(*team, machine) % first.kernels().device_count());
}

std::shared_ptr<device::Peers> make_peers(Communicator* team, [[maybe_unused]] Device device) {
  if (team == nullptr || team->size() == 1) {
    return nullptr;
  }
#ifdef PAVISE_WITH_NCCL
  std::array<unsigned char, 16> id{};
  const auto info = device.kernels().device_info(device.index());
  std::copy(std::begin(info.id), std::end(info.id), id.begin());
  std::array<std::int64_t, 1> shared{same_before(*team, id)};
  add_up(*team, shared);
  if (shared[0] == 0) {
    return nccl::join(*team, device);
  }
#endif
  return std::make_shared<device::HostPeers>(*team);
}

}  // namespace pavise::program

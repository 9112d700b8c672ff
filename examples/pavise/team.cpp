// SPDX-License-Identifier: MIT
#include "team.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
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

/// A machine, and one of its GPUs.
struct Place {
  char machine[256];
  int gpu;
  friend bool operator==(const Place& a, const Place& b) {
    return std::strcmp(a.machine, b.machine) == 0 && a.gpu == b.gpu;
  }
};

/// Of every rank.
std::vector<Place> places(Communicator& team, int gpu) {
  Place own{};
  own.gpu = gpu;
  require<Error>(gethostname(own.machine, sizeof own.machine - 1) == 0, "this machine has no name");
  return gather(team, std::span<const Place>(&own, 1));
}

}  // namespace

Device device_of(const std::string& name, Communicator* team) {
  const Device first = Device::named(name);
  if (name != "cuda" || team == nullptr) {
    return first;
  }
  const auto all = places(*team, 0);
  const auto own = all.begin() + team->rank();
  return Device::cuda(static_cast<int>(std::count(all.begin(), own, *own)) % first.kernels().device_count());
}

std::shared_ptr<device::Peers> make_peers(Communicator* team, [[maybe_unused]] Device device) {
  if (team == nullptr || team->size() == 1) {
    return nullptr;
  }
#ifdef PAVISE_WITH_NCCL
  const auto all = places(*team, device.index());
  if (std::all_of(all.begin(), all.end(), [&](const Place& p) { return std::count(all.begin(), all.end(), p) == 1; })) {
    return nccl::join(*team, device);
  }
#endif
  return std::make_shared<device::HostPeers>(*team);
}

}  // namespace pavise::program

// SPDX-License-Identifier: MIT
// `mpirun -n 4 pavise ...`: the processes that a launcher of MPI started.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "pavise/core/communicator.hpp"
#include "pavise/core/device.hpp"
#include "pavise/device/peers.hpp"

namespace pavise::program {

/// The team that this process belongs to, from the beginning of the program to its end.
class Team {
 public:
  Team();
  ~Team();

  /// Joins the processes that were started with this one, if any. Throws Error where there are some and this program was
  /// built without MPI: they would do the same work and write the same files.
  void start(int& argc, char**& argv);
  /// Null: this process works alone.
  Communicator* ranks() const;
  bool writes() const;
  /// Makes all other subcommands than those named refuse a team.
  void share(CLI::App& app, const std::vector<std::string>& names) const;
  /// Says what went wrong, and ends all processes of the team. Returns the exit status where there is none.
  int fail(const std::string& message) const;

 private:
  struct Ranks;
  std::unique_ptr<Ranks> ranks_;
};

/// The device of that name for this process of a team (null: alone). "cuda" gives the processes of one machine its GPUs in
/// turn. Every rank calls it.
Device device_of(const std::string& name, Communicator* team);

/// How the GPUs of a team's processes reach each other: by NCCL, where this program was built with it and no two
/// processes have the same GPU; else through the hosts. Null where the team is of one. Every rank calls it.
std::shared_ptr<device::Peers> make_peers(Communicator* team, Device device);

}  // namespace pavise::program

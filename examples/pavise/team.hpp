// SPDX-License-Identifier: MIT
// `mpirun -n 4 pavise ...`: the processes that a launcher of MPI started.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "pavise/core/communicator.hpp"

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

}  // namespace pavise::program

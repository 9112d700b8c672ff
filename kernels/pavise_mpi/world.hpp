// SPDX-License-Identifier: MIT
// Processes that MPI started together. Programs that link pavise::mpi need no MPI compiler themselves.
#pragma once

#include <memory>
#include <string>

#include "pavise/core/communicator.hpp"

namespace pavise::mpi {

/// All ranks of the job that this process belongs to. One for each process, from the beginning of the program to its end:
/// where it is destroyed all ranks wait for each other and MPI ends. An error of MPI throws Error.
class World : public Communicator {
 public:
  /// Ends all ranks at once, with `status`. `message` goes to standard error, with this rank's number in front.
  [[noreturn]] virtual void abort(const std::string& message, int status) = 0;
};

/// Begins MPI. Throws Error where it cannot.
std::unique_ptr<World> start(int& argc, char**& argv);

}  // namespace pavise::mpi

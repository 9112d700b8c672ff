// SPDX-License-Identifier: MIT
#include "pavise_mpi/world.hpp"

#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "pavise/core/error.hpp"

namespace pavise::mpi {
namespace {

/// MPI counts in int: longer messages go in parts.
constexpr std::size_t kLargest = std::size_t{1} << 30;

void check(int code, const char* what) {
  if (code != MPI_SUCCESS) {
    char text[MPI_MAX_ERROR_STRING] = {};
    int length = 0;
    MPI_Error_string(code, text, &length);
    throw Error(concat("mpi: ", what, ": ", text));
  }
}

/// Calls part(offset, size) for the parts of `size` bytes.
template <class Part>
void in_parts(std::size_t size, const Part& part) {
  for (std::size_t at = 0; at < size; at += kLargest) {
    part(at, static_cast<int>(std::min(kLargest, size - at)));
  }
}

class MpiWorld : public World {
 public:
  MpiWorld() {
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "error handler");
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "size");
  }
  ~MpiWorld() override { MPI_Finalize(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void send(std::span<const std::byte> bytes, int to) override {
    in_parts(bytes.size(), [&](std::size_t at, int n) {
      check(MPI_Send(bytes.data() + at, n, MPI_BYTE, to, 0, MPI_COMM_WORLD), "send");
    });
  }
  void receive(std::span<std::byte> bytes, int from) override {
    in_parts(bytes.size(), [&](std::size_t at, int n) {
      MPI_Status status;
      check(MPI_Recv(bytes.data() + at, n, MPI_BYTE, from, 0, MPI_COMM_WORLD, &status), "receive");
      int got = 0;
      check(MPI_Get_count(&status, MPI_BYTE, &got), "receive");
      require<Error>(got == n, "mpi: rank ", from, " sent ", got, " bytes, expected ", n);
    });
  }
  void broadcast(std::span<std::byte> bytes, int from) override {
    in_parts(bytes.size(), [&](std::size_t at, int n) {
      check(MPI_Bcast(bytes.data() + at, n, MPI_BYTE, from, MPI_COMM_WORLD), "broadcast");
    });
  }
  void abort(const std::string& message, int status) override {
    std::fprintf(stderr, "rank %d of %d: %s\n", rank_, size_, message.c_str());
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, status);
    std::abort();  // not reached
  }

 private:
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace

std::unique_ptr<World> start(int& argc, char**& argv) {
  int provided = 0;
  check(MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided), "start");
  require<Error>(provided >= MPI_THREAD_SERIALIZED, "mpi: this MPI allows no threads beside it (level ", provided,
                 "), expected MPI_THREAD_SERIALIZED");
  return std::make_unique<MpiWorld>();
}

}  // namespace pavise::mpi

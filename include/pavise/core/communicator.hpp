// SPDX-License-Identifier: MIT
// Processes that work together. What they exchange is bytes; who carries them is told by an implementation: pavise::mpi
// (kernels/pavise_mpi, -DPAVISE_MPI=ON) has that of MPI.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace pavise {

/// A number of processes, the ranks 0 to size() - 1, of which this is one. Every rank makes the same calls in the same
/// order; calls are made by one thread at a time, and return when the span may be used again. Where a rank is lost the
/// others cannot go on: the implementation ends them.
class Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// To rank `to`, which receives as many bytes.
  virtual void send(std::span<const std::byte> bytes, int to) = 0;
  virtual void receive(std::span<std::byte> bytes, int from) = 0;
  /// Gives all ranks the bytes of rank `from`.
  virtual void broadcast(std::span<std::byte> bytes, int from) = 0;

  bool first() const { return rank() == 0; }
  bool last() const { return rank() == size() - 1; }
};

/// The part [begin, end) of [0, n) that is the share of `rank` among `ranks`, in order: whole blocks of `block` items, the
/// last one excepted, and no share larger than need be. The last ranks may have none.
inline std::pair<std::int64_t, std::int64_t> share_of(std::int64_t n, int rank, int ranks, std::int64_t block = 1) {
  const std::int64_t each = ((n + block - 1) / block + ranks - 1) / ranks * block;
  return {std::min(n, each * rank), std::min(n, each * (rank + 1))};
}

/// Gives all ranks the values of rank `from`.
template <class T>
void broadcast(Communicator& team, std::span<T> values, int from) {
  static_assert(std::is_trivially_copyable_v<T>);
  team.broadcast(std::as_writable_bytes(values), from);
}

/// Takes the ranks in turn: each goes on with `values` as the one before left them (the first with its own), and does
/// its part in work(). The last rank's values are the outcome, on that rank alone.
template <class T, class Work>
void in_turn(Communicator& team, std::span<T> values, const Work& work) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (!team.first()) {
    team.receive(std::as_writable_bytes(values), team.rank() - 1);
  }
  work();
  if (!team.last()) {
    team.send(std::as_bytes(values), team.rank() + 1);
  }
}

/// Fills in what the others have of `values`, `n` items of `width` values, of which each rank has its share_of.
template <class T>
void gather_shares(Communicator& team, T* values, std::int64_t n, std::int64_t width, std::int64_t block = 1) {
  for (int rank = 0; rank < team.size(); ++rank) {
    const auto [begin, end] = share_of(n, rank, team.size(), block);
    if (begin < end) {
      broadcast(team, std::span(values + begin * width, static_cast<std::size_t>((end - begin) * width)), rank);
    }
  }
}

/// The values of all ranks, one rank's behind another's.
template <class T>
std::vector<T> gather(Communicator& team, std::span<const T> own) {
  std::vector<T> all;
  for (int rank = 0; rank < team.size(); ++rank) {
    std::uint64_t count = own.size();
    broadcast(team, std::span(&count, 1), rank);
    const std::size_t at = all.size();
    all.resize(at + static_cast<std::size_t>(count));
    if (rank == team.rank()) {
      std::copy(own.begin(), own.end(), all.begin() + static_cast<std::ptrdiff_t>(at));
    }
    if (count > 0) {
      broadcast(team, std::span(all).subspan(at), rank);
    }
  }
  return all;
}

/// Makes each of `values` the sum of every rank's.
inline void add_up(Communicator& team, std::span<std::int64_t> values) {
  std::vector<std::int64_t> sums(values.size());
  in_turn(team, std::span(sums), [&] {
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i] += values[i];
    }
  });
  broadcast(team, std::span(sums), team.size() - 1);
  std::copy(sums.begin(), sums.end(), values.begin());
}

}  // namespace pavise

// SPDX-License-Identifier: MIT
// Sums that cross the batch, where several processes have a part of it each (Tape::begin): they come about in the order,
// and with the bits, of a single process, because the ranks take them in turn.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pavise/autodiff/tape.hpp"
#include "pavise/core/communicator.hpp"

namespace pavise::detail {

/// Calls add(running sums), which adds sums over the groups to the gradient of a parameter; `results` of them, sixteen
/// lanes each. With other processes the sums go from rank to rank, and the last one adds them.
template <class T, class Add>
void add_over_batch(Tape<T>& tape, std::int64_t results, const Add& add) {
  if (tape.team() == nullptr) {
    add(kernels::RunningSums<T>{});
    return;
  }
  Communicator& team = *tape.team();
  const auto mark = tape.arena().mark();
  const auto count = static_cast<std::size_t>(results * kernels::kLanes);
  T* lanes = tape.arena().template allocate<T>(count);
  in_turn(team, std::span<T>(lanes, count),
          [&] { add(kernels::RunningSums<T>{.lanes = lanes, .first = team.first(), .last = team.last()}); });
  tape.arena().rewind(mark);
}

/// Two sums over the batch, in double.
using BatchSums = std::array<double, 2>;

/// Sums over the batch, and what becomes of them: add(isa, i, sums) adds this process's part, use(isa, i, sums) sees them
/// complete.
template <class Add, class Use>
struct BatchSum {
  Add add;
  Use use;
};
template <class Add, class Use>
BatchSum(Add, Use) -> BatchSum<Add, Use>;

/// Takes `stages` for each i in [0, n), in parallel over chunks of `grain`: alone, all stages of one i while its values are
/// in the cache; with other processes a stage of all i, whose sums go from rank to rank and then back to all.
template <class T, class... Stages>
void sum_over_batch(Tape<T>& tape, std::int64_t n, std::int64_t grain, const Stages&... stages) {
  const auto each = [&](const auto& body) {
    parallel_chunks(n, grain, [&](std::int64_t begin, std::int64_t end) {
      kernels::run_light([&](auto isa) {
        for (std::int64_t i = begin; i < end; ++i) {
          body(isa, i);
        }
      });
    });
  };
  if (tape.team() == nullptr) {
    each([&](auto isa, std::int64_t i) {
      const auto stage = [&](const auto& s) {
        BatchSums sums{};
        s.add(isa, i, sums);
        s.use(isa, i, sums);
      };
      (stage(stages), ...);
    });
    return;
  }
  Communicator& team = *tape.team();
  std::vector<BatchSums> sums(static_cast<std::size_t>(n));
  const auto stage = [&](const auto& s) {
    sums.assign(sums.size(), BatchSums{});
    in_turn(team, std::span(sums),
            [&] { each([&](auto isa, std::int64_t i) { s.add(isa, i, sums[static_cast<std::size_t>(i)]); }); });
    broadcast(team, std::span(sums), team.size() - 1);
    each([&](auto isa, std::int64_t i) { s.use(isa, i, sums[static_cast<std::size_t>(i)]); });
  };
  (stage(stages), ...);
}

}  // namespace pavise::detail

// SPDX-License-Identifier: MIT
// How a sum over groups begins and ends that several processes take in turn (running_sums.hpp).

/// Sum `i` as the process before left it, or 0.
template <class T>
PAVISE_LANES Pack<T, 16> begin_sum(const RunningSums<T>& running, std::int64_t i) {
  return running.first ? Pack<T, 16>::broadcast(T{0}) : Pack<T, 16>::load(running.lanes + i * 16);
}

/// Leaves sum `i` to the next process, or adds its lanes to `result` where there is none.
template <class T>
PAVISE_LANES void end_sum(const RunningSums<T>& running, std::int64_t i, Pack<T, 16> sum, T& result) {
  if (running.last) {
    result += sum_lanes(sum);
  } else {
    sum.store(running.lanes + i * 16);
  }
}

// SPDX-License-Identifier: MIT
// A user's program: a shuffled tensor, summed.
#include <cstdio>

#if __has_include(<pavise/pavise.hpp>)
#include <pavise/pavise.hpp>
#endif
#include <pavise/core/parallel.hpp>
#include <pavise/core/philox.hpp>
#include <pavise/core/tensor.hpp>
#include <pavise_kernels/cpu/cpu.hpp>

int main() {
  pavise::Tensor<double> tensor(pavise::Shape{100});
  const auto order = pavise::random_permutation(100, {.seed = 7});
  pavise::parallel_for(100,
                       [&](std::int64_t i) { tensor[i] = static_cast<double>(order[static_cast<std::size_t>(i)]); });
  double sum = 0;
  for (const double value : tensor) {
    sum += value;
  }
  std::printf("sum %g, %d thread(s)\n", sum, pavise::thread_count());
  return sum == 4950 ? 0 : 1;
}

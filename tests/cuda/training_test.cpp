// SPDX-License-Identifier: MIT
#include "cuda/filter_checks.hpp"
#include "cuda/orders.hpp"
#include "cuda/training_checks.hpp"
#include "cuda/update_checks.hpp"

#ifndef __SANITIZE_ADDRESS__  // fibres are slow under it: these take minutes there, and their kernels run in other tests
TEST_CASE("device: training agrees with the CPU's") { check_once(cuda_checks::check_training); }
TEST_CASE("device: updates there have the bits of the host's") { check_once(cuda_checks::check_updates); }
TEST_CASE("device: every defence trains there, with batch normalisation and dropout") {
  check_once(cuda_checks::check_defenses);
}
TEST_CASE("device: linear bounds have the CPU's bits") { check_once(cuda_checks::check_linear_bounds); }
TEST_CASE("device: bounds are trained there") { check_once(cuda_checks::check_bounds_training); }
TEST_CASE("device: attacks through filters have the CPU's bits") { check_once(cuda_checks::check_filtered_attacks); }
TEST_CASE("device: training behind filters agrees with the CPU's") { check_once(cuda_checks::check_filtered_training); }
TEST_CASE("device: models behind filters have the CPU's bits") { check_once(cuda_checks::check_filtered_models); }
#else
TEST_CASE("device: some models behind filters have the CPU's bits") {
  check_once(cuda_checks::check_few_filtered_models);
}
#endif

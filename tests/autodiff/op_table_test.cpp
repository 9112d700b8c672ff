// SPDX-License-Identifier: MIT
// Rows of the table of operations through every check: layers.
#include <doctest/doctest.h>

#include "autodiff/op_cases.hpp"
#include "autodiff/op_check.hpp"

TEST_CASE("operation table: convolution and fully connected layers") { op_table::check_rows(op_table::linear_cases()); }
TEST_CASE("operation table: pooling") { op_table::check_rows(op_table::pool_cases()); }
TEST_CASE("operation table: normalisation") { op_table::check_rows(op_table::norm_cases()); }
TEST_CASE("operation table: dropout") { op_table::check_rows(op_table::dropout_cases()); }
TEST_CASE("operation table: names of the rows of benchmarks") { op_table::check_names(op_table::benchmark_cases()); }

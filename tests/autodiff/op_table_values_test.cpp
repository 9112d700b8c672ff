// SPDX-License-Identifier: MIT
// Rows of the table of operations through every check: functions of elements, broadcasting.
#include <doctest/doctest.h>

#include "autodiff/op_cases_values.hpp"
#include "autodiff/op_check.hpp"

TEST_CASE("operation table: functions of elements") { op_table::check_rows(op_table::elementwise_cases()); }
TEST_CASE("operation table: broadcasting") { op_table::check_rows(op_table::broadcast_cases()); }

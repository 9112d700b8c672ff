// SPDX-License-Identifier: MIT
// The second half of the table of operations through every check (a program of its own to compile).
#include <doctest/doctest.h>

#include "autodiff/op_cases_values.hpp"
#include "autodiff/op_check.hpp"

namespace {

void check_rows(const std::vector<op_table::Case>& rows) {
  for (const auto& row : rows) {
    const std::string wrong = op_table::check_all(row);
    CHECK_MESSAGE(wrong.empty(), wrong);
  }
}

}  // namespace

TEST_CASE("operation table: functions of elements") { check_rows(op_table::elementwise_cases()); }
TEST_CASE("operation table: broadcasting") { check_rows(op_table::broadcast_cases()); }
TEST_CASE("operation table: reductions, shapes, softmax, matrices, losses") { check_rows(op_table::structure_cases()); }

// SPDX-License-Identifier: MIT
// Rows of the table of operations through every check: reductions, shapes, softmax, matrices.
#include <doctest/doctest.h>

#include "autodiff/op_cases_structure.hpp"
#include "autodiff/op_check.hpp"

TEST_CASE("operation table: reductions, shapes, softmax, matrices") {
  op_table::check_rows(op_table::structure_cases());
}

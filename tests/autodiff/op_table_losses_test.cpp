// SPDX-License-Identifier: MIT
// Rows of the table of operations through every check: losses.
#include <doctest/doctest.h>

#include "autodiff/op_cases_losses.hpp"
#include "autodiff/op_check.hpp"

TEST_CASE("operation table: losses of labels") { op_table::check_rows(op_table::label_loss_cases()); }
TEST_CASE("operation table: losses of two values") { op_table::check_rows(op_table::pair_loss_cases()); }

// SPDX-License-Identifier: MIT
// What is asked of every row of the table of operations. Each check returns what is wrong, in words, or nothing; so a
// test can also ask that a wrong operation is found out. Compiled once for all tests, in op_check.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autodiff/op_table.hpp"

namespace op_table {

/// Forward against the naive reference: 18 images in lanes (two groups) and 2 images one at a time.
template <class T>
std::string check_forward(const Case& c);

/// Gradients of inputs and parameters against central differences, in double. At most `limit` elements of each operand.
std::string check_gradient(const Case& c, std::int64_t limit = 24);

/// Gradients in float against those in double, relative to the largest of an operand's: what only float does
/// (Winograd's algorithm, own exponentials) is right backward too.
std::string check_float_gradient(const Case& c);

/// Within a larger graph: behind a ReLU whose mask the operation may apply itself, and applied twice to the same
/// operands.
std::string check_graph(const Case& c);

/// The same image in every lane, alone, and among others: the same bits.
template <class T>
std::string check_lanes(const Case& c);

/// The three instruction sets (as far as this processor has them): the same bits.
template <class T>
std::string check_instruction_sets(const Case& c);

/// 1, 2 and 3 threads, three groups: the same bits.
template <class T>
std::string check_threads(const Case& c);

/// Three processes with a group of images each: the bits of one process that has all of them.
template <class T>
std::string check_team(const Case& c);

/// A hash of the bits of a row's values and gradients in float: the same on every processor.
std::uint64_t bits(const Case& c);

/// Prints the row's bits, and checks what PAVISE_PRINT_BITS leaves.
std::string check_forward_and_bits(const Case& c);

/// Everything. Stops at the first thing that is wrong.
std::string check_all(const Case& c);

/// CHECKs that each row passes everything, and that no two rows of this program have the same name. With PAVISE_PRINT_BITS
/// in the environment it prints each row's bits, for a comparison with another processor's, and checks values, lanes and
/// threads alone: an emulator takes its time, and gradients with the same bits need no differences.
void check_rows(const std::vector<Case>& rows);

/// CHECKs the names of rows that are not run here: those of benchmarks.
void check_names(const std::vector<Case>& rows);

}  // namespace op_table

// SPDX-License-Identifier: MIT
// What every test of an operation asks, for a function of values on the tape:
//
//   gradient_check([](auto& x) { return mul(x[0], x[1]); }, {{2, 3}, {3}});   // central differences, in double
//   same_bits([](auto& x) { return mul(x[0], x[1]); }, {{2, 3}, {3}});        // lanes, threads, instruction sets
//
// The function gets a vector of values, one for each shape, and returns one value of any shape. It is called with
// Var<float> and with Var<double>, so take `auto& x`; if it takes a second argument, that is the number of the pass's
// first image (for labels: image n of a pass is image first + n of the test). What needs not know the function's type
// is in check.cpp, compiled once for all tests.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <type_traits>
#include <vector>

#include "pavise/autodiff/tape.hpp"

namespace check {

using pavise::Shape;
using pavise::Var;

/// Where inputs are drawn from, and how closely the derivatives must agree.
struct Options {
  double low = -1.5;
  double high = 1.5;
  double step = 1e-5;
  double tolerance = 1e-7;        ///< of the difference, relative to 1 + |derivative|
  std::vector<bool> shared = {};  ///< inputs that are parameters; empty: none
  std::int64_t images = 18;       ///< of `same_bits`: two groups, the second with two images
  std::uint64_t seed = 1;
};

/// A function under test, and what it should give: of one image's inputs and its number, in double.
template <class T>
using Function = std::function<Var<T>(std::vector<Var<T>>&, std::int64_t)>;
using Reference = std::function<std::vector<double>(std::vector<std::vector<double>>&, std::int64_t)>;

template <class T, class F>
Function<T> erase(const F& f) {
  return [f](std::vector<Var<T>>& x, [[maybe_unused]] std::int64_t first) {
    if constexpr (std::is_invocable_v<F, std::vector<Var<T>>&, std::int64_t>) {
      return f(x, first);
    } else {
      return f(x);
    }
  };
}

template <class F>
Reference erase_reference(const F& f) {
  return [f](std::vector<std::vector<double>>& x, [[maybe_unused]] std::int64_t image) {
    if constexpr (std::is_invocable_v<F, std::vector<std::vector<double>>&, std::int64_t>) {
      return f(x, image);
    } else {
      return f(x);
    }
  };
}

// The checks below, of functions without their types.
double gradient_error_of(const Function<double>& f, const std::vector<Shape>& shapes, const Options& o);
template <class T>
void same_bits_of(const Function<T>& f, const std::vector<Shape>& shapes, const Options& o);
template <class T>
void forward_check_of(const Function<T>& f, const std::vector<Shape>& shapes, const Reference& reference,
                      double tolerance, const Options& o);

/// The largest difference between the tape's derivatives and central ones, relative to 1 + |derivative|, over all
/// inputs; infinite where the tape's derivative of some input is 0 everywhere (a check of zeros against zeros shows
/// nothing).
template <class F>
double gradient_error(const F& f, const std::vector<Shape>& shapes, const Options& o = {}) {
  return gradient_error_of(erase<double>(f), shapes, o);
}

/// CHECKs the gradients of f with respect to all its inputs against central differences in double.
template <class F>
void gradient_check(const F& f, const std::vector<Shape>& shapes, const Options& o = {}) {
  CHECK(gradient_error(f, shapes, o) < o.tolerance);
}

/// CHECKs that value and gradients of an image have the same bits in a batch of 16 lanes and alone in one lane, with
/// one thread and with three, and on every instruction set that the processor has. Parameters' gradients: everything
/// but lanes.
template <class F>
void same_bits(const F& f, const std::vector<Shape>& shapes, const Options& o = {}) {
  same_bits_of<float>(erase<float>(f), shapes, o);
  same_bits_of<double>(erase<double>(f), shapes, o);
}

/// CHECKs that f computes what `reference` does: a function of one image's inputs (and its number, if it takes one), as
/// vectors of double, to a vector.
template <class T, class F, class R>
void forward_check(const F& f, const std::vector<Shape>& shapes, const R& reference, double tolerance,
                   const Options& o = {}) {
  forward_check_of<T>(erase<T>(f), shapes, erase_reference(reference), tolerance, o);
}

}  // namespace check

// SPDX-License-Identifier: MIT
// The table of operations: for each, its operands (shapes, ranges, kinks), how to call it, a naive reference, and
// tolerances. op_check.hpp runs every row through all checks; benchmarks/operations.cpp times the rows of
// benchmark_cases(). A row is written once for float and double:
//
//   make("conv2d 3x3", {{{2, 5, 7}}}, {{{3, 2, 3, 3}}, {{3}}},
//        [](auto& o) { return conv2d(o.x[0], o.p[0], o.p[1]); },
//        [](const Operation& o) { return reference::conv2d(...); });
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "pavise/autodiff/tape.hpp"

namespace op_table {

using pavise::Parameter;
using pavise::Shape;
using pavise::Tape;
using pavise::Var;
using Values = std::vector<double>;

/// Where the values of an operand come from, and what may be asked of its gradient.
struct Operand {
  Shape shape;
  double low = -1;
  double high = 1;
  std::vector<double> kinks = {};  ///< points where the derivative jumps: values stay 0.05 away from them
  bool distinct = false;           ///< all values of an image differ by (high - low) / size at least
  bool buffer = false;             ///< a parameter that is not trained
  bool constant = false;           ///< the result has no derivative with respect to it
  bool flat = false;               ///< the derivative is 0 everywhere, and that is right
};

/// What a row's function is called with: values on a tape.
template <class T>
struct Operands {
  Tape<T>& tape;
  std::vector<Var<T>> x;                 ///< inputs
  std::vector<Var<T>> p;                 ///< parameters
  std::vector<Parameter<T>*> parameter;  ///< the same, for operations that change them
  std::vector<std::uint32_t> image;      ///< which image each lane of the pass holds: for labels
};

/// What a row's reference is called with: one image, in double.
struct Operation {
  std::vector<Values> x;
  std::vector<Values> p;
  std::uint32_t image = 0;
};

struct Case {
  std::string name;
  std::vector<Operand> inputs;
  std::vector<Operand> parameters;
  std::function<Var<float>(Operands<float>&)> run_float;
  std::function<Var<double>(Operands<double>&)> run_double;
  /// The result for each image of the batch.
  std::function<std::vector<Values>(const std::vector<Operation>&)> reference;
  pavise::Mode mode = pavise::Mode::evaluation;
  bool across = false;               ///< an image's result depends on the others
  double tolerance = 2e-6;           ///< of float against the reference, relative to 1 + |value|
  double gradient_tolerance = 1e-7;  ///< of double against central differences, relative to 1 + |derivative|
  double flops = 0;                  ///< of one image forward, for benchmarks; 0: memory-bound

  Var<float> run(Operands<float>& o) const { return run_float(o); }
  Var<double> run(Operands<double>& o) const { return run_double(o); }

  // The chained forms in which a row states what is unusual about it.
  Case training() && { return mode = pavise::Mode::training, std::move(*this); }
  Case within(double t) && { return tolerance = t, std::move(*this); }
  Case gradient_within(double t) && { return gradient_tolerance = t, std::move(*this); }
  Case costs(double f) && { return flops = f, std::move(*this); }
};

/// A row whose reference takes one image.
template <class F, class R>
Case make(std::string name, std::vector<Operand> inputs, std::vector<Operand> parameters, F f, R reference) {
  Case c;
  c.name = std::move(name);
  c.inputs = std::move(inputs);
  c.parameters = std::move(parameters);
  c.run_float = [f](Operands<float>& o) { return f(o); };
  c.run_double = [f](Operands<double>& o) { return f(o); };
  c.reference = [reference](const std::vector<Operation>& batch) {
    std::vector<Values> out;
    for (const auto& o : batch) {
      out.push_back(reference(o));
    }
    return out;
  };
  return c;
}

/// A row whose reference takes the whole batch, in training mode.
template <class F, class R>
Case make_across(std::string name, std::vector<Operand> inputs, std::vector<Operand> parameters, F f, R reference) {
  Case c =
      make(std::move(name), std::move(inputs), std::move(parameters), f, [](const Operation&) { return Values{}; });
  c.reference = reference;
  c.across = true;
  c.mode = pavise::Mode::training;
  return c;
}

/// A row for benchmarks alone.
template <class F>
Case make_benchmark(std::string name, std::vector<Operand> inputs, std::vector<Operand> parameters, F f) {
  return make(std::move(name), std::move(inputs), std::move(parameters), f, [](const Operation&) { return Values{}; });
}

}  // namespace op_table

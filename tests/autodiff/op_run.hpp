// SPDX-License-Identifier: MIT
// Runs a row of the table of operations on drawn operands and differentiates it: what op_check.cpp compares.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "autodiff/op_table.hpp"
#include "pavise/core/philox.hpp"

namespace op_table {

/// Element `e` of operand `operand` is moved by `by` in image number `image` of the batch (or in all, for -1).
struct Nudge {
  std::size_t operand = 0;  ///< inputs first, then parameters
  std::int64_t element = -1;
  std::int64_t image = -1;
  double by = 0;
};

/// How a row is run.
struct Setting {
  std::vector<std::uint32_t> images;  ///< which image each lane holds
  int lanes = 16;
  bool differentiate = true;
  Nudge nudge = {};
  bool behind_relu = false;        ///< inputs are ReLU's results...
  bool fused = false;              ///< ...whose mask is left to whoever adds to their gradient
  bool twice = false;              ///< the operation is applied twice to the same operands, and the results are added
  pavise::SharedPass shared = {};  ///< the pass of which `images` are this process's
};

template <class T>
struct Run {
  Shape shape;
  std::vector<std::vector<T>> value;                  ///< [image][element]
  std::vector<std::vector<std::vector<T>>> gradient;  ///< [operand][image][element]; [operand][0] of a parameter
};

/// The values of an operand for one image: a function of the operand's number, the image and the element.
inline Values draw(const Operand& o, std::size_t operand, std::uint32_t image) {
  const auto n = static_cast<std::size_t>(o.shape.numel());
  const pavise::RandomKey key{.seed = 20240229,
                              .purpose = pavise::Purpose::test,
                              .image = image,
                              .iteration = static_cast<std::uint32_t>(operand)};
  pavise::RandomSequence random(key);
  Values out(n);
  for (auto& v : out) {
    v = random.uniform(o.low, o.high);
  }
  if (o.distinct) {
    const auto order = pavise::random_permutation(static_cast<std::int64_t>(n), key);
    for (std::size_t i = 0; i < n; ++i) {
      out[i] = o.low + (o.high - o.low) * (static_cast<double>(order[i]) + 0.5) / static_cast<double>(n);
    }
  }
  for (auto& v : out) {
    for (const double kink : o.kinks) {
      v = std::abs(v - kink) < 0.05 ? kink + (v < kink ? -0.05 : 0.05) : v;
    }
    v = static_cast<double>(static_cast<float>(v));  // the same values in float and double
  }
  return out;
}

/// max(0, x), marked as a fused ReLU or not.
template <class T>
Var<T> relu_of(Var<T> x, bool fused) {
  auto& tape = x.tape();
  Var<T> y = tape.result("test relu", x.shape(), {x});
  tape.node(y).relu = fused;
  const std::int64_t n = tape.groups() * x.size() * tape.lanes();
  for (std::int64_t i = 0; i < n; ++i) {
    y.data()[i] = x.data()[i] > 0 ? x.data()[i] : T{0};
  }
  tape.on_backward(y, [=](Tape<T>& t) {
    T* dx = t.add_target(x);
    const bool mask = !t.node(y).relu || t.node(y).unmasked;
    for (std::int64_t i = 0; i < n; ++i) {
      dx[i] += !mask || y.data()[i] > 0 ? t.gradient(y)[i] : T{0};
    }
  });
  return y;
}

template <class T>
Var<T> sum_of_two(Var<T> a, Var<T> b) {
  auto& tape = a.tape();
  Var<T> y = tape.result("test sum", a.shape(), {a, b});
  const std::int64_t n = tape.groups() * a.size() * tape.lanes();
  for (std::int64_t i = 0; i < n; ++i) {
    y.data()[i] = a.data()[i] + b.data()[i];
  }
  tape.on_backward(y, [=](Tape<T>& t) {
    for (const Var<T> v : {a, b}) {
      if (t.needs_gradient(v)) {
        T* d = t.add_target(v);
        for (std::int64_t i = 0; i < n; ++i) {
          d[i] += t.gradient(y)[i];
        }
      }
    }
  });
  return y;
}

/// Runs a row and differentiates the sum of its results, each times a weight of its own.
template <class T>
Run<T> run(const Case& c, const Setting& s) {
  Tape<T> tape;
  pavise::ParameterStore<T> store;
  const auto images = static_cast<std::int64_t>(s.images.size());
  tape.begin(images, s.lanes, c.mode, s.lanes == 16 && s.differentiate, s.shared);
  Operands<T> o{tape, {}, {}, {}, s.images};
  o.image.resize(static_cast<std::size_t>(tape.groups() * s.lanes), s.images.back());
  tape.set_key({.seed = 5, .iteration = 3, .images = o.image.data()});

  std::vector<Parameter<T>*> parameters;
  for (std::size_t i = 0; i < c.parameters.size(); ++i) {
    parameters.push_back(&store.add("p" + std::to_string(i), c.parameters[i].shape, {}, !c.parameters[i].buffer));
  }
  store.allocate(0);
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const Var<T> x = tape.input(c.inputs[i].shape, s.differentiate && !c.inputs[i].constant);
    for (std::size_t n = 0; n < o.image.size(); ++n) {
      auto values = draw(c.inputs[i], i, o.image[n]);
      const bool moved = s.nudge.element >= 0 && s.nudge.operand == i &&
                         (s.nudge.image < 0 || s.nudge.image == static_cast<std::int64_t>(n));
      if (moved) {
        values[static_cast<std::size_t>(s.nudge.element)] += s.nudge.by;
      }
      const auto lanes = static_cast<std::size_t>(s.lanes);
      T* to = x.tape().node(x).value + n / lanes * lanes * values.size() + n % lanes;
      for (std::size_t e = 0; e < values.size(); ++e) {
        to[e * lanes] = static_cast<T>(values[e]);
      }
    }
    o.x.push_back(x);
  }
  const std::vector<Var<T>> watched = o.x;
  for (std::size_t i = 0; i < c.parameters.size(); ++i) {
    auto values = draw(c.parameters[i], c.inputs.size() + i, 0);
    if (s.nudge.element >= 0 && s.nudge.operand == c.inputs.size() + i) {
      values[static_cast<std::size_t>(s.nudge.element)] += s.nudge.by;
    }
    std::transform(values.begin(), values.end(), parameters[i]->edit().begin(),
                   [](double v) { return static_cast<T>(v); });
    o.p.push_back(tape.parameter(*parameters[i]));
  }
  o.parameter = parameters;
  if (s.behind_relu) {
    for (auto& x : o.x) {
      x = relu_of(x, s.fused);
    }
  }
  Var<T> y = c.run(o);
  if (s.twice) {
    y = sum_of_two(y, c.run(o));
  }

  const auto size = static_cast<std::size_t>(y.size());
  const auto lanes = static_cast<std::size_t>(s.lanes);
  const auto image_of = [&](const T* p, std::size_t elements, std::size_t n) {
    std::vector<T> out(elements);
    for (std::size_t e = 0; e < elements; ++e) {
      out[e] = p[(n / lanes * elements + e) * lanes + n % lanes];
    }
    return out;
  };
  Run<T> out;
  out.shape = y.shape();
  for (std::size_t n = 0; n < s.images.size(); ++n) {
    out.value.push_back(image_of(y.data(), size, n));
  }
  if (!s.differentiate || !tape.needs_gradient(y)) {
    return out;
  }
  std::vector<T> seed(o.image.size() * size, T{0});
  for (std::size_t n = 0; n < s.images.size(); ++n) {
    const auto weight = draw({.shape = {y.size()}}, 99, s.images[n]);
    for (std::size_t e = 0; e < size; ++e) {
      seed[(n / lanes * size + e) * lanes + n % lanes] = static_cast<T>(weight[e]);
    }
  }
  tape.backward(y, seed.data());
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    out.gradient.emplace_back();
    if (c.inputs[i].constant) {
      continue;
    }
    const auto elements = static_cast<std::size_t>(c.inputs[i].shape.numel());
    const T* gradient = tape.input_gradient(watched[i]);
    for (std::size_t n = 0; n < s.images.size(); ++n) {
      out.gradient.back().push_back(gradient == nullptr ? std::vector<T>(elements, T{0})
                                                        : image_of(gradient, elements, n));
    }
  }
  for (std::size_t i = 0; i < c.parameters.size(); ++i) {
    const auto gradient = parameters[i]->gradient();
    out.gradient.push_back({std::vector<T>(gradient.begin(), gradient.end())});
  }
  return out;
}

}  // namespace op_table

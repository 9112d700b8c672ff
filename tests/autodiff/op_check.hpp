// SPDX-License-Identifier: MIT
// What is asked of every row of the table of operations. Each check returns what is wrong, in words, or nothing; so a
// test can also ask that a wrong operation is found out.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "autodiff/op_table.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/philox.hpp"

namespace op_table {

using pavise::concat;

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
  bool behind_relu = false;  ///< inputs are ReLU's results...
  bool fused = false;        ///< ...whose mask is left to whoever adds to their gradient
  bool twice = false;        ///< the operation is applied twice to the same operands, and the results are added
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
  tape.begin(images, s.lanes, c.mode, s.lanes == 16 && s.differentiate);
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

inline std::vector<std::uint32_t> first_images(std::uint32_t n) {
  std::vector<std::uint32_t> out(n);
  for (std::uint32_t i = 0; i < n; ++i) {
    out[i] = i;
  }
  return out;
}

inline std::vector<Operation> operations(const Case& c, const std::vector<std::uint32_t>& images) {
  std::vector<Operation> batch;
  for (const auto image : images) {
    Operation o;
    o.image = image;
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      o.x.push_back(draw(c.inputs[i], i, image));
    }
    for (std::size_t i = 0; i < c.parameters.size(); ++i) {
      o.p.push_back(draw(c.parameters[i], c.inputs.size() + i, 0));
    }
    batch.push_back(std::move(o));
  }
  return batch;
}

/// Forward against the naive reference: 18 images in lanes (two groups) and 2 images one at a time.
template <class T>
std::string check_forward(const Case& c) {
  const double tolerance = std::is_same_v<T, float> ? c.tolerance : c.tolerance * 1e-7;
  for (const int lanes : {16, 1}) {
    const auto images = first_images(lanes == 16 ? 18 : 2);
    const auto expected = c.reference(operations(c, images));
    const auto got = run<T>(c, {.images = images, .lanes = lanes, .differentiate = false});
    for (std::size_t n = 0; n < images.size(); ++n) {
      if (expected[n].size() != got.value[n].size()) {
        return concat("forward: ", got.value[n].size(), " elements, expected ", expected[n].size());
      }
      for (std::size_t e = 0; e < expected[n].size(); ++e) {
        const double v = static_cast<double>(got.value[n][e]);
        if (!(std::abs(v - expected[n][e]) <= tolerance * (1 + std::abs(expected[n][e])))) {
          return concat("forward, ", lanes, " lanes, image ", n, ", element ", e, ": ", v, ", expected ",
                        expected[n][e]);
        }
      }
    }
  }
  return {};
}

template <class T>
double weighted_sum(const Run<T>& r, const std::vector<std::uint32_t>& images, std::size_t n) {
  const auto weight = draw({.shape = {static_cast<std::int64_t>(r.value[n].size())}}, 99, images[n]);
  double sum = 0;
  for (std::size_t e = 0; e < r.value[n].size(); ++e) {
    sum += weight[e] * r.value[n][e];
  }
  return sum;
}

/// Gradients of inputs and parameters against central differences, in double. At most `limit` elements of each operand.
inline std::string check_gradient(const Case& c, std::int64_t limit = 24) {
  const auto images = first_images(3);
  const double h = 1e-5;
  const auto analytic = run<double>(c, {.images = images});
  if (analytic.value[0].empty()) {
    return {};
  }
  for (std::size_t k = 0; k < c.inputs.size() + c.parameters.size(); ++k) {
    const bool is_input = k < c.inputs.size();
    const Operand& operand = is_input ? c.inputs[k] : c.parameters[k - c.inputs.size()];
    const std::int64_t size = operand.shape.numel();
    if (operand.constant || operand.buffer || size == 0) {
      continue;
    }
    if (analytic.gradient.size() <= k) {
      return concat("gradient of operand ", k, ": nothing was recorded");
    }
    bool all_zero = true;
    for (const auto& image : analytic.gradient[k]) {
      for (const double g : image) {
        all_zero = all_zero && g == 0;
      }
    }
    if (all_zero && !operand.flat) {
      return concat("gradient of operand ", k, ": all zero");
    }
    const std::int64_t stride = std::max<std::int64_t>(1, size / limit);
    for (std::int64_t e = 0; e < size; e += stride) {
      for (std::int64_t moved = c.across && is_input ? 0 : -1; moved < (c.across && is_input ? 3 : 0); ++moved) {
        const auto at = [&](double by) {
          return run<double>(c, {.images = images, .differentiate = false, .nudge = {k, e, moved, by}});
        };
        const auto plus = at(h);
        const auto minus = at(-h);
        double total = 0;
        for (std::size_t n = 0; n < images.size(); ++n) {
          const double numeric = (weighted_sum(plus, images, n) - weighted_sum(minus, images, n)) / (2 * h);
          total += numeric;
          if (is_input && !c.across) {
            const double g = analytic.gradient[k][n][static_cast<std::size_t>(e)];
            if (!(std::abs(g - numeric) <= c.gradient_tolerance * (1 + std::abs(numeric)))) {
              return concat("gradient of input ", k, ", image ", n, ", element ", e, ": ", g, ", differences give ",
                            numeric);
            }
          }
        }
        if (!is_input || c.across) {
          const double g =
              analytic.gradient[k][is_input ? static_cast<std::size_t>(moved) : 0][static_cast<std::size_t>(e)];
          if (!(std::abs(g - total) <= c.gradient_tolerance * (1 + std::abs(total)))) {
            return concat("gradient of operand ", k, ", image ", moved, ", element ", e, ": ", g, ", differences give ",
                          total);
          }
        }
      }
    }
  }
  return {};
}

/// Gradients in float against those in double, relative to the largest of an operand's: what only float does
/// (Winograd's algorithm, own exponentials) is right backward too.
inline std::string check_float_gradient(const Case& c) {
  const auto images = first_images(18);
  const auto exact = run<double>(c, {.images = images});
  const auto got = run<float>(c, {.images = images});
  for (std::size_t k = 0; k < exact.gradient.size(); ++k) {
    double largest = 1;
    for (const auto& image : exact.gradient[k]) {
      for (const double g : image) {
        largest = std::max(largest, std::abs(g));
      }
    }
    for (std::size_t n = 0; n < exact.gradient[k].size(); ++n) {
      for (std::size_t e = 0; e < exact.gradient[k][n].size(); ++e) {
        const double g = static_cast<double>(got.gradient[k][n][e]);
        if (!(std::abs(g - exact.gradient[k][n][e]) <= 10 * c.tolerance * largest)) {
          return concat("float gradient of operand ", k, ", image ", n, ", element ", e, ": ", g, ", in double ",
                        exact.gradient[k][n][e]);
        }
      }
    }
  }
  return {};
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Whether image `n` of a and image `m` of b have the same values and input gradients.
template <class T>
std::string compare_images(const Case& c, const Run<T>& a, std::size_t n, const Run<T>& b, std::size_t m) {
  if (!same_bits(a.value[n], b.value[m])) {
    return "the values";
  }
  for (std::size_t k = 0; k < std::min(c.inputs.size(), a.gradient.size()); ++k) {
    if (!c.inputs[k].constant && !same_bits(a.gradient[k][n], b.gradient[k][m])) {
      return concat("the gradient of input ", k);
    }
  }
  return {};
}

/// The same image in every lane, alone, and among others: the same bits.
template <class T>
std::string check_lanes(const Case& c) {
  if (c.across) {
    return {};
  }
  const auto alone = run<T>(c, {.images = {7}, .lanes = 1});
  const auto everywhere = run<T>(c, {.images = std::vector<std::uint32_t>(16, 7)});
  for (std::size_t lane = 0; lane < 16; ++lane) {
    if (const auto what = compare_images(c, everywhere, lane, alone, 0); !what.empty()) {
      return concat("lanes: ", what, " in lane ", lane, " are not those of the image alone");
    }
  }
  auto images = first_images(19);
  images[18] = 7;
  const auto among = run<T>(c, {.images = images});
  for (const std::size_t place : {std::size_t{7}, std::size_t{18}}) {
    if (const auto what = compare_images(c, among, place, alone, 0); !what.empty()) {
      return concat("lanes: ", what, " at place ", place, " of a batch are not those of the image alone");
    }
  }
  return {};
}

template <class T>
std::string compare_runs(const Run<T>& a, const Run<T>& b) {
  for (std::size_t n = 0; n < a.value.size(); ++n) {
    if (!same_bits(a.value[n], b.value[n])) {
      return concat("the values of image ", n);
    }
  }
  for (std::size_t k = 0; k < a.gradient.size(); ++k) {
    for (std::size_t n = 0; n < a.gradient[k].size(); ++n) {
      if (!same_bits(a.gradient[k][n], b.gradient[k][n])) {
        return concat("the gradient of operand ", k, ", image ", n);
      }
    }
  }
  return {};
}

/// The three instruction sets (as far as this processor has them): the same bits.
template <class T>
std::string check_instruction_sets(const Case& c) {
  using pavise::kernels::Isa;
  const Isa before = pavise::kernels::isa();
  std::string wrong;
  for (const int lanes : {16, 1}) {
    const Setting setting{.images = first_images(lanes == 16 ? 19 : 2), .lanes = lanes};
    pavise::kernels::set_isa(Isa::portable);
    const auto portable = run<T>(c, setting);
    for (const Isa isa : {Isa::avx2, Isa::avx512}) {
      pavise::kernels::set_isa(isa);
      const auto other = run<T>(c, setting);
      if (const auto what = compare_runs(portable, other); !what.empty() && wrong.empty()) {
        wrong = concat("instruction sets: ", what, " with ", lanes, " lanes differs between portable and ",
                       pavise::kernels::isa_name(pavise::kernels::isa()));
      }
    }
  }
  pavise::kernels::set_isa(before);
  return wrong;
}

/// 1, 2 and 3 threads, three groups: the same bits.
template <class T>
std::string check_threads(const Case& c) {
  const int before = pavise::thread_count();
  const Setting setting{.images = first_images(37)};
  std::string wrong;
  pavise::set_thread_count(1);
  const auto one = run<T>(c, setting);
  for (const int threads : {2, 3}) {
    pavise::set_thread_count(threads);
    if (const auto what = compare_runs(one, run<T>(c, setting)); !what.empty() && wrong.empty()) {
      wrong = concat("threads: ", what, " differs between 1 and ", threads);
    }
  }
  pavise::set_thread_count(before);
  return wrong;
}

template <class T>
std::string compare_gradients(const char* what, const Run<T>& a, double factor, const Run<T>& b) {
  for (std::size_t k = 0; k < a.gradient.size(); ++k) {
    for (std::size_t n = 0; n < a.gradient[k].size(); ++n) {
      for (std::size_t e = 0; e < a.gradient[k][n].size(); ++e) {
        const double x = factor * static_cast<double>(a.gradient[k][n][e]);
        const double y = static_cast<double>(b.gradient[k][n][e]);
        if (!(std::abs(x - y) <= 1e-11 * (1 + std::abs(x)))) {
          return concat(what, ": gradient of operand ", k, ", image ", n, ", element ", e, ": ", y, ", expected ", x);
        }
      }
    }
  }
  return {};
}

/// Within a larger graph: behind a ReLU whose mask the operation may apply itself, and applied twice to the same
/// operands.
inline std::string check_graph(const Case& c) {
  const auto images = first_images(3);
  const auto plain = run<double>(c, {.images = images, .behind_relu = true});
  const auto fused = run<double>(c, {.images = images, .behind_relu = true, .fused = true});
  if (auto wrong = compare_gradients("behind a fused ReLU", plain, 1, fused); !wrong.empty()) {
    return wrong;
  }
  const auto once = run<double>(c, {.images = images});
  const auto twice = run<double>(c, {.images = images, .twice = true});
  return compare_gradients("applied twice", once, 2, twice);
}

/// Everything. Stops at the first thing that is wrong.
inline std::string check_all(const Case& c) {
  const std::function<std::string()> checks[] = {
      [&] { return check_forward<float>(c); },
      [&] { return check_forward<double>(c); },
      [&] { return check_gradient(c); },
      [&] { return check_float_gradient(c); },
      [&] { return check_graph(c); },
      [&] { return check_lanes<float>(c); },
      [&] { return check_lanes<double>(c); },
      [&] { return check_instruction_sets<float>(c); },
      [&] { return check_instruction_sets<double>(c); },
      [&] { return check_threads<float>(c); },
      [&] { return check_threads<double>(c); },
  };
  for (const auto& check : checks) {
    if (auto wrong = check(); !wrong.empty()) {
      return concat(c.name, ": ", wrong);
    }
  }
  return {};
}

}  // namespace op_table

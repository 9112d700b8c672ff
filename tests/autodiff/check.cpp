// SPDX-License-Identifier: MIT
#include "autodiff/check.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "pavise/core/philox.hpp"

namespace check {

namespace {

using pavise::Parameter;
using pavise::ParameterStore;
using pavise::Tape;

/// Uniform in (low, high), a function of seed, input, image and element.
double draw(const Options& o, std::size_t input, std::int64_t image, std::int64_t element) {
  const pavise::RandomKey key{.seed = o.seed,
                              .purpose = pavise::Purpose::test,
                              .image = static_cast<std::uint32_t>(image),
                              .iteration = static_cast<std::uint32_t>(input)};
  const auto word = pavise::random_block(key, static_cast<std::uint32_t>(element))[0];
  return o.low + (o.high - o.low) * (static_cast<double>(word >> 8) + 0.5) * 0x1p-24;
}

bool is_shared(const Options& o, std::size_t input) { return input < o.shared.size() && o.shared[input]; }

/// Values and gradients of a pass, image by image.
template <class T>
struct Result {
  Shape shape;
  std::vector<std::vector<T>> value;                  ///< [image][element]
  std::vector<std::vector<std::vector<T>>> gradient;  ///< [input][image][element]; [input][0] of parameters
};

/// Runs f on `images` images, whose first is image `first` of the drawn ones, and differentiates sum(weight * f).
/// `nudge` is added to element `element` of input `input` in every image.
template <class T>
Result<T> evaluate(const Function<T>& f, const std::vector<Shape>& shapes, const Options& o, int lanes,
                   std::int64_t first, std::int64_t images, bool differentiate = true, std::size_t input = 0,
                   std::int64_t element = -1, double nudge = 0) {
  Tape<T> tape;
  ParameterStore<T> store;
  std::vector<Parameter<T>*> parameters(shapes.size(), nullptr);
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    if (is_shared(o, i)) {
      parameters[i] = &store.add("p" + std::to_string(i), shapes[i], {});
    }
  }
  store.allocate(0);
  const auto value_of = [&](std::size_t i, std::int64_t image, std::int64_t e) {
    return static_cast<T>(draw(o, i, image, e) + (i == input && e == element ? nudge : 0.0));
  };
  tape.begin(images, lanes, pavise::Mode::evaluation, lanes == 16);
  std::vector<Var<T>> x;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    if (is_shared(o, i)) {
      auto values = parameters[i]->edit();
      for (std::size_t e = 0; e < values.size(); ++e) {
        values[e] = value_of(i, 0, static_cast<std::int64_t>(e));
      }
      x.push_back(tape.parameter(*parameters[i]));
    } else {
      x.push_back(tape.input(shapes[i], true));
      for (std::int64_t g = 0; g < tape.groups(); ++g) {
        for (std::int64_t e = 0; e < shapes[i].numel(); ++e) {
          for (int lane = 0; lane < lanes; ++lane) {
            x[i].data(g)[e * lanes + lane] = value_of(i, first + std::min(g * lanes + lane, images - 1), e);
          }
        }
      }
    }
  }
  const auto inputs = x;
  const Var<T> y = f(x, first);
  Result<T> out;
  out.shape = y.shape();
  for (std::int64_t n = 0; n < images; ++n) {
    out.value.emplace_back();
    for (std::int64_t e = 0; e < y.size(); ++e) {
      out.value.back().push_back(y.data(n / lanes)[e * lanes + n % lanes]);
    }
  }
  if (!differentiate) {
    return out;
  }
  std::vector<T> seed(static_cast<std::size_t>(tape.groups() * y.size() * lanes), T{0});
  for (std::int64_t n = 0; n < images; ++n) {
    for (std::int64_t e = 0; e < y.size(); ++e) {
      seed[static_cast<std::size_t>((n / lanes * y.size() + e) * lanes + n % lanes)] =
          static_cast<T>(draw({.low = -1, .high = 1}, 99, first + n, e));
    }
  }
  if (!tape.needs_gradient(y)) {
    return out;
  }
  tape.backward(y, seed.data());
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    out.gradient.emplace_back();
    if (is_shared(o, i)) {
      const auto g = parameters[i]->gradient();
      out.gradient.back().emplace_back(g.begin(), g.end());
      continue;
    }
    for (std::int64_t n = 0; n < images; ++n) {
      out.gradient.back().emplace_back();
      const T* g = tape.input_gradient(inputs[i], n / lanes);
      for (std::int64_t e = 0; e < shapes[i].numel(); ++e) {
        out.gradient.back().back().push_back(g == nullptr ? T{0} : g[e * lanes + n % lanes]);
      }
    }
  }
  return out;
}

template <class T>
bool equal_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace

double gradient_error_of(const Function<double>& f, const std::vector<Shape>& shapes, const Options& o) {
  constexpr std::int64_t kImages = 2;
  const auto exact = evaluate<double>(f, shapes, o, 16, 0, kImages);
  if (exact.gradient.empty()) {
    return std::numeric_limits<double>::infinity();
  }
  double worst = 0;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    bool all_zero = true;
    for (std::int64_t e = 0; e < shapes[i].numel(); ++e) {
      const auto up = evaluate<double>(f, shapes, o, 16, 0, kImages, false, i, e, o.step);
      const auto down = evaluate<double>(f, shapes, o, 16, 0, kImages, false, i, e, -o.step);
      double sum = 0;
      for (std::size_t n = 0; n < kImages; ++n) {
        double slope = 0;
        for (std::size_t k = 0; k < up.value[n].size(); ++k) {
          slope += draw({.low = -1, .high = 1}, 99, static_cast<std::int64_t>(n), static_cast<std::int64_t>(k)) *
                   (up.value[n][k] - down.value[n][k]) / (2 * o.step);
        }
        sum += slope;
        if (!is_shared(o, i)) {
          const double got = exact.gradient[i][n][static_cast<std::size_t>(e)];
          worst = std::max(worst, std::abs(got - slope) / (1 + std::abs(slope)));
          all_zero = all_zero && got == 0;
        }
      }
      if (is_shared(o, i)) {
        const double got = exact.gradient[i][0][static_cast<std::size_t>(e)];
        worst = std::max(worst, std::abs(got - sum) / (1 + std::abs(sum)));
        all_zero = all_zero && got == 0;
      }
    }
    if (all_zero) {
      return std::numeric_limits<double>::infinity();
    }
  }
  return worst;
}

template <class T>
void same_bits_of(const Function<T>& f, const std::vector<Shape>& shapes, const Options& o) {
  namespace kernels = pavise::kernels;
  struct Restore {
    kernels::Isa isa = kernels::isa();
    int threads = pavise::thread_count();
    ~Restore() {
      kernels::set_isa(isa);
      pavise::set_thread_count(threads);
    }
  } restore;
  const auto reference = evaluate<T>(f, shapes, o, 16, 0, o.images);
  const auto compare = [&](const Result<T>& r, std::int64_t first, bool parameters) {
    for (std::size_t n = 0; n < r.value.size(); ++n) {
      CHECK(equal_bits(r.value[n], reference.value[static_cast<std::size_t>(first) + n]));
    }
    for (std::size_t i = 0; i < r.gradient.size(); ++i) {
      if (is_shared(o, i)) {
        CHECK((!parameters || equal_bits(r.gradient[i][0], reference.gradient[i][0])));
        continue;
      }
      for (std::size_t n = 0; n < r.gradient[i].size(); ++n) {
        CHECK(equal_bits(r.gradient[i][n], reference.gradient[i][static_cast<std::size_t>(first) + n]));
      }
    }
  };
  for (const auto isa : {kernels::Isa::portable, kernels::Isa::avx2, kernels::Isa::avx512}) {
    kernels::set_isa(isa);
    CAPTURE(std::string(kernels::isa_name(kernels::isa())));
    for (const int threads : {1, 3}) {
      CAPTURE(threads);
      pavise::set_thread_count(threads);
      compare(evaluate<T>(f, shapes, o, 16, 0, o.images), 0, true);
    }
    compare(evaluate<T>(f, shapes, o, 1, 0, o.images), 0, false);
    compare(evaluate<T>(f, shapes, o, 16, 5, 1), 5, false);  // another lane
  }
}

template <class T>
void forward_check_of(const Function<T>& f, const std::vector<Shape>& shapes, const Reference& reference,
                      double tolerance, const Options& o) {
  const auto got = evaluate<T>(f, shapes, o, 16, 0, o.images, false);
  for (std::int64_t n = 0; n < o.images; ++n) {
    CAPTURE(n);
    std::vector<std::vector<double>> x;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      x.emplace_back();
      for (std::int64_t e = 0; e < shapes[i].numel(); ++e) {
        x.back().push_back(static_cast<double>(static_cast<T>(draw(o, i, is_shared(o, i) ? 0 : n, e))));
      }
    }
    const std::vector<double> expected = reference(x, n);
    const auto& values = got.value[static_cast<std::size_t>(n)];
    REQUIRE(values.size() == expected.size());
    for (std::size_t e = 0; e < expected.size(); ++e) {
      CAPTURE(e);
      CHECK(std::abs(static_cast<double>(values[e]) - expected[e]) <= tolerance * (1 + std::abs(expected[e])));
    }
  }
}

template void same_bits_of(const Function<float>&, const std::vector<Shape>&, const Options&);
template void same_bits_of(const Function<double>&, const std::vector<Shape>&, const Options&);
template void forward_check_of(const Function<float>&, const std::vector<Shape>&, const Reference&, double,
                               const Options&);
template void forward_check_of(const Function<double>&, const std::vector<Shape>&, const Reference&, double,
                               const Options&);

}  // namespace check

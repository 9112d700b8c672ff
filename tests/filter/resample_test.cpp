// SPDX-License-Identifier: MIT
#include "pavise/autodiff/resample.hpp"

#include <doctest/doctest.h>

#include "filter/filter_checks.hpp"

using namespace filter_checks;

namespace {

/// Places and weights without a pattern.
template <class T>
pv::AxisMap<T> some_map(std::int64_t in, std::int64_t out, std::int64_t taps) {
  pv::AxisMap<T> map(in, out, taps);
  for (std::int64_t i = 0; i < out; ++i) {
    for (std::int64_t t = 0; t < taps; ++t) {
      map.set(i, t, (5 * i + 3 * t + 1) % in, static_cast<float>((i * 7 + t * 3) % 11 - 5) / 8.0);
    }
  }
  return map;
}

Case resample_row(Shape in, std::size_t axis, std::int64_t out, std::int64_t taps) {
  return op_table::make(
      pv::concat("resample axis ", axis, " of ", in, " to ", out), {{in}}, {},
      [=](auto& o) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(std::as_const(o.x[0]).data())>>;
        return pv::resample(o.x[0], axis, some_map<T>(in[axis], out, taps));
      },
      [=](const op_table::Operation& o) {
        const auto map = some_map<double>(in[axis], out, taps);
        std::int64_t inner = 1;
        for (std::size_t i = axis + 1; i < in.rank(); ++i) {
          inner *= in[i];
        }
        const std::int64_t outer = in.numel() / inner / in[axis];
        Values y;
        for (std::int64_t a = 0; a < outer; ++a) {
          for (std::int64_t i = 0; i < out; ++i) {
            for (std::int64_t k = 0; k < inner; ++k) {
              double sum = 0;
              for (std::int64_t t = 0; t < taps; ++t) {
                const auto at = static_cast<std::size_t>(i * taps + t);
                sum += map.weights[at] * o.x[0][static_cast<std::size_t>((a * in[axis] + map.places[at]) * inner + k)];
              }
              y.push_back(sum);
            }
          }
        }
        return y;
      });
}

}  // namespace

TEST_CASE("resample: naive sums, derivatives, lanes, threads, instruction sets") {
  op_table::check_rows({resample_row({2, 5, 7}, 1, 4, 3), resample_row({2, 5, 7}, 2, 9, 2),
                        resample_row({3, 2, 5}, 0, 2, 4), resample_row({1, 1, 1}, 1, 1, 1)});
}

TEST_CASE("resample: two maps as one") {
  const auto a = some_map<double>(7, 5, 3);
  const auto b = some_map<double>(5, 6, 2);
  pv::Tape<double> tape;
  tape.begin(1, 1);
  Var<double> x = tape.input({7});
  for (int i = 0; i < 7; ++i) {
    x.data()[i] = i * i - 3.0;
  }
  const Var<double> twice = pv::resample(pv::resample(x, 0, a), 0, b);
  const Var<double> once = pv::resample(x, 0, pv::compose(a, b));
  for (int i = 0; i < 6; ++i) {
    CHECK(once.data()[i] == doctest::Approx(twice.data()[i]).epsilon(1e-12));
  }
  CHECK_THROWS_AS(pv::compose(b, a), pv::ShapeError);
  CHECK_THROWS_AS(pv::resample(x, 0, b), pv::ShapeError);
}

// SPDX-License-Identifier: MIT
#include "pavise/defend/filter/soft_jpeg.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "filter/filter_checks.hpp"

using namespace filter_checks;

namespace {

double soft(double t) {
  const double k = std::nearbyint(t);
  return k + (t - k) * (t - k) * (t - k);
}

/// One component by the textbook's sums: blocks of `in` (height,width), its edges repeated.
Values naive_component(const Values& in, std::int64_t h, std::int64_t w, const std::int32_t (&table)[64]) {
  Values out(in.size());
  const auto basis = [](std::int64_t u, std::int64_t x) {
    return (u == 0 ? std::sqrt(0.125) : 0.5) *
           std::cos((2.0 * static_cast<double>(x) + 1) * static_cast<double>(u) * M_PI / 16);
  };
  for (std::int64_t bi = 0; bi < h; bi += 8) {
    for (std::int64_t bj = 0; bj < w; bj += 8) {
      double coefficient[64];
      for (std::int64_t u = 0; u < 8; ++u) {
        for (std::int64_t v = 0; v < 8; ++v) {
          double sum = 0;
          for (std::int64_t i = 0; i < 8; ++i) {
            for (std::int64_t j = 0; j < 8; ++j) {
              sum += basis(u, i) * basis(v, j) *
                     in[static_cast<std::size_t>(std::min(bi + i, h - 1) * w + std::min(bj + j, w - 1))];
            }
          }
          const double q = table[u * 8 + v];
          coefficient[u * 8 + v] = q * soft(sum / q);
        }
      }
      for (std::int64_t i = 0; i < std::min<std::int64_t>(8, h - bi); ++i) {
        for (std::int64_t j = 0; j < std::min<std::int64_t>(8, w - bj); ++j) {
          double sum = 0;
          for (std::int64_t u = 0; u < 8; ++u) {
            for (std::int64_t v = 0; v < 8; ++v) {
              sum += basis(u, i) * basis(v, j) * coefficient[u * 8 + v];
            }
          }
          out[static_cast<std::size_t>((bi + i) * w + bj + j)] = sum;
        }
      }
    }
  }
  return out;
}

defend::JpegOptions options(std::int64_t quality, bool halved) {
  return {.quality = quality, .chroma = halved ? defend::Chroma::halved : defend::Chroma::full};
}

/// Grey, or colour at full resolution.
Values naive(const Values& x, Shape s, std::int64_t quality) {
  const auto plan = defend::detail::jpeg_plan("test", s, options(quality, false));
  const auto n = static_cast<std::size_t>(s[1] * s[2]);
  if (s[0] == 1) {
    Values centred;
    for (const double v : x) {
      centred.push_back(255 * v - 128);
    }
    Values out = naive_component(centred, s[1], s[2], plan.luminance);
    for (double& v : out) {
      v = (v + 128) / 255;
    }
    return out;
  }
  Values c[3];
  for (std::size_t i = 0; i < n; ++i) {
    const double r = 255 * x[i];
    const double g = 255 * x[n + i];
    const double b = 255 * x[2 * n + i];
    const double y = 0.299 * r + 0.587 * g + 0.114 * b;
    c[0].push_back(y - 128);
    c[1].push_back((b - y) / 1.772);
    c[2].push_back((r - y) / 1.402);
  }
  for (int k = 0; k < 3; ++k) {
    c[k] = naive_component(c[k], s[1], s[2], k == 0 ? plan.luminance : plan.chrominance);
  }
  Values out(3 * n);
  for (std::size_t i = 0; i < n; ++i) {
    const double y = c[0][i] + 128;
    const double r = y + 1.402 * c[2][i];
    const double b = y + 1.772 * c[1][i];
    out[i] = r / 255;
    out[n + i] = (y - 0.299 * r - 0.114 * b) / 0.587 / 255;
    out[2 * n + i] = b / 255;
  }
  return out;
}

Case soft_row(Shape in, std::int64_t quality, bool halved) {
  return op_table::make(
             pv::concat("soft_jpeg ", quality, halved ? " 4:2:0 " : " ", in), {{.shape = in, .low = 0, .high = 1}}, {},
             [=](auto& o) { return defend::soft_jpeg(o.x[0], options(quality, halved)); },
             [=](const op_table::Operation& o) { return naive(o.x[0], in, quality); })
      .within(1e-4)
      .gradient_within(1e-5);
}

}  // namespace

TEST_CASE("soft JPEG: the textbook's sums, derivatives, lanes, threads, instruction sets") {
  op_table::check_rows({soft_row({1, 8, 8}, 75, true), soft_row({1, 5, 11}, 30, true), soft_row({1, 1, 1}, 75, true),
                        soft_row({3, 7, 9}, 75, false)});
}

TEST_CASE("soft JPEG: derivatives with chroma of half the resolution") {
  for (const Shape shape : {Shape{3, 8, 8}, Shape{3, 7, 11}, Shape{3, 4, 3}}) {
    const Case c = soft_row(shape, 75, true);
    INFO(c.name);
    CHECK(op_table::check_gradient(c) == "");
    CHECK(op_table::check_lanes<float>(c) == "");
    CHECK(op_table::check_instruction_sets<float>(c) == "");
  }
}

TEST_CASE("soft JPEG: stays close to JPEG itself, at both resolutions of chroma") {
  for (const bool halved : {false, true}) {
    const Shape shape{3, 21, 30};
    Values x;
    for (std::int64_t i = 0; i < shape.numel(); ++i) {
      x.push_back(0.5 + 0.3 * std::sin(0.05 * static_cast<double>(i % 630)) +
                  0.1 * std::cos(0.9 * static_cast<double>(i)));
    }
    pv::Tape<double> tape;
    tape.begin(1, 1);
    Var<double> v = tape.input(shape);
    std::copy(x.begin(), x.end(), v.data());
    const Var<double> y = defend::soft_jpeg(v, options(90, halved));
    const Values hard = filtered(pv::concat("jpeg:90:", halved ? "420" : "444"), shape, x);
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      sum += std::abs(y.data()[i] - hard[i]) / static_cast<double>(x.size());
    }
    CHECK(sum < 2.0 / 255);
    CHECK(sum > 0);
  }
}

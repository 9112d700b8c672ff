// SPDX-License-Identifier: MIT
// Winograd's 3x3 convolution (winograd.inl) against the direct one in double, forward and for the input's gradient, and
// its bits: the same for an image alone and among sixteen, under each instruction set.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/each_isa.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace kernels = pavise::kernels;

namespace {

using Floats = pavise::AlignedVector<float>;

/// Numbers in [-1, 1]; `lanes` of them at a time belong to images 0, 1, ...
Floats draw(std::int64_t n, int lanes, std::uint32_t what) {
  Floats out(static_cast<std::size_t>(n * lanes));
  for (int lane = 0; lane < lanes; ++lane) {
    pavise::RandomSequence random(
        {.purpose = pavise::Purpose::test, .image = static_cast<std::uint32_t>(lane), .restart = what});
    for (std::int64_t i = 0; i < n; ++i) {
      out[static_cast<std::size_t>(i * lanes + lane)] = static_cast<float>(random.uniform(-1, 1));
    }
  }
  return out;
}

struct Product {
  std::int64_t channels, rows, height, width;
};

kernels::ConvGeometry geometry(const Product& p) {
  return {.in_channels = p.channels,
          .in_height = p.height,
          .in_width = p.width,
          .out_channels = p.rows,
          .kernel_height = 3,
          .kernel_width = 3,
          .padding = 1,
          .out_height = p.height,
          .out_width = p.width};
}

/// One direction of the convolution: what it reads, and what it writes.
struct Direction {
  Direction(const Product& p, bool back_) : back(back_), shape{p.channels, p.rows, p.height, p.width} {
    if (back) {
      std::swap(shape.channels, shape.rows);
    }
  }
  std::int64_t in_size() const { return shape.channels * shape.height * shape.width; }
  std::int64_t out_size() const { return shape.rows * shape.height * shape.width; }
  bool back;
  kernels::WinogradShape shape;
};

/// The kernel's result for one group; `out` holds what is there before.
Floats winograd(const Product& p, const Direction& d, const Floats& weight, const Floats& in, Floats out, int lanes,
                const kernels::Epilogue<float>& e) {
  const auto plan = kernels::matrix_plan(d.shape.rows, d.shape.channels, false);
  const std::size_t size = out.size();
  out.resize(size + 16, 77.0f);  // must stay
  kernels::run([&](auto isa) {
    kernels::PackedWeights<Floats> packed;
    kernels::pack_winograd(geometry(p), d.back, weight.data(), tile_rows(isa, lanes), lanes == 1, packed,
                           [](std::int64_t n, const auto& body) {
                             for (std::int64_t i = 0; i < n; ++i) {
                               body(i);
                             }
                           });
    const auto room = static_cast<std::size_t>(winograd_scratch(isa, d.shape.channels) * lanes);
    Floats scratch(room + 16, 55.0f);
    winograd_conv(isa, d.shape, packed, plan.classes[0], in.data(), out.data(), e, scratch.data(), lanes);
    CHECK(std::all_of(scratch.begin() + static_cast<std::ptrdiff_t>(room), scratch.end(),
                      [](float v) { return v == 55.0f; }));
  });
  CHECK(std::all_of(out.begin() + static_cast<std::ptrdiff_t>(size), out.end(), [](float v) { return v == 77.0f; }));
  out.resize(size);
  return out;
}

/// Sums of the direct convolution (or of its derivative) for one image of `lanes`.
std::vector<double> direct(const Product& p, bool back, const Floats& weight, const Floats& in, int lanes, int lane) {
  std::vector<double> out(static_cast<std::size_t>((back ? p.channels : p.rows) * p.height * p.width), 0.0);
  for (std::int64_t o = 0; o < p.rows; ++o) {
    for (std::int64_t c = 0; c < p.channels; ++c) {
      for (std::int64_t k = 0; k < 9; ++k) {
        const auto w = static_cast<double>(weight[static_cast<std::size_t>((o * p.channels + c) * 9 + k)]);
        for (std::int64_t i = 0; i < p.height; ++i) {
          for (std::int64_t j = 0; j < p.width; ++j) {
            const std::int64_t y = i - 1 + k / 3;
            const std::int64_t x = j - 1 + k % 3;
            if (y < 0 || y >= p.height || x < 0 || x >= p.width) {
              continue;
            }
            const auto from = static_cast<std::size_t>((c * p.height + y) * p.width + x);
            const auto to = static_cast<std::size_t>((o * p.height + i) * p.width + j);
            const std::size_t read = back ? to : from;
            out[back ? from : to] +=
                w * static_cast<double>(in[read * static_cast<std::size_t>(lanes) + static_cast<std::size_t>(lane)]);
          }
        }
      }
    }
  }
  return out;
}

Floats image_of(const Floats& group, std::size_t lane) {
  Floats out(group.size() / 16);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = group[i * 16 + lane];
  }
  return out;
}

bool same_bits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Odd extents, extents below one tile, rows and channels that no tile divides, one block of tiles and several.
const Product kProblems[] = {{32, 32, 7, 7},  {37, 41, 14, 14}, {5, 3, 1, 1},   {1, 1, 4, 9},
                             {70, 33, 5, 11}, {33, 17, 6, 3},   {300, 7, 9, 4}, {2, 50, 13, 2}};

}  // namespace

TEST_CASE("winograd: forward and input gradient, with every epilogue, against the direct convolution in double") {
  each_isa([] {
    for (const Product& p : kProblems) {
      const auto weight = draw(p.rows * p.channels * 9, 1, 1);
      for (const bool back : {false, true}) {
        const Direction d(p, back);
        CAPTURE(p.channels);
        CAPTURE(p.rows);
        CAPTURE(p.height);
        CAPTURE(p.width);
        CAPTURE(back);
        const auto in = draw(d.in_size(), 16, 2);
        const auto before = draw(d.out_size(), 16, 3);
        const auto mask = draw(d.out_size(), 16, 4);
        const auto bias = draw(d.shape.rows, 1, 5);
        const std::size_t lanes[] = {0, 5, 15};
        std::vector<std::vector<double>> sums;
        for (const std::size_t lane : lanes) {
          sums.push_back(direct(p, back, weight, in, 16, static_cast<int>(lane)));
        }
        const auto points = static_cast<std::size_t>(p.height * p.width);
        // Sums of 9*channels products of numbers below 1, at Winograd's share of the rounding.
        const double tolerance = 1.5e-5 * std::sqrt(9.0 * static_cast<double>(d.shape.channels)) + 1e-5;
        for (int form = 0; form < 16; ++form) {
          const kernels::Epilogue<float> e{.bias = (form & 1) != 0 ? bias.data() : nullptr,
                                           .mask = (form & 2) != 0 ? mask.data() : nullptr,
                                           .relu = (form & 4) != 0,
                                           .accumulate = (form & 8) != 0};
          const auto out = winograd(p, d, weight, in, before, 16, e);
          double worst = 0;
          for (std::size_t l = 0; l < 3; ++l) {
            for (std::size_t i = 0; i < sums[l].size(); ++i) {
              const std::size_t at = i * 16 + lanes[l];
              double y = sums[l][i] + (e.bias != nullptr ? static_cast<double>(bias[i / points]) : 0.0);
              y = e.relu ? std::max(y, 0.0) : y;
              y = e.mask != nullptr && !(mask[at] > 0) ? 0.0 : y;
              y += e.accumulate ? static_cast<double>(before[at]) : 0.0;
              worst = std::max(worst, std::abs(y - static_cast<double>(out[at])));
            }
          }
          CHECK_MESSAGE(worst <= tolerance, "form ", form, ": off by ", worst, ", allowed ", tolerance);
        }
      }
    }
  });
}

TEST_CASE("winograd: the same bits alone and among sixteen, under each instruction set") {
  for (const Product& p : kProblems) {
    const auto weight = draw(p.rows * p.channels * 9, 1, 1);
    for (const bool back : {false, true}) {
      const Direction d(p, back);
      CAPTURE(p.channels);
      CAPTURE(p.rows);
      CAPTURE(back);
      const auto in = draw(d.in_size(), 16, 2);
      const auto before = draw(d.out_size(), 16, 3);
      const auto mask = draw(d.out_size(), 16, 4);
      const auto bias = draw(d.shape.rows, 1, 5);
      for (const int form : {0, 5, 15}) {
        kernels::Epilogue<float> e{.bias = (form & 1) != 0 ? bias.data() : nullptr,
                                   .mask = (form & 2) != 0 ? mask.data() : nullptr,
                                   .relu = (form & 4) != 0,
                                   .accumulate = (form & 8) != 0};
        Floats first;
        each_isa([&] {
          const auto group = winograd(p, d, weight, in, before, 16, e);
          if (first.empty()) {
            first = group;
          }
          CHECK(same_bits(group, first));
          for (const std::size_t lane : {std::size_t{0}, std::size_t{7}, std::size_t{15}}) {
            const auto own_mask = image_of(mask, lane);
            auto own = e;
            own.mask = e.mask != nullptr ? own_mask.data() : nullptr;
            CHECK(same_bits(winograd(p, d, weight, image_of(in, lane), image_of(before, lane), 1, own),
                            image_of(group, lane)));
          }
        });
      }
    }
  }
}

TEST_CASE("winograd: chosen by the shape alone, where it pays") {
  CHECK(kernels::uses_winograd(geometry({64, 64, 14, 14})));
  CHECK(kernels::uses_winograd(geometry({32, 32, 7, 7})));
  CHECK_FALSE(kernels::uses_winograd(geometry({64, 64, 5, 5})));  // tiles of 8x8 would mostly be waste
  CHECK_FALSE(kernels::uses_winograd(geometry({31, 64, 16, 16})));
  CHECK_FALSE(kernels::uses_winograd(geometry({64, 31, 16, 16})));
  auto g = geometry({64, 64, 16, 16});
  g.stride = 2;
  CHECK_FALSE(kernels::uses_winograd(g));
  g = geometry({64, 64, 16, 16});
  g.padding = 0;
  CHECK_FALSE(kernels::uses_winograd(g));
  g = geometry({64, 64, 16, 16});
  g.groups = 2;
  CHECK_FALSE(kernels::uses_winograd(g));
}

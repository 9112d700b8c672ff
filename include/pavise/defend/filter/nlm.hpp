// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "pavise/autodiff/substitute.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/defend/filter/border.hpp"
#include "pavise/defend/filter/filter.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::defend {

/// Settings of non-local means, named as in feature squeezing: search-patch-strength, "11-3-4".
struct NlmOptions {
  std::int64_t search = 11;  ///< side of the window in which alike patches are looked for; odd
  std::int64_t patch = 3;    ///< side of a patch; odd
  double strength = 4;       ///< OpenCV's h, in levels of 0 to 255
};

namespace detail {

inline void check_nlm(const NlmOptions& o) {
  require(o.search >= 1 && o.search % 2 == 1 && o.search <= 101 && o.patch >= 1 && o.patch % 2 == 1 && o.patch <= 31,
          "nlm: search ", o.search, ", patch ", o.patch, ", expected odd numbers of at most 101 and 31");
  require(std::isfinite(o.strength) && o.strength > 0, "nlm: strength ", o.strength, ", expected more than 0");
}

}  // namespace detail

/// Non-local means (Buades, Coll and Morel 2005, "A non-local algorithm for image denoising"), as OpenCV's
/// fastNlMeansDenoising for one channel: every pixel becomes the mean of those in the search window around it, weighed
/// by e^(-d / h^2), d the mean squared difference of the patches in levels of 0 to 255; weights below 0.001 count as 0;
/// the border is mirrored without its last pixel. Of three channels as fastNlMeansDenoisingColored: the light of linear
/// RGB in CIE L*a*b* by itself, and the two colours together with h^2 twice as large, then back, clipped to [0,1].
/// OpenCV rounds to bytes before, between and behind, and its distances and weights to tables; this is in real numbers.
/// Two channels or more than three are filtered together. The derivative is that of x itself. x: (C,H,W) in [0,1].
/// Throws ValueError for windows that are not odd or a strength that is not more than 0.
template <class T>
Var<T> non_local_means(Var<T> x, const NlmOptions& options = {}) {
  detail::check_nlm(options);
  const Shape s = x.shape();
  require<ShapeError>(s.rank() == 3, "nlm: the input is (C,H,W), got ", s);
  const std::int64_t border = options.search / 2 + options.patch / 2;
  const auto rows = border_places(s[1], border, border, Border::reflect_101);
  const auto columns = border_places(s[2], border, border, Border::reflect_101);
  const auto plan = [&](std::int64_t channels) {
    const auto side = static_cast<double>(options.patch);
    const double h = options.strength / 255.0;
    return kernels::NlmPlan{.channels = channels,
                            .height = s[1],
                            .width = s[2],
                            .patch = options.patch / 2,
                            .search = options.search / 2,
                            .slope = -1.0 / (h * h * side * side * static_cast<double>(channels)),
                            .y = rows.data(),
                            .x = columns.data()};
  };
  const int lanes = x.tape().lanes();
  const std::int64_t pixels = s[1] * s[2];
  const Var<T> y = straight_through("nlm", x, [&](std::int64_t, const T* in, T* out) {
    thread_local AlignedVector<T> scratch;
    const std::int64_t most = plan(s[0]).scratch();
    scratch.resize(static_cast<std::size_t>((most + 2 * x.size()) * lanes));
    kernels::run([&](auto isa) {
      if (s[0] != 3) {
        non_local_means<T>(isa, in, out, plan(s[0]), scratch.data(), lanes);
        return;
      }
      T* lab = scratch.data() + most * lanes;
      T* mean = lab + x.size() * lanes;
      lab_from_rgb<T>(isa, in, lab, pixels, lanes);
      non_local_means<T>(isa, lab, mean, plan(1), scratch.data(), lanes);
      non_local_means<T>(isa, lab + pixels * lanes, mean + pixels * lanes, plan(2), scratch.data(), lanes);
      rgb_from_lab<T>(isa, mean, out, pixels, lanes);
    });
  });
  trace_function(y, {x}, [&] {
    return traced::NonLocalMeans{s[0], {plan(s[0] == 3 ? 1 : s[0]), plan(2)}, rows, columns};
  });
  return y;
}

/// See non_local_means.
template <class T>
class NonLocalMeans : public Filter<T> {
 public:
  explicit NonLocalMeans(NlmOptions options = {}) : options_(options) { detail::check_nlm(options); }
  std::string text() const override {
    return concat("nlm:", options_.search, "-", options_.patch, "-", options_.strength);
  }
  Var<T> apply(Var<T> x) const override { return non_local_means(x, options_); }
  nn::Declaration declaration() const override { return detail::substituted(); }

 private:
  NlmOptions options_;
};

}  // namespace pavise::defend

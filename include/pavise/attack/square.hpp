// SPDX-License-Identifier: MIT
// Square: random search with windows, by scores alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/black_box.hpp"
#include "pavise/attack/search.hpp"
#include "pavise_kernels/cpu/square_draws.hpp"

namespace pavise::attack {

struct SquareOptions {
  std::int64_t queries = 5000;  ///< forward passes of an image, the one of the start included
  double p_init = 0.8;          ///< share of the pixels that the first windows cover
  /// Whether the schedule of the window's size, published for 10,000 queries, is stretched to `queries`. AutoAttack does
  /// not (its default, and this one), torchattacks does.
  bool resc_schedule = false;
  bool targeted = false;  ///< labels are targets
};

/// The Square attack (Andriushchenko et al. 2020, "Square Attack: a query-efficient black-box adversarial attack via
/// random search"; Algorithms 1 to 3): changes a random square window of the image, and keeps the change where the loss
/// falls. Forward passes only, so that a classifier needs no gradient. The share of the pixels in a window starts at
/// p_init and is halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 windows.
///   Linf: starts with vertical stripes of +-epsilon; a window is set to +-epsilon, one sign for each channel. Signs that
///   change nothing are drawn again, as in the authors' program: they would waste a query.
///   L2: starts with a grid of tiles; a window gets the pattern of equation 2 added to what it holds, a second window's
///   share of the ball and what the box left unused. L1: the same with L1 norms and a steeper pattern (fourth powers in
///   place of squares), as in AutoAttack.
/// The loss is the margin z_y - max_{i != y} z_i; of a targeted attack the cross-entropy of the target, as in the paper.
/// An image ends with its first success. Every image draws a window of its own in every iteration (implementations that
/// share one in a batch make an image's result depend on its neighbours), from all windows within the image (those never
/// draw the last row and column); images need not be square.
class Square : public SearchAttack {
 public:
  explicit Square(Threat threat, SquareOptions options = {}) : SearchAttack(threat), options_(options) {
    require(options_.queries >= 1, "square: ", options_.queries, " queries, expected 1 or more");
    require(options_.p_init > 0.0 && options_.p_init <= 1.0, "square: p_init ", options_.p_init,
            ", expected a share in (0,1]");
  }

  const SquareOptions& options() const { return options_; }
  std::string name() const override { return "square"; }
  bool targeted() const override { return options_.targeted; }

  /// The side of the window of iteration `iteration` (0 is the first) in images of height h and width w.
  std::int64_t side(std::int64_t iteration, std::int64_t h, std::int64_t w) const {
    const std::int64_t at = options_.resc_schedule ? iteration * 10000 / options_.queries : iteration;
    double p = options_.p_init;
    for (const std::int64_t mark : {10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000}) {
      p *= at > mark ? 0.5 : 1.0;
    }
    auto s = static_cast<std::int64_t>(std::lround(std::sqrt(p * static_cast<double>(h * w))));
    if (threat().norm == Norm::linf) {
      s = std::max<std::int64_t>(s, 1);
    } else {  // odd, so that the pattern has a centre
      s = std::max<std::int64_t>(s, 3);
      s += s % 2 == 0 ? 1 : 0;
    }
    return std::min({s, h, w});
  }

  /// On a device that holds the model, where it can: untargeted and in Linf, of a classifier that draws nothing.
  void attempt(const Classifier& model, const Work& work, std::span<Attempt> attempts) const override {
    Accelerator* device = model.accelerator();
    const Shape& shape = model.input_shape();
    if (device == nullptr || targeted() || threat().norm != Norm::linf || model.declaration().random ||
        shape.rank() != 3 || shape[0] > 32) {
      SearchAttack::attempt(model, work, attempts);
      return;
    }
    RandomSearch search;
    search.threat = threat();
    search.seed = work.seed;
    for (std::int64_t i = 0; i < options_.queries; ++i) {
      search.sides.push_back(static_cast<std::int32_t>(side(i, shape[1], shape[2])));
    }
    bind(search, work, attempts, false, [&](const Attempt&, Attempts::Begun& begun) {
      RandomSequence random(RandomKey{work.seed, Purpose::random_start, begun.image, begun.restart, 0});
      stripes(shape, begun.clean, 1, random, begun.start);
    });
    device->search(search, static_cast<std::int64_t>(attempts.size()));
  }

  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(*this, lanes); }

 private:
  using Window = kernels::SquareWindow;

  /// A pixel of the box, as a step leaves it.
  float clip(double v) const {
    return std::min(std::max(static_cast<float>(v), static_cast<float>(threat().low)),
                    static_cast<float>(threat().high));
  }

  /// Linf: vertical stripes, of an image whose pixels are `lanes` elements apart.
  void stripes(const Shape& shape, const float* clean, int lanes, RandomSequence& random, float* x) const {
    for (std::int64_t c = 0; c < shape[0]; ++c) {
      for (std::int64_t k = 0; k < shape[2]; ++k) {
        const double change = random.word() >> 31 != 0 ? threat().epsilon : -threat().epsilon;
        for (std::int64_t r = 0; r < shape[1]; ++r) {
          const std::int64_t i = ((c * shape[1] + r) * shape[2] + k) * lanes;
          x[i] = clip(static_cast<double>(clean[i]) + change);
        }
      }
    }
  }

  class State : public Search {
   public:
    State(const Square& attack, const Lanes& lanes)
        : attack_(attack),
          c_(lanes.model().input_shape()[0]),
          h_(lanes.model().input_shape()[1]),
          w_(lanes.model().input_shape()[2]),
          x_(lanes.array()),
          images_(static_cast<std::size_t>(lanes.width())),
          patterns_(static_cast<std::size_t>(std::min(h_, w_)) + 1) {}

    void start(Lanes& lanes, int lane) override {
      Image& image = images_[static_cast<std::size_t>(lane)];
      image.loss = std::numeric_limits<float>::infinity();
      image.windows = 0;
      RandomSequence random(lanes.key(lane, Purpose::random_start));
      if (attack_.threat().norm == Norm::linf) {
        attack_.stripes(lanes.model().input_shape(), lanes.clean() + lane, lanes.width(), random, x_.data() + lane);
      } else {
        tiles(lanes, lane, random);
      }
    }

    void step(Lanes& lanes) override {
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (lanes.active(lane) && lanes.step(lane) > 0) {
          RandomSequence random(
              lanes.key(lane, Purpose::attack_step, static_cast<std::uint32_t>(lanes.step(lane) - 1)));
          attack_.threat().norm == Norm::linf ? change_signs(lanes, lane, random) : change_pattern(lanes, lane, random);
        }
      }
      const Answer& answer = lanes.classify(x_.data());
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (!lanes.active(lane)) {
          continue;
        }
        Image& image = images_[static_cast<std::size_t>(lane)];
        const bool success = lanes.fooled(answer, lane);
        const float loss = attack_.targeted() ? detail::cross_entropy_of(lanes, answer, lane)
                                              : detail::margin_of(lanes, answer, lane, false);
        if (success || loss < image.loss) {
          image.loss = loss;
          image.spent = image.spent_with_window;
        } else {
          undo(lanes, lane);
        }
        if (success || lanes.step(lane) + 1 >= attack_.options().queries) {
          lanes.keep(lane, x_.data());
          lanes.finish(lane);
        }
      }
    }

   private:
    struct Image {
      float loss = 0;
      int windows = 0;  ///< that the candidate differs in from the best image so far
      Window window[2];
      std::vector<float> before;     ///< the windows' pixels of the best image so far
      double spent = 0;              ///< L2: ||x - clean||^2, L1: ||x - clean||_1, of the best image so far
      double spent_with_window = 0;  ///< and of the candidate
    };

    std::int64_t at(const Lanes& lanes, int lane, std::int64_t c, std::int64_t r, std::int64_t k) const {
      return ((c * h_ + r) * w_ + k) * lanes.width() + lane;
    }
    float clip(double v) const { return attack_.clip(v); }
    bool l1() const { return attack_.threat().norm == Norm::l1; }
    /// What a pixel's change takes of the ball, added to `sum`.
    double add(double sum, double change) const {
      return l1() ? sum + std::abs(change) : std::fma(change, change, sum);
    }
    double root(double sum) const { return l1() ? sum : std::sqrt(sum); }
    /// A little less than epsilon (for the rounding of pixels), as `add` measures.
    double budget() const {
      const double radius = attack_.threat().epsilon * (1.0 - 1e-6);
      return l1() ? radius : radius * radius;
    }

    Window draw_window(std::int64_t side, RandomSequence& random) const {
      return kernels::draw_square_window(random, h_, w_, side);
    }

    /// Remembers the pixels of windows that are about to change.
    void save(const Lanes& lanes, int lane, int windows) {
      Image& image = images_[static_cast<std::size_t>(lane)];
      image.windows = windows;
      image.before.clear();
      for (int i = 0; i < windows; ++i) {
        for_pixels(image.window[i], [&](std::int64_t c, std::int64_t r, std::int64_t k) {
          image.before.push_back(x_[static_cast<std::size_t>(at(lanes, lane, c, r, k))]);
        });
      }
    }
    void undo(const Lanes& lanes, int lane) {
      const Image& image = images_[static_cast<std::size_t>(lane)];
      const float* before = image.before.data();
      for (int i = 0; i < image.windows; ++i) {
        for_pixels(image.window[i], [&](std::int64_t c, std::int64_t r, std::int64_t k) {
          x_[static_cast<std::size_t>(at(lanes, lane, c, r, k))] = *before++;
        });
      }
    }
    template <class Body>
    void for_pixels(const Window& window, const Body& body) const {
      for (std::int64_t c = 0; c < c_; ++c) {
        for (std::int64_t r = window.row; r < window.row + window.side; ++r) {
          for (std::int64_t k = window.column; k < window.column + window.side; ++k) {
            body(c, r, k);
          }
        }
      }
    }

    // Linf

    void change_signs(const Lanes& lanes, int lane, RandomSequence& random) {
      Image& image = images_[static_cast<std::size_t>(lane)];
      const Window window = image.window[0] = draw_window(attack_.side(lanes.step(lane) - 1, h_, w_), random);
      save(lanes, lane, 1);
      const double epsilon = attack_.threat().epsilon;
      kernels::draw_square_signs(random, c_, [&](std::int64_t c, bool positive) {
        const float* before = image.before.data() + c * window.side * window.side;
        bool changed = false;
        for (std::int64_t r = window.row; r < window.row + window.side; ++r) {
          for (std::int64_t k = window.column; k < window.column + window.side; ++k) {
            const std::int64_t i = at(lanes, lane, c, r, k);
            const float v = clip(static_cast<double>(lanes.clean()[i]) + (positive ? epsilon : -epsilon));
            changed |= v != *before++;
            x_[static_cast<std::size_t>(i)] = v;
          }
        }
        return changed;
      });
    }

    // L2 and L1

    /// Equation 2: pyramids, one upwards in the upper half and one downwards in the lower; each half has norm 1 (as in
    /// the authors' program), and so has the whole in the end. [side][side].
    const std::vector<double>& pattern(std::int64_t side) {
      std::vector<double>& out = patterns_[static_cast<std::size_t>(side)];
      if (!out.empty()) {
        return out;
      }
      out.resize(static_cast<std::size_t>(side * side));
      const auto half = [&](std::int64_t first, std::int64_t rows, double sign) {
        const std::int64_t top = std::max(rows / 2, side / 2);
        double sum = 0;
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t k = 0; k < side; ++k) {
            double v = 0;
            for (std::int64_t j = std::max(std::abs(r - rows / 2), std::abs(k - side / 2)); j <= top; ++j) {
              const auto ring = static_cast<double>((j + 1) * (j + 1));
              v += 1.0 / (l1() ? ring * ring : ring);
            }
            out[static_cast<std::size_t>((first + r) * side + k)] = sign * v;
            sum = add(sum, v);
          }
        }
        for (std::int64_t i = first * side; i < (first + rows) * side; ++i) {
          out[static_cast<std::size_t>(i)] /= root(sum);
        }
      };
      half(0, side / 2, 1.0);
      half(side / 2, side - side / 2, -1.0);
      double sum = 0;
      for (const double v : out) {
        sum = add(sum, v);
      }
      for (double& v : out) {
        v /= root(sum);
      }
      return out;
    }

    void tiles(const Lanes& lanes, int lane, RandomSequence& random) {
      const std::int64_t side = std::max<std::int64_t>(1, std::min(h_, w_) / 5);
      const std::int64_t rows = h_ / side;
      const std::int64_t columns = w_ / side;
      const std::vector<double>& eta = pattern(side);
      changes_.assign(static_cast<std::size_t>(c_ * h_ * w_), 0.0);
      double sum = 0;
      for (std::int64_t tile = 0; tile < rows * columns; ++tile) {
        const Window window{(h_ - rows * side) / 2 + tile / columns * side,
                            (w_ - columns * side) / 2 + tile % columns * side, side};
        const bool transposed = random.word() >> 31 != 0;
        for (std::int64_t c = 0; c < c_; ++c) {
          const double sign = random.word() >> 31 != 0 ? 1.0 : -1.0;
          for (std::int64_t i = 0; i < side * side; ++i) {
            const std::int64_t from = transposed ? i % side * side + i / side : i;
            const double v = sign * eta[static_cast<std::size_t>(from)];
            const std::int64_t to = (c * h_ + window.row + i / side) * w_ + window.column + i % side;
            changes_[static_cast<std::size_t>(to)] = v;
            sum = add(sum, v);
          }
        }
      }
      const double scale = root(budget()) / root(sum);
      Image& image = images_[static_cast<std::size_t>(lane)];
      image.spent = image.spent_with_window = 0;
      for (std::int64_t e = 0; e < c_ * h_ * w_; ++e) {
        const auto i = static_cast<std::size_t>(e * lanes.width() + lane);
        const auto clean = static_cast<double>(lanes.clean()[i]);
        x_[i] = clip(std::fma(changes_[static_cast<std::size_t>(e)], scale, clean));
        image.spent_with_window = add(image.spent_with_window, static_cast<double>(x_[i]) - clean);
      }
    }

    /// The change of a pixel, of all in the windows' union.
    double change(const Lanes& lanes, std::int64_t i) const {
      return static_cast<double>(x_[static_cast<std::size_t>(i)]) - static_cast<double>(lanes.clean()[i]);
    }
    /// What channel c of the two windows together takes of the ball.
    double spent_in_windows(const Lanes& lanes, int lane, std::int64_t c) const {
      const Image& image = images_[static_cast<std::size_t>(lane)];
      double sum = 0;
      for (int which = 0; which < 2; ++which) {
        const Window& window = image.window[which];
        for (std::int64_t r = window.row; r < window.row + window.side; ++r) {
          for (std::int64_t k = window.column; k < window.column + window.side; ++k) {
            if (which == 0 || !image.window[0].contains(r, k)) {
              sum = add(sum, change(lanes, at(lanes, lane, c, r, k)));
            }
          }
        }
      }
      return sum;
    }

    void change_pattern(const Lanes& lanes, int lane, RandomSequence& random) {
      Image& image = images_[static_cast<std::size_t>(lane)];
      const std::int64_t side = attack_.side(lanes.step(lane) - 1, h_, w_);
      image.window[0] = draw_window(side, random);
      image.window[1] = draw_window(side, random);
      save(lanes, lane, 2);
      const Window& window = image.window[0];
      const std::vector<double>& eta = pattern(side);
      const bool transposed = random.word() >> 31 != 0;
      const double unused = std::max(budget() - image.spent, 0.0) / static_cast<double>(c_);
      image.spent_with_window = image.spent;
      for (std::int64_t c = 0; c < c_; ++c) {
        const double sign = random.word() >> 31 != 0 ? 1.0 : -1.0;
        const double together = spent_in_windows(lanes, lane, c);
        const auto pixel = [&](std::int64_t i) {
          return at(lanes, lane, c, window.row + i / side, window.column + i % side);
        };
        double own = 0;
        for (std::int64_t i = 0; i < side * side; ++i) {
          own = add(own, change(lanes, pixel(i)));
        }
        const double inverse = own > 0 ? 1.0 / root(own) : 0.0;
        changes_.resize(static_cast<std::size_t>(side * side));
        double sum = 0;
        for (std::int64_t i = 0; i < side * side; ++i) {
          const std::int64_t from = transposed ? i % side * side + i / side : i;
          const double v = std::fma(change(lanes, pixel(i)), inverse, sign * eta[static_cast<std::size_t>(from)]);
          changes_[static_cast<std::size_t>(i)] = v;
          sum = add(sum, v);
        }
        const double scale = sum > 0 ? root(together + unused) / root(sum) : 0.0;
        const Window& second = image.window[1];
        for (std::int64_t r = second.row; r < second.row + side; ++r) {
          for (std::int64_t k = second.column; k < second.column + side; ++k) {
            const std::int64_t i = at(lanes, lane, c, r, k);
            x_[static_cast<std::size_t>(i)] = lanes.clean()[i];
          }
        }
        for (std::int64_t i = 0; i < side * side; ++i) {
          const auto to = static_cast<std::size_t>(pixel(i));
          x_[to] = clip(std::fma(changes_[static_cast<std::size_t>(i)], scale, static_cast<double>(lanes.clean()[to])));
        }
        image.spent_with_window += spent_in_windows(lanes, lane, c) - together;
      }
    }

    const Square& attack_;
    std::int64_t c_, h_, w_;
    AlignedVector<float> x_;
    std::vector<Image> images_;
    std::vector<std::vector<double>> patterns_;  ///< by side
    std::vector<double> changes_;
  };

  SquareOptions options_;
};

}  // namespace pavise::attack

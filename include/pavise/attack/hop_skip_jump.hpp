// SPDX-License-Identifier: MIT
// HopSkipJump: along the decision boundary, by predictions alone.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "pavise/attack/black_box.hpp"
#include "pavise/attack/search.hpp"

namespace pavise::attack {

struct HopSkipJumpOptions {
  std::int64_t steps = 40;             ///< moves along the boundary
  std::int64_t initial_samples = 100;  ///< queries for the direction of the first move; move t takes sqrt(t) times it
  std::int64_t max_samples = 10000;    ///< but no more than this
  std::int64_t queries = 25000;        ///< forward passes of an image at most
  std::int64_t start_queries = 1000;   ///< of them at most so many to find a first adversarial image
  double gamma = 1.0;                  ///< scale of the binary search's tolerance
};

/// HopSkipJump (Chen, Jordan and Wainwright 2020, "HopSkipJumpAttack: a query-efficient decision-based attack",
/// Algorithms 1 and 2): the closest adversarial image in L2 or Linf by predictions alone. It starts with uniform noise
/// that is misclassified, and finds the boundary on the way from it to the image by binary search, to a tolerance of
/// gamma n^(-3/2) of the way in L2 and gamma n^-2 in Linf (no finer than 2^-22, which is all that pixels in float tell).
/// Then in each of `steps` moves: the normal of the boundary is estimated from the predictions phi = +-1 at
/// B_t = initial_samples sqrt(t) points at distance delta_t,
///   v = sum_b (phi_b - mean phi) u_b,  delta_1 = 0.1 of the box, delta_t = distance / n,
/// (its sign in Linf); a step along it of distance / sqrt(t) is halved until the image is adversarial; and binary search
/// leads back to the boundary. Images end after `steps` moves or `queries` queries, at different times. An image for
/// which no noise is misclassified keeps its clean pixels. epsilon decides what counts as success and not the search.
/// A search ends where the boundary to one class is closest: restarts, which begin with other noise, find other classes.
/// Choices: points are clipped to the pixel box, and u_b is the difference that was made, as in the authors' program;
/// halving ends after 24 times, with the image that it began from; every other noise is in blocks of one colour, with a
/// brightness and a contrast drawn for it, as uniform noise alone is of one class for many models. Untargeted: a target
/// would need an image of that class to start from.
class HopSkipJump : public SearchAttack {
 public:
  explicit HopSkipJump(Threat threat, HopSkipJumpOptions options = {}) : SearchAttack(threat), options_(options) {
    const char* at_least = ", expected 1 or more";
    require(threat.norm != Norm::l1, "hop-skip-jump: norm ", norm_name(threat.norm), ", expected linf or l2");
    require(options_.steps >= 1, "hop-skip-jump: ", options_.steps, " steps", at_least);
    require(options_.initial_samples >= 2, "hop-skip-jump: ", options_.initial_samples,
            " initial samples, expected 2 or more");
    require(options_.max_samples >= options_.initial_samples, "hop-skip-jump: at most ", options_.max_samples,
            " samples, expected no fewer than the ", options_.initial_samples, " initial ones");
    require(options_.queries >= 1, "hop-skip-jump: ", options_.queries, " queries", at_least);
    require(options_.start_queries >= 1, "hop-skip-jump: ", options_.start_queries, " start queries", at_least);
    require(std::isfinite(options_.gamma) && options_.gamma > 0.0, "hop-skip-jump: gamma ", options_.gamma,
            ", expected more than 0");
  }

  const HopSkipJumpOptions& options() const { return options_; }
  std::string name() const override { return "hop-skip-jump"; }
  bool minimum_norm() const override { return true; }

  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(*this, lanes); }

 private:
  enum class Phase { start, blend, boundary, sample, stride };

  class State : public Search {
   public:
    State(const HopSkipJump& attack, const Lanes& lanes)
        : attack_(attack),
          linf_(attack.threat().norm == Norm::linf),
          low_(attack.threat().low),
          high_(attack.threat().high),
          candidate_(lanes.array()),
          x_(lanes.array()),
          outside_(lanes.array()),
          sum_(lanes.array()),
          weighted_(lanes.array()) {}

    void start(Lanes&, int lane) override { image(lane) = {}; }

    /// One query of every lane, each in a phase of its own.
    void step(Lanes& lanes) override {
      alignas(64) PerLane<float> take{};
      alignas(64) PerLane<float> weight{};
      sample(lanes, take);
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (lanes.active(lane)) {
          propose(lanes, lane);
        }
      }
      const Answer& answer = lanes.classify(candidate_.data());
      bool any = false;
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        weight[l] = lanes.fooled(answer, lane) ? take[l] : -take[l];
        any = any || take[l] > 0.0f;
      }
      if (any) {
        kernels::run_light([&](auto isa) {
          probe_sums<float>(isa, sum_.data(), weighted_.data(), candidate_.data(), x_.data(), lanes.size(),
                            lanes.width(), take.data(), weight.data());
        });
      }
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (!lanes.active(lane)) {
          continue;
        }
        advance(lanes, lane, lanes.fooled(answer, lane));
        if (lanes.active(lane) && lanes.step(lane) + 1 >= attack_.options().queries) {
          lanes.finish(lane);
        }
      }
    }

   private:
    struct Image {
      Phase phase = Phase::start;
      std::int64_t move = 0;     ///< t of the current move, from 1
      std::int64_t left = 0;     ///< samples of the move yet to come
      std::int64_t samples = 0;  ///< B_t
      std::int64_t fooled = 0;   ///< of them so far
      double from = 0;           ///< binary search: where the image is not adversarial,
      double to = 0;             ///< and where it is
      double tolerance = 0;
      double delta = 0;
      double distance = 0;  ///< of x
      double stride = 0;
      int halvings = 0;
      double best = std::numeric_limits<double>::infinity();  ///< distance of the answer
    };

    Image& image(int lane) { return images_[static_cast<std::size_t>(lane)]; }

    /// Calls body(index) for every element of a lane.
    template <class Body>
    static void for_lane(const Lanes& lanes, int lane, const Body& body) {
      for (std::int64_t i = lane; i < lanes.size() * lanes.width(); i += lanes.width()) {
        body(static_cast<std::size_t>(i));
      }
    }
    float clip(double v) const {
      return std::min(std::max(static_cast<float>(v), static_cast<float>(low_)), static_cast<float>(high_));
    }
    double distance(const Lanes& lanes, int lane, const AlignedVector<float>& x) const {
      double sum = 0;
      for_lane(lanes, lane, [&](std::size_t i) {
        const double d = static_cast<double>(x[i]) - static_cast<double>(lanes.clean()[i]);
        sum = linf_ ? std::max(sum, std::abs(d)) : std::fma(d, d, sum);
      });
      return linf_ ? sum : std::sqrt(sum);
    }

    /// The candidates of all lanes that sample; take = 1 in them.
    void sample(const Lanes& lanes, PerLane<float>& take) {
      alignas(64) PerLane<float> delta{};
      detail::LaneNames names;
      bool any = false;
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        names.set(lanes, lane, lanes.step(lane));
        if (lanes.active(lane) && image(lane).phase == Phase::sample) {
          take[l] = 1.0f;
          delta[l] = static_cast<float>(image(lane).delta);
          any = true;
        }
      }
      if (any) {
        const auto distribution = linf_ ? kernels::Distribution::uniform : kernels::Distribution::normal;
        kernels::run_light([&](auto isa) {
          sphere_probe<float>(isa, candidate_.data(), x_.data(), lanes.size(), lanes.width(), distribution,
                              names.keys(lanes), names.iteration.data(), delta.data(), static_cast<float>(low_),
                              static_cast<float>(high_));
        });
      }
    }

    /// The point at `at` between the image and the adversarial one: a share of the way; in the boundary search of Linf
    /// the distance to which each pixel is clipped.
    void between(const Lanes& lanes, int lane, double at, AlignedVector<float>& out) {
      const bool clipped = linf_ && image(lane).phase == Phase::boundary;
      for_lane(lanes, lane, [&](std::size_t i) {
        const auto c = static_cast<double>(lanes.clean()[i]);
        const auto y = static_cast<double>(outside_[i]);
        out[i] = clip(clipped ? std::min(std::max(y, c - at), c + at) : std::fma(y - c, at, c));
      });
    }

    /// A first image to try: uniform noise; every other time in blocks, around a brightness and with a contrast of its
    /// own.
    void noise(const Lanes& lanes, int lane) {
      RandomSequence random(lanes.key(lane, Purpose::random_start, static_cast<std::uint32_t>(lanes.step(lane))));
      const Shape& shape = lanes.model().input_shape();
      const std::int64_t h = shape[1];
      const std::int64_t w = shape[2];
      std::int64_t side = 1;
      double middle = 0.5;
      double contrast = 1.0;
      if (lanes.step(lane) % 2 != 0) {
        side =
            std::int64_t{1} << random.below(static_cast<std::uint32_t>(std::bit_width<std::uint64_t>(std::max(h, w))));
        middle = random.uniform();
        contrast = 2.0 * random.uniform();
      }
      const std::int64_t columns = (w + side - 1) / side;
      std::vector<double> blocks(static_cast<std::size_t>(shape[0] * ((h + side - 1) / side) * columns));
      for (double& v : blocks) {
        v = std::fma(std::fma(contrast, random.uniform() - 0.5, middle), high_ - low_, low_);
      }
      for (std::int64_t e = 0; e < lanes.size(); ++e) {
        const std::int64_t row = e / w / h * ((h + side - 1) / side) + e / w % h / side;
        candidate_[static_cast<std::size_t>(e * lanes.width() + lane)] =
            clip(blocks[static_cast<std::size_t>(row * columns + e % w / side)]);
      }
    }

    void propose(const Lanes& lanes, int lane) {
      const Image& now = image(lane);
      switch (now.phase) {
        case Phase::start:
          noise(lanes, lane);
          break;
        case Phase::blend:
        case Phase::boundary:
          between(lanes, lane, 0.5 * (now.from + now.to), candidate_);
          break;
        case Phase::sample:
          break;
        case Phase::stride:  // weighted holds the direction
          for_lane(lanes, lane, [&](std::size_t i) {
            candidate_[i] = clip(std::fma(static_cast<double>(weighted_[i]), now.stride, static_cast<double>(x_[i])));
          });
          break;
      }
    }

    /// What the prediction of the lane's candidate leads to.
    void advance(Lanes& lanes, int lane, bool adversarial) {
      Image& now = image(lane);
      switch (now.phase) {
        case Phase::start:
          if (adversarial) {
            lanes.copy_lane(candidate_.data(), lane, outside_.data());
            keep(lanes, lane, outside_);
            now.phase = Phase::blend;
            linf_ ? search(now, 1.0, 1e-3) : begin_boundary(lanes, lane);
          } else if (lanes.step(lane) + 1 >= attack_.options().start_queries) {
            lanes.finish(lane);
          }
          break;
        case Phase::blend:
          (adversarial ? now.to : now.from) = 0.5 * (now.from + now.to);
          if (now.to - now.from <= now.tolerance) {
            between(lanes, lane, now.to, candidate_);
            lanes.copy_lane(candidate_.data(), lane, outside_.data());
            begin_boundary(lanes, lane);
          }
          break;
        case Phase::boundary:
          (adversarial ? now.to : now.from) = 0.5 * (now.from + now.to);
          if (now.to - now.from <= now.tolerance) {
            end_boundary(lanes, lane);
          }
          break;
        case Phase::sample:
          now.fooled += adversarial ? 1 : 0;
          if (--now.left == 0) {
            begin_stride(lanes, lane);
          }
          break;
        case Phase::stride:
          if (adversarial || ++now.halvings == 24) {
            lanes.copy_lane(adversarial ? candidate_.data() : x_.data(), lane, outside_.data());
            begin_boundary(lanes, lane);
          } else {
            now.stride *= 0.5;
          }
          break;
      }
    }

    static void search(Image& now, double to, double tolerance) {
      now.from = 0;
      now.to = to;
      now.tolerance = tolerance * to;
    }
    void begin_boundary(const Lanes& lanes, int lane) {
      Image& now = image(lane);
      const auto n = static_cast<double>(lanes.size());
      now.phase = Phase::boundary;
      const double far = distance(lanes, lane, outside_);
      now.delta = far / n;  // the next move's, in both norms: n^(1/2) n^(-3/2) and n n^(-2)
      const double tolerance = attack_.options().gamma / (linf_ ? n * n : n * std::sqrt(n));
      search(now, linf_ ? far : 1.0, std::max(tolerance, 0x1p-22));
    }
    void end_boundary(Lanes& lanes, int lane) {
      Image& now = image(lane);
      between(lanes, lane, now.to, x_);
      now.distance = keep(lanes, lane, x_);
      if (++now.move > attack_.options().steps) {
        lanes.finish(lane);
        return;
      }
      if (now.move == 1) {
        now.delta = 0.1 * (high_ - low_);
      }
      const double wanted =
          static_cast<double>(attack_.options().initial_samples) * std::sqrt(static_cast<double>(now.move));
      now.samples = now.left =
          static_cast<std::int64_t>(std::min(wanted, static_cast<double>(attack_.options().max_samples)));
      now.fooled = 0;
      now.phase = Phase::sample;
      for_lane(lanes, lane, [&](std::size_t i) { sum_[i] = weighted_[i] = 0.0f; });
    }
    /// Makes `weighted` the direction of the step.
    void begin_stride(const Lanes& lanes, int lane) {
      Image& now = image(lane);
      const double mean = 2.0 * static_cast<double>(now.fooled) / static_cast<double>(now.samples) - 1.0;
      // Where all predictions agree they cancel from the formula; the direction is then away from, or to, all points.
      const bool agree = now.fooled == 0 || now.fooled == now.samples;
      double squares = 0;
      for_lane(lanes, lane, [&](std::size_t i) {
        const double v = std::fma(agree ? 0.0 : -mean, static_cast<double>(sum_[i]), static_cast<double>(weighted_[i]));
        weighted_[i] = static_cast<float>(v);
        squares = std::fma(v, v, squares);
      });
      const double scale = squares > 0 ? 1.0 / std::sqrt(squares) : 0.0;
      for_lane(lanes, lane, [&](std::size_t i) {
        const auto v = static_cast<double>(weighted_[i]);
        weighted_[i] = static_cast<float>(linf_ ? static_cast<double>(v > 0) - static_cast<double>(v < 0) : v * scale);
      });
      now.phase = Phase::stride;
      now.stride = now.distance / std::sqrt(static_cast<double>(now.move));
      now.halvings = 0;
    }
    /// The lane's distance of x, which is adversarial; the closest so far is the answer.
    double keep(Lanes& lanes, int lane, const AlignedVector<float>& x) {
      Image& now = image(lane);
      const double far = distance(lanes, lane, x);
      if (far < now.best) {
        now.best = far;
        lanes.keep(lane, x.data());
      }
      return far;
    }

    const HopSkipJump& attack_;
    bool linf_;
    double low_, high_;
    AlignedVector<float> candidate_;
    AlignedVector<float> x_;        ///< on the boundary, on its adversarial side
    AlignedVector<float> outside_;  ///< adversarial, where the way to the boundary begins
    AlignedVector<float> sum_, weighted_;
    PerLane<Image> images_{};
  };

  HopSkipJumpOptions options_;
};

}  // namespace pavise::attack

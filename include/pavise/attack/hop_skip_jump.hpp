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
#include "pavise_kernels/cpu/lane_keys.hpp"

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

  std::int64_t arrays(std::int32_t) const override { return 6; }

  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(*this, lanes); }

 private:
  enum class Phase { start, blend, boundary, sample, stride };

  class State : public Search {
   public:
    State(const HopSkipJump& attack, const Lanes& lanes)
        : attack_(attack),
          linf_(attack.threat().norm == Norm::linf),
          candidate_(lanes.field()),
          x_(lanes.field()),
          outside_(lanes.field()),
          sum_(lanes.field()),
          weighted_(lanes.field()),
          point_(lanes.field()),
          noise_(static_cast<std::size_t>(lanes.size())),
          draws_(detail::draws_of(lanes)),
          images_(lanes.values().size()),
          one_(lanes.values(1.0f)),
          chosen_(lanes.values()),
          clipped_(lanes.values()),
          at_(lanes.values()),
          take_(lanes.values()),
          weight_(lanes.values()),
          delta_(lanes.values()),
          length_(lanes.values()) {}

    void start(Lanes& lanes, int lane) override {
      image(lane) = {};
      draws_.image[at(lane)] = lanes.id(lane);
      draws_.restart[at(lane)] = lanes.restart(lane);
    }

    /// One query of every lane, each in a phase of its own.
    void step(Lanes& lanes) override {
      propose(lanes);
      const Answer& answer = lanes.classify(candidate_.data());
      const bool any_sample = for_lanes(
          lanes, weight_, [&](int lane) { return lanes.fooled(answer, lane) ? take_[at(lane)] : -take_[at(lane)]; });
      if (any_sample) {
        lanes.math().add_probes(sum_.data(), weighted_.data(), candidate_.data(), x_.data(), take_, weight_);
      }
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (lanes.active(lane)) {
          advance(lanes, lane, lanes.fooled(answer, lane));
        }
      }
      // What lanes that have come to the end of a phase do with their arrays, together.
      begin_strides(lanes);
      begin_boundaries(lanes);
      end_boundaries(lanes);
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (lanes.active(lane) && lanes.step(lane) + 1 >= attack_.options().queries) {
          lanes.finish(lane);
        }
      }
    }

   private:
    struct Image {
      Phase phase = Phase::start;
      bool over = false;         ///< this step ends the phase
      std::int64_t move = 0;     ///< t of the current move, from 1
      std::int64_t left = 0;     ///< samples of the move yet to come
      std::int64_t samples = 0;  ///< B_t
      std::int64_t fooled = 0;   ///< of them so far
      double from = 0;           ///< binary search: where the image is not adversarial,
      double to = 0;             ///< and where it is
      bool nearer = false;       ///< than it began
      double tolerance = 0;
      double delta = 0;
      double distance = 0;  ///< of x
      double stride = 0;
      int halvings = 0;
      double best = std::numeric_limits<double>::infinity();  ///< distance of the answer
    };

    static std::size_t at(int lane) { return static_cast<std::size_t>(lane); }
    Image& image(int lane) { return images_[at(lane)]; }
    bool in(const Lanes& lanes, int lane, Phase phase, bool over = false) const {
      const Image& now = images_[at(lane)];
      return lanes.active(lane) && now.phase == phase && now.over == over;
    }

    /// values[lane] = value(lane) in active lanes, 0 in others; whether any is not 0.
    template <class Value>
    static bool for_lanes(const Lanes& lanes, AlignedVector<float>& values, const Value& value) {
      bool any = false;
      for (int lane = 0; lane < lanes.width(); ++lane) {
        values[at(lane)] = lanes.active(lane) ? static_cast<float>(value(lane)) : 0.0f;
        any = any || values[at(lane)] != 0.0f;
      }
      return any;
    }

    /// In the lanes of `chosen_` and `clipped_` (1 there) the point at `at_` between the image and the adversarial one: a
    /// share of the way in the former, the distance to which each pixel is clipped in the latter.
    void between(const Lanes& lanes, bool any_chosen, bool any_clipped, const Field& out) {
      LaneMath& math = lanes.math();
      if (any_chosen) {
        math.select(point_.data(), outside_.data(), chosen_);
        math.rescale(point_.data(), lanes.clean(), lanes.threat(), at_);
        math.select(out.data(), point_.data(), chosen_);
      }
      if (any_clipped) {
        math.select(point_.data(), outside_.data(), clipped_);
        math.project(point_.data(), lanes.clean(), lanes.threat(), at_);
        math.select(out.data(), point_.data(), clipped_);
      }
    }

    /// A first image to try: uniform noise; every other time in blocks, around a brightness and with a contrast of its
    /// own.
    void noise(const Lanes& lanes, int lane) {
      RandomSequence random(lanes.key(lane, Purpose::random_start, static_cast<std::uint32_t>(lanes.step(lane))));
      const auto low = static_cast<float>(lanes.threat().low);
      const auto high = static_cast<float>(lanes.threat().high);
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
        v = std::fma(std::fma(contrast, random.uniform() - 0.5, middle), lanes.threat().high - lanes.threat().low,
                     lanes.threat().low);
      }
      for (std::int64_t e = 0; e < lanes.size(); ++e) {
        const std::int64_t row = e / w / h * ((h + side - 1) / side) + e / w % h / side;
        noise_[static_cast<std::size_t>(e)] =
            std::clamp(static_cast<float>(blocks[static_cast<std::size_t>(row * columns + e % w / side)]), low, high);
      }
      lanes.math().put_lane(noise_.data(), lane, candidate_.data());
    }

    /// The candidates of all lanes. take_ = 1 in those that sample.
    void propose(Lanes& lanes) {
      LaneMath& math = lanes.math();
      const bool any_sample = for_lanes(lanes, take_, [&](int lane) { return in(lanes, lane, Phase::sample); });
      if (any_sample) {
        for (int lane = 0; lane < lanes.width(); ++lane) {
          draws_.iteration[at(lane)] = static_cast<std::uint32_t>(lanes.step(lane));
          delta_[at(lane)] = static_cast<float>(image(lane).delta);
        }
        math.probe_sphere(candidate_.data(), x_.data(),
                          linf_ ? kernels::Distribution::uniform : kernels::Distribution::normal, draws_, delta_,
                          lanes.threat());
      }
      // In L2 the search for the boundary goes along the way too.
      const bool any_share = for_lanes(lanes, chosen_, [&](int lane) {
        return in(lanes, lane, Phase::blend) || (!linf_ && in(lanes, lane, Phase::boundary));
      });
      const bool any_clipped =
          for_lanes(lanes, clipped_, [&](int lane) { return linf_ && in(lanes, lane, Phase::boundary); });
      for_lanes(lanes, at_, [&](int lane) { return 0.5 * (image(lane).from + image(lane).to); });
      between(lanes, any_share, any_clipped, candidate_);
      if (for_lanes(lanes, chosen_, [&](int lane) { return in(lanes, lane, Phase::stride); })) {
        for_lanes(lanes, at_, [&](int lane) { return image(lane).stride; });  // weighted holds the direction
        math.blend(point_.data(), lanes.threat(), {{x_.data(), one_}, {weighted_.data(), at_}});
        math.select(candidate_.data(), point_.data(), chosen_);
      }
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (in(lanes, lane, Phase::start)) {
          noise(lanes, lane);
        }
      }
    }

    /// What the prediction of the lane's candidate leads to.
    void advance(Lanes& lanes, int lane, bool adversarial) {
      Image& now = image(lane);
      switch (now.phase) {
        case Phase::start:
          if (adversarial) {
            lanes.copy_lane(candidate_.data(), lane, outside_.data());
            now.over = true;
          } else if (lanes.step(lane) + 1 >= attack_.options().start_queries) {
            lanes.finish(lane);
          }
          break;
        case Phase::blend:
        case Phase::boundary:
          (adversarial ? now.to : now.from) = 0.5 * (now.from + now.to);
          now.nearer = now.nearer || adversarial;
          now.over = now.to - now.from <= now.tolerance;
          break;
        case Phase::sample:
          now.fooled += adversarial ? 1 : 0;
          now.over = --now.left == 0;
          break;
        case Phase::stride:
          now.over = adversarial || ++now.halvings == 24;
          if (now.over) {
            lanes.copy_lane(adversarial ? candidate_.data() : x_.data(), lane, outside_.data());
          } else {
            now.stride *= 0.5;
          }
          break;
      }
    }

    /// Where the samples of a move are complete: makes `weighted` the direction of the step.
    void begin_strides(const Lanes& lanes) {
      if (!for_lanes(lanes, chosen_, [&](int lane) { return in(lanes, lane, Phase::sample, true); })) {
        return;
      }
      for_lanes(lanes, at_, [&](int lane) {
        const Image& now = image(lane);
        // Where all predictions agree they cancel from the formula; the direction is then away from, or to, all points.
        const bool cancel = chosen_[at(lane)] == 0.0f || now.fooled == 0 || now.fooled == now.samples;
        return cancel ? 0.0 : 1.0 - 2.0 * static_cast<double>(now.fooled) / static_cast<double>(now.samples);
      });
      LaneMath& math = lanes.math();
      math.combine(point_.data(), weighted_.data(), one_, sum_.data(), at_);
      math.direction(point_.data(), point_.data(), lanes.threat().norm);
      math.select(weighted_.data(), point_.data(), chosen_);
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (chosen_[at(lane)] != 0.0f) {
          Image& now = image(lane);
          now.phase = Phase::stride;
          now.over = false;
          now.stride = now.distance / std::sqrt(static_cast<double>(now.move));
          now.halvings = 0;
        }
      }
    }

    static void search(Image& now, Phase phase, double to, double tolerance) {
      now.phase = phase;
      now.over = now.nearer = false;
      now.from = 0;
      now.to = to;
      now.tolerance = tolerance * to;
    }

    /// Where an adversarial image has been found in `outside`, or is about to lie there: on the way to the boundary.
    void begin_boundaries(Lanes& lanes) {
      const bool any_blend = for_lanes(
          lanes, chosen_, [&](int lane) { return in(lanes, lane, Phase::blend, true) && image(lane).nearer; });
      for_lanes(lanes, at_, [&](int lane) { return image(lane).to; });
      between(lanes, any_blend, false, outside_);
      if (!for_lanes(lanes, chosen_, [&](int lane) {
            return in(lanes, lane, Phase::start, true) || in(lanes, lane, Phase::blend, true) ||
                   in(lanes, lane, Phase::stride, true);
          })) {
        return;
      }
      lanes.math().distances(outside_.data(), lanes.clean(), lanes.threat().norm, length_);
      const auto n = static_cast<double>(lanes.size());
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (chosen_[at(lane)] == 0.0f) {
          continue;
        }
        Image& now = image(lane);
        const auto far = static_cast<double>(length_[at(lane)]);
        if (now.phase == Phase::start) {
          keep(lanes, lane, far, outside_);
          if (linf_) {
            search(now, Phase::blend, 1.0, 1e-3);
            continue;
          }
        }
        now.delta = far / n;  // the next move's, in both norms: n^(1/2) n^(-3/2) and n n^(-2)
        const double tolerance = attack_.options().gamma / (linf_ ? n * n : n * std::sqrt(n));
        search(now, Phase::boundary, linf_ ? far : 1.0, std::max(tolerance, 0x1p-22));
      }
    }

    /// Where the boundary has been found: it is where the next move begins.
    void end_boundaries(Lanes& lanes) {
      const auto ends = [&](int lane) { return in(lanes, lane, Phase::boundary, true); };
      if (!for_lanes(lanes, take_, ends)) {
        return;
      }
      LaneMath& math = lanes.math();
      math.select(x_.data(), outside_.data(), take_);
      const bool any_share =
          for_lanes(lanes, chosen_, [&](int lane) { return ends(lane) && !linf_ && image(lane).nearer; });
      const bool any_clipped =
          for_lanes(lanes, clipped_, [&](int lane) { return ends(lane) && linf_ && image(lane).nearer; });
      for_lanes(lanes, at_, [&](int lane) { return image(lane).to; });
      between(lanes, any_share, any_clipped, x_);
      math.distances(x_.data(), lanes.clean(), lanes.threat().norm, length_);
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (take_[at(lane)] != 0.0f) {
          begin_move(lanes, lane);
        }
      }
    }
    void begin_move(Lanes& lanes, int lane) {
      Image& now = image(lane);
      const HopSkipJumpOptions& options = attack_.options();
      now.distance = static_cast<double>(length_[at(lane)]);
      keep(lanes, lane, now.distance, x_);
      if (++now.move > options.steps) {
        lanes.finish(lane);
        return;
      }
      if (now.move == 1) {
        now.delta = 0.1 * (lanes.threat().high - lanes.threat().low);
      }
      const double wanted = static_cast<double>(options.initial_samples) * std::sqrt(static_cast<double>(now.move));
      now.samples = now.left = static_cast<std::int64_t>(std::min(wanted, static_cast<double>(options.max_samples)));
      now.fooled = 0;
      now.phase = Phase::sample;
      now.over = false;
      lanes.copy_lane(nullptr, lane, sum_.data());
      lanes.copy_lane(nullptr, lane, weighted_.data());
    }

    /// The closest adversarial image so far is the answer.
    void keep(Lanes& lanes, int lane, double distance, const Field& x) {
      if (distance < image(lane).best) {
        image(lane).best = distance;
        lanes.keep(lane, x.data());
      }
    }

    const HopSkipJump& attack_;
    bool linf_;
    Field candidate_;
    Field x_;        ///< on the boundary, on its adversarial side
    Field outside_;  ///< adversarial, where the way to the boundary begins
    Field sum_, weighted_, point_;
    std::vector<float> noise_;
    LaneDraws draws_;
    std::vector<Image> images_;
    AlignedVector<float> one_, chosen_, clipped_, at_, take_, weight_, delta_, length_;  ///< of a step
  };

  HopSkipJumpOptions options_;
};

}  // namespace pavise::attack

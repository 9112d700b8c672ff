// SPDX-License-Identifier: MIT
// FAB, the fast adaptive boundary attack: walks along the decision boundary towards the clean image.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/hyperplane.hpp"
#include "pavise/attack/search.hpp"
#include "pavise/autodiff/loss.hpp"

namespace pavise::attack {

/// Options of FAB, as published.
struct FabOptions {
  std::int64_t steps = 100;
  double alpha_max = 0.1;  ///< largest weight of the clean image in a step
  double eta = 1.05;       ///< extrapolation past the boundary
  double beta = 0.9;       ///< what is kept of a perturbation that was adversarial, before the next step
  /// 0: each step goes for the nearest of all classes, which takes the gradients of all logits. Else an attempt aims at
  /// one class, those with the largest clean logits first, and takes the gradient of one difference of logits.
  std::int64_t targets = 0;
  bool targeted = false;  ///< labels are targets to reach
  /// Runs from random starts within one attempt, each of which knows the distance reached so far.
  std::int64_t restarts = 1;
  /// Ends an attempt as soon as it is within the threat's epsilon: for robust accuracy nothing more is to be gained.
  bool stop_within_epsilon = false;
  std::string name = "fab";
};

/// FAB (Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack", algorithm
/// 1), for Linf, L2 and L1. From x = the clean image x0, `steps` times:
///   w, f    gradient and value of z_s - z_y at x; s is the class whose plane is nearest (eq. 7), or the target
///   d, d0   the shortest moves from x and from x0 to the plane f + w.(. - x) = 0 within the pixel box
///   a     = min(||d|| / (||d|| + ||d0||), alpha_max)
///   x     = (1 - a)(x + eta d) + a (x0 + eta d0), clipped to the box
///   where x is adversarial: it is the answer if closer than any before, and x = (1 - beta) x0 + beta x
/// and last the final search on the segment from x0 to the answer. The closest adversarial image is the answer, the
/// clean one where there is none. The search knows no epsilon but in random starts.
///
/// Choices: a point that is adversarial when its gradient is taken counts as well (it costs nothing). The final search
/// is the published one of three steps along the segment: where the line between the two margins crosses zero, and by
/// halves after a step that failed; each aims past the crossing by 1e-4, 1e-5, 1e-6 of the length, since rounding
/// decides on the crossing itself. A fourth pass gives the margin of the clean image. Random starts (every restart but
/// the first) lie at distance min(closest, epsilon) / 2 in a random direction, where `closest` is what this attempt has
/// reached so far; restarts of `run` do not know of each other, so that an image's outcome does not depend on their
/// order. Targets that a model does not have (nine, of five classes) end at once and cost nothing.
/// Cost of a step: two forward passes and a backward pass (FAB-T), or one for each class.
class Fab : public SearchAttack {
 public:
  /// Throws ValueError for options out of range.
  explicit Fab(Threat threat, FabOptions options = {}) : SearchAttack(threat), options_(std::move(options)) {
    const FabOptions& o = options_;
    require(o.steps >= 1, o.name, ": ", o.steps, " steps, expected 1 or more");
    require(o.alpha_max >= 0.0 && o.alpha_max <= 1.0, o.name, ": alpha_max ", o.alpha_max, ", expected 0 to 1");
    require(o.eta >= 1.0 && std::isfinite(o.eta), o.name, ": eta ", o.eta, ", expected 1 or more");
    require(o.beta >= 0.0 && o.beta <= 1.0, o.name, ": beta ", o.beta, ", expected 0 to 1");
    require(o.targets >= 0, o.name, ": ", o.targets, " targets, expected 0 (the nearest class) or more");
    require(!o.targeted || o.targets == 0, o.name, ": ", o.targets,
            " targets, expected 0 where the labels are the targets");
    require(o.restarts >= 1 && o.restarts <= 65535, o.name, ": ", o.restarts, " restarts, expected 1 to 65535");
  }

  const FabOptions& options() const { return options_; }
  std::string name() const override { return options_.name; }
  bool targeted() const override { return options_.targeted; }
  bool minimum_norm() const override { return true; }
  std::int64_t arrays(std::int32_t classes) const override {
    return 5 + (options_.targets > 0 || options_.targeted ? 0 : classes + 3);
  }
  std::int64_t attempts() const override { return std::max<std::int64_t>(1, options_.targets); }
  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(lanes, options_); }

 private:
  static constexpr int kProbes = 4;  ///< the clean image and the three steps of the final search

  class State : public Search {
   public:
    State(const Lanes& lanes, const FabOptions& options)
        : options_(options),
          x_(lanes.field()),
          move_(lanes.field()),
          clean_move_(lanes.field()),
          found_(lanes.field()),
          image_(lanes.values<Image>()),
          target_(lanes.values<std::int32_t>()),
          safe_target_(lanes.values<std::int32_t>()),
          gain_(lanes.values()),
          clean_gain_(lanes.values()),
          distance_(lanes.values()),
          length_(lanes.values()),
          clean_length_(lanes.values()),
          own_(lanes.values()),
          own_move_(lanes.values()),
          share_(lanes.values()),
          clean_share_(lanes.values()),
          plus_(lanes.values(1.0f)),
          minus_(lanes.values(-1.0f)) {
      if (options_.targets > 0 || options_.targeted) {
        normal_ = lanes.field();
      } else {
        nearest_ = std::make_unique<detail::NearestClass>(lanes);
      }
    }

    void start(Lanes& lanes, int lane) override {
      const auto l = static_cast<std::size_t>(lane);
      image_[l] = {};
      if (options_.targets > 0) {
        const auto rank = static_cast<std::size_t>(lanes.restart(lane) % options_.targets);
        target_[l] = -1;
        std::size_t others = 0;
        for (const std::int32_t k : lanes.ranking(lane)) {
          if (k != lanes.labels()[lane] && others++ == rank) {
            target_[l] = k;
          }
        }
      }
      begin_run(lanes, lane);
    }

    void step(Lanes& lanes) override {
      for (int lane = 0; options_.targets > 0 && lane < lanes.width(); ++lane) {
        if (lanes.active(lane) && target_[static_cast<std::size_t>(lane)] < 0) {
          lanes.finish(lane);
        }
        safe_target_[static_cast<std::size_t>(lane)] = std::max(0, target_[static_cast<std::size_t>(lane)]);
      }
      if (!lanes.any_active()) {
        return;
      }
      look(lanes, linearise(lanes), true);
      if (!lanes.any_active()) {
        return;
      }
      advance(lanes);
      look(lanes, lanes.classify(x_.data()), false);
      retreat(lanes);
    }

   private:
    /// What is known of a lane's image.
    struct Image {
      float closest = std::numeric_limits<float>::infinity();  ///< distance of the answer
      float margin = 0;                                        ///< of the answer
      std::int64_t run = 0;
      std::int64_t step = 0;  ///< of this run
      bool fooled = false;    ///< x at the last look
      // The final search: the segment's points at `below` and `above` are not, and are, adversarial.
      int probes = -1;  ///< -1: not there yet
      bool failed = false;
      float at = 0, below = 0, above = 1;
      float margin_below = 0, margin_above = 0;
    };

    void begin_run(Lanes& lanes, int lane) {
      Image& image = image_[static_cast<std::size_t>(lane)];
      image.step = 0;
      lanes.copy_lane(lanes.clean(), lane, x_.data());
      const std::int64_t per_restart = std::max<std::int64_t>(1, options_.targets);
      const double radius = 0.5 * std::min<double>(image.closest, lanes.threat().epsilon);
      if ((image.run == 0 && lanes.restart(lane) < per_restart) || radius == 0.0) {
        return;
      }
      // A random direction of length `radius`; uniform on the sphere in L2 and L1.
      RandomSequence random(lanes.key(lane, Purpose::random_start, static_cast<std::uint32_t>(image.run)));
      const auto n = static_cast<std::size_t>(lanes.size());
      std::vector<double> direction(n);
      double length = 0;
      for (double& v : direction) {
        switch (lanes.threat().norm) {
          case Norm::linf:
            v = random.uniform(-1.0, 1.0);
            length = std::max(length, std::abs(v));
            break;
          case Norm::l2:
            v = random.normal();
            length += v * v;
            break;
          case Norm::l1:
            v = std::log(random.uniform());
            length -= v;
            v *= random.uniform() < 0.5 ? -1.0 : 1.0;
            break;
        }
      }
      length = lanes.threat().norm == Norm::l2 ? std::sqrt(length) : length;
      const auto image_here = lanes.image(lane);
      std::vector<float> start(n);
      for (std::size_t e = 0; e < n; ++e) {
        start[e] = std::clamp(image_here[e] + static_cast<float>(radius / length * direction[e]),
                              static_cast<float>(lanes.threat().low), static_cast<float>(lanes.threat().high));
      }
      lanes.math().put_lane(start.data(), lane, x_.data());
    }

    /// The plane at x: its normal, and by how much w.x has to grow to get there.
    const Answer& linearise(Lanes& lanes) {
      if (nearest_) {
        const Answer& answer = nearest_->find(lanes, x_.data());
        for (std::size_t l = 0; l < gain_.size(); ++l) {
          gain_[l] = -nearest_->difference()[l];
        }
        return answer;
      }
      const Answer& answer = lanes.differentiate(
          x_.data(),
          [this](Var<float> z, const std::int32_t* labels) {
            return options_.targeted ? margin_loss_targeted(z, labels)
                                     : sub(pick(z, safe_target_.data()), pick(z, labels));
          },
          normal_.data());
      for (std::size_t l = 0; l < gain_.size(); ++l) {
        gain_[l] = std::isfinite(answer.loss[l]) ? -answer.loss[l] : 0.0f;
      }
      return answer;
    }
    const float* normal() const { return nearest_ ? nearest_->normal() : normal_.data(); }

    /// max_{k != y} z_k - z_y; of a targeted attack z_t - max_{k != t} z_k.
    float margin(const Lanes& lanes, const Answer& answer, int lane) const {
      const std::int32_t label = lanes.labels()[lane];
      float own = 0;
      float other = -std::numeric_limits<float>::infinity();
      for (std::int32_t k = 0; k < lanes.classes(); ++k) {
        const float z = answer.logits[static_cast<std::size_t>(k * lanes.width() + lane)];
        (k == label ? own : other) = k == label ? z : std::max(other, z);
      }
      return options_.targeted ? own - other : other - own;
    }

    /// Takes in how x was classified. `first`: the look at the beginning of a step.
    void look(Lanes& lanes, const Answer& answer, bool first) {
      lanes.math().distances(x_.data(), lanes.clean(), lanes.threat().norm, distance_);
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        Image& image = image_[l];
        if (!lanes.active(lane)) {
          continue;
        }
        const float margin_here = margin(lanes, answer, lane);
        image.fooled = lanes.fooled(answer, lane);
        if (image.fooled && distance_[l] < image.closest) {
          image.closest = distance_[l];
          image.margin = margin_here;
          lanes.keep(lane, x_.data());
          if (distance_[l] == 0.0f || (options_.stop_within_epsilon && distance_[l] <= lanes.threat().epsilon)) {
            lanes.finish(lane);
            continue;
          }
        }
        if (image.probes >= 0) {
          note(lanes, lane, margin_here);
        } else if (!first && ++image.step == options_.steps) {
          end_run(lanes, lane);
        }
      }
    }

    void end_run(Lanes& lanes, int lane) {
      const auto l = static_cast<std::size_t>(lane);
      Image& image = image_[l];
      image.fooled = false;  // x begins anew
      if (++image.run < options_.restarts) {
        begin_run(lanes, lane);
      } else if (image.closest == std::numeric_limits<float>::infinity()) {
        lanes.finish(lane);
      } else {
        lanes.copy_lane(lanes.answer(), lane, found_.data());
        image.probes = 0;
        image.at = 0;
        image.margin_above = image.margin;
      }
    }

    /// A probe of the final search came back; chooses the next one.
    void note(Lanes& lanes, int lane, float margin_here) {
      Image& image = image_[static_cast<std::size_t>(lane)];
      if (image.fooled) {
        image.above = image.at;
        image.margin_above = margin_here;
      } else {
        image.below = image.at;
        image.margin_below = margin_here;
      }
      image.failed = !image.fooled && image.probes > 0;
      image.fooled = false;
      if (++image.probes == kProbes) {
        lanes.finish(lane);
        return;
      }
      const float length = image.above - image.below;
      const float middle = image.below + 0.5f * length;
      const float crossing = image.below - length * image.margin_below / (image.margin_above - image.margin_below) +
                             image.above * (image.probes == 1   ? 1e-4f
                                            : image.probes == 2 ? 1e-5f
                                                                : 1e-6f);
      image.at = !image.failed && crossing > image.below && crossing < image.above ? crossing : middle;
    }

    /// Moves x: a step, or to the next probe of the final search.
    void advance(Lanes& lanes) {
      LaneMath& math = lanes.math();
      const Threat& threat = lanes.threat();
      math.move_to_hyperplane(move_.data(), x_.data(), normal(), threat, gain_);
      // From the clean image the same plane is w.(x - x0) further away.
      math.combine(clean_move_.data(), x_.data(), plus_, lanes.clean(), minus_);
      math.dot(normal(), clean_move_.data(), clean_gain_);
      for (std::size_t l = 0; l < gain_.size(); ++l) {
        clean_gain_[l] += gain_[l];
      }
      math.move_to_hyperplane(clean_move_.data(), lanes.clean(), normal(), threat, clean_gain_);
      math.norm(move_.data(), threat.norm, length_);
      math.norm(clean_move_.data(), threat.norm, clean_length_);
      const auto eta = static_cast<float>(options_.eta);
      for (std::size_t l = 0; l < gain_.size(); ++l) {
        const float both = length_[l] + clean_length_[l];
        const float alpha = both > 0.0f ? std::min(length_[l] / both, static_cast<float>(options_.alpha_max)) : 0.0f;
        own_[l] = 1.0f - alpha;
        own_move_[l] = own_[l] * eta;
        share_[l] = alpha;
        clean_share_[l] = alpha * eta;
      }
      place_probes(lanes);
      math.blend(
          x_.data(), threat,
          {{x_.data(), own_}, {move_.data(), own_move_}, {lanes.clean(), share_}, {clean_move_.data(), clean_share_}});
    }

    /// Goes back towards the clean image from points that are adversarial, and to the next probe of the final search.
    void retreat(Lanes& lanes) {
      for (std::size_t l = 0; l < own_.size(); ++l) {
        const bool back = image_[l].fooled && image_[l].probes < 0;
        own_[l] = back ? static_cast<float>(options_.beta) : 1.0f;
        share_[l] = back ? 1.0f - own_[l] : 0.0f;
      }
      place_probes(lanes);
      lanes.math().blend(x_.data(), lanes.threat(), {{x_.data(), own_}, {lanes.clean(), share_}});
    }

    /// Puts the images of the final search at their next probe, and has the blend that follows leave them there.
    void place_probes(Lanes& lanes) {
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        const Image& image = image_[l];
        if (image.probes < 0) {
          continue;
        }
        lanes.copy_lane(found_.data(), lane, x_.data());
        own_[l] = image.at;
        share_[l] = 1.0f - image.at;
        own_move_[l] = clean_share_[l] = 0.0f;
      }
    }

    const FabOptions& options_;
    std::unique_ptr<detail::NearestClass> nearest_;
    Field x_, move_, clean_move_, normal_, found_;
    AlignedVector<Image> image_;
    AlignedVector<std::int32_t> target_, safe_target_;
    AlignedVector<float> gain_, clean_gain_, distance_, length_, clean_length_;  ///< of a step
    AlignedVector<float> own_, own_move_, share_, clean_share_;                  ///< factors of a blend
    AlignedVector<float> plus_, minus_;
  };

  FabOptions options_;
};

/// FAB-T, as in AutoAttack (Croce and Hein 2020, "Reliable evaluation of adversarial robustness"): nine attempts, one
/// at each of the nine classes with the largest clean logits (fewer, where the model has fewer).
inline Fab fab_t(Threat threat, FabOptions options = {}) {
  options.name = options.name == "fab" ? "fab-t" : options.name;
  options.targets = options.targets > 0 ? options.targets : 9;
  return Fab(threat, std::move(options));
}

}  // namespace pavise::attack

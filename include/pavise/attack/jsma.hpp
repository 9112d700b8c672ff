// SPDX-License-Identifier: MIT
// JSMA: changes few pixels, two at a time, those that speak most for one class and against the others.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/search.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/autodiff/softmax.hpp"

namespace pavise::attack {

struct JsmaOptions {
  double theta = 1.0;    ///< what a step adds to a pixel, in pixel units; negative: takes away
  double gamma = 0.145;  ///< share of the elements of an image (each channel of a pixel is one) that may change
  bool pairs = true;     ///< two elements a step (algorithm 3); else one, the largest of the saliency map (eq. 8, 9)
  /// Derivatives of the softmax probabilities instead of the logits. A confident network's probabilities round to 0 and
  /// 1 and their derivatives to 0, which stops the attack without the network being any more robust (defensive
  /// distillation "worked" by that): hence the logits by default, as Carlini and Wagner (2017) advise.
  bool probabilities = false;
  bool targeted = false;     ///< labels are targets to reach
  std::int64_t targets = 9;  ///< of an untargeted attack: attempts, one at each of the classes with the largest logits
  std::string name = "jsma";
};

namespace detail {

/// What an element of an image contributes: to the target, and away from the other classes.
struct Salience {
  float gain = 0;
  float loss = 0;
  std::int32_t element = 0;
};

/// The total order by which equals are told apart: larger gain, larger loss, earlier element.
inline bool operator<(const Salience& a, const Salience& b) {
  return a.gain != b.gain ? a.gain > b.gain : a.loss != b.loss ? a.loss > b.loss : a.element < b.element;
}

/// The pair p < q with the largest product (gain_p + gain_q) (loss_p + loss_q) among those with both sums positive, the
/// first of equals in the order above; elements -1 where there is none. Reorders and shortens `all`.
///
/// Of n elements there are n^2 / 2 pairs; this looks at few and finds the same one. An element that two others dominate
/// (neither sum smaller with them) cannot be in the pair: one of the two is not in it either and would make the pair no
/// worse, and earlier in order. What is left is sorted, and a bound on all later partners ends the search: no sum of
/// theirs is larger than the next gain and the largest loss to come. Rounding is monotone, so both hold for the
/// computed products.
inline std::pair<std::int32_t, std::int32_t> most_salient_pair(std::vector<Salience>& all) {
  std::pair<std::int32_t, std::int32_t> found{-1, -1};
  float most_gain = 0;
  float most_loss = 0;
  for (const Salience& s : all) {
    most_gain = std::max(most_gain, s.gain);
    most_loss = std::max(most_loss, s.loss);
  }
  if (all.size() < 2 || !(most_gain > 0.0f) || !(most_loss > 0.0f)) {
    return found;
  }
  // The two with the best sum of both dominate most of the others, in one pass.
  std::array<Salience, 2> best{};
  std::array<double, 2> score;
  score.fill(-std::numeric_limits<double>::infinity());
  for (const Salience& s : all) {
    const double mine = static_cast<double>(s.gain) / most_gain + static_cast<double>(s.loss) / most_loss;
    if (mine > score[0]) {
      score[1] = std::exchange(score[0], mine);
      best[1] = std::exchange(best[0], s);
    } else if (mine > score[1]) {
      score[1] = mine;
      best[1] = s;
    }
  }
  const auto dominates = [](const Salience& a, const Salience& b) {
    return a.gain >= b.gain && a.loss >= b.loss && a < b;
  };
  std::erase_if(all, [&](const Salience& s) { return dominates(best[0], s) && dominates(best[1], s); });
  std::sort(all.begin(), all.end());
  float first = -std::numeric_limits<float>::infinity();  // the two largest losses so far
  float second = first;
  std::erase_if(all, [&](const Salience& s) {
    const bool dominated_twice = second >= s.loss;
    second = std::max(second, std::min(first, s.loss));
    first = std::max(first, s.loss);
    return dominated_twice;
  });
  thread_local std::vector<double> loss_to_come;
  loss_to_come.resize(all.size());
  for (std::size_t i = all.size(); i-- > 0;) {
    loss_to_come[i] = std::max<double>(all[i].loss, i + 1 < all.size() ? loss_to_come[i + 1] : all[i].loss);
  }
  double largest = 0;
  for (std::size_t p = 0; p + 1 < all.size(); ++p) {
    for (std::size_t q = p + 1; q < all.size(); ++q) {
      const double gain = static_cast<double>(all[p].gain) + all[q].gain;
      const double bound = gain * (all[p].loss + loss_to_come[q]);
      if (gain <= 0.0 || bound <= largest) {
        break;
      }
      const double loss = static_cast<double>(all[p].loss) + all[q].loss;
      if (loss > 0.0 && gain * loss > largest) {
        largest = gain * loss;
        found = {all[p].element, all[q].element};
      }
    }
  }
  return found;
}

/// The element with the largest product gain * loss among those with both positive, the first of equals; -1 where there
/// is none.
inline std::int32_t most_salient_element(const std::vector<Salience>& all) {
  std::int32_t found = -1;
  double largest = 0;
  for (const Salience& s : all) {
    const double product = static_cast<double>(s.gain) * s.loss;
    if (s.gain > 0.0f && s.loss > 0.0f && product > largest) {
      largest = product;
      found = s.element;
    }
  }
  return found;
}

}  // namespace detail

/// The Jacobian-based saliency map attack (Papernot et al. 2016, "The limitations of deep learning in adversarial
/// settings", algorithms 2 and 3): until target t is reached, the two elements p, q that maximise
///   -(A_p + A_q) (B_p + B_q),   A = dz_t/dx,  B = sum over j != t of dz_j/dx,   A_p + A_q > 0 > B_p + B_q
/// (both signs the other way for negative theta) move by theta, clipped to the pixel box. Elements at the wall take no
/// further part. It ends without success where no pair is left or share gamma of the elements has changed: two new ones
/// have to fit. The published 14.5 % allow 112 of MNIST's 784. Without `pairs` the same, one element at a time.
///
/// It counts elements rather than distance, and its budget is gamma; the threat gives the pixel box, and what counts as
/// success in `run`: with linf(1.0) on pixels in [0,1] every image that is fooled within the budget. Result::fooled
/// says that under any threat. Without `targeted`, labels are the classes to leave: an attempt aims at one class and
/// ends at any mistake. With probabilities B is -A, since they sum to 1. Deterministic. Cost of a step: two forward and
/// two backward passes; one of each with probabilities.
class Jsma : public SearchAttack {
 public:
  /// Throws ValueError for a theta under 1e-4 of the box or over all of it, gamma outside (0,1], no targets.
  explicit Jsma(Threat threat, JsmaOptions options = {}) : SearchAttack(threat), options_(std::move(options)) {
    const JsmaOptions& o = options_;
    const double box = threat.high - threat.low;
    require(std::abs(o.theta) >= 1e-4 * box && std::abs(o.theta) <= box, o.name, ": theta ", o.theta, ", expected ",
            1e-4 * box, " to ", box, " (the pixel box), or as much below 0");
    require(o.gamma > 0.0 && o.gamma <= 1.0, o.name, ": gamma ", o.gamma,
            ", expected a share of the elements, more than 0 and at most 1");
    require(o.targets >= 1, o.name, ": ", o.targets, " targets, expected 1 or more");
  }

  const JsmaOptions& options() const { return options_; }
  std::string name() const override { return options_.name; }
  bool targeted() const override { return options_.targeted; }
  bool random() const override { return false; }
  bool minimum_norm() const override { return true; }
  std::int64_t attempts() const override { return options_.targeted ? 1 : options_.targets; }
  /// Throws ValueError where gamma allows less than a step: two elements of an image, or one without `pairs`.
  void check(const Classifier& model) const override {
    const std::int64_t size = model.input_shape().numel();
    require(budget(size) >= width(), options_.name, ": gamma ", options_.gamma, " of ", size, " elements is ",
            budget(size), ", expected at least ", width());
  }
  std::unique_ptr<Search> search(Lanes& lanes) const override {
    return std::make_unique<State>(lanes, options_, budget(lanes.size()));
  }

 private:
  std::int64_t width() const { return options_.pairs ? 2 : 1; }  ///< elements that a step changes
  std::int64_t budget(std::int64_t size) const {
    return static_cast<std::int64_t>(options_.gamma * static_cast<double>(size) + 1e-9);  // 0.29 of 100 is 29
  }

  class State : public Search {
   public:
    State(const Lanes& lanes, const JsmaOptions& options, std::int64_t budget)
        : options_(options), budget_(budget), x_(lanes.array()), gain_(lanes.array()), others_(lanes.array()) {}

    void start(Lanes& lanes, int lane) override {
      const auto l = static_cast<std::size_t>(lane);
      lanes.copy_lane(lanes.clean(), lane, x_.data());
      changed_[l] = 0;
      target_[l] = options_.targeted ? lanes.labels()[lane] : -1;
      std::size_t others = 0;
      for (const std::int32_t k : lanes.ranking(lane)) {
        if (!options_.targeted && k != lanes.labels()[lane] && others++ == lanes.restart(lane)) {
          target_[l] = k;
        }
      }
    }

    void step(Lanes& lanes) override {
      PerLane<std::int32_t> target{};
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        if (lanes.active(lane) && target_[l] < 0) {
          lanes.finish(lane);  // the model has fewer classes
        }
        target[l] = std::max(0, target_[l]);
      }
      if (!lanes.any_active()) {
        return;
      }
      const Answer& answer = lanes.differentiate(
          x_.data(),
          [&](Var<float> z, const std::int32_t*) {
            return pick(options_.probabilities ? softmax(z) : z, target.data());
          },
          gain_.data());
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (lanes.active(lane) && lanes.fooled(answer, lane)) {
          end(lanes, lane);
        }
      }
      if (!lanes.any_active()) {
        return;
      }
      if (!options_.probabilities) {
        lanes.differentiate(
            x_.data(), [&](Var<float> z, const std::int32_t*) { return sub(sum(z), pick(z, target.data())); },
            others_.data());
      }
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (lanes.active(lane)) {
          move(lanes, lane);
        }
      }
    }

   private:
    void end(Lanes& lanes, int lane) {
      lanes.keep(lane, x_.data());
      lanes.finish(lane);
    }

    void move(Lanes& lanes, int lane) {
      const auto l = static_cast<std::size_t>(lane);
      const auto width = static_cast<std::size_t>(lanes.width());
      const auto low = static_cast<float>(lanes.threat().low);
      const auto high = static_cast<float>(lanes.threat().high);
      const bool up = options_.theta > 0.0;
      const float sign = up ? 1.0f : -1.0f;
      const bool new_ones = changed_[l] + (options_.pairs ? 2 : 1) <= budget_;
      elements_.clear();
      for (std::size_t e = 0; e < static_cast<std::size_t>(lanes.size()); ++e) {
        const std::size_t i = e * width + l;
        if ((up ? x_[i] < high : x_[i] > low) && (new_ones || x_[i] != lanes.clean()[i])) {
          const float gain = sign * gain_[i];
          elements_.push_back({gain, options_.probabilities ? gain : -sign * others_[i], static_cast<std::int32_t>(e)});
        }
      }
      const auto pair = options_.pairs ? detail::most_salient_pair(elements_)
                                       : std::pair{detail::most_salient_element(elements_), -1};
      if (pair.first < 0) {
        end(lanes, lane);
        return;
      }
      for (const std::int32_t e : {pair.first, pair.second}) {
        if (e < 0) {
          continue;
        }
        const std::size_t i = static_cast<std::size_t>(e) * width + l;
        changed_[l] += x_[i] == lanes.clean()[i] ? 1 : 0;
        x_[i] = std::clamp(x_[i] + static_cast<float>(options_.theta), low, high);
      }
    }

    const JsmaOptions& options_;
    std::int64_t budget_;
    AlignedVector<float> x_, gain_, others_;
    PerLane<std::int64_t> changed_{};
    PerLane<std::int32_t> target_{};
    std::vector<detail::Salience> elements_;
  };

  JsmaOptions options_;
};

}  // namespace pavise::attack

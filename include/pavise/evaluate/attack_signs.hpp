// SPDX-License-Identifier: MIT
// Signs of masked gradients, or of attacks that are too weak, that show when a classifier is attacked in ways whose
// order is known: a stronger attack that does worse, a larger ball that holds fewer adversarial images, an unbounded
// one that does not hold any (Carlini et al. 2019, "On evaluating adversarial robustness", section 3 and appendix).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/pgd.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/evaluate/gradient_signs.hpp"
#include "pavise/evaluate/probe.hpp"
#include "pavise/evaluate/report.hpp"

namespace pavise::evaluate {

/// What the signs are measured with.
struct SignContext {
  const attack::Classifier& model;  ///< with as many draws as the attacks have
  const Probe& probe;               ///< images that are classified correctly
  attack::Threat threat;
  attack::Loss loss;  ///< that gradient attacks maximise
  std::uint64_t seed = 0;
  std::int64_t judging_draws = 100;
  double confidence = 0.95;
  std::int64_t steps = 40;  ///< of PGD
};

namespace detail {

/// Two attacks may differ by that many images for reasons of their own: other starts, other step sizes.
inline constexpr double kTolerance = 0.02;

inline attack::Result attack_probe(const SignContext& c, const attack::Attack& attack, std::int64_t restarts = 1,
                                   bool stop = true) {
  return attack::run(attack, c.model, c.probe.images, c.probe.labels,
                     {.restarts = restarts, .seed = c.seed, .stop_at_success = stop, .judging_draws = c.judging_draws},
                     c.probe.ids.data());
}

/// How many more images `a` leaves standing than `b`, as a number of images; 0 where it leaves fewer.
inline std::int64_t excess(const attack::Result& a, const attack::Result& b) {
  return std::max<std::int64_t>(0, a.robust_correct - b.robust_correct);
}

/// Mean cross-entropy of the images that a run left.
inline double mean_loss(const SignContext& c, const attack::Result& result) {
  const attack::Work work{c.probe.images, c.probe.labels, c.probe.ids.data(), {}, c.seed, {}};
  std::vector<attack::Attempt> attempts(static_cast<std::size_t>(c.probe.size()));
  for (std::size_t i = 0; i < attempts.size(); ++i) {
    attempts[i].image = static_cast<std::int64_t>(i);
  }
  const auto judgements = attack::judge(
      c.model, work, attempts, [&](const attack::Attempt& a) { return result.adversarial.row(a.image).data(); },
      c.judging_draws, attack::detail::kJudgement);
  double sum = 0;
  for (const auto& j : judgements) {
    sum += std::isfinite(j.loss) ? static_cast<double>(j.loss) : 0.0;
  }
  return judgements.empty() ? 0.0 : sum / static_cast<double>(judgements.size());
}

/// The radius of the ball that holds the whole box.
inline double whole_box(const attack::Threat& threat, std::int64_t pixels) {
  const double box = threat.high - threat.low;
  switch (threat.norm) {
    case attack::Norm::linf:
      return box;
    case attack::Norm::l2:
      return box * std::sqrt(static_cast<double>(pixels));
    case attack::Norm::l1:
      return box * static_cast<double>(pixels);
  }
  return box;
}

}  // namespace detail

/// FGSM no stronger than PGD no stronger than `apgd`, and accuracy and loss under PGD over radii of 1/4, 1/2, 1, 3/2
/// and 2 epsilon. `curve` gets what stands at these radii against all that is known: PGD's images and `found`, the
/// distance at which each image was broken before (infinite where it was not; may be empty).
inline std::vector<Sign> order_signs(const SignContext& c, const attack::Attack& apgd, std::span<const float> found,
                                     std::vector<CurvePoint>& curve) {
  const std::int64_t m = c.probe.size();
  const auto pgd_at = [&](double epsilon) {
    return detail::attack_probe(c, attack::Pgd(c.threat.with_epsilon(epsilon), {.steps = c.steps, .loss = c.loss}), 1,
                                false);
  };
  std::vector<Sign> signs;
  const auto single = detail::attack_probe(c, attack::fgsm(c.threat, {.loss = c.loss}));
  const auto strong = detail::attack_probe(c, apgd);
  const double whole = detail::whole_box(c.threat, c.probe.image_size());
  curve.clear();
  curve.push_back({0.0, m, m, detail::mean_loss(c, single)});
  {  // the loss of the clean images
    attack::Result clean;
    clean.adversarial = c.probe.images;
    curve.back().loss = detail::mean_loss(c, clean);
  }
  attack::Result pgd;
  std::vector<std::vector<std::uint8_t>> broken;  // at each radius but 0
  for (const double factor : {0.25, 0.5, 1.0, 1.5, 2.0}) {
    const double epsilon = std::min(factor * c.threat.epsilon, whole);
    if (epsilon <= curve.back().epsilon) {
      continue;
    }
    auto result = pgd_at(epsilon);
    broken.push_back(result.success);
    curve.push_back({epsilon, result.robust_correct, m, detail::mean_loss(c, result)});
    if (factor <= 1.0) {  // epsilon itself, or the whole box where epsilon is larger
      pgd = std::move(result);
    }
  }
  const auto weaker = [&](std::string name, const attack::Result& a, const attack::Result& b, std::string_view text) {
    const auto k = detail::excess(b, a);
    signs.push_back(
        share_sign(std::move(name), k, m, detail::kTolerance, c.confidence,
                   concat(text, " (", m - a.robust_correct, " and ", m - b.robust_correct, " of ", m,
                          " broken): where the weaker attack is ahead, the gradient does not lead uphill")));
  };
  weaker("FGSM against PGD", single, pgd, concat("FGSM broke this much more than PGD with ", c.steps, " steps"));
  weaker("PGD against APGD", pgd, strong, concat("PGD with ", c.steps, " steps broke this much more than APGD"));

  std::int64_t rise = 0;
  double fall = 0;
  double largest = 0;
  for (const auto& point : curve) {
    largest = std::max(largest, point.loss);
  }
  for (std::size_t i = 1; i < curve.size(); ++i) {
    rise = std::max(rise, curve[i].correct - curve[i - 1].correct);
    fall = std::max(fall, (curve[i - 1].loss - curve[i].loss) / std::max(largest, 1e-6));
  }
  signs.push_back(
      share_sign("success over epsilon", rise, m, detail::kTolerance, c.confidence,
                 "the largest loss of success from one radius to the next larger one: a larger ball holds all "
                 "that the smaller one does"));
  Sign loss;
  loss.name = "loss over epsilon";
  loss.value = fall;
  loss.interval = {fall, fall};
  loss.threshold = 0.05;  // PGD's larger steps at a larger radius find slightly other maxima
  loss.images = m;
  loss.state = m == 0 ? SignState::unclear : fall <= loss.threshold ? SignState::passed : SignState::failed;
  loss.sentence =
      "the largest fall of the mean loss from one radius to the next larger one, in parts of the largest mean loss";
  signs.push_back(std::move(loss));

  // From here on the curve is of all that is known: what a ball holds the next larger one holds too.
  std::vector<std::uint8_t> fallen(static_cast<std::size_t>(m), 0);
  for (std::size_t point = 1; point < curve.size(); ++point) {
    for (std::size_t i = 0; i < fallen.size(); ++i) {
      const bool near = !found.empty() && attack::within(c.threat.with_epsilon(curve[point].epsilon), found[i]);
      fallen[i] = fallen[i] != 0 || broken[point - 1][i] != 0 || near ? 1 : 0;
    }
    curve[point].correct = m - std::count(fallen.begin(), fallen.end(), std::uint8_t{1});
  }
  return signs;
}

/// The share of images that stand in a ball that holds the whole box, in which every image has its neighbours of other
/// classes: PGD on the loss, then on the margin for those that stand.
inline Sign unbounded_sign(const SignContext& c) {
  const auto whole = c.threat.with_epsilon(detail::whole_box(c.threat, c.probe.image_size()));
  const auto first = detail::attack_probe(c, attack::Pgd(whole, {.steps = 50, .random_start = false, .loss = c.loss}));
  const attack::Loss margin = [](Var<float> z, const std::int32_t* labels) { return margin_loss(z, labels); };
  const auto second = detail::attack_probe(c, attack::Pgd(whole, {.steps = 50, .random_start = false, .loss = margin}));
  std::int64_t standing = 0;
  for (std::size_t i = 0; i < first.success.size(); ++i) {
    standing += first.success[i] == 0 && second.success[i] == 0 ? 1 : 0;
  }
  // An image in a hundred may sit in a corner of the box from which the gradient does not lead away.
  return share_sign("unbounded epsilon", standing, c.probe.size(), 0.01, c.confidence,
                    concat("under PGD whose ball holds the whole box ", detail::counted(standing, c.probe.size()),
                           " images stand; all must fall where the attack sees what the model computes"));
}

/// How many of the probe's images that stand (`standing`, one for each) fall to `longer`, the strongest gradient attack
/// with ten times the steps.
inline Sign steps_sign(const SignContext& c, const std::vector<std::uint8_t>& standing, const attack::Attack& longer) {
  std::vector<std::int64_t> index;
  for (std::int64_t i = 0; i < c.probe.size(); ++i) {
    if (standing[static_cast<std::size_t>(i)] != 0) {
      index.push_back(i);
    }
  }
  const Probe left = make_probe(c.probe.images, c.probe.labels, c.probe.ids, std::move(index));
  std::int64_t fallen = 0;
  if (left.size() > 0) {
    const SignContext some{c.model, left, c.threat, c.loss, c.seed, c.judging_draws, c.confidence, c.steps};
    fallen = left.size() - detail::attack_probe(some, longer).robust_correct;
  }
  return share_sign("ten times the steps", fallen, c.probe.size(), detail::kTolerance, c.confidence,
                    concat("of ", left.size(), " images that stand against all attacks, ", fallen, " fall to ",
                           longer.name(), " with ten times the steps: the attacks had not converged"));
}

/// How many images stand against all attacks that use gradients and fall to those with access `access`.
inline Sign overtaken_sign(const Report& report, attack::Access access) {
  const bool outputs = access == attack::Access::outputs;
  const std::string name = outputs ? "gradient-free attacks" : "transferred attacks";
  bool gradients = false;
  bool others = false;
  for (const auto& row : report.attacks) {
    gradients = gradients || row.access == attack::Access::gradients;
    others = others || row.access == access;
  }
  if (!gradients || !others) {
    return no_sign(name, others    ? "no attack uses gradients"
                         : outputs ? "no attack does without gradients"
                                   : "no second model was given to make images on");
  }
  std::int64_t count = 0;
  for (std::size_t i = 0; i < report.images.size(); ++i) {
    bool white = false;
    bool other = false;
    for (std::size_t a = 0; a < report.attacks.size(); ++a) {
      const bool broken = report.outcome(a, i) == Outcome::broken;
      white = white || (broken && report.attacks[a].access == attack::Access::gradients);
      other = other || (broken && report.attacks[a].access == access);
    }
    count += other && !white ? 1 : 0;
  }
  return share_sign(name, count, report.clean_correct, detail::kTolerance, report.confidence,
                    concat(detail::counted(count, report.clean_correct),
                           " images stand against all attacks that use gradients and fall to ",
                           outputs ? "one that sees the outputs alone" : "images made on another model",
                           ": the gradients hide what is there"));
}

}  // namespace pavise::evaluate

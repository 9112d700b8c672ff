// SPDX-License-Identifier: MIT
// Robust accuracy under a suite of attacks, and a verdict on whether it can be relied on.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "pavise/attack/run.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/evaluate/adapt.hpp"
#include "pavise/evaluate/attack_signs.hpp"
#include "pavise/evaluate/gradient_signs.hpp"
#include "pavise/evaluate/self_test.hpp"
#include "pavise/evaluate/state.hpp"
#include "pavise/evaluate/verdict.hpp"

namespace pavise::evaluate {

/// How the signs behind the verdict are measured.
struct SignOptions {
  bool measure = true;        ///< without signs the verdict is undecided
  std::int64_t images = 100;  ///< drawn among those that are classified correctly, all where there are fewer
  std::int64_t steps = 40;    ///< of PGD
};

struct Options {
  std::string suite = "auto";  ///< auto, rand, plus or quick: see attack/auto.hpp
  /// Attacks of one's own in its place, made for the same threat. A saved state knows them by name and settings.
  attack::Suite attacks = {};
  attack::AutoOptions settings = {};  ///< steps, targets and queries of the suite; draws of a random classifier
  std::vector<attack::Classifier> surrogates = {};  ///< models whose adversarial images are tried on this one
  std::uint64_t seed = 0;
  std::int64_t judging_draws = 100;  ///< of a random classifier, by which an image is judged
  bool all_images = false;           ///< each attack on all images, for the whole matrix; else on those that stand
  SignOptions signs = {};
  double confidence = 0.95;     ///< of all intervals
  std::string state_file = {};  ///< keeps what is done, so that a killed run goes on; empty: none
  double save_seconds = 30;     ///< between two writes of the state, about
  /// Called with the name of an attack ("signs" at the end) and how much of it is done, by one thread at a time.
  std::function<void(std::string_view stage, std::int64_t done, std::int64_t total)> progress = {};
};

namespace detail {

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// A hash of a classifier's answers to images, bit by bit: logits, and the gradients of cross-entropy.
inline void hash_answers(Hash& hash, const attack::Classifier& model, const Probe& all, std::uint64_t seed) {
  const attack::Loss loss = [](Var<float> z, const std::int32_t* labels) { return cross_entropy(z, labels); };
  hash.text(model.name()).number(model.classes());
  const nn::Declaration& d = model.declaration();
  hash.number(d.random).number(d.differentiable).number(d.temperature).number(d.rejects);
  if (d.rejection_output) {
    hash.text("rejection output");
  }
  constexpr std::int64_t kPart = 1024;
  for (std::int64_t begin = 0; begin < all.size(); begin += kPart) {
    std::vector<std::int64_t> index(static_cast<std::size_t>(std::min(kPart, all.size() - begin)));
    std::iota(index.begin(), index.end(), begin);
    const Probe part = make_probe(all.images, all.labels, all.ids, std::move(index));
    const auto answers = ask(model.with_draws(1), part, part.images, loss, true, seed, kProbeNumber);
    hash.numbers(std::span<const float>(answers.logits)).numbers(answers.gradient.span());
  }
}

/// One evaluation on its way.
class Evaluation {
 public:
  Evaluation(const attack::Classifier& model, const Tensor<float>& images, std::span<const std::int32_t> labels,
             const std::uint32_t* ids, const attack::Threat& threat, const Options& options)
      : options_(options),
        plan_(adapt(model, threat, suite_of(options), options.settings, options.surrogates)),
        model_(model.with_draws(model.declaration().random ? plan_.suite.draws : 1)) {
    check_options();
    report_.model = model.name();
    report_.suite = plan_.suite.name;
    report_.threat = threat;
    report_.seed = options.seed;
    report_.confidence = options.confidence;
    report_.draws = model_.draws();
    report_.judging_draws = model.declaration().random ? options.judging_draws : 1;
    report_.notes = plan_.notes;
    for (const auto& entry : plan_.suite.entries) {
      AttackRow row;
      row.name = entry.name;
      row.settings = entry.settings;
      row.access = entry.access;
      report_.attacks.push_back(std::move(row));
    }
    const std::int64_t n = images.shape().rank() > 0 ? images.shape()[0] : 0;
    require(n >= 1, "evaluate ", model.name(), ": no images, expected one or more");
    all_.images = images;
    all_.labels.assign(labels.begin(), labels.end());
    for (std::int64_t i = 0; i < n; ++i) {
      all_.ids.push_back(ids != nullptr ? ids[i] : static_cast<std::uint32_t>(i));
    }
  }

  Report run() {
    start();
    const bool resumed = !options_.state_file.empty() && io::is_file(options_.state_file);
    if (!options_.state_file.empty()) {
      identity_ = identify();
    }
    if (resumed) {
      load_state(options_.state_file, identity_, report_);
    }
    for (std::size_t a = 0; a < report_.attacks.size(); ++a) {
      run_attack(a);
    }
    count();
    if (options_.signs.measure && report_.signs.empty()) {
      measure_signs();
      save();
    }
    std::tie(report_.verdict, report_.reason) =
        give_verdict(report_.checks, report_.signs, std::min(options_.signs.images, report_.clean_correct), plan_.open);
    double before = 0;
    for (const auto& row : report_.attacks) {
      before += row.seconds;
    }
    report_.seconds = before - attacked_ + now() - begin_;
    return std::move(report_);
  }

 private:
  static attack::Suite suite_of(const Options& options) {
    attack::Suite suite = options.attacks;
    if (suite.entries.empty() || suite.name.empty()) {
      suite.name = suite.entries.empty() ? options.suite : "own";
    }
    return suite;
  }

  void check_options() const {
    const Options& o = options_;
    const std::string who = concat("evaluate ", model_.name());
    require(o.signs.images >= 1, who, ": signs on ", o.signs.images, " images, expected 1 or more");
    require(o.signs.steps >= 1, who, ": signs with ", o.signs.steps, " steps, expected 1 or more");
    require(o.judging_draws >= 1, who, ": ", o.judging_draws, " judging draws, expected 1 or more");
    require(o.confidence > 0 && o.confidence < 1, who, ": confidence ", o.confidence, ", expected 0 to 1");
    require(o.save_seconds >= 0, who, ": ", o.save_seconds, " seconds between saves, expected 0 or more");
  }

  /// Classifies the clean images and checks what the evaluation rests on.
  void start() {
    const std::int64_t n = all_.images.shape()[0];
    attack::PgdOptions one_step;
    one_step.steps = 1;
    const attack::Pgd nothing(report_.threat.with_epsilon(0), one_step);
    // Refuses shapes, labels, pixels and logits that no evaluation can be made of.
    const auto clean = attack::run(nothing, model_, all_.images, all_.labels,
                                   {.seed = options_.seed, .judging_draws = options_.judging_draws}, all_.ids.data());
    report_.total = n;
    report_.adversarial = all_.images;
    std::int64_t refused = 0;
    report_.images.resize(static_cast<std::size_t>(n));
    report_.matrix.assign(report_.attacks.size() * report_.images.size(), Outcome::not_tried);
    for (std::size_t i = 0; i < report_.images.size(); ++i) {
      ImageResult& image = report_.images[i];
      image.label = all_.labels[i];
      image.clean_prediction = image.prediction = clean.clean_prediction[i];
      image.clean_confidence = image.confidence = clean.clean_confidence[i];
      const bool right = image.clean_prediction == image.label && clean.clean_rejected[i] == 0;
      image.broken_by = right ? kStands : kMisclassified;
      report_.clean_correct += right ? 1 : 0;
      refused += clean.clean_rejected[i];
    }
    if (model_.declaration().rejects) {
      report_.notes.push_back(concat("refuses ", refused, " of ", n, " clean images, which count as wrong"));
    }
    for (const auto& entry : plan_.suite.entries) {  // before hours go by
      require(entry.attack != nullptr, "evaluate ", model_.name(), ": attack ", entry.name, " is null");
      const attack::Threat& t = entry.attack->threat();
      const attack::Threat& own = report_.threat;
      require(t.norm == own.norm && t.epsilon == own.epsilon && t.low == own.low && t.high == own.high, "evaluate ",
              model_.name(), ": attack ", entry.name, " is made for ", attack::norm_name(t.norm), " ", t.epsilon,
              " in [", t.low, ",", t.high, "], expected ", attack::norm_name(own.norm), " ", own.epsilon, " in [",
              own.low, ",", own.high, "]");
      require(!entry.attack->targeted(), "evaluate ", model_.name(), ": attack ", entry.name,
              " takes labels as targets, expected one that leaves the label");
      entry.attack->check(model_);
    }
    const Probe some = draw(false);
    report_.checks = {check_pixel_box(all_.images, report_.threat), check_evaluation_mode(model_, some),
                      check_batch_independence(model_, some, options_.seed),
                      check_epsilon_zero(model_, all_.images, clean)};
  }

  /// As many images as the signs take, of those that are classified correctly where `correct`. Which ones, and their
  /// order, is a function of the images' names and the seed, not of the order of the data set.
  Probe draw(bool correct) const {
    std::vector<std::pair<std::uint64_t, std::int64_t>> ranked;
    for (std::size_t i = 0; i < report_.images.size(); ++i) {
      if (!correct || report_.images[i].broken_by != kMisclassified) {
        const auto word = probe_sequence(options_.seed, all_.ids[i], kDrawQuestion).word();
        ranked.emplace_back(std::uint64_t{word} << 32 | all_.ids[i], static_cast<std::int64_t>(i));
      }
    }
    std::sort(ranked.begin(), ranked.end());
    std::vector<std::int64_t> index;
    for (const auto& [rank, i] : ranked) {
      if (static_cast<std::int64_t>(index.size()) < options_.signs.images) {
        index.push_back(i);
      }
    }
    return make_probe(all_.images, all_.labels, all_.ids, std::move(index));
  }

  Identity identify() const {
    Identity identity;
    identity.images = Hash()
                          .numbers(all_.images.span())
                          .numbers(std::span<const std::int32_t>(all_.labels))
                          .numbers(std::span<const std::uint32_t>(all_.ids))
                          .value();
    Hash model;
    hash_answers(model, model_, all_, options_.seed);
    identity.model = model.value();
    Hash attacks;
    const attack::Threat& t = report_.threat;
    attacks.number(static_cast<int>(t.norm)).number(t.epsilon).number(t.low).number(t.high);
    for (const auto& entry : plan_.suite.entries) {
      attacks.text(entry.name).text(entry.settings).number(entry.restarts).number(static_cast<int>(entry.access));
    }
    for (const auto& surrogate : options_.surrogates) {
      hash_answers(attacks, surrogate, all_, options_.seed);
    }
    const Options& o = options_;
    attacks.number(report_.draws).number(report_.judging_draws).number(o.seed).number(o.all_images);
    attacks.number(o.confidence).number(o.signs.measure).number(o.signs.images).number(o.signs.steps);
    attacks.number(o.settings.steps);
    identity.attacks = attacks.value();
    return identity;
  }

  void save() const {
    if (!options_.state_file.empty()) {
      save_state(options_.state_file, identity_, report_);
    }
  }

  void tell(std::string_view stage, std::int64_t done, std::int64_t total) const {
    if (options_.progress) {
      options_.progress(stage, done, total);
    }
  }

  /// Runs attack `a` on the images that it has still to be run on.
  void run_attack(std::size_t a) {
    const attack::SuiteEntry& entry = plan_.suite.entries[a];
    std::vector<std::int64_t> left;
    for (std::size_t i = 0; i < report_.images.size(); ++i) {
      const ImageResult& image = report_.images[i];
      const bool wanted = options_.all_images ? image.broken_by != kMisclassified : image.stands();
      if (wanted && report_.outcome(a, i) == Outcome::not_tried) {
        left.push_back(static_cast<std::int64_t>(i));
      }
    }
    if (left.empty()) {
      return;
    }
    const std::int64_t tries = (entry.attack->random() ? entry.restarts : 1) * entry.attack->attempts();
    const std::int64_t total = static_cast<std::int64_t>(left.size()) * tries;
    std::int64_t done = 0;
    std::mutex mutex;
    tell(entry.name, 0, total);
    const auto progress = [&](std::int64_t attempts) {
      const std::lock_guard lock(mutex);
      done += attempts;
      tell(entry.name, done, total);
    };
    // With a state to save the images go in parts, whose size changes no bit of the outcome.
    auto part = static_cast<std::int64_t>(left.size());
    if (!options_.state_file.empty()) {
      part = std::min(part, 32 * static_cast<std::int64_t>(thread_count()));
    }
    for (std::size_t begin = 0; begin < left.size();) {
      const std::size_t end = begin + std::min(left.size() - begin, static_cast<std::size_t>(part));
      const double start = now();
      attack_part(a,
                  {left.begin() + static_cast<std::ptrdiff_t>(begin), left.begin() + static_cast<std::ptrdiff_t>(end)},
                  progress);
      const double seconds = now() - start;
      report_.attacks[a].seconds += seconds;
      attacked_ += seconds;
      save();
      if (seconds < options_.save_seconds / 2) {
        part *= 2;
      } else if (seconds > options_.save_seconds * 2) {
        part = std::max<std::int64_t>(16, part / 2);
      }
      begin = end;
    }
  }

  void attack_part(std::size_t a, std::vector<std::int64_t> index, const std::function<void(std::int64_t)>& progress) {
    const attack::SuiteEntry& entry = plan_.suite.entries[a];
    AttackRow& row = report_.attacks[a];
    const Probe part = make_probe(all_.images, all_.labels, all_.ids, std::move(index));
    const auto result = attack::run(*entry.attack, model_, part.images, part.labels,
                                    {.restarts = entry.restarts,
                                     .seed = options_.seed,
                                     .judging_draws = options_.judging_draws,
                                     .progress = progress},
                                    part.ids.data());
    for (std::size_t k = 0; k < part.index.size(); ++k) {
      const auto i = static_cast<std::size_t>(part.index[k]);
      ImageResult& image = report_.images[i];
      const bool broken = result.success[k] != 0;
      report_.matrix[a * report_.images.size() + i] = broken ? Outcome::broken : Outcome::stood;
      row.tried += 1;
      row.forward += result.forward[k];
      row.backward += result.backward[k];
      row.broken += broken ? 1 : 0;
      image.forward += result.forward[k];
      image.backward += result.backward[k];
      if (broken && image.stands()) {
        row.first += 1;
        image.broken_by = static_cast<std::int32_t>(a);
        image.prediction = result.prediction[k];
        image.confidence = result.confidence[k];
        image.distance = result.distance[k];
        image.attempt = result.attempt[k];
        const auto from = result.adversarial.row(static_cast<std::int64_t>(k));
        std::copy(from.begin(), from.end(), report_.adversarial.row(part.index[k]).begin());
      }
    }
  }

  /// Sums and intervals of what the attacks did.
  void count() {
    Report& r = report_;
    std::int64_t standing = r.clean_correct;
    for (auto& row : r.attacks) {
      standing -= row.first;
      row.standing = standing;
      row.interval = clopper_pearson(standing, r.total, r.confidence);
      r.forward_passes += row.forward;
      r.backward_passes += row.backward;
    }
    r.robust_correct = standing;
    r.clean_interval = clopper_pearson(r.clean_correct, r.total, r.confidence);
    r.robust_interval = clopper_pearson(r.robust_correct, r.total, r.confidence);
  }

  void measure_signs() {
    const Probe probe = draw(true);
    const SignContext context{.model = model_,
                              .probe = probe,
                              .threat = report_.threat,
                              .loss = plan_.loss,
                              .seed = options_.seed,
                              .judging_draws = options_.judging_draws,
                              .confidence = options_.confidence,
                              .steps = options_.signs.steps};
    // On plain cross-entropy whatever the classifier declares: where that underflows, gradients are masked, even though
    // attacks made for it see more.
    const attack::Loss plain = [](Var<float> z, const std::int32_t* labels) { return cross_entropy(z, labels); };
    std::vector<Sign> signs;
    const auto add = [&](auto&& more) {
      signs.insert(signs.end(), more.begin(), more.end());
      tell("signs", static_cast<std::int64_t>(signs.size()), kSigns);
    };
    tell("signs", 0, kSigns);
    add(std::vector{zero_gradients(model_, probe, report_.threat, plain, options_.seed, options_.confidence)});
    if (model_.declaration().differentiable) {
      add(finite_differences(model_, probe, report_.threat, options_.seed, options_.confidence));
    } else {
      const char* why = "declared: the backward pass is a substitute, which attacks without gradients have to confirm";
      add(std::vector{no_sign("finite differences in random directions", why),
                      no_sign("finite differences along the gradient", why)});
    }
    add(std::vector{model_.declaration().random ? gradient_variance(model_, probe, plan_.loss, options_.seed)
                                                : no_sign("variance of the gradient", "the classifier is not random")});
    std::vector<std::uint8_t> standing;
    std::vector<float> found;
    for (const std::int64_t i : probe.index) {
      const ImageResult& image = report_.images[static_cast<std::size_t>(i)];
      standing.push_back(image.stands() ? 1 : 0);
      found.push_back(image.stands() ? std::numeric_limits<float>::infinity() : image.distance);
    }
    add(order_signs(context, *plan_.apgd, found, report_.curve));
    add(std::vector{unbounded_sign(context)});
    add(std::vector{steps_sign(context, standing, *plan_.longer)});
    add(std::vector{overtaken_sign(report_, attack::Access::outputs),
                    overtaken_sign(report_, attack::Access::transfer)});
    report_.signs = std::move(signs);
  }

  static constexpr std::uint32_t kDrawQuestion = 1000;  ///< apart from those of the signs
  static constexpr std::int64_t kSigns = 12;

  const Options& options_;
  Plan plan_;
  attack::Classifier model_;
  Probe all_;
  Report report_;
  Identity identity_;
  double begin_ = now();
  double attacked_ = 0;  ///< seconds of this run spent in attacks
};

}  // namespace detail

/// The robust accuracy of a classifier (a model, or anything that gives logits) on images (N,C,H,W) with their labels:
/// the share that is classified correctly and that no attack, with none of its restarts and targets, breaks within
/// `threat`. Of a classifier that refuses inputs, an image counts as correct where it is classified correctly and not
/// refused, and as broken where it is made to be misclassified and not refused. An image counts as broken where
/// attack::run, which judges the attacks' images by their pixels, says so.
///
/// It first checks itself (evaluation mode, independence of the batch, epsilon 0, the pixel box), then runs the attacks
/// that `adapt` derives from `options` and from what the classifier declares, each on the images that stand, then
/// measures the signs of gradients that mislead and gives the verdict.
///
/// `ids`: index of each image in its data set, which keys its random numbers (null: 0, 1, 2, ...). With them the report
/// is the same bits (`seconds` apart) for any number of threads and any instruction set, and what it says of an
/// image and
/// of all together does not depend on their order. With a state file a run that was killed ends with the same bits.
///
/// Throws ValueError or ShapeError for images, labels, options or a classifier that cannot be evaluated (pixels outside
/// the box, logits that are not finite numbers) and for a state file of another evaluation; IoError for a damaged one.
inline Report robustness(const attack::Classifier& model, const Tensor<float>& images,
                         std::span<const std::int32_t> labels, const attack::Threat& threat,
                         const Options& options = {}, const std::uint32_t* ids = nullptr) {
  return detail::Evaluation(model, images, labels, ids, threat, options).run();
}

/// The same of a data set.
inline Report robustness(const attack::Classifier& model, const data::Dataset& set, const attack::Threat& threat,
                         const Options& options = {}) {
  return robustness(model, attack::to_tensor(set), set.labels(), threat, options, attack::source_ids(set).data());
}

}  // namespace pavise::evaluate

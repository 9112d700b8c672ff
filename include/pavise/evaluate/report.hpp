// SPDX-License-Identifier: MIT
// What an evaluation finds, and how it reads as text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pavise/attack/suite.hpp"
#include "pavise/attack/threat.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/evaluate/interval.hpp"

namespace pavise::evaluate {

/// What became of one image under one attack. Values are part of the file format.
enum class Outcome : std::uint8_t { not_tried = 0, stood = 1, broken = 2 };

/// ImageResult::broken_by of an image that no attack broke, and of one that is classified wrongly, or refused,
/// without any.
inline constexpr std::int32_t kStands = -1;
inline constexpr std::int32_t kMisclassified = -2;

/// One image under all attacks.
struct ImageResult {
  std::int32_t label = 0;
  std::int32_t clean_prediction = 0;
  float clean_confidence = 0;        ///< softmax probability of the prediction
  std::int32_t broken_by = kStands;  ///< index in Report::attacks, or kStands, or kMisclassified
  std::int32_t prediction = 0;       ///< of the image that broke it, else of the clean one
  float confidence = 0;
  float distance = 0;         ///< of the image that broke it, in the threat's norm; 0 where there is none
  std::int32_t attempt = -1;  ///< the attack's attempt that broke it
  std::int64_t forward = 0;   ///< passes of all attacks
  std::int64_t backward = 0;

  bool stands() const { return broken_by == kStands; }
};

/// One attack of the evaluation.
struct AttackRow {
  std::string name;
  std::string settings;  ///< "100 steps, 9 targets"
  attack::Access access = attack::Access::gradients;
  std::int64_t tried = 0;     ///< images that it was run on
  std::int64_t broken = 0;    ///< of these
  std::int64_t first = 0;     ///< images that it broke and no attack before it
  std::int64_t standing = 0;  ///< images that stand after it and all attacks before it
  Interval interval;          ///< of standing / total
  std::int64_t forward = 0;
  std::int64_t backward = 0;
  double seconds = 0;
};

/// A check that the evaluation makes of itself before it starts.
struct Check {
  std::string name;
  bool passed = false;
  std::string detail;  ///< what was seen, in a sentence
};

/// How a sign came out. `unclear`: too few images to tell; `not_applicable`: says nothing about this defence.
enum class SignState : std::uint8_t { passed = 0, failed = 1, unclear = 2, not_applicable = 3 };

/// One sign of gradients that mislead the attacks, or of attacks that are too weak.
struct Sign {
  std::string name;
  double value = 0;
  Interval interval;  ///< exact, where the value is a share of images; else the value itself
  double threshold = 0;
  bool at_most = true;      ///< whether the value passes up to the threshold, or from it
  std::int64_t images = 0;  ///< that the value was measured on
  SignState state = SignState::not_applicable;
  std::string sentence;  ///< what was measured, and what it means
};

/// Whether the robust accuracy can be relied on.
enum class Verdict : std::uint8_t { reliable = 0, unreliable = 1, undecided = 2 };

/// What stands at another radius, of the images that the signs are measured on: against PGD at that radius, and all
/// adversarial images found within it. The attacks of the suite ran at the threat's own radius alone, so that at the
/// others a full evaluation may find more.
struct CurvePoint {
  double epsilon = 0;
  std::int64_t correct = 0;
  std::int64_t total = 0;
  double loss = 0;  ///< mean cross-entropy of PGD's images
};

inline std::string_view name_of(SignState s) {
  constexpr std::string_view kNames[] = {"passed", "failed", "unclear", "not applicable"};
  return kNames[static_cast<std::size_t>(s)];
}
inline std::string_view name_of(Verdict v) {
  constexpr std::string_view kNames[] = {"reliable", "unreliable", "undecided"};
  return kNames[static_cast<std::size_t>(v)];
}

/// The result of an evaluation. Everything but `seconds` is a function of model, images, threat, options and seed.
struct Report {
  std::string model;
  std::string suite;  ///< "auto"
  attack::Threat threat;
  std::uint64_t seed = 0;
  double confidence = 0.95;  ///< of all intervals
  std::int64_t draws = 1;    ///< of a random classifier, averaged in each query of an attack
  std::int64_t judging_draws = 1;

  std::int64_t total = 0;
  std::int64_t clean_correct = 0;
  std::int64_t robust_correct = 0;  ///< stand against all attacks and restarts
  Interval clean_interval;
  Interval robust_interval;

  std::vector<AttackRow> attacks;
  std::vector<ImageResult> images;
  std::vector<Outcome> matrix;  ///< [attack][image]
  Tensor<float> adversarial;    ///< (N,C,H,W): what broke each image, or the clean one

  Verdict verdict = Verdict::undecided;
  std::string reason;  ///< of the verdict, in a sentence or two
  std::vector<Check> checks;
  std::vector<Sign> signs;
  std::vector<CurvePoint> curve;    ///< by ascending radius
  std::vector<std::string> notes;   ///< how the attacks were adapted to what the defence declares
  std::int64_t forward_passes = 0;  ///< of the attacks
  std::int64_t backward_passes = 0;
  double seconds = 0;

  double clean_accuracy() const { return total == 0 ? 0.0 : static_cast<double>(clean_correct) / total_as_number(); }
  double robust_accuracy() const { return total == 0 ? 0.0 : static_cast<double>(robust_correct) / total_as_number(); }
  Outcome outcome(std::size_t attack, std::size_t image) const { return matrix[attack * images.size() + image]; }

  /// The report as text: accuracies with intervals, a table of the attacks, the verdict with its evidence.
  std::string summary() const;

 private:
  double total_as_number() const { return static_cast<double>(total); }
};

namespace detail {

/// "82.90 %"
inline std::string percent(double share) {
  const double hundredths = share * 1e4;
  auto whole = static_cast<std::int64_t>(hundredths < 0 ? hundredths - 0.5 : hundredths + 0.5);
  std::string text = whole < 0 ? "-" : "";
  whole = whole < 0 ? -whole : whole;
  const std::int64_t fraction = whole % 100;
  return text + std::to_string(whole / 100) + "." + (fraction < 10 ? "0" : "") + std::to_string(fraction) + " %";
}

/// A number with at most four digits behind the point.
inline std::string short_number(double value) {
  const double rounded = static_cast<double>(static_cast<std::int64_t>(value * 1e4 + (value < 0 ? -0.5 : 0.5))) / 1e4;
  return concat(value > 1e14 || value < -1e14 ? value : rounded);
}

inline std::string padded(std::string text, std::size_t width, bool right = false) {
  if (text.size() < width) {
    text.insert(right ? 0 : text.size(), width - text.size(), ' ');
  }
  return text;
}

}  // namespace detail

inline std::string Report::summary() const {
  using detail::padded;
  using detail::percent;
  std::string out = concat(model, " under ", attack::norm_name(threat.norm), " ", threat.epsilon, ", ", total,
                           " images, suite ", suite, ", seed ", seed, "\n");
  const auto line = [&](std::string_view name, std::int64_t k, const Interval& i) {
    out +=
        concat("  ", padded(std::string(name), 17),
               percent(total == 0 ? 0 : static_cast<double>(k) / total_as_number()), "  (", k, " of ", total, "; ",
               detail::short_number(100 * confidence), " % interval ", percent(i.low), " to ", percent(i.high), ")\n");
  };
  line("clean accuracy", clean_correct, clean_interval);
  line("robust accuracy", robust_correct, robust_interval);
  for (const auto& note : notes) {
    out += "  note: " + note + "\n";
  }
  out += "\n  attack              tried  broke  standing  accuracy   forward/image  backward/image  seconds\n";
  for (const auto& row : attacks) {
    const double n = row.tried == 0 ? 1.0 : static_cast<double>(row.tried);
    out += concat(
        "  ", padded(row.name, 18), padded(std::to_string(row.tried), 7, true),
        padded(std::to_string(row.broken), 7, true), padded(std::to_string(row.standing), 10, true),
        padded(percent(total == 0 ? 0 : static_cast<double>(row.standing) / total_as_number()), 10, true),
        padded(detail::short_number(static_cast<double>(row.forward) / n), 16, true),
        padded(detail::short_number(static_cast<double>(row.backward) / n), 16, true),
        padded(concat(static_cast<double>(static_cast<std::int64_t>(row.seconds * 100 + 0.5)) / 100), 9, true), "\n");
  }
  out += "\n  before it started\n";
  for (const auto& check : checks) {
    out += concat("  ", padded(check.passed ? "passed" : "FAILED", 15), check.name, ": ", check.detail, "\n");
  }
  if (!signs.empty()) {
    out += "\n  signs\n";
  }
  for (const auto& sign : signs) {
    out += concat("  ", padded(sign.state == SignState::failed ? "FAILED" : std::string(name_of(sign.state)), 15),
                  sign.name);
    if (sign.state != SignState::not_applicable) {
      out +=
          concat(" ", detail::short_number(sign.value), ", ", sign.at_most ? "at most " : "at least ", sign.threshold);
    }
    out += concat(": ", sign.sentence, "\n");
  }
  out += concat("\n  verdict: ", name_of(verdict), ". ", reason, "\n");
  return out;
}

}  // namespace pavise::evaluate

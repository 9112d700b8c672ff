// SPDX-License-Identifier: MIT
// Randomized smoothing as statistics: which votes are counted, when they suffice, and what they prove. Knows nothing of
// networks: a certificate is checked, and the procedure simulated, by the same code that certifies.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/certify/bounds.hpp"
#include "pavise/certify/noise.hpp"
#include "pavise/core/error.hpp"

namespace pavise::certify {

enum class Method {
  fixed,       ///< CERTIFY of Cohen et al. 2019: n samples, Clopper and Pearson's bound
  sequential,  ///< looks as it goes, and stops when the radii asked for are certified or out of reach
};

inline std::string_view method_name(Method m) { return m == Method::fixed ? "fixed" : "sequential"; }
inline Method parse_method(std::string_view name) {
  require(name == "fixed" || name == "sequential", "unknown method '", name, "', expected fixed or sequential");
  return name == "fixed" ? Method::fixed : Method::sequential;
}

struct Options {
  Noise noise = {};
  Method method = Method::sequential;
  std::int64_t n0 = 100;     ///< samples that choose the class, and are thrown away
  std::int64_t n = 100'000;  ///< samples for the bound; of the sequential method at most so many
  double alpha = 0.001;      ///< a certificate is false with at most this probability
  /// Of the sequential method: the radii that matter, increasing; it stops when the largest is certified, or the next one
  /// out of reach. None: as large a radius as n samples give, and it stops on images that it will abstain from.
  std::vector<double> radii = {};
  double reserve = 0.1;   ///< the share of alpha for Clopper and Pearson's bound after n samples
  double give_up = 0.01;  ///< about the probability of giving up on a radius in vain; it has no part in the guarantee
  std::uint64_t seed = 0;
};

/// Why an image's sampling ended.
enum class Stop { samples, certified, hopeless };

inline std::string_view stop_name(Stop s) {
  return s == Stop::samples ? "samples" : s == Stop::certified ? "certified" : "hopeless";
}

/// What an image's votes prove.
struct Result {
  std::int32_t chosen = 0;              ///< the class that the first n0 samples chose
  std::vector<std::int64_t> selection;  ///< their votes, one number a class; a vote that is NaN is nobody's
  std::vector<std::int64_t> votes;      ///< of the samples of the bound
  std::int64_t n = 0;                   ///< their number
  Stop stop = Stop::samples;
  double p_lower = 0;  ///< lower bound of the chosen class's probability
  double radius = 0;   ///< within which the smoothed classifier answers the chosen class; 0 where it abstains

  bool abstains() const { return !(p_lower > 0.5); }
  bool operator==(const Result&) const = default;
};

/// Options that were found possible, and what follows from them: how alpha is split, the probabilities that the radii
/// need. The three parts of alpha add up to no more than it.
class Plan {
 public:
  static constexpr std::int64_t kLook = 16;  ///< the sequential method looks after every so many samples

  /// `elements` of an image, each drawn with a distribution that may be wrong by `defect`. Throws ValueError for options
  /// that are out of range, or with which nothing can ever be certified: the message says which n would do.
  Plan(Options options, std::int64_t elements, double defect)
      : options_(std::move(options)), elements_(elements), defect_(defect) {
    const Options& o = options_;
    o.noise.check();
    require(std::isfinite(o.alpha) && o.alpha > 0 && o.alpha < 1, "certify: alpha ", o.alpha,
            ", expected between 0 and 1");
    require(o.n0 >= 1, "certify: n0 ", o.n0, ", expected 1 or more");
    require(o.n >= 1 && o.n <= (std::int64_t{1} << 31) && o.n0 <= (std::int64_t{1} << 31), "certify: n ", o.n, ", n0 ",
            o.n0, ", expected 1 to 2^31");
    require(o.reserve > 0 && o.reserve <= 1, "certify: reserve ", o.reserve, ", expected above 0 and at most 1");
    require(o.give_up >= 0 && o.give_up < 1, "certify: give_up ", o.give_up, ", expected 0 to 1");
    require(o.method == Method::sequential || o.radii.empty(),
            "certify: radii are for the sequential method; the fixed one always gives the largest");
    for (std::size_t i = 0; i < o.radii.size(); ++i) {
      require(std::isfinite(o.radii[i]) && o.radii[i] > (i > 0 ? o.radii[i - 1] : 0), "certify: radius ", o.radii[i],
              ", expected increasing radii above 0");
      targets_.push_back(o.noise.probability(o.radii[i]));
    }
    alpha_ = split(o.n);
    require(alpha_.cap > 0, "certify: alpha ", o.alpha, " is less than what the noise of ", o.n, " samples may be off");
    const double needed = targets_.empty() ? next_above(0.5) : targets_.back();
    if (!reaches(o.n, needed)) {
      refuse(needed);
    }
  }

  const Options& options() const { return options_; }
  double alpha_noise() const { return alpha_.noise; }        ///< what the noise may be off, in all samples together
  double alpha_sequence() const { return alpha_.sequence; }  ///< for the looks on the way; 0 of the fixed method
  double alpha_cap() const { return alpha_.cap; }            ///< for Clopper and Pearson's bound after n samples
  const std::vector<double>& targets() const { return targets_; }

  /// The lower bound that `k` votes of m samples prove: the confidence sequence's, and after n samples Clopper and
  /// Pearson's where that is larger.
  double bound(std::int64_t k, std::int64_t m) const {
    double p = m == options_.n ? clopper_pearson_below(k, m, alpha_.cap) : 0;
    if (alpha_.sequence > 0) {
      p = std::max(p, confidence_sequence_below(k, m, alpha_.sequence));
      for (const double target : targets_) {
        if (target < 1 && target > p && rules_out_below(k, m, target, alpha_.sequence)) {
          p = target;
        }
      }
    }
    return p;
  }

  /// The radius that a lower bound proves: at least the largest of the radii asked for whose probability it reaches.
  double radius(double p) const {
    double r = options_.noise.radius(p);
    for (std::size_t i = 0; i < targets_.size() && targets_[i] <= p; ++i) {
      r = std::max(r, options_.radii[i]);
    }
    return r;
  }

  /// Whether sampling ends with k votes of m samples, m a multiple of kLook or n, and why. What an earlier look proved
  /// plays no part, so that the votes in a certificate are all its evidence.
  bool ends(std::int64_t k, std::int64_t m, Stop& why) const {
    if (options_.method == Method::sequential) {
      std::size_t next = 0;
      while (next < targets_.size() && rules_out_below(k, m, targets_[next], alpha_.sequence)) {
        ++next;
      }
      if (!targets_.empty() && next == targets_.size()) {
        why = Stop::certified;
        return true;
      }
      if (rules_out_above(k, m, next < targets_.size() ? targets_[next] : 0.5, options_.give_up)) {
        why = Stop::hopeless;
        return true;
      }
    }
    why = Stop::samples;
    return m >= options_.n;
  }

 private:
  struct Split {
    double noise, sequence, cap;
  };
  Split split(std::int64_t n) const {
    const double noise =
        defect_ > 0 ? next_above(next_above(defect_ * static_cast<double>(elements_)) * static_cast<double>(n)) : 0;
    const double usable = std::max(0.0, noise > 0 ? next_below(options_.alpha - noise) : options_.alpha);
    if (options_.method == Method::fixed) {
      return {noise, 0, usable};
    }
    const double cap = options_.reserve < 1 ? next_below(usable * options_.reserve) : usable;
    return {noise, options_.reserve < 1 ? next_below(usable - cap) : 0, std::max(0.0, cap)};
  }
  /// Whether n votes of n samples prove a probability.
  bool reaches(std::int64_t n, double p) const {
    const Split alpha = split(n);
    return p < 1 && (clopper_pearson_below(n, n, alpha.cap) >= p ||
                     (alpha.sequence > 0 && rules_out_below(n, n, p, alpha.sequence)));
  }
  [[noreturn]] void refuse(double needed) const {
    std::int64_t high = 1;
    while (high < (std::int64_t{1} << 31) && !reaches(high, needed)) {
      high *= 2;
    }
    std::int64_t low = high / 2;
    while (high - low > 1) {
      const std::int64_t middle = low + (high - low) / 2;
      (reaches(middle, needed) ? high : low) = middle;
    }
    const std::string what = options_.radii.empty() ? "anything" : concat("the radius ", options_.radii.back());
    const std::string remedy =
        reaches(high, needed) ? concat("it takes n = ", high) : std::string("nor can any other n");
    throw ValueError(concat("certify: ", options_.n, " samples can never certify ", what, " at alpha ", options_.alpha,
                            ", whatever the votes; ", remedy));
  }

  Options options_;
  std::int64_t elements_;
  double defect_;
  Split alpha_{};
  std::vector<double> targets_;
};

/// The votes of one image, in the order of its samples: first n0 for the choice, then those of the bound.
class CertifyVotes {
 public:
  CertifyVotes(const Plan& plan, std::int32_t classes) : plan_(&plan) {
    result_.selection.resize(static_cast<std::size_t>(classes));
    result_.votes.resize(static_cast<std::size_t>(classes));
  }

  bool done() const { return done_; }
  std::int64_t taken() const { return taken_; }
  /// Samples that it takes at most.
  std::int64_t most() const { return plan_->options().n0 + plan_->options().n; }
  /// Of sample i of those: the stage that its random numbers belong to, and its number there.
  std::pair<std::uint32_t, std::uint32_t> key(std::int64_t i) const {
    const std::int64_t n0 = plan_->options().n0;
    return i < n0 ? std::pair(0u, static_cast<std::uint32_t>(i)) : std::pair(1u, static_cast<std::uint32_t>(i - n0));
  }

  /// The next sample's class; -1 for a NaN.
  void vote(std::int32_t k) {
    const std::int64_t n0 = plan_->options().n0;
    if (taken_++ < n0) {
      add(result_.selection, k);
      if (taken_ == n0) {  // the lowest class of equals
        result_.chosen = static_cast<std::int32_t>(
            std::max_element(result_.selection.begin(), result_.selection.end()) - result_.selection.begin());
      }
      return;
    }
    ++result_.n;
    add(result_.votes, k);
    if (result_.n % Plan::kLook == 0 || result_.n == plan_->options().n) {
      const std::int64_t won = result_.votes[static_cast<std::size_t>(result_.chosen)];
      done_ = plan_->ends(won, result_.n, result_.stop);
    }
  }

  /// What they prove, at the end.
  Result result() const {
    Result out = result_;
    out.p_lower = plan_->bound(out.votes[static_cast<std::size_t>(out.chosen)], out.n);
    out.radius = plan_->radius(out.p_lower);
    return out;
  }

 private:
  static void add(std::vector<std::int64_t>& votes, std::int32_t k) {
    if (k >= 0) {
      ++votes[static_cast<std::size_t>(k)];
    }
  }

  const Plan* plan_;
  Result result_;
  std::int64_t taken_ = 0;
  bool done_ = false;
};

}  // namespace pavise::certify

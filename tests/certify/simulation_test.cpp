// SPDX-License-Identifier: MIT
// Simulated certifications at known probabilities: the share that are false is at most alpha, by an exact binomial test.
// A certification depends on its votes alone, so that 100,000 of them are 100,000 sums of coin tosses against the same
// bounds that certify; for the sequential method the looks become thresholds for the count, one for each.
#include <doctest/doctest.h>

#include <bit>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "pavise/certify/stopping.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/evaluate/interval.hpp"

namespace {

namespace pc = pavise::certify;

constexpr std::int64_t kRuns = 100'000;

/// The exact test of "the rate is at most alpha": whether so many events are less likely than 1 in 10,000 if it is.
bool refuted(std::int64_t events, double alpha) {
  return events > 0 && pavise::evaluate::incomplete_beta(static_cast<double>(events),
                                                         static_cast<double>(kRuns - events + 1), alpha) < 1e-4;
}

pc::Plan plan_of(pc::Options options) { return {std::move(options), 784, 1e-26}; }

TEST_CASE("simulated certifications: with a fixed number of samples at most alpha are false") {
  for (const double alpha : {0.05, 0.001}) {
    const pc::Plan plan =
        plan_of({.noise = {pc::NoiseKind::gaussian, 0.5}, .method = pc::Method::fixed, .n = 1000, .alpha = alpha});
    for (const double p : {0.45, 0.6, 0.9, 0.99, 0.9995}) {
      INFO("alpha ", alpha, ", p ", p);
      std::mt19937_64 random(17);
      std::binomial_distribution<std::int64_t> votes(1000, p);
      std::map<std::int64_t, bool> is_false;  // the radius claimed is beyond the true one
      std::int64_t events = 0;
      for (std::int64_t i = 0; i < kRuns; ++i) {
        const std::int64_t k = votes(random);
        auto found = is_false.find(k);
        if (found == is_false.end()) {
          const double bound = plan.bound(k, 1000);
          found = is_false.emplace(k, bound > p && bound > 0.5).first;
        }
        events += found->second ? 1 : 0;
      }
      CHECK_FALSE(refuted(events, alpha));
      if (alpha == 0.05 && p == 0.9) {
        CHECK(events > kRuns / 50);  // and the bound is not far too careful
      }
    }
  }
}

/// Coin tosses of probability p, 64 at a time: a digit of p after the other decides the tosses that are still open.
class Coins {
 public:
  Coins(double p, std::uint64_t seed) : digits_(static_cast<std::uint32_t>(p * 0x1p32)), random_(seed) {}
  double probability() const { return digits_ * 0x1p-32; }
  /// Heads of 16 tosses.
  int sixteen() {
    if (left_ == 0) {
      std::uint64_t open = ~std::uint64_t{0};
      word_ = 0;
      for (int digit = 31; digit >= 0 && open != 0; --digit) {
        const std::uint64_t bits = random_();
        const bool one = digits_ >> digit & 1;
        word_ |= one ? open & ~bits : 0;  // below p
        open &= one ? bits : ~bits;
      }
      left_ = 4;
    }
    const int heads = std::popcount(word_ & 0xFFFF);
    word_ >>= 16;
    --left_;
    return heads;
  }

 private:
  std::uint32_t digits_;
  std::mt19937_64 random_;
  std::uint64_t word_ = 0;
  int left_ = 0;
};

TEST_CASE("simulated certifications: stopping at will, at most alpha are false") {
  // The worst case: the probability is just what the radius needs not to have, and nobody gives up.
  for (const double alpha : {0.05, 0.001}) {
    for (const double radius : {0.1, 0.6}) {
      INFO("alpha ", alpha, ", radius ", radius);
      const std::int64_t n = 1600;
      const pc::Plan plan =
          plan_of({.noise = {pc::NoiseKind::gaussian, 0.5}, .n = n, .alpha = alpha, .radii = {radius}, .give_up = 0});
      const double target = plan.targets().front();
      Coins coins(target, 23);
      REQUIRE(coins.probability() < target);
      // By the looks: the count from which the radius is certified, found by bisection.
      std::vector<std::int64_t> enough;
      for (std::int64_t m = 16; m <= n; m += 16) {
        std::int64_t low = 0;
        std::int64_t high = m + 1;
        while (high - low > 1) {
          const std::int64_t k = low + (high - low) / 2;
          pc::Stop why{};
          const bool proved = m < n ? plan.ends(k, m, why) && why == pc::Stop::certified : plan.bound(k, m) >= target;
          (proved ? high : low) = k;
        }
        enough.push_back(high);
      }
      std::int64_t events = 0;
      std::int64_t before_the_end = 0;
      for (std::int64_t run = 0; run < kRuns; ++run) {
        std::int64_t k = 0;
        for (std::size_t look = 0; look < enough.size(); ++look) {
          k += coins.sixteen();
          if (k >= enough[look]) {
            ++events;
            before_the_end += look + 1 < enough.size() ? 1 : 0;
            break;
          }
        }
      }
      CHECK_FALSE(refuted(events, alpha));
      if (alpha == 0.05) {
        CHECK(events > kRuns / 500);  // it happens: the test can fail
        CHECK(before_the_end > 0);
      }
    }
  }
}

TEST_CASE("simulated certifications: a bound that looks as often but spends alpha each time is refuted") {
  // What the confidence sequence guards against: Clopper and Pearson's bound read at every look.
  const double p = 0.9;
  Coins coins(p, 5);
  std::vector<std::int64_t> enough;
  for (std::int64_t m = 16; m <= 800; m += 16) {
    std::int64_t k = 0;
    while (k <= m && pc::clopper_pearson_below(k, m, 0.05) < p) {
      ++k;
    }
    enough.push_back(k);
  }
  std::int64_t events = 0;
  for (std::int64_t run = 0; run < kRuns; ++run) {
    std::int64_t k = 0;
    for (const std::int64_t needed : enough) {
      k += coins.sixteen();
      if (k >= needed) {
        ++events;
        break;
      }
    }
  }
  CHECK(refuted(events, 0.05));
}

TEST_CASE("votes: the order of samples, and what is counted") {
  const pc::Plan plan = plan_of({.noise = {pc::NoiseKind::gaussian, 0.5}, .n0 = 3, .n = 1000, .radii = {0.25}});
  pc::CertifyVotes votes(plan, 3);
  CHECK(votes.most() == 1003);
  CHECK(votes.key(2) == std::pair(0u, 2u));
  CHECK(votes.key(3) == std::pair(1u, 0u));
  for (const int k : {2, -1, 2}) {
    votes.vote(k);
  }
  std::int64_t n = 0;
  for (; !votes.done(); ++n) {
    votes.vote(n % 50 == 0 ? -1 : 2);
  }
  const pc::Result r = votes.result();
  CHECK(r.chosen == 2);
  CHECK(r.selection == std::vector<std::int64_t>{0, 0, 2});
  CHECK(r.n == n);
  CHECK(n % 16 == 0);
  CHECK(r.votes[2] < n);
  CHECK(r.stop == pc::Stop::certified);
  CHECK(r.radius >= 0.25);
  pc::CertifyVotes tie(plan, 3);
  for (const int k : {2, 1, -1}) {
    tie.vote(k);
  }
  while (!tie.done()) {
    tie.vote(0);
  }
  CHECK(tie.result().chosen == 1);
  CHECK(tie.result().stop == pc::Stop::hopeless);
  CHECK(tie.result().abstains());
}

}  // namespace

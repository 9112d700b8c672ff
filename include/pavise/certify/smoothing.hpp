// SPDX-License-Identifier: MIT
// Randomized smoothing of a classifier: CERTIFY and PREDICT (Cohen, Rosenfeld and Kolter, "Certified adversarial
// robustness via randomized smoothing", ICML 2019, section 3.2). The smoothed classifier answers the class that the base
// classifier gives to the image plus noise most often.
//
// A thread takes one group after another through the network: sixteen samples, the noise drawn straight into it. As soon
// as an image has all it needs, samples of the next one fill the lanes. Which noise a sample gets depends on nothing but
// (seed, image, sample), and an image's samples are counted in order, so that no result depends on threads, lanes, or
// the instruction set.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "pavise/attack/classifier.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/certify/stopping.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/data/dataset.hpp"

namespace pavise::certify {

/// Draws images with noise.
class Sampler {
 public:
  /// Throws ValueError for a scale that is not positive, or too large.
  explicit Sampler(Noise noise) : noise_(noise) {
    noise.check();
    if (noise.kind != NoiseKind::gaussian_unsound) {
      grid_.emplace(noise);
    }
  }
  const Noise& noise() const { return noise_; }
  const std::optional<GridNoise>& grid() const { return grid_; }
  /// By how much the distribution of one element may be off, in total variation.
  double defect() const { return grid_ ? grid_->defect() : 0; }

  /// out (n)[lanes] = pixels (n)[lanes], in units of 1/255, with noise.
  void draw(const std::int32_t* pixels, float* out, std::int64_t n, int lanes, const kernels::SampleKeys& keys) const {
    kernels::run([&](auto isa) {
      if (grid_) {
        grid_noise(isa, pixels, out, n, lanes, grid_->least(), grid_->most(), grid_->table(), keys);
      } else {
        float_noise(isa, pixels, out, n, lanes, static_cast<float>(noise_.scale), keys);
      }
    });
  }

 private:
  Noise noise_;
  std::optional<GridNoise> grid_;
};

/// The pixels of images (N,C,H,W) of floats as bytes, for certification: they must be k/255 as floats, k from 0 to 255.
/// Throws ValueError, naming image and pixel, where they are not: noise on the grid would not be that of the theorem.
inline std::vector<std::uint8_t> on_grid(const Tensor<float>& images) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(images.size()));
  const std::int64_t size = images.size() > 0 ? images.size() / images.shape()[0] : 1;
  for (std::int64_t i = 0; i < images.size(); ++i) {
    const float k = std::nearbyint(images[i] * 255.0f);
    require(k >= 0 && k <= 255 && k / 255.0f == images[i], "certify: pixel ", i % size, " of image ", i / size, " is ",
            images[i], ", which is not on the grid 0, 1/255, ..., 1");
    out[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(k);
  }
  return out;
}

/// Noisy samples side by side, each of some image, and the classes that the base classifier gives them.
class SampleBatch {
 public:
  SampleBatch() = default;
  SampleBatch(const SampleBatch&) = delete;
  SampleBatch& operator=(const SampleBatch&) = delete;
  virtual ~SampleBatch() = default;

  virtual std::int64_t capacity() const = 0;  ///< samples
  /// Of which so many may be of one image: images that are done early then waste few.
  virtual std::int64_t share() const { return capacity(); }
  virtual std::int64_t filled() const = 0;
  virtual void clear() = 0;
  /// Adds a sample of the image at `position`: `image` are its pixels in units of 1/255, `id` names it, and `key` is the
  /// stage and the number of the sample (SampleKeys).
  virtual void add(std::int64_t position, const std::uint8_t* image, std::uint32_t id,
                   std::pair<std::uint32_t, std::uint32_t> key) = 0;
  /// The class of each sample: the largest logit, the lowest class of equals; -1 where a logit is NaN.
  virtual std::span<const std::int32_t> classify() = 0;
};

/// Where samples go through the network: how many threads fill batches, and what makes a thread's batch. Without it
/// every thread of the CPU has its group of sixteen.
struct SampleEngine {
  std::int64_t threads = 0;
  std::function<std::unique_ptr<SampleBatch>(std::uint64_t seed)> make = {};
};

namespace detail {

/// One group of samples, each lane of some image.
class SampleGroup : public SampleBatch {
 public:
  static constexpr int kLanes = kernels::kLanes;

  SampleGroup(const attack::Classifier& base, const Sampler& sampler, std::uint64_t seed)
      : base_(base), sampler_(sampler), seed_(seed), size_(base.input_shape().numel()) {
    pixels_.resize(static_cast<std::size_t>(size_ * kLanes));
    noisy_.resize(pixels_.size());
    held_.fill(-1);
  }

  std::int64_t capacity() const override { return kLanes; }
  std::int64_t filled() const override { return filled_; }
  void clear() override { filled_ = 0; }
  void add(std::int64_t position, const std::uint8_t* image, std::uint32_t id,
           std::pair<std::uint32_t, std::uint32_t> key) override {
    const auto lane = static_cast<std::size_t>(filled_++);
    if (held_[lane] != position) {
      for (std::int64_t e = 0; e < size_; ++e) {
        pixels_[static_cast<std::size_t>(e * kLanes) + lane] = image[e];
      }
      held_[lane] = position;
    }
    id_[lane] = id;
    stage_[lane] = key.first;
    sample_[lane] = key.second;
  }

  std::span<const std::int32_t> classify() override {
    sampler_.draw(pixels_.data(), noisy_.data(), size_, kLanes,
                  {seed_, static_cast<std::uint32_t>(Purpose::smoothing), id_.data(), stage_.data(), sample_.data()});
    auto& tape = thread_tape<float>();
    tape.begin(kLanes, kLanes);
    const Var<float> logits = base_(tape.view(base_.input_shape(), noisy_.data()));
    kernels::run_light([&](auto isa) { vote<float>(isa, logits.data(), classes_.data(), base_.classes(), kLanes); });
    return classes_;
  }
  /// What the network saw of a lane in `classify`, (C,H,W).
  std::vector<float> image(std::size_t lane) const {
    std::vector<float> out;
    for (std::int64_t e = 0; e < size_; ++e) {
      out.push_back(noisy_[static_cast<std::size_t>(e * kLanes) + lane]);
    }
    return out;
  }

 private:
  const attack::Classifier& base_;
  const Sampler& sampler_;
  std::uint64_t seed_;
  std::int64_t size_;
  int filled_ = 0;
  AlignedVector<std::int32_t> pixels_;
  AlignedVector<float> noisy_;
  std::array<std::int64_t, kLanes> held_{};
  alignas(64) std::array<std::uint32_t, kLanes> id_{}, stage_{}, sample_{};
  alignas(64) std::array<std::int32_t, kLanes> classes_{};
};

inline void check_subject(const char* what, const attack::Classifier& base, const data::Dataset& images) {
  require<ShapeError>(images.size() == 0 || images.image_shape() == base.input_shape(), what, ": ", base.name(),
                      " expects images of ", base.input_shape(), ", got ", images.image_shape());
  require(!base.declaration().random, what, ": ", base.name(),
          " draws random numbers of its own; the base classifier must be a function of the image");
}

/// Samples every image until its votes are done, and calls emit(position, votes) in the order of the images.
template <class Votes, class MakeVotes, class Emit>
void vote_on_images(const attack::Classifier& base, const Sampler& sampler, const data::Dataset& images,
                    std::uint64_t seed, const MakeVotes& make_votes, const Emit& emit,
                    const std::function<void(std::int64_t)>& progress, const SampleEngine& engine = {}) {
  struct Active {
    std::int64_t position;
    Votes votes;
    std::int64_t handed_out;  ///< samples that are in a lane, or were
  };
  std::atomic<std::int64_t> next{0};
  std::mutex mutex;
  std::map<std::int64_t, Votes> finished;  // those that an earlier image holds up
  std::int64_t emitted = 0;
  const std::int64_t threads = engine.make ? engine.threads : thread_count();
  parallel_for(std::min(threads, images.size()), [&](std::int64_t) {
    const std::unique_ptr<SampleBatch> made =
        engine.make ? engine.make(seed) : std::make_unique<SampleGroup>(base, sampler, seed);
    SampleBatch& batch = *made;
    std::list<Active> active;
    std::vector<Active*> owner(static_cast<std::size_t>(batch.capacity()));
    const auto full = [&] { return batch.filled() == batch.capacity(); };
    for (;;) {
      batch.clear();
      bool added = false;
      for (auto at = active.begin(); !full();) {
        if (at == active.end()) {
          const std::int64_t i = next.fetch_add(1);
          if (i >= images.size()) {
            if (!added) {
              break;
            }
            added = false;  // no image is left: another share of those that are here
            at = active.begin();
            continue;
          }
          at = active.insert(active.end(), Active{i, make_votes(), 0});
        }
        const std::int64_t most = std::min(at->votes.most(), at->handed_out + batch.share());
        for (; at->handed_out < most && !full(); ++at->handed_out) {
          added = true;
          owner[static_cast<std::size_t>(batch.filled())] = &*at;
          batch.add(at->position, images.pixels(at->position),
                    static_cast<std::uint32_t>(images.source_index(at->position)), at->votes.key(at->handed_out));
        }
        ++at;
      }
      if (batch.filled() == 0) {
        return;
      }
      const auto classes = batch.classify();
      for (std::size_t lane = 0; lane < static_cast<std::size_t>(batch.filled()); ++lane) {
        if (!owner[lane]->votes.done()) {  // else a sample behind the last one that counts
          owner[lane]->votes.vote(classes[lane]);
        }
      }
      if (progress) {
        progress(batch.filled());
      }
      for (auto at = active.begin(); at != active.end();) {
        if (!at->votes.done()) {
          ++at;
          continue;
        }
        const std::lock_guard lock(mutex);
        finished.emplace(at->position, std::move(at->votes));
        at = active.erase(at);
        while (!finished.empty() && finished.begin()->first == emitted) {
          emit(emitted++, finished.begin()->second);
          finished.erase(finished.begin());
        }
      }
    }
  });
}

}  // namespace detail

/// The plan of certifying images of `base` with noise of `sampler`: throws ValueError for options that are not possible.
inline Plan make_plan(const Options& options, const attack::Classifier& base, const Sampler& sampler) {
  return {options, base.input_shape().numel(), sampler.defect()};
}

/// Certifies images in the order in which they come: emit(i, result) for image i, one at a time and in order, from any
/// thread. Their random numbers go by source_index. `progress` (may be empty) is called with the samples newly drawn, by
/// any thread. `engine`: where the samples go through the network; the results are the same. Throws ShapeError for
/// images that do not fit, ValueError for a classifier that is random.
///
/// The result of an image is false (the smoothed classifier answers another class somewhere within the radius) with
/// probability at most alpha over the random numbers, Philox taken for ideal ones.
template <class Emit>
void certify(const attack::Classifier& base, const Sampler& sampler, const data::Dataset& images, const Plan& plan,
             const Emit& emit, const std::function<void(std::int64_t samples)>& progress = {},
             const SampleEngine& engine = {}) {
  detail::check_subject("certify", base, images);
  detail::vote_on_images<CertifyVotes>(
      base, sampler, images, plan.options().seed, [&] { return CertifyVotes(plan, base.classes()); },
      [&](std::int64_t i, const CertifyVotes& votes) { emit(i, votes.result()); }, progress, engine);
}

/// The same with options alone, all results at once.
inline std::vector<Result> certify(const attack::Classifier& base, const data::Dataset& images,
                                   const Options& options) {
  const Sampler sampler(options.noise);
  const Plan plan = make_plan(options, base, sampler);
  std::vector<Result> results;
  certify(base, sampler, images, plan, [&](std::int64_t, const Result& r) { results.push_back(r); });
  return results;
}

/// A noisy image as the network sees it, (C,H,W), and the class that it gives it (-1: a NaN).
struct NoisySample {
  std::vector<float> image;
  std::int32_t chosen = 0;
};

/// The first samples, 16 or fewer, of those that vote on image `i`: for people to look at.
inline std::vector<NoisySample> first_samples(const attack::Classifier& base, const Sampler& sampler,
                                              const data::Dataset& images, std::int64_t i, std::uint64_t seed,
                                              std::uint32_t count) {
  detail::check_subject("first_samples", base, images);
  require(count >= 1 && count <= 16, "first_samples: ", count, " samples, expected 1 to 16");
  detail::SampleGroup group(base, sampler, seed);
  for (std::uint32_t sample = 0; sample < count; ++sample) {
    group.add(i, images.pixels(i), static_cast<std::uint32_t>(images.source_index(i)), {1u, sample});
  }
  const auto classes = group.classify();
  std::vector<NoisySample> out;
  for (std::size_t lane = 0; lane < count; ++lane) {
    out.push_back({group.image(lane), classes[lane]});
  }
  return out;
}

struct PredictOptions {
  Noise noise = {};
  std::int64_t n = 1000;
  double alpha = 0.001;  ///< a prediction is not the smoothed classifier's with at most this probability
  std::uint64_t seed = 0;
};

namespace detail {

class PredictVotes {
 public:
  PredictVotes(std::int64_t n, std::int32_t classes) : n_(n), votes_(static_cast<std::size_t>(classes)) {}
  bool done() const { return taken_ == n_; }
  std::int64_t most() const { return n_; }
  std::pair<std::uint32_t, std::uint32_t> key(std::int64_t i) const { return {2u, static_cast<std::uint32_t>(i)}; }
  void vote(std::int32_t k) {
    ++taken_;
    if (k >= 0) {
      ++votes_[static_cast<std::size_t>(k)];
    }
  }
  /// The class with most votes, or -1 where the runner-up might be as frequent.
  std::int32_t prediction(double alpha) const {
    const auto first = std::max_element(votes_.begin(), votes_.end());
    std::int64_t second = 0;
    for (auto v = votes_.begin(); v != votes_.end(); ++v) {
      second = v != first ? std::max(second, *v) : second;
    }
    const bool clear = *first > 0 && differs_from_half(*first, *first + second, alpha);
    return clear ? static_cast<std::int32_t>(first - votes_.begin()) : -1;
  }

 private:
  std::int64_t n_;
  std::int64_t taken_ = 0;
  std::vector<std::int64_t> votes_;
};

}  // namespace detail

/// PREDICT of Cohen et al.: the smoothed classifier's answer to each image, or -1 (abstain) where n samples do not tell
/// the two most frequent classes apart by a two-sided binomial test at alpha. Throws ValueError where n is so small that
/// it would always abstain.
inline std::vector<std::int32_t> predict(const attack::Classifier& base, const data::Dataset& images,
                                         const PredictOptions& options) {
  require(std::isfinite(options.alpha) && options.alpha > 0 && options.alpha < 1, "predict: alpha ", options.alpha,
          ", expected between 0 and 1");
  require(options.n >= 1, "predict: n ", options.n, ", expected 1 or more");
  if (!differs_from_half(options.n, options.n, options.alpha)) {
    std::int64_t enough = options.n;
    while (!differs_from_half(enough, enough, options.alpha)) {
      ++enough;
    }
    throw ValueError(concat("predict: ", options.n, " samples abstain whatever the votes at alpha ", options.alpha,
                            "; it takes n = ", enough));
  }
  detail::check_subject("predict", base, images);
  const Sampler sampler(options.noise);
  // Seldom enough: the numbers that 96 bits leave undecided count against alpha.
  const double off = sampler.defect() * static_cast<double>(base.input_shape().numel() * options.n);
  const double alpha = next_below(options.alpha - next_above(off * (1 + 0x1p-50)));
  std::vector<std::int32_t> out;
  detail::vote_on_images<detail::PredictVotes>(
      base, sampler, images, options.seed, [&] { return detail::PredictVotes(options.n, base.classes()); },
      [&](std::int64_t, const detail::PredictVotes& votes) { out.push_back(votes.prediction(alpha)); }, {});
  return out;
}

}  // namespace pavise::certify

// SPDX-License-Identifier: MIT
// From a data set to lanes, and how many of its images a model gets right.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "pavise/attack/attack.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/core/lane_batch.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/data/augment.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/defend/history.hpp"
#include "pavise/nn/model.hpp"

namespace pavise::defend {

/// How images are changed on their way into a batch; every draw is keyed by the image's index in its source.
struct PackOptions {
  data::Augmentation augmentation = {};
  double gaussian_sigma = 0;  ///< of normal noise, added to every pixel and not clipped (Cohen et al. 2019)
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;  ///< keys augmentation and noise
};

namespace detail {

/// byte/255 for each byte, rounded as data::load_image does.
inline const std::array<float, 256>& pixel_values() {
  static const auto table = [] {
    std::array<float, 256> t{};
    for (std::size_t i = 0; i < t.size(); ++i) {
      t[i] = static_cast<float>(i) / 255.0f;
    }
    return t;
  }();
  return table;
}

inline void pack_plain(const data::Dataset& set, std::span<const std::int64_t> positions, LaneBatch<float>& batch) {
  const auto& value = pixel_values();
  const std::int64_t n = batch.size();
  parallel_for(batch.groups(), [&](std::int64_t g) {
    const std::uint8_t* from[16];
    for (std::int64_t lane = 0; lane < 16; ++lane) {
      from[lane] = set.pixels(positions[static_cast<std::size_t>(std::min(g * 16 + lane, batch.images() - 1))]);
    }
    float* out = batch.values(g);
    for (std::int64_t e = 0; e < n; ++e) {
      for (int lane = 0; lane < 16; ++lane) {
        out[e * 16 + lane] = value[from[lane][e]];
      }
    }
  });
}

/// Adds sigma times a normal number to every value. Product and sum are two loops, so that no compiler contracts them.
inline void add_noise(LaneBatch<float>& batch, const PackOptions& options) {
  const std::int64_t n = batch.size();
  parallel_for(batch.groups(), [&](std::int64_t g) {
    thread_local AlignedVector<float> noise;
    noise.resize(static_cast<std::size_t>(n * 16) + 16);
    const kernels::LaneKeys keys{.seed = options.seed,
                                 .purpose = static_cast<std::uint32_t>(Purpose::gaussian_noise),
                                 .iteration = static_cast<std::uint32_t>(options.epoch),
                                 .image = batch.ids(g),
                                 .restart = batch.restarts(g)};
    kernels::run([&](auto isa) {
      random_normal<float>(isa, noise.data(), n, 16, keys);
      scale_values<float>(isa, noise.data(), n * 16, static_cast<float>(options.gaussian_sigma));
    });
    float* x = batch.values(g);
    for (std::int64_t i = 0; i < n * 16; ++i) {
      x[i] += noise[static_cast<std::size_t>(i)];
    }
  });
}

}  // namespace detail

/// Fills `batch` with the images of `set` at `positions`, sixteen to a group, in parallel over the groups.
inline void pack_batch(const data::Dataset& set, std::span<const std::int64_t> positions, const PackOptions& options,
                       LaneBatch<float>& batch) {
  require(!positions.empty(), "pack_batch: no images");
  batch.resize(set.image_shape(), static_cast<std::int64_t>(positions.size()), kernels::kLanes);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    batch.labels()[i] = set.label(positions[i]);
    batch.ids()[i] = static_cast<std::uint32_t>(set.source_index(positions[i]));
  }
  batch.repeat_last();
  if (options.augmentation.none()) {
    detail::pack_plain(set, positions, batch);
  } else {
    batch.pack([&](std::int64_t i, float* out) {
      data::load_image(set, positions[static_cast<std::size_t>(i)], options.augmentation, options.seed, options.epoch,
                       out);
    });
  }
  if (options.gaussian_sigma != 0) {
    detail::add_noise(batch, options);
  }
}

/// How many images of a batch the model gets right, in evaluation mode: clean, or under `attack` where one is given.
inline Count batch_accuracy(const nn::Model& model, const LaneBatch<float>& batch, const attack::Attack* attack,
                            const attack::Seed& seed, attack::Passes& passes) {
  std::vector<Count> counts(static_cast<std::size_t>(batch.groups()));
  parallel_for(batch.groups(), [&](std::int64_t g) {
    thread_local AlignedVector<float> x;
    x.resize(static_cast<std::size_t>(batch.size() * batch.lanes()) + 16);
    if (attack != nullptr) {
      attack->perturb_group(model, batch, g, x.data(), seed, passes);
    } else {
      std::copy_n(batch.values(g), batch.size() * batch.lanes(), x.data());
    }
    auto& tape = thread_tape<float>();
    tape.begin(batch.valid(g), batch.lanes());
    std::int32_t prediction[16];
    argmax(model(tape.view(batch.shape(), x.data())), prediction);
    for (std::int64_t lane = 0; lane < batch.valid(g); ++lane) {
      counts[static_cast<std::size_t>(g)] += {.correct = prediction[lane] == batch.labels(g)[lane] ? 1 : 0, .total = 1};
    }
    passes.forward += batch.valid(g);
  });
  Count sum;
  for (const auto& count : counts) {
    sum += count;
  }
  return sum;
}

/// How many images of `set` the model gets right, clean or under `attack`. The count depends on neither threads nor
/// order.
inline Count accuracy(const nn::Model& model, const data::Dataset& set, const attack::Attack* attack = nullptr,
                      const attack::Seed& seed = {}) {
  constexpr std::int64_t kTogether = 1024;
  attack::Passes passes;
  LaneBatch<float> batch;
  std::vector<std::int64_t> positions;
  Count sum;
  for (std::int64_t begin = 0; begin < set.size(); begin += kTogether) {
    positions.clear();
    for (std::int64_t i = begin; i < std::min(begin + kTogether, set.size()); ++i) {
      positions.push_back(i);
    }
    pack_batch(set, positions, {}, batch);
    sum += batch_accuracy(model, batch, attack, seed, passes);
  }
  return sum;
}

}  // namespace pavise::defend

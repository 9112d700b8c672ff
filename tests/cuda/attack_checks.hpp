// SPDX-License-Identifier: MIT
// Steps of attacks, bit for bit.
#pragma once

#include "cuda/lane_checks.hpp"

namespace cuda_checks {

inline void check_attack_steps(Report& report, const Table& t) {
  for (const std::int64_t n : {1, 7, 37, 64, 150}) {
    for (const int norm : {0, 1, 2}) {
      for (const bool moves : {false, true}) {
        const kernels::cuda::AttackStep step{norm, 0.05f, norm == 0 ? 0.1f : 0.7f, 0.0f, 1.0f, 0.1f};
        Rows gradient = special_numbers(kImages * n, 3, -1.0f, 1.0f);
        std::fill_n(gradient.begin(), n, 0.0f);  // an image without a direction
        compare_lanes(
            report, t, pavise::concat("attack step ", norm, " of ", n), kImages,
            {{numbers(kImages * n, 1, -0.2f, 1.2f), n},
             {gradient, n},
             {numbers(kImages * n, 2, 0.0f, 1.0f), n},
             {numbers(kImages, 4), 1}},
            [&](const std::vector<float*>& a, std::int64_t) {
              kernels::run_light([&](auto isa) {
                const float* g = moves ? a[1] : nullptr;
                if (norm == 0) {
                  linf_step<float>(isa, a[0], g, a[2], n, 16, step.alpha, step.epsilon, step.low, step.high);
                } else if (norm == 1) {
                  l1_step<float>(isa, a[0], g, a[2], n, 16, step.alpha, step.sparsity, step.epsilon, step.low,
                                 step.high);
                } else {
                  l2_step<float>(isa, a[0], g, a[2], n, 16, step.alpha, step.epsilon, step.low, step.high);
                }
                distance<float>(isa, a[0], a[2], n, 16, norm, a[3]);
              });
            },
            [&](const std::vector<float*>& a, std::int64_t groups) {
              t.attack_step(nullptr, a[0], moves ? a[1] : nullptr, a[2], n, groups, step);
              t.distance(nullptr, a[0], a[2], n, norm, a[3], groups);
            });
      }
    }
  }
}

/// Momentum of gradients with every kind of number, and of images without a direction.
inline void check_momentum(Report& report, const Table& t) {
  for (const std::int64_t n : {1, 7, 64, 150}) {
    Rows gradient = special_numbers(kImages * n, 3, -1.0f, 1.0f);
    std::fill_n(gradient.begin(), n, 0.0f);
    compare_lanes(
        report, t, pavise::concat("momentum of ", n), kImages, {{gradient, n}, {numbers(kImages * n, 2), n}},
        [&](const std::vector<float*>& a, std::int64_t) {
          kernels::run_light([&](auto isa) {
            alignas(64) std::array<float, 16> decay{}, one{};
            decay.fill(0.7f);
            one.fill(1.0f);
            pavise::AlignedVector<float> direction(a[0], a[0] + n * 16);
            lane_finite<float>(isa, direction.data(), direction.data(), n, 16);
            lane_direction<float>(isa, direction.data(), direction.data(), n, 16, 1);
            lane_combine<float>(isa, a[1], n, 16, a[1], decay.data(), direction.data(), one.data(), nullptr, nullptr);
          });
        },
        [&](const std::vector<float*>& a, std::int64_t groups) {
          t.add_momentum(nullptr, a[0], a[1], 0.7f, n, groups);
        });
  }
}

/// Random points near images, of more and of fewer elements than a block of signs, and what is made of them.
inline void check_probes(Report& report, const Table& t) {
  const Keys keys(t, kImages);
  for (const std::int64_t n : {1, 9, 128, 275}) {
    const kernels::cuda::LaneBox box{0.0f, 1.0f};
    const auto iterations = Keys::ramp(kImages, 5, 3);
    const auto host_iteration = to_lanes(iterations, kImages, 1, 16);
    const OnDevice<std::uint32_t> iteration(t, to_lanes(iterations, kImages, 1, 32));
    Rows factor = numbers(kImages, 12, 0.1f, 1.0f);
    for (std::size_t l = 0; l < factor.size(); l += 4) {  // lanes that stay
      factor[l] = 0.0f;
    }
    std::vector<LaneArray> arrays;
    for (std::uint32_t k = 0; k < 9; ++k) {  // x, then results
      arrays.push_back({numbers(kImages * n, k, 0.0f, 1.0f), n});
    }
    arrays.push_back({numbers(kImages, 13, 0.01f, 0.2f), 1});
    arrays.push_back({factor, 1});
    compare_lanes(
        report, t, pavise::concat("probes of ", n), kImages, arrays,
        [&](const std::vector<float*>& a, std::int64_t g) {
          const std::uint32_t* at = host_iteration.data() + g * 16;
          kernels::run_light([&](auto isa) {
            sign_probe<float>(isa, a[1], a[0], n, 16, keys.host(g), at, a[9], box.low, box.high);
            sign_slope<float>(isa, a[2], a[0], n, 16, keys.host(g), at, a[9], a[10], box.low, box.high);
            sphere_probe<float>(isa, a[3], a[0], n, 16, kernels::Distribution::uniform, keys.host(g), at, a[9], box.low,
                                box.high);
            sphere_probe<float>(isa, a[4], a[0], n, 16, kernels::Distribution::normal, keys.host(g), at, a[9], box.low,
                                box.high);
            probe_sums<float>(isa, a[5], a[6], a[4], a[0], n, 16, a[10], a[9]);
            slope_adam<float>(isa, a[0], a[2], a[7], a[8], n, 16, 3.0f, a[10], a[9]);
          });
        },
        [&](const std::vector<float*>& a, std::int64_t groups) {
          const kernels::cuda::ProbeDraws draws{keys.device(), iteration.get()};
          t.sign_probe(nullptr, a[1], a[0], draws, a[9], box, n, groups);
          t.sign_slope(nullptr, a[2], a[0], draws, a[9], a[10], box, n, groups);
          t.sphere_probe(nullptr, a[3], a[0], kernels::Distribution::uniform, draws, a[9], box, n, groups);
          t.sphere_probe(nullptr, a[4], a[0], kernels::Distribution::normal, draws, a[9], box, n, groups);
          t.probe_sums(nullptr, a[5], a[6], a[4], a[0], a[10], a[9], n, groups);
          t.slope_adam(nullptr, a[0], a[2], a[7], a[8], 3.0f, a[10], a[9], n, groups);
        });
  }
}

/// Rounds of Auto-PGD from made-up losses and gradients: verdicts, best points, restarts and steps.
inline void check_apgd(Report& report, const Table& t) {
  constexpr std::int64_t kSteps = 9;
  constexpr std::int64_t kClasses = 3;
  const std::int64_t slots = groups_of(kImages, 32) * 32;
  const auto size = static_cast<std::size_t>(slots);
  for (const auto& [n, norm] : {std::pair(1, 0), std::pair(70, 0), std::pair(7, 2), std::pair(150, 2)}) {
    const kernels::cuda::AttackStep step{norm, 0.0f, norm == 0 ? 0.1f : 0.7f, 0.0f, 1.0f};
    const kernels::cuda::ApgdRule rule{.steps = kSteps, .rho = 0.75, .sign = -1.0f, .targeted = true};
    const auto begin = kernels::apgd_begin(2 * step.epsilon, kSteps);
    std::vector<std::int32_t> numbers_of_lanes;
    for (std::int32_t i = 0; i < kImages; i += i == 4 ? 2 : 1) {  // lane 5 has no attempt
      numbers_of_lanes.push_back(i);
    }
    const OnDevice<std::int32_t> lanes(t, numbers_of_lanes);
    const OnDevice<kernels::ApgdState> state(t, size);
    const OnDevice<std::int32_t> active(t, std::vector<std::int32_t>(size)), passes(t, size), improved(t, size),
        restart(t, size), take_best(t, size);
    const OnDevice<float> eta(t, std::vector<float>(size)), weight(t, std::vector<float>(size));
    const kernels::cuda::ApgdLanes a{state.get(),   active.get(),    passes.get(), improved.get(),
                                     restart.get(), take_best.get(), eta.get(),    weight.get()};
    const Labels label(t, kImages, kClasses, 1);
    std::vector<kernels::ApgdState> host(size, begin);
    std::vector<bool> runs(size);
    for (const std::int32_t i : numbers_of_lanes) {
      runs[static_cast<std::size_t>(i)] = true;
    }
    t.apgd_begin(nullptr, a, lanes.get(), static_cast<std::int64_t>(numbers_of_lanes.size()), begin);
    std::vector<std::int32_t> taken(size);
    // Arrays: x, previous, gradient, center, best, best gradient.
    std::vector<LaneArray> arrays;
    for (std::uint32_t k = 0; k < 6; ++k) {
      arrays.push_back({numbers(kImages * n, 10 + k, 0.0f, 1.0f), n});
    }
    for (std::int64_t round = 0; round <= kSteps; ++round) {
      Rows gradient = special_numbers(kImages * n, 100 + static_cast<std::uint32_t>(round), -1.0f, 1.0f);
      Rows loss = special_numbers(kImages, 200 + static_cast<std::uint32_t>(round), 0.0f, 1.0f);
      // A success is the label's class, which few find.
      Rows z = special_numbers(kImages * kClasses, 300 + static_cast<std::uint32_t>(round), 0.0f, 1.0f);
      std::vector<std::int32_t> classes(static_cast<std::size_t>(kImages));
      for (std::size_t i = 0; i < classes.size(); ++i) {
        const std::int32_t own = from_lanes(label.host.data(), kImages, 1, 16)[i];
        classes[i] = i % 7 == 3 && round == static_cast<std::int64_t>(i % kSteps) ? own : (own + 1) % kClasses;
      }
      const OnDevice<float> device_loss(t, to_lanes(loss, kImages, 1, 32)),
          device_z(t, to_lanes(z, kImages, kClasses, 32));
      const OnDevice<std::int32_t> device_classes(t, to_lanes(classes, kImages, 1, 32));
      arrays[2].rows = gradient;
      std::vector<OnDevice<float>> device;
      for (const auto& array : arrays) {
        device.emplace_back(t, to_lanes(array.rows, kImages, n, 32));
      }
      t.apgd_judge(nullptr, a, rule, device_loss.get(), device_z.get(), kClasses, device_classes.get(),
                   label.device.get(), groups_of(kImages, 32));
      t.apgd_step(nullptr, a, device[0].get(), device[1].get(), device[2].get(), device[3].get(), device[4].get(),
                  device[5].get(), n, groups_of(kImages, 32), step);
      // The same image by image.
      for (std::int64_t i = 0; i < kImages; ++i) {
        const auto l = static_cast<std::size_t>(i);
        if (!runs[l]) {
          continue;
        }
        ++taken[l];
        std::vector<pavise::AlignedVector<float>> row;
        for (const auto& array : arrays) {
          row.emplace_back(array.rows.begin() + i * n, array.rows.begin() + (i + 1) * n);
          row.back().resize(static_cast<std::size_t>(n) + 16);
        }
        bool finite = true;
        for (std::int64_t k = 0; k < kClasses; ++k) {
          finite = finite && std::isfinite(z[static_cast<std::size_t>(i * kClasses + k)]);
        }
        runs[l] = !(finite && classes[l] == from_lanes(label.host.data(), kImages, 1, 16)[l]);
        if (!runs[l]) {
          continue;
        }
        const float v = -loss[l];
        const auto verdict =
            kernels::apgd_judge(host[l], std::isnan(v) ? -std::numeric_limits<float>::infinity() : v, kSteps, rule.rho);
        kernels::run_light([&](auto isa) {
          lane_finite<float>(isa, row[2].data(), row[2].data(), n, 1);
          if (verdict.over) {
            row[0] = verdict.improved ? row[0] : row[4];
            return;
          }
          row[4] = verdict.improved ? row[0] : row[4];
          row[5] = verdict.improved ? row[2] : row[5];
          row[0] = verdict.restart ? row[4] : row[0];
          row[2] = verdict.restart ? row[5] : row[2];
          const float rate = -host[l].eta;
          apgd_step<float>(isa, row[0].data(), row[1].data(), row[2].data(), row[3].data(), n, 1, norm, &rate,
                           &verdict.weight, step.epsilon, step.low, step.high);
        });
        runs[l] = !verdict.over;
        for (std::size_t k = 0; k < arrays.size(); ++k) {
          std::copy_n(row[k].begin(), n, arrays[k].rows.begin() + i * n);
        }
      }
      const std::string what = pavise::concat("apgd in ", norm, ", ", n, " elements, round ", round);
      for (const std::size_t k : {0, 1, 4, 5}) {
        const auto got = from_lanes(device[k].values().data(), kImages, n, 32);
        report.equal(pavise::concat(what, ", array ", k), got.data(), arrays[k].rows.data(), kImages * n);
      }
    }
    const auto counted = passes.values();
    for (const std::int32_t i : numbers_of_lanes) {
      report.equal("passes", counted[static_cast<std::size_t>(i)], taken[static_cast<std::size_t>(i)]);
    }
  }
}

/// Rows to lanes and back.
inline void check_rows(Report& report, const Table& t) {
  constexpr std::int64_t kSize = 11;
  const std::vector<std::int32_t> lanes = {40, 3, 0, 63, 31, 32};
  const auto count = static_cast<std::int64_t>(lanes.size());
  const Rows rows = numbers(count * kSize, 1);
  const OnDevice<std::int32_t> device_lanes(t, lanes);
  const OnDevice<float> device_rows(t, rows), in_lanes(t, Rows(64 * kSize)), back(t, rows.size());
  t.rows_to_lanes(nullptr, device_rows.get(), device_lanes.get(), count, in_lanes.get(), kSize);
  t.lanes_to_rows(nullptr, in_lanes.get(), device_lanes.get(), count, back.get(), kSize);
  report.equal("rows to lanes and back", back.values().data(), rows.data(), count * kSize);
  Rows expected(64 * kSize);
  for (std::int64_t i = 0; i < count; ++i) {
    std::copy_n(rows.begin() + i * kSize, kSize, expected.begin() + lanes[static_cast<std::size_t>(i)] * kSize);
  }
  report.equal("rows in lanes", from_lanes(in_lanes.values().data(), 64, kSize, 32).data(), expected.data(),
               64 * kSize);
}

}  // namespace cuda_checks

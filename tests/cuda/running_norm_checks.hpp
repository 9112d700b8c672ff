// SPDX-License-Identifier: MIT
// Checks of batch normalisation by running statistics: what an evaluation pass takes of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/support.hpp"
#include "pavise/autodiff/norm.hpp"
#include "pavise/nn/fold.hpp"

namespace cuda_checks {

/// Running statistics: how they move, the factors of an evaluation pass, and weights with them folded in.
inline void check_running_norm(Report& report, const Table& t) {
  for (const std::int64_t channels : {1, 67, 300}) {
    pavise::ParameterStore<float> store;
    const pavise::Shape n{channels};
    auto& gamma = store.add("gamma", n, {});
    auto& beta = store.add("beta", n, {});
    auto& mean = store.add("mean", n, {}, false);
    auto& variance = store.add("variance", n, {}, false);
    auto& weight = store.add("weight", pavise::Shape{channels, 3, 1, 2}, {});
    auto& bias = store.add("bias", n, {});
    store.allocate(0);
    std::uint32_t what = 1;
    std::vector<OnDevice<float>> on_device;
    for (auto& p : store.parameters()) {
      const Rows values = numbers(p.size(), what++, &p == &variance ? 0.0f : -2.0f, 2.0f);
      std::copy(values.begin(), values.end(), p.edit().begin());
      on_device.emplace_back(t, values);
    }
    const std::string of = pavise::concat(" of ", channels, " channels");
    const Rows values = numbers(channels, what);
    const OnDevice<float> moved(t, Rows(mean.value().begin(), mean.value().end()));
    const OnDevice<float> to(t, values);
    t.move_running(nullptr, moved.get(), to.get(), channels, 0.1);
    Rows expected;
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto i = static_cast<std::size_t>(c);
      expected.push_back(kernels::run_light(
          [&](auto isa) { return running_value<float>(isa, mean.value()[i], static_cast<double>(values[i]), 0.1); }));
    }
    report.equal("moved statistics" + of, moved.values().data(), expected.data(), channels);

    for (const bool plain : {false, true}) {
      const kernels::cuda::RunningNorm norm{.gamma = plain ? nullptr : on_device[0].get(),
                                            .beta = plain ? nullptr : on_device[1].get(),
                                            .mean = on_device[2].get(),
                                            .variance = on_device[3].get(),
                                            .epsilon = 1e-5};
      pavise::Tape<float> tape;
      pavise::Trace<float> trace;
      tape.begin(1, 16, pavise::Mode::evaluation, true);
      tape.set_trace(&trace);
      const auto none = pavise::Var<float>();
      auto x = tape.input(n);
      std::fill_n(x.data(), channels * 16, 0.0f);
      pavise::batch_norm(x, plain ? none : tape.parameter(gamma), plain ? none : tape.parameter(beta), mean, variance);
      const auto& op = trace.back();
      expected = op.mean;
      expected.insert(expected.end(), op.scale.begin(), op.scale.end());
      expected.insert(expected.end(), op.shift.begin(), op.shift.end());
      const OnDevice<float> factors(t, static_cast<std::size_t>(3 * channels));
      t.channel_factors(nullptr, norm, factors.get(), channels);
      report.equal("factors" + of, factors.values().data(), expected.data(), 3 * channels);
    }
    for (const bool with_bias : {false, true}) {
      pavise::nn::FoldedWeights<float> host;
      const auto folded = host.of(weight, with_bias ? &bias : nullptr,
                                  {gamma.value(), beta.value(), mean.value(), variance.value(), 1e-5});
      const OnDevice<float> w(t, static_cast<std::size_t>(weight.size()));
      const OnDevice<float> b(t, static_cast<std::size_t>(channels));
      t.fold_norm(nullptr, {on_device[0].get(), on_device[1].get(), on_device[2].get(), on_device[3].get(), 1e-5},
                  on_device[4].get(), with_bias ? on_device[5].get() : nullptr, w.get(), b.get(), channels, 6);
      report.equal("folded weights" + of, w.values().data(), folded.weight->value().data(), weight.size());
      report.equal("folded biases" + of, b.values().data(), folded.bias->value().data(), channels);
    }
  }
}

}  // namespace cuda_checks

// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pavise/defend/strategy.hpp"

namespace pavise::defend {

struct AwpOptions {
  double gamma = 0.01;             ///< size of a weight's perturbation over that of the weight; 0.005 with TRADES
  std::int64_t warmup_epochs = 0;  ///< without it; 10 with TRADES
};

/// Adversarial weight perturbation around another strategy (Wu et al. 2020, algorithm 1): before the update the weights
/// are moved in the direction in which the strategy's loss on this minibatch rises,
///   v = gamma * ||w|| * g / ||g||   for each weight of two axes or more (biases and normalisation stay),
/// the update's gradient is taken there, and v is taken off again after it. Running statistics of the first pass are
/// dropped.
class Awp : public Strategy {
 public:
  explicit Awp(std::shared_ptr<Strategy> inner, AwpOptions options = {}) : inner_(std::move(inner)), options_(options) {
    require(inner_ != nullptr, "awp: no strategy is given");
    require(inner_->replays() == 1, "awp: works on strategies of one update for each minibatch, ", inner_->name(),
            " makes ", inner_->replays());
    require(std::isfinite(options.gamma) && options.gamma >= 0, "awp: gamma ", options.gamma, ", expected 0 or more");
    require(options.warmup_epochs >= 0, "awp: ", options.warmup_epochs, " warm-up epochs, expected 0 or more");
  }

  std::string name() const override { return "awp-" + inner_->name(); }
  Recipe recipe() const override {
    Recipe out = inner_->recipe();
    for (auto& [key, value] : out) {
      if (key == "defense") {
        value = name();
      }
    }
    out.emplace_back("awp_gamma", concat(options_.gamma));
    out.emplace_back("awp_warmup_epochs", std::to_string(options_.warmup_epochs));
    return out;
  }

  bool runs_on_device() const override { return inner_->runs_on_device(); }
  void begin(const nn::Model& model, std::int64_t batch_size) override { inner_->begin(model, batch_size); }
  void craft(Step& step) override { inner_->craft(step); }

  void accumulate(Step& step) override {
    active_ = step.epoch >= options_.warmup_epochs && options_.gamma > 0;
    if (active_) {
      auto& store = step.model.parameters();
      const Totals totals = step.totals;
      const auto statistics = store.state().subspan(store.values().size());
      statistics_.assign(statistics.begin(), statistics.end());
      inner_->accumulate(step);
      step.totals = totals;
      perturb(store);
      std::copy(statistics_.begin(), statistics_.end(), store.edit_state().begin() + store.values().size());
      store.zero_gradients();
    }
    inner_->accumulate(step);
  }

  void after_update(Step& step) override {
    if (active_) {
      auto& store = step.model.parameters();
      const auto values = store.edit_values();
      for_each_weight(store, [&](Parameter<float>&, std::size_t at, std::size_t n) {
        for (std::size_t i = at; i < at + n; ++i) {
          values[i] -= offset_[i];
        }
      });
    }
    inner_->after_update(step);
  }

  void inspect(Inspection& inspection) override { inner_->inspect(inspection); }
  void save(StateWriter& out) const override { inner_->save(out); }
  void load(StateReader& in) override { inner_->load(in); }

 private:
  /// body(parameter, where its values begin in ParameterStore::values(), how many with padding), in parallel.
  template <class Body>
  void for_each_weight(ParameterStore<float>& store, const Body& body) {
    weights_.clear();
    for (auto& p : store.parameters()) {
      if (p.trainable() && p.shape().rank() >= 2 && p.size() > 0) {
        weights_.push_back(&p);
      }
    }
    parallel_for(static_cast<std::int64_t>(weights_.size()), [&](std::int64_t i) {
      Parameter<float>& p = *weights_[static_cast<std::size_t>(i)];
      body(p, static_cast<std::size_t>(p.value().data() - store.values().data()),
           static_cast<std::size_t>((p.size() + 15) / 16 * 16));
    });
  }

  void perturb(ParameterStore<float>& store) {
    offset_.resize(store.values().size());
    const auto values = store.edit_values();
    for_each_weight(store, [&](Parameter<float>& p, std::size_t at, std::size_t n) {
      const float* gradient = p.gradient().data();
      const auto norm = [&](const float* x) {
        return std::sqrt(
            kernels::run([&](auto isa) { return sum_of_squares<float>(isa, x, static_cast<std::int64_t>(n)); }));
      };
      const auto scale = static_cast<float>(options_.gamma * norm(values.data() + at) / (norm(gradient) + 1e-20));
      for (std::size_t i = 0; i < n; ++i) {
        offset_[at + i] = scale * gradient[i];
      }
      for (std::size_t i = at; i < at + n; ++i) {
        values[i] += offset_[i];
      }
    });
  }

  std::shared_ptr<Strategy> inner_;
  AwpOptions options_;
  bool active_ = false;
  AlignedVector<float> offset_;
  std::vector<float> statistics_;
  std::vector<Parameter<float>*> weights_;
};

}  // namespace pavise::defend

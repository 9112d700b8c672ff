// SPDX-License-Identifier: MIT
// Optimizers: one loop over all of a model's weights, in chunks that threads share. The bits of an update depend on
// neither the number of threads nor the instruction set.
//
//   optim::Sgd optimizer(model.parameters(), {.momentum = 0.9, .weight_decay = 5e-4});
//   model.parameters().zero_gradients();  ...  tape.backward(loss);
//   optimizer.step(schedule(step), 1.0 / images);   // the tape sums gradients over images
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "pavise/autodiff/parameter.hpp"
#include "pavise/core/error.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/tensor.hpp"

namespace pavise::optim {

namespace detail {

/// Values that one thread takes at a time: a multiple of 16, fixed, so that sums over chunks have one order.
inline constexpr std::int64_t kChunk = 16384;

/// Calls body(isa, begin, end) for chunks of [0, n), in parallel.
template <class Body>
void each_chunk(std::size_t n, const Body& body) {
  parallel_chunks(static_cast<std::int64_t>(n), kChunk, [&](std::int64_t begin, std::int64_t end) {
    kernels::run_light([&](auto isa) { body(isa, begin, end); });
  });
}

}  // namespace detail

/// The numbers of an update, as kernels::sgd_update takes them.
template <class T>
struct SgdNumbers {
  T rate, momentum, decay, scale;
  bool nesterov;
};
/// The same of kernels::adam_update.
template <class T>
struct AdamNumbers {
  T rate, root, share1, share2, epsilon, decay, keep, scale;
};
template <class T>
using UpdateNumbers = std::variant<SgdNumbers<T>, AdamNumbers<T>>;

/// Makes an optimizer's updates where weights and gradients are: a device that trains (device/updates.hpp).
template <class T>
class RemoteUpdates {
 public:
  RemoteUpdates() = default;
  RemoteUpdates(const RemoteUpdates&) = delete;
  RemoteUpdates& operator=(const RemoteUpdates&) = delete;
  virtual ~RemoteUpdates() = default;

  /// Makes an update there, with the bits of the optimizer's own, and returns true; false: the optimizer has to.
  virtual bool update(const UpdateNumbers<T>& numbers) = 0;
  /// Writes the optimizer's state into its own arrays, which count from then on, and may be changed until the next update.
  virtual void fetch_state() = 0;
};

/// Changes a model's weights by their gradients, and holds the state that this takes. It refers to the store, which
/// must outlive it.
template <class T>
class Optimizer {
 public:
  explicit Optimizer(ParameterStore<T>& store) : store_(store) {}
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  virtual ~Optimizer() = default;

  /// "sgd", "adam" or "adamw".
  virtual std::string_view name() const = 0;

  /// One update by the store's gradients times `gradient_scale` (1/images makes a mean of their sum). The learning rate
  /// comes from a schedule, step by step. Throws ValueError where the rate or the scale is not finite, or the rate is
  /// negative.
  void step(double learning_rate, double gradient_scale = 1.0) {
    require(std::isfinite(learning_rate) && learning_rate >= 0, name(), ": learning rate ", learning_rate,
            ", expected 0 or more");
    require(std::isfinite(gradient_scale), name(), ": gradient scale ", gradient_scale, ", expected a number");
    ++steps_;
    const UpdateNumbers<T> n = numbers(learning_rate, gradient_scale);
    if (remote_ != nullptr) {
      if (remote_->update(n)) {
        return;
      }
      remote_->fetch_state();
    }
    update(n);
  }

  /// Updates so far.
  std::int64_t steps() const { return steps_; }

  /// An array of the state by name, in the layout of ParameterStore::values().
  struct State {
    std::string name;
    std::span<T> values;
  };
  /// All of the state besides `steps`, to be saved in a checkpoint or overwritten from one: with both restored,
  /// training goes on with the same bits.
  std::vector<State> state() {
    if (remote_ != nullptr) {
      remote_->fetch_state();
    }
    return arrays();
  }
  void set_steps(std::int64_t steps) {
    require(steps >= 0, name(), ": ", steps, " steps, expected 0 or more");
    steps_ = steps;
  }

  /// Who makes updates from now on, where it can, and must say null before it goes; null: the optimizer itself.
  void set_remote(RemoteUpdates<T>* remote) { remote_ = remote; }
  ParameterStore<T>& store() { return store_; }

 protected:
  virtual UpdateNumbers<T> numbers(double learning_rate, double gradient_scale) const = 0;
  virtual void update(const UpdateNumbers<T>& numbers) = 0;
  virtual std::vector<State> arrays() = 0;

 private:
  ParameterStore<T>& store_;
  RemoteUpdates<T>* remote_ = nullptr;
  std::int64_t steps_ = 0;
};

struct SgdOptions {
  double momentum = 0.0;
  bool nesterov = false;
  double weight_decay = 0.0;  ///< added to the gradient, times the weight
};

/// Stochastic gradient descent, with momentum (Polyak 1964; Nesterov's form as in Sutskever et al. 2013), as
/// torch.optim.SGD: g = gradient + weight_decay*w; v = momentum*v + g; w -= rate*v (Nesterov: w -= rate*(g +
/// momentum*v)).
template <class T>
class Sgd : public Optimizer<T> {
 public:
  explicit Sgd(ParameterStore<T>& store, SgdOptions options = {}) : Optimizer<T>(store), options_(options) {
    require(options.momentum >= 0 && options.momentum < 1, "sgd: momentum ", options.momentum,
            ", expected 0 or more and less than 1");
    require(options.weight_decay >= 0, "sgd: weight decay ", options.weight_decay, ", expected 0 or more");
    require(!options.nesterov || options.momentum > 0, "sgd: Nesterov's form needs a momentum, got 0");
    if (options.momentum > 0) {
      velocity_.assign(store.values().size(), T{0});
    }
  }
  std::string_view name() const override { return "sgd"; }

 protected:
  std::vector<typename Optimizer<T>::State> arrays() override {
    std::vector<typename Optimizer<T>::State> out;
    if (!velocity_.empty()) {
      out.push_back({"velocity", {velocity_.data(), velocity_.size()}});
    }
    return out;
  }
  UpdateNumbers<T> numbers(double learning_rate, double gradient_scale) const override {
    return SgdNumbers<T>{.rate = static_cast<T>(learning_rate),
                         .momentum = static_cast<T>(options_.momentum),
                         .decay = static_cast<T>(options_.weight_decay),
                         .scale = static_cast<T>(gradient_scale),
                         .nesterov = options_.nesterov};
  }
  void update(const UpdateNumbers<T>& numbers) override {
    const auto& s = std::get<SgdNumbers<T>>(numbers);
    const auto values = this->store().edit_values();
    const T* gradients = this->store().gradients().data();
    detail::each_chunk(values.size(), [&](auto isa, std::int64_t begin, std::int64_t end) {
      sgd_update<T>(isa, values.data() + begin, gradients + begin,
                    velocity_.empty() ? nullptr : velocity_.data() + begin, end - begin, s.rate, s.momentum, s.decay,
                    s.scale, s.nesterov);
    });
  }

 private:
  SgdOptions options_;
  AlignedVector<T> velocity_;
};

struct AdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay =
      0.0;  ///< Adam: added to the gradient, times the weight; AdamW: taken off the weight, times the rate
};

/// Adam (Kingma and Ba 2015, algorithm 1), as torch.optim.Adam: m and v are running means of the gradient and of its
/// square, and w -= rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon).
template <class T>
class Adam : public Optimizer<T> {
 public:
  explicit Adam(ParameterStore<T>& store, AdamOptions options = {}) : Adam(store, options, false) {}
  std::string_view name() const override { return decoupled_ ? "adamw" : "adam"; }

 protected:
  Adam(ParameterStore<T>& store, AdamOptions options, bool decoupled)
      : Optimizer<T>(store), options_(options), decoupled_(decoupled) {
    const char* who = decoupled ? "adamw" : "adam";
    require(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1, who, ": betas ",
            options.beta1, " and ", options.beta2, ", expected 0 or more and less than 1");
    require(options.epsilon > 0, who, ": epsilon ", options.epsilon, ", expected more than 0");
    require(options.weight_decay >= 0, who, ": weight decay ", options.weight_decay, ", expected 0 or more");
    first_.assign(store.values().size(), T{0});
    second_.assign(store.values().size(), T{0});
  }

  std::vector<typename Optimizer<T>::State> arrays() override {
    return {{"first", {first_.data(), first_.size()}}, {"second", {second_.data(), second_.size()}}};
  }
  UpdateNumbers<T> numbers(double learning_rate, double gradient_scale) const override {
    const auto t = static_cast<double>(this->steps());
    return AdamNumbers<T>{.rate = static_cast<T>(learning_rate / (1 - std::pow(options_.beta1, t))),
                          .root = static_cast<T>(1 / std::sqrt(1 - std::pow(options_.beta2, t))),
                          .share1 = static_cast<T>(1 - options_.beta1),
                          .share2 = static_cast<T>(1 - options_.beta2),
                          .epsilon = static_cast<T>(options_.epsilon),
                          .decay = static_cast<T>(decoupled_ ? 0.0 : options_.weight_decay),
                          .keep = static_cast<T>(decoupled_ ? 1 - learning_rate * options_.weight_decay : 1.0),
                          .scale = static_cast<T>(gradient_scale)};
  }
  void update(const UpdateNumbers<T>& numbers) override {
    const auto& s = std::get<AdamNumbers<T>>(numbers);
    const auto values = this->store().edit_values();
    const T* gradients = this->store().gradients().data();
    detail::each_chunk(values.size(), [&](auto isa, std::int64_t begin, std::int64_t end) {
      adam_update<T>(isa, values.data() + begin, gradients + begin, first_.data() + begin, second_.data() + begin,
                     end - begin, s.rate, s.root, s.share1, s.share2, s.epsilon, s.decay, s.keep, s.scale);
    });
  }

 private:
  AdamOptions options_;
  bool decoupled_;
  AlignedVector<T> first_;
  AlignedVector<T> second_;
};

/// Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019, algorithm 2), as torch.optim.AdamW:
/// w *= 1 - rate*weight_decay before Adam's step.
template <class T>
class AdamW : public Adam<T> {
 public:
  explicit AdamW(ParameterStore<T>& store, AdamOptions options = {.weight_decay = 0.01})
      : Adam<T>(store, options, true) {}
};

/// Options of an optimizer chosen by name; each reads those that it has.
struct OptimizerOptions {
  double momentum = 0.9;
  bool nesterov = false;
  double weight_decay = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
};

/// The names that make_optimizer knows.
inline std::vector<std::string_view> optimizer_names() { return {"sgd", "adam", "adamw"}; }

/// The optimizer of that name; ValueError lists the names there are.
template <class T>
std::unique_ptr<Optimizer<T>> make_optimizer(std::string_view name, ParameterStore<T>& store, OptimizerOptions o = {}) {
  if (name == "sgd") {
    return std::make_unique<Sgd<T>>(
        store, SgdOptions{.momentum = o.momentum, .nesterov = o.nesterov, .weight_decay = o.weight_decay});
  }
  const AdamOptions adam{.beta1 = o.beta1, .beta2 = o.beta2, .epsilon = o.epsilon, .weight_decay = o.weight_decay};
  if (name == "adam") {
    return std::make_unique<Adam<T>>(store, adam);
  }
  require(name == "adamw", "optimizer: there is no '", name, "', expected one of ", join(optimizer_names()));
  return std::make_unique<AdamW<T>>(store, adam);
}

/// The Euclidean norm of all gradients together. Squares are added in double, in an order that depends on nothing.
template <class T>
double gradient_norm(ParameterStore<T>& store) {
  const auto gradients = store.gradients();
  std::vector<double> sums((gradients.size() + detail::kChunk - 1) / detail::kChunk);
  detail::each_chunk(gradients.size(), [&](auto isa, std::int64_t begin, std::int64_t end) {
    sums[static_cast<std::size_t>(begin / detail::kChunk)] =
        sum_of_squares<T>(isa, gradients.data() + begin, end - begin);
  });
  double total = 0;
  for (const double s : sums) {
    total += s;
  }
  return std::sqrt(total);
}

/// Shortens the gradient of all parameters together to the norm `limit` where it is longer, as
/// torch.nn.utils.clip_grad_norm_: gradients are multiplied by min(1, limit / (norm + 1e-6)). Returns the norm before.
template <class T>
double clip_gradient_norm(ParameterStore<T>& store, double limit) {
  require(limit > 0, "clip_gradient_norm: limit ", limit, ", expected more than 0");
  const double norm = gradient_norm(store);
  const double factor = limit / (norm + 1e-6);
  if (factor < 1) {
    const auto gradients = store.gradients();
    detail::each_chunk(gradients.size(), [&](auto isa, std::int64_t begin, std::int64_t end) {
      scale_values<T>(isa, gradients.data() + begin, end - begin, static_cast<T>(factor));
    });
  }
  return norm;
}

/// Clips every gradient to [-limit, limit].
template <class T>
void clip_gradient_values(ParameterStore<T>& store, double limit) {
  require(limit > 0, "clip_gradient_values: limit ", limit, ", expected more than 0");
  const auto gradients = store.gradients();
  detail::each_chunk(gradients.size(), [&](auto isa, std::int64_t begin, std::int64_t end) {
    clip_values<T>(isa, gradients.data() + begin, end - begin, static_cast<T>(limit));
  });
}

}  // namespace pavise::optim

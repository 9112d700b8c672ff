// SPDX-License-Identifier: MIT
// A model on a GPU. The operations of one pass of the model over one image are traced (autodiff/trace.hpp) and then run
// there for thousands of images, 32 in a warp. Whatever is done for one image alone (logits, gradients of the input)
// has the bits of the CPU; gradients of weights, sums over images, agree with it within rounding.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "pavise/device/batch_sums.hpp"
#include "pavise/device/memory.hpp"
#include "pavise/device/steps.hpp"
#include "pavise/device/weights.hpp"
#include "pavise/nn/model.hpp"

namespace pavise::device {

/// What a network on a device is for: the more, the more memory.
enum class Use {
  logits,    ///< forward passes alone
  gradient,  ///< and gradients of the input, in evaluation mode
  training,  ///< gradients of the weights, in training mode; and of the input
};

class Network {
 public:
  /// Room for passes of up to `capacity` images. The model must outlive it. Throws DeviceError for an operation that has
  /// no CUDA twin, naming it, and where the device's memory does not suffice, with the sizes.
  Network(const nn::Model& model, Device device, std::int64_t capacity, Use use,
          Arithmetic arithmetic = Arithmetic::exact)
      : Network(model, std::make_shared<const Stream>(device), capacity, use, arithmetic) {}
  /// The same on a stream that others work on, too.
  Network(const nn::Model& model, std::shared_ptr<const Stream> stream, std::int64_t capacity, Use use,
          Arithmetic arithmetic = Arithmetic::exact)
      : model_(model),
        held_stream_(std::move(stream)),
        stream_(*held_stream_),
        capacity_(groups_of(capacity) * 32),
        use_(use),
        fast_(arithmetic == Arithmetic::fast),
        weights_(stream_, model_) {
    require(capacity >= 1, "device network: room for ", capacity, " images, expected 1 or more");
    steps_ = trace();
    random_ = std::any_of(steps_.begin(), steps_.end(), draws_numbers);
    input_.out_size = size();
    const std::int64_t groups = groups_of(capacity_);
    const auto lanes = [&](std::int64_t n) { return groups * n * 32; };
    auto& store = model_.parameters();
    seed_ = Array<float>(stream_, lanes(1));
    loss_ = Array<float>(stream_, lanes(1));
    saved_ = Array<float>(stream_, lanes(classes() + 2));
    prediction_ = Array<std::int32_t>(stream_, lanes(1));
    std::int64_t scratch = 0;
    std::int64_t largest = 0;  // of the sums over images
    std::int64_t transformed[2] = {0, 0};
    for (Step& s : steps_) {
      if (s.op.kind == Kind::reshape) {
        continue;
      }
      arrays_.emplace_back(stream_, lanes(s.out_size));
      s.value = arrays_.back().get();
      if (s.op.kind == Kind::batch_norm) {
        const std::int64_t channels = s.op.running_mean->size();
        s.norm = std::make_unique<BatchNorm>(stream_, channels, s.out_size / channels);
        largest = std::max(largest, s.norm->largest());
        scratch = std::max(scratch, s.norm->partial(stream_, groups));
      }
      if (s.op.kind == Kind::row_norm) {
        s.row_norm = std::make_unique<RowNorm>(stream_, s.op.rows, groups);
        for (const auto* p : {s.op.weight, s.op.bias}) {
          if (p != nullptr && use_ == Use::training) {
            scratch = std::max(scratch, s.row_norm->partial(stream_, p->size(), groups));
          }
        }
      }
      if (s.op.kind == Kind::dropout) {
        s.layer_number =
            Array<std::uint32_t>(stream_, std::vector<std::uint32_t>(static_cast<std::size_t>(lanes(1)), s.op.layer));
      }
      if (s.op.kind == Kind::function) {
        s.function = make_function(stream_, *s.op.what, {s.in_size, step_of(s.input[1]).out_size}, s.out_size, groups);
      }
      if (s.op.kind != Kind::linear) {
        continue;
      }
      s.forward = std::make_unique<Product>(stream_, s.op, s.op.transposed, arithmetic);
      if (use_ != Use::logits) {
        s.backward = std::make_unique<Product>(stream_, s.op, !s.op.transposed, arithmetic);
      }
      for (const auto* p : {s.forward.get(), s.backward.get()}) {
        if (p != nullptr) {
          transformed[0] = std::max(transformed[0], p->scratch_in());
          transformed[1] = std::max(transformed[1], p->scratch_out());
        }
      }
      if (use_ == Use::training) {
        const auto& g = s.op.geometry;
        const std::int64_t channels = s.op.bias != nullptr ? s.op.bias->size() : 1;
        scratch = std::max(
            {scratch,
             s.op.matrix ? stream_.kernels().linear_weight_gradient_scratch(g.out_channels, g.in_channels, groups)
                         : stream_.kernels().conv_weight_gradient_scratch(g, groups),
             stream_.kernels().bias_gradient_scratch(channels, s.out_size / channels, groups)});
      }
    }
    for (int i = 0; i < 2; ++i) {
      transformed_[static_cast<std::size_t>(i)] = Array<float>(stream_, lanes(transformed[i]));
    }
    if (use_ != Use::logits) {
      for (Step& s : steps_) {
        arrays_.emplace_back(stream_, lanes(s.out_size));
        s.room = arrays_.back().get();
      }
      input_gradient_ = Array<float>(stream_, lanes(model_.input_shape().numel()));
    }
    if (use_ == Use::training) {
      for (const auto& p : store.parameters()) {
        largest = std::max(largest, p.size());
      }
      gradients_ = Array<float>(stream_, static_cast<std::int64_t>(store.gradients().size()));
      sums_ = BatchSums(stream_, largest, scratch);
    }
    for (std::size_t i = 0; i < steps_.size(); ++i) {  // a reshaped value lies where the value itself does
      if (steps_[i].op.kind == Kind::reshape) {
        steps_[i].value = steps_[i].input[0] >= 0 ? step_of(steps_[i].input[0]).value : nullptr;
      }
    }
    upload();
  }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  ~Network() {
    try {
      stream_.finish();
    } catch (const DeviceError&) {
    }
  }

  const nn::Model& model() const { return model_; }
  const Stream& stream() const { return stream_; }
  std::int64_t capacity() const { return capacity_; }  ///< images
  std::int64_t size() const { return model_.input_shape().numel(); }
  std::int64_t classes() const { return steps_.back().out_size; }

  /// Takes over the weights where the model's have changed since. Before a pass.
  void refresh() {
    if (!weights_.current()) {
      upload();
    }
  }

  /// Queues a forward pass over the first `images` of x, [group][size][32] on the device, which must stay until the
  /// backward pass is done. With peers the images are this process's share of `images_of_all` (share_of, by blocks of
  /// kBlockImages), possibly none; sums over images, here and in the backward pass, are those of all, with the bits of one
  /// device that has them.
  const float* forward(const float* x, std::int64_t images, Peers* peers = nullptr, std::int64_t images_of_all = 0) {
    begin(x, images);
    sums_.begin(peers, peers != nullptr ? images_of_all : images);
    require(sums_.own_images() == images, "device network: a pass over ", images,
            " images, expected this process's share of ", images_of_all, ": ", sums_.own_images());
    for (Step& s : steps_) {
      if (!s.carrier) {
        run_forward(s);
      }
    }
    return logits();
  }
  const float* logits() const { return steps_.back().value; }  ///< [group][classes][32]

  /// Queues the cross-entropy of the logits for labels [group][32] on the device, and its derivative by them: `scale` for
  /// every image of the pass.
  void cross_entropy(const std::int32_t* labels, float smoothing, float scale) {
    const auto& k = stream_.kernels();
    const std::int64_t groups = groups_of(images_);
    k.cross_entropy_forward(stream_.get(), logits(), labels, loss_.get(), saved_.get(), classes(), smoothing, 1.0f,
                            groups);
    k.seed_gradient(stream_.get(), seed_.get(), images_, groups);
    if (scale != 1.0f) {
      k.unary_forward(stream_.get(), kernels::Unary::affine, seed_.get(), seed_.get(), groups * 32, scale, 0.0f);
    }
    Step& last = steps_.back();
    k.cross_entropy_backward(stream_.get(), saved_.get(), labels, seed_.get(), last.room, classes(), smoothing, 1.0f,
                             false, groups);
  }
  /// The same of the difference of logits ratio, or of the targeted ratio where there are `targets`.
  void dlr(const std::int32_t* labels, const std::int32_t* targets) {
    const auto& k = stream_.kernels();
    const std::int64_t groups = groups_of(images_);
    constexpr std::int64_t kEntries = 5;  // of the gradient
    if (entries_.size() == 0) {
      entries_ = Array<std::int32_t>(stream_, groups_of(capacity_) * kEntries * 32);
      entry_values_ = Array<float>(stream_, groups_of(capacity_) * kEntries * 32);
    }
    k.dlr_forward(stream_.get(), logits(), labels, targets, loss_.get(), entries_.get(), entry_values_.get(), classes(),
                  groups);
    k.seed_gradient(stream_.get(), seed_.get(), images_, groups);
    k.sparse_backward(stream_.get(), entries_.get(), entry_values_.get(), seed_.get(), logit_gradient(), classes(),
                      false, groups);
  }
  const float* loss() const { return loss_.get(); }  ///< [group][32]

  /// Where backward starts from: the gradient of the logits, [group][classes][32], for whoever has it from elsewhere.
  float* logit_gradient() { return steps_.back().room; }

  /// Queues the classes of the last pass, [group][32].
  const std::int32_t* predict() {
    stream_.kernels().argmax(stream_.get(), logits(), prediction_.get(), classes(), groups_of(images_));
    return prediction_.get();
  }
  const std::int32_t* predictions() const { return prediction_.get(); }  ///< of the last `predict`

  /// Queues the backward pass of the gradient of the logits, and returns the input's: [group][size][32]; null where the
  /// logits do not depend on it.
  float* backward() {
    backward(false, true);
    return input_.has_gradient ? input_.gradient : nullptr;
  }

  /// Queues the gradients of all weights of the last pass, and of its input where asked for; `gradients` are then those
  /// of the model's store. Returns the input's gradient, as `backward`.
  const float* weight_gradients(bool to_input = false) {
    require(use_ == Use::training, "device network: gradients of weights, expected a network for training");
    stream_.kernels().fill_bytes(gradients_.get(), 0, static_cast<std::size_t>(gradients_.size()) * sizeof(float),
                                 stream_.get());
    backward(true, to_input);
    sums_.share_out(stream_, gradients_.get(), gradients_.size());
    return to_input && input_.has_gradient ? input_.gradient : nullptr;
  }
  const Array<float>& gradients() const { return gradients_; }

  // --- networks for training

  /// Whether a pass in evaluation mode is another than one in training mode.
  bool differs_in_evaluation() const {
    return model_.net().declaration().temperature != 1 || std::any_of(steps_.begin(), steps_.end(), [](const Step& s) {
             return s.op.kind == Kind::batch_norm || s.op.kind == Kind::dropout;
           });
  }
  /// Whether passes draw random numbers: those of `set_key`.
  bool random() const { return random_; }
  /// What random numbers of the passes from now on are keyed by.
  void set_key(DrawKey key) { key_ = std::move(key); }
  /// Moves the running statistics of the model's batch normalisations towards those of the last pass.
  void update_running_statistics() {
    const bool current = weights_.current();
    bool any = false;
    for (const Step& s : steps_) {
      if (s.norm != nullptr) {
        s.norm->fetch();
        any = true;
      }
    }
    if (!any) {
      return;
    }
    stream_.finish();
    for (const Step& s : steps_) {
      if (s.norm != nullptr) {
        s.norm->update_running(s.op);
      }
    }
    if (current) {  // the weights have not changed
      weights_.set_current();
    }
  }

 private:
  using Kind = TracedOperation<float>::Kind;

  Mode mode() const { return use_ == Use::training ? Mode::training : Mode::evaluation; }

  std::vector<Step> trace() const { return trace_steps(model_, mode(), use_ != Use::logits, stream_.device()); }

  /// The weights as they are now, from the host.
  void upload() {
    const bool derived = std::any_of(steps_.begin(), steps_.end(), [&](const Step& s) {
      return s.op.kind == Kind::channels || (s.op.weight != nullptr && weights_.is_of_another_store(*s.op.weight));
    });
    if (derived && weights_.uploaded()) {
      auto again = trace();
      for (std::size_t i = 0; i < again.size(); ++i) {
        steps_[i].op = std::move(again[i].op);
      }
    }
    weights_.upload();
    for (Step& s : steps_) {
      if (s.op.kind == Kind::channels) {
        std::vector<float> all;
        for (const auto* part : {&s.op.mean, &s.op.scale, &s.op.shift}) {
          all.insert(all.end(), part->begin(), part->end());
        }
        if (s.channels.size() == 0) {  // once: recorded work holds its address
          s.channels = Array<float>(stream_, static_cast<std::int64_t>(all.size()));
        }
        s.channels.upload(all.data(), s.channels.size());
      }
      if (s.op.kind == Kind::linear) {
        const float* weight = weights_.put(*s.op.weight);
        for (auto* p : {s.forward.get(), s.backward.get()}) {
          if (p != nullptr) {
            p->pack(*s.op.weight, weight);
          }
        }
        if (s.op.bias != nullptr) {
          weights_.put(*s.op.bias);
        }
      }
    }
    stream_.finish();
    weights_.set_current();
  }

  Step& step_of(int number) { return number >= 0 ? steps_[static_cast<std::size_t>(number)] : input_; }

  void begin(const float* x, std::int64_t images) {
    require(images >= (use_ == Use::training ? 0 : 1) && images <= capacity_, "device network: ", images,
            " images, expected 1 to ", capacity_);
    images_ = images;
    input_.value = const_cast<float*>(x);
    input_.out_size = size();
    input_.room = input_gradient_.get();
    for (Step& s : steps_) {  // a reshaped input
      if (s.op.kind == Kind::reshape) {
        s.value = step_of(s.input[0]).value;
      }
    }
  }

  void run_forward(Step& s) {
    const auto& k = stream_.kernels();
    const std::int64_t groups = groups_of(images_);
    const float* x = step_of(s.input[0]).value;
    const std::int64_t n = groups * s.out_size * 32;
    switch (s.op.kind) {
      case Kind::linear:
        s.forward->apply(
            x, s.value, {.bias = weights_.value_of(s.op.bias), .mask = nullptr, .relu = s.op.relu, .accumulate = false},
            groups, transformed_);
        return;
      case Kind::unary:
        return k.unary_forward(stream_.get(), s.op.function, x, s.value, n, s.op.a, s.op.b);
      case Kind::sum:
        return k.add_values(stream_.get(), x, step_of(s.input[1]).value, s.value, n, s.op.relu);
      case Kind::max_pool:
        return k.max_pool(stream_.get(), s.op.geometry, x, s.value, groups);
      case Kind::avg_pool:
        return k.avg_pool(stream_.get(), s.op.geometry, s.op.include_padding, x, s.value, groups);
      case Kind::reshape:
        return;
      case Kind::channels: {
        const std::int64_t c = s.channels.size() / 3;
        const float* f = s.channels.get();
        return k.channel_affine(stream_.get(), x, s.value, c, s.out_size / c, {f, f + c, f + 2 * c}, s.op.relu, groups);
      }
      case Kind::batch_norm:
        return s.norm->forward(stream_, sums_, x, s.value, weights_.value_of(s.op.weight), weights_.value_of(s.op.bias),
                               s.op.relu, s.op.epsilon, images_);
      case Kind::row_norm:
        return s.row_norm->forward(stream_, x, s.value, weights_.value_of(s.op.weight), weights_.value_of(s.op.bias),
                                   s.op.epsilon, s.op.relu, groups);
      case Kind::dropout:
        return k.dropout(stream_.get(), x, s.value, s.out_size, groups, s.op.threshold, s.op.a, key_of(s), false,
                         nullptr);
      case Kind::function:
        return s.function->forward(stream_, operands(s));
    }
  }

  void backward(bool weights, bool to_input) {
    require(use_ != Use::logits, "device network: a backward pass, expected a network for gradients");
    for (Step& s : steps_) {
      s.has_gradient = s.unmasked = false;
    }
    input_.has_gradient = input_.unmasked = false;
    for (Step& s : steps_) {
      if (s.carrier && (to_input || s.below_weights)) {
        run_forward(s);
      }
    }
    Step& last = steps_.back();
    last.gradient = last.room;
    last.has_gradient = true;
    for (std::size_t i = steps_.size(); i-- > 0;) {
      if (steps_[i].has_gradient) {
        run_backward(steps_[i], weights, to_input);
      }
    }
  }

  /// Whether the gradient of input k of a step is asked for.
  bool wanted(const Step& s, std::size_t k, bool to_input) {
    return to_input || (s.input[k] >= 0 && step_of(s.input[k]).below_weights);
  }
  /// Where the gradient of a step's input goes, as Tape::target.
  Tape<float>::Target target(Step& to, bool can_mask) {
    Tape<float>::Target t{.data = to.has_gradient ? to.gradient : to.room, .accumulate = to.has_gradient};
    to.gradient = t.data;
    to.has_gradient = true;
    if (to.op.relu && can_mask) {
      t.mask = to.value;
    } else if (to.op.relu) {
      to.unmasked = true;
    }
    return t;
  }

  void run_backward(Step& s, bool weights, bool to_input) {
    const auto& k = stream_.kernels();
    const std::int64_t groups = groups_of(images_);
    Step& from = step_of(s.input[0]);
    const std::int64_t n = groups * s.in_size * 32;
    if (s.op.relu && s.unmasked) {
      k.pass_gradient(stream_.get(), s.gradient, s.gradient, groups * s.out_size * 32, false, s.value);
    }
    const float* dy = s.gradient;
    if (s.op.kind == Kind::linear && weights) {
      add_weight_gradients(s, from.value, dy, groups);
    }
    if (s.op.kind == Kind::row_norm && weights) {
      for (const auto* p : {s.op.weight, s.op.bias}) {
        if (float* to = gradient_of(p)) {
          s.row_norm->add_gradient(stream_, sums_, p == s.op.weight, from.value, dy, to, p->size(), images_);
        }
      }
    }
    if (s.op.kind == Kind::sum) {
      for (std::size_t i = 0; i < 2; ++i) {
        if (wanted(s, i, to_input)) {
          const auto t = target(step_of(s.input[i]), true);
          k.pass_gradient(stream_.get(), dy, t.data, n, t.accumulate, t.mask);
        }
      }
      return;
    }
    if (s.op.kind == Kind::function) {
      for (std::size_t i = 0; i < 2; ++i) {
        if (s.function->differentiates(i) && s.op.inputs[i] >= 0 && wanted(s, i, to_input)) {
          run_function_backward(s, i, dy);
        }
      }
      return;
    }
    if (s.op.kind == Kind::batch_norm) {
      const auto t = wanted(s, 0, to_input) ? target(from, true) : Tape<float>::Target{};
      return s.norm->backward(stream_, sums_, from.value, dy, weights_.value_of(s.op.weight),
                              weights ? gradient_of(s.op.weight) : nullptr, weights ? gradient_of(s.op.bias) : nullptr,
                              t.data, t.accumulate, t.mask, images_);
    }
    if (!wanted(s, 0, to_input)) {
      return;
    }
    if (s.op.kind == Kind::reshape) {
      from.unmasked = from.unmasked || from.op.relu;
      if (from.has_gradient) {
        k.pass_gradient(stream_.get(), dy, from.gradient, n, true, nullptr);
      } else {
        from.gradient = s.gradient;
        from.has_gradient = true;
      }
      return;
    }
    const auto t = target(from, s.op.kind != Kind::unary);
    switch (s.op.kind) {
      case Kind::linear:
        return s.backward->apply(dy, t.data,
                                 {.bias = nullptr, .mask = t.mask, .relu = false, .accumulate = t.accumulate}, groups,
                                 transformed_);
      case Kind::unary:
        return k.unary_backward(stream_.get(), s.op.function, from.value, s.value, dy, t.data, n, s.op.a, s.op.b,
                                t.accumulate);
      case Kind::max_pool:
        return k.max_pool_backward(stream_.get(), s.op.geometry, from.value, s.value, dy, t.data, t.accumulate, t.mask,
                                   groups);
      case Kind::avg_pool:
        return k.avg_pool_backward(stream_.get(), s.op.geometry, s.op.include_padding, dy, t.data, t.accumulate, t.mask,
                                   groups);
      case Kind::channels: {
        const std::int64_t c = s.channels.size() / 3;
        return k.channel_backward(stream_.get(), dy, t.data, c, s.out_size / c, s.channels.get() + c, t.accumulate,
                                  t.mask, groups * 32, groups);
      }
      case Kind::row_norm:
        return s.row_norm->backward(stream_, from.value, dy, weights_.value_of(s.op.weight), t.data, t.accumulate,
                                    t.mask, groups);
      case Kind::dropout:
        return k.dropout(stream_.get(), dy, t.data, s.in_size, groups, s.op.threshold, s.op.a, key_of(s), t.accumulate,
                         t.mask);
      case Kind::sum:
      case Kind::reshape:
      case Kind::batch_norm:
      case Kind::function:
        return;
    }
  }

  FunctionPass operands(Step& s) {
    return {{step_of(s.input[0]).value, s.op.inputs[1] >= 0 ? step_of(s.input[1]).value : nullptr},
            s.value,
            groups_of(images_),
            key_};
  }
  void run_function_backward(Step& s, std::size_t input, const float* dy) {
    Step& from = step_of(s.input[input]);
    const auto t = target(from, false);
    if (s.function->adds() && !t.accumulate) {
      stream_.kernels().fill_bytes(
          t.data, 0, static_cast<std::size_t>(groups_of(images_) * from.out_size * 32) * sizeof(float), stream_.get());
    }
    s.function->backward(stream_, operands(s), input, dy, t.data, t.accumulate);
  }

  kernels::LaneKeys key_of(const Step& s) const {
    return {.seed = key_.seed,
            .purpose = static_cast<std::uint32_t>(Purpose::dropout),
            .iteration = key_.iteration,
            .image = key_.ids,
            .restart = s.layer_number.get()};
  }
  float* gradient_of(const Parameter<float>* p) const {
    return p != nullptr && p->trainable() ? gradients_.get() + weights_.offset_of(*p) : nullptr;
  }
  void add_weight_gradients(const Step& s, const float* x, const float* dy, std::int64_t groups) {
    const auto& k = stream_.kernels();
    const auto& g = s.op.geometry;
    float* partial = sums_.partial();
    if (float* db = gradient_of(s.op.bias)) {
      const std::int64_t channels = s.op.bias->size();
      sums_.add(stream_, db, channels,
                k.bias_gradient(stream_.get(), channels, s.out_size / channels, dy, partial, groups));
    }
    if (float* dw = gradient_of(s.op.weight)) {
      const float* in = s.op.transposed ? dy : x;
      const float* out = s.op.transposed ? x : dy;
      sums_.add(stream_, dw, s.op.weight->size(),
                s.op.matrix ? (fast_ ? k.linear_weight_gradient_fast : k.linear_weight_gradient)(
                                  stream_.get(), g.out_channels, g.in_channels, in, out, partial, groups)
                            : (fast_ ? k.conv_weight_gradient_fast : k.conv_weight_gradient)(stream_.get(), g, in, out,
                                                                                             partial, groups));
    }
  }

  const nn::Model& model_;
  std::shared_ptr<const Stream> held_stream_;
  const Stream& stream_;
  std::int64_t capacity_;
  Use use_;
  bool fast_;
  Weights weights_;
  std::vector<Array<float>> arrays_;
  Array<float> gradients_, seed_, loss_, saved_, input_gradient_;
  BatchSums sums_;
  DrawKey key_;
  bool random_ = false;
  std::array<Array<float>, 2> transformed_;
  Array<std::int32_t> prediction_, entries_;
  Array<float> entry_values_;
  std::vector<Step> steps_;
  Step input_;
  std::int64_t images_ = 0;
};

}  // namespace pavise::device

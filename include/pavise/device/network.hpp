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
#include "pavise/device/losses.hpp"
#include "pavise/device/memory.hpp"
#include "pavise/device/packing.hpp"
#include "pavise/device/running.hpp"
#include "pavise/device/steps.hpp"
#include "pavise/device/weights.hpp"
#include "pavise/nn/model.hpp"

namespace pavise::device {

class Network {
 public:
  /// Room for passes of up to `capacity` images. The model must outlive it. Throws DeviceError for an operation that has
  /// no CUDA twin, naming it, and where the device's memory does not suffice, with the sizes.
  Network(const Program& program, Device device, std::int64_t capacity, Use use,
          Arithmetic arithmetic = Arithmetic::exact)
      : Network(program, std::make_shared<const Stream>(device), capacity, use, arithmetic) {}
  /// The same on a stream that others work on, too.
  Network(Program program, std::shared_ptr<const Stream> stream, std::int64_t capacity, Use use,
          Arithmetic arithmetic = Arithmetic::exact)
      : program_(std::move(program)),
        held_stream_(std::move(stream)),
        stream_(*held_stream_),
        capacity_(groups_of(capacity) * 32),
        use_(use),
        fast_(arithmetic != Arithmetic::exact),
        weights_(stream_, program_.parameters) {
    require(capacity >= 1, "device network: room for ", capacity, " images, expected 1 or more");
    steps_ = trace();
    random_ = std::any_of(steps_.begin(), steps_.end(), draws_numbers);
    input_.out_size = size();
    const std::int64_t groups = groups_of(capacity_);
    const auto lanes = [&](std::int64_t n) { return groups * n * 32; };
    auto& store = program_.parameters;
    losses_ = Losses(stream_, classes(), groups);
    Scratch scratch;
    for (Step& s : steps_) {
      if (s.op.kind == Kind::reshape) {
        continue;
      }
      arrays_.emplace_back(stream_, lanes(s.out_size));
      s.value = arrays_.back().get();
      prepare(s, step_of(s.input[1]).out_size, stream_, use_, arithmetic, groups, scratch);
    }
    for (std::size_t i = 0; i < 2; ++i) {
      transformed_[i] = Array<float>(stream_, lanes(scratch.transformed[i]));
    }
    if (use_ != Use::logits) {
      for (Step& s : steps_) {
        arrays_.emplace_back(stream_, lanes(s.out_size));
        s.room = arrays_.back().get();
      }
      input_gradient_ = Array<float>(stream_, lanes(size()));
    }
    if (use_ == Use::training) {
      for (const auto& p : store.parameters()) {
        scratch.largest = std::max(scratch.largest, p.size());
      }
      gradients_ = Array<float>(stream_, static_cast<std::int64_t>(store.gradient_memory().size()));
      sums_ = BatchSums(stream_, scratch.largest, scratch.partial);
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

  const Program& program() const { return program_; }
  const Stream& stream() const { return stream_; }
  std::int64_t capacity() const { return capacity_; }  ///< images
  std::int64_t size() const { return program_.input.numel(); }
  std::int64_t classes() const { return steps_.back().out_size; }

  /// Takes over the weights where the model's have changed since; from `trained` where that has them. Before a pass.
  void refresh(const Network* trained = nullptr) {
    if (weights_.current()) {
      return;
    }
    // What the host once made of the weights holds until they come from there again.
    if (trained == nullptr || !trained->weights_.current() || trained->uploads_ != seen_ || has_foreign_weights()) {
      upload();
      seen_ = trained != nullptr ? trained->uploads_ : 0;
      return;
    }
    weights_.copy(trained->weights_);
    pack_steps();
    weights_.set_current();
  }

  // --- weights that are changed on the device (device/updates.hpp)

  Weights& weights() { return weights_; }
  /// The weights were changed where they lie here, and are the model's: queues the packing of what is made of them. Where
  /// the host alone can make some of it, the next `refresh` has all from there.
  void repack() {
    if (has_foreign_weights()) {
      weights_.set_outdated();
      return;
    }
    pack_steps();
    weights_.set_current();
  }

  /// Queues a forward pass over the first `images` of x, [group][size][32] on the device, which must stay until the
  /// backward pass is done. With peers the images are this process's share of `images_of_all` (share_of, by blocks of
  /// kBlockImages), possibly none; sums over images, here and in the backward pass, are those of all, with the bits of one
  /// device that has them.
  const float* forward(const float* x, std::int64_t images, Peers* peers = nullptr, std::int64_t images_of_all = 0) {
    begin(x, images);
    require(!random_ || key_.ids != nullptr || images == 0, "device network: a pass of ", program_.name,
            ", which draws random numbers, expected a key");
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
    losses_.cross_entropy(stream_, logits(), labels, smoothing, scale, logit_gradient(), images_);
  }
  /// The same of the difference of logits ratio, or of the targeted ratio where there are `targets`.
  void dlr(const std::int32_t* labels, const std::int32_t* targets) {
    losses_.dlr(stream_, logits(), labels, targets, logit_gradient(), images_);
  }
  const float* loss() const { return losses_.loss(); }  ///< [group][32]
  /// Queues the classes of the last pass, [group][32].
  const std::int32_t* predict() { return losses_.predict(stream_, logits(), images_); }
  const std::int32_t* predictions() const { return losses_.predictions(); }  ///< of the last `predict`

  /// Where backward starts from: the gradient of the logits, [group][classes][32], for whoever has it from elsewhere.
  float* logit_gradient() { return steps_.back().room; }

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
    return program_.temperature != 1 || std::any_of(steps_.begin(), steps_.end(), [](const Step& s) {
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
    device::update_running_statistics(steps_, stream_);
    if (current) {  // the weights have not changed
      weights_.set_current();
    }
  }
  /// Queues the same on the device, among its weights; returns whether there are any.
  bool move_running_statistics() { return device::move_running_statistics(steps_, weights_, stream_); }

 private:
  using Kind = TracedOperation<float>::Kind;

  Mode mode() const { return use_ == Use::training ? Mode::training : Mode::evaluation; }

  std::vector<Step> trace() const {
    auto steps = trace_steps(program_, mode(), use_ != Use::logits, stream_.device());
    for (Step& s : steps) {  // what the host makes of a normalisation in another store comes from there
      if (s.op.norm.mean != nullptr && weights_.is_of_another_store(*s.op.norm.mean)) {
        s.op.norm = {};
      }
    }
    return steps;
  }

  /// The weights as they are now, from the host.
  void upload() {
    const auto from_host = [&](const Step& s) { return made_by_host(s, weights_); };
    if (weights_.uploaded() && std::any_of(steps_.begin(), steps_.end(), from_host)) {
      auto again = trace();
      for (std::size_t i = 0; i < again.size(); ++i) {
        steps_[i].op = std::move(again[i].op);
      }
    }
    weights_.upload();
    for (Step& s : steps_) {
      upload_factors(s, stream_);
    }
    ++uploads_;
    pack_steps();
    stream_.finish();
    weights_.set_current();
  }
  void pack_steps() {
    for (Step& s : steps_) {
      pack(s, weights_, stream_);
    }
  }
  bool has_foreign_weights() const {
    return std::any_of(steps_.begin(), steps_.end(),
                       [&](const Step& s) { return device::has_foreign_weights(s, weights_); });
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
      case Kind::magnitude:  // of weights, with their product
        return;
    }
  }

  void backward(bool weights, bool to_input) {
    require(use_ != Use::logits, "device network: a backward pass, expected a network for gradients");
    for (Step& s : steps_) {
      s.has_gradient = s.unmasked = false;
    }
    input_.has_gradient = input_.unmasked = false;
    const bool carried = to_input || std::any_of(steps_.begin(), steps_.end(),
                                                 [](const Step& s) { return s.carrier && s.below_weights; });
    for (Step& s : steps_) {
      if (s.carrier && carried) {
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
      case Kind::magnitude:
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
    return p != nullptr && p->trainable() && !weights_.is_of_another_store(*p)
               ? gradients_.get() + weights_.offset_of(*p)
               : nullptr;
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
    if (float* gradient = gradient_of(s.op.weight)) {
      float* dw = gradient;
      if (s.absolute) {
        dw = s.magnitude_gradient.get();
        k.fill_bytes(dw, 0, static_cast<std::size_t>(s.magnitude_gradient.size()) * sizeof(float), stream_.get());
      }
      const float* in = s.op.transposed ? dy : x;
      const float* out = s.op.transposed ? x : dy;
      sums_.add(stream_, dw, s.op.weight->size(),
                s.op.matrix ? (fast_ ? k.linear_weight_gradient_fast : k.linear_weight_gradient)(
                                  stream_.get(), g.out_channels, g.in_channels, in, out, partial, groups)
                            : (fast_ ? k.conv_weight_gradient_fast : k.conv_weight_gradient)(stream_.get(), g, in, out,
                                                                                             partial, groups));
      if (s.absolute) {  // it goes on to the weights with their signs
        k.unary_backward(stream_.get(), kernels::Unary::abs, weights_.value_of(s.op.weight), s.magnitudes.get(), dw,
                         gradient, s.op.weight->size(), 0.0f, 0.0f, true);
      }
    }
  }

  Program program_;
  std::shared_ptr<const Stream> held_stream_;
  const Stream& stream_;
  std::int64_t capacity_;
  Use use_;
  bool fast_;
  Weights weights_;
  std::vector<Array<float>> arrays_;
  Array<float> gradients_, input_gradient_;
  Losses losses_;
  BatchSums sums_;
  DrawKey key_;
  bool random_ = false;
  std::array<Array<float>, 2> transformed_;
  std::vector<Step> steps_;
  Step input_;
  std::int64_t images_ = 0;
  std::uint64_t uploads_ = 0;  ///< of the weights from the host
  std::uint64_t seen_ = 0;     ///< of `trained`, when `refresh` last had them from the host
};

}  // namespace pavise::device

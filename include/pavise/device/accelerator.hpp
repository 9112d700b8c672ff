// SPDX-License-Identifier: MIT
// A model on a GPU for attacks and training: the loops that run there by themselves (attack/accelerator.hpp), and the
// model as a classifier for everything else.
//
//   const auto on_gpu = device::classifier(model, Device::cuda(0));
//   attack::run(attack::Pgd{threat}, on_gpu, images, labels);  // as on the CPU, to the same bits
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "pavise/attack/accelerator.hpp"
#include "pavise/attack/classifier.hpp"
#include "pavise/attack/query.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/device/ascent.hpp"
#include "pavise/device/exchange.hpp"
#include "pavise/device/graph.hpp"
#include "pavise/device/lane_math.hpp"
#include "pavise/device/network.hpp"
#include "pavise/device/random_search.hpp"
#include "pavise/device/updates.hpp"

namespace pavise::device {

struct Options {
  /// Images that go through a network together; 0: 4,096, or fewer where the device's memory asks for it.
  std::int64_t capacity = 0;
  bool training = false;  ///< gradients of the weights, too
  Arithmetic arithmetic = Arithmetic::exact;
  /// Devices of other processes that share the minibatches of training; null: this one has all of it.
  std::shared_ptr<Peers> peers = nullptr;
};

namespace detail {

/// Images of a pass that take at most a third of the device's memory, at most 4,096.
inline std::int64_t choose_capacity(const nn::Model& model, Device device, std::int64_t wanted) {
  if (wanted > 0) {
    return wanted;
  }
  Tape<float> tape;
  tape.begin(1);
  model(tape.input(model.input_shape(), true));  // with what derivatives take
  std::int64_t elements = 0;
  for (std::int32_t i = 0; i < static_cast<std::int32_t>(tape.size()); ++i) {
    const auto& node = tape.node({&tape, i});
    elements += node.shared ? 0 : node.size;
  }
  const auto memory = static_cast<double>(device.kernels().device_info(device.index()).memory);
  // Values, gradients, and Winograd's transforms of the largest of them.
  const double fit = memory / 3 / (4.0 * 4.0 * static_cast<double>(std::max<std::int64_t>(elements, 1)));
  return memory > 0 ? std::clamp<std::int64_t>(static_cast<std::int64_t>(fit), 32, 4096) : 256;
}

/// Images of which `arrays` arrays of n floats each take at most a third of the device's memory; at most `wanted`.
inline std::int64_t choose_lanes(Device device, std::int64_t wanted, std::int64_t arrays, std::int64_t n) {
  const auto memory = static_cast<double>(device.kernels().device_info(device.index()).memory);
  const double fit = memory / 3 / (4.0 * static_cast<double>(arrays * n));
  return memory > 0 ? std::clamp<std::int64_t>(static_cast<std::int64_t>(fit), 32, std::max<std::int64_t>(wanted, 32))
                    : wanted;
}

}  // namespace detail

class GpuAccelerator : public attack::Accelerator {
 public:
  GpuAccelerator(const nn::Model& model, Device device, const Options& options)
      : model_(model),
        stream_(std::make_shared<const Stream>(device)),
        network_(model, stream_, detail::choose_capacity(model, device, options.capacity),
                 options.training ? Use::training : Use::gradient, options.arithmetic),
        peers_(options.peers),
        arithmetic_(options.arithmetic) {
    if (options.training && network_.differs_in_evaluation()) {
      evaluation_ = std::make_unique<Network>(model, stream_, network_.capacity(), Use::gradient, options.arithmetic);
    }
    auto& net = attacked();
    const std::int64_t slots = groups_of(net.capacity()) * 32;
    host_ = Array<float>(*stream_, slots * std::max(net.size(), net.classes()));
    center_ = Array<float>(*stream_, slots * net.size());
    x_ = Array<float>(*stream_, slots * net.size());
    main_.network = &network_;
    main_.x = &x_;
    for (auto* array : {&labels_, &ids_, &restarts_, &words_}) {
      *array = Array<std::uint32_t>(*stream_, slots);
    }
  }

  std::string device() const override { return stream_->device().to_string(); }
  std::string arithmetic() const override { return arithmetic_name(arithmetic_); }
  std::int64_t capacity() const override { return network_.capacity(); }
  int processes() const override { return peers_ != nullptr ? peers_->size() : 1; }
  std::int64_t block() const override { return kernels::cuda::kBlockImages; }

  void classify(std::int64_t images, const std::function<const float*(std::int64_t)>& pixels, float* logits) override {
    const std::lock_guard lock(mutex_);
    Network& net = attack_network();
    const std::int64_t n = net.size();
    const std::int64_t classes = net.classes();
    for (std::int64_t begin = 0; begin < images; begin += net.capacity()) {
      const std::int64_t count = std::min(net.capacity(), images - begin);
      staged_.resize(static_cast<std::size_t>(count * n));
      parallel_for(count, [&](std::int64_t i) { std::copy_n(pixels(begin + i), n, staged_.data() + i * n); });
      put(staged_.data(), 1, n, count, host_, x_.get());
      net.forward(x_.get(), count);
      fetch(net.logits(), 1, classes, count, logits + begin * classes);
    }
    stream_->finish();
  }

  void descend(const attack::Descent& descent, const LaneBatch<float>& clean, const attack::Seed& seed,
               float* adversarial) override {
    const std::lock_guard lock(mutex_);
    Network& net = attacked();
    begin(net, clean);
    main_.held = 0;
    const auto& k = stream_->kernels();
    const auto stream = stream_->get();
    const std::int64_t n = net.size();
    const std::int64_t groups = groups_of(clean.images());
    put_images(clean, clean.values(), center_);
    put_names(clean);
    const kernels::cuda::AttackStep step{.norm = static_cast<int>(descent.threat.norm),
                                         .alpha = static_cast<float>(descent.alpha),
                                         .epsilon = static_cast<float>(descent.threat.epsilon),
                                         .low = static_cast<float>(descent.threat.low),
                                         .high = static_cast<float>(descent.threat.high),
                                         .sparsity = static_cast<float>(descent.l1_sparsity)};
    if (descent.random_start && descent.threat.epsilon > 0.0) {
      if (step.norm != 0 && draws_.size() == 0) {
        draws_ = Array<float>(*stream_, groups_of(net.capacity()) * 32 * (n + 2));
      }
      k.random_start(stream, x_.get(), center_.get(), n, groups, step,
                     {.seed = seed.seed,
                      .purpose = static_cast<std::uint32_t>(Purpose::random_start),
                      .iteration = seed.iteration,
                      .image = ids_.get(),
                      .restart = restarts_.get()},
                     draws_.get());
    } else {
      k.copy(x_.get(), center_.get(), static_cast<std::size_t>(groups * 32 * n) * sizeof(float), stream);
    }
    const auto take_step = [&] {
      net.forward(x_.get(), clean.images());
      net.cross_entropy(labels(), 0.0f, 1.0f);
      const float* direction = net.backward();
      if (descent.momentum && direction != nullptr) {
        k.add_momentum(stream, direction, momentum_.get(), static_cast<float>(*descent.momentum), n, groups);
        direction = momentum_.get();
      }
      k.attack_step(stream, x_.get(), direction, center_.get(), n, groups, step);
    };
    if (descent.momentum) {
      if (momentum_.size() == 0) {
        momentum_ = Array<float>(*stream_, x_.size());
      }
      k.fill_bytes(momentum_.get(), 0, static_cast<std::size_t>(groups * 32 * n) * sizeof(float), stream);
    }
    if (net.random()) {  // each step is a query of its own, as attack::query's
      std::vector<std::uint32_t> names(static_cast<std::size_t>(clean.images()));
      for (std::int64_t i = 0; i < descent.steps; ++i) {
        const std::uint64_t key = seed.seed + seed.iteration;
        for (std::size_t image = 0; image < names.size(); ++image) {
          names[image] =
              attack::query_name(key, clean.ids()[image], clean.restarts()[image], static_cast<std::uint32_t>(i), 0);
        }
        net.set_key(draw_key(names.data(), clean.images(), key, 0));
        take_step();
      }
    } else {
      run_recorded({clean.images(), descent.steps, step.norm, step.alpha, step.epsilon, step.low, step.high,
                    step.sparsity, static_cast<float>(descent.momentum.value_or(-1))},
                   [&] {
                     for (std::int64_t i = 0; i < descent.steps; ++i) {
                       take_step();
                     }
                   });
    }
    if (adversarial != nullptr) {
      fetch(x_.get(), clean.lanes(), n, clean.images(), adversarial);
    }
    stream_->finish();
  }

  void ascend(const attack::Ascent& ascent, std::int64_t attempts) override {
    make_attempts(ascent_, ascent, attempts);
  }

  void search(const attack::RandomSearch& search, std::int64_t attempts) override {
    make_attempts(search_, search, attempts);
  }

  void in_lanes(std::int64_t images, std::int64_t arrays,
                const std::function<void(attack::LaneNetwork&)>& body) override {
    const std::lock_guard lock(mutex_);
    Network& net = attack_network();
    DeviceLanes lanes(net, detail::choose_lanes(stream_->device(), images, arrays + 4, net.size()));
    body(lanes);
  }

  void accumulate(const LaneBatch<float>& batch, std::int64_t images_of_all, const attack::Seed& seed,
                  const float* pixels, float smoothing, float* losses, std::int32_t* predictions) override {
    const std::lock_guard lock(mutex_);
    begin(network_, batch);
    if (pixels != nullptr && batch.images() > 0) {
      put_images(batch, pixels, x_);
      put_names(batch);
    }
    const std::int64_t images = batch.images();
    if (network_.random()) {
      network_.set_key(draw_key(batch.ids(), images, seed.seed, seed.iteration));
    }
    const auto passes = [&] {
      network_.forward(x_.get(), images, peers_.get(), images_of_all);
      network_.predict();
      network_.cross_entropy(labels(), smoothing, 1.0f / static_cast<float>(images_of_all));
      network_.weight_gradients();
    };
    if (peers_ == nullptr && !network_.random()) {
      run_recorded({images, 0, 0, smoothing, 0, 0, 0, 0, 0}, passes);
    } else {  // what others send, and new random numbers, cannot be recorded
      passes();
    }
    main_.held = 0;
    const auto& k = stream_->kernels();
    const auto bytes = static_cast<std::size_t>(images) * sizeof(float);
    k.copy_to_host(losses, network_.loss(), bytes, stream_->get());
    k.copy_to_host(predictions, network_.predictions(), bytes, stream_->get());
    add_gradients(network_);
    stream_->finish();
    move_running_statistics(network_);
  }

  Var<float> apply(Var<float> x, std::int64_t images_of_all) override {
    const std::lock_guard lock(mutex_);
    return apply(main_, x, images_of_all);
  }
  Var<float> apply(const attack::Part& part, Var<float> x, std::int64_t images_of_all) override {
    const std::lock_guard lock(mutex_);
    auto& pass = parts_[&part];
    if (pass == nullptr) {
      stream_->use();
      pass = std::make_unique<Pass>();
      pass->own = std::make_unique<Network>(Program(part.name, part.input, model_, part.function), stream_,
                                            network_.capacity(), Use::training, arithmetic_);
      pass->network = pass->own.get();
      const std::int64_t slots = groups_of(network_.capacity()) * 32;
      pass->own_x = Array<float>(*stream_, slots * pass->network->size());
      pass->x = &pass->own_x;
      const std::int64_t staged = slots * std::max(pass->network->size(), pass->network->classes());
      if (staged > host_.size()) {
        host_ = Array<float>(*stream_, staged);
      }
    }
    return apply(*pass, x, images_of_all);
  }

  void take_updates(optim::Optimizer<float>& optimizer) override {
    const std::lock_guard lock(mutex_);
    require(updates_ == nullptr, device(), ": updates by a second optimizer, expected one");
    stream_->use();
    updates_ = std::make_unique<Updates>(network_, mutex_, optimizer);
  }

  const attack::Classifier& classifier() override {
    const std::lock_guard lock(mutex_);
    if (classifier_ == nullptr) {
      exchange_ = std::make_unique<Exchange>(model_, stream_->device(), network_.capacity(), arithmetic_,
                                             [this](Network& net) { refresh_elsewhere(net); });
      classifier_ = std::make_unique<attack::Classifier>(exchange_->classifier());
    }
    return *classifier_;
  }

 private:
  /// What decides the work of a graph: images, steps, norm, alpha or smoothing, epsilon, box, sparsity, momentum.
  using GraphKey = std::tuple<std::int64_t, std::int64_t, int, float, float, float, float, float, float>;

  /// A function that `apply` makes, and which of its passes the device holds.
  struct Pass {
    Network* network = nullptr;
    const Array<float>* x = nullptr;
    std::uint64_t held = 0;          ///< its number; 0: none
    std::unique_ptr<Network> own{};  ///< of another function than the model
    Array<float> own_x{};
  };

  /// In lanes that are made for the first of such attempts.
  template <class Lanes, class Attempts>
  void make_attempts(std::unique_ptr<Lanes>& lanes, const Attempts& attempts, std::int64_t count) {
    const std::lock_guard lock(mutex_);
    Network& net = attack_network();
    if (lanes == nullptr) {
      lanes = std::make_unique<Lanes>(net);
    }
    lanes->run(attempts, count);
  }
  /// The network that is attacked, with the weights of now.
  Network& attack_network() {
    Network& net = attacked();
    require_no_draws(net, "an attack");
    stream_->use();
    net.refresh(trained());
    main_.held = 0;
    return net;
  }

  Var<float> apply(Pass& pass, Var<float> x, std::int64_t images_of_all) {
    const Program& program = pass.network->program();
    Tape<float>& tape = x.tape();
    require<ShapeError>(x.shape() == program.input, program.name, ": expects images of ", program.input, ", got ",
                        x.shape());
    require(tape.lanes() == kernels::kLanes && tape.images() <= capacity(), device(), ": a pass over ", tape.images(),
            " images in groups of ", tape.lanes(), ", expected at most ", capacity(), " in groups of ",
            kernels::kLanes);
    const std::int64_t classes = pass.network->classes();
    const auto& parameters = program.parameters.parameters();
    const bool trains = std::any_of(parameters.begin(), parameters.end(), [](const auto& p) { return p.trainable(); });
    const Var<float> y = tape.result("network", Shape{classes}, {x});
    tape.node(y).needs_gradient = tape.needs_gradient(x) || (trains && tape.parameter_gradients());
    const std::uint64_t number = ++passes_;
    run_pass(pass, tape, x, images_of_all, number);
    fetch(pass.network->logits(), tape.lanes(), classes, tape.images(), const_cast<float*>(y.data()));
    stream_->finish();
    move_running_statistics(*pass.network);
    tape.on_backward(y, [=, this, &pass](Tape<float>& t) {
      const std::lock_guard guard(mutex_);
      stream_->use();
      if (pass.held != number) {  // another pass came between: once more
        run_pass(pass, t, x, images_of_all, number);
      }
      differentiate(pass, t, x, y);
    });
    return y;
  }

  /// A pass in training mode over the images at x.
  void run_pass(Pass& pass, const Tape<float>& tape, Var<float> x, std::int64_t images_of_all, std::uint64_t number) {
    stream_->use();
    Network& net = *pass.network;
    net.refresh(trained());
    if (tape.images() > 0) {
      put(x.data(), tape.lanes(), x.size(), tape.images(), host_, pass.x->get());
    }
    if (net.random()) {
      const PassKey& key = tape.key();
      require(key.images != nullptr || tape.images() == 0, device(),
              ": a pass that draws random numbers, expected ids of its images");
      net.set_key(draw_key(key.images, tape.images(), key.seed, key.iteration));
    }
    net.forward(pass.x->get(), tape.images(), peers_.get(), images_of_all);
    pass.held = number;
  }
  /// The derivative of the pass that the network holds.
  void differentiate(Pass& pass, Tape<float>& tape, Var<float> x, Var<float> y) {
    const std::int64_t classes = pass.network->classes();
    const std::int64_t slots = groups_of(tape.images()) * 32;  // those behind the last image have a gradient of zero
    staged_.assign(static_cast<std::size_t>(slots * classes), 0.0f);
    std::copy_n(tape.gradient(y), tape.groups() * tape.lanes() * classes, staged_.begin());
    put(staged_.data(), tape.lanes(), classes, slots, host_, pass.network->logit_gradient());
    const bool to_input = tape.needs_gradient(x);
    const float* dx = pass.network->weight_gradients(to_input);
    add_gradients(*pass.network);
    if (to_input && dx != nullptr) {
      const auto target = tape.target(x);
      staged_.resize(static_cast<std::size_t>(tape.groups() * tape.lanes() * x.size()));
      fetch(dx, tape.lanes(), x.size(), tape.images(), staged_.data());
      stream_->finish();
      for (std::size_t i = 0; i < staged_.size(); ++i) {
        target.data[i] = (target.accumulate ? target.data[i] : 0.0f) + staged_[i];
      }
    }
  }
  /// Adds the network's gradients of the weights to the model's.
  void add_gradients(const Network& net) {
    if (updates_ != nullptr && updates_->add(net)) {
      return;
    }
    const auto gradients = model_.parameters().gradients();
    downloaded_.resize(gradients.size());
    net.gradients().download(downloaded_.data(), net.gradients().size());
    stream_->finish();
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      gradients[i] += downloaded_[i];
    }
  }

  /// Moves the running statistics by those of a network's last pass.
  void move_running_statistics(Network& net) {
    if (updates_ != nullptr && &net == &network_) {
      updates_->move_running_statistics();
    } else {
      net.update_running_statistics();
    }
  }

  /// The key of a pass over images with those ids, which have a place of their own on the device.
  DrawKey draw_key(const std::uint32_t* ids, std::int64_t images, std::uint64_t seed, std::uint32_t iteration) {
    if (drawn_ids_.size() == 0) {
      drawn_ids_ = Array<std::uint32_t>(*stream_, groups_of(network_.capacity()) * 32);
    }
    return make_draw_key(drawn_ids_, ids, images, seed, iteration);
  }

  /// Takes over the weights for a network on another stream.
  void refresh_elsewhere(Network& net) {
    const std::lock_guard lock(mutex_);
    if (updates_ != nullptr && !net.weights().current()) {
      stream_->finish();
    }
    net.refresh(trained());
    if (updates_ != nullptr) {  // before an update can change what is copied
      net.stream().finish();
    }
  }
  /// Who has the weights when they change on the device.
  const Network* trained() const { return updates_ != nullptr ? &network_ : nullptr; }
  Network& attacked() { return evaluation_ != nullptr ? *evaluation_ : network_; }
  void require_no_draws(const Network& net, const char* what) const {
    require<DeviceError>(!net.random(), device(), ": ", what, " of ", net.program().name,
                         ", which draws random numbers, expected a function of the image");
  }
  const std::int32_t* labels() const { return reinterpret_cast<const std::int32_t*>(labels_.get()); }

  void begin(Network& net, const LaneBatch<float>& batch) {
    require<ShapeError>(batch.size() == net.size(), device(), ": images of ", batch.shape(), ", model ",
                        net.program().name, " expects ", net.program().input);
    require(batch.images() <= net.capacity(), device(), ": a batch of ", batch.images(), " images, room for ",
            net.capacity());
    stream_->use();
    net.refresh(trained());
  }
  /// Queues the copy of n elements an image from the host's groups of `lanes`, through `staging`.
  template <class T>
  void put(const T* from, int lanes, std::int64_t n, std::int64_t images, const Array<T>& staging, T* to) const {
    staging.upload(from, (images + lanes - 1) / lanes * lanes * n);
    stream_->kernels().change_lanes(stream_->get(), staging.get(), lanes, to, 32, n, images);
  }
  /// Queues the copy of n elements an image to the host's groups of `lanes`; they are there after Stream::finish.
  void fetch(const float* from, int lanes, std::int64_t n, std::int64_t images, float* to) const {
    stream_->kernels().change_lanes(stream_->get(), from, 32, host_.get(), lanes, n, images);
    host_.download(to, (images + lanes - 1) / lanes * lanes * n);
  }
  void put_images(const LaneBatch<float>& batch, const float* pixels, const Array<float>& to) const {
    put(pixels, batch.lanes(), batch.size(), batch.images(), host_, to.get());
  }
  void put_names(const LaneBatch<float>& batch) const {
    put(reinterpret_cast<const std::uint32_t*>(batch.labels()), batch.lanes(), 1, batch.images(), words_,
        labels_.get());
    put(batch.ids(), batch.lanes(), 1, batch.images(), words_, ids_.get());
    put(batch.restarts(), batch.lanes(), 1, batch.images(), words_, restarts_.get());
  }

  /// Queues work that is the same each time: recorded once, then launched as a whole.
  template <class Work>
  void run_recorded(const GraphKey& key, const Work& work) {
    if (const auto found = graphs_.find(key); found != graphs_.end()) {
      found->second.launch();
      return;
    }
    work();  // the first time as it is
    if (graphs_.size() == 16) {
      graphs_.clear();
    }
    graphs_.emplace(key, RecordedWork(*stream_, work));
  }

  const nn::Model& model_;
  std::recursive_mutex mutex_;            ///< who holds it may read the weights
  std::shared_ptr<const Stream> stream_;  ///< of all networks
  Network network_;
  std::shared_ptr<Peers> peers_;
  std::unique_ptr<Network> evaluation_;  ///< where evaluation passes are not those of training
  Array<float> host_, center_, x_, draws_, momentum_;
  Array<std::uint32_t> labels_, ids_, restarts_, words_, drawn_ids_;
  std::map<GraphKey, RecordedWork> graphs_;
  std::vector<float> downloaded_, staged_;
  Arithmetic arithmetic_ = Arithmetic::exact;
  std::uint64_t passes_ = 0;  ///< of `apply`
  Pass main_;                 ///< of the model
  std::map<const attack::Part*, std::unique_ptr<Pass>> parts_;
  std::unique_ptr<AscentLanes> ascent_;
  std::unique_ptr<RandomSearchLanes> search_;
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<attack::Classifier> classifier_;
  std::unique_ptr<Updates> updates_;  ///< gives back first what it holds
};

/// For defend::TrainOptions::accelerate: training on a device, or on those of all processes of a team (`peers`).
inline auto training(Device device, Arithmetic arithmetic = Arithmetic::exact, std::shared_ptr<Peers> peers = nullptr) {
  return [=](const nn::Model& model, std::int64_t batch_size) -> std::unique_ptr<attack::Accelerator> {
    const int ranks = peers != nullptr ? peers->size() : 1;
    const auto [begin, end] = share_of(batch_size, 0, ranks, kernels::cuda::kBlockImages);  // the largest share
    return std::make_unique<GpuAccelerator>(
        model, device, Options{.capacity = end - begin, .training = true, .arithmetic = arithmetic, .peers = peers});
  };
}

namespace detail {

/// A model on a device for queries and for loops, and what they refer to.
struct Held {
  Held(std::shared_ptr<const nn::Model> held, Device device, const Options& options)
      : model(std::move(held)),
        exchange(*model, device, options.capacity, options.arithmetic),
        accelerator(*model, device, options) {}
  std::shared_ptr<const nn::Model> model;
  Exchange exchange;
  GpuAccelerator accelerator;
};

}  // namespace detail

/// The model on a device, as attacks and evaluations see it: FGSM, BIM, MI-FGSM, PGD, Auto-PGD in Linf and L2, and
/// untargeted Square in Linf run there from start to end; the images of searches that touch them by
/// LaneMath alone (SearchAttack::arrays) stay there; for every other attack the passes of all threads are collected and run there together. Filters that are
/// layers of the model run there too.
inline attack::Classifier classifier(std::shared_ptr<const nn::Model> model, Device device, Options options = {}) {
  require(model != nullptr, device.to_string(), ": no model, expected one");
  options.capacity = detail::choose_capacity(*model, device, options.capacity);
  const auto held = std::make_shared<detail::Held>(std::move(model), device, options);
  const attack::Classifier out = held->exchange.classifier(held);
  if (out.declaration().rejection_output) {  // what a refusal counts as is the host's to say
    return out;
  }
  return out.with_accelerator(std::shared_ptr<attack::Accelerator>(held, &held->accelerator));
}
/// The same of a model that outlives it.
inline attack::Classifier classifier(const nn::Model& model, Device device, const Options& options = {}) {
  return classifier(std::shared_ptr<const nn::Model>(std::shared_ptr<void>(), &model), device, options);
}

}  // namespace pavise::device

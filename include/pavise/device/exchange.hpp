// SPDX-License-Identifier: MIT
// A model on a GPU as an operation of the host's tapes: threads that attack groups of images on the host ask it for
// logits and gradients, and what several of them ask at a time goes through the network together.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "pavise/attack/classifier.hpp"
#include "pavise/device/network.hpp"

namespace pavise::device {

class Exchange {
 public:
  /// `refresh` takes over the model's weights before passes; without one they come from the host.
  Exchange(
      const nn::Model& model, Device device, std::int64_t capacity, Arithmetic arithmetic = Arithmetic::exact,
      std::function<void(Network&)> refresh = [](Network& network) { network.refresh(); })
      : model_(model),
        network_(model, device, std::max<std::int64_t>(capacity, 32), Use::gradient, arithmetic),
        refresh_(std::move(refresh)) {
    const std::int64_t slots = groups_of(network_.capacity()) * 32;
    host_ = Array<float>(network_.stream(), slots * std::max(network_.size(), network_.classes()));
    x_ = Array<float>(network_.stream(), slots * network_.size());
    drawn_ids_ = Array<std::uint32_t>(network_.stream(), network_.random() ? slots : 0);
  }

  /// Logits of x, (C,H,W), on its tape, with their derivative. The Exchange must outlive the pass.
  Var<float> apply(Var<float> x) {
    require<ShapeError>(x.shape() == model_.input_shape(), "model ", model_.name(), ": expects images of ",
                        model_.input_shape(), ", got ", x.shape());
    Tape<float>& tape = x.tape();
    Var<float> y = tape.result("network", Shape{model_.classes()}, {x});
    tape.each_group([&](std::int64_t g) {
      Request r{.x = x.data(g),
                .lanes = tape.lanes(),
                .tape = &tape,
                .group = g,
                .logits = y.data(g),
                .seed = nullptr,
                .gradient = nullptr};
      submit(r);
    });
    tape.on_backward(y, [=, this](Tape<float>& t) {
      const auto target = t.target(x);
      const std::int64_t n = x.size() * t.lanes();
      t.each_group([&](std::int64_t g) {
        thread_local std::vector<float> dx;
        dx.resize(static_cast<std::size_t>(n));
        Request r{.x = x.data(g),
                  .lanes = t.lanes(),
                  .tape = &t,
                  .group = g,
                  .logits = nullptr,
                  .seed = t.gradient(y, g),
                  .gradient = dx.data()};
        submit(r);
        float* to = target.data + g * n;
        for (std::int64_t i = 0; i < n; ++i) {
          to[i] = (target.accumulate ? to[i] : 0.0f) + dx[static_cast<std::size_t>(i)];
        }
      });
    });
    return y;
  }

  /// The model on the device as attacks query it; `keep`: what must live as long, such as this object.
  attack::Classifier classifier(std::shared_ptr<void> keep = nullptr) {
    const auto declaration = model_.net().declaration();
    return {model_.name(), model_.input_shape(), model_.classes() - (declaration.rejection_output ? 1 : 0),
            [this, keep](Var<float> x) { return apply(x); }, declaration};
  }

 private:
  /// What a thread asks about a group of 16 images, or one: logits, or the gradient of its input.
  struct Request {
    const float* x;  ///< [size][lanes]
    int lanes;
    const Tape<float>* tape;  ///< whose key random numbers are drawn by
    std::int64_t group;
    float* logits;      ///< [classes][lanes], or null
    const float* seed;  ///< the gradient of the logits, where `gradient` is asked for
    float* gradient;    ///< [size][lanes]
    bool done = false;
    std::exception_ptr error{};
  };

  /// Waits until the request is answered. One of the threads that wait runs the network for all of them, when nobody
  /// has come for a while or the network is full.
  void submit(Request& request) {
    std::unique_lock lock(mutex_);
    waiting_.push_back(&request);
    arrived_.notify_one();
    while (!request.done) {
      if (led_) {
        answered_.wait(lock);
        continue;
      }
      led_ = true;
      std::size_t seen = 0;
      while (seen != waiting_.size() && slots(waiting_) < network_.capacity()) {
        seen = waiting_.size();
        arrived_.wait_for(lock, std::chrono::microseconds(60));
      }
      std::vector<Request*> taken = take();
      lock.unlock();
      std::exception_ptr error;
      try {
        run(taken);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      for (Request* r : taken) {
        r->error = error;
        r->done = true;
      }
      led_ = false;
      answered_.notify_all();
    }
    if (request.error) {
      std::rethrow_exception(request.error);
    }
  }

  static std::int64_t slots(const std::vector<Request*>& requests) {
    std::int64_t n = 0;
    for (const Request* r : requests) {
      n += r->lanes;
    }
    return n;
  }

  /// As many of the requests of one kind (with gradients or without, groups or single images; of one key where random
  /// numbers are drawn) as there is room for.
  std::vector<Request*> take() {
    std::vector<Request*> out;
    const Request& first = *waiting_.front();
    std::int64_t room = network_.capacity() / first.lanes;
    const auto rest = std::stable_partition(waiting_.begin(), waiting_.end(), [&](const Request* r) {
      return (r->gradient != nullptr) == (first.gradient != nullptr) && r->lanes == first.lanes &&
             (!network_.random() || (r->tape->key().seed == first.tape->key().seed &&
                                     r->tape->key().iteration == first.tape->key().iteration)) &&
             room-- > 0;
    });
    out.assign(waiting_.begin(), rest);
    waiting_.erase(waiting_.begin(), rest);
    return out;
  }

  /// The images' ids, a group behind another.
  static std::vector<std::uint32_t> ids_of(const std::vector<Request*>& requests) {
    std::vector<std::uint32_t> ids;
    for (const Request* r : requests) {
      for (std::int64_t slot = r->group * r->lanes; slot < (r->group + 1) * r->lanes; ++slot) {
        const std::uint32_t* named = r->tape->key().images;
        ids.push_back(named != nullptr ? named[slot] : static_cast<std::uint32_t>(slot));
      }
    }
    return ids;
  }

  void run(const std::vector<Request*>& requests) {
    const Stream& stream = network_.stream();
    stream.use();
    refresh_(network_);
    const auto& k = stream.kernels();
    const int lanes = requests.front()->lanes;
    const auto images = static_cast<std::int64_t>(requests.size()) * lanes;
    const std::int64_t n = network_.size();
    const std::int64_t classes = network_.classes();
    // To and from the device: one array behind the other, a group each.
    const auto gather = [&](std::int64_t size, auto part) {
      staged_.resize(static_cast<std::size_t>(images * size));
      for (std::size_t i = 0; i < requests.size(); ++i) {
        std::memcpy(staged_.data() + static_cast<std::int64_t>(i) * size * lanes, part(*requests[i]),
                    static_cast<std::size_t>(size * lanes) * sizeof(float));
      }
      host_.upload(staged_.data(), images * size);
    };
    const auto scatter = [&](const float* from, std::int64_t size, auto part) {
      k.change_lanes(stream.get(), from, 32, host_.get(), lanes, size, images);
      staged_.resize(static_cast<std::size_t>(images * size));
      host_.download(staged_.data(), images * size);
      stream.finish();
      for (std::size_t i = 0; i < requests.size(); ++i) {
        std::memcpy(part(*requests[i]), staged_.data() + static_cast<std::int64_t>(i) * size * lanes,
                    static_cast<std::size_t>(size * lanes) * sizeof(float));
      }
    };
    gather(n, [](const Request& r) { return r.x; });
    k.change_lanes(stream.get(), host_.get(), lanes, x_.get(), 32, n, images);
    if (network_.random()) {
      const PassKey& key = requests.front()->tape->key();
      network_.set_key(make_draw_key(drawn_ids_, ids_of(requests).data(), images, key.seed, key.iteration));
    }
    network_.forward(x_.get(), images);
    if (requests.front()->gradient == nullptr) {
      scatter(network_.logits(), classes, [](Request& r) { return r.logits; });
      return;
    }
    gather(classes, [](const Request& r) { return r.seed; });
    k.change_lanes(stream.get(), host_.get(), lanes, network_.logit_gradient(), 32, classes, images);
    const float* dx = network_.backward();
    if (dx == nullptr) {  // the logits do not depend on the image
      k.fill_bytes(x_.get(), 0, static_cast<std::size_t>(x_.size()) * sizeof(float), stream.get());
      dx = x_.get();
    }
    scatter(dx, n, [](Request& r) { return r.gradient; });
  }

  const nn::Model& model_;
  Network network_;
  std::function<void(Network&)> refresh_;
  Array<float> host_, x_;
  Array<std::uint32_t> drawn_ids_;
  std::vector<float> staged_;
  std::mutex mutex_;
  std::condition_variable arrived_, answered_;
  std::vector<Request*> waiting_;
  bool led_ = false;
};

}  // namespace pavise::device

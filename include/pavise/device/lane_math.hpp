// SPDX-License-Identifier: MIT
// Lanes on a GPU: the images of attacks that touch them by LaneMath alone, and the model beside them. What comes one for
// each lane goes back and forth; images stay.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pavise/attack/lane_math.hpp"
#include "pavise/device/network.hpp"

namespace pavise::device {

class DeviceLanes final : public attack::LaneNetwork {
 public:
  /// As many lanes as the network takes, at most those of `wanted` images in whole groups. Not thread-safe.
  DeviceLanes(Network& network, std::int64_t wanted)
      : LaneNetwork(network.size(), static_cast<int>(32 * std::min(groups_of(network.capacity()), groups_of(wanted)))),
        network_(network),
        stream_(network.stream()),
        k_(stream_.kernels()),
        rows_(stream_, width_ * size_),
        zeros_(stream_, width_ * size_),
        logits_(stream_, width_ * network.classes()),
        numbers_(stream_, width_),
        host_logits_(static_cast<std::size_t>(width_ * network.classes())) {
    clear(zeros_.get());
    for (auto& array : given_) {
      array = Array<float>(stream_, width_);
    }
    for (auto& array : results_) {
      array = Array<float>(stream_, width_);
    }
  }

  float* make() override {
    Array<float> array(stream_, width_ * size_);
    float* p = array.get();
    clear(p);
    arrays_.emplace(p, std::move(array));
    return p;
  }
  void drop(float* array) noexcept override {
    std::erase_if(pending_, [&](const Pending& p) { return p.to == array || p.from == array; });
    arrays_.erase(array);
  }

  void copy_lane(const float* from, int lane, float* to) override {
    note(from != nullptr ? from : zeros_.get(), lane, to, {});
  }
  void put_lane(const float* image, int lane, float* to) override {
    note(nullptr, lane, to, std::span(image, static_cast<std::size_t>(size_)));
  }
  void take_lanes(const float* from, std::span<const int> lanes, float* rows) override {
    flush();
    const auto count = static_cast<std::int64_t>(lanes.size());
    numbers_.upload(lanes.data(), count);
    k_.lanes_to_rows(stream(), from, numbers_.get(), count, rows_.get(), size_);
    rows_.download(rows, count * size_);
    stream_.finish();
  }

  void combine(float* out, const float* a, const Values& sa, const float* b, const Values& sb) override {
    flush();
    k_.lane_combine(stream(), out, a, up(sa), b, up(sb), size_, groups());
  }
  void select(float* out, const float* in, const Values& chosen) override {
    flush();
    k_.lane_select(stream(), out, in, up(chosen), size_, groups());
  }
  void dot(const float* a, const float* b, Values& out) override {
    flush();
    k_.lane_dot(stream(), a, b, results_[0].get(), size_, groups());
    down({&out});
  }
  void norm(const float* a, attack::Norm norm, Values& out) override {
    flush();
    k_.lane_norm(stream(), a, static_cast<int>(norm), results_[0].get(), size_, groups());
    down({&out});
  }
  void distances(const float* x, const float* center, attack::Norm norm, Values& out) override {
    flush();
    k_.distance(stream(), x, center, size_, static_cast<int>(norm), results_[0].get(), groups());
    down({&out});
  }
  void direction(float* d, const float* g, attack::Norm norm) override {
    flush();
    k_.lane_direction(stream(), d, g, static_cast<int>(norm), size_, groups());
  }
  void project(float* x, const float* center, const attack::Threat& t, const Values& radius) override {
    flush();
    k_.lane_project(stream(), x, center, static_cast<int>(t.norm), up(radius), box(t), size_, groups());
  }
  void rescale(float* x, const float* center, const attack::Threat& t, const Values& factor) override {
    flush();
    k_.lane_rescale(stream(), x, center, up(factor), box(t), size_, groups());
  }
  void blend(float* out, const attack::Threat& t, std::initializer_list<Term> terms) override {
    flush();
    if (factors_.size() == 0) {
      factors_ = Array<float>(stream_, 4 * width_);
    }
    all_factors_.clear();
    kernels::cuda::LaneTerms all{.term = {}, .factors = factors_.get(), .stride = width_, .count = 0};
    for (const auto& [array, factor] : terms) {
      all.term[all.count++] = array;
      all_factors_.insert(all_factors_.end(), factor.begin(), factor.begin() + width_);
    }
    factors_.upload(all_factors_.data(), static_cast<std::int64_t>(all_factors_.size()));
    k_.lane_blend(stream(), out, all, box(t), size_, groups());
  }
  void move_to_hyperplane(float* move, const float* x, const float* w, const attack::Threat& t,
                          const Values& gain) override {
    flush();
    k_.hyperplane_move(stream(), move, x, w, up(gain), static_cast<int>(t.norm), box(t), size_, groups());
  }
  void tanh_step(const attack::TanhArrays& a, const float* gradient, const float* clean, const attack::Threat& t,
                 const Values& constant, const Values& rate, const Values& root, const Values& tau, Values& distance,
                 Values& penalty) override {
    flush();
    k_.tanh_adam(stream(), t.norm == attack::Norm::l2, {a.w, a.first, a.second, a.x}, gradient, clean, up(constant),
                 up(rate), up(root), up(tau), box(t), results_[0].get(), results_[1].get(), size_, groups());
    down({&distance, &penalty});
  }
  void elastic_step(float* x, float* y, const float* gradient, const float* clean, const attack::Threat& t,
                    const Values& constant, const Values& rate, const Values& momentum, float beta, Values& absolute,
                    Values& square) override {
    flush();
    k_.elastic_net(stream(), x, y, gradient, clean, up(constant), up(rate), up(momentum), beta, box(t),
                   results_[0].get(), results_[1].get(), size_, groups());
    down({&absolute, &square});
  }
  void moved(const float* x, const float* center, Values& out) override {
    flush();
    k_.lane_moved(stream(), x, center, results_[0].get(), size_, groups());
    down({&out});
  }
  void l1_apgd_step(float* x, const float* gradient, const float* center, const attack::Threat& t, const Values& count,
                    const Values& eta, const Values& radius) override {
    flush();
    k_.apgd_l1_step(stream(), x, gradient, center, up(count), up(eta), up(radius), box(t), size_, groups());
  }

  void probe_signs(float* out, const float* x, const attack::LaneDraws& draws, const Values& shift,
                   const attack::Threat& t) override {
    flush();
    k_.sign_probe(stream(), out, x, up(draws), up(shift), box(t), size_, groups());
  }
  void add_slope(float* slope, const float* x, const attack::LaneDraws& draws, const Values& shift,
                 const Values& factor, const attack::Threat& t) override {
    flush();
    k_.sign_slope(stream(), slope, x, up(draws), up(shift), up(factor), box(t), size_, groups());
  }
  void adam_step(float* x, float* slope, float* first, float* second, float scale, const Values& rate,
                 const Values& root) override {
    flush();
    k_.slope_adam(stream(), x, slope, first, second, scale, up(rate), up(root), size_, groups());
  }
  void probe_sphere(float* out, const float* x, kernels::Distribution distribution, const attack::LaneDraws& draws,
                    const Values& shift, const attack::Threat& t) override {
    flush();
    k_.sphere_probe(stream(), out, x, distribution, up(draws), up(shift), box(t), size_, groups());
  }
  void add_probes(float* sum, float* weighted, const float* probe, const float* x, const Values& take,
                  const Values& weight) override {
    flush();
    k_.probe_sums(stream(), sum, weighted, probe, x, up(take), up(weight), size_, groups());
  }

  float* forward(const float* x) override {
    flush();
    network_.forward(x, width_);
    k_.change_lanes(stream(), network_.logits(), 32, logits_.get(), 16, network_.classes(), width_);
    logits_.download(host_logits_.data(), logits_.size());
    stream_.finish();
    return host_logits_.data();
  }
  void backward(const float* logits, float* gradient) override {
    flush();
    const float* dx = nullptr;
    if (logits != nullptr) {
      logits_.upload(logits, logits_.size());
      k_.change_lanes(stream(), logits_.get(), 16, network_.logit_gradient(), 32, network_.classes(), width_);
      dx = network_.backward();
    }
    if (dx == nullptr) {  // the loss, or the logits, do not depend on the image
      clear(gradient);
    } else {
      k_.lane_finite(stream(), gradient, dx, size_, groups());
    }
  }

 private:
  /// What becomes of single lanes, together: a copy, or images from the host.
  struct Pending {
    const float* from;  ///< null: images
    float* to;
    Values chosen;
    std::vector<float> images;
    std::vector<std::int32_t> lanes;
  };

  kernels::cuda::Stream stream() const { return stream_.get(); }
  std::int64_t groups() const { return width_ / 32; }
  static kernels::cuda::LaneBox box(const attack::Threat& threat) {
    return {static_cast<float>(threat.low), static_cast<float>(threat.high)};
  }
  void clear(float* array) const {
    k_.fill_bytes(array, 0, static_cast<std::size_t>(width_ * size_) * sizeof(float), stream());
  }
  /// A copy on the device, which the sixteenth call from now overwrites (behind what is queued).
  const float* up(const Values& values) {
    const auto& array = given_[next_given_++ % given_.size()];
    array.upload(values.data(), width_);
    return array.get();
  }
  /// The same of what draws are keyed by; the next call overwrites it.
  kernels::cuda::ProbeDraws up(const attack::LaneDraws& draws) {
    if (keys_[0].size() == 0) {
      for (auto& array : keys_) {
        array = Array<std::uint32_t>(stream_, width_);
      }
    }
    keys_[0].upload(draws.image.data(), width_);
    keys_[1].upload(draws.restart.data(), width_);
    keys_[2].upload(draws.iteration.data(), width_);
    kernels::LaneKeys keys = draws.keys();
    keys.image = keys_[0].get();
    keys.restart = keys_[1].get();
    return {.keys = keys, .iteration = keys_[2].get()};
  }
  void down(std::initializer_list<Values*> values) const {
    std::size_t i = 0;
    for (Values* to : values) {
      results_[i++].download(to->data(), width_);
    }
    stream_.finish();
  }

  /// Adds to what is pending: to work of the same kind, unless work behind it has to do with the same lane of the same
  /// arrays.
  void note(const float* from, int lane, float* to, std::span<const float> image) {
    const auto l = static_cast<std::size_t>(lane);
    const auto mine = [&](const Pending& p) { return p.from == from && p.to == to; };
    auto found = pending_.rend();
    for (auto p = pending_.rbegin(); p != pending_.rend(); ++p) {
      const bool again = p->chosen[l] > 0.0f;
      if (mine(*p) && !again) {
        found = p;
        break;
      }
      if (again && (p->to == to || p->to == from || (p->from != nullptr && p->from == to))) {
        break;
      }
    }
    if (found == pending_.rend()) {
      pending_.push_back({.from = from, .to = to, .chosen = values(), .images = {}, .lanes = {}});
      found = pending_.rbegin();
    }
    found->chosen[l] = 1.0f;
    found->images.insert(found->images.end(), image.begin(), image.end());
    found->lanes.push_back(lane);
  }
  void flush() {
    for (const Pending& p : pending_) {
      if (p.from != nullptr) {
        k_.lane_select(stream(), p.to, p.from, up(p.chosen), size_, groups());
      } else {
        const auto count = static_cast<std::int64_t>(p.lanes.size());
        numbers_.upload(p.lanes.data(), count);
        rows_.upload(p.images.data(), count * size_);
        k_.rows_to_lanes(stream(), rows_.get(), numbers_.get(), count, p.to, size_);
      }
    }
    pending_.clear();
  }

  Network& network_;
  const Stream& stream_;
  const Table& k_;
  Array<float> rows_, zeros_, logits_, factors_;
  Array<std::int32_t> numbers_;
  std::array<Array<std::uint32_t>, 3> keys_;
  std::array<Array<float>, 16> given_;  ///< numbers that come one for each lane
  std::array<Array<float>, 2> results_;
  std::size_t next_given_ = 0;
  std::vector<float> host_logits_, all_factors_;
  std::vector<Pending> pending_;
  std::unordered_map<float*, Array<float>> arrays_;
};

}  // namespace pavise::device

// SPDX-License-Identifier: MIT
// Vector arithmetic over the images that an attack has side by side, wherever they lie: here the host's, on a GPU
// device/lane_math.hpp. An attack that touches its arrays by these operations alone runs in both places.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pavise/attack/threat.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::attack {

/// Images in tanh space and Adam's state of them, as kernels::tanh_adam.
struct TanhArrays {
  float *w, *first, *second, *x;
};

/// What draws are keyed by: image, restart and iteration come one for each lane, on the host.
struct LaneDraws {
  std::uint64_t seed;
  std::uint32_t purpose;
  AlignedVector<std::uint32_t> image, restart, iteration;

  kernels::LaneKeys keys() const {
    return {.seed = seed, .purpose = purpose, .iteration = 0, .image = image.data(), .restart = restart.data()};
  }
};

/// Arrays are [size][width] where the lanes lie (their elements are the host's to touch on the host alone); numbers that
/// come one for each lane, and results, are on the host. What an operation does, the kernel of the same name says.
class LaneMath {
 public:
  using Values = AlignedVector<float>;  ///< one number for each lane, with room for sixteen
  using Term = std::pair<const float*, const Values&>;

  LaneMath(std::int64_t size, int width) : size_(size), width_(width) {}
  LaneMath(const LaneMath&) = delete;
  LaneMath& operator=(const LaneMath&) = delete;
  virtual ~LaneMath() = default;

  std::int64_t size() const { return size_; }
  int width() const { return width_; }
  Values values(float value = 0.0f) const {
    return Values(static_cast<std::size_t>(std::max(width_, kernels::kLanes)), value);
  }

  /// An array of zeros, until `drop`.
  virtual float* make() = 0;
  virtual void drop(float* array) noexcept = 0;

  /// Lane `lane` of one array into that of another; null: zeros.
  virtual void copy_lane(const float* from, int lane, float* to) = 0;
  /// An image in row-major order into a lane.
  virtual void put_lane(const float* image, int lane, float* to) = 0;
  /// Lanes of an array as rows, one behind another.
  virtual void take_lanes(const float* from, std::span<const int> lanes, float* rows) = 0;

  virtual void combine(float* out, const float* a, const Values& sa, const float* b, const Values& sb) = 0;
  virtual void select(float* out, const float* in, const Values& chosen) = 0;
  virtual void dot(const float* a, const float* b, Values& out) = 0;
  virtual void norm(const float* a, Norm norm, Values& out) = 0;
  virtual void distances(const float* x, const float* center, Norm norm, Values& out) = 0;
  virtual void direction(float* d, const float* g, Norm norm) = 0;
  /// On the ball and the box; in L1 on both together.
  virtual void project(float* x, const float* center, const Threat& threat, const Values& radius) = 0;
  virtual void rescale(float* x, const float* center, const Threat& threat, const Values& factor) = 0;
  virtual void blend(float* out, const Threat& threat, std::initializer_list<Term> terms) = 0;  ///< at most four
  virtual void move_to_hyperplane(float* move, const float* x, const float* w, const Threat& threat,
                                  const Values& gain) = 0;
  virtual void tanh_step(const TanhArrays& arrays, const float* gradient, const float* clean, const Threat& threat,
                         const Values& constant, const Values& rate, const Values& root, const Values& tau,
                         Values& distance, Values& penalty) = 0;
  virtual void elastic_step(float* x, float* y, const float* gradient, const float* clean, const Threat& threat,
                            const Values& constant, const Values& rate, const Values& momentum, float beta,
                            Values& absolute, Values& square) = 0;
  virtual void moved(const float* x, const float* center, Values& out) = 0;
  virtual void l1_apgd_step(float* x, const float* gradient, const float* center, const Threat& threat,
                            const Values& count, const Values& eta, const Values& radius) = 0;

  // kernels::sign_probe, sign_slope, slope_adam, sphere_probe and probe_sums
  virtual void probe_signs(float* out, const float* x, const LaneDraws& draws, const Values& size,
                           const Threat& threat) = 0;
  virtual void add_slope(float* slope, const float* x, const LaneDraws& draws, const Values& size, const Values& factor,
                         const Threat& threat) = 0;
  virtual void adam_step(float* x, float* slope, float* first, float* second, float scale, const Values& rate,
                         const Values& root) = 0;
  virtual void probe_sphere(float* out, const float* x, kernels::Distribution distribution, const LaneDraws& draws,
                            const Values& size, const Threat& threat) = 0;
  virtual void add_probes(float* sum, float* weighted, const float* probe, const float* x, const Values& take,
                          const Values& weight) = 0;

 protected:
  std::int64_t size_;
  int width_;
};

/// An array of zeros, [size][width], where the lanes lie, which must outlive it.
class Field {
 public:
  Field() = default;
  explicit Field(LaneMath& math) : math_(&math), data_(math.make()) {}
  Field(Field&& other) noexcept : math_(other.math_), data_(std::exchange(other.data_, nullptr)) {}
  Field& operator=(Field&& other) noexcept {
    std::swap(math_, other.math_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Field() {
    if (data_ != nullptr) {
      math_->drop(data_);
    }
  }
  float* data() const { return data_; }

 private:
  LaneMath* math_ = nullptr;
  float* data_ = nullptr;
};

/// Lanes that also have the model: those of a device.
class LaneNetwork : public LaneMath {
 public:
  using LaneMath::LaneMath;
  /// Logits of x, [width/16][classes][16], valid until the next call.
  virtual float* forward(const float* x) = 0;
  /// gradient <- the derivative by x of the last `forward`, whose logits have the gradient `logits` (as laid out above;
  /// null: none), with 0 for what is not a finite number.
  virtual void backward(const float* logits, float* gradient) = 0;
};

/// The host's lanes: 16, or 1.
class HostLaneMath final : public LaneMath {
 public:
  using LaneMath::LaneMath;

  float* make() override {  // with the room that a pass with one lane needs
    auto array = std::make_unique<AlignedVector<float>>(static_cast<std::size_t>(size_ * width_) + 16);
    float* p = array->data();
    arrays_.emplace(p, std::move(array));
    return p;
  }
  void drop(float* array) noexcept override { arrays_.erase(array); }

  void copy_lane(const float* from, int lane, float* to) override {
    for (std::int64_t i = lane; i < size_ * width_; i += width_) {
      to[i] = from != nullptr ? from[i] : 0.0f;
    }
  }
  void put_lane(const float* image, int lane, float* to) override {
    for (std::int64_t e = 0; e < size_; ++e) {
      to[e * width_ + lane] = image[e];
    }
  }
  void take_lanes(const float* from, std::span<const int> lanes, float* rows) override {
    for (const int lane : lanes) {
      for (std::int64_t e = 0; e < size_; ++e) {
        *rows++ = from[e * width_ + lane];
      }
    }
  }

  void combine(float* out, const float* a, const Values& sa, const float* b, const Values& sb) override {
    kernels::run_light(
        [&](auto isa) { lane_combine<float>(isa, out, size_, width_, a, sa.data(), b, sb.data(), nullptr, nullptr); });
  }
  void select(float* out, const float* in, const Values& chosen) override {
    kernels::run_light([&](auto isa) { lane_select<float>(isa, out, in, size_, width_, chosen.data()); });
  }
  void dot(const float* a, const float* b, Values& out) override {
    kernels::run_light([&](auto isa) { lane_dot<float>(isa, a, b, size_, width_, out.data()); });
  }
  void norm(const float* a, Norm norm, Values& out) override {
    kernels::run_light([&](auto isa) { lane_norm<float>(isa, a, size_, width_, static_cast<int>(norm), out.data()); });
  }
  void distances(const float* x, const float* center, Norm norm, Values& out) override {
    kernels::run_light(
        [&](auto isa) { distance<float>(isa, x, center, size_, width_, static_cast<int>(norm), out.data()); });
  }
  void direction(float* d, const float* g, Norm norm) override {
    kernels::run_light([&](auto isa) { lane_direction<float>(isa, d, g, size_, width_, static_cast<int>(norm)); });
  }
  void project(float* x, const float* center, const Threat& t, const Values& radius) override {
    kernels::run_light([&](auto isa) {
      if (t.norm == Norm::l1) {
        lane_l1_project<float>(isa, x, center, size_, width_, radius.data(), low(t), high(t));
      } else {
        lane_project<float>(isa, x, center, size_, width_, static_cast<int>(t.norm), radius.data(), low(t), high(t));
      }
    });
  }
  void rescale(float* x, const float* center, const Threat& t, const Values& factor) override {
    kernels::run_light(
        [&](auto isa) { lane_rescale<float>(isa, x, center, size_, width_, factor.data(), low(t), high(t)); });
  }
  void blend(float* out, const Threat& t, std::initializer_list<Term> terms) override {
    std::array<const float*, 4> arrays{};
    alignas(64) std::array<float, 64> factors{};
    std::size_t count = 0;
    for (const auto& [array, factor] : terms) {
      arrays[count] = array;
      std::copy_n(factor.begin(), 16, factors.begin() + static_cast<std::ptrdiff_t>(count * 16));
      ++count;
    }
    kernels::run_light([&](auto isa) {
      lane_blend<float>(isa, out, size_, width_, arrays.data(), factors.data(), static_cast<int>(count), low(t),
                        high(t));
    });
  }
  void move_to_hyperplane(float* move, const float* x, const float* w, const Threat& t, const Values& gain) override {
    kernels::run_light([&](auto isa) {
      hyperplane_move<float>(isa, move, x, w, size_, width_, gain.data(), static_cast<int>(t.norm), low(t), high(t));
    });
  }
  void tanh_step(const TanhArrays& a, const float* gradient, const float* clean, const Threat& t,
                 const Values& constant, const Values& rate, const Values& root, const Values& tau, Values& distance,
                 Values& penalty) override {
    kernels::run([&](auto isa) {
      tanh_adam<float>(isa, t.norm == Norm::l2, a.w, a.first, a.second, a.x, gradient, clean, size_, width_,
                       constant.data(), rate.data(), root.data(), tau.data(), low(t), high(t), distance.data(),
                       penalty.data());
    });
  }
  void elastic_step(float* x, float* y, const float* gradient, const float* clean, const Threat& t,
                    const Values& constant, const Values& rate, const Values& momentum, float beta, Values& absolute,
                    Values& square) override {
    kernels::run_light([&](auto isa) {
      elastic_net<float>(isa, x, y, gradient, clean, size_, width_, constant.data(), rate.data(), momentum.data(), beta,
                         low(t), high(t), absolute.data(), square.data());
    });
  }
  void moved(const float* x, const float* center, Values& out) override {
    kernels::run_light([&](auto isa) { lane_moved<float>(isa, x, center, size_, width_, out.data()); });
  }
  void l1_apgd_step(float* x, const float* gradient, const float* center, const Threat& t, const Values& count,
                    const Values& eta, const Values& radius) override {
    kernels::run_light([&](auto isa) {
      apgd_l1_step<float>(isa, x, gradient, center, size_, width_, count.data(), eta.data(), radius.data(), low(t),
                          high(t));
    });
  }
  void probe_signs(float* out, const float* x, const LaneDraws& draws, const Values& shift, const Threat& t) override {
    kernels::run_light([&](auto isa) {
      sign_probe<float>(isa, out, x, size_, width_, draws.keys(), draws.iteration.data(), shift.data(), low(t),
                        high(t));
    });
  }
  void add_slope(float* slope, const float* x, const LaneDraws& draws, const Values& shift, const Values& factor,
                 const Threat& t) override {
    kernels::run_light([&](auto isa) {
      sign_slope<float>(isa, slope, x, size_, width_, draws.keys(), draws.iteration.data(), shift.data(), factor.data(),
                        low(t), high(t));
    });
  }
  void adam_step(float* x, float* slope, float* first, float* second, float scale, const Values& rate,
                 const Values& root) override {
    kernels::run_light([&](auto isa) {
      slope_adam<float>(isa, x, slope, first, second, size_, width_, scale, rate.data(), root.data());
    });
  }
  void probe_sphere(float* out, const float* x, kernels::Distribution distribution, const LaneDraws& draws,
                    const Values& shift, const Threat& t) override {
    kernels::run_light([&](auto isa) {
      sphere_probe<float>(isa, out, x, size_, width_, distribution, draws.keys(), draws.iteration.data(), shift.data(),
                          low(t), high(t));
    });
  }
  void add_probes(float* sum, float* weighted, const float* probe, const float* x, const Values& take,
                  const Values& weight) override {
    kernels::run_light(
        [&](auto isa) { probe_sums<float>(isa, sum, weighted, probe, x, size_, width_, take.data(), weight.data()); });
  }

 private:
  static float low(const Threat& threat) { return static_cast<float>(threat.low); }
  static float high(const Threat& threat) { return static_cast<float>(threat.high); }
  std::unordered_map<float*, std::unique_ptr<AlignedVector<float>>> arrays_;
};

}  // namespace pavise::attack

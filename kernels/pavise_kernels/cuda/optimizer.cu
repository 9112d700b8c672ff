// SPDX-License-Identifier: MIT
// Updates of all of a model's weights in one pass. Oracle: kernels::sgd_update and adam_update, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

struct Sgd {
  float* value;
  const float* gradient;
  float* velocity;
  SgdStep s;
  __device__ void operator()(std::int64_t i, int count) const {
    Quad w = load_quad(value, i, count);
    const Quad g = load_quad(gradient, i, count);
    Quad v{};
    if (velocity != nullptr) {
      v = load_quad(velocity, i, count);
    }
    sgd_update_lanes<float, 1>(w.v, g.v, velocity != nullptr ? v.v : nullptr, 4, s.rate, s.momentum, s.decay, s.scale,
                               s.nesterov);
    store_quad(w, value, i, count);
    if (velocity != nullptr) {
      store_quad(v, velocity, i, count);
    }
  }
};

struct Adam {
  float* value;
  const float* gradient;
  float* first;
  float* second;
  AdamStep s;
  __device__ void operator()(std::int64_t i, int count) const {
    Quad w = load_quad(value, i, count);
    const Quad g = load_quad(gradient, i, count);
    Quad m = load_quad(first, i, count);
    Quad v = load_quad(second, i, count);
    adam_update_lanes<float, 1>(w.v, g.v, m.v, v.v, 4, s.rate, s.root, s.share1, s.share2, s.epsilon, s.decay, s.keep,
                                s.scale);
    store_quad(w, value, i, count);
    store_quad(m, first, i, count);
    store_quad(v, second, i, count);
  }
};

}  // namespace

void fill_optimizer(Table& t) {
  t.sgd_update = [](Stream stream, float* value, const float* gradient, float* velocity, std::int64_t n,
                    const SgdStep& s) {
    each_quad(stream, "sgd_update", n, Sgd{value, gradient, velocity, s});
  };
  t.adam_update = [](Stream stream, float* value, const float* gradient, float* first, float* second, std::int64_t n,
                     const AdamStep& s) {
    each_quad(stream, "adam_update", n, Adam{value, gradient, first, second, s});
  };
}

}  // namespace pavise::kernels::cuda

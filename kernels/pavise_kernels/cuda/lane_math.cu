// SPDX-License-Identifier: MIT
// Vector arithmetic of attacks whose lanes are each at a step of their own: the CPU's lane functions (lane_state.inl,
// minimum_norm.inl, hyperplane.inl, apgd.inl). What has no sum over the image takes a warp for each element of a group,
// the rest a warp for each group, in the elements' order. Oracles: the functions of the same names, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

/// Where element e of group g begins, of n elements a lane.
__device__ __forceinline__ std::int64_t element_at(std::int64_t g, std::int64_t e, std::int64_t n) {
  return (g * n + e) * 32;
}

struct Combine {
  float* out;
  const float *a, *sa, *b, *sb;
  std::int64_t n;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t i = element_at(g, e, n);
    lane_combine_lanes<float, 32>(out + i, 1, a + i, sa + g * 32, b + i, sb + g * 32, nullptr, nullptr);
  }
};

struct Select {
  float* out;
  const float *in, *chosen;
  std::int64_t n;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t i = element_at(g, e, n);
    if (chosen[g * 32 + lane_id()] > 0.0f) {
      out[i + lane_id()] = in[i + lane_id()];
    }
  }
};

struct Finite {
  float* out;
  const float* in;
  std::int64_t n;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t i = element_at(g, e, n);
    lane_finite_lanes<float, 32>(out + i, in + i, 1);
  }
};

struct Dot {
  const float *a, *b;
  float* out;
  std::int64_t n;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    lane_dot_lanes<float, 32>(a + g * n * 32, b + g * n * 32, n, out + g * 32);
  }
};

struct Norm {
  const float* a;
  float* out;
  std::int64_t n;
  int norm;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    lane_norm_lanes<float, 32>(a + g * n * 32, n, norm, out + g * 32);
  }
};

struct Direction {
  float* d;
  const float* g;
  std::int64_t n;
  int norm;
  __device__ void operator()(std::int64_t group, std::int64_t) const {
    lane_direction_lanes<float, 32>(d + group * n * 32, g + group * n * 32, n, norm);
  }
};

struct Project {
  float* x;
  const float *center, *radius;
  std::int64_t n;
  int norm;
  LaneBox box;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const std::int64_t i = g * n * 32;
    if (norm == 1) {
      l1_project_lanes<float, 32>(x + i, center + i, n, Pack<float, 32>::load(radius + g * 32), box.low, box.high);
    } else {
      lane_project_lanes<float, 32>(x + i, center + i, n, norm, radius + g * 32, box.low, box.high);
    }
  }
};

struct Rescale {
  float* x;
  const float *center, *factor;
  std::int64_t n;
  LaneBox box;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t i = element_at(g, e, n);
    lane_rescale_lanes<float, 32>(x + i, center + i, 1, factor + g * 32, box.low, box.high);
  }
};

struct Blend {
  float* out;
  LaneTerms terms;
  std::int64_t n;
  LaneBox box;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t i = element_at(g, e, n);
    const float* here[4];
    for (int t = 0; t < terms.count; ++t) {
      here[t] = terms.term[t] + i;
    }
    lane_blend_lanes<float, 32>(out + i, 1, here, terms.factors + g * 32, terms.stride, terms.count, box.low, box.high);
  }
};

struct HyperplaneMove {
  float* d;
  const float *x, *w, *gain;
  std::int64_t n;
  int norm;
  LaneBox box;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const std::int64_t i = g * n * 32;
    hyperplane_move_lanes<float, 32>(d + i, x + i, w + i, n, gain + g * 32, norm, box.low, box.high);
  }
};

struct TanhAdam {
  TanhSpace s;
  const float *gradient, *clean, *constant, *rate, *root, *tau;
  float *distance, *penalty;
  std::int64_t n;
  bool square;
  LaneBox box;
  template <bool Square>
  __device__ void step(std::int64_t g) const {
    const std::int64_t i = g * n * 32;
    const std::int64_t l = g * 32;
    tanh_adam_lanes<float, 32, Square>(s.w + i, s.first + i, s.second + i, s.x + i, gradient + i, clean + i, n,
                                       constant + l, rate + l, root + l, tau + l, box.low, box.high, distance + l,
                                       penalty + l);
  }
  __device__ void operator()(std::int64_t g, std::int64_t) const { square ? step<true>(g) : step<false>(g); }
};

struct ElasticNet {
  float *x, *y;
  const float *gradient, *clean, *constant, *rate, *momentum;
  float beta;
  float *absolute, *squares;
  std::int64_t n;
  LaneBox box;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const std::int64_t i = g * n * 32;
    const std::int64_t l = g * 32;
    elastic_net_lanes<float, 32>(x + i, y + i, gradient + i, clean + i, n, constant + l, rate + l, momentum + l, beta,
                                 box.low, box.high, absolute + l, squares + l);
  }
};

struct Moved {
  const float *x, *center;
  float* out;
  std::int64_t n;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    lane_moved_lanes<float, 32>(x + g * n * 32, center + g * n * 32, n, out + g * 32);
  }
};

struct L1ApgdStep {
  float* x;
  const float *gradient, *center, *count, *eta, *radius;
  std::int64_t n;
  LaneBox box;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    using P = Pack<float, 32>;
    const std::int64_t i = g * n * 32;
    apgd_l1_lanes<float, 32>(x + i, gradient + i, center + i, n, P::load(count + g * 32), P::load(eta + g * 32),
                             P::load(radius + g * 32), box.low, box.high);
  }
};

template <class Body>
void each_group(Stream stream, const char* name, std::int64_t groups, const Body& body) {
  each_warp(stream, name, groups, 1, body, kFewThreads);
}

}  // namespace

void fill_lane_math(Table& t) {
  t.lane_combine = [](Stream stream, float* out, const float* a, const float* sa, const float* b, const float* sb,
                      std::int64_t n, std::int64_t groups) {
    each_warp(stream, "lane_combine", groups, n, Combine{out, a, sa, b, sb, n});
  };
  t.lane_select = [](Stream stream, float* out, const float* in, const float* chosen, std::int64_t n,
                     std::int64_t groups) {
    each_warp(stream, "lane_select", groups, n, Select{out, in, chosen, n});
  };
  t.lane_finite = [](Stream stream, float* out, const float* in, std::int64_t n, std::int64_t groups) {
    each_warp(stream, "lane_finite", groups, n, Finite{out, in, n});
  };
  t.lane_dot = [](Stream stream, const float* a, const float* b, float* out, std::int64_t n, std::int64_t groups) {
    each_group(stream, "lane_dot", groups, Dot{a, b, out, n});
  };
  t.lane_norm = [](Stream stream, const float* a, int norm, float* out, std::int64_t n, std::int64_t groups) {
    each_group(stream, "lane_norm", groups, Norm{a, out, n, norm});
  };
  t.lane_direction = [](Stream stream, float* d, const float* g, int norm, std::int64_t n, std::int64_t groups) {
    each_group(stream, "lane_direction", groups, Direction{d, g, n, norm});
  };
  t.lane_project = [](Stream stream, float* x, const float* center, int norm, const float* radius, LaneBox box,
                      std::int64_t n, std::int64_t groups) {
    each_group(stream, "lane_project", groups, Project{x, center, radius, n, norm, box});
  };
  t.lane_rescale = [](Stream stream, float* x, const float* center, const float* factor, LaneBox box, std::int64_t n,
                      std::int64_t groups) {
    each_warp(stream, "lane_rescale", groups, n, Rescale{x, center, factor, n, box});
  };
  t.lane_blend = [](Stream stream, float* out, const LaneTerms& terms, LaneBox box, std::int64_t n,
                    std::int64_t groups) {
    each_warp(stream, "lane_blend", groups, n, Blend{out, terms, n, box});
  };
  t.hyperplane_move = [](Stream stream, float* d, const float* x, const float* w, const float* gain, int norm,
                         LaneBox box, std::int64_t n, std::int64_t groups) {
    each_group(stream, "hyperplane_move", groups, HyperplaneMove{d, x, w, gain, n, norm, box});
  };
  t.tanh_adam = [](Stream stream, bool square, const TanhSpace& space, const float* gradient, const float* clean,
                   const float* constant, const float* rate, const float* root, const float* tau, LaneBox box,
                   float* distance, float* penalty, std::int64_t n, std::int64_t groups) {
    each_group(stream, "tanh_adam", groups,
               TanhAdam{space, gradient, clean, constant, rate, root, tau, distance, penalty, n, square, box});
  };
  t.elastic_net = [](Stream stream, float* x, float* y, const float* gradient, const float* clean,
                     const float* constant, const float* rate, const float* momentum, float beta, LaneBox box,
                     float* absolute, float* squares, std::int64_t n, std::int64_t groups) {
    each_group(stream, "elastic_net", groups,
               ElasticNet{x, y, gradient, clean, constant, rate, momentum, beta, absolute, squares, n, box});
  };
  t.lane_moved = [](Stream stream, const float* x, const float* center, float* out, std::int64_t n,
                    std::int64_t groups) {
    each_group(stream, "lane_moved", groups, Moved{x, center, out, n});
  };
  t.apgd_l1_step = [](Stream stream, float* x, const float* gradient, const float* center, const float* count,
                      const float* eta, const float* radius, LaneBox box, std::int64_t n, std::int64_t groups) {
    each_group(stream, "apgd_l1_step", groups, L1ApgdStep{x, gradient, center, count, eta, radius, n, box});
  };
}

}  // namespace pavise::kernels::cuda

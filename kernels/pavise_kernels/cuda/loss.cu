// SPDX-License-Identifier: MIT
// Losses, argmax and softmax: a thread is an image and walks over the classes as the CPU's lane does. Oracles:
// kernels::cross_entropy_forward and its neighbours (loss.inl, softmax.inl), bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

struct CrossEntropyForward {
  const float* z;
  const std::int32_t* labels;
  float* loss;
  float* saved;
  std::int64_t classes;
  float smoothing, inverse_temperature;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    cross_entropy_forward_lanes<float, 32>(z + g * classes * 32, labels + g * 32, loss + g * 32,
                                           saved != nullptr ? saved + g * (classes + 2) * 32 : nullptr, classes,
                                           smoothing, inverse_temperature);
  }
};

struct CrossEntropyBackward {
  const float* saved;
  const std::int32_t* labels;
  const float* dloss;
  float* dz;
  std::int64_t classes;
  float smoothing, inverse_temperature;
  bool accumulate;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    cross_entropy_backward_lanes<float, 32>(saved + g * (classes + 2) * 32, labels + g * 32, dloss + g * 32,
                                            dz + g * classes * 32, classes, smoothing, inverse_temperature, accumulate);
  }
};

struct Margin {
  const float* z;
  const std::int32_t* labels;
  float* loss;
  std::int32_t* index;
  float* weight;
  std::int64_t classes;
  float other_factor, own_factor, bound;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const bool saves = index != nullptr;
    margin_forward_lanes<float, 32>(
        z + g * classes * 32, labels + g * 32, loss + g * 32, saves ? index + g * kSparse * 32 : nullptr,
        saves ? weight + g * kSparse * 32 : nullptr, classes, other_factor, own_factor, bound);
  }
};

struct Dlr {
  const float* z;
  const std::int32_t* labels;
  const std::int32_t* targets;
  float* loss;
  std::int32_t* index;
  float* weight;
  std::int64_t classes;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const bool saves = index != nullptr;
    dlr_forward_lanes<float, 32>(z + g * classes * 32, labels + g * 32, targets != nullptr ? targets + g * 32 : nullptr,
                                 loss + g * 32, saves ? index + g * kSparse * 32 : nullptr,
                                 saves ? weight + g * kSparse * 32 : nullptr, classes);
  }
};

struct SparseBackward {
  const std::int32_t* index;
  const float* weight;
  const float* dloss;
  float* dz;
  std::int64_t classes;
  bool accumulate;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    sparse_backward_lanes<float, 32>(index + g * kSparse * 32, weight + g * kSparse * 32, dloss + g * 32,
                                     dz + g * classes * 32, classes, accumulate);
  }
};

struct Argmax {
  const float* z;
  std::int32_t* out;
  std::int64_t classes;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    argmax_lanes<float, 32>(z + g * classes * 32, out + g * 32, classes);
  }
};

struct Vote {
  const float* z;
  std::int32_t* out;
  std::int64_t classes;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    vote_lanes<float, 32>(z + g * classes * 32, out + g * 32, classes);
  }
};

/// One position of the axes behind the classes.
template <bool Log>
struct SoftmaxForward {
  const float* x;
  float* y;
  std::int64_t classes, inner;
  float inverse_temperature;
  __device__ void operator()(std::int64_t g, std::int64_t at) const {
    const std::int64_t from = (g * classes * inner + at) * 32;
    softmax_forward_at<Log, float, 32>(x + from, y + from, classes, inner * 32, inverse_temperature);
  }
};

template <bool Log>
struct SoftmaxBackward {
  const float* y;
  const float* dy;
  float* dx;
  std::int64_t classes, inner;
  float inverse_temperature;
  bool accumulate;
  __device__ void operator()(std::int64_t g, std::int64_t at) const {
    const std::int64_t from = (g * classes * inner + at) * 32;
    softmax_backward_at<Log, float, 32>(y + from, dy + from, dx + from, classes, inner * 32, inverse_temperature,
                                        accumulate);
  }
};

}  // namespace

void fill_loss(Table& t) {
  t.cross_entropy_forward = [](Stream stream, const float* z, const std::int32_t* labels, float* loss, float* saved,
                               std::int64_t classes, float smoothing, float inverse_temperature, std::int64_t groups) {
    each_warp(stream, "cross_entropy_forward", groups, 1,
              CrossEntropyForward{z, labels, loss, saved, classes, smoothing, inverse_temperature}, kFewThreads);
  };
  t.cross_entropy_backward = [](Stream stream, const float* saved, const std::int32_t* labels, const float* dloss,
                                float* dz, std::int64_t classes, float smoothing, float inverse_temperature,
                                bool accumulate, std::int64_t groups) {
    each_warp(stream, "cross_entropy_backward", groups, 1,
              CrossEntropyBackward{saved, labels, dloss, dz, classes, smoothing, inverse_temperature, accumulate},
              kFewThreads);
  };
  t.margin_forward = [](Stream stream, const float* z, const std::int32_t* labels, float* loss, std::int32_t* index,
                        float* weight, std::int64_t classes, float other_factor, float own_factor, float bound,
                        std::int64_t groups) {
    each_warp(stream, "margin_forward", groups, 1,
              Margin{z, labels, loss, index, weight, classes, other_factor, own_factor, bound}, kFewThreads);
  };
  t.dlr_forward = [](Stream stream, const float* z, const std::int32_t* labels, const std::int32_t* targets,
                     float* loss, std::int32_t* index, float* weight, std::int64_t classes, std::int64_t groups) {
    each_warp(stream, "dlr_forward", groups, 1, Dlr{z, labels, targets, loss, index, weight, classes}, kFewThreads);
  };
  t.sparse_backward = [](Stream stream, const std::int32_t* index, const float* weight, const float* dloss, float* dz,
                         std::int64_t classes, bool accumulate, std::int64_t groups) {
    each_warp(stream, "sparse_backward", groups, 1, SparseBackward{index, weight, dloss, dz, classes, accumulate},
              kFewThreads);
  };
  t.argmax = [](Stream stream, const float* z, std::int32_t* out, std::int64_t classes, std::int64_t groups) {
    each_warp(stream, "argmax", groups, 1, Argmax{z, out, classes}, kFewThreads);
  };
  t.vote = [](Stream stream, const float* z, std::int32_t* out, std::int64_t classes, std::int64_t groups) {
    each_warp(stream, "vote", groups, 1, Vote{z, out, classes}, kFewThreads);
  };
  t.softmax_forward = [](Stream stream, bool log, const float* x, float* y, std::int64_t classes, std::int64_t inner,
                         float inverse_temperature, std::int64_t groups) {
    if (log) {
      each_warp(stream, "log_softmax", groups, inner, SoftmaxForward<true>{x, y, classes, inner, inverse_temperature},
                kFewThreads);
    } else {
      each_warp(stream, "softmax", groups, inner, SoftmaxForward<false>{x, y, classes, inner, inverse_temperature},
                kFewThreads);
    }
  };
  t.softmax_backward = [](Stream stream, bool log, const float* y, const float* dy, float* dx, std::int64_t classes,
                          std::int64_t inner, float inverse_temperature, bool accumulate, std::int64_t groups) {
    if (log) {
      each_warp(stream, "log_softmax_backward", groups, inner,
                SoftmaxBackward<true>{y, dy, dx, classes, inner, inverse_temperature, accumulate}, kFewThreads);
    } else {
      each_warp(stream, "softmax_backward", groups, inner,
                SoftmaxBackward<false>{y, dy, dx, classes, inner, inverse_temperature, accumulate}, kFewThreads);
    }
  };
}

}  // namespace pavise::kernels::cuda

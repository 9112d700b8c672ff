// SPDX-License-Identifier: MIT
// What the CUDA kernels offer to code that knows nothing of CUDA: one table of functions, which the compiled library
// `pavise_cuda` puts into place when the program starts. A program without that library finds no table; no header
// changes with it.
//
// On a GPU lanes are threads: values are [group][C][H][W][32] and a warp is 32 images. Every function queues work on a
// stream and returns; pointers are the device's. A lane's arithmetic is that of a CPU lane, in the same order, so that
// an image gets the same bits on both; sums over images (gradients of weights) have an order of their own, said there.
// Functions throw DeviceError where the device refuses, and leave it usable.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "pavise_kernels/cpu/apgd_schedule.hpp"
#include "pavise_kernels/cpu/axis_taps.hpp"
#include "pavise_kernels/cpu/gather_plan.hpp"
#include "pavise_kernels/cpu/grid_noise.hpp"
#include "pavise_kernels/cpu/jpeg_plan.hpp"
#include "pavise_kernels/cpu/lane_gather.hpp"
#include "pavise_kernels/cpu/lane_keys.hpp"
#include "pavise_kernels/cpu/nlm_plan.hpp"
#include "pavise_kernels/cpu/row_norm.hpp"
#include "pavise_kernels/cpu/strided.hpp"
#include "pavise_kernels/cpu/window.hpp"
#include "pavise_kernels/cpu/winograd_plan.hpp"

namespace pavise::kernels::cuda {

/// Lanes of a group on a GPU: the threads of a warp.
inline constexpr int kLanes = 32;

/// A queue of work of one device (a cudaStream_t); null is the device's default one.
using Stream = void*;
/// Work recorded once, to be launched as a whole (a cudaGraphExec_t).
using Graph = void*;

/// A plan and its packed weights on a device; see Table::make_operator.
struct Operator;
struct PatchPlan;
/// A plan for tensor cores in bf16 and its packed weights on a device; see Table::make_patches.
struct Patches;

struct DeviceInfo {
  char name[256];
  int major, minor;  ///< compute capability
  int multiprocessors;
  std::size_t memory;    ///< bytes
  std::size_t shared;    ///< bytes of shared memory that a block can have
  unsigned char id[16];  ///< of this one and no other, on any machine
};

/// A step of a gradient attack, as kernels::linf_step, l1_step and l2_step.
struct AttackStep {
  int norm;  ///< 0 is Linf, 1 is L1, 2 is L2
  float alpha, epsilon, low, high;
  float sparsity = 0;  ///< L1: the share of the coordinates that move
};

/// Where the attempts of Auto-PGD stand, one in each lane: [group][32] on the device.
struct ApgdLanes {
  ApgdState* state;
  std::int32_t* active;  ///< whether the attempt goes on
  std::int32_t* passes;  ///< that it has taken
  std::int32_t* improved;
  std::int32_t* restart;
  std::int32_t* take_best;  ///< it ends with its best point
  float* eta;
  float* weight;
};

/// What Auto-PGD's verdicts go by.
struct ApgdRule {
  std::int64_t steps;
  double rho;
  float sign;     ///< of the loss: larger is better
  bool targeted;  ///< a success has its label's class, or any other
};

/// The box of an attack's pixels.
struct LaneBox {
  float low, high;
};

/// Terms of a sum, [group][n][32] each, and their factors: factors[t * stride + lane].
struct LaneTerms {
  const float* term[4];
  const float* factors;
  std::int64_t stride;
  int count;
};

/// What random points near images are drawn by: the keys' image and restart, and an iteration for each lane.
struct ProbeDraws {
  LaneKeys keys;
  const std::uint32_t* iteration;
};

/// Images in tanh space and Adam's state of them, as kernels::tanh_adam.
struct TanhSpace {
  float *w, *first, *second, *x;
};

/// Where the attempts of Square stand, one in each lane: [group][32] on the device.
struct SquareLanes {
  std::int32_t* active;    ///< whether the attempt goes on
  std::int32_t* passes;    ///< that it has taken
  std::int32_t* accepted;  ///< whether x is the best image so far
  float* loss;             ///< of the best image so far
  const std::uint32_t* image;
  const std::uint32_t* restart;
  std::int32_t* row;  ///< of the window in which x differs from it
  std::int32_t* column;
  std::int32_t* side;    ///< 0: none
  std::uint32_t* signs;  ///< bit c: whether channel c has moved up
};

/// What Square's steps go by.
struct SquareRule {
  std::int64_t channels, height, width;
  std::int64_t queries;
  double epsilon;
  float low, high;
  std::uint64_t seed;
  const std::int32_t* sides;  ///< of the windows, one for each query
};

/// The state of Adam's step, as kernels::adam_update.
struct AdamStep {
  float rate, root, share1, share2, epsilon, decay, keep, scale;
};

/// The state of a step of gradient descent, as kernels::sgd_update.
struct SgdStep {
  float rate, momentum, decay, scale;
  bool nesterov;
};

/// Statistics and parameters of a normalised channel: y = (x - mean) * scale + shift.
struct ChannelFactors {
  const float* mean;
  const float* scale;
  const float* shift;
};

/// Batch normalisation by running statistics; gamma and beta may be null.
struct RunningNorm {
  const float* gamma;
  const float* beta;
  const float* mean;
  const float* variance;
  double epsilon;
};

/// Where the slices of sums over images go.
struct SliceSum {
  const float* before;  ///< null, or the sums over the images before these, which the slices follow
  float* out;
  bool add;  ///< out += the sum, or out = the sum
};

/// out_c = sum_d matrix[3 c + d] in_d + offset[c], over three channels.
struct ChannelMix {
  float matrix[9];
  float offset[3];
};

/// Settings of total-variation minimisation, as kernels::total_variation.
struct TotalVariationStep {
  std::int64_t channels, height, width;
  float weight;
  std::int64_t steps;
};

/// Devices that share a batch take whole blocks of so many images, and go on with the sums of the one before: any number
/// of devices comes to the same bits.
inline constexpr int kBlockImages = 256;

struct Table {
  // --- devices, memory, streams

  int (*device_count)();
  DeviceInfo (*device_info)(int device);
  void (*set_device)(int device);
  int (*current_device)();  ///< of this thread
  Stream (*make_stream)();
  void (*destroy_stream)(Stream);
  void (*synchronize)(Stream);
  /// From the device's caching pool, in the order of the stream; null for 0 bytes. Too much is a DeviceError that names
  /// the sizes.
  void* (*allocate)(std::size_t bytes, Stream);
  void (*release)(void*, Stream);
  /// Memory of the host that copies overlap with work from (pinned).
  void* (*allocate_host)(std::size_t bytes);
  void (*release_host)(void*);
  /// `from` may change once it returns.
  void (*copy_to_device)(void* to, const void* from, std::size_t bytes, Stream);
  void (*copy_to_host)(void* to, const void* from, std::size_t bytes, Stream);
  void (*copy)(void* to, const void* from, std::size_t bytes, Stream);
  void (*fill_bytes)(void* to, int value, std::size_t bytes, Stream);
  /// Between the two the stream records what is queued instead of doing it.
  void (*begin_graph)(Stream);
  Graph (*end_graph)(Stream);
  void (*launch_graph)(Graph, Stream);
  void (*destroy_graph)(Graph);

  // --- convolutions and fully connected layers: gather_gemm, both ways

  Operator* (*make_operator)(const GatherPlan&);
  void (*destroy_operator)(Operator*);  ///< null: nothing
  /// Packs the layer's weights (as the layer stores them, on the device). After each update of them.
  void (*pack_operator)(Stream, Operator*, const float* weight);
  /// out = operator(in) for every group, with the epilogue of kernels::gather_gemm.
  void (*apply_operator)(Stream, const Operator*, const float* in, float* out, const Epilogue<float>&,
                         std::int64_t groups);
  /// The same with register tiles of `rows` x `points` (one of operator_tiles): the bits do not depend on it. For tests
  /// and measurements.
  void (*apply_operator_tiled)(Stream, const Operator*, const float* in, float* out, const Epilogue<float>&,
                               std::int64_t groups, int rows, int points);
  /// Tile number `i`, as rows * 100 + points; 0 behind the last.
  int (*operator_tiles)(int i);

  /// apply_operator in the fast mode: inputs and weights rounded to TF32, sums in float, on tensor cores. Not the CPU's
  /// bits; a relative error of some 1e-3.
  void (*apply_operator_fast)(Stream, const Operator*, const float* in, float* out, const Epilogue<float>&,
                              std::int64_t groups);
  void (*apply_operator_fast_tiled)(Stream, const Operator*, const float* in, float* out, const Epilogue<float>&,
                                    std::int64_t groups, int rows, int points);
  int (*fast_operator_tiles)(int i);

  /// A layer for the bf16 mode (patch_plan.hpp): inputs and weights rounded to bf16, sums in float, on tensor cores. Null
  /// where the device's shared memory does not suffice for the layer.
  Patches* (*make_patches)(const PatchPlan&);
  void (*destroy_patches)(Patches*);  ///< null: nothing
  /// As pack_operator and apply_operator.
  void (*pack_patches)(Stream, Patches*, const float* weight);
  void (*apply_patches)(Stream, const Patches*, const float* in, float* out, const Epilogue<float>&,
                        std::int64_t groups);
  /// The same by kernel number `kernel`, one of patch_kernels. For tests and measurements.
  void (*apply_patches_by)(Stream, const Patches*, const float* in, float* out, const Epilogue<float>&,
                           std::int64_t groups, int kernel);
  /// Kernel number `i` as rows * 100 + points of its blocks; 0 behind the last; -1: not for this layer.
  int (*patch_kernels)(const Patches*, int i);

  // --- what crosses the batch. A sum over images runs, for each lane, over the groups of a slice in turn (1, 2, 4 or 8
  // --- groups, as the layer's shape alone decides) and over the positions of each; lanes are then added by halves, and
  // --- slices in turn. Lanes behind the last image must hold zero gradients.

  /// Elements that the slices' sums take, in either mode.
  std::int64_t (*conv_weight_gradient_scratch)(const ConvGeometry&, std::int64_t groups);
  std::int64_t (*linear_weight_gradient_scratch)(std::int64_t rows, std::int64_t columns, std::int64_t groups);
  std::int64_t (*bias_gradient_scratch)(std::int64_t channels, std::int64_t positions, std::int64_t groups);
  /// The slices' sums of a convolution's weight gradient, one slice behind another; returns how many slices.
  std::int64_t (*conv_weight_gradient)(Stream, const ConvGeometry&, const float* x, const float* dy, float* partial,
                                       std::int64_t groups);
  /// The same of dy x^T, (rows, columns).
  std::int64_t (*linear_weight_gradient)(Stream, std::int64_t rows, std::int64_t columns, const float* x,
                                         const float* dy, float* partial, std::int64_t groups);
  /// The same in the fast mode: factors rounded to TF32, on tensor cores.
  std::int64_t (*conv_weight_gradient_fast)(Stream, const ConvGeometry&, const float* x, const float* dy,
                                            float* partial, std::int64_t groups);
  std::int64_t (*linear_weight_gradient_fast)(Stream, std::int64_t rows, std::int64_t columns, const float* x,
                                              const float* dy, float* partial, std::int64_t groups);
  /// The same of dy (channels, positions), over its positions.
  std::int64_t (*bias_gradient)(Stream, std::int64_t channels, std::int64_t positions, const float* dy, float* partial,
                                std::int64_t groups);
  /// Adds up the slices of n sums.
  void (*add_slices)(Stream, const float* partial, std::int64_t n, std::int64_t slices, const SliceSum&);

  // --- layers in training mode: normalisation by the batch's statistics, and dropout

  /// The slices' sums (bias_gradient_scratch elements) over the first `images` and the positions of each channel of x
  /// (channels, positions): of x, or, given means, of (x - mean[c])^2; returns how many slices.
  std::int64_t (*channel_sums)(Stream, std::int64_t channels, std::int64_t positions, const float* x, const float* mean,
                               float* partial, std::int64_t images, std::int64_t groups);
  /// The same of two sums a channel (twice the scratch): of dy, and behind those of all channels of dy * (x - mean[c]).
  std::int64_t (*channel_gradient_sums)(Stream, std::int64_t channels, std::int64_t positions, const float* x,
                                        const float* mean, const float* dy, float* partial, std::int64_t groups);
  /// mean[c] = sum[c] / count
  void (*batch_norm_mean)(Stream, const float* sum, float* mean, std::int64_t channels, double count);
  /// From the sums of squared deviations: inverse[c] = 1 / sqrt(variance + epsilon) of the biased variance, scale[c] =
  /// gamma[c] * inverse[c] (gamma null: 1), and the unbiased variance[c].
  void (*batch_norm_scale)(Stream, const float* squares, const float* gamma, float* scale, float* inverse,
                           float* variance, std::int64_t channels, double count, double epsilon);
  /// running[c] <- kernels::running_value towards value[c].
  void (*move_running)(Stream, float* running, const float* value, std::int64_t channels, double momentum);
  /// From the sums of channel_gradient_sums: dgamma[c] and dbeta[c] += theirs (either may be null), and the factors
  /// (3 x channels) of batch_norm_backward.
  void (*batch_norm_gradients)(Stream, const float* sums, const float* inverse, const float* gamma, float* dgamma,
                               float* dbeta, float* factors, std::int64_t channels, double count);
  /// dx (+)= the derivative by the input, 0 where the mask is not positive and in lanes behind the last of `images`.
  void (*batch_norm_backward)(Stream, const float* x, const float* dy, float* dx, std::int64_t channels,
                              std::int64_t positions, const float* mean, const float* factors, bool accumulate,
                              const float* mask, std::int64_t images, std::int64_t groups);
  /// y (+)= dropout of x, as kernels::dropout, forward and backward; the keys' image and restart (the layer's number) are
  /// [group][32].
  void (*dropout)(Stream, const float* x, float* y, std::int64_t n, std::int64_t groups, std::int32_t threshold,
                  float scale, const LaneKeys&, bool accumulate, const float* mask);

  // --- group and layer normalisation: every image by itself; gamma and beta may be null

  /// As kernels::row_norm; mean, inverse: [group][rows][32].
  void (*row_norm)(Stream, const RowNorm&, const float* x, float* y, const float* gamma, const float* beta,
                   float epsilon, bool relu, float* mean, float* inverse, std::int64_t groups);
  /// As kernels::row_norm_backward.
  void (*row_norm_backward)(Stream, const RowNorm&, const float* x, const float* dy, const float* gamma,
                            const float* mean, const float* inverse, float* dx, bool accumulate, const float* mask,
                            std::int64_t groups);
  /// The slices' sums of the derivative by `parameters` of gamma, or of beta, over the first `images`; returns how many
  /// slices. And the elements that they take.
  std::int64_t (*row_norm_parameters)(Stream, const RowNorm&, bool gamma, const float* x, const float* dy,
                                      const float* mean, const float* inverse, float* partial, std::int64_t parameters,
                                      std::int64_t images, std::int64_t groups);
  std::int64_t (*row_norm_parameters_scratch)(const RowNorm&, std::int64_t parameters, std::int64_t groups);

  // --- updates

  void (*sgd_update)(Stream, float* value, const float* gradient, float* velocity, std::int64_t n, const SgdStep&);
  void (*adam_update)(Stream, float* value, const float* gradient, float* first, float* second, std::int64_t n,
                      const AdamStep&);

  // --- losses and predictions; logits are [group][classes][32], labels and losses [group][32]

  void (*cross_entropy_forward)(Stream, const float* z, const std::int32_t* labels, float* loss, float* saved,
                                std::int64_t classes, float smoothing, float inverse_temperature, std::int64_t groups);
  void (*cross_entropy_backward)(Stream, const float* saved, const std::int32_t* labels, const float* dloss, float* dz,
                                 std::int64_t classes, float smoothing, float inverse_temperature, bool accumulate,
                                 std::int64_t groups);
  void (*margin_forward)(Stream, const float* z, const std::int32_t* labels, float* loss, std::int32_t* index,
                         float* weight, std::int64_t classes, float other_factor, float own_factor, float bound,
                         std::int64_t groups);
  void (*dlr_forward)(Stream, const float* z, const std::int32_t* labels, const std::int32_t* targets, float* loss,
                      std::int32_t* index, float* weight, std::int64_t classes, std::int64_t groups);
  void (*sparse_backward)(Stream, const std::int32_t* index, const float* weight, const float* dloss, float* dz,
                          std::int64_t classes, bool accumulate, std::int64_t groups);
  void (*argmax)(Stream, const float* z, std::int32_t* out, std::int64_t classes, std::int64_t groups);
  void (*vote)(Stream, const float* z, std::int32_t* out, std::int64_t classes, std::int64_t groups);
  void (*softmax_forward)(Stream, bool log, const float* x, float* y, std::int64_t classes, std::int64_t inner,
                          float inverse_temperature, std::int64_t groups);
  void (*softmax_backward)(Stream, bool log, const float* y, const float* dy, float* dx, std::int64_t classes,
                           std::int64_t inner, float inverse_temperature, bool accumulate, std::int64_t groups);
  /// dloss[image] = 1 for the first `images` lanes, 0 behind them.
  void (*seed_gradient)(Stream, float* dloss, std::int64_t images, std::int64_t groups);
  /// count[0] += images (of the first `images`) whose class is their label.
  void (*count_equal)(Stream, const std::int32_t* classes, const std::int32_t* labels, std::int64_t images,
                      std::uint32_t* count);
  /// votes[class] += the images of the first `images` that have that class: the counting of Monte-Carlo smoothing.
  void (*count_votes)(Stream, const std::int32_t* classes, std::int64_t images, std::uint32_t* votes);
  /// Where loss exceeds best_loss (or is NaN where best_loss is not), keeps it and the image: best-so-far.
  void (*keep_best)(Stream, const float* x, const float* loss, float* best_x, float* best_loss, std::int64_t n,
                    std::int64_t groups);

  // --- attacks

  /// x <- projection of x + step, as kernels::linf_step, l1_step and l2_step; gradient may be null.
  void (*attack_step)(Stream, float* x, const float* gradient, const float* center, std::int64_t n, std::int64_t groups,
                      const AttackStep&);
  /// momentum <- decay momentum + gradient / ||gradient||_1, as kernels::lane_direction and lane_combine; elements of the
  /// gradient that are not finite count as 0.
  void (*add_momentum)(Stream, const float* gradient, float* momentum, float decay, std::int64_t n,
                       std::int64_t groups);
  /// x <- a random point of the ball. x: [group][n][32]; draws: room for [group][n + 2][32] in L2, [group][n + 1][32] in
  /// L1, else null. The keys' image and restart are [group][32].
  void (*random_start)(Stream, float* x, const float* center, std::int64_t n, std::int64_t groups, const AttackStep&,
                       const LaneKeys&, float* draws);
  void (*distance)(Stream, const float* x, const float* center, std::int64_t n, int norm, float* out,
                   std::int64_t groups);

  /// Attempts of Auto-PGD begin in `count` lanes (numbers of them, on the device).
  void (*apgd_begin)(Stream, const ApgdLanes&, const std::int32_t* lanes, std::int64_t count, const ApgdState&);
  /// Takes the loss at x of every attempt that goes on: it succeeds and ends, or goes by kernels::apgd_judge.
  void (*apgd_judge)(Stream, const ApgdLanes&, const ApgdRule&, const float* loss, const float* logits,
                     std::int64_t classes, const std::int32_t* classes_now, const std::int32_t* labels,
                     std::int64_t groups);
  /// What follows from the verdicts: the best point is kept or gone back to, and kernels::apgd_step is made. Elements of
  /// the gradient that are not finite count as 0. An attempt that is over has its image in x.
  void (*apgd_step)(Stream, const ApgdLanes&, float* x, float* previous, float* gradient, const float* center,
                    float* best, float* best_gradient, std::int64_t n, std::int64_t groups, const AttackStep&);

  // Vector arithmetic of attacks whose lanes are each at a step of their own, as the CPU's kernels of the same names.
  // Arrays are [group][n][32]; numbers that come one for each lane, [group][32], are on the device too.

  /// out = sa a + sb b
  void (*lane_combine)(Stream, float* out, const float* a, const float* sa, const float* b, const float* sb,
                       std::int64_t n, std::int64_t groups);
  void (*lane_select)(Stream, float* out, const float* in, const float* chosen, std::int64_t n, std::int64_t groups);
  void (*lane_finite)(Stream, float* out, const float* in, std::int64_t n, std::int64_t groups);
  void (*lane_dot)(Stream, const float* a, const float* b, float* out, std::int64_t n, std::int64_t groups);
  void (*lane_norm)(Stream, const float* a, int norm, float* out, std::int64_t n, std::int64_t groups);
  void (*lane_direction)(Stream, float* d, const float* g, int norm, std::int64_t n, std::int64_t groups);
  /// In L1 lane_l1_project.
  void (*lane_project)(Stream, float* x, const float* center, int norm, const float* radius, LaneBox, std::int64_t n,
                       std::int64_t groups);
  void (*lane_rescale)(Stream, float* x, const float* center, const float* factor, LaneBox, std::int64_t n,
                       std::int64_t groups);
  void (*lane_blend)(Stream, float* out, const LaneTerms&, LaneBox, std::int64_t n, std::int64_t groups);
  void (*hyperplane_move)(Stream, float* d, const float* x, const float* w, const float* gain, int norm, LaneBox,
                          std::int64_t n, std::int64_t groups);
  void (*tanh_adam)(Stream, bool square, const TanhSpace&, const float* gradient, const float* clean,
                    const float* constant, const float* rate, const float* root, const float* tau, LaneBox,
                    float* distance, float* penalty, std::int64_t n, std::int64_t groups);
  void (*elastic_net)(Stream, float* x, float* y, const float* gradient, const float* clean, const float* constant,
                      const float* rate, const float* momentum, float beta, LaneBox, float* absolute, float* squares,
                      std::int64_t n, std::int64_t groups);
  void (*lane_moved)(Stream, const float* x, const float* center, float* out, std::int64_t n, std::int64_t groups);
  void (*apgd_l1_step)(Stream, float* x, const float* gradient, const float* center, const float* count,
                       const float* eta, const float* radius, LaneBox, std::int64_t n, std::int64_t groups);
  void (*sign_probe)(Stream, float* out, const float* x, const ProbeDraws&, const float* size, LaneBox, std::int64_t n,
                     std::int64_t groups);
  void (*sign_slope)(Stream, float* slope, const float* x, const ProbeDraws&, const float* size, const float* factor,
                     LaneBox, std::int64_t n, std::int64_t groups);
  void (*slope_adam)(Stream, float* x, float* slope, float* first, float* second, float scale, const float* rate,
                     const float* root, std::int64_t n, std::int64_t groups);
  void (*sphere_probe)(Stream, float* out, const float* x, Distribution, const ProbeDraws&, const float* size, LaneBox,
                       std::int64_t n, std::int64_t groups);
  void (*probe_sums)(Stream, float* sum, float* weighted, const float* probe, const float* x, const float* take,
                     const float* weight, std::int64_t n, std::int64_t groups);

  /// Attempts of Square (attack/square.hpp), in Linf, begin in `count` lanes (numbers of them, on the device).
  void (*square_begin)(Stream, const SquareLanes&, const std::int32_t* lanes, std::int64_t count);
  /// Takes the logits of x: it becomes the best image so far or does not, and an attempt that succeeds, or has had its
  /// queries, ends.
  void (*square_judge)(Stream, const SquareLanes&, const SquareRule&, const float* logits, std::int64_t classes,
                       const std::int32_t* predictions, const std::int32_t* labels, std::int64_t groups);
  /// x: the best image so far with a new window, of at most 32 channels; of an attempt that is over without one.
  void (*square_step)(Stream, const SquareLanes&, const SquareRule&, float* x, float* best, const float* clean,
                      std::int64_t groups);

  // --- random numbers

  void (*random_lanes)(Stream, Distribution, float* out, std::int64_t n, std::int64_t groups, const LaneKeys&);
  /// out = x + sigma * noise, where the noise is that of random_lanes. `x_step`: elements from one group's x to the
  /// next (0: all groups see the same image group).
  void (*add_noise)(Stream, const float* x, std::int64_t x_step, float sigma, float* out, std::int64_t n,
                    std::int64_t groups, const LaneKeys&);

  /// out = min(max(pixel + noise, least), most) / 255, as kernels::grid_noise: the noise of randomized smoothing, in
  /// units of the grid. images: rows of n bytes, one behind another; row[group][32] says which of them a lane holds.
  /// The table's arrays and the keys ([group][32] each) are on the device.
  void (*grid_noise)(Stream, const std::uint8_t* images, const std::int32_t* row, float* out, std::int64_t n,
                     std::int64_t groups, std::int32_t least, std::int32_t most, const GridTable&, const SampleKeys&);

  // --- layouts

  /// The same images with another number of lanes: [group][n][from_lanes] to [group][n][to_lanes], whose lanes behind
  /// the last of `images` repeat it. One lane is row-major order, sixteen are the CPU's groups. Of four-byte elements.
  void (*change_lanes)(Stream, const void* from, int from_lanes, void* to, int to_lanes, std::int64_t n,
                       std::int64_t images);

  /// Rows of n elements, one behind another, to and from the lanes whose numbers `lanes` has (on the device).
  void (*rows_to_lanes)(Stream, const float* rows, const std::int32_t* lanes, std::int64_t count, float* to,
                        std::int64_t n);
  void (*lanes_to_rows)(Stream, const float* from, const std::int32_t* lanes, std::int64_t count, float* rows,
                        std::int64_t n);

  // --- element by element: n numbers wherever they are

  void (*unary_forward)(Stream, Unary, const float* x, float* y, std::int64_t n, float a, float b);
  void (*unary_backward)(Stream, Unary, const float* x, const float* y, const float* dy, float* dx, std::int64_t n,
                         float a, float b, bool accumulate);
  /// y = f(a, b) with NumPy's broadcasting; a step of 0 marks a shared operand (without lanes).
  void (*binary_forward)(Stream, Binary, const StridedLoop&, const float* a, std::int64_t a_step, const float* b,
                         std::int64_t b_step, float* y, std::int64_t groups);
  /// d (+)= dy * df/d(operand 1 or 2) for operands of one shape, both with lanes.
  void (*binary_backward)(Stream, Binary, int operand, const float* a, const float* b, const float* dy, float* d,
                          std::int64_t n, bool accumulate);
  void (*add_values)(Stream, const float* a, const float* b, float* y, std::int64_t n, bool relu);
  void (*pass_gradient)(Stream, const float* dy, float* dx, std::int64_t n, bool accumulate, const float* mask);

  /// y = the sum of x over the steps of `reduced`, for every step of `kept` (array 0: x, array 1: y), as
  /// kernels::reduce_forward; of arrays of `x_step` and `y_step` elements an image.
  void (*sum_elements)(Stream, const StridedLoop& kept, const StridedLoop& reduced, const float* x, std::int64_t x_step,
                       float* y, std::int64_t y_step, std::int64_t groups);

  // --- windows and channels

  void (*max_pool)(Stream, const ConvGeometry&, const float* in, float* out, std::int64_t groups);
  void (*max_pool_backward)(Stream, const ConvGeometry&, const float* in, const float* out, const float* dy, float* dx,
                            bool accumulate, const float* mask, std::int64_t groups);
  void (*avg_pool)(Stream, const ConvGeometry&, bool include_padding, const float* in, float* out, std::int64_t groups);
  void (*avg_pool_backward)(Stream, const ConvGeometry&, bool include_padding, const float* dy, float* dx,
                            bool accumulate, const float* mask, std::int64_t groups);
  /// y = (x - mean) * scale + shift for each channel, and max(0, .) of it where asked for: batch normalisation in
  /// evaluation mode.
  void (*channel_affine)(Stream, const float* x, float* y, std::int64_t channels, std::int64_t positions,
                         const ChannelFactors&, bool relu, std::int64_t groups);
  /// The factors (3 x channels: mean, scale, shift) of batch normalisation in evaluation mode.
  void (*channel_factors)(Stream, const RunningNorm&, float* factors, std::int64_t channels);
  /// Weights (channels x row) and biases (null: 0) with it folded in, as nn::FoldedWeights has them.
  void (*fold_norm)(Stream, const RunningNorm&, const float* weight, const float* bias, float* folded_weight,
                    float* folded_bias, std::int64_t channels, std::int64_t row);
  /// dx (+)= scale * dy for each channel, 0 where the mask is not positive; 0 in lanes behind the last of `images`.
  void (*channel_backward)(Stream, const float* dy, float* dx, std::int64_t channels, std::int64_t positions,
                           const float* scale, bool accumulate, const float* mask, std::int64_t images,
                           std::int64_t groups);
  /// Weights (O,C,3,3) as those of Winograd's grouped product, [36][row][channel], by kernels::winograd_weights; `back`:
  /// of the derivative by the input, whose rows are C.
  void (*winograd_weights)(Stream, std::int64_t rows, std::int64_t channels, bool back, const float* weight, float* u);
  /// Winograd's convolution F(4x4, 3x3), as kernels::winograd_conv: the transforms around a grouped product.
  void (*winograd_input)(Stream, const WinogradShape&, const float* in, float* v, std::int64_t groups);
  void (*winograd_output)(Stream, const WinogradShape&, const float* m, float* out, const Epilogue<float>&,
                          std::int64_t groups);

  // --- filters of images (channels,height,width). What plans, windows and maps point to is on the device. `groups` last;
  // --- x, y, dy, dx are [group][...][32]. Backward functions without `accumulate` add to dx.

  /// y = round(x * steps) / steps, ties to even, as kernels::quantise.
  void (*quantise)(Stream, const float* x, float* y, std::int64_t n, float steps);
  /// The upper median of each window, channel by channel, as kernels::median_filter. scratch: median_scratch elements.
  std::int64_t (*median_scratch)(const Windows&);
  void (*median)(Stream, const Windows&, std::int64_t channels, const float* x, float* y, float* scratch,
                 std::int64_t groups);
  /// As kernels::median_backward. shares: scratch, as many elements as dy.
  void (*median_backward)(Stream, const Windows&, std::int64_t channels, const float* x, const float* y,
                          const float* dy, float* dx, float* shares, std::int64_t groups);
  /// As kernels::bilateral_forward and bilateral_backward, of 1 or 3 channels; space: rows x columns weights. shares:
  /// scratch, as many elements as dy.
  void (*bilateral)(Stream, const Windows&, const float* space, std::int64_t channels, float slope, const float* x,
                    float* y, std::int64_t groups);
  void (*bilateral_backward)(Stream, const Windows&, const float* space, std::int64_t channels, float slope,
                             const float* x, const float* y, const float* dy, float* dx, float* shares,
                             std::int64_t groups);
  /// As kernels::jpeg_round_trip. scratch: plan.scratch() * 32 integers for each group.
  void (*jpeg)(Stream, const JpegPlan&, const float* x, float* y, std::int32_t* scratch, std::int64_t groups);
  /// The pieces of the differentiable JPEG, as kernels::mix_channels and soft_round; `add`: to what is there, without the
  /// offset. table: 64 numbers on the device; dy: null, or out += the derivative times dy.
  void (*mix_channels)(Stream, const float* x, float* y, std::int64_t pixels, const ChannelMix&, bool add,
                       std::int64_t groups);
  void (*soft_round)(Stream, const float* x, const float* dy, float* out, std::int64_t height, std::int64_t width,
                     const float* table, std::int64_t groups);
  /// As kernels::non_local_means, into another array, and the colours that it compares in; steps are elements of one image
  /// from a group to the next.
  void (*non_local_means)(Stream, const NlmPlan&, std::int64_t x_step, const float* x, std::int64_t y_step, float* y,
                          std::int64_t groups);
  void (*lab_from_rgb)(Stream, const float* x, float* y, std::int64_t pixels, std::int64_t groups);
  void (*rgb_from_lab)(Stream, const float* x, float* y, std::int64_t pixels, std::int64_t groups);
  /// As kernels::thermometer_forward and thermometer_backward.
  void (*thermometer)(Stream, const float* x, float* y, std::int64_t channels, std::int64_t pixels, std::int64_t levels,
                      std::int64_t groups);
  void (*thermometer_backward)(Stream, const float* x, const float* dy, float* dx, std::int64_t channels,
                               std::int64_t pixels, std::int64_t levels, bool accumulate, std::int64_t groups);
  /// A linear map along an axis and its transpose, as kernels::resample_axis and resample_axis_adjoint.
  void (*resample)(Stream, const AxisTaps<float>&, const float* x, float* y, std::int64_t groups);
  void (*resample_adjoint)(Stream, const AxisTaps<float>&, const float* dy, float* dx, std::int64_t groups);
  /// As kernels::gather_lanes and gather_lanes_adjoint; places: [group][out_height + out_width][32].
  void (*gather_pixels)(Stream, const LaneGather&, const float* x, float* y, std::int64_t groups);
  void (*gather_pixels_adjoint)(Stream, const LaneGather&, const float* dy, float* dx, std::int64_t groups);
  /// y = x + (scale u + shift), u the uniform numbers of random_lanes; rounded as kernels::add_uniform, and for
  /// add_normal as kernels::add_normal.
  void (*add_uniform)(Stream, const float* x, float* y, std::int64_t n, float scale, float shift, std::int64_t groups,
                      const LaneKeys&);
  void (*add_normal)(Stream, const float* x, float* y, std::int64_t n, float scale, float shift, std::int64_t groups,
                     const LaneKeys&);
  /// x = 1 where it is more than `rate`, else 0.
  void (*keep_above)(Stream, float* x, std::int64_t n, float rate);
  /// As kernels::total_variation, into another array. scratch: 4 times as many elements as x.
  void (*total_variation)(Stream, const TotalVariationStep&, const float* x, const float* kept, float* y,
                          float* scratch, std::int64_t groups);
  /// y (+)= x over the loops (array 0: y, array 1: x), of arrays of `y_step` and `x_step` elements an image; no element of
  /// y belongs to two steps.
  void (*strided_copy)(Stream, const StridedLoop&, const float* x, std::int64_t x_step, float* y, std::int64_t y_step,
                       bool add, std::int64_t groups);

  // --- measurements: the device's own ceilings

  /// Queues a loop of fused multiply-adds on every multiprocessor; returns how many there are in it.
  double (*measure_fma)(Stream, float* sink, int rounds);
};

/// The table, or null in a program without the kernels.
inline constinit std::atomic<const Table*> table{nullptr};

}  // namespace pavise::kernels::cuda

// SPDX-License-Identifier: MIT
// Every kernel, after what it builds on (apgd.inl on attack_step.inl, jpeg.inl and soft_jpeg.inl on quantise.inl,
// total_variation.inl on attack_step.inl, winograd.inl on gather_gemm.inl, matmul.inl on broadcast.inl). Included by cpu.hpp once for each instruction set, inside that set's namespace.
#include "pavise_kernels/cpu/pack.inl"
//
#include "pavise_kernels/cpu/pack_functions.inl"
//
#include "pavise_kernels/cpu/math.inl"
#include "pavise_kernels/cpu/random.inl"
//
#include "pavise_kernels/cpu/attack_step.inl"
#include "pavise_kernels/cpu/gather_gemm.inl"
#include "pavise_kernels/cpu/pool.inl"
#include "pavise_kernels/cpu/quantise.inl"
#include "pavise_kernels/cpu/running_sums.inl"
//
#include "pavise_kernels/cpu/apgd.inl"
#include "pavise_kernels/cpu/bilateral.inl"
#include "pavise_kernels/cpu/dropout.inl"
#include "pavise_kernels/cpu/fill_normal.inl"
#include "pavise_kernels/cpu/grid_noise.inl"
#include "pavise_kernels/cpu/hyperplane.inl"
#include "pavise_kernels/cpu/jpeg.inl"
#include "pavise_kernels/cpu/lane_gather.inl"
#include "pavise_kernels/cpu/lane_state.inl"
#include "pavise_kernels/cpu/median.inl"
#include "pavise_kernels/cpu/minimum_norm.inl"
#include "pavise_kernels/cpu/nlm.inl"
#include "pavise_kernels/cpu/norm.inl"
#include "pavise_kernels/cpu/probe.inl"
#include "pavise_kernels/cpu/resample.inl"
#include "pavise_kernels/cpu/residual.inl"
#include "pavise_kernels/cpu/row_bounds.inl"
#include "pavise_kernels/cpu/soft_jpeg.inl"
#include "pavise_kernels/cpu/thermometer.inl"
#include "pavise_kernels/cpu/total_variation.inl"
#include "pavise_kernels/cpu/weight_gradient.inl"
#include "pavise_kernels/cpu/winograd_transform.inl"
//
#include "pavise_kernels/cpu/winograd.inl"
//
#include "pavise_kernels/cpu/broadcast.inl"
#include "pavise_kernels/cpu/elementwise.inl"
#include "pavise_kernels/cpu/loss.inl"
#include "pavise_kernels/cpu/matmul.inl"
#include "pavise_kernels/cpu/optimizer.inl"
#include "pavise_kernels/cpu/reduce.inl"
#include "pavise_kernels/cpu/softmax.inl"

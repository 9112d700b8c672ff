// SPDX-License-Identifier: MIT
// Products of a warpgroup (four warps) on tensor cores in bf16, summed in float: wgmma where a kernel is compiled for
// sm_90a, else mma.sync of each warp; on the host model lane by lane from the same memory.
//
// A *cell* holds sixteen channels of 32 images in shared memory, 1 KiB: [channel][image], its rows of 64 bytes in pieces
// of 16 whose numbers are exchanged by the row (bits 1 and 2 of it, the 64-byte swizzle of the tensor cores), so that
// eight rows lie in different banks. Cells start at multiples of 1 KiB.
#pragma once

#include <bit>
#include <cmath>

#include "pavise_kernels/cuda/runtime.cuh"

namespace pavise::kernels::cuda {

inline constexpr int kCellBytes = 1024;
inline constexpr int kCellChannels = 16;

/// Byte of a cell where eight images of a channel lie; piece: images / 8.
__device__ __forceinline__ int cell_piece(int channel, int piece) {
  return channel * 64 + (piece ^ (channel >> 1 & 3)) * 16;
}

/// The first place for a cell in a block's shared memory, which begins with room for the alignment.
__device__ __forceinline__ char* first_cell(float* shared) {
#ifdef __CUDACC__
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(shared));
#else
  const auto at = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(shared) % kCellBytes);
#endif
  return reinterpret_cast<char*>(shared) + (0u - at) % kCellBytes;
}

#ifdef __CUDACC__
/// The nearest bf16 of both, ties to even; `low` in the lower half.
__device__ __forceinline__ unsigned to_bf16(float low, float high) {
  unsigned r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
#else
inline unsigned to_bf16(float low, float high) {
  const auto one = [](float v) {
    const auto bits = std::bit_cast<std::uint32_t>(v);
    return std::isnan(v) ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  };
  return one(low) | one(high) << 16;
}
inline float from_bf16(unsigned bits) { return std::bit_cast<float>(bits << 16); }
#endif

/// Where 16 bytes of the block's shared memory lie, counted in 16 bytes.
__device__ __forceinline__ unsigned shared_place(const void* p) {
#ifdef __CUDACC__
  return static_cast<unsigned>(__cvta_generic_to_shared(p)) >> 4;
#else
  return static_cast<unsigned>(static_cast<const char*>(p) - reinterpret_cast<const char*>(dynamic_shared())) / 16;
#endif
}
/// Two cells that are multiplied together: the place of the first, and in the upper half how far behind it the second lies.
/// Adding to a pair moves both.
__device__ __forceinline__ unsigned pair_of_cells(unsigned first, unsigned second) {
  return first | (second - first) << 16;
}

/// A copy in registers of its own. Without the exclusive or (with a zero that the compiler does not know) the next
/// products' factors are loaded into registers that the tensor cores may still read, and every product waits.
__device__ __forceinline__ uint4 copy_of(const uint4& v, unsigned zero) {
  return {v.x ^ zero, v.y ^ zero, v.z ^ zero, v.w ^ zero};
}

/// sum += a b for sixteen rows of each warp and the 64 images of two cells: a lane's sums are those of rows g and g+8 (of
/// its warp's sixteen) and images 8j+2t and 8j+2t+1, for j from 0 to 7: sum[4j], [4j+1] and [4j+2], [4j+3], where the lane
/// is number 4g+t. a: rows g, g+8 at channels 2t, 2t+1, then the same at channels 2t+8, 2t+9.
///
/// A step is begin_products, products, commit_products, finish_products; from the first to the last, sums and factors
/// belong to the tensor cores: nothing else may touch them.

#if defined(__CUDACC__)

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void finish_products() { asm volatile("wgmma.wait_group.sync.aligned 0;\n" ::: "memory"); }
/// Makes what this thread wrote to shared memory visible to the tensor cores, once the block has met at a barrier.
__device__ __forceinline__ void publish_cells() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

__device__ __forceinline__ void multiply_cells(float (&d)[32], const uint4& a, unsigned pair) {
  // The descriptor: address, distance of the cells along the images, and of the halves of a cell along the channels, all
  // in units of 16 bytes; layout 2 is the 64-byte swizzle.
  const unsigned long long b = pair | static_cast<unsigned long long>(kCellBytes / 2 >> 4) << 32 | 2ull << 62;
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "{%32,%33,%34,%35}, %36, 1, 1, 1, 1;\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b));
}
#else
__device__ __forceinline__ void begin_products() {}
__device__ __forceinline__ void commit_products() {}
__device__ __forceinline__ void finish_products() {}
__device__ __forceinline__ void publish_cells() {}

__device__ __forceinline__ void multiply_cells(float (&d)[32], const uint4& a, unsigned pair) {
  const int matrix = lane_id() / 8;  // of the four that are loaded at once: channels 0 to 7 and 8 to 15, of two pieces
  const int channel = matrix % 2 * 8 + lane_id() % 8;
  PAVISE_UNROLL
  for (int j = 0; j < 8; j += 2) {
    const unsigned from = ((pair & 0xFFFF) + (j < 4 ? 0 : pair >> 16)) * 16 + cell_piece(channel, j % 4 + matrix / 2);
    unsigned b[4];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
                 : "r"(from)
                 : "memory");
    PAVISE_UNROLL
    for (int i = 0; i < 2; ++i) {
      float* const s = d + (j + i) * 4;
      asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
          : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
          : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b[i * 2]), "r"(b[i * 2 + 1]));
    }
  }
}
#endif

#else
inline void begin_products() {}
inline void commit_products() {}
inline void finish_products() {}
inline void publish_cells() {}

inline void multiply_cells(float (&d)[32], const uint4& a, unsigned pair) {
  const int g = lane_id() / 4;
  const int t = lane_id() % 4;
  const unsigned own[4] = {a.x, a.y, a.z, a.w};
  for (int channels = 0; channels < 8; ++channels) {  // two at a time
    const unsigned upper = __shfl_sync(0xFFFFFFFFu, own[channels / 4 * 2], g * 4 + channels % 4);
    const unsigned lower = __shfl_sync(0xFFFFFFFFu, own[channels / 4 * 2 + 1], g * 4 + channels % 4);
    for (int half = 0; half < 2; ++half) {
      const float up = from_bf16(upper >> 16 * half & 0xFFFFu);
      const float low = from_bf16(lower >> 16 * half & 0xFFFFu);
      for (int j = 0; j < 8; ++j) {
        const char* at = reinterpret_cast<const char*>(dynamic_shared()) +
                         ((pair & 0xFFFF) + (j < 4 ? 0 : pair >> 16)) * 16 + cell_piece(channels * 2 + half, j % 4) +
                         t * 4;
        for (int i = 0; i < 2; ++i) {
          std::uint16_t bits;
          std::memcpy(static_cast<void*>(&bits), at + i * 2, 2);
          d[j * 4 + i] += up * from_bf16(bits);
          d[j * 4 + 2 + i] += low * from_bf16(bits);
        }
      }
    }
  }
}
#endif

}  // namespace pavise::kernels::cuda

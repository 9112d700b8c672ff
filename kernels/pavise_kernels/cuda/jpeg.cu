// SPDX-License-Identifier: MIT
// What JPEG makes of an image, stage by stage over planes of integers: bytes and colours, the halved chrominances,
// whole blocks there and back (a warp takes one block of 32 images, each thread its own in registers), and pixels
// again. And the pieces of the differentiable JPEG. Shapes: images [group][channel][pixel][32]. Oracles:
// kernels::jpeg_round_trip, mix_channels and soft_round, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

/// Images, and their scratch: [group][plan.scratch()][32].
struct JpegOf {
  JpegPlan plan;
  std::int32_t* scratch;
  __device__ JpegPlanes planes(std::int64_t group) const {
    return jpeg_planes<32>(plan, scratch + group * plan.scratch() * 32);
  }
  __device__ std::int64_t image(std::int64_t group) const {
    return group * plan.channels * plan.height * plan.width * 32;
  }
};

/// Bytes of every pixel, and their colours.
struct JpegBytes {
  JpegOf of;
  const float* x;
  __device__ void operator()(std::int64_t group, std::int64_t pixel) const {
    const JpegPlan& p = of.plan;
    const JpegPlanes planes = of.planes(group);
    const float* in = x + of.image(group) + pixel * 32;
    const std::int64_t i = pixel / p.width;
    const std::int64_t j = pixel % p.width;
    std::int32_t* luma = planes.luma + (i * planes.stride + j) * 32;
    if (p.channels == 1) {
      load_byte<float, 32>(in).store(luma);
    } else {
      const std::int64_t to = (p.halved ? pixel : i * planes.chroma_stride + j) * 32;
      split_colours<float, 32>(in, p.height * p.width, luma, (p.halved ? planes.full[0] : planes.chroma[0]) + to,
                               (p.halved ? planes.full[1] : planes.chroma[1]) + to);
    }
  }
};

/// Both chrominances at half the resolution, up to whole blocks of columns.
struct JpegHalves {
  JpegOf of;
  __device__ void operator()(std::int64_t group, std::int64_t place) const {
    const JpegPlan& p = of.plan;
    const JpegPlanes planes = of.planes(group);
    const std::int64_t i = place / planes.chroma_stride;
    const std::int64_t j = place % planes.chroma_stride;
    PAVISE_UNROLL
    for (int c = 0; c < 2; ++c) {
      halved_sample<32>(planes.full[c] + 2 * i * p.width * 32, planes.full[c] + row_below(p, i) * p.width * 32, p.width,
                        j)
          .store(planes.chroma[c] + place * 32);
    }
  }
};

/// Blocks of the planes of (height,width), one behind another in each group's scratch. Behind the last column and row
/// these are repeated.
struct JpegBlocks {
  std::int32_t* plane;
  std::int64_t group_step;
  std::int64_t height, width, stride;
  std::int32_t table[64];
  __device__ void operator()(std::int64_t group, std::int64_t block) const {
    using I = Words<1>;
    const std::int64_t columns = stride / 8;
    const std::int64_t rows = JpegPlan::padded(height) / 8;
    const std::int64_t number = block / (rows * columns);
    const std::int64_t i0 = block % (rows * columns) / columns * 8;
    const std::int64_t j0 = block % columns * 8;
    std::int32_t* const at = plane + group * group_step + ((number * rows * 8 + i0) * stride + j0) * 32 + lane_id();
    // Within the block.
    const auto row = static_cast<std::int32_t>(stride * 32);
    const auto i_last = static_cast<std::int32_t>(height - 1 - i0);
    const auto j_last = static_cast<std::int32_t>(width - 1 - j0);
    std::int32_t own[64];
    jpeg_block<1>(
        table, own,
        [&](std::int32_t i, std::int32_t j) {
          return I::load(at + (std::min(i, i_last) * row + std::min(j, j_last) * 32));
        },
        [&](std::int32_t i, std::int32_t j, I sample) { sample.store(at + (i * row + j * 32)); });
  }
};

constexpr unsigned kBlockThreads = 128;

/// A warp for every block and no loop: the compiler would move the table's steps out of that, into registers.
__global__ void __launch_bounds__(kBlockThreads)
    jpeg_blocks_kernel(std::int64_t groups, std::int64_t n, JpegBlocks blocks) {
  const std::int64_t warp = thread_index() / 32;
  if (warp < groups * n) {
    blocks(warp / n, warp % n);
  }
}

/// Pixels from the planes.
struct JpegPixels {
  JpegOf of;
  float* y;
  __device__ void operator()(std::int64_t group, std::int64_t pixel) const {
    using I = Words<32>;
    const JpegPlan& p = of.plan;
    const JpegPlanes planes = of.planes(group);
    float* out = y + of.image(group) + pixel * 32;
    const std::int64_t i = pixel / p.width;
    const std::int64_t j = pixel % p.width;
    const I luma = I::load(planes.luma + (i * planes.stride + j) * 32);
    if (p.channels == 1) {
      store_byte<float, 32>(luma, out);
      return;
    }
    const std::int64_t near = (p.halved ? i / 2 : i) * planes.chroma_stride * 32;
    I colour[2];
    PAVISE_UNROLL
    for (int c = 0; c < 2; ++c) {
      const std::int32_t* row = planes.chroma[c] + near;
      if (!p.halved) {
        colour[c] = I::load(row + j * 32);
      } else if (p.chroma_width() <= 2) {
        colour[c] = I::load(row + j / 2 * 32);
      } else {
        const std::int64_t far = farther_place(i, p.chroma_height()) * planes.chroma_stride * 32;
        colour[c] = doubled_sample<32>(row, planes.chroma[c] + far, p.chroma_width(), j);
      }
    }
    join_colours<float, 32>(luma, colour[0], colour[1], out, p.height * p.width);
  }
};

void jpeg_blocks(Stream stream, JpegBlocks blocks, std::int64_t planes, const std::int32_t (&table)[64],
                 std::int64_t groups) {
  std::copy_n(table, 64, blocks.table);
  const std::int64_t n = planes * (JpegPlan::padded(blocks.height) / 8) * (blocks.stride / 8);
  const std::int64_t warps = kBlockThreads / 32;
  launch(stream, "jpeg_blocks", jpeg_blocks_kernel, dim3(static_cast<unsigned>((groups * n + warps - 1) / warps)),
         kBlockThreads, 0, groups, n, blocks);
}

void jpeg(Stream stream, const JpegPlan& p, const float* x, float* y, std::int32_t* scratch, std::int64_t groups) {
  const JpegOf of{p, scratch};
  const std::int64_t pixels = p.height * p.width;
  const std::int64_t step = p.scratch() * 32;
  const std::int64_t stride = JpegPlan::padded(p.width);
  each_warp(stream, "jpeg_bytes", groups, pixels, JpegBytes{of, x});
  jpeg_blocks(stream, {scratch, step, p.height, p.width, stride, {}}, 1, p.luminance, groups);
  if (p.channels == 3) {
    const std::int64_t chroma_stride = JpegPlan::padded(p.chroma_width());
    if (p.halved) {
      each_warp(stream, "jpeg_halves", groups, p.chroma_height() * chroma_stride, JpegHalves{of});
    }
    jpeg_blocks(stream,
                {scratch + JpegPlan::padded(p.height) * stride * 32,
                 step,
                 p.chroma_height(),
                 p.halved ? chroma_stride : p.width,
                 chroma_stride,
                 {}},
                2, p.chrominance, groups);
  }
  each_warp(stream, "jpeg_pixels", groups, pixels, JpegPixels{of, y});
}

struct MixChannels {
  ChannelMix mix;
  const float* x;
  float* y;
  std::int64_t pixels;
  bool add;
  __device__ void operator()(std::int64_t group, std::int64_t pixel) const {
    const std::int64_t first = group * 3 * pixels * 32;
    mix_pixel<float, 32>(x + first, y + first, pixels * 32, pixel * 32, mix.matrix, mix.offset, add);
  }
};

struct SoftRound {
  const float* x;
  const float* dy;
  float* out;
  std::int64_t height, width;
  const float* table;
  __device__ void operator()(std::int64_t group, std::int64_t at) const {
    const float step = table[at / width % 8 * 8 + at % width % 8];
    soft_round_one<float, 32>(x, dy, out, (group * height * width + at) * 32, step);
  }
};

}  // namespace

void fill_jpeg(Table& t) {
  t.jpeg = jpeg;
  t.mix_channels = [](Stream stream, const float* x, float* y, std::int64_t pixels, const ChannelMix& mix, bool add,
                      std::int64_t groups) {
    each_warp(stream, "mix_channels", groups, pixels, MixChannels{mix, x, y, pixels, add});
  };
  t.soft_round = [](Stream stream, const float* x, const float* dy, float* out, std::int64_t height, std::int64_t width,
                    const float* table, std::int64_t groups) {
    each_warp(stream, "soft_round", groups, height * width, SoftRound{x, dy, out, height, width, table});
  };
}

}  // namespace pavise::kernels::cuda

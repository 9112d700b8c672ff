// SPDX-License-Identifier: MIT
// Derivatives with respect to weights: the sums that cross the batch. Each kernel owns a tile of the result and walks
// over all groups in order, so that the sum's order is fixed whatever the number of threads; lanes are added last. Where
// processes share the groups, each goes on with the running sums of the one before (running_sums.inl).
// Oracle: the naive loops of tests/kernels/weight_gradient_test.cpp.

/// out[c][y+padding][x+padding] = in[c][y][x], zeros around: the border that the tiles below read.
template <class T>
void pad_image(Tag, const T* in, T* out, std::int64_t channels, std::int64_t height, std::int64_t width,
               std::int64_t padding) {
  const std::int64_t padded = width + 2 * padding;
  const auto zeros = [](T* p, std::int64_t n) { std::memset(p, 0, static_cast<std::size_t>(n * 16) * sizeof(T)); };
  for (std::int64_t c = 0; c < channels; ++c) {
    zeros(out, padding * padded);
    out += padding * padded * 16;
    for (std::int64_t y = 0; y < height; ++y) {
      zeros(out, padding);
      std::memcpy(out + padding * 16, in, static_cast<std::size_t>(width * 16) * sizeof(T));
      zeros(out + (padding + width) * 16, padding);
      in += width * 16;
      out += padded * 16;
    }
    zeros(out, padding * padded);
    out += padding * padded * 16;
  }
}

/// sums[r][t][lane] += sum over the output rows [begin, end) of dy[r][point] * x[offset[t] + point], for Rows x Taps of
/// them and one group.
template <class T, int Rows, int Taps>
inline void weight_gradient_tile(const WeightGradientJob& job, const T* dy, const T* x, const std::int32_t* offset,
                                 std::int64_t begin, std::int64_t end, T (*sums)[16]) {
  using P = Pack<T, 16>;
  P sum[Rows][Taps];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 16
    for (int t = 0; t < Taps; ++t) {
      sum[r][t] = P::load(sums[r * Taps + t]);
    }
  }
  const std::ptrdiff_t dy_row = job.out_height * job.out_width * 16;
  std::ptrdiff_t at[Taps];
  for (int t = 0; t < Taps; ++t) {
    at[t] = static_cast<std::ptrdiff_t>(offset[t]) * 16;
  }
  const T* d = dy + begin * job.out_width * 16;
  for (std::int64_t oy = begin; oy < end; ++oy) {
    const T* p = x + oy * job.x_row * 16;
    for (std::int64_t ox = 0; ox < job.out_width; ++ox, d += 16, p += job.x_step * 16) {
      P dr[Rows];
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
        dr[r] = P::load(d + r * dy_row);
      }
#pragma GCC unroll 16
      for (int t = 0; t < Taps; ++t) {
        const P xt = P::load(p + at[t]);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
          sum[r][t] = fma(dr[r], xt, sum[r][t]);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 16
    for (int t = 0; t < Taps; ++t) {
      sum[r][t].store(sums[r * Taps + t]);
    }
  }
}

/// The same over all groups and lanes for the rows from `row` on and the taps [tap, tap_end), at most kGradientTiles
/// tiles, into dw. The tiles take turns on a strip of output rows, which stays in the first cache meanwhile.
template <class T, int Rows, int Taps>
void weight_gradient_tiles(const WeightGradientJob& job, const T* dy, const T* x,
                           const std::vector<std::int32_t>& offset, T* dw, std::int64_t rows, std::int64_t row,
                           std::int64_t tap, std::int64_t tap_end, const RunningSums<T>& running) {
  constexpr std::int64_t kStripBytes = 28 * 1024;
  const auto taps = static_cast<std::int64_t>(offset.size());
  const std::int64_t r0 = std::min(row, rows - Rows);  // a ragged edge is covered by an overlapping tile
  const auto first_tap = [&](std::int64_t tile) { return std::min(tap + tile * Taps, taps - Taps); };
  const std::int64_t tiles = (tap_end - tap + Taps - 1) / Taps;
  alignas(64) T sums[kGradientTiles][Rows * Taps][16];
  std::memset(sums, 0, static_cast<std::size_t>(tiles) * sizeof sums[0]);
  // What the tiles own of the result: body(index in dw, the tiles' sum of it).
  const auto each_own = [&](const auto& body) {
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      for (std::int64_t r = row; r < std::min(rows, row + Rows); ++r) {
        for (std::int64_t t = tap + tile * Taps; t < std::min(tap_end, tap + (tile + 1) * Taps); ++t) {
          body(r * taps + t, sums[tile][(r - r0) * Taps + t - first_tap(tile)]);
        }
      }
    }
  };
  if (!running.first) {
    each_own([&](std::int64_t i, T* sum) { begin_sum(running, i).store(sum); });
  }
  const std::int64_t row_bytes = (Rows * job.out_width + job.x_row) * static_cast<std::int64_t>(16 * sizeof(T));
  const std::int64_t strip = std::max<std::int64_t>(1, kStripBytes / row_bytes);
  for (std::int64_t g = 0; g < job.groups; ++g) {
    const T* d = dy + (g * job.dy_size + r0 * job.out_height * job.out_width) * 16;
    for (std::int64_t oy = 0; oy < job.out_height; oy += strip) {
      for (std::int64_t tile = 0; tile < tiles; ++tile) {
        weight_gradient_tile<T, Rows, Taps>(job, d, x + g * job.x_size * 16, offset.data() + first_tap(tile), oy,
                                            std::min(oy + strip, job.out_height), sums[tile]);
      }
    }
  }
  each_own([&](std::int64_t i, const T* sum) { end_sum(running, i, Pack<T, 16>::load(sum), dw[i]); });
}

/// Rows and taps of a weight gradient's tile, for whoever hands them out.
inline std::pair<int, int> weight_gradient_tile_size(Tag) { return {kGradientRows, kGradientTaps}; }

/// A part of the weight gradient of a convolution: of dw (rows, taps) the rows [row, row + R) and the taps [tap, tap_end),
/// at most kGradientTiles tiles of (R, C), which is weight_gradient_tile_size. dy: [group][rows][OH][OW][16]; x:
/// [group][padded input][16]; running sums: (rows, taps).
template <class T>
void weight_gradient(Tag, const WeightGradientJob& job, const T* dy, const T* x,
                     const std::vector<std::int32_t>& offset, T* dw, std::int64_t rows, std::int64_t row,
                     std::int64_t tap, std::int64_t tap_end, const RunningSums<T>& running = {}) {
  const auto taps = static_cast<std::int64_t>(offset.size());
  tap_end = std::min(tap_end, taps);
  if (rows >= kGradientRows && taps >= kGradientTaps) {
    weight_gradient_tiles<T, kGradientRows, kGradientTaps>(job, dy, x, offset, dw, rows, row, tap, tap_end, running);
    return;
  }
  for (std::int64_t r = row; r < std::min(rows, row + kGradientRows); ++r) {
    for (std::int64_t t = tap; t < tap_end; ++t) {
      weight_gradient_tiles<T, 1, 1>(job, dy, x, offset, dw, rows, r, t, t + 1, running);
    }
  }
}

/// db[r] += sum over groups, points and lanes of dy[r][point], for row r.
template <class T>
void bias_gradient(Tag, const T* dy, std::int64_t groups, std::int64_t dy_size, std::int64_t points, T* db,
                   std::int64_t row, const RunningSums<T>& running = {}) {
  using P = Pack<T, 16>;
  P sum = begin_sum(running, row);
  for (std::int64_t g = 0; g < groups; ++g) {
    const T* d = dy + (g * dy_size + row * points) * 16;
    for (std::int64_t p = 0; p < points; ++p) {
      sum = sum + P::load(d + p * 16);
    }
  }
  end_sum(running, row, sum, db[row]);
}

template <class T, int Rows>
inline void matrix_gradient_rows(const T* dy, std::int64_t groups, std::int64_t rows, const T* x, T* dw,
                                 std::int64_t columns, int width, const RunningSums<T>& running) {
  const std::int64_t tiles = (columns + 15) / 16;
  using P = Pack<T, 16>;
  P sum[Rows];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    sum[r] = begin_sum(running, r * tiles);
  }
  for (std::int64_t g = 0; g < groups; ++g) {
    const T* d = dy + g * rows * 16;
    for (int lane = 0; lane < 16; ++lane, x += 16) {
      const P xt = P::load(x);
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
        sum[r] = fma(P::broadcast(d[r * 16 + lane]), xt, sum[r]);
      }
    }
  }
  for (int r = 0; r < Rows; ++r) {
    T* w = dw + r * columns;
    if (!running.last) {
      sum[r].store(running.lanes + r * tiles * 16);
    } else if (width == 16) {
      (P::load(w) + sum[r]).store(w);
    } else {
      for (int k = 0; k < width; ++k) {
        w[k] += sum[r].get(k);
      }
    }
  }
}

template <class T, int Rows>
inline void matrix_gradient_remainder(std::int64_t left, const T* dy, std::int64_t groups, std::int64_t rows,
                                      const T* x, T* dw, std::int64_t columns, int width,
                                      const RunningSums<T>& running) {
  if constexpr (Rows > 0) {
    if (left == Rows) {
      matrix_gradient_rows<T, Rows>(dy, groups, rows, x, dw, columns, width, running);
    } else {
      matrix_gradient_remainder<T, Rows - 1>(left, dy, groups, rows, x, dw, columns, width, running);
    }
  }
}

/// Columns [16 tile, 16 tile + 16) of the weight gradient of a fully connected layer: dw[r][k] += sum over images of
/// dy[r][image] * x[k][image]. The images of sixteen columns are transposed once into `scratch` (groups * 256 elements)
/// and serve every row. dy: [group][rows][16], x: [group][columns][16], dw: (rows, columns); running sums: (rows, tiles),
/// each of sixteen columns, for the images are added one by one.
template <class T>
void matrix_gradient(Tag, const T* dy, const T* x, std::int64_t groups, std::int64_t rows, std::int64_t columns,
                     std::int64_t tile, T* scratch, T* dw, const RunningSums<T>& running = {}) {
  const std::int64_t k0 = tile * 16;
  const int width = static_cast<int>(std::min<std::int64_t>(16, columns - k0));
  for (std::int64_t g = 0; g < groups; ++g) {
    const T* from = x + (g * columns + k0) * 16;
    T* to = scratch + g * 256;
    for (int lane = 0; lane < 16; ++lane) {
      for (int k = 0; k < 16; ++k) {
        to[lane * 16 + k] = k < width ? from[k * 16 + lane] : T{0};
      }
    }
  }
  constexpr int kRows = kMaxRows;
  const std::int64_t tiles = (columns + 15) / 16;
  const auto from_row = [&](std::int64_t r) {
    RunningSums<T> rest = running;
    rest.lanes = running.lanes != nullptr ? running.lanes + (r * tiles + tile) * 16 : nullptr;
    return rest;
  };
  std::int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    matrix_gradient_rows<T, kRows>(dy + r * 16, groups, rows, scratch, dw + r * columns + k0, columns, width,
                                   from_row(r));
  }
  matrix_gradient_remainder<T, kRows - 1>(rows - r, dy + r * 16, groups, rows, scratch, dw + r * columns + k0, columns,
                                          width, from_row(r));
}

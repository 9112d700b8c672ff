// SPDX-License-Identifier: MIT
// Derivatives with respect to weights: the sums that cross the batch. Each kernel owns a tile of the result and walks
// over all groups in order, so that the sum's order is fixed whatever the number of threads; lanes are added last.
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

/// dw[r][t] += sum over groups, points and lanes of dy[r][point] * x[offset[t] + point], for Rows x Taps of them. The
/// first `skip_rows` and `skip_taps` are computed but not written: a ragged edge is covered by an overlapping tile.
template <class T, int Rows, int Taps>
inline void weight_gradient_tile(const WeightGradientJob& job, const T* dy, const T* x, const std::int32_t* offset,
                                 T* dw, std::int64_t dw_row, int skip_rows, int skip_taps) {
  using P = Pack<T, 16>;
  P sum[Rows][Taps];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 16
    for (int t = 0; t < Taps; ++t) {
      sum[r][t] = P::broadcast(T{0});
    }
  }
  const std::ptrdiff_t dy_row = job.out_height * job.out_width * 16;
  std::ptrdiff_t at[Taps];
  for (int t = 0; t < Taps; ++t) {
    at[t] = static_cast<std::ptrdiff_t>(offset[t]) * 16;
  }
  for (std::int64_t g = 0; g < job.groups; ++g) {
    const T* d = dy + g * job.dy_size * 16;
    for (std::int64_t oy = 0; oy < job.out_height; ++oy) {
      const T* p = x + (g * job.x_size + oy * job.x_row) * 16;
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
  }
  for (int r = skip_rows; r < Rows; ++r) {
    for (int t = skip_taps; t < Taps; ++t) {
      dw[r * dw_row + t] += sum_lanes(sum[r][t]);
    }
  }
}

/// Rows and taps of a weight gradient's tile, for whoever hands them out.
inline std::pair<int, int> weight_gradient_tile_size(Tag) { return {kGradientRows, kGradientTaps}; }

/// One tile of the weight gradient of a convolution: rows [row, row + R) and taps [tap, tap + C) of dw (rows, taps),
/// where (R, C) is weight_gradient_tile_size. dy: [group][rows][OH][OW][16]; x: [group][padded input][16].
template <class T>
void weight_gradient(Tag, const WeightGradientJob& job, const T* dy, const T* x,
                     const std::vector<std::int32_t>& offset, T* dw, std::int64_t rows, std::int64_t row,
                     std::int64_t tap) {
  const auto taps = static_cast<std::int64_t>(offset.size());
  const std::ptrdiff_t dy_row = job.out_height * job.out_width * 16;
  if (rows >= kGradientRows && taps >= kGradientTaps) {
    const std::int64_t r0 = std::min(row, rows - kGradientRows);
    const std::int64_t t0 = std::min(tap, taps - kGradientTaps);
    weight_gradient_tile<T, kGradientRows, kGradientTaps>(job, dy + r0 * dy_row, x, offset.data() + t0,
                                                          dw + r0 * taps + t0, taps, static_cast<int>(row - r0),
                                                          static_cast<int>(tap - t0));
    return;
  }
  for (std::int64_t r = row; r < std::min(rows, row + kGradientRows); ++r) {
    for (std::int64_t t = tap; t < std::min(taps, tap + kGradientTaps); ++t) {
      weight_gradient_tile<T, 1, 1>(job, dy + r * dy_row, x, offset.data() + t, dw + r * taps + t, taps, 0, 0);
    }
  }
}

/// db[r] += sum over groups, points and lanes of dy[r][point], for row r.
template <class T>
void bias_gradient(Tag, const T* dy, std::int64_t groups, std::int64_t dy_size, std::int64_t points, T* db,
                   std::int64_t row) {
  using P = Pack<T, 16>;
  P sum = P::broadcast(T{0});
  for (std::int64_t g = 0; g < groups; ++g) {
    const T* d = dy + (g * dy_size + row * points) * 16;
    for (std::int64_t p = 0; p < points; ++p) {
      sum = sum + P::load(d + p * 16);
    }
  }
  db[row] += sum_lanes(sum);
}

template <class T, int Rows>
inline void matrix_gradient_rows(const T* dy, std::int64_t groups, std::int64_t rows, const T* x, T* dw,
                                 std::int64_t columns, int width) {
  using P = Pack<T, 16>;
  P sum[Rows];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    sum[r] = P::broadcast(T{0});
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
    if (width == 16) {
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
                                      const T* x, T* dw, std::int64_t columns, int width) {
  if constexpr (Rows > 0) {
    if (left == Rows) {
      matrix_gradient_rows<T, Rows>(dy, groups, rows, x, dw, columns, width);
    } else {
      matrix_gradient_remainder<T, Rows - 1>(left, dy, groups, rows, x, dw, columns, width);
    }
  }
}

/// Columns [16 tile, 16 tile + 16) of the weight gradient of a fully connected layer: dw[r][k] += sum over images of
/// dy[r][image] * x[k][image]. The images of sixteen columns are transposed once into `scratch` (groups * 256 elements)
/// and serve every row. dy: [group][rows][16], x: [group][columns][16], dw: (rows, columns).
template <class T>
void matrix_gradient(Tag, const T* dy, const T* x, std::int64_t groups, std::int64_t rows, std::int64_t columns,
                     std::int64_t tile, T* scratch, T* dw) {
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
  std::int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    matrix_gradient_rows<T, kRows>(dy + r * 16, groups, rows, scratch, dw + r * columns + k0, columns, width);
  }
  matrix_gradient_remainder<T, kRows - 1>(rows - r, dy + r * 16, groups, rows, scratch, dw + r * columns + k0, columns,
                                          width);
}

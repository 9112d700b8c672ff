// SPDX-License-Identifier: MIT
// The matrix micro-kernel: out[row][point] = bias[row] + sum over taps of weight[row][tap] * in[base(point) +
// offset(tap)], for the sixteen images of a group at once, or for one image. Convolutions and fully connected layers,
// both ways, are this.
//
// Sixteen images: a tile of up to kMaxRows rows, each an accumulator of 16 lanes; every tap loads the input's pack once
// and broadcasts one weight a row. Where a tile has few rows it takes several points, so that there are always enough
// independent accumulators to hide the latency of the multiply-add.
// One image: sixteen rows are the vector and the input is broadcast. An output's sum has the same order in both, bias
// first and then the taps in the plan's order, so an image has the same bits either way. Oracle: the naive loops of
// tests/kernels/gather_gemm_test.cpp.

template <class T, int Rows, int Points>
inline void gemm_tile(const T* weight, const TapClass& taps, const T* in, std::ptrdiff_t in_step, T* out,
                      std::ptrdiff_t out_row, std::ptrdiff_t out_step, const T* bias, const T* mask,
                      const Epilogue<T>& e) {
  using P = Pack<T, 16>;
  P sum[Points][Rows];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
    const P start = bias != nullptr ? P::broadcast(bias[r]) : P::broadcast(T{0});
#pragma GCC unroll 16
    for (int q = 0; q < Points; ++q) {
      sum[q][r] = start;
    }
  }
  const std::int32_t* offsets = taps.offset.data();
  for (const TapSegment& segment : taps.segments) {
    const T* w = weight + static_cast<std::ptrdiff_t>(segment.weight) * Rows;
    const std::int32_t* offset = offsets + segment.begin;
    for (std::int32_t t = 0; t < segment.count; ++t, w += Rows) {
      const T* p = in + static_cast<std::ptrdiff_t>(offset[t]) * 16;
      P x[Points];
#pragma GCC unroll 16
      for (int q = 0; q < Points; ++q) {
        x[q] = P::load(p + q * in_step);
      }
#pragma GCC unroll 16
      for (int r = 0; r < Rows; ++r) {
        const P b = P::broadcast(w[r]);
#pragma GCC unroll 16
        for (int q = 0; q < Points; ++q) {
          sum[q][r] = fma(b, x[q], sum[q][r]);
        }
      }
    }
  }
  const P zero = P::broadcast(T{0});
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 16
    for (int q = 0; q < Points; ++q) {
      const std::ptrdiff_t at = r * out_row + q * out_step;
      P y = sum[q][r];
      if (e.relu) {
        y = max(zero, y);  // keeps NaN
      }
      if (mask != nullptr) {
        y = select(P::load(mask + at) > zero, y, zero);
      }
      if (e.accumulate) {
        y = y + P::load(out + at);
      }
      y.store(out + at);
    }
  }
}

/// Points of a run from `i` on, `Points` at a time; the last step overlaps the one before where that changes nothing.
/// Returns how far it came.
template <class T, int Rows, int Points>
[[gnu::always_inline]] inline std::int32_t gemm_points(std::int32_t i, const T* weight, const TapClass& taps,
                                                       const PointRun& run, const T* in, T* out, std::ptrdiff_t out_row,
                                                       const T* bias, const T* mask, const Epilogue<T>& e) {
  // A remainder worth less than half a step is left to smaller steps.
  while (run.count - i >= Points || (run.count >= Points && 2 * (run.count - i) > Points && !e.accumulate)) {
    i = std::min(i, run.count - Points);
    const std::ptrdiff_t at = run.out_step * 16 * i;
    gemm_tile<T, Rows, Points>(weight, taps, in + run.in_step * 16 * i, run.in_step * 16, out + at, out_row,
                               run.out_step * 16, bias, mask != nullptr ? mask + at : nullptr, e);
    i += Points;
  }
  return i;
}

template <class T, int Rows>
inline void gemm_run(const T* weight, const TapClass& taps, const PointRun& run, const T* in, T* out,
                     std::ptrdiff_t out_row, const T* bias, const T* mask, const Epilogue<T>& e) {
  constexpr int kPoints = std::max(1, std::min(12, kTileAccumulators / Rows));
  in += run.in * 16;
  out += run.out * 16;
  mask = mask != nullptr ? mask + run.out * 16 : nullptr;
  std::int32_t i = 0;
  if constexpr (kPoints > 1) {
    i = gemm_points<T, Rows, kPoints>(i, weight, taps, run, in, out, out_row, bias, mask, e);
  }
  if constexpr (kPoints >= 6) {
    i = gemm_points<T, Rows, kPoints / 3>(i, weight, taps, run, in, out, out_row, bias, mask, e);
  }
  gemm_points<T, Rows, 1>(i, weight, taps, run, in, out, out_row, bias, mask, e);
}

template <class T, int Rows>
inline void gemm_rows(int rows, const T* weight, const GatherPlan& plan, std::int32_t first_run, std::int32_t last_run,
                      const T* in, T* out, const T* bias, const T* mask, const Epilogue<T>& e) {
  if (rows == 0) {
    return;
  }
  if constexpr (Rows > 1) {
    if (rows < Rows) {
      gemm_rows<T, Rows - 1>(rows, weight, plan, first_run, last_run, in, out, bias, mask, e);
      return;
    }
  }
  for (std::int32_t i = first_run; i < last_run; ++i) {
    const PointRun& run = plan.runs[static_cast<std::size_t>(i)];
    gemm_run<T, Rows>(weight, plan.classes[static_cast<std::size_t>(run.tap_class)], run, in, out, plan.out_row * 16,
                      bias, mask, e);
  }
}

/// One image: `Tiles` tiles of 16 rows for `Points` points, the rows in the vector.
template <class T, int Tiles, int Points>
inline void gemv_tile(const T* weight, std::ptrdiff_t tile_size, const TapClass& taps, const T* in,
                      std::ptrdiff_t in_step, T (*sums)[16]) {
  using P = Pack<T, 16>;
  P sum[Tiles][Points];
#pragma GCC unroll 16
  for (int r = 0; r < Tiles; ++r) {
#pragma GCC unroll 16
    for (int q = 0; q < Points; ++q) {
      sum[r][q] = P::load(sums[r * Points + q]);
    }
  }
  for (const TapSegment& segment : taps.segments) {
    const T* w = weight + static_cast<std::ptrdiff_t>(segment.weight) * 16;
    const std::int32_t* offset = taps.offset.data() + segment.begin;
    for (std::int32_t t = 0; t < segment.count; ++t, w += 16) {
      P b[Points];
#pragma GCC unroll 16
      for (int q = 0; q < Points; ++q) {
        b[q] = P::broadcast(in[offset[t] + q * in_step]);
      }
#pragma GCC unroll 16
      for (int r = 0; r < Tiles; ++r) {
        const P x = P::load(w + r * tile_size);
#pragma GCC unroll 16
        for (int q = 0; q < Points; ++q) {
          sum[r][q] = fma(x, b[q], sum[r][q]);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Tiles; ++r) {
#pragma GCC unroll 16
    for (int q = 0; q < Points; ++q) {
      sum[r][q].store(sums[r * Points + q]);
    }
  }
}

template <class T, int Tiles, int Points>
inline void gemv_points(const RowTile* tile, const T* packed, const GatherPlan& plan, const PointRun& run,
                        std::int32_t i, const T* in, T* out, const T* bias, const T* mask, const Epilogue<T>& e) {
  alignas(64) T sums[Tiles * Points][16];
  for (int r = 0; r < Tiles; ++r) {
    for (int q = 0; q < Points; ++q) {
      for (int k = 0; k < 16; ++k) {
        sums[r * Points + q][k] = bias != nullptr && k < tile[r].rows ? bias[tile[r].first + k] : T{0};
      }
    }
  }
  gemv_tile<T, Tiles, Points>(packed + tile[0].at, 16 * plan.taps,
                              plan.classes[static_cast<std::size_t>(run.tap_class)], in + run.in + i * run.in_step,
                              run.in_step, sums);
  for (int r = 0; r < Tiles; ++r) {
    for (int q = 0; q < Points; ++q) {
      const std::int64_t at0 = tile[r].first * plan.out_row + run.out + (i + q) * run.out_step;
      for (int k = 0; k < tile[r].rows; ++k) {
        const std::int64_t at = at0 + k * plan.out_row;
        T y = sums[r * Points + q][k];
        if (e.relu) {
          y = T{0} > y ? T{0} : y;
        }
        if (mask != nullptr) {
          y = mask[at] > T{0} ? y : T{0};
        }
        out[at] = e.accumulate ? y + out[at] : y;
      }
    }
  }
}

/// One image, few rows: sixteen neighbouring points are the vector. The input is read up to 15 elements past the last
/// point (arenas leave room for that); what is computed there is not stored.
template <class T, int Rows>
inline void few_rows_run(const T* weight, const TapClass& taps, const PointRun& run, const T* in, T* out,
                         std::int64_t out_row, const T* bias, const T* mask, const Epilogue<T>& e) {
  using P = Pack<T, 16>;
  for (std::int32_t i = 0; i < run.count; i += 16) {
    P sum[Rows];
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      sum[r] = P::broadcast(bias != nullptr ? bias[r] : T{0});
    }
    for (const TapSegment& segment : taps.segments) {
      const T* w = weight + static_cast<std::ptrdiff_t>(segment.weight) * 16;
      const std::int32_t* offset = taps.offset.data() + segment.begin;
      for (std::int32_t t = 0; t < segment.count; ++t, w += 16) {
        const P x = P::load(in + run.in + i + offset[t]);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
          sum[r] = fma(P::broadcast(w[r]), x, sum[r]);
        }
      }
    }
    const std::int32_t n = std::min<std::int32_t>(16, run.count - i);
    for (int r = 0; r < Rows; ++r) {
      alignas(64) T y[16];
      sum[r].store(y);
      for (std::int32_t k = 0; k < n; ++k) {
        const std::int64_t at = r * out_row + run.out + (i + k) * run.out_step;
        y[k] = e.relu && T{0} > y[k] ? T{0} : y[k];
        y[k] = mask != nullptr && !(mask[at] > T{0}) ? T{0} : y[k];
        out[at] = e.accumulate ? y[k] + out[at] : y[k];
      }
    }
  }
}

template <class T>
inline void gemv_group(const GatherPlan& plan, const std::vector<RowTile>& tiles, const T* packed, const T* in, T* out,
                       const T* bias, const T* mask, const Epilogue<T>& e) {
  constexpr int kPoints = kMaxRows;
  const auto count = static_cast<int>(tiles.size());
  for (const PointRun& run : plan.runs) {
    if (plan.rows <= 3 && (run.in_step == 1 || run.count == 1)) {
      const TapClass& taps = plan.classes[static_cast<std::size_t>(run.tap_class)];
      plan.rows == 1   ? few_rows_run<T, 1>(packed, taps, run, in, out, plan.out_row, bias, mask, e)
      : plan.rows == 2 ? few_rows_run<T, 2>(packed, taps, run, in, out, plan.out_row, bias, mask, e)
                       : few_rows_run<T, 3>(packed, taps, run, in, out, plan.out_row, bias, mask, e);
      continue;
    }
    // Several points of one tile where the run is long, several tiles at one point where it is not.
    std::int32_t i = 0;
    for (; i + kPoints <= run.count; i += kPoints) {
      for (int tile = 0; tile < count; ++tile) {
        gemv_points<T, 1, kPoints>(&tiles[static_cast<std::size_t>(tile)], packed, plan, run, i, in, out, bias, mask,
                                   e);
      }
    }
    for (; i + 4 <= run.count; i += 4) {
      int tile = 0;
      for (; tile + 2 <= count; tile += 2) {
        gemv_points<T, 2, 4>(&tiles[static_cast<std::size_t>(tile)], packed, plan, run, i, in, out, bias, mask, e);
      }
      if (tile < count) {
        gemv_points<T, 1, 4>(&tiles[static_cast<std::size_t>(tile)], packed, plan, run, i, in, out, bias, mask, e);
      }
    }
    for (; i < run.count; ++i) {
      int tile = 0;
      for (; tile + 4 <= count; tile += 4) {
        gemv_points<T, 4, 1>(&tiles[static_cast<std::size_t>(tile)], packed, plan, run, i, in, out, bias, mask, e);
      }
      for (; tile + 2 <= count; tile += 2) {
        gemv_points<T, 2, 1>(&tiles[static_cast<std::size_t>(tile)], packed, plan, run, i, in, out, bias, mask, e);
      }
      if (tile < count) {
        gemv_points<T, 1, 1>(&tiles[static_cast<std::size_t>(tile)], packed, plan, run, i, in, out, bias, mask, e);
      }
    }
  }
}

/// Rows that a tile of this instruction set holds, for pack_weights.
inline std::int64_t tile_rows(Tag, int lanes) { return lanes == 16 ? kMaxRows : 16; }

/// Runs the plan for one group: in (plan.in_size)[lanes], out (plan.out_size)[lanes], weights packed for
/// tile_rows(lanes).
template <class T, class Array>
void gather_gemm(Tag, const GatherPlan& plan, const PackedWeights<Array>& weights, const T* in, T* out,
                 const Epilogue<T>& e, int lanes) {
  if (plan.rows == 0) {
    return;
  }
  for (std::int64_t group = 0; group < plan.channel_groups; ++group) {
    const T* packed = weights.data.data() + group * weights.group_size;
    const T* group_in = in + group * plan.in_group * lanes;
    T* group_out = out + group * plan.out_group * lanes;
    const T* group_mask = e.mask != nullptr ? e.mask + group * plan.out_group * lanes : nullptr;
    const T* group_bias = e.bias != nullptr ? e.bias + group * plan.rows : nullptr;
    if (lanes == 1) {
      gemv_group<T>(plan, weights.tiles, packed, group_in, group_out, group_bias, group_mask, e);
      continue;
    }
    for (std::size_t block = 0; block + 1 < plan.blocks.size(); ++block) {
      for (const RowTile& tile : weights.tiles) {
        const std::ptrdiff_t row = tile.first * plan.out_row * 16;
        gemm_rows<T, kMaxRows>(tile.rows, packed + tile.at, plan, plan.blocks[block], plan.blocks[block + 1], group_in,
                               group_out + row, group_bias != nullptr ? group_bias + tile.first : nullptr,
                               group_mask != nullptr ? group_mask + row : nullptr, e);
      }
    }
  }
}

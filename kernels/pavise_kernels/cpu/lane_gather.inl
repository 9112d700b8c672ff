// SPDX-License-Identifier: MIT
// Pixels from places of its own for every lane, and the transpose. Scalar: lanes read different addresses, and the time
// is that of the memory. Oracle: tests/filter/resize_pad_test.cpp.

/// Calls body(element of in, element of out) for every pixel that is shown, over channels, pixels and lanes in order.
template <class Hit, class Miss>
[[gnu::always_inline]] inline void each_gathered(const LaneGather& g, int lanes, const Hit& hit, const Miss& miss) {
  const std::int32_t* columns = g.places + g.out_height * lanes;
  for (std::int64_t c = 0; c < g.channels; ++c) {
    for (std::int64_t i = 0; i < g.out_height; ++i) {
      const std::int32_t* row = g.places + i * lanes;
      for (std::int64_t j = 0; j < g.out_width; ++j) {
        const std::int64_t to = ((c * g.out_height + i) * g.out_width + j) * lanes;
        for (int l = 0; l < lanes; ++l) {
          const std::int64_t r = row[l];
          const std::int64_t q = columns[j * lanes + l];
          if (r >= 0 && q >= 0) {
            hit(((c * g.height + r) * g.width + q) * lanes + l, to + l);
          } else {
            miss(to + l);
          }
        }
      }
    }
  }
}

/// in: (channels,height,width)[lanes], out: (channels,out_height,out_width)[lanes].
template <class T>
void gather_lanes(Tag, const T* in, T* out, const LaneGather& g, int lanes) {
  each_gathered(
      g, lanes, [&](std::int64_t from, std::int64_t to) { out[to] = in[from]; },
      [&](std::int64_t to) { out[to] = T{0}; });
}

/// dx += the transpose of dy.
template <class T>
void gather_lanes_adjoint(Tag, const T* dy, T* dx, const LaneGather& g, int lanes) {
  each_gathered(
      g, lanes, [&](std::int64_t from, std::int64_t to) { dx[from] += dy[to]; }, [](std::int64_t) {});
}

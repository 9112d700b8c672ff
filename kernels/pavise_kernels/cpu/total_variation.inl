// SPDX-License-Identifier: MIT
// Total variation minimised by the primal-dual algorithm of Chambolle and Pock (2011, "A first-order primal-dual
// algorithm for convex problems with applications to imaging", algorithm 1), a fixed number of steps. Oracle: the same
// steps in naive loops, and the objective around the result, in tests/filter/total_variation_test.cpp.

template <class T, int L>
inline void total_variation_lanes(const T* x, const T* kept, T* z, std::int64_t channels, std::int64_t height,
                                  std::int64_t width, T weight, std::int64_t steps, T* scratch) {
  using P = Pack<T, L>;
  const std::int64_t pixels = height * width;
  const std::int64_t n = channels * pixels;
  T* ahead = scratch;             // 2 z - the z before
  T* by_row = ahead + n * L;      // dual of z(i,:) - z(i-1,:), at row i
  T* by_column = by_row + n * L;  // dual of z(:,j) - z(:,j-1), at column j
  const P zero = P::broadcast(T{0});
  const T step = static_cast<T>(0.35355339059327373);  // primal and dual, 1 / sqrt(8): 8 bounds the differences' norm
  std::memcpy(z, x, static_cast<std::size_t>(n * L) * sizeof(T));
  std::memcpy(ahead, x, static_cast<std::size_t>(n * L) * sizeof(T));
  std::memset(by_row, 0, static_cast<std::size_t>(2 * n * L) * sizeof(T));
  for (std::int64_t s = 0; s < steps; ++s) {
    for (std::int64_t c = 0; c < channels; ++c) {
      // One line of differences (`count` elements, `along` apart), to the line `back` before it.
      const auto dual = [&](T * dual_line, const T* line, std::int64_t count, std::int64_t along, std::int64_t back)
          __attribute__((always_inline)) {
        P square = zero;
        for (std::int64_t k = 0; k < count; ++k) {
          const T* at = line + k * along * L;
          const P p = fma(P::load(at) - P::load(at - back * L), step, P::load(dual_line + k * along * L));
          square = fma(p, p, square);
          p.store(dual_line + k * along * L);
        }
        const P factor = shrink_factor(square, weight);
        for (std::int64_t k = 0; k < count; ++k) {
          T* at = dual_line + k * along * L;
          (P::load(at) * factor).store(at);
        }
      };
      for (std::int64_t i = 1; i < height; ++i) {
        const std::int64_t at = (c * pixels + i * width) * L;
        dual(by_row + at, ahead + at, width, 1, width);
      }
      for (std::int64_t j = 1; j < width; ++j) {
        const std::int64_t at = (c * pixels + j) * L;
        dual(by_column + at, ahead + at, height, width, 1);
      }
    }
    // z less the transposed differences of the dual, and how far that is from x where x is kept.
    P square = zero;
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t i = 0; i < height; ++i) {
        for (std::int64_t j = 0; j < width; ++j) {
          const std::int64_t at = (c * pixels + i * width + j) * L;
          P d = P::load(by_row + at) + P::load(by_column + at);  // row and column 0 have none
          if (i + 1 < height) {
            d = d - P::load(by_row + at + width * L);
          }
          if (j + 1 < width) {
            d = d - P::load(by_column + at + L);
          }
          const P old = P::load(z + at);
          const P v = fma(d, -step, old);
          const P far = (v - P::load(x + at)) * P::load(kept + at);
          square = fma(far, far, square);
          v.store(z + at);
          old.store(ahead + at);
        }
      }
    }
    // The proximal map of |kept (z - x)|: towards x by a step, or as far as x.
    const P norm = sqrt(square);
    const P stay = select(norm > P::broadcast(step), P::broadcast(T{1}) - P::broadcast(step) / norm, zero);
    for (std::int64_t k = 0; k < n; ++k) {
      const P v = P::load(z + k * L);
      const P from = P::load(x + k * L);
      const P next = select(P::load(kept + k * L) > zero, fma(v - from, stay, from), v);
      next.store(z + k * L);
      (next + next - P::load(ahead + k * L)).store(ahead + k * L);
    }
  }
}

/// z = what `steps` steps make of min_z |kept (z - x)|_2 + weight sum_c (sum_i |z(c,i,:) - z(c,i-1,:)|_2 +
/// sum_j |z(c,:,j) - z(c,:,j-1)|_2), from x. kept: 1 or 0 for each pixel. All: (channels,height,width)[lanes]; scratch:
/// three times as much.
template <class T>
void total_variation(Tag, const T* x, const T* kept, T* z, std::int64_t channels, std::int64_t height,
                     std::int64_t width, T weight, std::int64_t steps, T* scratch, int lanes) {
  lanes == 16 ? total_variation_lanes<T, 16>(x, kept, z, channels, height, width, weight, steps, scratch)
              : total_variation_lanes<T, 1>(x, kept, z, channels, height, width, weight, steps, scratch);
}

/// mask = 1 where the uniform number is more than `rate`, else 0. n elements, in place.
template <class T>
void keep_above(Tag, T* mask, std::int64_t n, T rate) {
  for (std::int64_t i = 0; i < n; ++i) {
    mask[i] = mask[i] > rate ? T{1} : T{0};
  }
}

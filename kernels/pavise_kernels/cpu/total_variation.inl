// SPDX-License-Identifier: MIT
// Total variation minimised by the primal-dual algorithm of Chambolle and Pock (2011, "A first-order primal-dual
// algorithm for convex problems with applications to imaging", algorithm 1), a fixed number of steps. Oracle: the same
// steps in naive loops, and the objective around the result, in tests/filter/total_variation_test.cpp.

/// Of the primal and of the dual: 1 / sqrt(8), as 8 bounds the norm of the differences.
template <class T>
inline constexpr T kVariationStep = static_cast<T>(0.35355339059327373);

/// Arrays of one group: (channels,height,width)[lanes].
template <class T>
struct VariationArrays {
  const T* x;
  const T* kept;
  T* z;
  T* ahead;      ///< 2 z - the z before
  T* by_row;     ///< dual of z(i,:) - z(i-1,:), at row i
  T* by_column;  ///< dual of z(:,j) - z(:,j-1), at column j
};

/// The dual of one line of differences (`count` elements, `along` apart), to the line `back` before it.
template <class T, int L>
PAVISE_INLINE void variation_dual(T* dual, const T* line, std::int64_t count, std::int64_t along, std::int64_t back,
                                  T weight) {
  using P = Pack<T, L>;
  P square = P::broadcast(T{0});
  for (std::int64_t k = 0; k < count; ++k) {
    const T* at = line + k * along * L;
    const P p = fma(P::load(at) - P::load(at - back * L), kVariationStep<T>, P::load(dual + k * along * L));
    square = fma(p, p, square);
    p.store(dual + k * along * L);
  }
  const P factor = l2_factor(square, weight);
  for (std::int64_t k = 0; k < count; ++k) {
    T* at = dual + k * along * L;
    (P::load(at) * factor).store(at);
  }
}

/// Element `at` of z less the transposed differences of the dual; `ahead` holds the z before. Returns how far that is
/// from x where x is kept.
template <class T, int L>
PAVISE_INLINE Pack<T, L> variation_primal(const VariationArrays<T>& a, std::int64_t at, std::int64_t width,
                                          bool row_below, bool column_right) {
  using P = Pack<T, L>;
  P d = P::load(a.by_row + at) + P::load(a.by_column + at);  // row and column 0 have none
  if (row_below) {
    d = d - P::load(a.by_row + at + width * L);
  }
  if (column_right) {
    d = d - P::load(a.by_column + at + L);
  }
  const P old = P::load(a.z + at);
  const P v = fma(d, -kVariationStep<T>, old);
  const P far = (v - P::load(a.x + at)) * P::load(a.kept + at);
  v.store(a.z + at);
  old.store(a.ahead + at);
  return far;
}

/// How much of its distance to x an image keeps that is so far (squared) from it.
template <class T, int L>
PAVISE_INLINE Pack<T, L> variation_stay(Pack<T, L> square) {
  using P = Pack<T, L>;
  const P step = P::broadcast(kVariationStep<T>);
  const P norm = sqrt(square);
  return select(norm > step, P::broadcast(T{1}) - step / norm, P::broadcast(T{0}));
}

/// The proximal map of |kept (z - x)| at element `at`: towards x by a step, or as far as x.
template <class T, int L>
PAVISE_INLINE void variation_proximal(const VariationArrays<T>& a, std::int64_t at, Pack<T, L> stay) {
  using P = Pack<T, L>;
  const P v = P::load(a.z + at);
  const P from = P::load(a.x + at);
  const P next = select(P::load(a.kept + at) > P::broadcast(T{0}), fma(v - from, stay, from), v);
  next.store(a.z + at);
  (next + next - P::load(a.ahead + at)).store(a.ahead + at);
}

template <class T, int L>
inline void total_variation_lanes(const T* x, const T* kept, T* z, std::int64_t channels, std::int64_t height,
                                  std::int64_t width, T weight, std::int64_t steps, T* scratch) {
  using P = Pack<T, L>;
  const std::int64_t pixels = height * width;
  const std::int64_t n = channels * pixels;
  const VariationArrays<T> a{x, kept, z, scratch, scratch + n * L, scratch + 2 * n * L};
  std::memcpy(a.z, x, static_cast<std::size_t>(n * L) * sizeof(T));
  std::memcpy(a.ahead, x, static_cast<std::size_t>(n * L) * sizeof(T));
  std::memset(a.by_row, 0, static_cast<std::size_t>(2 * n * L) * sizeof(T));
  for (std::int64_t s = 0; s < steps; ++s) {
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t i = 1; i < height; ++i) {
        const std::int64_t at = (c * pixels + i * width) * L;
        variation_dual<T, L>(a.by_row + at, a.ahead + at, width, 1, width, weight);
      }
      for (std::int64_t j = 1; j < width; ++j) {
        const std::int64_t at = (c * pixels + j) * L;
        variation_dual<T, L>(a.by_column + at, a.ahead + at, height, width, 1, weight);
      }
    }
    P square = P::broadcast(T{0});
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t i = 0; i < height; ++i) {
        for (std::int64_t j = 0; j < width; ++j) {
          const std::int64_t at = (c * pixels + i * width + j) * L;
          const P far = variation_primal<T, L>(a, at, width, i + 1 < height, j + 1 < width);
          square = fma(far, far, square);
        }
      }
    }
    const P stay = variation_stay(square);
    for (std::int64_t k = 0; k < n; ++k) {
      variation_proximal(a, k * L, stay);
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

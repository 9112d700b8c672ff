// SPDX-License-Identifier: MIT
// Products of matrices, one product for each lane: out[i][j] (+)= sum_k a[i][k] b[k][j]. Any of the two may be shared,
// and transposed by its strides. Blocks of 2x2 results stay in registers; each result's sum runs over k in order.
// Oracle: the plain loops of tests/autodiff/matmul_test.cpp.

/// A matrix as a kernel sees it: elements from one row and one column to the next, and from one group to the next (0:
/// shared).
template <class T>
struct MatrixView {
  const T* data;
  std::int64_t row, column;
  std::int64_t group_step;
};

template <class T, int L, int Rows, int Columns>
[[gnu::always_inline]] inline void matmul_block(MatrixView<T> a, MatrixView<T> b, std::int64_t depth, std::int64_t i,
                                                std::int64_t j, Pack<T, L> (&sum)[2][2]) {
  const bool a_shared = a.group_step == 0;
  const bool b_shared = b.group_step == 0;
  for (std::int64_t k = 0; k < depth; ++k) {
    Pack<T, L> vb[Columns];
    for (int c = 0; c < Columns; ++c) {
      vb[c] = load_element<T, L>(b.data, k * b.row + (j + c) * b.column, b_shared);
    }
    for (int r = 0; r < Rows; ++r) {
      const auto va = load_element<T, L>(a.data, (i + r) * a.row + k * a.column, a_shared);
      for (int c = 0; c < Columns; ++c) {
        sum[r][c] = fma(va, vb[c], sum[r][c]);
      }
    }
  }
}

template <class T, int L, int Rows, int Columns>
inline void matmul_store(MatrixView<T> a, MatrixView<T> b, T* out, std::int64_t columns, std::int64_t depth,
                         std::int64_t i, std::int64_t j, bool accumulate) {
  Pack<T, L> sum[2][2];
  for (int r = 0; r < Rows; ++r) {
    for (int c = 0; c < Columns; ++c) {
      sum[r][c] = Pack<T, L>::broadcast(T{0});
    }
  }
  matmul_block<T, L, Rows, Columns>(a, b, depth, i, j, sum);
  for (int r = 0; r < Rows; ++r) {
    for (int c = 0; c < Columns; ++c) {
      T* to = out + ((i + r) * columns + j + c) * L;
      (accumulate ? sum[r][c] + Pack<T, L>::load(to) : sum[r][c]).store(to);
    }
  }
}

template <class T, int L>
inline void matmul_lanes(MatrixView<T> a, MatrixView<T> b, T* out, std::int64_t rows, std::int64_t columns,
                         std::int64_t depth, bool accumulate) {
  std::int64_t i = 0;
  for (; i + 2 <= rows; i += 2) {
    std::int64_t j = 0;
    for (; j + 2 <= columns; j += 2) {
      matmul_store<T, L, 2, 2>(a, b, out, columns, depth, i, j, accumulate);
    }
    if (j < columns) {
      matmul_store<T, L, 2, 1>(a, b, out, columns, depth, i, j, accumulate);
    }
  }
  for (; i < rows; ++i) {
    std::int64_t j = 0;
    for (; j + 2 <= columns; j += 2) {
      matmul_store<T, L, 1, 2>(a, b, out, columns, depth, i, j, accumulate);
    }
    if (j < columns) {
      matmul_store<T, L, 1, 1>(a, b, out, columns, depth, i, j, accumulate);
    }
  }
}

/// out (rows, columns) (+)= a b for one group.
template <class T>
void matmul(Tag, MatrixView<T> a, MatrixView<T> b, T* out, std::int64_t rows, std::int64_t columns, std::int64_t depth,
            bool accumulate, int lanes) {
  lanes == 16 ? matmul_lanes<T, 16>(a, b, out, rows, columns, depth, accumulate)
              : matmul_lanes<T, 1>(a, b, out, rows, columns, depth, accumulate);
}

/// Row i of a shared result: out[i][j] += sum over groups and lanes of (a b)[i][j]. 16 lanes.
template <class T>
void matmul_shared_row(Tag, MatrixView<T> a, MatrixView<T> b, std::int64_t groups, T* out, std::int64_t columns,
                       std::int64_t depth, std::int64_t i, const RunningSums<T>& running) {
  for (std::int64_t j = 0; j < columns; ++j) {
    Pack<T, 16> sum[2][2];
    sum[0][0] = begin_sum(running, i * columns + j);
    MatrixView<T> ga = a;
    MatrixView<T> gb = b;
    for (std::int64_t g = 0; g < groups; ++g, ga.data += a.group_step, gb.data += b.group_step) {
      matmul_block<T, 16, 1, 1>(ga, gb, depth, i, j, sum);
    }
    end_sum(running, i * columns + j, sum[0][0], out[i * columns + j]);
  }
}

// SPDX-License-Identifier: MIT
// Functions of one and of two numbers, and sums at the end of residual blocks. Oracles: kernels::unary_forward,
// binary_forward, add_values and pass_gradient with their derivatives, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

template <Unary F>
struct UnaryForward {
  const float* x;
  float* y;
  float a, b;
  __device__ void operator()(std::int64_t i, int count) const {
    const Quad in = load_quad(x, i, count);
    Quad out{};
    PAVISE_UNROLL
    for (int k = 0; k < 4; ++k) {
      unary_forward_at<F, float, 1>(in.v, out.v, k, a, b);
    }
    store_quad(out, y, i, count);
  }
};

template <Unary F>
struct UnaryBackward {
  const float* x;
  const float* y;
  const float* dy;
  float* dx;
  float a, b;
  bool accumulate;
  __device__ void operator()(std::int64_t i, int count) const {
    const Quad in = load_quad(x, i, count);
    const Quad out = load_quad(y, i, count);
    const Quad d = load_quad(dy, i, count);
    Quad to{};
    if (accumulate) {
      to = load_quad(dx, i, count);
    }
    PAVISE_UNROLL
    for (int k = 0; k < 4; ++k) {
      unary_backward_at<F, float, 1>(in.v, out.v, d.v, to.v, k, a, b, accumulate);
    }
    store_quad(to, dx, i, count);
  }
};

/// Calls body(constant of f).
template <class Body>
void with_unary(Unary f, const Body& body) {
  switch (f) {
    case Unary::relu:
      return body(std::integral_constant<Unary, Unary::relu>{});
    case Unary::leaky_relu:
      return body(std::integral_constant<Unary, Unary::leaky_relu>{});
    case Unary::elu:
      return body(std::integral_constant<Unary, Unary::elu>{});
    case Unary::gelu:
      return body(std::integral_constant<Unary, Unary::gelu>{});
    case Unary::silu:
      return body(std::integral_constant<Unary, Unary::silu>{});
    case Unary::sigmoid:
      return body(std::integral_constant<Unary, Unary::sigmoid>{});
    case Unary::tanh:
      return body(std::integral_constant<Unary, Unary::tanh>{});
    case Unary::softplus:
      return body(std::integral_constant<Unary, Unary::softplus>{});
    case Unary::exp:
      return body(std::integral_constant<Unary, Unary::exp>{});
    case Unary::log:
      return body(std::integral_constant<Unary, Unary::log>{});
    case Unary::sqrt:
      return body(std::integral_constant<Unary, Unary::sqrt>{});
    case Unary::abs:
      return body(std::integral_constant<Unary, Unary::abs>{});
    case Unary::square:
      return body(std::integral_constant<Unary, Unary::square>{});
    case Unary::erf:
      return body(std::integral_constant<Unary, Unary::erf>{});
    case Unary::reciprocal:
      return body(std::integral_constant<Unary, Unary::reciprocal>{});
    case Unary::quotient:
      return body(std::integral_constant<Unary, Unary::quotient>{});
    case Unary::clamp:
      return body(std::integral_constant<Unary, Unary::clamp>{});
    case Unary::step:
      return body(std::integral_constant<Unary, Unary::step>{});
    case Unary::affine:
      return body(std::integral_constant<Unary, Unary::affine>{});
  }
}

template <Binary F>
struct BinaryContiguous {
  const float* a;
  const float* b;
  float* y;
  __device__ void operator()(std::int64_t i, int count) const {
    const Quad va = load_quad(a, i, count);
    const Quad vb = load_quad(b, i, count);
    Quad out{};
    PAVISE_UNROLL
    for (int k = 0; k < 4; ++k) {
      using P = Pack<float, 1>;
      BinaryFunction<F>::value(P::load(va.v + k), P::load(vb.v + k)).store(out.v + k);
    }
    store_quad(out, y, i, count);
  }
};

/// One element of the result, which is contiguous; the operands are where the loop says.
template <Binary F>
struct BinaryStrided {
  StridedLoop loop;
  std::int64_t count;
  const float* a;
  std::int64_t a_step;
  const float* b;
  std::int64_t b_step;
  float* y;
  __device__ void operator()(std::int64_t g, std::int64_t i) const {
    std::int64_t at[StridedLoop::kArrays];
    loop.locate(i, at);
    const auto va = load_element<float, 32>(a + g * a_step, at[1], a_step == 0);
    const auto vb = load_element<float, 32>(b + g * b_step, at[2], b_step == 0);
    BinaryFunction<F>::value(va, vb).store(y + (g * count + i) * 32);
  }
};

template <Binary F, int Operand>
struct BinaryBackward {
  const float* a;
  const float* b;
  const float* dy;
  float* d;
  bool accumulate;
  __device__ void operator()(std::int64_t i, int count) const {
    const Quad va = load_quad(a, i, count);
    const Quad vb = load_quad(b, i, count);
    const Quad from = load_quad(dy, i, count);
    Quad to{};
    if (accumulate) {
      to = load_quad(d, i, count);
    }
    PAVISE_UNROLL
    for (int k = 0; k < 4; ++k) {
      using P = Pack<float, 1>;
      put_product(P::load(from.v + k),
                  BinaryFunction<F>::template slope<Operand, float>(P::load(va.v + k), P::load(vb.v + k)), to.v + k,
                  accumulate);
    }
    store_quad(to, d, i, count);
  }
};

template <class Body>
void with_binary(Binary f, const Body& body) {
  switch (f) {
    case Binary::add:
      return body(std::integral_constant<Binary, Binary::add>{});
    case Binary::sub:
      return body(std::integral_constant<Binary, Binary::sub>{});
    case Binary::mul:
      return body(std::integral_constant<Binary, Binary::mul>{});
    case Binary::div:
      return body(std::integral_constant<Binary, Binary::div>{});
    case Binary::maximum:
      return body(std::integral_constant<Binary, Binary::maximum>{});
    case Binary::minimum:
      return body(std::integral_constant<Binary, Binary::minimum>{});
  }
}

/// Whether both operands have lanes and lie as the result does.
bool same_layout(const StridedLoop& loop, std::int64_t a_step, std::int64_t b_step) {
  const StridedLoop c = loop.collapsed();
  return a_step != 0 && b_step != 0 && c.rank == 1 && c.stride[1][0] == c.stride[0][0] &&
         c.stride[2][0] == c.stride[0][0] && (c.stride[0][0] == 1 || c.extent[0] == 1);
}

struct AddValues {
  const float* a;
  const float* b;
  float* y;
  bool relu;
  __device__ void operator()(std::int64_t i, int count) const {
    const Quad va = load_quad(a, i, count);
    const Quad vb = load_quad(b, i, count);
    Quad out{};
    add_values_lanes<float, 1>(va.v, vb.v, out.v, 4, relu);
    store_quad(out, y, i, count);
  }
};

struct PassGradient {
  const float* dy;
  float* dx;
  bool accumulate;
  const float* mask;
  __device__ void operator()(std::int64_t i, int count) const {
    const Quad from = load_quad(dy, i, count);
    Quad to = load_quad_if_any(accumulate ? dx : nullptr, i, count);
    const Quad m = load_quad_if_any(mask, i, count);
    pass_gradient_lanes<float, 1>(from.v, to.v, 4, accumulate, mask != nullptr ? m.v : nullptr);
    store_quad(to, dx, i, count);
  }
};

}  // namespace

void fill_elementwise(Table& t) {
  t.unary_forward = [](Stream stream, Unary f, const float* x, float* y, std::int64_t n, float a, float b) {
    with_unary(f, [&](auto which) { each_quad(stream, "unary_forward", n, UnaryForward<which()>{x, y, a, b}); });
  };
  t.unary_backward = [](Stream stream, Unary f, const float* x, const float* y, const float* dy, float* dx,
                        std::int64_t n, float a, float b, bool accumulate) {
    with_unary(f, [&](auto which) {
      each_quad(stream, "unary_backward", n, UnaryBackward<which()>{x, y, dy, dx, a, b, accumulate});
    });
  };
  t.binary_forward = [](Stream stream, Binary f, const StridedLoop& loop, const float* a, std::int64_t a_step,
                        const float* b, std::int64_t b_step, float* y, std::int64_t groups) {
    const std::int64_t count = loop.count();
    with_binary(f, [&](auto which) {
      if (same_layout(loop, a_step, b_step) && a_step == count * 32 && b_step == count * 32) {
        each_quad(stream, "binary_forward", count * groups * 32, BinaryContiguous<which()>{a, b, y});
      } else {
        each_warp(stream, "binary_forward", groups, count,
                  BinaryStrided<which()>{loop, count, a, a_step, b, b_step, y});
      }
    });
  };
  t.binary_backward = [](Stream stream, Binary f, int operand, const float* a, const float* b, const float* dy,
                         float* d, std::int64_t n, bool accumulate) {
    with_binary(f, [&](auto which) {
      if (operand == 1) {
        each_quad(stream, "binary_backward", n, BinaryBackward<which(), 1>{a, b, dy, d, accumulate});
      } else {
        each_quad(stream, "binary_backward", n, BinaryBackward<which(), 2>{a, b, dy, d, accumulate});
      }
    });
  };
  t.add_values = [](Stream stream, const float* a, const float* b, float* y, std::int64_t n, bool relu) {
    each_quad(stream, "add_values", n, AddValues{a, b, y, relu});
  };
  t.pass_gradient = [](Stream stream, const float* dy, float* dx, std::int64_t n, bool accumulate, const float* mask) {
    each_quad(stream, "pass_gradient", n, PassGradient{dy, dx, accumulate, mask});
  };
}

}  // namespace pavise::kernels::cuda

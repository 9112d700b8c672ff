// SPDX-License-Identifier: MIT
// Losses: one number for each image, shape (), reduced over a batch only by whoever asks for it. All of them are losses
// of the model, so an untargeted attack MAXIMISES them and training minimises cross_entropy, kl_divergence and mse.
//
// Labels are class indices, one for each image: labels[group*lanes + lane] for the images of the pass. They are copied
// and checked to lie in [0, classes); lanes behind the last image need none.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/elementwise.hpp"
#include "pavise/autodiff/reduce.hpp"
#include "pavise/autodiff/softmax.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise {

namespace detail {

/// The labels of all lanes, in the tape's arena; 0 behind the last image.
template <class T>
const std::int32_t* own_labels(const char* name, Tape<T>& tape, const std::int32_t* labels, std::int64_t classes) {
  const std::int64_t lanes = tape.groups() * tape.lanes();
  auto* own = tape.arena().template allocate<std::int32_t>(static_cast<std::size_t>(lanes));
  for (std::int64_t i = 0; i < lanes; ++i) {
    own[i] = i < tape.images() ? labels[i] : 0;
    require(own[i] >= 0 && own[i] < classes, name, ": label ", own[i], " of image ", i, ", expected 0 to ",
            classes - 1);
  }
  return own;
}

template <class T>
std::int64_t check_logits(const char* name, Var<T> logits, std::int64_t least = 1) {
  const Shape s = logits.shape();
  require<ShapeError>(s.rank() == 1 && s[0] >= least && !logits.shared(), name,
                      ": the logits are (classes) with at least ", least, " classes, got ", s);
  return s[0];
}

}  // namespace detail

/// Cross-entropy of softmax(logits / temperature) with hard labels, fused:
///   log(sum_i exp(z_i/t)) - sum_i q_i z_i/t,  q = (1-smoothing) at the label, plus smoothing/classes everywhere.
/// logits: (classes); returns (). The gradient at the label is -(sum of the other probabilities)/t, which keeps its
/// digits where 1 - p would round to 0. Throws ShapeError for other logits, ValueError for labels that are not classes.
template <class T>
Var<T> cross_entropy(Var<T> logits, const std::int32_t* labels, std::type_identity_t<T> smoothing = 0,
                     std::type_identity_t<T> temperature = 1) {
  const std::int64_t classes = detail::check_logits("cross_entropy", logits);
  require(smoothing >= T{0} && smoothing <= T{1}, "cross_entropy: smoothing ", smoothing, ", expected 0 to 1");
  require(temperature > T{0}, "cross_entropy: temperature ", temperature, ", expected more than 0");
  Tape<T>& tape = logits.tape();
  const std::int32_t* own = detail::own_labels("cross_entropy", tape, labels, classes);
  Var<T> y = tape.result("cross_entropy", {}, {logits});
  const int lanes = tape.lanes();
  const std::int64_t saved_size = (classes + 2) * lanes;
  T* saved = tape.needs_gradient(y)
                 ? tape.arena().template allocate<T>(static_cast<std::size_t>(tape.groups() * saved_size))
                 : nullptr;
  const T inverse = T{1} / temperature;
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) {
      cross_entropy_forward<T>(isa, logits.data(g), own + g * lanes, y.data(g),
                               saved != nullptr ? saved + g * saved_size : nullptr, classes, smoothing, inverse, lanes);
    });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    const auto target = t.target(logits);
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        cross_entropy_backward<T>(isa, saved + g * saved_size, own + g * lanes, t.gradient(y, g),
                                  target.data + g * classes * lanes, classes, smoothing, inverse, target.accumulate,
                                  lanes);
      });
    });
  });
  return y;
}

namespace detail {

/// A loss of two values of the same classes, with gradients to both: forward(isa, a, b, loss) and
/// backward(isa, a, b, loss, dloss, da, da_accumulate, db, db_accumulate), for one group; da or db is null where nobody
/// asks.
template <class T, class Forward, class Backward>
Var<T> loss_of_two(const char* name, Var<T> a, Var<T> b, Forward forward, Backward backward) {
  b = spread(b);
  const std::int64_t classes = check_logits(name, a);
  require<ShapeError>(b.shape() == a.shape(), name, ": shapes ", a.shape(), " and ", b.shape(),
                      ", expected equal ones");
  Tape<T>& tape = a.tape();
  Var<T> y = tape.result(name, {}, {a, b});
  tape.each_group(
      [&](std::int64_t g) { kernels::run_light([&](auto isa) { forward(isa, a.data(g), b.data(g), y.data(g)); }); });
  tape.on_backward(y, [=](Tape<T>& t) {
    const auto to_a = t.needs_gradient(a) ? t.target(a) : typename Tape<T>::Target{};
    const auto to_b = t.needs_gradient(b) ? t.target(b) : typename Tape<T>::Target{};
    const std::int64_t step = classes * t.lanes();
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        backward(isa, a.data(g), b.data(g), y.data(g), t.gradient(y, g),
                 to_a.data != nullptr ? to_a.data + g * step : nullptr, to_a.accumulate,
                 to_b.data != nullptr ? to_b.data + g * step : nullptr, to_b.accumulate);
      });
    });
  });
  return y;
}

/// Entries of a gradient that has few: class indices (-1: none) and derivatives, [entry][lanes].
inline constexpr std::int64_t kSparseEntries = 5;

/// A loss whose gradient has few entries: forward(isa, z, group, loss, index, weight) for one group.
template <class T, class Forward>
Var<T> sparse_loss(const char* name, Var<T> z, const Forward& forward) {
  Tape<T>& tape = z.tape();
  Var<T> y = tape.result(name, {}, {z});
  const int lanes = tape.lanes();
  using Index = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  Index* index = nullptr;
  T* weight = nullptr;
  if (tape.needs_gradient(y)) {
    const auto n = static_cast<std::size_t>(tape.groups() * kSparseEntries * lanes);
    index = tape.arena().template allocate<Index>(n);
    weight = tape.arena().template allocate<T>(n);
  }
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) {
      const std::int64_t at = g * kSparseEntries * lanes;
      forward(isa, z.data(g), g, y.data(g), index != nullptr ? index + at : nullptr,
              weight != nullptr ? weight + at : nullptr);
    });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    const auto target = t.target(z);
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        sparse_backward<T>(isa, index + g * kSparseEntries * lanes, weight + g * kSparseEntries * lanes,
                           t.gradient(y, g), target.data + g * z.size() * lanes, z.size(), target.accumulate, lanes);
      });
    });
  });
  return y;
}

template <class T>
Var<T> margin(const char* name, Var<T> z, const std::int32_t* labels, T other, T own, T bound, std::int64_t least) {
  const std::int64_t classes = check_logits(name, z, least);
  Tape<T>& tape = z.tape();
  const std::int32_t* l = own_labels(name, tape, labels, classes);
  const int lanes = tape.lanes();
  return sparse_loss(name, z, [=](auto isa, const T* x, std::int64_t g, T* y, auto* index, T* weight) {
    margin_forward<T>(isa, x, l + g * lanes, y, index, weight, classes, other, own, bound, lanes);
  });
}

}  // namespace detail

/// Cross-entropy with soft targets: -sum_i q_i log softmax(z/t)_i. logits and targets: (classes); the targets may be a
/// value (which gets a gradient if it is watched) or a parameter. They are not normalised. Returns ().
template <class T>
Var<T> cross_entropy_soft(Var<T> logits, Var<T> targets, std::type_identity_t<T> temperature = 1) {
  require(temperature > T{0}, "cross_entropy_soft: temperature ", temperature, ", expected more than 0");
  const T it = T{1} / temperature;
  const std::int64_t n = logits.size();
  const int lanes = logits.tape().lanes();
  return detail::loss_of_two(
      "cross_entropy_soft", logits, targets,
      [=](auto isa, const T* z, const T* q, T* y) { soft_cross_entropy_forward<T>(isa, z, q, y, n, it, lanes); },
      [=](auto isa, const T* z, const T* q, const T*, const T* dy, T* dz, bool dz_add, T* dq, bool dq_add) {
        soft_cross_entropy_backward<T>(isa, z, q, dy, dz, dz_add, dq, dq_add, n, it, lanes);
      });
}
/// The same with constant targets [group][classes][lanes] that lie elsewhere and outlive the pass.
template <class T>
Var<T> cross_entropy_soft(Var<T> logits, const T* targets, std::type_identity_t<T> temperature = 1) {
  return cross_entropy_soft(logits, logits.tape().view(logits.shape(), const_cast<T*>(targets)), temperature);
}

/// KL(softmax(p/t) || softmax(q/t)) = sum_i P_i (log P_i - log Q_i) of two vectors of logits (or of log-probabilities),
/// with gradients to both. TRADES (Zhang et al., 2019) is kl_divergence(clean, adversarial).
template <class T>
Var<T> kl_divergence(Var<T> p, Var<T> q, std::type_identity_t<T> temperature = 1) {
  require(temperature > T{0}, "kl_divergence: temperature ", temperature, ", expected more than 0");
  const T it = T{1} / temperature;
  const std::int64_t n = p.size();
  const int lanes = p.tape().lanes();
  return detail::loss_of_two(
      "kl_divergence", p, q, [=](auto isa, const T* a, const T* b, T* y) { kl_forward<T>(isa, a, b, y, n, it, lanes); },
      [=](auto isa, const T* a, const T* b, const T* y, const T* dy, T* da, bool da_add, T* db, bool db_add) {
        kl_backward<T>(isa, a, b, y, dy, da, da_add, db, db_add, n, it, lanes);
      });
}

/// Mean over the elements of (x - target)^2; the shapes are equal.
template <class T>
Var<T> mse(Var<T> x, Var<T> target) {
  require<ShapeError>(x.shape() == target.shape(), "mse: shapes ", x.shape(), " and ", target.shape(),
                      ", expected equal ones");
  return mean(square(sub(x, target)));
}

/// x[label], for each image. x: (classes).
template <class T>
Var<T> pick(Var<T> x, const std::int32_t* labels) {
  return detail::margin<T>("pick", x, labels, 0, 1, std::numeric_limits<T>::infinity(), 1);
}
/// max_{i != label} x[i], for each image; the gradient goes to the first of equals. x: (classes), at least 2.
template <class T>
Var<T> max_other(Var<T> x, const std::int32_t* labels) {
  return detail::margin<T>("max_other", x, labels, 1, 0, std::numeric_limits<T>::infinity(), 2);
}

/// The margin by which an image is misclassified, at most kappa: min(kappa, max_{i != y} z_i - z_y); positive where the
/// model is wrong. It is minus the objective of Carlini and Wagner (2017), f = max(z_y - max_{i != y} z_i, -kappa). The
/// gradient is 0 where kappa is reached.
template <class T>
Var<T> margin_loss(Var<T> logits, const std::int32_t* labels,
                   std::type_identity_t<T> kappa = std::numeric_limits<T>::infinity()) {
  return detail::margin<T>("margin_loss", logits, labels, 1, -1, kappa, 2);
}
/// The margin by which an image is taken for its target t, at most kappa: min(kappa, z_t - max_{i != t} z_i). A
/// targeted attack maximises it.
template <class T>
Var<T> margin_loss_targeted(Var<T> logits, const std::int32_t* targets,
                            std::type_identity_t<T> kappa = std::numeric_limits<T>::infinity()) {
  return detail::margin<T>("margin_loss_targeted", logits, targets, -1, 1, kappa, 2);
}

/// Difference of logits ratio (Croce and Hein, 2020, eq. 6): -(z_y - max_{i != y} z_i) / (z_1st - z_3rd + 1e-12), where
/// 1st is the largest logit. Not changed by shifting or scaling the logits. At least 3 classes.
template <class T>
Var<T> dlr_loss(Var<T> logits, const std::int32_t* labels) {
  const std::int64_t classes = detail::check_logits("dlr_loss", logits, 3);
  const std::int32_t* l = detail::own_labels("dlr_loss", logits.tape(), labels, classes);
  const int lanes = logits.tape().lanes();
  return detail::sparse_loss("dlr_loss", logits,
                             [=](auto isa, const T* x, std::int64_t g, T* y, auto* index, T* weight) {
                               dlr_forward<T>(isa, x, l + g * lanes, nullptr, y, index, weight, classes, lanes);
                             });
}
/// The targeted ratio (Croce and Hein, 2020, eq. 7): -(z_y - z_t) / (z_1st - (z_3rd + z_4th)/2 + 1e-12). A targeted
/// attack maximises it. At least 4 classes.
template <class T>
Var<T> dlr_loss_targeted(Var<T> logits, const std::int32_t* labels, const std::int32_t* targets) {
  const std::int64_t classes = detail::check_logits("dlr_loss_targeted", logits, 4);
  const std::int32_t* l = detail::own_labels("dlr_loss_targeted", logits.tape(), labels, classes);
  const std::int32_t* wanted = detail::own_labels("dlr_loss_targeted", logits.tape(), targets, classes);
  const int lanes = logits.tape().lanes();
  return detail::sparse_loss(
      "dlr_loss_targeted", logits, [=](auto isa, const T* x, std::int64_t g, T* y, auto* index, T* weight) {
        dlr_forward<T>(isa, x, l + g * lanes, wanted + g * lanes, y, index, weight, classes, lanes);
      });
}

/// Boosted cross-entropy of MART (Wang et al., 2020, eq. 6; constants of its code):
/// cross_entropy - log(1.0001 - max_{k != y} p_k), p = softmax(logits).
template <class T>
Var<T> boosted_cross_entropy(Var<T> logits, const std::int32_t* labels) {
  // The compiler may take the sides of an operator in any order, and gradients add up in the order of the nodes.
  const Var<T> boost = log(affine(max_other(softmax(logits), labels), T{-1}, static_cast<T>(1.0001)));
  return cross_entropy(logits, labels) - boost;
}

/// The predicted class of every lane of the pass: out[group*lanes + lane] = index of the largest logit; the lowest of
/// equals, and NaN never wins over a number. logits: (classes).
template <class T>
void argmax(Var<T> logits, std::int32_t* out) {
  const std::int64_t classes = detail::check_logits("argmax", logits);
  Tape<T>& tape = logits.tape();
  tape.each_group([&](std::int64_t g) {
    kernels::run_light(
        [&](auto isa) { argmax<T>(isa, logits.data(g), out + g * tape.lanes(), classes, tape.lanes()); });
  });
}

}  // namespace pavise

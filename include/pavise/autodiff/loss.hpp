// SPDX-License-Identifier: MIT
// Losses: one number for each image, shape (), reduced over a batch only by whoever asks for it. All of them are losses of the
// model, so an untargeted attack MAXIMISES them and training minimises cross_entropy, kl_divergence and mse.
//
// Labels are class indices, one for each image: labels[group*lanes + lane] for the images of the pass. They are copied and
// checked to lie in [0, classes); lanes behind the last image need none.
#pragma once

#include <cstdint>
#include <limits>

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
/// logits: (classes); returns (). The gradient at the label is -(sum of the other probabilities)/t, which keeps its digits where
/// 1 - p would round to 0. Throws ShapeError for other logits, ValueError for labels that are not classes.
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
    kernels::run([&](auto isa) {
      cross_entropy_forward<T>(isa, logits.data(g), own + g * lanes, y.data(g),
                               saved != nullptr ? saved + g * saved_size : nullptr, classes, smoothing, inverse, lanes);
    });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    const auto target = t.target(logits);
    t.each_group([&](std::int64_t g) {
      kernels::run([&](auto isa) {
        cross_entropy_backward<T>(isa, saved + g * saved_size, own + g * lanes, t.gradient(y, g),
                                  target.data + g * classes * lanes, classes, smoothing, inverse, target.accumulate,
                                  lanes);
      });
    });
  });
  return y;
}

/// The predicted class of every lane of the pass: out[group*lanes + lane] = index of the largest logit; the lowest of equals,
/// and NaN never wins over a number. logits: (classes).
template <class T>
void argmax(Var<T> logits, std::int32_t* out) {
  const std::int64_t classes = detail::check_logits("argmax", logits);
  Tape<T>& tape = logits.tape();
  tape.each_group([&](std::int64_t g) {
    kernels::run([&](auto isa) { argmax<T>(isa, logits.data(g), out + g * tape.lanes(), classes, tape.lanes()); });
  });
}

}  // namespace pavise

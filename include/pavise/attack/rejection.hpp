// SPDX-License-Identifier: MIT
// A classifier that may refuse an input (a detector in front of it), as attacks see it.
//
// Carlini and Wagner (2017), "Adversarial examples are not easily detected: bypassing ten detection methods", put
// classifier and detector together as one classifier with a class more, "refused". The attacker has then two classes to
// avoid, the image's own and that one, which no attack that leaves a single label knows of. Here the two are made one:
// the label's logit takes the refusal in. There remain as many logits as classes, and an image fools them if
// and only if it is misclassified and not refused, so that every attack, with any loss, with gradients or without, is an
// adaptive attack as it stands.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "pavise/autodiff/loss.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise::attack {

/// Logits (classes) from outputs (classes + 1), the last of which is r, positive where the image is refused. With m the
/// largest logit of another class than the label y,
///   untargeted  z_y <- max(z_y, m) + r where r > 0, else max(z_y, m + r): y is not exceeded where r > 0
///   targeted    z_y <- min(z_y, m) - r where r > 0, else min(z_y, m - r): the target y does not exceed where r > 0
/// so that the margin m - z_y of a refused image is minus the sum of what is missing, max(z_y - m, 0) + r: the objective
/// of He et al. (2017), "Adversarial example defenses: ensembles of weak defenses are not strong".
template <class T>
Var<T> credit_rejection(Var<T> outputs, const std::int32_t* labels, bool targeted) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const std::int64_t classes = pavise::detail::check_logits("credit_rejection", outputs, 3) - 1;
  Tape<T>& tape = outputs.tape();
  const int lanes = tape.lanes();
  const std::int32_t* own = pavise::detail::own_labels("credit_rejection", tape, labels, classes);
  Var<T> y = tape.result("credit_rejection", Shape{classes}, {outputs});
  // Where the label's gradient goes: to this logit, and with this sign to r.
  const auto count = static_cast<std::size_t>(tape.groups() * lanes);
  auto* route = tape.arena().template allocate<std::int64_t>(count);
  auto* sign = tape.arena().template allocate<T>(count);
  tape.each_group([&](std::int64_t g) {
    const T* z = outputs.data(g);
    T* out = y.data(g);
    for (int lane = 0; lane < lanes; ++lane) {
      const std::int64_t at = g * lanes + lane;
      const std::int64_t label = own[at];
      std::int64_t other = -1;
      for (std::int64_t k = 0; k < classes; ++k) {
        out[k * lanes + lane] = z[k * lanes + lane];
        if (k != label && (other < 0 || z[k * lanes + lane] > z[other * lanes + lane])) {
          other = k;
        }
      }
      const T mine = z[label * lanes + lane];
      const T most = z[other * lanes + lane];
      const T r = z[classes * lanes + lane];
      const T change = targeted ? -r : r;
      const bool refused = !(r <= T{0});
      const bool beyond = targeted ? most < mine : most > mine;  // what the attack is after, but for the refusal
      const T own_or_most = !refused || beyond ? most : mine;
      const bool counts = refused || (targeted ? most + change < mine : most + change > mine);
      route[at] = counts && own_or_most == most ? other : label;
      sign[at] = counts ? (targeted ? T{-1} : T{1}) : T{0};
      if (counts) {  // beyond the largest other logit or short of it, also where r is less than a rounding
        const bool up = refused != targeted;
        const T next = std::nextafter(most, up ? kInfinity : -kInfinity);
        const T sum = own_or_most + change;
        out[label * lanes + lane] = up ? std::max(sum, next) : std::min(sum, next);
      }
    }
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    T* dz = t.add_target(outputs);
    t.each_group([&](std::int64_t g) {
      const T* dy = t.gradient(y, g);
      T* to = dz + g * (classes + 1) * lanes;
      for (int lane = 0; lane < lanes; ++lane) {
        const std::int64_t at = g * lanes + lane;
        for (std::int64_t k = 0; k < classes; ++k) {
          to[(k == own[at] ? route[at] : k) * lanes + lane] += dy[k * lanes + lane];
        }
        to[classes * lanes + lane] += sign[at] * dy[own[at] * lanes + lane];
      }
    });
  });
  return y;
}

}  // namespace pavise::attack

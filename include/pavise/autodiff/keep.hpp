// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <type_traits>

#include "pavise/autodiff/tape.hpp"

namespace pavise::detail {

/// A copy of a vector in the tape's arena, for an operation's backward pass: it lives as long as the pass.
template <class T, class Vector>
const typename Vector::value_type* keep(Tape<T>& tape, const Vector& from) {
  using E = typename Vector::value_type;
  E* to = tape.arena().template allocate<E>(from.size());
  std::copy(from.begin(), from.end(), to);
  return to;
}

}  // namespace pavise::detail

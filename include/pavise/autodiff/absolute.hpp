// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <deque>

#include "pavise/autodiff/parameter.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise {

/// |w| of parameters w, as shared values that convolutions and fully connected layers take for a weight. The absolute
/// values live in stores of their own, made anew when w has changed; their gradient goes on to w with the sign of each
/// element (nothing where it is 0). Keep it alive as long as tapes that hold its values. Not thread-safe.
template <class T>
class AbsoluteWeights {
 public:
  AbsoluteWeights() = default;
  AbsoluteWeights(const AbsoluteWeights&) = delete;
  AbsoluteWeights& operator=(const AbsoluteWeights&) = delete;

  Var<T> operator()(Tape<T>& tape, Parameter<T>& weight) {
    Parameter<T>& own = of(weight);
    const Var<T> w = tape.parameter(weight);
    const Var<T> y = tape.parameter(own);
    if (auto* trace = tape.trace()) {
      trace->push_back(
          {.kind = TracedOperation<T>::Kind::magnitude, .output = y.id(), .weight = &weight, .derived = &own});
    }
    tape.on_backward(y, [w, gradient = own.gradient_data()](Tape<T>& t) {
      if (!t.needs_gradient(w)) {
        return;
      }
      const T* value = w.data();
      T* dw = t.target(w).data;
      for (std::int64_t i = 0; i < w.size(); ++i) {
        dw[i] += value[i] > T{0} ? gradient[i] : value[i] < T{0} ? -gradient[i] : T{0};
        gradient[i] = T{0};  // handed on
      }
    });
    return y;
  }

 private:
  struct Derived {
    const Parameter<T>* from = nullptr;
    std::uint64_t version = 0;
    ParameterStore<T> store;
  };

  Parameter<T>& of(const Parameter<T>& weight) {
    Derived* found = nullptr;
    for (Derived& d : derived_) {
      found = d.from == &weight ? &d : found;
    }
    if (found == nullptr) {
      found = &derived_.emplace_back();
      found->from = &weight;
      found->store.add("absolute", weight.shape(), {}, weight.trainable());
      found->store.allocate(0);
    }
    Parameter<T>& own = found->store.parameters().front();
    if (found->version != weight.version()) {
      const auto from = weight.value();
      const auto to = own.edit();
      for (std::size_t i = 0; i < to.size(); ++i) {
        to[i] = from[i] < T{0} ? -from[i] : from[i];
      }
      found->version = weight.version();
    }
    return own;
  }

  std::deque<Derived> derived_;
};

}  // namespace pavise

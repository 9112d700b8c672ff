// SPDX-License-Identifier: MIT
// A tape in fifty lines: what was computed, in order, and how to go back.
#pragma once

#include <deque>
#include <functional>

#include "tensor.hpp"

namespace tiny {

/// A value, the derivative of the loss by each of its numbers, and how to hand that on to what it was computed from.
struct Node {
  Tensor value;
  Tensor gradient{value.rows, value.columns};
  std::function<void()> backward = [] {};
};

/// Every operation appends its node behind those that it needs, so that going back from the end is the chain rule.
class Tape {
 public:
  Node& append(Tensor value) { return nodes_.emplace_back(Node{std::move(value)}); }

  /// Fills in all gradients; that of `loss` by itself is 1.
  void backward(Node& loss) {
    loss.gradient(0, 0) = 1;
    for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
      node->backward();
    }
  }

 private:
  std::deque<Node> nodes_;  // and not a vector: the nodes' addresses have to stay
};

/// y = max(0, x). Where x was negative, nothing that is done to it changes y.
inline Node& relu(Tape& tape, Node& x) {
  Node& y = tape.append(x.value);
  for (float& v : y.value.values) {
    v = v > 0 ? v : 0;
  }
  y.backward = [&] {
    for (std::size_t i = 0; i < x.value.values.size(); ++i) {
      x.gradient.values[i] += x.value.values[i] > 0 ? y.gradient.values[i] : 0;
    }
  };
  return y;
}

}  // namespace tiny

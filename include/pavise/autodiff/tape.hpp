// SPDX-License-Identifier: MIT
// The tape: operations on values with lanes, recorded for the backward pass. See Tape for the memory layout.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "pavise/autodiff/parameter.hpp"
#include "pavise/autodiff/trace.hpp"
#include "pavise/core/arena.hpp"
#include "pavise/core/communicator.hpp"
#include "pavise/core/error.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/shape.hpp"

namespace pavise {

template <class T>
class Tape;

/// A value on a tape: a handle, cheap to copy, valid until the tape goes back behind it. Its shape is that of one
/// image.
template <class T>
class Var {
 public:
  /// No value: an optional operand that is not there.
  Var() = default;
  Var(Tape<T>* tape, std::int32_t id) : tape_(tape), id_(id) {}

  explicit operator bool() const { return tape_ != nullptr; }
  Tape<T>& tape() const { return *tape_; }
  std::int32_t id() const { return id_; }
  Shape shape() const { return tape_->node(*this).shape; }
  /// Elements of one image.
  std::int64_t size() const { return tape_->node(*this).size; }
  /// Whether it is the same for every image (a parameter): dense, without lanes.
  bool shared() const { return tape_->node(*this).shared; }
  /// Values of group `group`: [size][lanes], or [size] of a shared value.
  const T* data(std::int64_t group = 0) const {
    const auto& n = tape_->node(*this);
    return n.value + (n.shared ? 0 : group * n.size * tape_->lanes());
  }
  T* data(std::int64_t group = 0) { return const_cast<T*>(std::as_const(*this).data(group)); }

 private:
  Tape<T>* tape_ = nullptr;
  std::int32_t id_ = -1;
};

/// Training passes update running statistics and draw dropout; evaluation passes do neither. The mode belongs to the
/// pass and not to the model, so nothing has to be restored afterwards, whatever an attack throws.
enum class Mode { evaluation, training };

/// What the images of a pass are called: the key of every random number that a layer draws for them.
struct PassKey {
  std::uint64_t seed = 0;
  std::uint32_t iteration = 0;
  /// Index in the data set, one for each lane of each group; null: 0, 1, 2, ...
  const std::uint32_t* images = nullptr;
};

/// A pass that several processes make together, each over the images of its own groups.
struct SharedPass {
  Communicator* team = nullptr;    ///< null: this process has all images
  std::int64_t images_of_all = 0;  ///< of all processes
};

/// An append-only record of operations, and the memory of their values.
///
/// A value of shape (C,H,W) is stored as [group][C][H][W][lanes]: sixteen images side by side, one in each lane. A tape
/// with one group belongs to one thread, which takes it through a whole network depth first; a tape with many groups
/// runs each operation in parallel over the groups (breadth first), for what crosses the batch. With one lane it holds
/// a single image. Every operation works in both schedules and gives an image the same bits in both.
///
/// Only what lies downstream of a watched input (or, where asked for, of a parameter) is recorded for backward. Nodes
/// are in topological order by construction, so backward is one loop. Not thread-safe.
template <class T>
class Tape {
 public:
  struct Node {
    const char* name = "";
    Shape shape;
    std::int64_t size = 0;
    T* value = nullptr;
    T* gradient = nullptr;
    bool shared = false;
    bool needs_gradient = false;
    bool has_gradient = false;
    bool relu = false;      ///< the output of a fused ReLU: whoever adds to its gradient may mask it
    bool unmasked = false;  ///< somebody did not
    Parameter<T>* parameter = nullptr;
    void (*backward)(Tape&, const void*) = nullptr;
    const void* closure = nullptr;
  };

  struct Mark {
    std::size_t nodes = 0;
    Arena::Mark arena;
  };

  /// Where an operation's backward pass writes: adds if `accumulate`, else stores; where `mask` is given, elements
  /// whose mask is not positive get 0.
  struct Target {
    T* data = nullptr;
    bool accumulate = false;
    const T* mask = nullptr;
  };

  Tape() = default;
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// Begins a pass over `images` images in groups of `lanes` (16, or 1 for a single image): forgets all values. With
  /// `shared` the images are those of whole groups of a larger batch, possibly none; what crosses the batch (batch
  /// statistics, gradients of parameters) gets the bits that one process would give it, gradients on the last rank alone.
  void begin(std::int64_t images, int lanes = kernels::kLanes, Mode mode = Mode::evaluation,
             bool parameter_gradients = false, SharedPass shared = {}) {
    require(lanes == kernels::kLanes || lanes == 1, "tape: ", lanes, " lanes, expected 16 or 1");
    require(images >= (shared.team != nullptr ? 0 : 1), "tape: ", images, " images, expected 1 or more");
    require(lanes == kernels::kLanes || !parameter_gradients, "tape: gradients of parameters need 16 lanes, got 1");
    rewind({});
    images_ = images;
    lanes_ = lanes;
    groups_ = (images + lanes - 1) / lanes;
    mode_ = mode;
    parameter_gradients_ = parameter_gradients;
    shared_ = shared;
    key_ = {};
  }

  std::int64_t images() const { return images_; }
  std::int64_t groups() const { return groups_; }
  int lanes() const { return lanes_; }
  /// Who makes the pass together with this process; null: nobody.
  Communicator* team() const { return shared_.team; }
  std::int64_t images_of_all() const { return shared_.team != nullptr ? shared_.images_of_all : images_; }
  Mode mode() const { return mode_; }
  bool parameter_gradients() const { return parameter_gradients_; }
  const PassKey& key() const { return key_; }
  void set_key(PassKey key) { key_ = key; }
  /// Where the operations note what they compute, as far as they can; null: nowhere.
  Trace<T>* trace() const { return trace_; }
  void set_trace(Trace<T>* trace) { trace_ = trace; }
  Arena& arena() { return arena_; }
  Node& node(Var<T> v) { return nodes_[static_cast<std::size_t>(v.id())]; }
  const Node& node(Var<T> v) const { return nodes_[static_cast<std::size_t>(v.id())]; }
  std::size_t size() const { return nodes_.size(); }

  Mark mark() const { return {nodes_.size(), arena_.mark()}; }
  void rewind(Mark mark) {
    nodes_.resize(mark.nodes);
    arena_.rewind(mark.arena);
    differentiated_ = false;
  }

  /// Calls body(group) for every group, in parallel where there are several.
  template <class Body>
  void each_group(const Body& body) {
    parallel_for(groups_, body);
  }

  /// A value that nothing computed: an input of shape `shape` for one image, uninitialised. `watch`: its gradient is
  /// wanted.
  Var<T> input(Shape shape, bool watch = false) {
    const Var<T> v = append("input", shape, false);
    node(v).needs_gradient = watch;
    return v;
  }

  /// An input whose values lie elsewhere, [group][size][lanes]; they must outlive the pass. Of a single image (one
  /// lane) fifteen elements behind the last may be read: the room must be there.
  Var<T> view(Shape shape, T* values, bool watch = false) {
    Node n;
    n.name = "input";
    n.shape = shape;
    n.size = shape.numel();
    n.value = values;
    n.needs_gradient = watch;
    return push(n);
  }

  /// A parameter as a value; its gradient is added to the parameter's own.
  Var<T> parameter(Parameter<T>& p) {
    Node n;
    n.name = p.name().c_str();
    n.shape = p.shape();
    n.size = p.size();
    n.value = const_cast<T*>(p.value().data());
    n.shared = true;
    n.parameter = &p;
    n.needs_gradient = parameter_gradients_ && p.trainable();
    n.has_gradient = true;
    return push(n);
  }

  /// The value of an operation: allocated, uninitialised, recorded if any of `inputs` needs a gradient.
  Var<T> result(const char* name, Shape shape, std::initializer_list<Var<T>> inputs) {
    require<Error>(!in_backward_, name,
                   ": cannot be recorded during a backward pass; second derivatives are not supported");
    bool needs = false;
    for (const auto& v : inputs) {
      if (v) {
        require<Error>(&v.tape() == this, name, ": its inputs are on different tapes");
        needs = needs || node(v).needs_gradient;
      }
    }
    const Var<T> out = append(name, shape, false);
    node(out).needs_gradient = needs;
    return out;
  }

  bool needs_gradient(Var<T> v) const { return v && node(v).needs_gradient; }

  /// Sets what backward calls for `out`: f(tape). f is copied into the arena, so it captures handles, pointers and
  /// numbers.
  template <class F>
  void on_backward(Var<T> out, const F& f) {
    if (!node(out).needs_gradient) {
      return;
    }
    auto& n = node(out);
    n.closure = arena_.store(f);
    n.backward = [](Tape& tape, const void* closure) { (*static_cast<const F*>(closure))(tape); };
  }

  /// The gradient of an operation's own value, inside its backward.
  const T* gradient(Var<T> v, std::int64_t group = 0) const {
    const auto& n = node(v);
    return n.gradient + (n.shared ? 0 : group * n.size * lanes_);
  }

  /// Where backward adds to the gradient of `v`; for a parameter, the parameter's gradient. `can_mask`: the caller
  /// applies Target::mask.
  Target target(Var<T> v, bool can_mask = false) {
    auto& n = node(v);
    Target t;
    t.accumulate = n.has_gradient;
    if (!n.has_gradient) {
      n.gradient = arena_.template allocate<T>(elements(n));
      n.has_gradient = true;
    }
    if (n.parameter != nullptr) {
      n.gradient = n.parameter->gradient_data();
    }
    t.data = n.gradient;
    if (n.relu && can_mask) {
      t.mask = n.value;
    } else if (n.relu) {
      n.unmasked = true;
    }
    return t;
  }

  /// As `target`, zeroed at first use, for operations that only add.
  T* add_target(Var<T> v) {
    const Target t = target(v);
    if (!t.accumulate) {
      std::memset(static_cast<void*>(t.data), 0, elements(node(v)) * sizeof(T));
    }
    return t.data;
  }

  /// Differentiates `out` (one number for each image, or any shape) with respect to everything watched. `seed`: the
  /// gradient of `out` itself, [group][size][lanes]; without it 1 for every image of the pass and 0 for the lanes
  /// behind the last. May be called again for another output of the same pass; gradients of inputs start afresh, those
  /// of parameters add up.
  void backward(Var<T> out, const T* seed = nullptr) {
    require(needs_gradient(out), "backward: ", node(out).name, " does not depend on anything that is watched");
    require(!node(out).shared, "backward: ", node(out).name, " is a parameter, expected a value with lanes");
    if (differentiated_) {
      arena_.rewind(after_forward_);
    } else {
      after_forward_ = arena_.mark();
      differentiated_ = true;
    }
    for (auto& n : nodes_) {
      if (!n.shared) {
        n.gradient = nullptr;
        n.has_gradient = false;
        n.unmasked = false;
      }
    }
    T* start = target(out).data;
    const std::int64_t size = node(out).size * lanes_;
    if (seed != nullptr) {
      std::memcpy(start, seed, static_cast<std::size_t>(groups_ * size) * sizeof(T));
    } else {
      for (std::int64_t i = 0; i < groups_ * size; ++i) {
        start[i] = i / size * lanes_ + i % lanes_ < images_ ? T{1} : T{0};
      }
    }
    in_backward_ = true;
    struct Reset {
      bool& flag;
      ~Reset() { flag = false; }
    } reset{in_backward_};
    for (std::int32_t id = out.id(); id >= 0; --id) {
      auto& n = nodes_[static_cast<std::size_t>(id)];
      if (n.backward != nullptr && n.has_gradient) {
        n.backward(*this, n.closure);
      }
    }
  }

  /// The gradient of a watched input after `backward`, [size][lanes] of group `group`; null where nothing reached it.
  const T* input_gradient(Var<T> v, std::int64_t group = 0) const {
    const auto& n = node(v);
    require(n.needs_gradient, "gradient: ", n.name, " is not watched");
    return n.has_gradient ? n.gradient + group * n.size * lanes_ : nullptr;
  }

 private:
  Var<T> push(const Node& n) {
    nodes_.push_back(n);
    differentiated_ = false;  // its memory lies behind the gradients of an earlier backward
    return Var<T>(this, static_cast<std::int32_t>(nodes_.size()) - 1);
  }
  Var<T> append(const char* name, Shape shape, bool shared) {
    require<Error>(groups_ > 0 || shared_.team != nullptr, name, ": the tape has no pass; call begin() first");
    Node n;
    n.name = name;
    n.shape = shape;
    n.size = shape.numel();
    n.shared = shared;
    n.value = arena_.template allocate<T>(elements(n));
    return push(n);
  }
  std::size_t elements(const Node& n) const {
    return static_cast<std::size_t>(n.shared ? n.size : groups_ * n.size * lanes_);
  }

  std::vector<Node> nodes_;
  Arena arena_;
  std::int64_t images_ = 0;
  std::int64_t groups_ = 0;
  int lanes_ = kernels::kLanes;
  Mode mode_ = Mode::evaluation;
  bool parameter_gradients_ = false;
  bool in_backward_ = false;
  bool differentiated_ = false;
  Arena::Mark after_forward_;
  SharedPass shared_;
  PassKey key_;
  Trace<T>* trace_ = nullptr;
};

/// Takes the tape back to where it was, at the end of a block: one step of an attack.
template <class T>
class TapeScope {
 public:
  explicit TapeScope(Tape<T>& tape) : tape_(tape), mark_(tape.mark()) {}
  TapeScope(const TapeScope&) = delete;
  TapeScope& operator=(const TapeScope&) = delete;
  ~TapeScope() { tape_.rewind(mark_); }

 private:
  Tape<T>& tape_;
  typename Tape<T>::Mark mark_;
};

/// The calling thread's own tape, for depth-first passes. Whoever uses it begins a pass and is done before another
/// begins.
template <class T>
Tape<T>& thread_tape() {
  thread_local Tape<T> tape;
  return tape;
}

/// An operation of the user's own with an output of shape `shape`; see `pointwise`.
template <class T, class Forward, class Backward>
Var<T> custom(const char* name, Var<T> x, Shape shape, Forward forward, Backward backward) {
  auto& tape = x.tape();
  Var<T> y = tape.result(name, shape, {x});
  const auto nx = static_cast<std::size_t>(x.size() * tape.lanes());
  const auto ny = static_cast<std::size_t>(y.size() * tape.lanes());
  tape.each_group([&](std::int64_t g) { forward(std::span<const T>(x.data(g), nx), std::span<T>(y.data(g), ny)); });
  tape.on_backward(y, [=](Tape<T>& t) {
    T* dx = t.add_target(x);
    t.each_group([&](std::int64_t g) {
      backward(std::span<const T>(x.data(g), nx), std::span<const T>(y.data(g), ny),
               std::span<const T>(t.gradient(y, g), ny), std::span<T>(dx + static_cast<std::size_t>(g) * nx, nx));
    });
  });
  return y;
}

/// An operation of the user's own: the same shape in and out. forward(x, y) and backward(x, y, dy, dx) get one group's
/// values as spans of size*lanes elements; backward ADDS to dx.
///
///   auto square = [](Var<float> x) {
///     return pointwise("square", x,
///       [](auto x, auto y) { for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * x[i]; },
///       [](auto x, auto, auto dy, auto dx) { for (std::size_t i = 0; i < x.size(); ++i) dx[i] += 2 * x[i] * dy[i]; });
///   };
template <class T, class Forward, class Backward>
Var<T> pointwise(const char* name, Var<T> x, Forward forward, Backward backward) {
  return custom(name, x, x.shape(), forward, backward);
}

/// Notes that y = what() of the inputs, one or two, where a trace is made.
template <class T, class What>
void trace_function(Var<T> y, std::initializer_list<Var<T>> inputs, const What& what) {
  if (auto* trace = y.tape().trace()) {
    const auto* second = inputs.begin() + 1;
    trace->push_back({.kind = TracedOperation<T>::Kind::function,
                      .output = y.id(),
                      .inputs = {inputs.begin()->id(), second != inputs.end() ? second->id() : -1},
                      .what = std::make_shared<const traced::Function>(what())});
  }
}

}  // namespace pavise

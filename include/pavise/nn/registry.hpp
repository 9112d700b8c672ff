// SPDX-License-Identifier: MIT
// All of the library's layers, by type, and models made from specs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "pavise/nn/activations.hpp"
#include "pavise/nn/linear.hpp"
#include "pavise/nn/misc.hpp"
#include "pavise/nn/model.hpp"
#include "pavise/nn/norm.hpp"
#include "pavise/nn/pooling.hpp"
#include "pavise/nn/residual.hpp"
#include "pavise/nn/spec.hpp"

namespace pavise::nn {

namespace detail {

/// Options that convolutions share. They are read in this order, so that messages name the first that is wrong.
inline ConvOptions conv_options(SpecReader& o) {
  ConvOptions out;
  out.stride = o.integer("stride", 1);
  out.padding = o.integer("padding", 0);
  out.dilation = o.integer("dilation", 1);
  out.groups = o.integer("groups", 1);
  return out;
}

template <class T>
void add_weight_layers(LayerRegistry<T>& r) {
  r.add("conv2d", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    const ConvOptions options = conv_options(o);
    return std::make_unique<Conv2d<T>>(o.integer("in"), o.integer("out"), o.integer("kernel"), options,
                                       o.flag("bias", true), init_named(o.text("init", "torch")));
  });
  r.add("conv_transpose2d", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    ConvOptions options = conv_options(o);
    options.output_padding = o.integer("output_padding", 0);
    return std::make_unique<ConvTranspose2d<T>>(o.integer("in"), o.integer("out"), o.integer("kernel"), options,
                                                o.flag("bias", true), init_named(o.text("init", "torch")));
  });
  r.add("linear", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<Linear<T>>(o.integer("in"), o.integer("out"), o.flag("bias", true),
                                       init_named(o.text("init", "torch")));
  });
  r.add("basic_block", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<BasicBlock<T>>(o.integer("in"), o.integer("out"), o.integer("stride", 1),
                                           init_named(o.text("init", "torch")));
  });
  r.add("preact_block", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<PreActBlock<T>>(o.integer("in"), o.integer("out"), o.integer("stride", 1),
                                            init_named(o.text("init", "torch")));
  });
}

template <class T>
void add_norm_layers(LayerRegistry<T>& r) {
  r.add("batch_norm2d", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    BatchNormOptions options;
    options.momentum = o.number("momentum", options.momentum);
    options.epsilon = o.number("epsilon", options.epsilon);
    return std::make_unique<BatchNorm2d<T>>(o.integer("channels"), options);
  });
  r.add("group_norm", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<GroupNorm<T>>(o.integer("groups"), o.integer("channels"), o.number("epsilon", 1e-5));
  });
  r.add("layer_norm", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<LayerNorm<T>>(o.number("epsilon", 1e-5));
  });
  r.add("normalize", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<Normalize<T>>(o.numbers("mean"), o.numbers("std"));
  });
}

template <class T, template <class> class L>
void add_plain(LayerRegistry<T>& r, const char* type) {
  r.add(type,
        [](SpecReader&, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> { return std::make_unique<L<T>>(); });
}

template <class T>
void add_plain_layers(LayerRegistry<T>& r) {
  add_plain<T, ReLU>(r, "relu");
  add_plain<T, GELU>(r, "gelu");
  add_plain<T, SiLU>(r, "silu");
  add_plain<T, Sigmoid>(r, "sigmoid");
  add_plain<T, Tanh>(r, "tanh");
  add_plain<T, Softplus>(r, "softplus");
  add_plain<T, Flatten>(r, "flatten");
  add_plain<T, GlobalAvgPool>(r, "global_avg_pool");
  add_plain<T, GlobalMaxPool>(r, "global_max_pool");
  r.add("leaky_relu", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<LeakyReLU<T>>(o.number("slope", 0.01));
  });
  r.add("elu", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<ELU<T>>(o.number("alpha", 1.0));
  });
  r.add("dropout", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<Dropout<T>>(o.number("rate", 0.5));
  });
  r.add("temperature", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<Temperature<T>>(o.number("temperature"));
  });
  r.add("max_pool2d", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<MaxPool2d<T>>(PoolOptions{.kernel = o.integer("kernel"),
                                                      .stride = o.integer("stride", 0),
                                                      .padding = o.integer("padding", 0),
                                                      .dilation = o.integer("dilation", 1)});
  });
  r.add("avg_pool2d", [](SpecReader& o, const LayerRegistry<T>&) -> std::unique_ptr<Layer<T>> {
    return std::make_unique<AvgPool2d<T>>(PoolOptions{.kernel = o.integer("kernel"),
                                                      .stride = o.integer("stride", 0),
                                                      .padding = o.integer("padding", 0),
                                                      .count_include_pad = o.flag("include_padding", true)});
  });
}

}  // namespace detail

/// The registry that models are made from where none is given: all of the library's layers, and what a program adds.
template <class T>
LayerRegistry<T>& layer_registry() {
  static LayerRegistry<T>& registry = *[] {
    static LayerRegistry<T> r;
    detail::add_weight_layers(r);
    detail::add_norm_layers(r);
    detail::add_plain_layers(r);
    r.add("sequential", [](SpecReader& o, const LayerRegistry<T>& inner) -> std::unique_ptr<Layer<T>> {
      auto out = std::make_unique<Sequential<T>>();
      for (const Spec& child : o.children()) {
        require(!child.name.empty(), "sequential: the layer (", child.type, ") has no name");
        out->add(child.name, inner.make(child));
      }
      return out;
    });
    return &r;
  }();
  return registry;
}

/// The network of a spec, which must be of type "sequential"; ValueError where the spec does not make one.
template <class T>
std::unique_ptr<Sequential<T>> make_net(const Spec& spec, const LayerRegistry<T>& registry = layer_registry<T>()) {
  require(spec.type == "sequential", "model: the network is of type ", spec.type, ", expected sequential");
  auto layer = registry.make(spec);
  auto* net = dynamic_cast<Sequential<T>*>(layer.get());
  require(net != nullptr, "model: the registry's sequential is another layer");
  layer.release();  // NOLINT(bugprone-unused-return-value): net owns it now
  return std::unique_ptr<Sequential<T>>(net);
}

/// A copy of a model with memory of its own, in another precision where asked for: clone<double>(model). Weights and
/// buffers are copied; gradients are zero. ValueError where a layer's type is not in the registry.
template <class U, class T>
BasicModel<U> clone(const BasicModel<T>& model, const LayerRegistry<U>& registry) {
  BasicModel<U> out(model.name(), make_net<U>(model.net().spec(), registry), model.input_shape(), model.seed());
  const auto from = std::as_const(model.parameters()).state();
  const auto to = out.parameters().edit_state();
  require<Error>(from.size() == to.size(), "clone: model ", model.name(),
                 " was made with other parameters than its spec says");
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] = static_cast<U>(from[i]);
  }
  return out;
}
template <class U, class T>
BasicModel<U> clone(const BasicModel<T>& model) {
  return clone<U>(model, layer_registry<U>());
}
template <class T>
BasicModel<T> clone(const BasicModel<T>& model) {
  return clone<T>(model, layer_registry<T>());
}

}  // namespace pavise::nn

// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <utility>

#include "pavise/core/error.hpp"
#include "pavise/defend/filter/filter.hpp"
#include "pavise/nn/registry.hpp"

namespace pavise::defend {

/// `model` with the filters as its first layers, so that one file holds both. `model` was built for what the filters
/// make of images of shape `input`; its weights are copied. The registry of layers
/// must know filters (register_filters); ValueError otherwise.
template <class T>
nn::BasicModel<T> with_filters(const FilterList<T>& filters, const nn::BasicModel<T>& model, const Shape& input) {
  nn::Spec spec = model.net().spec();
  const auto first = filters.specs();
  spec.children.insert(spec.children.begin(), first.begin(), first.end());
  nn::BasicModel<T> out(model.name(), nn::make_net<T>(spec), input, model.seed());
  const auto from = std::as_const(model.parameters()).state();
  const auto to = out.parameters().edit_state();
  require<Error>(from.size() == to.size(), "with_filters: model ", model.name(),
                 " was made with other parameters than its spec says");
  std::copy(from.begin(), from.end(), to.begin());
  return out;
}

}  // namespace pavise::defend

// SPDX-License-Identifier: MIT
// Base classifiers made of others.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/classifier.hpp"
#include "pavise/autodiff/broadcast.hpp"
#include "pavise/core/error.hpp"

namespace pavise::certify {

/// The classifier whose logits are the sum of its members' (Horvath et al., "Boosting randomized smoothing with variance
/// reduced classifiers", ICLR 2022, up to a factor that no arg-max sees). The members' models must outlive it. Throws
/// ValueError for none, ShapeError where images or classes differ.
inline attack::Classifier ensemble(std::vector<attack::Classifier> members) {
  require(!members.empty(), "ensemble: no members, expected 1 or more");
  const attack::Classifier& first = members.front();
  std::string name = "ensemble(" + first.name();
  nn::Declaration declaration = first.declaration();
  for (std::size_t i = 1; i < members.size(); ++i) {
    const attack::Classifier& m = members[i];
    require<ShapeError>(m.input_shape() == first.input_shape() && m.classes() == first.classes(),
                        "ensemble: ", m.name(), " takes images of ", m.input_shape(), " to ", m.classes(), " classes, ",
                        first.name(), " ", first.input_shape(), " to ", first.classes());
    name += ", " + m.name();
    declaration.random = declaration.random || m.declaration().random;
    declaration.differentiable = declaration.differentiable && m.declaration().differentiable;
    declaration.rejects = declaration.rejects || m.declaration().rejects;
  }
  const Shape input = first.input_shape();
  const std::int32_t classes = first.classes();
  auto logits = [members = std::move(members)](Var<float> x) {
    Var<float> sum = members.front()(x);
    for (std::size_t i = 1; i < members.size(); ++i) {
      sum = sum + members[i](x);
    }
    return sum;
  };
  return {name + ")", input, classes, std::move(logits), declaration};
}

/// The classifier of what a denoiser, from (C,H,W) to (C,H,W) and a function of the image alone, makes of an image
/// (Salman et al., "Denoised smoothing", NeurIPS 2020). Both must outlive it.
inline attack::Classifier denoised(std::function<Var<float>(Var<float>)> denoiser, const attack::Classifier& base) {
  auto logits = [denoiser = std::move(denoiser), base](Var<float> x) { return base(denoiser(x)); };
  return {concat("denoised(", base.name(), ")"), base.input_shape(), base.classes(), std::move(logits),
          base.declaration()};
}

}  // namespace pavise::certify

// SPDX-License-Identifier: MIT
// Filters in front of a model:
//
//   auto pipeline = defend::BitDepth<float>(4) | defend::Median<float>(2) | model;
//   auto report = evaluate::robustness(pipeline, test, attack::linf(0.1));
#pragma once

#include <string>
#include <utility>

#include "pavise/attack/classifier.hpp"
#include "pavise/defend/filter/filter.hpp"

namespace pavise::defend {

/// A model behind filters of its input: logits of model(filters(x)). It is a classifier by conversion, which declares
/// what filters and model say together: so an evaluation draws a random filter's expectation, and knows that the
/// backward pass of another one is a substitute. A light value that refers to the model: keep the model alive.
class Pipeline {
 public:
  /// `input`: the images' shape, where the filters do not tell it from the model's. Throws ShapeError where the filters
  /// make something else of such images than the model expects.
  Pipeline(FilterList<float> filters, attack::Classifier model)
      : Pipeline(filters, model, filters.input_shape(model.input_shape())) {}
  Pipeline(FilterList<float> filters, attack::Classifier model, Shape input)
      : filters_(std::move(filters)), model_(std::move(model)), input_(input) {
    const Shape out = filters_.output_shape(input_);
    require<ShapeError>(out == model_.input_shape(), "pipeline ", to_string(), ": the filters make ", out,
                        " of images of ", input_, ", the model expects ", model_.input_shape());
  }

  const FilterList<float>& filters() const { return filters_; }
  /// What stands behind the filters.
  const attack::Classifier& model() const { return model_; }
  const Shape& input_shape() const { return input_; }

  /// "jpeg:75 | bit-depth:4 | small-cnn"
  std::string to_string() const { return concat(filters_.to_string(), filters_.empty() ? "" : " | ", model_.name()); }

  Var<float> operator()(Var<float> x) const { return model_(filters_(x)); }

  operator attack::Classifier() const {  // NOLINT(google-explicit-constructor): a pipeline is a classifier
    return attack::Classifier(
               to_string(), input_, model_.classes(),
               [filters = filters_, model = model_](Var<float> x) { return model(filters(x)); },
               nn::together(filters_.declaration(), model_.declaration()))
        .with_draws(model_.draws(), model_.repeats_draws())
        .with_mean(model_.mean());
  }

 private:
  FilterList<float> filters_;
  attack::Classifier model_;
  Shape input_;
};

/// a, then b.
template <FilterOf<float> A, FilterOf<float> B>
FilterList<float> operator|(const A& a, const B& b) {
  FilterList<float> out;
  out.add(a);
  out.add(b);
  return out;
}
template <FilterOf<float> B>
FilterList<float> operator|(FilterList<float> list, const B& b) {
  list.add(b);
  return list;
}
/// The filters in front of a model.
inline Pipeline operator|(FilterList<float> list, attack::Classifier model) {
  return {std::move(list), std::move(model)};
}
template <FilterOf<float> A>
Pipeline operator|(const A& a, attack::Classifier model) {
  FilterList<float> list;
  list.add(a);
  return {std::move(list), std::move(model)};
}

}  // namespace pavise::defend

// SPDX-License-Identifier: MIT
// Filters of images in front of a model. A filter is a layer: it can stand within a model, and a model file holds it
// (catalog.hpp registers filters by their text); or in front of one that knows nothing of it (pipeline.hpp).
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pavise/nn/layer.hpp"

namespace pavise::defend {

/// A filter of images (C,H,W) of any size, with pixels in [0,1]. It has no parameters, is a value that can be copied,
/// and can be applied without being built, by many threads at a time; `build` gives one that draws random numbers
/// numbers of its own. In its backward pass it has its derivative, or a substitute: `declaration` says which.
template <class T>
class Filter : public nn::Layer<T> {
 public:
  Filter() = default;
  Filter(const Filter& other) : nn::Layer<T>(), layer_(other.layer_) {}

  /// The filter as `make_filter` reads it: "median:2".
  virtual std::string text() const = 0;
  /// Of (C,H,W), on the tape.
  virtual Var<T> apply(Var<T> x) const = 0;
  /// The shape behind it, of images of shape `in`; ShapeError for what is no image.
  virtual Shape output_shape(const Shape& in) const {
    require<ShapeError>(in.rank() == 3 && in.numel() > 0, "filter ", text(), ": images are (C,H,W), got ", in);
    return in;
  }
  /// The shape of the images that it makes images of shape `out` from; ValueError where that is not determined.
  virtual Shape input_shape(const Shape& out) const { return out; }

  /// Its random numbers become those of the layer `name`.
  void key_by(const std::string& name) { layer_ = nn::layer_number(name); }

  Shape build(const Shape& in, ParameterStore<T>&, const std::string& name) override {
    key_by(name);
    return output_shape(in);
  }
  Var<T> forward(Var<T> x, bool) override { return apply(x); }
  nn::Spec spec() const override { return {.name = "", .type = "filter", .options = {{"is", text()}}, .children = {}}; }

 protected:
  /// What keys the random numbers of this filter, beside the pass's own key.
  std::uint32_t layer() const { return layer_; }

 private:
  std::uint32_t layer_ = 0;
};

template <class F, class T>
concept FilterOf = std::derived_from<F, Filter<T>>;

namespace detail {

/// Its backward pass is a substitute.
inline nn::Declaration substituted() {
  nn::Declaration d;
  d.differentiable = false;
  return d;
}
/// It draws random numbers in every pass.
inline nn::Declaration drawn() {
  nn::Declaration d;
  d.random = true;
  return d;
}

}  // namespace detail

/// Filters one after another, the first one first. A light value: copies share the filters.
template <class T>
class FilterList {
 public:
  FilterList() = default;

  /// Appends a filter; ValueError for none. Each is keyed by its place, so that two that are alike draw different
  /// numbers.
  void add(std::unique_ptr<Filter<T>> filter) {
    require(filter != nullptr, "filters: no filter, expected one");
    filter->key_by(layer_name(filters_.size()));
    filters_.push_back(std::move(filter));
  }
  template <FilterOf<T> F>
  void add(const F& filter) {
    add(std::make_unique<F>(filter));
  }

  std::size_t size() const { return filters_.size(); }
  bool empty() const { return filters_.empty(); }
  const Filter<T>& operator[](std::size_t i) const { return *filters_[i]; }

  Var<T> operator()(Var<T> x) const {
    for (const auto& f : filters_) {
      f->output_shape(x.shape());
      x = f->apply(x);
    }
    return x;
  }

  Shape output_shape(Shape in) const {
    for (const auto& f : filters_) {
      in = f->output_shape(in);
    }
    return in;
  }
  Shape input_shape(Shape out) const {
    for (auto f = filters_.rbegin(); f != filters_.rend(); ++f) {
      out = (*f)->input_shape(out);
    }
    return out;
  }

  nn::Declaration declaration() const {
    nn::Declaration all;
    for (const auto& f : filters_) {
      all = nn::together(all, f->declaration());
    }
    return all;
  }

  /// "jpeg:75 | bit-depth:4"
  std::string to_string() const {
    std::string out;
    for (const auto& f : filters_) {
      out += (out.empty() ? "" : " | ") + f->text();
    }
    return out;
  }

  /// The filters as layers "filter1", "filter2", ... of a model.
  std::vector<nn::Spec> specs() const {
    std::vector<nn::Spec> out;
    for (const auto& f : filters_) {
      out.push_back(f->spec());
      out.back().name = layer_name(out.size() - 1);
    }
    return out;
  }

 private:
  static std::string layer_name(std::size_t place) { return concat("filter", place + 1); }

  std::vector<std::shared_ptr<const Filter<T>>> filters_;
};

}  // namespace pavise::defend

// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "pavise/attack/accelerator.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/core/error.hpp"
#include "pavise/nn/model.hpp"

namespace pavise::attack {

/// What a query makes of several draws of a classifier's random numbers.
enum class Mean {
  loss,     ///< the mean of the draws' losses: expectation over transformations (Athalye et al. 2018)
  softmax,  ///< the loss of their mean softmax: that of a smoothed classifier (Salman et al. 2019)
};

/// A classifier as attacks and evaluations see it: logits of an image, and what the defence inside says of itself. It
/// is a light value that refers to its model: keep the model alive.
///
/// A model is one by itself, through conversion. Anything else is one by a function from images to logits on a tape,
/// which several threads may call at a time: two models averaged, a filter in front of a model, an oracle without
/// gradients written as a `custom` operation.
class Classifier {
 public:
  using Logits = std::function<Var<float>(Var<float> x)>;

  Classifier(const nn::Model& model)  // NOLINT(google-explicit-constructor): a model is a classifier
      : name_(model.name()),
        input_(model.input_shape()),
        classes_(model.classes() - (model.net().declaration().rejection_output ? 1 : 0)),
        logits_([&model](Var<float> x) { return model(x); }),
        declaration_(model.net().declaration()) {}

  /// `logits`: from (C,H,W) = `input` to (classes), and one number more where `declaration` has a rejection output.
  /// `declaration`: whether it draws random numbers, and so on.
  Classifier(std::string name, Shape input, std::int32_t classes, Logits logits, nn::Declaration declaration = {})
      : name_(std::move(name)),
        input_(input),
        classes_(classes),
        logits_(std::move(logits)),
        declaration_(declaration) {
    require(classes >= 2, "classifier ", name_, ": ", classes, " classes, expected 2 or more");
  }

  const std::string& name() const { return name_; }
  Classifier with_name(std::string name) const {
    Classifier other = *this;
    other.name_ = std::move(name);
    return other;
  }
  const Shape& input_shape() const { return input_; }
  std::int32_t classes() const { return classes_; }
  const nn::Declaration& declaration() const { return declaration_; }

  /// What the function gives for x: the logits, and behind them the rejection output where there is one. Attacks ask
  /// by `query`, which counts a refused image as right.
  Var<float> operator()(Var<float> x) const {
    const Var<float> y = logits_(x);
    const Shape expected{classes_ + (declaration_.rejection_output ? 1 : 0)};
    require<ShapeError>(y.shape() == expected, "classifier ", name_, ": gives ", y.shape(), ", expected ", expected);
    return y;
  }

  /// How many draws of its random numbers an attack averages for each query (expectation over transformations,
  /// Athalye et al. 2018); 1 for a classifier without any.
  std::int64_t draws() const { return draws_; }
  /// Whether all queries of an attack on an image share their draws; otherwise every query draws anew.
  bool repeats_draws() const { return repeats_draws_; }
  Classifier with_draws(std::int64_t draws, bool repeated = false) const {
    require(draws >= 1, "classifier ", name_, ": ", draws, " draws for a query, expected 1 or more");
    Classifier other = *this;
    other.draws_ = draws;
    other.repeats_draws_ = repeated;
    return other;
  }

  /// The mean that a query takes of them.
  Mean mean() const { return mean_; }
  Classifier with_mean(Mean mean) const {
    require(mean == Mean::loss || !declaration_.rejection_output, "classifier ", name_,
            ": refuses inputs, and a mean softmax of refusals is not defined, expected Mean::loss");
    Classifier other = *this;
    other.mean_ = mean;
    return other;
  }

  /// The device that holds the model, where one does and a query asks it once.
  Accelerator* accelerator() const { return draws_ == 1 && !repeats_draws_ ? accelerator_.get() : nullptr; }
  Classifier with_accelerator(std::shared_ptr<Accelerator> accelerator) const {
    Classifier other = *this;
    other.accelerator_ = std::move(accelerator);
    return other;
  }

 private:
  std::string name_;
  Shape input_;
  std::int32_t classes_;
  Logits logits_;
  nn::Declaration declaration_;
  std::int64_t draws_ = 1;
  bool repeats_draws_ = false;
  Mean mean_ = Mean::loss;
  std::shared_ptr<Accelerator> accelerator_;
};

}  // namespace pavise::attack

// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "pavise/core/error.hpp"
#include "pavise/report/progress.hpp"
#include "pavise/report/text.hpp"

namespace pavise::report {

/// A progress bar for each epoch of a training run: give it to a trainer as its progress callback. Called with anything
/// that has the members of defend::Progress. Copies share the bar.
class TrainingProgress {
 public:
  explicit TrainingProgress(ProgressOptions options = {}) : state_(std::make_shared<State>(std::move(options))) {}

  template <class Progress>
  void operator()(const Progress& p) const {
    State& s = *state_;
    if (s.bar == nullptr) {
      s.bar = std::make_unique<ProgressBar>(concat(p.name, " epoch ", p.epoch + 1, "/", p.epochs), p.images_of_epoch,
                                            s.options);
      s.bar->advance(p.images_done - p.images);  // a run that goes on in the middle of an epoch
    }
    s.bar->advance(p.images);
    s.bar->note("loss " + fixed(p.loss, 3) + ", accuracy " + fixed(100.0 * p.accuracy, 1) + " %");
    if (p.images_done >= p.images_of_epoch) {
      s.bar->finish();
      s.bar.reset();
    }
  }

 private:
  struct State {
    explicit State(ProgressOptions o) : options(std::move(o)) {}
    ProgressOptions options;
    std::unique_ptr<ProgressBar> bar;
  };
  std::shared_ptr<State> state_;
};

/// Progress bars for a training run, on standard error unless the options say otherwise.
inline TrainingProgress progress(ProgressOptions options = {}) { return TrainingProgress(std::move(options)); }

}  // namespace pavise::report

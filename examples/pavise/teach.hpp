// SPDX-License-Identifier: MIT
// Defensive distillation, as `train` and `distill` do it: a teacher, its soft labels, a student.
#pragma once

#include <memory>
#include <string>

#include "pavise/data/dataset.hpp"
#include "pavise/defend/distillation.hpp"
#include "pavise/defend/standard.hpp"
#include "pavise/defend/trainer.hpp"
#include "pavise/nn/models.hpp"

namespace pavise::program {

struct Taught {
  nn::Model teacher;
  nn::Model student;
  defend::History history;  ///< of the student
};

/// Trains a teacher on hard labels and a student on its soft ones, both at `model.temperature`. The student begins from
/// weights of its own.
inline Taught teach(const std::string& teacher_name, const std::string& student_name, nn::ModelOptions model,
                    const data::Dataset& train, const defend::TrainOptions& options) {
  nn::Model teacher = nn::make_model(teacher_name, model);
  defend::TrainOptions teacher_options = options;
  if (!options.checkpoint.empty()) {
    teacher_options.checkpoint = options.checkpoint + ".teacher";
  }
  defend::Trainer(std::make_shared<defend::Standard>(), teacher_options).fit(teacher, train);
  ++model.seed;
  nn::Model student = nn::make_model(student_name, model);
  auto labels = defend::soft_labels(teacher, train, model.temperature);
  defend::Trainer trainer(std::make_shared<defend::Distillation>(std::move(labels)), options);
  defend::History history = trainer.fit(student, train);
  return {std::move(teacher), std::move(student), std::move(history)};
}

}  // namespace pavise::program

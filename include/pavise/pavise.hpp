// SPDX-License-Identifier: MIT
// What most programs need. Opted into, since it needs another library: io/safetensors.hpp and io/model_file.hpp
// (nlohmann-json), data/image_folder.hpp and data/catalog.hpp (stb_image), report/html.hpp (nlohmann-json); and, to keep
// programs quick to compile: defend/defend.hpp (all defences by name), data/cifar.hpp, data/npy.hpp.
#pragma once

#include "pavise/attack/attack.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/attack/threat.hpp"
#include "pavise/autodiff/autodiff.hpp"
#include "pavise/core/random.hpp"
#include "pavise/core/version.hpp"
#include "pavise/data/idx.hpp"
#include "pavise/data/label_noise.hpp"
#include "pavise/data/loader.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/defend/adversarial_training.hpp"
#include "pavise/evaluate/interval.hpp"
#include "pavise/nn/models.hpp"
#include "pavise/optim/optimizer.hpp"
#include "pavise/optim/schedule.hpp"
#include "pavise/report/training_progress.hpp"

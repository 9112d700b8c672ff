// SPDX-License-Identifier: MIT
// Images as files that other programs read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/data/dataset.hpp"

namespace pavise::program {

/// Makes the directory, before the attack's work.
void prepare_export(const std::string& directory);

/// Writes clean.npy and adversarial.npy (N,C,H,W) float32, labels.npy and predictions.npy (N) int32, and of the first
/// `pictures` images, grey or colour, PNG files named by their index in the test set. `labels`: the images' own.
void export_images(const std::string& directory, const data::Dataset& clean, const attack::Result& result,
                   const std::vector<std::int32_t>& labels, std::int64_t pictures);

}  // namespace pavise::program

// SPDX-License-Identifier: MIT
// Defences by training: the trainer, its strategies, and their presets by name.
#pragma once

#include "pavise/defend/adversarial.hpp"
#include "pavise/defend/adversarial_training.hpp"
#include "pavise/defend/awp.hpp"
#include "pavise/defend/batch.hpp"
#include "pavise/defend/fast.hpp"
#include "pavise/defend/free.hpp"
#include "pavise/defend/mart.hpp"
#include "pavise/defend/presets.hpp"
#include "pavise/defend/standard.hpp"
#include "pavise/defend/trades.hpp"
#include "pavise/defend/trainer.hpp"

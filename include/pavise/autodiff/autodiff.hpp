// SPDX-License-Identifier: MIT
// All of the autodiff floor: the tape and the operations on it.
#pragma once

#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/elementwise.hpp"
#include "pavise/autodiff/linear.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/autodiff/parameter.hpp"
#include "pavise/autodiff/tape.hpp"

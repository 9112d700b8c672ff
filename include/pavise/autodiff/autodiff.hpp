// SPDX-License-Identifier: MIT
// All of the autodiff floor: the tape and the operations on it.
#pragma once

#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/dropout.hpp"
#include "pavise/autodiff/elementwise.hpp"
#include "pavise/autodiff/linear.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/autodiff/matmul.hpp"
#include "pavise/autodiff/norm.hpp"
#include "pavise/autodiff/parameter.hpp"
#include "pavise/autodiff/pool.hpp"
#include "pavise/autodiff/reduce.hpp"
#include "pavise/autodiff/shape_ops.hpp"
#include "pavise/autodiff/softmax.hpp"
#include "pavise/autodiff/tape.hpp"

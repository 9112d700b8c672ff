// SPDX-License-Identifier: MIT
// Linked to test programs with PAVISE_TEST_THREADS: their loops run on threads of the standard library, which the thread
// sanitizer sees through.
#include "pavise/core/thread_loops.hpp"

namespace {

[[maybe_unused]] const bool kStandardThreads = [] {
  pavise::use_standard_threads();
  return true;
}();

}  // namespace

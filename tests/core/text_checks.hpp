// SPDX-License-Identifier: MIT
// What tests of messages and pages share.
#pragma once

#include <string>
#include <string_view>

#include "pavise/core/error.hpp"

namespace pavise_test {

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// The message of the error of type Expected that `f` throws. Any other exception escapes.
template <class Expected = pavise::Error, class F>
std::string refusal(const F& f) {
  try {
    f();
  } catch (const Expected& error) {
    return error.what();
  }
  return "nothing was refused";
}

}  // namespace pavise_test

// SPDX-License-Identifier: MIT
// JSON that others wrote, within limits. Opt-in: includes nlohmann-json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "pavise/io/file.hpp"

namespace pavise::io {

/// The deepest nesting that is read. Values are copied, compared and written by recursion: a file of nothing but '['
/// would take the stack.
inline constexpr int kMaxJsonDepth = 32;

/// The value that `text` says, with at most `max_keys` names of members in all (an ordered object looks through all of
/// its names for each new one). Throws IoError, naming `path` and the byte, where it is not JSON or goes beyond a limit.
/// Memory: at most 64 times the text.
template <class Json = nlohmann::json>
Json parse_json(std::string_view text, const std::string& path,
                std::size_t max_keys = std::numeric_limits<std::size_t>::max()) {
  std::size_t keys = 0;
  const auto within = [&](int depth, nlohmann::json::parse_event_t event, const Json&) {
    require<IoError>(depth <= kMaxJsonDepth, path, ": JSON: nested deeper than ", kMaxJsonDepth, " levels");
    keys += event == nlohmann::json::parse_event_t::key ? 1 : 0;
    require<IoError>(keys <= max_keys, path, ": JSON: more than ", max_keys, " members");
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), within);
  } catch (const nlohmann::json::parse_error& error) {
    fail_at(path, error.byte, "not JSON: ", std::string_view(error.what()).substr(0, 200));  // it quotes what it read
  } catch (const nlohmann::json::exception& error) {  // a number that no double holds
    throw IoError(concat(path, ": not JSON: ", std::string_view(error.what()).substr(0, 200)));
  }
}

}  // namespace pavise::io

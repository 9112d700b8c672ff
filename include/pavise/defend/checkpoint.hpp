// SPDX-License-Identifier: MIT
// The file of a checkpoint: "PAVISECK", version, size and CRC-32 of the state, then the state itself.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/defend/state.hpp"
#include "pavise/io/file.hpp"

namespace pavise::defend {

inline constexpr std::uint32_t kCheckpointVersion = 1;

namespace detail {

inline constexpr char kCheckpointMagic[] = "PAVISECK";
inline constexpr std::size_t kCheckpointHeader = 24;  // magic 8, version 4, CRC 4, size 8

/// CRC-32 of `bytes`, as zlib has it.
inline std::uint32_t checksum(std::span<const std::uint8_t> bytes) {
  return static_cast<std::uint32_t>(::crc32_z(::crc32_z(0, nullptr, 0), bytes.data(), bytes.size()));
}

/// The first lines in which two configurations differ, in words.
inline std::string first_difference(std::string_view stored, std::string_view wanted) {
  const auto line = [](std::string_view& text) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto out = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return out;
  };
  while (!stored.empty() || !wanted.empty()) {
    const auto a = line(stored);
    const auto b = line(wanted);
    if (a != b) {
      return concat("it has \"", a, "\", this run has \"", b, "\"");
    }
  }
  return "";
}

}  // namespace detail

/// Writes a checkpoint in one step: whoever opens `path`, also after a crash, finds the old file or the new one, whole.
inline void write_checkpoint(const std::string& path, std::span<const std::uint8_t> state) {
  std::vector<std::uint8_t> file(detail::kCheckpointHeader + state.size());
  const std::uint32_t crc = detail::checksum(state);
  const std::uint64_t size = state.size();
  std::memcpy(file.data(), detail::kCheckpointMagic, 8);
  std::memcpy(file.data() + 8, &kCheckpointVersion, 4);
  std::memcpy(file.data() + 12, &crc, 4);
  std::memcpy(file.data() + 16, &size, 8);
  std::copy(state.begin(), state.end(), file.begin() + detail::kCheckpointHeader);
  io::write_atomically(path, std::span<const std::uint8_t>(file));
}

/// The state in the checkpoint at `path`. Throws IoError where the file is not a checkpoint, of another version,
/// truncated or corrupt.
inline std::vector<std::uint8_t> read_checkpoint(const std::string& path) {
  auto file = io::read_file(path);
  io::require_at(file.size() >= detail::kCheckpointHeader && std::memcmp(file.data(), detail::kCheckpointMagic, 8) == 0,
                 path, 0, "not a checkpoint of a training run");
  std::uint32_t version = 0;
  std::uint32_t crc = 0;
  std::uint64_t size = 0;
  std::memcpy(&version, file.data() + 8, 4);
  std::memcpy(&crc, file.data() + 12, 4);
  std::memcpy(&size, file.data() + 16, 8);
  io::require_at(version == kCheckpointVersion, path, 8, "a checkpoint of version ", version, ", expected ",
                 kCheckpointVersion);
  const std::uint64_t got = file.size() - detail::kCheckpointHeader;
  io::require_at(size == got, path, 16, "the checkpoint is truncated or longer than it says: ", got,
                 " bytes of state, not ", size);
  file.erase(file.begin(), file.begin() + detail::kCheckpointHeader);
  io::require_at(detail::checksum(file) == crc, path, 12, "the checkpoint is corrupt: its checksum does not match");
  return file;
}

}  // namespace pavise::defend

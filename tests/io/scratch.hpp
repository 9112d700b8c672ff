// SPDX-License-Identifier: MIT
// What the tests of file readers share: a scratch directory, and files that are cut short or damaged on purpose.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/text_checks.hpp"
#include "pavise/core/error.hpp"
#include "pavise/core/philox.hpp"

namespace pavise_test {

using Bytes = std::vector<std::uint8_t>;

/// A directory of its own, removed at the end of the scope.
class Scratch {
 public:
  Scratch() {
    static int count = 0;
    // Thousands of damaged files are written: in memory, where there is such a place.
    const bool memory = ::access("/dev/shm", W_OK) == 0;
    path_ = (memory ? std::filesystem::path("/dev/shm") : std::filesystem::temp_directory_path()) /
            ("pavise-test-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }
  /// Names of all that is in it.
  std::size_t entries() const {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path_)) {
      ++n;
    }
    return n;
  }
  /// Writes a file, with the folders above it, and returns its path.
  std::string write(const std::string& name, std::span<const std::uint8_t> bytes) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream out(path_ / name, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return *this / name;
  }

 private:
  std::filesystem::path path_;
};

inline Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

/// The message of the IoError that `read` throws, or "" where it throws none. Any other exception escapes: a reader
/// lets nothing else out, whatever is in the file.
template <class Read>
std::string io_error(const Read& read) {
  try {
    read();
  } catch (const pavise::IoError& error) {
    return error.what();
  }
  return {};
}

/// Calls read(bytes) for copies of `bytes` cut short: at each of the first 200 bytes and the last 100, and at 100
/// places in between. Each has to be refused with an IoError that names a byte.
template <class Read>
void check_truncations(const Bytes& bytes, const Read& read) {
  const std::size_t stride = std::max<std::size_t>(1, bytes.size() / 100);
  for (std::size_t n = 0; n < bytes.size();
       n += n < 200 || n + 100 > bytes.size() ? 1 : std::min(stride, bytes.size() - 100 - n + 1)) {
    const auto message = io_error([&] { read(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n))); });
    INFO("cut to ", n, " of ", bytes.size(), " bytes: ", message);
    CHECK(contains(message, "byte "));
  }
}

/// Calls read(bytes) for `count` damaged copies of `bytes` (bytes flipped, replaced, removed, repeated; drawn by
/// Philox, the same in each run) and returns how many were refused with an IoError.
template <class Read>
int fuzz(const Bytes& bytes, int count, const Read& read) {
  int refused = 0;
  for (int i = 0; i < count; ++i) {
    pavise::RandomSequence random(
        {.seed = 1, .purpose = pavise::Purpose::test, .image = static_cast<std::uint32_t>(i)});
    const auto below = [&](std::size_t n) {
      return static_cast<std::size_t>(random.below(static_cast<std::uint32_t>(n)));
    };
    Bytes damaged = bytes;
    for (auto edits = 1 + below(4); edits > 0 && !damaged.empty(); --edits) {
      // Half of the damage goes to the first bytes, where the headers are.
      const auto at = below(below(2) == 0 ? damaged.size() : std::min<std::size_t>(damaged.size(), 128));
      const auto place = damaged.begin() + static_cast<std::ptrdiff_t>(at);
      const auto length = static_cast<std::ptrdiff_t>(1 + below(std::min<std::size_t>(damaged.size() - at, 16)));
      switch (below(6)) {
        case 0:
          *place = static_cast<std::uint8_t>(*place ^ 1U << below(8));
          break;
        case 1:
          *place = static_cast<std::uint8_t>(random.word());
          break;
        case 2: {
          constexpr std::uint8_t kEdges[] = {0, 1, 0x7F, 0x80, 0xFF, '9'};
          std::fill(place, place + length, kEdges[below(6)]);
          break;
        }
        case 3:
          damaged.erase(place, place + length);
          break;
        case 4: {
          const Bytes piece(place, place + length);
          damaged.insert(place, piece.begin(), piece.end());
          break;
        }
        default:
          *place = static_cast<std::uint8_t>(*place + (below(2) == 0 ? 1 : 255));
      }
    }
    refused += io_error([&] { read(damaged); }).empty() ? 0 : 1;
  }
  return refused;
}

}  // namespace pavise_test

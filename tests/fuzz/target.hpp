// SPDX-License-Identifier: MIT
// What a fuzz target is: a reader of files that others wrote, the files to begin with, and how much memory it may take.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "io/archives.hpp"
#include "pavise/io/file.hpp"

namespace pavise_fuzz {

using pavise_test::Bytes;

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

struct Target {
  std::string name;
  /// The most memory that may be in use at a time while a file of n bytes is read: multiple * n + constant.
  std::uint64_t multiple;
  std::uint64_t constant;
  /// Reads a file. It may throw pavise::Error; anything else is a bug.
  std::function<void(const Bytes&)> read;
  /// Well-formed files.
  std::function<std::vector<Bytes>()> seeds;
};

/// All targets of a program. Every file with targets has a static object of this class.
class Targets {
 public:
  explicit Targets(std::function<std::vector<Target>()> make);
  static std::vector<Target> all();
};

/// Throws what no reader may throw, so that the fuzzer stops.
inline void expect(bool holds, const char* what) {
  if (!holds) {
    throw std::logic_error(what);
  }
}

/// A file that `save` writes, as bytes.
template <class Save>
Bytes saved(const Save& save) {
  std::string folder = "/tmp/pavise-fuzz-XXXXXX";
  expect(::mkdtemp(folder.data()) != nullptr, "mkdtemp");
  const std::string path = folder + "/file";
  save(path);
  auto out = pavise::io::read_file(path);
  ::unlink(path.c_str());
  ::rmdir(folder.c_str());
  return out;
}

/// A regular file without a place on disk.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::uint8_t> bytes) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    expect(fd_ >= 0 && ::write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "memfd");
    path_ = "/proc/self/fd/" + std::to_string(fd_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(fd_); }
  const std::string& path() const { return path_; }

 private:
  int fd_;
  std::string path_;
};

inline std::string_view text_of(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

}  // namespace pavise_fuzz

// SPDX-License-Identifier: MIT
// Files in and out. Readers never believe a length that a file announces: memory grows with the bytes that are really
// there, and what is packed unpacks to a stated multiple of them at most (unpacked_limit). Writers replace a file in one
// step or leave it as it was. POSIX and zlib alone.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"

namespace pavise::io {

/// Throws IoError "`path`: byte `offset`: ..." with the joined pieces.
template <class... Pieces>
[[noreturn]] void fail_at(std::string_view path, std::uint64_t offset, const Pieces&... pieces) {
  throw IoError(concat(path, ": byte ", offset, ": ", pieces...));
}

/// Throws IoError "`path`: byte `offset`: ..." unless `condition` holds.
template <class... Pieces>
void require_at(bool condition, std::string_view path, std::uint64_t offset, const Pieces&... pieces) {
  if (!condition) [[unlikely]] {
    fail_at(path, offset, pieces...);
  }
}

/// The most bytes that a file of `size` bytes is unpacked to: 256 times as many, or 64 MiB where that is more. Deflate
/// alone would turn every byte into 1,032, so that a small file could ask for any memory; data sets of images, unpacked,
/// are up to some twenty times as large.
constexpr std::uint64_t unpacked_limit(std::uint64_t size) {
  return std::max(std::uint64_t{1} << 26, std::min(size, std::numeric_limits<std::uint64_t>::max() / 256) * 256);
}

namespace detail {

/// An open file descriptor, closed at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { close(); }
  int get() const { return fd_; }
  int close() { return fd_ < 0 ? 0 : ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

inline std::string reason() { return std::strerror(errno); }

/// Opens a regular file to read; throws IoError with the system's reason. A pipe or a device has no end to rely on.
inline int open_to_read(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  require<IoError>(fd >= 0, path, ": cannot be opened: ", reason());
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    throw IoError(path + ": not a regular file");
  }
  return fd;
}

inline std::uint64_t file_size(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && status.st_size > 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

inline void write_all(int fd, std::span<const std::byte> bytes, const std::string& path) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const auto n = ::write(fd, bytes.data() + done, std::min(bytes.size() - done, std::size_t{1} << 30));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    require_at(n > 0, path, done, "cannot be written: ", reason());
    done += static_cast<std::size_t>(n);
  }
}

}  // namespace detail

/// Whether `path` names a regular file.
inline bool is_file(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

/// Whether `path` names a directory.
inline bool is_directory(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// The bytes of the file at `path`, as they are. Throws IoError where it cannot be read, is not a regular file or is
/// longer than `limit` bytes.
inline std::vector<std::uint8_t> read_file(const std::string& path,
                                           std::uint64_t limit = std::numeric_limits<std::int64_t>::max()) {
  const detail::Descriptor file(detail::open_to_read(path));
  const auto size = detail::file_size(file.get());
  require_at(size <= limit, path, limit, "the file has ", size, " bytes, at most ", limit, " are read");
  std::vector<std::uint8_t> out(static_cast<std::size_t>(size));
  std::size_t done = 0;
  while (done < out.size()) {
    const auto n = ::read(file.get(), out.data() + done, std::min(out.size() - done, std::size_t{1} << 30));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    require_at(n >= 0, path, done, "cannot be read: ", detail::reason());
    require_at(n > 0, path, done, "the file ends, expected ", size, " bytes");
    done += static_cast<std::size_t>(n);
  }
  return out;
}

/// Reads a file front to back and unpacks it where it is gzipped, to at most unpacked_limit of its size. Offsets, in
/// messages too, count unpacked bytes.
class GzipReader {
 public:
  explicit GzipReader(std::string path) : path_(std::move(path)) {
    const int fd = detail::open_to_read(path_);
    size_ = detail::file_size(fd);
    file_ = ::gzdopen(fd, "rb");
    if (file_ == nullptr) {
      ::close(fd);
      throw IoError(path_ + ": cannot be opened: out of memory");
    }
    ::gzbuffer(file_, 1U << 17);
  }
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;
  ~GzipReader() { ::gzclose_r(file_); }

  const std::string& path() const { return path_; }
  /// Number of unpacked bytes read so far.
  std::uint64_t offset() const { return offset_; }

  /// Reads up to `n` bytes to `out` and returns how many there were, fewer only at the end of the file. Throws IoError
  /// where the gzip stream is truncated, corrupt, or unpacks to more than is plausible.
  std::size_t read_some(void* out, std::size_t n) {
    std::size_t done = 0;
    while (done < n) {
      const auto part = static_cast<unsigned>(std::min(n - done, std::size_t{1} << 30));
      const int got = ::gzread(file_, static_cast<char*>(out) + done, part);
      int code = Z_OK;
      const char* text = got < static_cast<int>(part) ? ::gzerror(file_, &code) : "";
      if (got < 0 || code != Z_OK) {
        const auto at = offset_ + static_cast<std::uint64_t>(std::max(got, 0));
        fail_at(path_, at, code == Z_BUF_ERROR ? "the gzip stream is truncated" : "the gzip stream is corrupt: ",
                code == Z_BUF_ERROR ? ""
                : code == Z_ERRNO   ? detail::reason()
                                    : text);
      }
      done += static_cast<std::size_t>(got);
      offset_ += static_cast<std::uint64_t>(got);
      require_at(offset_ <= unpacked_limit(size_), path_, offset_, "the file's ", size_, " bytes unpack to more than ",
                 unpacked_limit(size_), " bytes, the most that is read");
      if (got < static_cast<int>(part)) {
        break;
      }
    }
    return done;
  }

  /// Reads exactly `n` bytes to `out`; throws IoError where the file ends before.
  void read(void* out, std::size_t n, std::string_view what) {
    const auto start = offset_;
    const auto got = read_some(out, n);
    require_at(got == n, path_, offset_, "the file ends in ", what, ": ", got, " of ", n, " bytes from byte ", start);
  }

  /// Exactly `n` bytes. Memory grows with what is there: a false `n` costs no more than the file is worth.
  std::vector<std::uint8_t> read_bytes(std::uint64_t n, std::string_view what) {
    std::vector<std::uint8_t> out;
    const auto start = offset_;
    while (out.size() < n) {
      const auto old = out.size();
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(n - old, std::max(old, kChunk)));
      out.resize(old + part);
      const auto got = read_some(out.data() + old, part);
      require_at(got == part, path_, offset_, "the file ends in ", what, ": ", old + got, " of ", n,
                 " bytes from byte ", start);
    }
    return out;
  }

  /// The rest of the file; throws IoError where it is longer than `limit` bytes.
  std::vector<std::uint8_t> read_rest(std::uint64_t limit) {
    std::vector<std::uint8_t> out;
    for (;;) {
      const auto old = out.size();
      out.resize(old + std::max(old, kChunk));
      const auto got = read_some(out.data() + old, out.size() - old);
      const bool end = old + got < out.size();
      out.resize(old + got);
      require_at(out.size() <= limit, path_, offset_, "more than ", limit, " bytes");
      if (end) {
        return out;
      }
    }
  }

  /// Throws IoError where bytes are left. It also checks the checksum of a gzip stream, which follows the last byte.
  void expect_end() {
    char byte = 0;
    const auto got = read_some(&byte, 1);
    require_at(got == 0, path_, offset_ - got, "expected the end of the file, got more bytes");
  }

 private:
  static constexpr std::size_t kChunk = std::size_t{1} << 20;

  std::string path_;
  gzFile file_ = nullptr;
  std::uint64_t size_ = 0;  // of the file, packed
  std::uint64_t offset_ = 0;
};

/// The bytes of the file at `path`, unpacked where it is gzipped; throws IoError where there are more than `limit`.
inline std::vector<std::uint8_t> read_gzip(const std::string& path, std::uint64_t limit) {
  return GzipReader(path).read_rest(limit);
}

/// Writes `bytes` as the file at `path`: to a file beside it, through to the disk, then renamed over it, so that
/// whoever opens `path`, also after a crash, finds the old file or the new one, whole. On failure it throws IoError,
/// the old file is as it was and nothing is left beside it.
inline void write_atomically(const std::string& path, std::span<const std::byte> bytes) {
  static std::atomic<unsigned> count{0};
  const std::string temporary = concat(path, ".", ::getpid(), ".", count.fetch_add(1), ".tmp");
  detail::Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  require<IoError>(file.get() >= 0, path, ": cannot be written: ", detail::reason());
  try {
    detail::write_all(file.get(), bytes, path);
    require_at(::fsync(file.get()) == 0, path, bytes.size(), "cannot be written: ", detail::reason());
    require_at(file.close() == 0, path, bytes.size(), "cannot be written: ", detail::reason());
    require<IoError>(::rename(temporary.c_str(), path.c_str()) == 0, path, ": cannot be replaced: ", detail::reason());
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  // The rename itself lasts once the directory is on disk; a file system that cannot do this has nothing better to
  // offer.
  const auto slash = path.find_last_of('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const detail::Descriptor folder(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() >= 0) {
    ::fsync(folder.get());
  }
}

inline void write_atomically(const std::string& path, std::string_view text) {
  write_atomically(path, std::as_bytes(std::span(text.data(), text.size())));
}

inline void write_atomically(const std::string& path, std::span<const std::uint8_t> bytes) {
  write_atomically(path, std::as_bytes(bytes));
}

}  // namespace pavise::io

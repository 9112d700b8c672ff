// SPDX-License-Identifier: MIT
// Reading zip archives, as far as .npz files need it: stored and deflated entries, every offset checked. Zip64,
// encryption, archives in parts, and those that unpack to more than io::unpacked_limit are refused.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pavise/io/file.hpp"

namespace pavise::data {

/// A file in an archive.
struct ArchiveEntry {
  std::string name;
  std::vector<std::uint8_t> bytes;
};

namespace detail {

/// Bounds-checked little-endian numbers of a file in memory.
struct LittleEndian {
  std::span<const std::uint8_t> bytes;
  const std::string& path;

  std::uint32_t u16(std::uint64_t at) const {
    io::require_at(at <= bytes.size() && bytes.size() - at >= 2, path, at, "zip: the file ends in a header");
    const auto* p = bytes.data() + at;
    return static_cast<std::uint32_t>(p[0] | p[1] << 8);
  }
  std::uint32_t u32(std::uint64_t at) const { return u16(at) | u16(at + 2) << 16; }
};

/// Unpacks a raw deflate stream into exactly `size` bytes. Memory grows with what really comes out of it.
inline std::vector<std::uint8_t> inflate_raw(std::span<const std::uint8_t> packed, std::uint64_t size, std::uint64_t at,
                                             const std::string& path) {
  struct Stream : z_stream {
    Stream() : z_stream{} { ready = ::inflateInit2(this, -MAX_WBITS) == Z_OK; }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    ~Stream() { ::inflateEnd(this); }
    bool ready = false;
  } stream;
  io::require_at(stream.ready, path, at, "zip: out of memory");
  stream.next_in = const_cast<Bytef*>(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());  // sizes are 32-bit numbers without zip64
  std::vector<std::uint8_t> out;
  int code = Z_OK;
  while (code == Z_OK) {
    const auto old = out.size();
    const auto part = std::min<std::uint64_t>(size - old, std::max<std::uint64_t>(old, std::uint64_t{1} << 20));
    out.resize(old + static_cast<std::size_t>(part) +
               (old + part == size ? 1 : 0));  // one more byte shows a false size
    stream.next_out = out.data() + old;
    stream.avail_out = static_cast<uInt>(out.size() - old);
    code = ::inflate(&stream, Z_NO_FLUSH);
    out.resize(out.size() - stream.avail_out);
    io::require_at(code == Z_OK || code == Z_STREAM_END, path, at + stream.total_in,
                   "zip: the deflated data are corrupt or truncated");
    io::require_at(out.size() <= size, path, at, "zip: an entry unpacks to more than its ", size, " bytes");
  }
  io::require_at(out.size() == size && stream.avail_in == 0, path, at + stream.total_in, "zip: an entry unpacks to ",
                 out.size(), " bytes, expected ", size);
  return out;
}

}  // namespace detail

/// The files in a zip archive, in the order of its directory; `path` is its name in messages. Throws IoError, naming
/// the byte, where it is truncated, corrupt or of a kind that is not supported.
inline std::vector<ArchiveEntry> parse_zip(std::span<const std::uint8_t> file, const std::string& path) {
  constexpr std::uint64_t kEndSize = 22;
  const detail::LittleEndian read{file, path};
  io::require_at(file.size() >= kEndSize, path, file.size(), "zip: the file ends before it holds an archive");
  // The end of the directory is the last record, followed by a comment of at most 65,535 bytes.
  std::uint64_t end = file.size() - kEndSize;
  const auto lowest = end - std::min<std::uint64_t>(end, 65535);
  while (!(read.u32(end) == 0x06054b50 && end + kEndSize + read.u16(end + 20) == file.size())) {
    io::require_at(end > lowest, path, file.size(), "zip: no end of the directory: truncated, or not a zip archive");
    --end;
  }
  const auto count = read.u16(end + 10);
  const std::uint64_t directory_size = read.u32(end + 12);
  const std::uint64_t directory = read.u32(end + 16);
  io::require_at(count != 0xFFFF && directory_size != 0xFFFFFFFF && directory != 0xFFFFFFFF, path, end,
                 "zip: zip64 archives are not supported");
  io::require_at(read.u16(end + 4) == 0 && read.u16(end + 6) == 0 && read.u16(end + 8) == count, path, end + 4,
                 "zip: archives in parts are not supported");
  io::require_at(directory + directory_size == end, path, end + 12, "zip: the directory is at bytes ", directory,
                 " to ", directory + directory_size, ", expected it to end at ", end);

  std::vector<ArchiveEntry> out;
  std::uint64_t packed_total = 0;
  std::uint64_t total = 0;
  std::uint64_t at = directory;
  for (std::uint32_t i = 0; i < count; ++i) {
    io::require_at(at + 46 <= end && read.u32(at) == 0x02014b50, path, at, "zip: no directory entry here");
    const auto flags = read.u16(at + 8);
    const auto method = read.u16(at + 10);
    const auto checksum = read.u32(at + 16);
    const std::uint64_t packed_size = read.u32(at + 20);
    const std::uint64_t size = read.u32(at + 24);
    const auto name_size = read.u16(at + 28);
    const auto next = at + 46 + name_size + read.u16(at + 30) + read.u16(at + 32);
    const std::uint64_t local = read.u32(at + 42);
    io::require_at(next <= end, path, at + 28, "zip: a directory entry is longer than the directory");
    const std::string name(reinterpret_cast<const char*>(file.data()) + at + 46, name_size);
    io::require_at(packed_size != 0xFFFFFFFF && size != 0xFFFFFFFF && local != 0xFFFFFFFF, path, at + 20,
                   "zip: zip64 entries are not supported");
    io::require_at((flags & 1) == 0, path, at + 8, "zip: '", name, "' is encrypted");
    io::require_at(method == 0 || method == Z_DEFLATED, path, at + 10, "zip: '", name, "' has method ", method,
                   ", expected 0 (stored) or 8 (deflated)");
    io::require_at(local + 30 <= directory && read.u32(local) == 0x04034b50, path, at + 42, "zip: '", name,
                   "': no local header at byte ", local);
    const auto data = local + 30 + read.u16(local + 26) + read.u16(local + 28);
    io::require_at(data <= directory && packed_size <= directory - data, path, at + 20, "zip: '", name, "': its ",
                   packed_size, " bytes from byte ", data, " go past the directory");
    packed_total += packed_size;  // entries that share bytes would unpack them over and over
    io::require_at(packed_total <= file.size(), path, at + 20, "zip: the entries overlap");
    total += size;
    io::require_at(total <= io::unpacked_limit(file.size()), path, at + 24, "zip: the entries unpack to ", total,
                   " bytes or more, at most ", io::unpacked_limit(file.size()), " are read from ", file.size());
    const auto packed = file.subspan(static_cast<std::size_t>(data), static_cast<std::size_t>(packed_size));
    io::require_at(method != 0 || size == packed_size, path, at + 24, "zip: '", name, "' is stored in ", packed_size,
                   " bytes, expected ", size);
    auto bytes = method == 0 ? std::vector<std::uint8_t>(packed.begin(), packed.end())
                             : detail::inflate_raw(packed, size, data, path);
    const auto found = ::crc32_z(0, bytes.data(), bytes.size());
    io::require_at(found == checksum, path, data, "zip: '", name, "' has another checksum than the directory says");
    out.push_back({name, std::move(bytes)});
    at = next;
  }
  io::require_at(at == end, path, at, "zip: ", end - at, " bytes of the directory belong to no entry");
  return out;
}

}  // namespace pavise::data

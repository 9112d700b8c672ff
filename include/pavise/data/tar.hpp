// SPDX-License-Identifier: MIT
// Reading tar archives (POSIX ustar, with the long names of GNU tar and of pax), gzipped or not, front to back.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/io/file.hpp"

namespace pavise::data {

namespace detail {

/// One header of 512 bytes.
class TarHeader {
 public:
  std::array<char, 512> block{};

  bool zero() const {
    return std::all_of(block.begin(), block.end(), [](char c) { return c == 0; });
  }
  char type() const { return block[156] == 0 ? '0' : block[156]; }
  std::string_view text(std::size_t at, std::size_t size) const {
    const std::string_view field(block.data() + at, size);
    return field.substr(0, field.find('\0'));
  }
  std::string name() const {
    const bool ustar = std::string_view(block.data() + 257, 6) == std::string_view("ustar\0", 6);
    const auto prefix = ustar ? text(345, 155) : std::string_view();
    return prefix.empty() ? std::string(text(0, 100)) : concat(prefix, "/", text(0, 100));
  }
  /// An octal number, or -1 where the field holds none.
  std::int64_t number(std::size_t at, std::size_t size) const {
    auto field = text(at, size);
    field.remove_prefix(std::min(field.find_first_not_of(' '), field.size()));
    std::int64_t value = -1;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value, 8);
    const auto rest = field.substr(static_cast<std::size_t>(end - field.data()));
    return error == std::errc() && rest.find_first_not_of(' ') == std::string_view::npos ? value : -1;
  }
  /// The sum of the header's bytes, its own checksum's field taken as spaces.
  std::int64_t sum() const {
    std::int64_t out = 0;
    for (std::size_t i = 0; i < block.size(); ++i) {
      out += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(block[i]);
    }
    return out;
  }
};

/// The value of `key` in pax records ("27 path=some/name\n"), or "".
inline std::string pax_value(std::string_view records, std::string_view key, const std::string& path,
                             std::uint64_t at) {
  std::string out;
  while (!records.empty()) {
    std::size_t length = 0;
    const auto [end, error] = std::from_chars(records.data(), records.data() + records.size(), length);
    const auto start = static_cast<std::size_t>(end - records.data()) + 1;
    const bool ok = error == std::errc() && length <= records.size() && start < length && records[start - 1] == ' ' &&
                    records[length - 1] == '\n';
    io::require_at(ok, path, at, "tar: an extended header is corrupt");
    const auto record = records.substr(start, length - 1 - start);
    if (record.size() > key.size() && record.starts_with(key) && record[key.size()] == '=') {
      out = record.substr(key.size() + 1);
    }
    records.remove_prefix(length);
    at += length;
  }
  return out;
}

}  // namespace detail

/// Calls file(name, bytes) for each file of the tar archive at `path`, gzipped or not, for which wanted(name) holds, in
/// the archive's order. Folders and links are passed over. Throws IoError, naming the (unpacked) byte, where the
/// archive is truncated or corrupt or a wanted file has more than `limit` bytes.
template <class Wanted, class File>
void read_tar(const std::string& path, std::uint64_t limit, const Wanted& wanted, const File& file) {
  constexpr std::uint64_t kBlock = 512;
  constexpr std::uint64_t kMaxExtension = std::uint64_t{1} << 20;
  io::GzipReader reader(path);
  std::string next_name;
  std::string next_size;
  for (;;) {
    const auto at = reader.offset();
    detail::TarHeader header;
    reader.read(header.block.data(), kBlock, "a header (an archive ends with blocks of zeros)");
    if (header.zero()) {
      while (reader.read_some(header.block.data(), kBlock) > 0) {  // to the end, for the checksum of the gzip stream
        io::require_at(header.zero(), path, reader.offset() - kBlock, "tar: expected zeros to the end of the archive");
      }
      return;
    }
    io::require_at(header.number(148, 8) == header.sum(), path, at + 148, "tar: not a header, its checksum is wrong");
    auto size = header.number(124, 12);
    if (!next_size.empty()) {
      const auto [end, error] = std::from_chars(next_size.data(), next_size.data() + next_size.size(), size);
      io::require_at(error == std::errc() && end == next_size.data() + next_size.size(), path, at,
                     "tar: an extended header has the size '", next_size, "'");
    }
    io::require_at(size >= 0 && size <= std::int64_t{1} << 50, path, at + 124, "tar: the size of a file is no number");
    auto left = static_cast<std::uint64_t>(size);
    const auto padding = (kBlock - left % kBlock) % kBlock;
    const auto type = header.type();
    if (type == 'L' || type == 'x' || type == 'g') {
      io::require_at(left <= kMaxExtension, path, at + 124, "tar: an extended header of ", left, " bytes, at most ",
                     kMaxExtension, " are supported");
      const auto bytes = reader.read_bytes(left, "an extended header");
      const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      if (type == 'L') {
        next_name = text.substr(0, text.find('\0'));
      } else if (type == 'x') {
        next_name = detail::pax_value(text, "path", path, at + kBlock);
        next_size = detail::pax_value(text, "size", path, at + kBlock);
      }
      left = 0;
    } else {
      const auto name = next_name.empty() ? header.name() : next_name;
      next_name.clear();
      next_size.clear();
      if ((type == '0' || type == '7') && wanted(name)) {
        io::require_at(left <= limit, path, at + 124, "tar: '", name, "' has ", left, " bytes, at most ", limit,
                       " are read");
        file(name, reader.read_bytes(left, name));
        left = 0;
      }
    }
    for (left += padding; left > 0;) {
      const auto part = std::min(left, kBlock);
      reader.read(header.block.data(), static_cast<std::size_t>(part), "a file");
      left -= part;
    }
  }
}

}  // namespace pavise::data

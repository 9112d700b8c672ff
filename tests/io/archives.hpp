// SPDX-License-Identifier: MIT
// Files that tests of readers begin with, as other programs write them: gzip, zip, tar, IDX.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pavise_test {

using Bytes = std::vector<std::uint8_t>;
using Files = std::vector<std::pair<std::string, Bytes>>;

/// The number in `bytes` bytes, the lowest first, behind `out`.
inline void put(Bytes& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) {
    out.push_back(static_cast<std::uint8_t>(value >> 8 * i));
  }
}

/// `bytes`, deflated; `window` as zlib's deflateInit2 has it.
inline Bytes deflated(const Bytes& bytes, int window) {
  Bytes out(::compressBound(static_cast<uLong>(bytes.size())) + 64);
  z_stream stream{};
  stream.next_in = const_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  if (::deflateInit2(&stream, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) != Z_OK ||
      ::deflate(&stream, Z_FINISH) != Z_STREAM_END) {
    throw std::runtime_error("deflate failed");
  }
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

/// `bytes` as a gzip stream.
inline Bytes gzipped(const Bytes& bytes) { return deflated(bytes, MAX_WBITS + 16); }

/// A zip archive of these files, each stored or deflated.
inline Bytes zip(const Files& files, bool deflate) {
  Bytes out;
  Bytes directory;
  for (const auto& [name, content] : files) {
    const Bytes packed = deflate ? deflated(content, -MAX_WBITS) : content;
    const auto local = out.size();
    Bytes common;
    put(common, 20, 2);
    put(common, 0, 2);
    put(common, deflate ? 8 : 0, 2);
    put(common, 0, 4);
    put(common, ::crc32_z(0, content.data(), content.size()), 4);
    put(common, packed.size(), 4);
    put(common, content.size(), 4);
    put(common, name.size(), 2);
    put(common, 0, 2);
    put(out, 0x04034b50, 4);
    out.insert(out.end(), common.begin(), common.end());
    out.insert(out.end(), name.begin(), name.end());
    out.insert(out.end(), packed.begin(), packed.end());
    put(directory, 0x02014b50, 4);
    put(directory, 20, 2);
    directory.insert(directory.end(), common.begin(), common.end());
    put(directory, 0, 8);
    put(directory, 0, 2);
    put(directory, local, 4);
    directory.insert(directory.end(), name.begin(), name.end());
  }
  const auto start = out.size();
  out.insert(out.end(), directory.begin(), directory.end());
  put(out, 0x06054b50, 4);
  put(out, 0, 4);
  put(out, files.size(), 2);
  put(out, files.size(), 2);
  put(out, directory.size(), 4);
  put(out, start, 4);
  put(out, 0, 2);
  return out;
}

/// An IDX file of bytes.
inline Bytes idx(std::initializer_list<std::uint32_t> extents, const Bytes& content) {
  Bytes out = {0, 0, 8, static_cast<std::uint8_t>(extents.size())};
  for (const auto extent : extents) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      out.push_back(static_cast<std::uint8_t>(extent >> shift));
    }
  }
  out.insert(out.end(), content.begin(), content.end());
  return out;
}

/// One header of a tar archive, with its checksum.
inline Bytes tar_header(const std::string& name, std::size_t size, char type) {
  Bytes out(512);
  std::copy(name.begin(), name.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(name.size(), 100)),
            out.begin());
  std::snprintf(reinterpret_cast<char*>(out.data()) + 124, 12, "%011zo", size);
  out[156] = static_cast<std::uint8_t>(type);
  std::copy_n("ustar\00000", 8, out.begin() + 257);
  std::fill(out.begin() + 148, out.begin() + 156, std::uint8_t{' '});
  unsigned sum = 0;
  for (const auto b : out) {
    sum += b;
  }
  std::snprintf(reinterpret_cast<char*>(out.data()) + 148, 8, "%06o", sum);
  return out;
}

/// How a tar archive holds the names: in the headers, or before them as GNU tar and pax write long ones.
enum class LongNames { none, gnu, pax };

/// A tar archive of these files, below a folder "./".
inline Bytes tar(const Files& content, LongNames names = LongNames::none) {
  Bytes out;
  const auto append = [&](const Bytes& piece) {
    out.insert(out.end(), piece.begin(), piece.end());
    out.resize((out.size() + 511) / 512 * 512);
  };
  const auto append_text = [&](const std::string& text) { append({text.begin(), text.end()}); };
  append(tar_header("./", 0, '5'));
  for (const auto& [name, bytes] : content) {
    if (names == LongNames::gnu) {
      append(tar_header("././@LongLink", name.size() + 1, 'L'));
      append_text(name + '\0');
    } else if (names == LongNames::pax) {
      const auto record = " path=" + name + "\n";
      const auto length = record.size() + 2 + (record.size() + 2 > 99 ? 1 : 0);
      const auto text = "20 mtime=1234567.89\n" + std::to_string(length) + record;
      append(tar_header("PaxHeader", text.size(), 'x'));
      append_text(text);
    }
    append(tar_header(names == LongNames::none ? name : "cut short", bytes.size(), '0'));
    append(bytes);
  }
  out.resize(out.size() + 1024);
  return out;
}

}  // namespace pavise_test

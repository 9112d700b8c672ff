// SPDX-License-Identifier: MIT
// NumPy's formats: .npy (a magic string, a version, a header that is a Python dictionary, the elements) and .npz (a zip
// of them, stored or deflated). Little-endian and C order alone; anything else is refused by name.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/shape.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/data/zip.hpp"
#include "pavise/io/file.hpp"

namespace pavise::data {

static_assert(std::endian::native == std::endian::little, "files are little-endian and read without swapping");

/// An array of one of the supported types: f4, f8, u1, i4, i8.
using NpyArray =
    std::variant<Tensor<float>, Tensor<double>, Tensor<std::uint8_t>, Tensor<std::int32_t>, Tensor<std::int64_t>>;

namespace detail {

/// NumPy's name of a type: "<f4".
template <class T>
constexpr std::string_view npy_descr() {
  if constexpr (std::is_same_v<T, float>) {
    return "<f4";
  } else if constexpr (std::is_same_v<T, double>) {
    return "<f8";
  } else if constexpr (std::is_same_v<T, std::uint8_t>) {
    return "|u1";
  } else if constexpr (std::is_same_v<T, std::int32_t>) {
    return "<i4";
  } else {
    static_assert(std::is_same_v<T, std::int64_t>, "npy: no such element type");
    return "<i8";
  }
}

struct NpyHeader {
  std::string_view descr;
  std::vector<std::uint64_t> extents;
};

/// Reads the header's dictionary: the three keys in any order, nothing else.
class NpyHeaderParser {
 public:
  NpyHeaderParser(std::string_view text, std::uint64_t base, const std::string& path)
      : text_(text), base_(base), path_(path) {}

  NpyHeader parse() {
    NpyHeader out;
    std::array<bool, 3> seen{};
    expect('{');
    while (!accept('}')) {
      const auto key = quoted();
      const std::size_t which = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : 3;
      check(which < 3 && !seen[which], "the key '", key, "' is unknown or there twice");
      seen[which] = true;
      expect(':');
      if (which == 0) {
        skip_spaces();
        check(at_ < text_.size() && text_[at_] != '[', "structured arrays are not supported");
        out.descr = quoted();
      } else if (which == 1) {
        skip_spaces();
        check(!text_.substr(at_).starts_with("True"), "the array is in Fortran order, expected C order");
        check(text_.substr(at_).starts_with("False"), "expected fortran_order to be True or False");
        at_ += 5;
      } else {
        out.extents = tuple();
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    check(seen[0] && seen[1] && seen[2], "expected the keys descr, fortran_order and shape");
    skip_spaces();
    check(at_ == text_.size(), "expected the header's end after its dictionary");
    return out;
  }

 private:
  template <class... Pieces>
  void check(bool condition, const Pieces&... pieces) const {
    io::require_at(condition, path_, base_ + at_, "npy: ", pieces...);
  }
  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) {
      ++at_;
    }
  }
  bool accept(char c) {
    skip_spaces();
    const bool there = at_ < text_.size() && text_[at_] == c;
    at_ += there ? 1 : 0;
    return there;
  }
  void expect(char c) { check(accept(c), "expected '", c, "' in the header"); }
  std::string_view quoted() {
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') {
      expect('\'');
    }
    const auto end = text_.find(quote, at_);
    check(end != std::string_view::npos && end - at_ <= 32, "expected a short quoted string in the header");
    const auto out = text_.substr(at_, end - at_);
    at_ = end + 1;
    return out;
  }
  std::vector<std::uint64_t> tuple() {
    std::vector<std::uint64_t> out;
    expect('(');
    while (!accept(')')) {
      std::uint64_t extent = 0;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), extent);
      check(error == std::errc(), "expected an extent below 2^64 in the shape");
      check(out.size() < Shape::kMaxRank, "more than ", Shape::kMaxRank, " axes are not supported");
      at_ = static_cast<std::size_t>(end - text_.data());
      out.push_back(extent);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return out;
  }

  std::string_view text_;
  std::uint64_t base_;
  const std::string& path_;
  std::size_t at_ = 0;
};

/// The elements of type T after a header; throws IoError unless they fill the rest of the file exactly.
template <class T>
Tensor<T> npy_elements(const NpyHeader& header, std::span<const std::uint8_t> data, std::uint64_t base,
                       const std::string& path) {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  std::uint64_t n = 1;
  for (const auto extent : header.extents) {
    io::require_at(extent <= kMax && (extent == 0 || n <= kMax / sizeof(T) / extent), path, base,
                   "npy: the number of bytes of the shape overflows");
    n *= std::max<std::uint64_t>(extent, 1);
  }
  const Shape shape(header.extents.begin(), header.extents.size());
  n = static_cast<std::uint64_t>(shape.numel());
  io::require_at(n * sizeof(T) == data.size(), path, base + std::min<std::uint64_t>(n * sizeof(T), data.size()),
                 "npy: the shape ", shape, " has ", n * sizeof(T), " bytes of ", header.descr, ", the file has ",
                 data.size(), " after its header");
  Tensor<T> out(shape);
  if (n > 0) {
    std::memcpy(out.data(), data.data(), data.size());
  }
  return out;
}

}  // namespace detail

/// Takes the bytes of a .npy file apart; `path` is its name in messages. Throws IoError, naming the byte, where they
/// are truncated, corrupt, or of a kind that is not supported: another type, big-endian, Fortran order.
inline NpyArray parse_npy(std::span<const std::uint8_t> file, const std::string& path) {
  static constexpr std::array<std::uint8_t, 6> kMagic = {0x93, 'N', 'U', 'M', 'P', 'Y'};
  io::require_at(file.size() >= 10, path, file.size(), "npy: the file ends in its first 10 bytes");
  io::require_at(std::equal(kMagic.begin(), kMagic.end(), file.begin()), path, 0, "npy: not a .npy file");
  const int version = file[6];
  io::require_at(version >= 1 && version <= 3 && file[7] == 0, path, 6, "npy: version ", version, ".", int{file[7]},
                 ", expected 1.0, 2.0 or 3.0");
  const std::size_t start = version == 1 ? 10 : 12;
  io::require_at(file.size() >= start, path, file.size(), "npy: the file ends in its first 12 bytes");
  std::uint64_t length = file[8] | file[9] << 8;
  if (version > 1) {
    length |= std::uint64_t{file[10]} << 16 | std::uint64_t{file[11]} << 24;
  }
  io::require_at(length <= file.size() - start, path, 8, "npy: the header's length is ", length, ", the file has ",
                 file.size() - start, " more bytes");
  const auto size = static_cast<std::size_t>(length);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + start, size);
  const auto header = detail::NpyHeaderParser(text, start, path).parse();
  const auto data = file.subspan(start + size);
  const auto base = start + size;
  if (header.descr == "<f4") {
    return detail::npy_elements<float>(header, data, base, path);
  }
  if (header.descr == "<f8") {
    return detail::npy_elements<double>(header, data, base, path);
  }
  if (header.descr == "|u1" || header.descr == "<u1") {
    return detail::npy_elements<std::uint8_t>(header, data, base, path);
  }
  if (header.descr == "<i4") {
    return detail::npy_elements<std::int32_t>(header, data, base, path);
  }
  if (header.descr == "<i8") {
    return detail::npy_elements<std::int64_t>(header, data, base, path);
  }
  io::fail_at(path, start, "npy: the type is '", header.descr, "', expected <f4, <f8, |u1, <i4 or <i8");
}

/// Reads the .npy file at `path`, whatever its type; throws IoError as parse_npy does.
inline NpyArray read_npy(const std::string& path) { return parse_npy(io::read_file(path), path); }

/// Reads the .npy file at `path`; throws IoError where its elements are not of type T.
template <class T>
Tensor<T> read_npy_as(const std::string& path) {
  auto array = read_npy(path);
  auto* out = std::get_if<Tensor<T>>(&array);
  require<IoError>(out != nullptr, path, ": npy: the type is not ", detail::npy_descr<T>());
  return std::move(*out);
}

/// The bytes of a .npy file (version 1.0) that holds `tensor`.
template <class T>
std::vector<std::uint8_t> npy_bytes(const Tensor<T>& tensor) {
  std::string shape;
  for (const auto extent : tensor.shape()) {
    shape += concat(extent, shape.empty() ? "," : ", ");
  }
  if (tensor.shape().rank() > 1) {
    shape.resize(shape.find_last_not_of(", ") + 1);
  }
  std::string header =
      concat("{'descr': '", detail::npy_descr<T>(), "', 'fortran_order': False, 'shape': (", shape, "), }");
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 10, ' ');  // the data start at a multiple of 64 bytes
  header.back() = '\n';
  std::vector<std::uint8_t> out = {0x93,
                                   'N',
                                   'U',
                                   'M',
                                   'P',
                                   'Y',
                                   1,
                                   0,
                                   static_cast<std::uint8_t>(header.size() & 255),
                                   static_cast<std::uint8_t>(header.size() >> 8)};
  out.insert(out.end(), header.begin(), header.end());
  const auto bytes = std::as_bytes(tensor.span());
  const auto start = out.size();
  out.resize(start + bytes.size());
  if (!bytes.empty()) {
    std::memcpy(out.data() + start, bytes.data(), bytes.size());
  }
  return out;
}

/// Writes `tensor` as a .npy file at `path`, atomically; throws IoError.
template <class T>
void write_npy(const std::string& path, const Tensor<T>& tensor) {
  io::write_atomically(path, std::span<const std::uint8_t>(npy_bytes(tensor)));
}

/// Takes the bytes of an .npz file apart: its arrays by name, without ".npy". Throws IoError.
inline std::map<std::string, NpyArray> parse_npz(std::span<const std::uint8_t> file, const std::string& path) {
  std::map<std::string, NpyArray> out;
  for (auto& [name, bytes] : parse_zip(file, path)) {
    require<IoError>(name.ends_with(".npy"), path, ": npz: '", name, "' is not a .npy file");
    auto key = name.substr(0, name.size() - 4);
    require<IoError>(!out.contains(key), path, ": npz: the array '", key, "' is there twice");
    out.emplace(std::move(key), parse_npy(bytes, concat(path, "/", name)));
  }
  return out;
}

/// Reads the .npz file at `path`; throws IoError.
inline std::map<std::string, NpyArray> read_npz(const std::string& path) {
  return parse_npz(io::read_file(path), path);
}

/// A data set from the .npz file at `path`: its array `images`, (N,C,H,W) or (N,H,W), bytes or floats in [0,1] (rounded
/// to the nearest of 256 levels), and its array `labels`, (N) of integers from 0. Classes are named by their numbers;
/// there are `classes` of them, or as many as the labels need. Throws IoError.
inline Dataset read_npz_dataset(const std::string& path, const std::string& images = "images",
                                const std::string& labels = "labels", std::int32_t classes = 0) {
  const auto arrays = read_npz(path);
  const auto find = [&](const std::string& name) -> const NpyArray& {
    const auto found = arrays.find(name);
    std::vector<std::string> names;
    for (const auto& entry : arrays) {
      names.push_back(entry.first);
    }
    require<IoError>(found != arrays.end(), path, ": npz: no array '", name, "', only ", join(names));
    return found->second;
  };
  std::vector<std::int32_t> classes_of;
  std::visit(
      [&](const auto& tensor) {
        using T = std::remove_cvref_t<decltype(tensor[0])>;
        require<IoError>(std::is_integral_v<T> && tensor.shape().rank() == 1, path, ": npz: the labels '", labels,
                         "' are ", detail::npy_descr<T>(), " ", tensor.shape(), ", expected integers (N)");
        for (const auto label : tensor) {
          require<IoError>(label >= 0 && static_cast<double>(label) < 65536, path, ": npz: image ", classes_of.size(),
                           " has label ", label, ", expected 0 to 65535");
          classes_of.push_back(static_cast<std::int32_t>(label));
        }
      },
      find(labels));
  Shape shape;
  std::vector<std::uint8_t> pixels;
  std::visit(
      [&](const auto& tensor) {
        using T = std::remove_cvref_t<decltype(tensor[0])>;
        const auto& s = tensor.shape();
        constexpr bool kPixels = std::is_same_v<T, std::uint8_t> || std::is_floating_point_v<T>;
        require<IoError>(kPixels && (s.rank() == 4 || s.rank() == 3), path, ": npz: the images '", images, "' are ",
                         detail::npy_descr<T>(), " ", s, ", expected bytes or floats (N,C,H,W) or (N,H,W)");
        require<IoError>(s[0] == static_cast<std::int64_t>(classes_of.size()), path, ": npz: ", s[0], " images, but ",
                         classes_of.size(), " labels");
        shape = s.rank() == 4 ? Shape{s[1], s[2], s[3]} : Shape{1, s[1], s[2]};
        pixels.reserve(static_cast<std::size_t>(tensor.size()));
        for (std::int64_t i = 0; i < tensor.size(); ++i) {
          if constexpr (std::is_floating_point_v<T>) {
            require<IoError>(tensor[i] >= 0 && tensor[i] <= 1, path, ": npz: pixel ", i, " of '", images, "' is ",
                             tensor[i], ", expected 0 to 1");
            pixels.push_back(static_cast<std::uint8_t>(std::lround(tensor[i] * 255)));
          } else {
            pixels.push_back(static_cast<std::uint8_t>(tensor[i]));
          }
        }
      },
      find(images));
  const auto most = classes_of.empty() ? -1 : *std::max_element(classes_of.begin(), classes_of.end());
  require<IoError>(classes == 0 || most < classes, path, ": npz: a label is ", most, ", expected 0 to ", classes - 1);
  std::vector<std::string> class_names;
  for (std::int32_t c = 0; c < std::max(classes, most + 1); ++c) {
    class_names.push_back(std::to_string(c));
  }
  const auto slash = path.find_last_of('/');
  return {path.substr(slash == std::string::npos ? 0 : slash + 1), shape, std::move(pixels), std::move(classes_of),
          std::move(class_names)};
}

}  // namespace pavise::data

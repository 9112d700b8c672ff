// SPDX-License-Identifier: MIT
// The safetensors format (github.com/huggingface/safetensors): eight bytes of header length (little-endian), a JSON
// header
// {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {string: string}}, then the tensors' bytes
// without holes. Opt-in: includes nlohmann-json.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/shape.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/io/file.hpp"

namespace pavise::io {

static_assert(std::endian::native == std::endian::little, "files are little-endian and read without swapping");

/// The element types that a file here may hold.
enum class Dtype { f32, f64, i64, i32, u8 };

/// The format's name of a type: "F32".
inline std::string_view dtype_name(Dtype dtype) {
  constexpr std::string_view kNames[] = {"F32", "F64", "I64", "I32", "U8"};
  return kNames[static_cast<int>(dtype)];
}

/// Bytes of one element.
inline std::int64_t dtype_size(Dtype dtype) {
  constexpr std::int64_t kSizes[] = {4, 8, 8, 4, 1};
  return kSizes[static_cast<int>(dtype)];
}

/// The Dtype of a C++ type.
template <class T>
constexpr Dtype dtype_of() {
  if constexpr (std::is_same_v<T, float>) {
    return Dtype::f32;
  } else if constexpr (std::is_same_v<T, double>) {
    return Dtype::f64;
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return Dtype::i64;
  } else if constexpr (std::is_same_v<T, std::int32_t>) {
    return Dtype::i32;
  } else {
    static_assert(std::is_same_v<T, std::uint8_t>, "safetensors: no such element type");
    return Dtype::u8;
  }
}

/// A file of named tensors, in the order of their bytes in it.
struct SafetensorsFile {
  struct Entry {
    std::string name;
    Dtype dtype = Dtype::f32;
    Shape shape;
    std::vector<std::byte> bytes;  ///< row-major, shape.numel() elements

    /// An entry that holds a copy of `values`, shape.numel() of them.
    template <class T>
    static Entry of(std::string name, Shape shape, std::span<const T> values) {
      require<ShapeError>(shape.numel() == static_cast<std::int64_t>(values.size()), "safetensors: tensor ", name, " ",
                          shape, " has ", shape.numel(), " elements, got ", values.size());
      const auto bytes = std::as_bytes(values);
      return {std::move(name), dtype_of<T>(), shape, {bytes.begin(), bytes.end()}};
    }
    template <class T>
    static Entry of(std::string name, const Tensor<T>& tensor) {
      return of<T>(std::move(name), tensor.shape(), tensor.span());
    }

    /// A copy of the elements; throws ValueError where they are of another type.
    template <class T>
    Tensor<T> tensor() const {
      Tensor<T> out(shape);
      copy_to<T>(out.span());
      return out;
    }

    /// Copies the elements to `out`; throws where their type or number is another.
    template <class T>
    void copy_to(std::span<T> out) const {
      require(dtype == dtype_of<T>(), "safetensors: tensor ", name, " is ", dtype_name(dtype), ", expected ",
              dtype_name(dtype_of<T>()));
      require<ShapeError>(out.size_bytes() == bytes.size(), "safetensors: tensor ", name, " ", shape, " has ",
                          bytes.size() / sizeof(T), " elements, expected ", out.size());
      if (!bytes.empty()) {
        std::memcpy(out.data(), bytes.data(), bytes.size());
      }
    }
  };

  std::map<std::string, std::string> metadata;
  std::vector<Entry> tensors;

  /// The entry called `name`, or null.
  const Entry* find(std::string_view name) const {
    const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const Entry& e) { return e.name == name; });
    return found == tensors.end() ? nullptr : &*found;
  }
};

/// The largest header that is read: 100 MB, the reference implementation's limit.
inline constexpr std::uint64_t kSafetensorsMaxHeader = 100'000'000;

namespace detail {

/// Iterates over the header's text and remembers how far the parser is.
struct CountingIterator {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  const char* p;
  const char** reached;
  const char& operator*() const { return *p; }
  CountingIterator& operator++() {
    *reached = ++p;
    return *this;
  }
  friend bool operator==(const CountingIterator& a, const CountingIterator& b) { return a.p == b.p; }
  friend bool operator!=(const CountingIterator& a, const CountingIterator& b) { return a.p != b.p; }
};

/// Takes the header's JSON event by event, so that nothing is built that is not a tensor's description: neither deep
/// nesting nor repeated names cost memory beyond the text itself.
class SafetensorsHeader : public nlohmann::json_sax<nlohmann::json> {
 public:
  struct Record {
    std::string name;
    std::uint64_t at = 0;  ///< byte of the file where it is described
    std::optional<Dtype> dtype;
    std::optional<std::vector<std::uint64_t>> shape, offsets;
  };

  SafetensorsHeader(std::string_view path, std::string_view text) : path_(path), text_(text), reached_(text.data()) {}

  void parse() {
    const CountingIterator first{text_.data(), &reached_};
    const CountingIterator last{text_.data() + text_.size(), &reached_};
    nlohmann::json::sax_parse(first, last, this);
  }

  std::map<std::string, std::string> metadata;
  std::vector<Record> records;

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(std::int64_t) override { unexpected("a negative number"); }
  bool number_float(double, const std::string&) override { unexpected("a fraction"); }
  bool binary(nlohmann::json::binary_t&) override { unexpected("binary data"); }
  bool number_unsigned(std::uint64_t value) override {
    if (state_ != State::list) {
      unexpected("a number");
    }
    list_->push_back(value);
    return true;
  }
  bool string(std::string& value) override {
    if (state_ == State::metadata) {
      metadata[key_] = std::move(value);
    } else if (state_ == State::record && key_ == "dtype") {
      records.back().dtype = dtype_named(value);
    } else {
      unexpected("a string");
    }
    return true;
  }
  bool start_object(std::size_t) override {
    if (state_ == State::before) {
      state_ = State::top;
    } else if (state_ == State::top) {
      state_ = key_ == "__metadata__" ? State::metadata : State::record;
      if (state_ == State::record) {
        records.push_back({key_, position(), {}, {}, {}});
      }
    } else {
      unexpected("an object");
    }
    return true;
  }
  bool key(std::string& value) override {
    key_ = std::move(value);
    if (state_ == State::top) {
      check(names_.insert(key_).second, "the name '", key_, "' occurs twice");
    } else if (state_ == State::metadata) {
      check(!metadata.contains(key_), "the metadata '", key_, "' occurs twice");
    } else {
      const auto& r = records.back();
      check(key_ == "dtype" || key_ == "shape" || key_ == "data_offsets", "tensor '", r.name,
            "': expected dtype, shape and data_offsets, got '", key_, "'");
      check(!(key_ == "dtype"   ? r.dtype.has_value()
              : key_ == "shape" ? r.shape.has_value()
                                : r.offsets.has_value()),
            "tensor '", r.name, "': ", key_, " occurs twice");
    }
    return true;
  }
  bool end_object() override {
    if (state_ == State::record) {
      const auto& r = records.back();
      check(r.dtype && r.shape && r.offsets, "tensor '", r.name, "': expected dtype, shape and data_offsets, got only ",
            r.dtype ? "dtype " : "", r.shape ? "shape " : "", r.offsets ? "data_offsets" : "");
    }
    state_ = state_ == State::top ? State::after : State::top;
    return true;
  }
  bool start_array(std::size_t) override {
    if (state_ != State::record || key_ == "dtype") {
      unexpected("a list");
    }
    list_ = &(key_ == "shape" ? records.back().shape : records.back().offsets).emplace();
    state_ = State::list;
    return true;
  }
  bool end_array() override {
    state_ = State::record;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) override {
    fail_at(path_, position(), "safetensors: the header is not valid JSON: ",
            std::string_view(error.what()).substr(0, 200));  // it quotes what it read, however long
  }

 private:
  enum class State { before, top, metadata, record, list, after };

  std::uint64_t position() const { return 8 + static_cast<std::uint64_t>(reached_ - text_.data()); }

  template <class... Pieces>
  void check(bool condition, const Pieces&... pieces) const {
    require_at(condition, path_, position(), "safetensors: ", pieces...);
  }
  [[noreturn]] void unexpected(std::string_view what) const {
    fail_at(path_, position(), "safetensors: the header has ", what, " where the format has none");
  }
  Dtype dtype_named(const std::string& name) const {
    for (const auto dtype : {Dtype::f32, Dtype::f64, Dtype::i64, Dtype::i32, Dtype::u8}) {
      if (dtype_name(dtype) == name) {
        return dtype;
      }
    }
    fail_at(path_, position(), "safetensors: tensor '", records.back().name, "' has dtype '", name,
            "', expected F32, F64, I64, I32 or U8");
  }

  std::string path_;
  std::string_view text_;
  const char* reached_;
  State state_ = State::before;
  std::string key_;
  std::set<std::string> names_;
  std::vector<std::uint64_t>* list_ = nullptr;
};

/// The shape of a record; throws IoError where it does not fit its bytes.
inline Shape checked_shape(const SafetensorsHeader::Record& r, std::uint64_t data_size, std::string_view path) {
  require_at(r.offsets->size() == 2, path, r.at, "safetensors: tensor '", r.name, "': data_offsets has ",
             r.offsets->size(), " numbers, expected 2");
  const auto begin = (*r.offsets)[0];
  const auto end = (*r.offsets)[1];
  require_at(begin <= end && end <= data_size, path, r.at, "safetensors: tensor '", r.name, "': bytes ", begin, " to ",
             end, " are not within the ", data_size, " bytes of data");
  require_at(r.shape->size() <= Shape::kMaxRank, path, r.at, "safetensors: tensor '", r.name, "' has ", r.shape->size(),
             " axes, at most ", Shape::kMaxRank, " are supported");
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  std::uint64_t bytes = static_cast<std::uint64_t>(dtype_size(*r.dtype));
  const bool empty = std::find(r.shape->begin(), r.shape->end(), 0U) != r.shape->end();
  for (const auto extent : *r.shape) {
    const bool fits = extent <= kMax && (extent == 0 || bytes <= kMax / extent);
    require_at(fits, path, r.at, "safetensors: tensor '", r.name, "': the number of bytes of its shape overflows");
    bytes *= std::max<std::uint64_t>(extent, 1);
  }
  bytes = empty ? 0 : bytes;
  require_at(bytes == end - begin, path, r.at, "safetensors: tensor '", r.name, "' needs ", bytes,
             " bytes by its shape and dtype, its data_offsets hold ", end - begin);
  return Shape(r.shape->begin(), r.shape->size());
}

}  // namespace detail

/// Takes the bytes of a safetensors file apart; `path` is its name in messages. Throws IoError, naming the byte, where
/// anything is not as the format demands: every tensor's bytes lie within the data, without overlaps and holes.
inline SafetensorsFile parse_safetensors(std::span<const std::uint8_t> file, const std::string& path) {
  require_at(file.size() >= 8, path, file.size(), "safetensors: the file ends in the header's length (8 bytes)");
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  require_at(length <= kSafetensorsMaxHeader, path, 0, "safetensors: the header's length is ", length, ", at most ",
             kSafetensorsMaxHeader, " is supported");
  require_at(length <= file.size() - 8, path, 0, "safetensors: the header's length is ", length, ", the file has ",
             file.size() - 8, " more bytes");
  const auto size = static_cast<std::size_t>(length);
  require_at(size > 0 && file[8] == '{', path, 8, "safetensors: the header does not start with '{'");

  detail::SafetensorsHeader header(path, {reinterpret_cast<const char*>(file.data()) + 8, size});
  header.parse();
  const auto data = file.subspan(8 + size);
  std::vector<std::pair<Shape, const detail::SafetensorsHeader::Record*>> order;
  for (const auto& record : header.records) {
    order.emplace_back(detail::checked_shape(record, data.size(), path), &record);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return *a.second->offsets < *b.second->offsets; });

  SafetensorsFile out;
  out.metadata = std::move(header.metadata);
  std::uint64_t end = 0;
  for (const auto& [shape, record] : order) {
    const auto begin = (*record->offsets)[0];
    require_at(begin == end, path, record->at, "safetensors: tensor '", record->name, "' starts at byte ", begin,
               " of the data, expected ", end, ": tensors overlap or leave a hole");
    end = (*record->offsets)[1];
    const auto bytes =
        std::as_bytes(data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
    out.tensors.push_back({record->name, *record->dtype, shape, {bytes.begin(), bytes.end()}});
  }
  require_at(end == data.size(), path, 8 + size + end, "safetensors: ", data.size() - end,
             " bytes after the last tensor belong to none");
  return out;
}

/// Reads the safetensors file at `path`; throws IoError as parse_safetensors does.
inline SafetensorsFile read_safetensors(const std::string& path) { return parse_safetensors(read_file(path), path); }

/// Writes `file` at `path`, atomically: the tensors in their order, the header padded with spaces to eight bytes.
/// Throws ValueError for names that repeat or are not UTF-8, ShapeError for a tensor whose bytes do not fit its shape,
/// IoError where it cannot be written.
inline void write_safetensors(const std::string& path, const SafetensorsFile& file) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!file.metadata.empty()) {
    header["__metadata__"] = file.metadata;
  }
  std::uint64_t offset = 0;
  std::set<std::string_view> names;
  for (const auto& e : file.tensors) {
    require(e.name != "__metadata__" && names.insert(e.name).second, "safetensors: a tensor's name is '", e.name,
            "' twice, or is reserved");
    const auto expected = e.shape.numel() * dtype_size(e.dtype);
    require<ShapeError>(static_cast<std::int64_t>(e.bytes.size()) == expected, "safetensors: tensor ", e.name, " ",
                        e.shape, " has ", expected, " bytes, got ", e.bytes.size());
    header.emplace(e.name, nlohmann::ordered_json{{"dtype", dtype_name(e.dtype)},
                                                  {"shape", std::vector<std::int64_t>(e.shape.begin(), e.shape.end())},
                                                  {"data_offsets", {offset, offset + e.bytes.size()}}});
    offset += e.bytes.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::type_error&) {
    throw ValueError("safetensors: a name or a piece of metadata is not valid UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  require(text.size() <= kSafetensorsMaxHeader, "safetensors: the header has ", text.size(), " bytes, at most ",
          kSafetensorsMaxHeader, " are allowed");

  std::vector<std::byte> out(8 + text.size() + static_cast<std::size_t>(offset));
  const std::uint64_t length = text.size();
  std::memcpy(out.data(), &length, 8);
  std::memcpy(out.data() + 8, text.data(), text.size());
  std::size_t at = 8 + text.size();
  for (const auto& e : file.tensors) {
    std::copy(e.bytes.begin(), e.bytes.end(), out.begin() + static_cast<std::ptrdiff_t>(at));
    at += e.bytes.size();
  }
  write_atomically(path, std::span<const std::byte>(out));
}

}  // namespace pavise::io

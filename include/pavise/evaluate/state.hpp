// SPDX-License-Identifier: MIT
// The state of an evaluation as a file, so that a killed one goes on where it was. The file knows which evaluation it
// belongs to: by the images, by what the classifier answers to them, and by the attacks and their settings.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/hash.hpp"
#include "pavise/evaluate/report.hpp"
#include "pavise/io/file.hpp"

namespace pavise::evaluate {

static_assert(std::endian::native == std::endian::little, "state files are little-endian");

using pavise::Hash;

/// What an evaluation is known by.
struct Identity {
  std::uint64_t images = 0;   ///< pixels, labels and names of the images
  std::uint64_t model = 0;    ///< what the classifier answers to them: logits and gradients, bit by bit
  std::uint64_t attacks = 0;  ///< threat, attacks, settings, restarts, draws and seed
};

namespace detail {

inline constexpr std::string_view kStateMagic = "pavise evaluation 1\n";

class StateWriter {
 public:
  template <class T>
    requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void put(T v) {
    const auto at = bytes_.size();
    bytes_.resize(at + sizeof v);
    std::memcpy(bytes_.data() + at, &v, sizeof v);
  }
  void put(std::string_view s) {
    put(static_cast<std::uint64_t>(s.size()));
    bytes_.insert(bytes_.end(), s.begin(), s.end());
  }
  void raw(const void* data, std::size_t n) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    bytes_.insert(bytes_.end(), p, p + n);
  }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<std::uint8_t> bytes_;
};

class StateReader {
 public:
  StateReader(const std::string& path, std::span<const std::uint8_t> bytes) : path_(path), bytes_(bytes) {}

  void raw(void* out, std::size_t n) {
    io::require_at(n <= bytes_.size() - at_, path_, at_, "the file ends, expected ", n, " more bytes");
    std::memcpy(out, bytes_.data() + at_, n);
    at_ += n;
  }
  template <class T>
  T get() {
    T v;
    raw(&v, sizeof v);
    return v;
  }
  /// A count of things of `size` bytes each, at least: no more than are there.
  std::size_t count(std::size_t size) {
    const auto start = at_;
    const auto n = get<std::uint64_t>();
    io::require_at(n <= (bytes_.size() - at_) / size, path_, start, n, " entries of ", size,
                   " bytes or more, the file has ", bytes_.size() - at_, " more bytes");
    return static_cast<std::size_t>(n);
  }
  std::string text() {
    std::string s(count(1), '\0');
    raw(s.data(), s.size());
    return s;
  }
  void expect_end() const {
    io::require_at(at_ == bytes_.size(), path_, at_, "expected the end of the file, got more bytes");
  }
  /// An enumerator's number, no larger than `last`.
  template <class E>
  E enumerator(E last) {
    const auto start = at_;
    const E e = get<E>();
    io::require_at(e <= last, path_, start, "got ", static_cast<int>(e), ", expected 0 to ", static_cast<int>(last));
    return e;
  }
  const std::string& path() const { return path_; }
  std::uint64_t at() const { return at_; }

 private:
  std::string path_;
  std::span<const std::uint8_t> bytes_;
  std::uint64_t at_ = 0;
};

/// Calls f on every field that the file holds of a row, an image or a sign: the format is written down once.
template <class Row, class F>
void each_number_of_row(Row& r, const F& f) {
  f(r.tried), f(r.broken), f(r.first), f(r.forward), f(r.backward), f(r.seconds);
}
template <class Image, class F>
void each_field_of_image(Image& i, const F& f) {
  f(i.broken_by), f(i.prediction), f(i.confidence), f(i.distance), f(i.attempt), f(i.forward), f(i.backward);
}
template <class S, class F>
void each_number_of_sign(S& s, const F& f) {
  f(s.value), f(s.interval.low), f(s.interval.high), f(s.threshold), f(s.images);
}

}  // namespace detail

/// Writes what the attacks have found so far, atomically: rows, images, matrix, adversarial images; and the signs and
/// the curve, once they are measured. Throws IoError where it cannot be written.
inline void save_state(const std::string& path, const Identity& identity, const Report& report) {
  detail::StateWriter out;
  out.raw(detail::kStateMagic.data(), detail::kStateMagic.size());
  out.put(identity.images);
  out.put(identity.model);
  out.put(identity.attacks);
  const auto put = [&](const auto& v) { out.put(v); };
  out.put(static_cast<std::uint64_t>(report.attacks.size()));
  for (const auto& row : report.attacks) {
    detail::each_number_of_row(row, put);
  }
  out.put(static_cast<std::uint64_t>(report.images.size()));
  for (const auto& image : report.images) {
    detail::each_field_of_image(image, put);
  }
  out.raw(report.matrix.data(), report.matrix.size());
  // Only images that were broken differ from the clean ones.
  for (std::size_t i = 0; i < report.images.size(); ++i) {
    if (report.images[i].broken_by >= 0) {
      const auto row = report.adversarial.row(static_cast<std::int64_t>(i));
      out.raw(row.data(), row.size_bytes());
    }
  }
  out.put(static_cast<std::uint64_t>(report.signs.size()));
  for (const auto& sign : report.signs) {
    out.put(std::string_view(sign.name));
    out.put(std::string_view(sign.sentence));
    out.put(sign.state);
    out.put(static_cast<std::uint8_t>(sign.at_most ? 1 : 0));
    detail::each_number_of_sign(sign, put);
  }
  out.put(static_cast<std::uint64_t>(report.curve.size()));
  for (const auto& point : report.curve) {
    out.put(point.epsilon), out.put(point.correct), out.put(point.total), out.put(point.loss);
  }
  out.put(Hash().bytes(out.bytes().data(), out.bytes().size()).value());
  io::write_atomically(path, out.bytes());
}

/// Reads a state into a report that stands at its start: its attacks, images and adversarial images are there. Throws
/// IoError for a file that is damaged, and ValueError for one of another evaluation, which says what differs.
inline void load_state(const std::string& path, const Identity& identity, Report& report) {
  const auto bytes = io::read_file(path);
  const auto& magic = detail::kStateMagic;
  io::require_at(bytes.size() >= magic.size() + 8 && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0, path,
                 0, "not the state of an evaluation, expected '", magic.substr(0, magic.size() - 1), "'");
  const auto body = std::span(bytes).first(bytes.size() - 8);
  std::uint64_t sum = 0;
  std::memcpy(&sum, bytes.data() + body.size(), 8);
  io::require_at(sum == Hash().bytes(body.data(), body.size()).value(), path, body.size(),
                 "the checksum does not fit: the file is damaged");
  detail::StateReader in(path, body.subspan(magic.size()));
  Identity saved;
  saved.images = in.get<std::uint64_t>();
  saved.model = in.get<std::uint64_t>();
  saved.attacks = in.get<std::uint64_t>();
  std::vector<std::string_view> differ;
  for (const auto& [a, b, name] :
       {std::tuple(saved.images, identity.images, std::string_view("other images or labels")),
        std::tuple(saved.model, identity.model, std::string_view("another model (its answers to the images differ)")),
        std::tuple(saved.attacks, identity.attacks, std::string_view("another threat, other attacks or options"))}) {
    if (a != b) {
      differ.push_back(name);
    }
  }
  require(differ.empty(), path, ": the state of another evaluation, with ", join(differ, " and with "),
          "; delete it or name another file");
  const auto get = [&](auto& v) { in.raw(&v, sizeof v); };
  const auto expect = [&](std::size_t got, std::size_t wanted, std::string_view what) {
    io::require_at(got == wanted, path, in.at(), got, " ", what, ", expected ", wanted);
  };
  expect(in.count(1), report.attacks.size(), "attacks");
  for (auto& row : report.attacks) {
    detail::each_number_of_row(row, get);
  }
  expect(in.count(1), report.images.size(), "images");
  for (auto& image : report.images) {
    detail::each_field_of_image(image, get);
    io::require_at(
        image.broken_by >= kMisclassified && image.broken_by < static_cast<std::int64_t>(report.attacks.size()), path,
        in.at(), "an image is broken by attack ", image.broken_by, " of ", report.attacks.size());
  }
  for (auto& outcome : report.matrix) {
    outcome = in.enumerator(Outcome::broken);
  }
  for (std::size_t i = 0; i < report.images.size(); ++i) {
    if (report.images[i].broken_by >= 0) {
      const auto row = report.adversarial.row(static_cast<std::int64_t>(i));
      in.raw(row.data(), row.size_bytes());
    }
  }
  report.signs.resize(in.count(58));
  for (auto& sign : report.signs) {
    sign.name = in.text();
    sign.sentence = in.text();
    sign.state = in.enumerator(SignState::not_applicable);
    sign.at_most = in.enumerator(std::uint8_t{1}) != 0;
    detail::each_number_of_sign(sign, get);
  }
  report.curve.resize(in.count(32));
  for (auto& point : report.curve) {
    get(point.epsilon), get(point.correct), get(point.total), get(point.loss);
  }
  in.expect_end();
}

}  // namespace pavise::evaluate

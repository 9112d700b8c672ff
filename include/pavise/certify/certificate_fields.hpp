// SPDX-License-Identifier: MIT
// Lines of JSON that certificates of every kind are written as: a kind, a format, the kind's own fields in a fixed order,
// the radius as a decimal number, and a digest of them all. Opt-in: includes nlohmann-json.
//
// Numbers that are not whole are hexadecimal floats, "0x1.8p+0". The digest has eight hexadecimal digits for each field
// and for itself: it tells accidents and careless edits, and which field they hit; who recomputes it has to stand
// whatever else the kind can have recomputed.
//
// A kind is a struct C with C::kKind, the static function C::each_field(c, f), which calls f(name, member) on every
// field, result.radius, and forget_image(), which leaves what all certificates of a run share.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "pavise/certify/bounds.hpp"
#include "pavise/certify/sha256.hpp"
#include "pavise/core/shape.hpp"
#include "pavise/core/version.hpp"
#include "pavise/io/json.hpp"

namespace pavise::certify {

/// A certificate that is not what it should be: `field` names where.
struct CertificateError : ValueError {
  CertificateError(std::string name, const std::string& problem)
      : ValueError(name + ": " + problem), field(std::move(name)) {}
  std::string field;
};

/// Throws CertificateError "`field`: ..." unless `condition` holds.
template <class... Pieces>
void require_field(bool condition, std::string_view field, const Pieces&... pieces) {
  if (!condition) [[unlikely]] {
    throw CertificateError(std::string(field), concat(pieces...));
  }
}

/// "0x1.8p+0" for 1.5: every double, exactly.
inline std::string hex_float(double x) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::hex).ptr;
  return buffer[0] == '-' ? "-0x" + std::string(buffer + 1, end) : "0x" + std::string(buffer, end);
}

/// The names of an enumeration in certificates: kAll, every value, and name(value). Specialised for each.
template <class E>
struct FieldNames;

namespace detail {

using Json = nlohmann::ordered_json;

/// The value of a line; a discarded one where it is not JSON, or not JSON that a certificate could be.
inline Json json_of(std::string_view line) {
  constexpr std::size_t kMaxKeys = 256;
  try {
    return io::parse_json<Json>(line, "line", kMaxKeys);
  } catch (const IoError&) {
    return Json::value_t::discarded;
  }
}

inline Json field_json(double x) { return hex_float(x); }
inline Json field_json(const std::vector<double>& v) {
  Json out = Json::array();
  for (const double x : v) {
    out.push_back(hex_float(x));
  }
  return out;
}
inline Json field_json(const Shape& s) { return std::vector<std::int64_t>(s.begin(), s.end()); }
template <class T>
Json field_json(const T& v) {
  if constexpr (std::is_enum_v<T>) {
    return std::string(FieldNames<T>::name(v));
  } else {
    return v;
  }
}

inline const std::string& text_of(const Json& json, std::string_view name) {
  require_field(json.is_string(), name, "got ", json.dump(), ", expected a text");
  return json.get_ref<const std::string&>();
}
inline void read_field(const Json& json, std::string_view name, std::string& out) { out = text_of(json, name); }
inline void read_field(const Json& json, std::string_view name, double& out) {
  const std::string& text = text_of(json, name);
  const char* end = text.data() + text.size();
  const std::size_t sign = text.starts_with("-") ? 1 : 0;
  const bool prefix = text.compare(sign, 2, "0x") == 0;
  const auto parsed = std::from_chars(text.data() + (prefix ? sign + 2 : 0), end, out, std::chars_format::hex);
  out = sign != 0 ? -out : out;
  require_field(prefix && parsed.ec == std::errc() && parsed.ptr == end && std::isfinite(out) && hex_float(out) == text,
                name, "got ", json.dump(), ", expected a hexadecimal float such as \"0x1.8p+0\"");
}
inline void read_field(const Json& json, std::string_view name, bool& out) {
  require_field(json.is_boolean(), name, "got ", json.dump(), ", expected true or false");
  out = json.get<bool>();
}
template <class T>
  requires std::is_integral_v<T>
void read_field(const Json& json, std::string_view name, T& out) {
  const bool fits = std::is_same_v<T, std::uint64_t>
                        ? json.is_number_unsigned()
                        : json.is_number_integer() && json.get<std::int64_t>() >= 0 &&
                              json.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<T>::max());
  require_field(fits, name, "got ", json.dump(), ", expected a whole number of 0 or more");
  out = json.get<T>();
}
template <class T>
void read_field(const Json& json, std::string_view name, std::vector<T>& out) {
  require_field(json.is_array() && json.size() <= 100'000, name, "got ", json.dump().substr(0, 100),
                ", expected a list");
  out.resize(json.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    read_field(json[i], name, out[i]);
  }
}
inline void read_field(const Json& json, std::string_view name, Shape& out) {
  std::vector<std::int64_t> extents;
  read_field(json, name, extents);
  require_field(extents.size() == 3, name, "got ", json.dump(), ", expected the shape of an image");
  for (const auto extent : extents) {
    require_field(extent >= 1 && extent <= 65536, name, "got ", json.dump(), ", expected extents of 1 to 65536");
  }
  out = Shape(extents.begin(), extents.size());
}
template <class E>
  requires std::is_enum_v<E>
void read_field(const Json& json, std::string_view name, E& out) {
  const std::string& text = text_of(json, name);
  for (const E e : FieldNames<E>::kAll) {
    if (FieldNames<E>::name(e) == text) {
      out = e;
      return;
    }
  }
  require_field(false, name, "got ", json.dump(), ", which is none that is known");
}

inline std::string short_hash(std::string_view name, const Json& value) {
  return Sha256().add(name).add(value.dump()).hex().substr(0, 8);
}
/// Of all fields but the digest, in order, and of itself.
inline std::string digest_of(const Json& json) {
  std::string out;
  for (const auto& [name, value] : json.items()) {
    out += name == "digest" ? "" : short_hash(name, value);
  }
  return out + short_hash("digest", out);
}

}  // namespace detail

/// Whether two certificates are of the same run: all but the image and its result.
template <class C>
bool same_run(C a, C b) {
  a.forget_image();
  b.forget_image();
  bool same = true;
  std::vector<detail::Json> values;
  C::each_field(a, [&](const char*, const auto& v) { values.push_back(detail::field_json(v)); });
  std::size_t i = 0;
  C::each_field(b, [&](const char*, const auto& v) { same = same && values[i++] == detail::field_json(v); });
  return same;
}

/// The line of a file, without its end. The same certificate gives the same bytes everywhere.
template <class C>
std::string to_line(const C& certificate) {
  detail::Json json = {{"kind", C::kKind}, {"format", 1}};
  C::each_field(certificate, [&](const char* name, const auto& v) { json[name] = detail::field_json(v); });
  json["radius_decimal"] = truncated(certificate.result.radius, 6);
  json["digest"] = detail::digest_of(json);
  return json.dump();
}

/// Reads a line of a certificate of kind C. Throws CertificateError, naming the field, where one is missing, unknown, of
/// another type, or is not what the digest was made of.
template <class C>
C parse_line(std::string_view line) {
  const detail::Json json = detail::json_of(line);
  require_field(json.is_object(), "line", "not a JSON object");
  const auto at = [&](const char* name) -> const detail::Json& {
    const auto found = json.find(name);
    require_field(found != json.end(), name, "is missing");
    return *found;
  };
  require_field(at("kind") == C::kKind, "kind", "got ", at("kind").dump(), ", expected \"", C::kKind, "\"");
  require_field(at("format") == 1, "format", "got ", at("format").dump(), ", this version reads 1");
  std::vector<std::string> names = {"kind", "format"};
  C c;
  C::each_field(c, [&](const char* name, auto& v) {
    names.emplace_back(name);
    detail::read_field(at(name), name, v);
  });
  names.emplace_back("radius_decimal");
  const std::string decimal = detail::text_of(at("radius_decimal"), "radius_decimal");
  names.emplace_back("digest");
  std::size_t next = 0;
  for (const auto& [name, value] : json.items()) {
    require_field(next < names.size() && name == names[next], name, "unknown, or not in its place");
    ++next;
  }
  const std::string& digest = detail::text_of(at("digest"), "digest");
  const std::string expected = detail::digest_of(json);
  const std::string itself = digest.size() == expected.size() ? digest.substr(0, digest.size() - 8) : "";
  require_field(!itself.empty() && itself + detail::short_hash("digest", itself) == digest, "digest",
                "was changed: it does not agree with itself");
  for (std::size_t i = 0; i + 1 < names.size(); ++i) {
    require_field(digest.compare(8 * i, 8, expected, 8 * i, 8) == 0, names[i], "was changed: got ",
                  at(names[i].c_str()).dump(), ", which is not what the digest was made of");
  }
  require_field(decimal == truncated(c.result.radius, 6), "radius_decimal", "got ", decimal, ", the radius is ",
                truncated(c.result.radius, 6));
  return c;
}

/// The kind that a line says it is of, or "" where it says none.
inline std::string kind_of(std::string_view line) {
  const detail::Json json = detail::json_of(line);
  return json.is_object() && json.contains("kind") && json["kind"].is_string() ? json["kind"].get<std::string>() : "";
}

}  // namespace pavise::certify

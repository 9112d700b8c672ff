// SPDX-License-Identifier: MIT
// Certificates as JSON lines, one image a line, written so that anyone can check them later. Opt-in: includes
// nlohmann-json.
//
//   kind, format, version   "pavise certificate", 1, the library's version
//   model, image            SHA-256 of the network, and of the image's bytes (sha256.hpp)
//   index, label, shape     of the image, in its data set
//   noise, scale, clip      what is added; noise and pixel together are cut off to [-clip, clip + 1]
//   method, n0, n_max, radii, reserve, give_up                   as asked for (Options)
//   alpha, alpha_noise, alpha_sequence, alpha_cap                how it is split (Plan)
//   seed                    with index, stage (0: selection, 1: votes) and sample the key of the random numbers
//   selection, votes        one count a class; n: samples of the votes; chosen, stop
//   p_lower, radius         the claim; radius_decimal: cut off behind 6 decimals
//   digest                  eight hexadecimal digits for each field above and for the digest itself
//
// Numbers that are not whole are hexadecimal floats, "0x1.8p+0". The digest tells accidents and careless edits, and which
// field they hit; who recomputes it has to stand the bounds' recomputation and the redrawing of the noise.
#pragma once

#include <charconv>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/certify/sha256.hpp"
#include "pavise/certify/smoothing.hpp"
#include "pavise/core/version.hpp"

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

/// What one line says.
struct Certificate {
  std::string version{kVersion};
  std::string model;
  std::string image;
  std::int64_t index = 0;
  std::int32_t label = 0;
  Shape shape;
  Options options;
  std::int32_t clip = 1;
  double alpha_noise = 0, alpha_sequence = 0, alpha_cap = 0;
  Result result;

  /// Whether it is of the same run as another: all but the image and its result.
  bool same_run(const Certificate& other) const;
};

/// "0x1.8p+0" for 1.5: every double, exactly.
inline std::string hex_float(double x) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::hex).ptr;
  return buffer[0] == '-' ? "-0x" + std::string(buffer + 1, end) : "0x" + std::string(buffer, end);
}

namespace detail {

using Json = nlohmann::ordered_json;

inline constexpr std::string_view kCertificateKind = "pavise certificate";

/// Calls f(name, member) on every field, in the order of the file: the format is written down once.
template <class C, class F>
void each_field(C& c, const F& f) {
  f("version", c.version), f("model", c.model), f("image", c.image), f("index", c.index), f("label", c.label);
  f("shape", c.shape), f("noise", c.options.noise.kind), f("scale", c.options.noise.scale), f("clip", c.clip);
  f("method", c.options.method), f("n0", c.options.n0), f("n_max", c.options.n), f("radii", c.options.radii);
  f("reserve", c.options.reserve), f("give_up", c.options.give_up), f("alpha", c.options.alpha);
  f("alpha_noise", c.alpha_noise), f("alpha_sequence", c.alpha_sequence), f("alpha_cap", c.alpha_cap);
  f("seed", c.options.seed), f("selection", c.result.selection), f("votes", c.result.votes), f("n", c.result.n);
  f("chosen", c.result.chosen), f("stop", c.result.stop), f("p_lower", c.result.p_lower), f("radius", c.result.radius);
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
inline Json field_json(NoiseKind k) { return std::string(noise_name(k)); }
inline Json field_json(Method m) { return std::string(method_name(m)); }
inline Json field_json(Stop s) { return std::string(stop_name(s)); }
template <class T>
Json field_json(const T& v) {
  return v;
}

inline const std::string& text_of(const Json& json, std::string_view name) {
  require_field(json.is_string(), name, "got ", json.dump(), ", expected a text");
  return json.get_ref<const std::string&>();
}
inline void read_field(const Json& json, std::string_view name, std::string& out) { out = text_of(json, name); }
inline void read_field(const Json& json, std::string_view name, double& out) {
  const std::string& text = text_of(json, name);
  const char* end = text.data() + text.size();
  const bool prefix = text.starts_with("0x");
  const auto parsed = std::from_chars(text.data() + (prefix ? 2 : 0), end, out, std::chars_format::hex);
  require_field(prefix && parsed.ec == std::errc() && parsed.ptr == end && std::isfinite(out) && hex_float(out) == text,
                name, "got ", json.dump(), ", expected a hexadecimal float such as \"0x1.8p+0\"");
}
template <class T>
  requires std::is_integral_v<T>
void read_field(const Json& json, std::string_view name, T& out) {
  const bool fits = std::is_same_v<T, std::uint64_t> ? json.is_number_unsigned()
                                                     : json.is_number_integer() && json.get<std::int64_t>() >= 0 &&
                                                           json.get<std::int64_t>() <= std::numeric_limits<T>::max();
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
template <class E, class Name>
void read_name(const Json& json, std::string_view name, E& out, std::initializer_list<E> all, const Name& name_of) {
  const std::string& text = text_of(json, name);
  for (const E e : all) {
    if (name_of(e) == text) {
      out = e;
      return;
    }
  }
  require_field(false, name, "got ", json.dump(), ", which is none that is known");
}
inline void read_field(const Json& json, std::string_view name, NoiseKind& out) {
  read_name(json, name, out, {NoiseKind::gaussian, NoiseKind::uniform, NoiseKind::laplace, NoiseKind::gaussian_unsound},
            noise_name);
}
inline void read_field(const Json& json, std::string_view name, Method& out) {
  read_name(json, name, out, {Method::fixed, Method::sequential}, method_name);
}
inline void read_field(const Json& json, std::string_view name, Stop& out) {
  read_name(json, name, out, {Stop::samples, Stop::certified, Stop::hopeless}, stop_name);
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

inline bool Certificate::same_run(const Certificate& other) const {
  Certificate a = *this;
  Certificate b = other;
  for (Certificate* c : {&a, &b}) {
    c->image.clear();
    c->index = c->label = 0;
    c->result = {};
  }
  bool same = true;
  std::vector<detail::Json> values;
  detail::each_field(a, [&](const char*, const auto& v) { values.push_back(detail::field_json(v)); });
  std::size_t i = 0;
  detail::each_field(b, [&](const char*, const auto& v) { same = same && values[i++] == detail::field_json(v); });
  return same;
}

/// The certificate of an image under a plan.
inline Certificate make_certificate(std::string model, const data::Dataset& images, std::int64_t i,
                                    const Sampler& sampler, const Plan& plan, Result result) {
  return {.version = std::string(kVersion),
          .model = std::move(model),
          .image = image_hash(images.image_shape(), images.pixels(i)),
          .index = images.source_index(i),
          .label = images.label(i),
          .shape = images.image_shape(),
          .options = plan.options(),
          .clip = sampler.noise().clip(),
          .alpha_noise = plan.alpha_noise(),
          .alpha_sequence = plan.alpha_sequence(),
          .alpha_cap = plan.alpha_cap(),
          .result = std::move(result)};
}

/// The line of a file, without its end. The same certificate gives the same bytes everywhere.
inline std::string to_line(const Certificate& certificate) {
  detail::Json json = {{"kind", detail::kCertificateKind}, {"format", 1}};
  detail::each_field(certificate, [&](const char* name, const auto& v) { json[name] = detail::field_json(v); });
  json["radius_decimal"] = truncated(certificate.result.radius, 6);
  json["digest"] = detail::digest_of(json);
  return json.dump();
}

/// Reads a line. Throws CertificateError, naming the field, where one is missing, unknown, of another type, or is not
/// what the digest was made of.
inline Certificate parse_certificate(std::string_view line) {
  const detail::Json json = detail::Json::parse(line, nullptr, false);
  require_field(json.is_object(), "line", "not a JSON object");
  const auto at = [&](const char* name) -> const detail::Json& {
    const auto found = json.find(name);
    require_field(found != json.end(), name, "is missing");
    return *found;
  };
  require_field(at("kind") == detail::kCertificateKind, "kind", "got ", at("kind").dump(), ", expected \"",
                detail::kCertificateKind, "\"");
  require_field(at("format") == 1, "format", "got ", at("format").dump(), ", this version reads 1");
  std::vector<std::string> names = {"kind", "format"};
  Certificate c;
  detail::each_field(c, [&](const char* name, auto& v) {
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

}  // namespace pavise::certify

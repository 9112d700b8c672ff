// SPDX-License-Identifier: MIT
// Certificates of bound propagation as JSON lines, one image a line (certificate_fields.hpp). Opt-in: includes
// nlohmann-json.
//
//   kind, format, version   "pavise bounds certificate", 1, the library's version
//   model, image            SHA-256 of the network, and of the image's bytes (sha256.hpp)
//   index, label, shape     of the image, in its data set
//   method, norm            ibp or crown; linf, l2 or l1
//   low, high               the pixel box
//   epsilon, search         as asked for (PropagationOptions)
//   chosen                  the class that the model answers
//   verified, radius        the claim: that it does so everywhere within the radius; radius_decimal: cut off behind 6
//                           decimals
//   margins                 lower bounds of the chosen logit minus each other one, at the radius
//   digest                  of all of them
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/certify/certificate_fields.hpp"
#include "pavise/certify/certificate_image.hpp"
#include "pavise/certify/propagation/propagation.hpp"

namespace pavise::certify {

template <>
struct FieldNames<Propagation> {
  static constexpr Propagation kAll[] = {Propagation::ibp, Propagation::crown};
  static std::string_view name(Propagation p) { return propagation_name(p); }
};
template <>
struct FieldNames<attack::Norm> {
  static constexpr attack::Norm kAll[] = {attack::Norm::linf, attack::Norm::l2, attack::Norm::l1};
  static std::string_view name(attack::Norm n) { return attack::norm_name(n); }
};

/// What one line says.
struct PropagationCertificate {
  static constexpr std::string_view kKind = "pavise bounds certificate";

  std::string version{kVersion};
  std::string model;
  std::string image;
  std::int64_t index = 0;
  std::int32_t label = 0;
  Shape shape;
  PropagationOptions options;
  PropagationResult result;

  template <class C, class F>
  static void each_field(C& c, const F& f) {
    f("version", c.version), f("model", c.model), f("image", c.image), f("index", c.index), f("label", c.label);
    f("shape", c.shape), f("method", c.options.method), f("norm", c.options.threat.norm);
    f("low", c.options.threat.low), f("high", c.options.threat.high), f("epsilon", c.options.threat.epsilon);
    f("search", c.options.search), f("chosen", c.result.chosen), f("verified", c.result.verified);
    f("radius", c.result.radius), f("margins", c.result.margins);
  }
  void forget_image() {
    image.clear();
    index = label = 0;
    result = {};
  }
};

/// The certificate of image i of a data set.
inline PropagationCertificate make_certificate(std::string model, const data::Dataset& images, std::int64_t i,
                                               const PropagationOptions& options, PropagationResult result) {
  return {.version = std::string(kVersion),
          .model = std::move(model),
          .image = image_hash(images.image_shape(), images.pixels(i)),
          .index = images.source_index(i),
          .label = images.label(i),
          .shape = images.image_shape(),
          .options = options,
          .result = std::move(result)};
}

/// Throws CertificateError, naming the field, unless a certificate's claim follows from its own margins: all that can be
/// checked without the model.
inline void verify_claim(const PropagationCertificate& c) {
  try {
    const attack::Threat& t = c.options.threat;
    attack::Threat(t.norm, t.epsilon, t.low, t.high);
    c.options.check();
  } catch (const Error& e) {
    throw CertificateError("epsilon", e.what());
  }
  const PropagationResult& r = c.result;
  require_field(r.margins.size() >= 2, "margins", "got ", r.margins.size(), ", expected two classes or more");
  require_field(static_cast<std::size_t>(r.chosen) < r.margins.size(), "chosen", "got ", r.chosen, " of ",
                r.margins.size(), " classes");
  require_field(r.margins[static_cast<std::size_t>(r.chosen)] == 0, "margins", "got ",
                hex_float(r.margins[static_cast<std::size_t>(r.chosen)]), " for the chosen class, expected 0");
  require_field(r.verified == all_positive(r.margins, r.chosen), "verified", "got ", r.verified,
                ", the margins say otherwise");
  const double epsilon = c.options.threat.epsilon;
  require_field(c.options.search == 0 ? r.radius == epsilon : r.radius >= 0 && r.radius <= epsilon, "radius", "got ",
                r.radius, ", asked for was ", epsilon);
}

/// Computes the bounds of certificates again. `model`: the hash of the network's model; `images`: the data set. Throws
/// CertificateError, naming the field, where model, image, label or any bit of the result is another.
inline void verify_again(std::span<const PropagationCertificate> certificates, const Network& network,
                         const std::string& model, const data::Dataset& images,
                         const std::function<void(std::int64_t)>& progress = {}) {
  if (certificates.empty()) {
    return;
  }
  std::vector<std::int64_t> positions;
  for (const auto& c : certificates) {
    positions.push_back(checked_position(c, certificates.front(), model, images));
  }
  verify_images(network, images.subset(positions), certificates.front().options,
                [&](std::int64_t i, const PropagationResult& r) {
                  const PropagationCertificate& c = certificates[static_cast<std::size_t>(i)];
                  const auto same = [&](std::string_view field, const auto& got, const auto& again) {
                    require_same(c, field, got, again, "computed");
                  };
                  same("chosen", c.result.chosen, r.chosen);
                  same("verified", c.result.verified, r.verified);
                  same("radius", c.result.radius, r.radius);
                  same("margins", c.result.margins, r.margins);
                  if (progress) {
                    progress(1);
                  }
                });
}

}  // namespace pavise::certify

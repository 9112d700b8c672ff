// SPDX-License-Identifier: MIT
// Certificates of randomized smoothing as JSON lines, one image a line, written so that anyone can check them later
// (certificate_fields.hpp). Opt-in: includes nlohmann-json.
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
//   digest                  of all of them
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/certify/certificate_fields.hpp"
#include "pavise/certify/smoothing.hpp"

namespace pavise::certify {

template <>
struct FieldNames<NoiseKind> {
  static constexpr NoiseKind kAll[] = {NoiseKind::gaussian, NoiseKind::uniform, NoiseKind::laplace,
                                       NoiseKind::gaussian_unsound};
  static std::string_view name(NoiseKind k) { return noise_name(k); }
};
template <>
struct FieldNames<Method> {
  static constexpr Method kAll[] = {Method::fixed, Method::sequential};
  static std::string_view name(Method m) { return method_name(m); }
};
template <>
struct FieldNames<Stop> {
  static constexpr Stop kAll[] = {Stop::samples, Stop::certified, Stop::hopeless};
  static std::string_view name(Stop s) { return stop_name(s); }
};

/// What one line says.
struct Certificate {
  static constexpr std::string_view kKind = "pavise certificate";

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

  template <class C, class F>
  static void each_field(C& c, const F& f) {
    f("version", c.version), f("model", c.model), f("image", c.image), f("index", c.index), f("label", c.label);
    f("shape", c.shape), f("noise", c.options.noise.kind), f("scale", c.options.noise.scale), f("clip", c.clip);
    f("method", c.options.method), f("n0", c.options.n0), f("n_max", c.options.n), f("radii", c.options.radii);
    f("reserve", c.options.reserve), f("give_up", c.options.give_up), f("alpha", c.options.alpha);
    f("alpha_noise", c.alpha_noise), f("alpha_sequence", c.alpha_sequence), f("alpha_cap", c.alpha_cap);
    f("seed", c.options.seed), f("selection", c.result.selection), f("votes", c.result.votes), f("n", c.result.n);
    f("chosen", c.result.chosen), f("stop", c.result.stop), f("p_lower", c.result.p_lower),
        f("radius", c.result.radius);
  }
  void forget_image() {
    image.clear();
    index = label = 0;
    result = {};
  }
};

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

}  // namespace pavise::certify

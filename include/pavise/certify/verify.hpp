// SPDX-License-Identifier: MIT
// Checks certificates: what they claim from what they count, without the model; and with it, that the counts are those of
// the noise that their key names. Opt-in: includes nlohmann-json.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <list>
#include <span>
#include <string>
#include <vector>

#include "pavise/certify/certificate.hpp"
#include "pavise/certify/certificate_image.hpp"

namespace pavise::certify {

/// Throws CertificateError, naming the field, unless everything in a certificate follows from its options and votes, bit
/// for bit. `sampler` draws the certificate's noise.
inline void verify_bounds(const Certificate& c, const Sampler& sampler) {
  const Options& o = c.options;
  const auto plan = [&] {
    try {
      return Plan(o, c.shape.numel(), sampler.defect());
    } catch (const Error& e) {
      throw CertificateError("options", e.what());
    }
  }();
  const auto same = [](std::string_view field, const auto& got, const auto& expected) {
    require_field(got == expected, field, "got ", detail::field_json(got).dump(), ", it comes to ",
                  detail::field_json(expected).dump());
  };
  same("clip", c.clip, o.noise.clip());
  same("alpha_noise", c.alpha_noise, plan.alpha_noise());
  same("alpha_sequence", c.alpha_sequence, plan.alpha_sequence());
  same("alpha_cap", c.alpha_cap, plan.alpha_cap());
  const Result& r = c.result;
  // Of at most `most` votes in all; a file may claim counts whose sum overflows.
  const auto at_most = [](const std::vector<std::int64_t>& votes, std::int64_t most) {
    std::int64_t left = most;
    for (const std::int64_t v : votes) {
      if (v > left) {
        return false;
      }
      left -= v;
    }
    return true;
  };
  require_field(r.selection.size() >= 2 && at_most(r.selection, o.n0), "selection", "got ",
                detail::field_json(r.selection).dump(), ", expected two classes or more, and ", o.n0,
                " votes or fewer");
  require_field(r.n >= 1 && r.n <= o.n && (r.n % Plan::kLook == 0 || r.n == o.n), "n", "got ", r.n, ", expected ", o.n,
                " or a multiple of ", Plan::kLook, " below it");
  require_field(r.votes.size() == r.selection.size() && at_most(r.votes, r.n), "votes", "got ",
                detail::field_json(r.votes).dump(), ", expected ", r.n, " or fewer of ", r.selection.size(),
                " classes");
  same("chosen", r.chosen,
       static_cast<std::int32_t>(std::max_element(r.selection.begin(), r.selection.end()) - r.selection.begin()));
  const std::int64_t won = r.votes[static_cast<std::size_t>(r.chosen)];
  Stop stop = Stop::samples;
  require_field(plan.ends(won, r.n, stop), "n", "sampling does not stop with ", won, " votes of ", r.n);
  same("stop", r.stop, stop);
  same("p_lower", r.p_lower, plan.bound(won, r.n));
  same("radius", r.radius, plan.radius(r.p_lower));
}

/// Checks certificates one after another; the noise's tables are made once.
class Verifier {
 public:
  void bounds(const Certificate& c) { verify_bounds(c, sampler(c)); }

  /// Draws the noise of certificates of one run again. `model`: the hash of the classifier's network; `images`: the data
  /// set. Throws CertificateError, naming the field, where model, image, label or any count is another. `progress` as in
  /// certify.
  void replay(std::span<const Certificate> certificates, const attack::Classifier& base, const std::string& model,
              const data::Dataset& images, const std::function<void(std::int64_t)>& progress = {}) {
    if (certificates.empty()) {
      return;
    }
    std::vector<std::int64_t> positions;
    for (const auto& c : certificates) {
      positions.push_back(checked_position(c, certificates.front(), model, images));
      require_field(c.result.votes.size() == static_cast<std::size_t>(base.classes()), "votes", c.result.votes.size(),
                    " classes, the model has ", base.classes());
    }
    const Sampler& noise = sampler(certificates.front());
    const Plan plan = make_plan(certificates.front().options, base, noise);
    certify(
        base, noise, images.subset(positions), plan,
        [&](std::int64_t i, const Result& r) {
          const Certificate& c = certificates[static_cast<std::size_t>(i)];
          const auto same = [&](std::string_view field, const auto& got, const auto& drawn) {
            require_same(c, field, got, drawn, "drawn");
          };
          same("selection", c.result.selection, r.selection);
          same("chosen", c.result.chosen, r.chosen);
          same("n", c.result.n, r.n);
          same("votes", c.result.votes, r.votes);
          same("stop", c.result.stop, r.stop);
          same("p_lower", c.result.p_lower, r.p_lower);
          same("radius", c.result.radius, r.radius);
        },
        progress);
  }

 private:
  const Sampler& sampler(const Certificate& c) {
    const Noise& noise = c.options.noise;
    for (const Sampler& s : samplers_) {
      if (s.noise().kind == noise.kind && s.noise().scale == noise.scale) {
        return s;
      }
    }
    try {
      return samplers_.emplace_back(noise);
    } catch (const Error& e) {
      throw CertificateError("scale", e.what());
    }
  }
  std::list<Sampler> samplers_;
};

}  // namespace pavise::certify

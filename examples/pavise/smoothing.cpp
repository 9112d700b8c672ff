// SPDX-License-Identifier: MIT
#include "smoothing.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "common.hpp"
#include "pavise/certify/bounds.hpp"

namespace pavise::program {
namespace {

struct Summary {
  std::int64_t images = 0, abstained = 0, samples = 0;
  double average_radius = 0, most = 0;
  std::vector<std::pair<double, std::int64_t>> curve;  ///< radius and images certified there
};

double right_radius(const certify::Certificate& c) {
  return !c.result.abstains() && c.result.chosen == c.label ? c.result.radius : -1;
}

Summary summarize(const std::vector<certify::Certificate>& all) {
  Summary s;
  double largest = 0;
  for (const auto& c : all) {
    ++s.images;
    s.abstained += c.result.abstains() ? 1 : 0;
    s.samples += c.options.n0 + c.result.n;
    s.most = std::max(s.most, static_cast<double>(c.options.n0 + c.options.n));
    s.average_radius += std::max(0.0, right_radius(c));
    largest = std::max(largest, right_radius(c));
  }
  s.average_radius /= static_cast<double>(std::max<std::int64_t>(1, s.images));
  std::vector<double> radii;
  for (int i = 0; i * 0.25 <= largest; ++i) {
    radii.push_back(i * 0.25);
  }
  if (!all.empty()) {
    radii.insert(radii.end(), all.front().options.radii.begin(), all.front().options.radii.end());
  }
  std::sort(radii.begin(), radii.end());
  radii.erase(std::unique(radii.begin(), radii.end()), radii.end());
  for (const double r : radii) {
    s.curve.emplace_back(r, std::count_if(all.begin(), all.end(), [r](const auto& c) { return right_radius(c) >= r; }));
  }
  return s;
}

}  // namespace

Base::Base(const std::vector<std::string>& paths, const data::Dataset& images) {
  std::vector<std::string> hashes;
  for (const auto& path : paths) {
    files.push_back(io::load_model(path));
    require_same_images(path, files.back().model, images);
    members.emplace_back(files.back().model);
    hashes.push_back(certify::model_hash(files.back().model));
  }
  hash = certify::ensemble_hash(hashes);
}

void print_certified(const std::vector<certify::Certificate>& all) {
  if (all.empty()) {
    return;
  }
  const Summary s = summarize(all);
  const auto& noise = all.front().options.noise;
  std::printf("%s noise, %s %g, alpha %g; radii in %s\n", std::string(certify::noise_name(noise.kind)).c_str(),
              std::string(noise.scale_name()).c_str(), noise.scale, all.front().options.alpha,
              std::string(noise.norm()).c_str());
  for (const auto& [r, n] : s.curve) {
    std::printf("  certified at %-5g %s\n", r, describe(n, s.images).c_str());
  }
  std::printf("  average radius %s, abstained %lld; %.0f samples an image of %.0f\n",
              certify::truncated(s.average_radius, 4).c_str(), static_cast<long long>(s.abstained),
              static_cast<double>(s.samples) / static_cast<double>(s.images), s.most);
}

nlohmann::json certified_json(const std::vector<certify::Certificate>& all) {
  const Summary s = summarize(all);
  nlohmann::json curve = nlohmann::json::array();
  for (const auto& [r, n] : s.curve) {
    auto point = count(n, s.images);
    point["radius"] = r;
    curve.push_back(std::move(point));
  }
  nlohmann::json images = nlohmann::json::array();
  for (const auto& c : all) {
    images.push_back({{"index", c.index},
                      {"label", c.label},
                      {"chosen", c.result.abstains() ? -1 : c.result.chosen},
                      {"radius", c.result.radius},
                      {"samples", c.options.n0 + c.result.n},
                      {"votes", c.result.votes}});
  }
  return {{"images", s.images},   {"abstained", s.abstained},  {"average_radius", s.average_radius},
          {"samples", s.samples}, {"curve", std::move(curve)}, {"results", std::move(images)}};
}

}  // namespace pavise::program

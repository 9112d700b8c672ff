// SPDX-License-Identifier: MIT
// Targets: the texts that name filters and attacks, and detector files. Apart from the others: it takes minutes to
// compile the catalogues, so that the short run leaves them out.
#include <utility>

#include "fuzz/target.hpp"
#include "pavise/attack/catalog.hpp"
#include "pavise/defend/detector_file.hpp"
#include "pavise/io/model_file.hpp"
#include "pavise/nn/models.hpp"

namespace pavise_fuzz {

namespace {

namespace defend = pavise::defend;
namespace io = pavise::io;
namespace nn = pavise::nn;
using pavise::Shape;

void read_filters(const Bytes& file) {
  const std::string text(text_of(file));
  defend::make_squeezers(text);
}

/// "NAME key=value key=value".
void read_attack(const Bytes& file) {
  std::vector<std::string> words(1);
  for (const char c : text_of(file)) {
    if (c == ' ') {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  pavise::attack::Settings settings;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const auto sign = std::min(words[i].find('='), words[i].size());
    settings.emplace_back(words[i].substr(0, sign), words[i].substr(std::min(sign + 1, words[i].size())));
  }
  for (const auto norm : {pavise::attack::Norm::linf, pavise::attack::Norm::l2, pavise::attack::Norm::l1}) {
    pavise::attack::make_attack(words[0], pavise::attack::Threat(norm, 0.1), settings);
  }
}

/// With the checksum that it should have, so that the rest is looked at as well.
void read_detector(const Bytes& file) {
  auto json = io::parse_json(text_of(file), "fuzz");
  if (json.is_object()) {
    json.erase("checksum");
    json["checksum"] = defend::detail::detector_checksum(json);
  }
  const auto text = json.dump();
  const MemoryFile there(bytes_of(text));
  defend::load_detector(there.path());
}

std::vector<Bytes> detectors() {
  const auto model = nn::mlp({.seed = 3, .input = Shape{1, 2, 2}, .classes = 2, .hidden = {3}});
  const defend::DetectorFile file{
      .detector = defend::FeatureSqueezing(defend::make_squeezers("bit-depth:4 | median:3, median:2"), 0.1F),
      .false_positive_rate = 0.05,
      .images = 500,
      .data = "drawn digits",
      .model = model.name(),
      .model_hash = defend::hash_model(model)};
  return {saved([&](const std::string& path) { defend::save_detector(path, file); })};
}

std::vector<Bytes> attacks() {
  std::vector<Bytes> out;
  for (const auto& name : pavise::attack::attack_names()) {
    for (const auto norm : {pavise::attack::Norm::linf, pavise::attack::Norm::l1}) {
      try {
        std::string text = name;
        const auto named = pavise::attack::make_attack(name, pavise::attack::Threat(norm, 0.1));
        for (const auto& [key, value] : named.settings) {
          text += pavise::concat(" ", key, "=", value);
        }
        out.push_back(bytes_of(text));
      } catch (const pavise::Error&) {  // not in this norm
      }
    }
  }
  return out;
}

/// Only those that read under every norm are written as seeds, so that a refusal is told from a bug.
std::vector<Bytes> everywhere(const std::vector<Bytes>& texts) {
  std::vector<Bytes> out;
  for (const auto& text : texts) {
    try {
      read_attack(text);
      out.push_back(text);
    } catch (const pavise::Error&) {
    }
  }
  return out;
}

std::vector<Target> targets() {
  return {
      {"filters", 64, kMiB, read_filters,
       [] {
         std::vector<Bytes> out = {bytes_of("cifar10"), bytes_of("bit-depth:4 | median:2-3, nlm:11-3-4")};
         for (const char* text : {"jpeg:75:444", "gaussian-blur:1.5", "bilateral:5-0.1-2", "tv:0.03-0.5-100",
                                  "resize-pad:24", "thermometer:16", "uniform-noise:1e-1", "gaussian-noise:8/255"}) {
           out.push_back(bytes_of(text));
         }
         return out;
       }},
      {"attack", 64, kMiB, read_attack, [] { return everywhere(attacks()); }},
      {"detector", 64, kMiB, read_detector, detectors},
  };
}

[[maybe_unused]] const Targets kTargets(targets);

}  // namespace

}  // namespace pavise_fuzz

// SPDX-License-Identifier: MIT
// Certificates of bound propagation: what `certify --method ibp|crown` and `verify` do with them.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "certify.hpp"
#include "pavise/certify/certificate_file.hpp"
#include "pavise/certify/propagation/certificate.hpp"
#include "pavise/certify/together.hpp"
#include "pavise/data/catalog.hpp"
#include "pavise/report/progress.hpp"

namespace pavise::program {
namespace {

using certify::PropagationCertificate;

struct Tally {
  std::int64_t images = 0, correct = 0, verified = 0;
  double radius = 0;  ///< of the right class, added up
};

Tally tally(const std::vector<PropagationCertificate>& all) {
  Tally t;
  for (const auto& c : all) {
    const bool right = c.result.chosen == c.label;
    ++t.images;
    t.correct += right ? 1 : 0;
    t.radius += right && c.result.verified ? c.result.radius : 0;
    t.verified += right && c.result.verified && c.result.radius == c.options.threat.epsilon ? 1 : 0;
  }
  return t;
}

void print(const std::vector<PropagationCertificate>& all) {
  if (all.empty()) {
    return;
  }
  const Tally t = tally(all);
  const auto& o = all.front().options;
  std::printf("%s, %s ball of radius %g\n", std::string(certify::propagation_name(o.method)).c_str(),
              std::string(attack::norm_name(o.threat.norm)).c_str(), o.threat.epsilon);
  std::printf("  clean     %s\n  certified %s\n", describe(t.correct, t.images).c_str(),
              describe(t.verified, t.images).c_str());
  if (o.search > 0) {
    std::printf("  average radius %s\n", certify::truncated(t.radius / static_cast<double>(t.images), 6).c_str());
  }
}

std::vector<PropagationCertificate> read(const std::string& file) {
  std::vector<PropagationCertificate> all;
  for (auto& line : certify::read_certificates<PropagationCertificate>(file)) {
    all.push_back(std::move(line.certificate));
  }
  return all;
}

io::ModelFile load(const std::vector<std::string>& model_files, const data::Dataset& images) {
  require(model_files.size() == 1, "--model-file: ", model_files.size(),
          " files, expected one: bounds are of a single model");
  io::ModelFile file = io::load_model(model_files.front());
  require_same_images(model_files.front(), file.model, images);
  return file;
}

}  // namespace

void print_propagation(const std::string& file) { print(read(file)); }

void run_propagation(const CertifyOptions& o) {
  const certify::PropagationOptions options{
      .method = o.method == "ibp" ? certify::Propagation::ibp : certify::Propagation::crown,
      .threat = {attack::parse_norm(o.norm), parse_radius(o.eps)},
      .search = o.search};
  options.check();
  const data::Dataset test = data::load(o.data).test;
  const io::ModelFile file = load(o.model_files, test);
  const certify::Network network(file.model);
  const std::string hash = certify::model_hash(file.model);
  const data::Dataset images = test.subset(o.positions(test.size()));
  std::vector<PropagationCertificate> expected;
  for (std::int64_t i = 0; i < images.size(); ++i) {
    expected.push_back(certify::make_certificate(hash, images, i, options, {}));
  }
  Progress<PropagationCertificate> progress(o, expected);
  const auto& all = progress.all;
  const std::int64_t before = progress.before;
  const std::int64_t left = images.size() - before;
  const Stopwatch watch;
  certify::certify_together<PropagationCertificate>(
      o.team, left,
      [&](std::int64_t begin, std::int64_t end, const auto& emit) {
        certify::verify_images(network, part(images, before + begin, before + end), options,
                               [&](std::int64_t i, const certify::PropagationResult& result) {
                                 emit(certify::make_certificate(hash, images, before + begin + i, options, result));
                               });
      },
      [&](const PropagationCertificate& c) { progress.add(c); });
  progress.finish();
  if (!o.writes()) {
    return;
  }
  const double seconds = watch.seconds();
  print(all);
  std::printf("%.3f s an image; certificates in %s\n", left == 0 ? 0.0 : seconds / static_cast<double>(left),
              o.out.c_str());
  if (!o.json.empty()) {
    const Tally t = tally(all);
    nlohmann::json json = record("bounds", o.command, o.seed);
    json["data"] = o.data;
    json["data_note"] = o.data_note;
    json["model"] = file.model.name();
    json["model_file"] = o.model_files.front();
    json["label"] = o.label_of(file);
    json["method"] = o.method;
    json["norm"] = o.norm;
    json["epsilon"] = options.threat.epsilon;
    json["search"] = o.search;
    json["certificates"] = o.out;
    json["seconds"] = seconds;
    json["clean"] = count(t.correct, t.images);
    json["certified"] = count(t.verified, t.images);
    json["average_radius"] = t.radius / static_cast<double>(t.images);
    write_json(o.json, json);
  }
}

void verify_propagation(const Shared& o, const std::string& file, const std::vector<std::string>& model_files,
                        std::int64_t count) {
  const std::vector<PropagationCertificate> all = read(file);
  for (std::size_t i = 0; i < all.size(); ++i) {
    try {
      certify::verify_claim(all[i]);
    } catch (const certify::CertificateError& e) {
      throw certify::CertificateError(e.field, concat(file, ": line ", i + 1, ": ", std::string_view(e.what())));
    }
  }
  print(all);
  std::printf("%zu certificates: each claim follows from its margins\n", all.size());
  if (model_files.empty()) {
    std::printf("the margins themselves are checked with --model-file and --data\n");
    return;
  }
  const data::Dataset test = data::load(o.data).test;
  const io::ModelFile model = load(model_files, test);
  const certify::Network network(model.model);
  const auto some =
      std::span(all).first(count > 0 ? std::min(all.size(), static_cast<std::size_t>(count)) : all.size());
  std::optional<report::ProgressBar> bar;
  if (!o.quiet) {
    bar.emplace("verify", static_cast<std::int64_t>(some.size()));
  }
  certify::verify_again(some, network, certify::model_hash(model.model), test, [&](std::int64_t n) {
    if (bar) {
      bar->advance(n);
    }
  });
  if (bar) {
    bar->finish();
  }
  std::printf("%zu certificates: bounds computed again, every bit is the same\n", some.size());
}

}  // namespace pavise::program

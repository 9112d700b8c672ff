// SPDX-License-Identifier: MIT
// `pavise verify`: checks certificates, without the model and with it.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "certify.hpp"
#include "pavise/certify/certificate_file.hpp"
#include "pavise/certify/propagation/certificate.hpp"
#include "pavise/certify/verify.hpp"
#include "pavise/data/catalog.hpp"
#include "pavise/report/progress.hpp"
#include "smoothing.hpp"
#include "subject.hpp"

namespace pavise::program {
namespace {

struct VerifyOptions : Shared {
  std::string file;
  std::vector<std::string> model_files;
  std::int64_t count = 0;
};

void run_verify(VerifyOptions o) {
  o.apply();
  o.require_cpu("verify");
  require(o.count >= 0, "--count ", o.count, ", expected 0 (all) or more");
  if (certify::file_kind(o.file) == certify::PropagationCertificate::kKind) {
    verify_propagation(o, o.file, o.model_files, o.count);
    return;
  }
  std::vector<certify::Certificate> all;
  for (auto& line : certify::read_certificates(o.file)) {
    all.push_back(std::move(line.certificate));
  }
  require(!all.empty(), o.file, ": has no certificates");
  certify::Verifier verifier;
  for (std::size_t i = 0; i < all.size(); ++i) {
    try {
      verifier.bounds(all[i]);
    } catch (const certify::CertificateError& e) {
      throw certify::CertificateError(e.field, concat(o.file, ": line ", i + 1, ": ", std::string_view(e.what())));
    }
  }
  print_certified(all);
  std::printf("%zu certificates: all bounds recomputed, each follows from its votes\n", all.size());
  if (all.front().options.noise.kind == certify::NoiseKind::gaussian_unsound) {
    std::printf("NOTE: the noise was drawn in floats: these certificates prove nothing\n");
  }
  if (o.model_files.empty()) {
    std::printf("the votes themselves are checked with --model-file and --data\n");
    return;
  }
  const data::Dataset test = data::load(o.data).test;
  const Base models(o.model_files, test);
  const auto some =
      std::span(all).first(o.count > 0 ? std::min(all.size(), static_cast<std::size_t>(o.count)) : all.size());
  std::int64_t samples = 0;
  for (const auto& c : some) {
    samples += c.options.n0 + c.result.n;
  }
  std::optional<report::ProgressBar> bar;
  if (!o.quiet) {
    report::ProgressOptions options;
    options.unit = "samples";
    bar.emplace("verify", samples, options);
  }
  verifier.replay(some, models.classifier(), models.hash, test, [&](std::int64_t n) {
    if (bar) {
      bar->advance(n);
    }
  });
  if (bar) {
    bar->finish();
  }
  std::printf("%zu certificates: noise drawn again, every vote is the same\n", some.size());
}

}  // namespace

void add_verify(CLI::App& app) {
  auto o = std::make_shared<VerifyOptions>();
  auto* sub = app.add_subcommand(
      "verify",
      "Checks certificates: recomputes every bound; with the model draws the noise, or computes the bounds, again");
  sub->add_option("file", o->file, "Certificates, as `pavise certify` wrote them")->required();
  sub->add_option("--model-file", o->model_files,
                  "The model (or models, in the same order): its votes are counted, or its values bounded, again");
  sub->add_option("--count", o->count, "Only so many certificates with the model (0: all)")->capture_default_str();
  o->add_to(*sub);
  sub->callback([o] { run_verify(*o); });
}

}  // namespace pavise::program

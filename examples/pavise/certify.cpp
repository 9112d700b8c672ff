// SPDX-License-Identifier: MIT
// `pavise certify`: randomized smoothing or bound propagation, one certificate an image.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "certify.hpp"
#include "pavise/certify/certificate_file.hpp"
#include "pavise/certify/propagation/certificate.hpp"
#include "pavise/certify/together.hpp"
#include "pavise/data/augment.hpp"
#include "pavise/data/catalog.hpp"
#include "pavise/device/samples.hpp"
#include "pavise/io/file.hpp"
#include "pavise/report/progress.hpp"
#include "smoothing.hpp"
#include "subject.hpp"

namespace pavise::program {
namespace {

/// An image of the right class whose votes are the most divided, its first noisy samples, and all its votes: for the
/// report.
nlohmann::json noise_cloud(const std::vector<certify::Certificate>& all, const attack::Classifier& base,
                           const certify::Sampler& sampler, const data::Dataset& images, std::uint64_t seed) {
  const auto share = [](const certify::Certificate& c) {
    const auto& r = c.result;
    return r.abstains() || r.chosen != c.label
               ? 2.0
               : static_cast<double>(r.votes[static_cast<std::size_t>(r.chosen)]) / static_cast<double>(r.n);
  };
  const auto found =
      std::min_element(all.begin(), all.end(), [&](const auto& a, const auto& b) { return share(a) < share(b); });
  if (found == all.end() || share(*found) > 1 || images.image_shape()[0] == 2 || images.image_shape()[0] > 3) {
    return nullptr;
  }
  const std::int64_t i = found - all.begin();
  const Shape s = images.image_shape();
  std::vector<float> clean(static_cast<std::size_t>(images.image_size()));
  data::load_image(images, i, clean.data());
  nlohmann::json samples = nlohmann::json::array();
  for (const auto& sample : certify::first_samples(base, sampler, images, i, seed, 11)) {
    samples.push_back({{"pixels", bytes_json(sample.image)}, {"chosen", sample.chosen}});
  }
  return {{"index", found->index},        {"label", found->label},
          {"shape", {s[0], s[1], s[2]}},  {"class_names", images.class_names()},
          {"clean", bytes_json(clean)},   {"samples", std::move(samples)},
          {"votes", found->result.votes}, {"radius", found->result.radius}};
}

void run_merge(const CertifyOptions& o) {
  prepare_output(o.out);
  if (certify::file_kind(o.merge.front()) == certify::PropagationCertificate::kKind) {
    io::write_atomically(o.out, certify::merge_certificates<certify::PropagationCertificate>(o.merge));
    print_propagation(o.out);
    return;
  }
  io::write_atomically(o.out, certify::merge_certificates(o.merge));
  std::vector<certify::Certificate> all;
  for (auto& line : certify::read_certificates(o.out)) {
    all.push_back(std::move(line.certificate));
  }
  print_certified(all);
}

/// Refuses options that were given (`given`) and are those of another method.
template <class Given>
void check_options(const CertifyOptions& o, const Given& given) {
  const bool bounds = certify::is_propagation(o.method);
  for (const char* name : {"--sigma", "--noise", "--radius", "--n0", "--n", "--alpha", "--reserve", "--give-up"}) {
    require(!bounds || !given(name), name, " does not go with --method ", o.method);
  }
  for (const char* name : {"--norm", "--eps", "--search"}) {
    require(bounds || !given(name), name, " goes with --method ibp or crown");
  }
}

void run_certify(CertifyOptions o) {
  o.apply();
  if (!o.merge.empty()) {
    require(o.team == nullptr || o.team->size() == 1, "--merge: started as ", o.team == nullptr ? 1 : o.team->size(),
            " processes, expected one");
    run_merge(o);
    return;
  }
  require(!o.model_files.empty(), "--model-file is needed, unless files are merged");
  if (!o.json.empty()) {
    prepare_output(o.json);
  }
  if (certify::is_propagation(o.method)) {
    o.require_cpu("bound propagation");
    prepare_output(o.out);
    run_propagation(o);
    return;
  }
  require(!o.scale.empty(), "--sigma is needed: the scale of the noise in units of the pixels");
  o.certify.noise = {certify::parse_noise(o.noise), parse_radius(o.scale)};
  o.certify.seed = o.seed;
  o.certify.method = certify::parse_method(o.method.empty() ? "sequential" : o.method);
  if (!o.radii.empty()) {
    o.certify.radii = parse_radii(o.radii);
  }
  prepare_output(o.out);
  const data::Dataset test = data::load(o.data).test;
  const Base models(o.model_files, test);
  const data::Dataset images = test.subset(o.positions(test.size()));
  const certify::Sampler sampler(o.certify.noise);
  const attack::Classifier base = models.classifier();
  const certify::Plan plan = certify::make_plan(o.certify, base, sampler);
  const auto certificate = [&](std::int64_t i, certify::Result result) {
    return certify::make_certificate(models.hash, images, i, sampler, plan, std::move(result));
  };
  std::vector<certify::Certificate> expected;
  for (std::int64_t i = 0; i < images.size(); ++i) {
    expected.push_back(certificate(i, {}));
  }
  Progress<certify::Certificate> progress(o, expected);
  auto& all = progress.all;
  const std::int64_t before = progress.before;

  certify::SampleEngine engine;
  if (const Device on = o.chosen_device(); on.is_cuda()) {
    require(o.arithmetic == "exact", "--arithmetic ", o.arithmetic,
            ": a certificate's votes must be those of every machine, expected exact");
    require(models.files.size() == 1, "--device ", o.device, ": an ensemble of ", models.files.size(),
            " models runs on the CPU alone");
    engine = device::sampling(models.files.front().model, sampler, on);
  }
  const Stopwatch watch;
  std::atomic<std::int64_t> samples{0};
  certify::certify_together<certify::Certificate>(
      o.team, images.size() - before,
      [&](std::int64_t begin, std::int64_t end, const auto& emit) {
        certify::certify(
            base, sampler, part(images, before + begin, before + end), plan,
            [&](std::int64_t i, const certify::Result& result) { emit(certificate(before + begin + i, result)); },
            [&](std::int64_t n) { samples += n; }, engine);
      },
      [&](const certify::Certificate& c) {
        progress.add(c, o.team != nullptr ? ""
                                          : concat(samples.load() / static_cast<std::int64_t>(all.size() + 1 - before),
                                                   " samples an image"));
      });
  progress.finish();
  if (o.team != nullptr) {
    std::int64_t of_all = samples;
    add_up(*o.team, std::span(&of_all, 1));
    samples = of_all;
  }
  if (!o.writes()) {
    return;
  }
  const double seconds = watch.seconds();
  print_certified(all);
  std::printf("%.0f noisy samples per second; certificates in %s\n", static_cast<double>(samples.load()) / seconds,
              o.out.c_str());
  if (!o.json.empty()) {
    nlohmann::json json = record("certification", o.command, o.seed);
    json["data"] = o.data;
    json["data_note"] = o.data_note;
    json["model"] = base.name();
    json["model_file"] = join(o.model_files);
    json["label"] = o.label_of(models.files.front());
    json["noise"] = o.noise;
    json["scale"] = o.certify.noise.scale;
    json["norm"] = std::string(o.certify.noise.norm());
    json["method"] = std::string(certify::method_name(o.certify.method));
    json["n0"] = o.certify.n0;
    json["n"] = o.certify.n;
    json["alpha"] = o.certify.alpha;
    json["certificates"] = o.out;
    json["seconds"] = seconds;
    json["device"] = o.device;
    json["samples_per_second"] = static_cast<double>(samples.load()) / seconds;
    json["certified"] = certified_json(all);
    if (auto cloud = noise_cloud(all, base, sampler, images, o.seed); !cloud.is_null()) {
      json["cloud"] = std::move(cloud);
    }
    write_json(o.json, json);
  }
}

}  // namespace

std::vector<std::int64_t> CertifyOptions::positions(std::int64_t available) const {
  long long from = 1;
  long long shards = 1;
  char end = 0;
  require(shard.empty() || (std::sscanf(shard.c_str(), "%lld/%lld%c", &from, &shards, &end) == 2 && shards >= 1 &&
                            from >= 1 && from <= shards),
          "--shard ", shard, ", expected i/n with i from 1 to n");
  require(count >= 1, "--count ", count, ", expected 1 or more");
  require(skip >= 1, "--skip ", skip, ", expected 1 or more");
  std::vector<std::int64_t> out;
  for (std::int64_t i = from - 1; i * skip < std::min(count, available); i += shards) {
    out.push_back(i * skip);
  }
  return out;
}

void add_certify(CLI::App& app, const std::string& command, Communicator* team) {
  auto o = std::make_shared<CertifyOptions>();
  o->command = command;
  o->team = team;
  certify::Options& c = o->certify;
  auto* sub = app.add_subcommand("certify",
                                 "Certificates that no image within a radius is classified otherwise: by randomized "
                                 "smoothing, or by bounds of the "
                                 "network's values");
  sub->add_option("--model-file", o->model_files,
                  "The model, as `pavise train` wrote it (best: --defense gaussian); several are an ensemble");
  o->add_to(*sub);
  sub->add_option("--sigma,--scale", o->scale,
                  "Scale of the noise in pixels of [0,1]: sigma, half the width of uniform noise, b of Laplace's");
  sub->add_option(
         "--noise", o->noise,
         "gaussian (L2), uniform or laplace (L1): drawn exactly, on the grid of pixel values; gaussian-unsound: "
         "in floats, as usual, and nothing is proved")
      ->capture_default_str();
  auto* method = sub->add_option("--method", o->method,
                                 "Smoothing: sequential (default), which stops as soon as the evidence suffices, or "
                                 "fixed, n samples, as published. Bounds: ibp (intervals) or crown (linear bounds)");
  sub->add_option("--norm", o->norm, "Bounds: linf, l2 or l1")->capture_default_str();
  sub->add_option("--eps", o->eps, "Bounds: radius in pixels of [0,1], a number or a fraction such as 8/255")
      ->capture_default_str();
  sub->add_option(
         "--search", o->search,
         "Bounds: halvings of the interval in which the largest certified radius is looked for, up to --eps (0: "
         "that radius alone)")
      ->capture_default_str();
  sub->add_option("--radius,--radii", o->radii,
                  "One radius, or several in increasing order, separated by commas: sampling stops when they are "
                  "certified or out of reach. Default: as large a radius as n samples give");
  sub->add_option("--n0", c.n0, "Samples that choose the class")->capture_default_str();
  sub->add_option("--n", c.n, "Samples for the bound, at most")->capture_default_str();
  sub->add_option("--alpha", c.alpha, "Probability with which a certificate may be false")->capture_default_str();
  sub->add_option("--reserve", c.reserve, "Share of alpha for the bound after n samples")->capture_default_str();
  sub->add_option("--give-up", c.give_up, "Probability of giving up on a radius in vain")->capture_default_str();
  sub->add_option("--count", o->count, "The first images of the test set")->capture_default_str();
  sub->add_option("--skip", o->skip, "Of these every so many")->capture_default_str();
  sub->add_option("--shard", o->shard, "i/n: only the i-th of every n images; --merge makes one file of the shards'");
  auto* merge = sub->add_option("--merge", o->merge, "Merge these files into --out, and certify nothing");
  merge->excludes(method);
  sub->add_option("--out", o->out, "Certificates as JSON lines; run again after a stop, it goes on where it was")
      ->capture_default_str();
  sub->add_option("--json", o->json, "Write the record here; - for standard output");
  sub->callback([o, sub] {
    check_options(*o, [sub](const char* name) { return sub->count(name) > 0; });
    run_certify(*o);
  });
}

}  // namespace pavise::program

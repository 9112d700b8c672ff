// SPDX-License-Identifier: MIT
// Targets: certificates, the states of runs that were stopped, and the records that a report is made of.
#include <utility>

#include "certify/small.hpp"
#include "fuzz/target.hpp"
#include "pavise/certify/certificate_file.hpp"
#include "pavise/certify/propagation/certificate.hpp"
#include "pavise/certify/verify.hpp"
#include "pavise/defend/checkpoint.hpp"
#include "pavise/evaluate/state.hpp"
#include "pavise/report/html.hpp"
#include "report/sample_records.hpp"

namespace pavise_fuzz {

namespace {

namespace certify = pavise::certify;
namespace defend = pavise::defend;
namespace evaluate = pavise::evaluate;
namespace io = pavise::io;

/// The line as it is, then with the digest that it should have; what reads is checked as `pavise verify` does.
template <class C, class Verify>
void read_certificate(const Bytes& file, const Verify& verify) {
  const auto read = [&](std::string_view line) {
    const C c = certify::parse_line<C>(line);
    expect(certify::to_line(certify::parse_line<C>(certify::to_line(c))) == certify::to_line(c),
           "a certificate does not come back");
    verify(c);
  };
  try {
    read(text_of(file));
  } catch (const pavise::Error&) {
  }
  auto json = certify::detail::json_of(text_of(file));
  if (json.is_object() && json.contains("digest")) {
    json["digest"] = certify::detail::digest_of(json);
    read(json.dump());
  }
}

void read_votes(const Bytes& file) {
  static certify::Verifier verifier;  // keeps the noise's tables, which are made at the first call
  read_certificate<certify::Certificate>(file, [](const auto& c) {
    if (c.options.noise.kind == certify::NoiseKind::gaussian && c.options.noise.scale == 0.25 && c.options.n <= 10000) {
      verifier.bounds(c);
    }
  });
}

void read_bounds(const Bytes& file) {
  read_certificate<certify::PropagationCertificate>(file, [](const auto& c) { certify::verify_claim(c); });
}

void read_certificates(const Bytes& file) {
  const MemoryFile there(file);
  certify::file_kind(there.path());
  certify::merge_certificates({there.path()});
}

std::string line_of_votes() {
  const auto images = pavise_test::tiny_images(1, 6, 3);
  const certify::Options options{
      .noise = {certify::NoiseKind::gaussian, 0.25}, .n0 = 20, .n = 500, .radii = {0.05, 0.1}, .seed = 3};
  const certify::Sampler sampler(options.noise);
  const certify::Plan plan(options, 6, sampler.defect());
  certify::Result r;  // of a model that always says 1
  r.selection = {0, 20};
  r.chosen = 1;
  do {
    r.n += certify::Plan::kLook;
  } while (!plan.ends(r.n, r.n, r.stop));
  r.votes = {0, r.n};
  r.p_lower = plan.bound(r.n, r.n);
  r.radius = plan.radius(r.p_lower);
  return certify::to_line(certify::make_certificate(std::string(64, 'a'), images, 0, sampler, plan, r));
}

std::string line_of_bounds() {
  const auto images = pavise_test::tiny_images(1, 6, 3);
  const certify::PropagationOptions options{.threat = pavise::attack::linf(0.1)};
  certify::PropagationResult result;
  result.margins = {0, 0.5};
  result.verified = true;
  result.radius = 0.1;
  return certify::to_line(certify::make_certificate(std::string(64, 'a'), images, 0, options, result));
}

/// A report at its start, with two attacks and three images.
evaluate::Report blank() {
  evaluate::Report r;
  r.attacks.resize(2);
  r.images.resize(3);
  r.matrix.assign(6, evaluate::Outcome::not_tried);
  r.adversarial = pavise::Tensor<float>(pavise::Shape{3, 1, 2, 2}, 0.25F);
  return r;
}

constexpr evaluate::Identity kIdentity{1, 2, 3};

/// With the checksum that it should have.
void read_state(const Bytes& file) {
  Bytes whole(file.begin(), file.end() - static_cast<std::ptrdiff_t>(std::min<std::size_t>(file.size(), 8)));
  pavise_test::put(whole, pavise::Hash().bytes(whole.data(), whole.size()).value(), 8);
  const MemoryFile there(whole);
  auto report = blank();
  evaluate::load_state(there.path(), kIdentity, report);
}

Bytes state() {
  auto r = blank();
  r.images[1] = {.broken_by = 1, .prediction = 4, .confidence = 0.5F, .distance = 0.125F, .attempt = 7, .forward = 11};
  r.images[2].broken_by = evaluate::kMisclassified;
  r.matrix[4] = evaluate::Outcome::broken;
  auto& sign = r.signs.emplace_back();
  sign.name = "a sign";
  sign.sentence = "says something";
  r.curve.push_back({.epsilon = 0.1, .correct = 2, .total = 3, .loss = 1.5});
  return saved([&](const std::string& path) { evaluate::save_state(path, kIdentity, r); });
}

/// Of a state, the file with the head that it should have; what a run puts there, read as a run reads it.
void read_checkpoint(const Bytes& file) {
  Bytes whole;
  for (const char c : std::string_view(defend::detail::kCheckpointMagic)) {
    whole.push_back(static_cast<std::uint8_t>(c));
  }
  pavise_test::put(whole, defend::kCheckpointVersion, 4);
  pavise_test::put(whole, defend::detail::checksum(file), 4);
  pavise_test::put(whole, file.size(), 8);
  whole.insert(whole.end(), file.begin(), file.end());
  const MemoryFile there(whole);
  const auto state = defend::read_checkpoint(there.path());
  defend::StateReader in(there.path(), state);
  in.text("configuration");
  in.get<std::int64_t>("epoch");
  const auto values = in.get_vector<float>("state");
  float exactly[2];
  in.read("numbers", std::span<float>(exactly));
  in.expect_end();
}

Bytes checkpoint() {
  defend::StateWriter out;
  const float values[] = {1.5F, -2.0F};
  out.put("configuration", std::string_view("seed: 5\n"));
  out.put("epoch", std::int64_t{3});
  out.put("state", std::span<const float>(values));
  out.put("numbers", std::span<const float>(values));
  return out.bytes();
}

void read_record(const Bytes& file) {
  auto json = io::parse_json(text_of(file), "fuzz");
  pavise::require(json.is_object(), "not an object");
  json["file"] = "fuzz.json";
  pavise::report::render_report({json});
}

std::vector<Bytes> records() {
  std::vector<Bytes> out = {bytes_of(pavise_test::evaluation_record().dump())};
  for (auto& record : pavise_test::sample_records()) {
    record.erase("gallery");  // it is most of the bytes
    out.push_back(bytes_of(record.dump()));
  }
  return out;
}

std::vector<Target> targets() {
  return {
      {"certificate", 256, kMiB, read_votes, [] { return std::vector<Bytes>{bytes_of(line_of_votes())}; }},
      {"bounds-certificate", 256, kMiB, read_bounds, [] { return std::vector<Bytes>{bytes_of(line_of_bounds())}; }},
      {"certificates", 256, kMiB, read_certificates,
       [] { return std::vector<Bytes>{bytes_of(line_of_votes() + "\n")}; }},
      {"state", 16, kMiB, read_state, [] { return std::vector<Bytes>{state()}; }},
      {"checkpoint", 16, 4 * kMiB, read_checkpoint, [] { return std::vector<Bytes>{checkpoint()}; }},
      {"record", 256, 4 * kMiB, read_record, records},
  };
}

[[maybe_unused]] const Targets kTargets(targets);

}  // namespace

}  // namespace pavise_fuzz

// SPDX-License-Identifier: MIT
// Certificates of bound propagation: there and back, each field changed, computed again.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "certify/networks.hpp"
#include "certify/small.hpp"
#include "io/scratch.hpp"
#include "pavise/certify/certificate_file.hpp"
#include "pavise/certify/propagation/certificate.hpp"

namespace {

namespace pc = pavise::certify;
using nlohmann::ordered_json;
using pavise_test::named;
using pc::PropagationCertificate;

struct VerifiedRun {
  pavise::data::Dataset images = pavise_test::tiny_images(8, 3, 3);
  pavise::nn::Model model = pavise_test::linear_model(3, {1, -1, 0.5f, -1, 1, 0}, {0, 0});
  pc::Network network{model};
  std::string hash = pc::model_hash(model);
  pc::PropagationOptions options{pc::Propagation::crown, pavise::attack::linf(0.125), 4};

  std::vector<PropagationCertificate> certificates() const {
    std::vector<PropagationCertificate> out;
    pc::verify_images(network, images, options, [&](std::int64_t i, const pc::PropagationResult& r) {
      out.push_back(pc::make_certificate(hash, images, i, options, r));
    });
    return out;
  }
};

/// Another value of the same type.
ordered_json another(const std::string& name, const ordered_json& value) {
  if (name == "method") return "ibp";
  if (name == "norm") return "l2";
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_string()) {
    std::string text = value;
    text.back() = text.back() == '0' ? '1' : '0';
    return text;
  }
  if (value.is_number()) return value.get<std::int64_t>() + 1;
  ordered_json list = value;
  if (name == "shape") {
    list[1] = 2;
  } else {
    list[0] = "-0x1.8p-3";
  }
  return list;
}

TEST_CASE("bounds certificates: there and back; a change of any field is found, and named") {
  VerifiedRun run;
  run.options.search = 0;
  const auto all = run.certificates();
  bool negative = false;
  for (const auto& c : all) {
    const std::string line = pc::to_line(c);
    const auto back = pc::parse_line<PropagationCertificate>(line);
    CHECK(pc::to_line(back) == line);
    CHECK(back.result == c.result);
    CHECK(pc::same_run(back, all.front()));
    CHECK(pc::kind_of(line) == PropagationCertificate::kKind);
    pc::verify_claim(back);
    negative = negative || line.find("-0x") != std::string::npos;
  }
  CHECK(negative);  // margins below 0 are written, too
  const auto json = ordered_json::parse(pc::to_line(all.front()));
  int fields = 0;
  for (const auto& [name, value] : json.items()) {
    CAPTURE(fields);
    auto edited = json;
    edited[name] = another(name, value);
    CHECK(named([&] { pc::parse_line<PropagationCertificate>(edited.dump()); }) == name);
    edited = json;
    edited.erase(name);
    CHECK(named([&] { pc::parse_line<PropagationCertificate>(edited.dump()); }) == name);
    edited = json;
    edited[name] = ordered_json::object();
    CHECK(named([&] { pc::parse_line<PropagationCertificate>(edited.dump()); }) == name);
    ++fields;
  }
  CHECK(fields == 20);
}

TEST_CASE("bounds certificates: who makes the digest anew is found out by computing again") {
  const VerifiedRun run;
  const auto all = run.certificates();
  pc::verify_again(all, run.network, run.hash, run.images);
  std::size_t some = 0;
  while (!all[some].result.verified || all[some].result.radius == 0) {
    ++some;
  }
  const auto claim = [&](auto edit) {
    PropagationCertificate c = all[some];
    edit(c);
    return named([&] { pc::verify_claim(pc::parse_line<PropagationCertificate>(pc::to_line(c))); });
  };
  const std::size_t own = static_cast<std::size_t>(all[some].result.chosen);
  CHECK(claim([](PropagationCertificate&) {}).empty());
  CHECK(claim([](auto& c) { c.result.verified = false; }) == "verified");
  CHECK(claim([&](auto& c) { c.result.margins[1 - own] = -1; }) == "verified");
  CHECK(claim([&](auto& c) { c.result.margins[own] = 1; }) == "margins");
  CHECK(claim([](auto& c) { c.result.margins.resize(1); }) == "margins");
  CHECK(claim([](auto& c) { c.result.chosen = 2; }) == "chosen");
  CHECK(claim([](auto& c) { c.result.radius = 0.25; }) == "radius");
  CHECK(claim([](auto& c) { c.options.threat.epsilon = 2; }) == "epsilon");
  CHECK(claim([](auto& c) { c.options.search = 51; }) == "epsilon");
  const auto again = [&](auto edit) {
    std::vector<PropagationCertificate> one = {all[some]};
    edit(one[0]);
    return named([&] { pc::verify_again(one, run.network, run.hash, run.images); });
  };
  CHECK(again([](PropagationCertificate&) {}).empty());
  CHECK(again([&](auto& c) { c.result.margins[1 - own] = pc::next_above(c.result.margins[1 - own]); }) == "margins");
  CHECK(again([](auto& c) { c.result.radius = pc::next_above(c.result.radius); }) == "radius");
  CHECK(again([](auto& c) { c.result.chosen = 1 - c.result.chosen; }) == "chosen");
  CHECK(again([](auto& c) { c.result.verified = false; }) == "verified");
  CHECK(again([](auto& c) { c.label = 1 - c.label; }) == "label");
  CHECK(again([](auto& c) { c.index = 1000; }) == "index");
  CHECK(again([](auto& c) { c.image[0] = 'x'; }) == "image");
  CHECK(again([](auto& c) { c.model[0] = 'x'; }) == "model");
  CHECK(again([](auto& c) { c.version = "9"; }) == "version");
}

TEST_CASE("bounds certificates: files go on where they were, and are not those of smoothing") {
  const VerifiedRun run;
  const pavise_test::Scratch scratch;
  const auto all = run.certificates();
  const std::string path = scratch / "bounds.jsonl";
  using Writer = pc::BasicCertificateWriter<PropagationCertificate>;
  {
    Writer writer(path, all);
    writer.append(all[0]);
    writer.append(all[1]);
  }
  {
    Writer writer(path, all);
    REQUIRE(writer.found().size() == 2);
    for (std::size_t i = 2; i < all.size(); ++i) {
      writer.append(all[i]);
    }
  }
  CHECK(pc::read_certificates<PropagationCertificate>(path).size() == all.size());
  CHECK(pc::file_kind(path) == PropagationCertificate::kKind);
  CHECK(named([&] { pc::read_certificates(path); }) == "kind");
  CHECK_THROWS_AS(pc::CertificateWriter(path, {}), pavise::ValueError);
  VerifiedRun other;
  other.options.threat.epsilon = 0.25;
  CHECK_THROWS_AS(Writer(path, other.certificates()), pavise::ValueError);
}

}  // namespace

// SPDX-License-Identifier: MIT
// Certificates: there and back, each field changed, drawn again, killed and resumed, in shards and merged.
#include <doctest/doctest.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "certify/small.hpp"
#include "io/scratch.hpp"
#include "pavise/certify/certificate_file.hpp"
#include "pavise/certify/verify.hpp"

namespace {

namespace pc = pavise::certify;
using nlohmann::ordered_json;
using pavise_test::named;
using pavise_test::Scratch;

struct Run {
  pavise::data::Dataset images = pavise_test::tiny_images(8, 6, 3);
  pavise::attack::Classifier base =
      pavise_test::two_classes("plane", 6, pavise_test::Plane{{0.5, -0.5, 0.5, 0.5, -0.5, 0.5}, 0.4});
  std::string model = std::string(64, 'a');
  pc::Options options{.noise = {pc::NoiseKind::gaussian, 0.25}, .n0 = 20, .n = 500, .radii = {0.05, 0.1}, .seed = 3};

  std::vector<pc::Certificate> certificates(const pavise::data::Dataset& set) const {
    const pc::Sampler sampler(options.noise);
    const pc::Plan plan = pc::make_plan(options, base, sampler);
    std::vector<pc::Certificate> out;
    pc::certify(base, sampler, set, plan, [&](std::int64_t i, const pc::Result& r) {
      out.push_back(pc::make_certificate(model, set, i, sampler, plan, r));
    });
    return out;
  }
  std::vector<pc::Certificate> certificates() const { return certificates(images); }
};

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

TEST_CASE("certificates: there and back, and what they claim is recomputed") {
  const Run run;
  pc::Verifier verifier;
  for (const auto& c : run.certificates()) {
    const std::string line = pc::to_line(c);
    const auto back = pc::parse_line<pc::Certificate>(line);
    CHECK(pc::to_line(back) == line);
    CHECK(back.result == c.result);
    CHECK(pc::same_run(back, c));
    verifier.bounds(back);
  }
  verifier.replay(run.certificates(), run.base, run.model, run.images);
  for (const double x : {0.0, 1.5, 0.1, 1e-300, 123456.789}) {
    double back = -1;
    pc::detail::read_field(ordered_json(pc::hex_float(x)), "x", back);
    CHECK(back == x);
  }
  CHECK(pc::hex_float(1.5) == "0x1.8p+0");
}

/// Another value of the same type.
ordered_json changed(const std::string& name, const ordered_json& value) {
  if (name == "noise") return "laplace";
  if (name == "method") return "fixed";
  if (name == "stop") return value == "certified" ? "hopeless" : "certified";
  if (value.is_string()) {
    std::string text = value;
    text.back() = text.back() == '0' ? '1' : '0';
    return text;
  }
  if (value.is_number()) return value.get<std::int64_t>() + 1;
  ordered_json list = value;
  if (name == "radii") {
    list[0] = pc::hex_float(0.06);
  } else if (name == "shape") {
    list[1] = 2;
  } else {
    list[0] = list[0].get<std::int64_t>() + 1;
  }
  return list;
}

TEST_CASE("certificates: a change of any field is found, and named") {
  const Run run;
  const auto json = ordered_json::parse(pc::to_line(run.certificates().front()));
  int fields = 0;
  for (const auto& [name, value] : json.items()) {
    INFO(name);
    auto edited = json;
    edited[name] = changed(name, value);
    CHECK(named([&] { pc::parse_line<pc::Certificate>(edited.dump()); }) == name);
    edited = json;
    edited.erase(name);
    CHECK(named([&] { pc::parse_line<pc::Certificate>(edited.dump()); }) == name);
    edited = json;
    edited[name] = ordered_json::object();
    CHECK(named([&] { pc::parse_line<pc::Certificate>(edited.dump()); }) == name);
    ++fields;
  }
  CHECK(fields == 31);
  auto edited = json;
  edited["more"] = 1;
  CHECK(named([&] { pc::parse_line<pc::Certificate>(edited.dump()); }) == "more");
  CHECK(named([&] { pc::parse_line<pc::Certificate>("[1]"); }) == "line");
  CHECK(named([&] { pc::parse_line<pc::Certificate>("{"); }) == "line");
  // Neither the stack nor hours: values are written again for the digest, and every name is compared with those before.
  edited = json;
  edited["version"] = "deep";
  std::string deep = edited.dump();
  deep.replace(deep.find("\"deep\""), 6, std::string(200000, '[') + std::string(200000, ']'));
  CHECK(named([&] { pc::parse_line<pc::Certificate>(deep); }) == "line");
  std::string many = "{";
  for (int i = 0; i < 300000; ++i) {
    many += "\"" + std::to_string(i) + "\":0,";
  }
  CHECK(named([&] { pc::parse_line<pc::Certificate>(many + "\"kind\":0}"); }) == "line");
  CHECK(pc::kind_of(many + "\"kind\":\"x\"}").empty());
}

TEST_CASE("certificates: who makes the digest anew is found out by recomputing and redrawing") {
  const Run run;
  pc::Verifier verifier;
  const auto all = run.certificates();
  // What the votes do not prove needs no model.
  const auto bounds = [&](auto edit) {
    pc::Certificate c = all.front();
    edit(c);
    const auto back = pc::parse_line<pc::Certificate>(pc::to_line(c));
    return named([&] { verifier.bounds(back); });
  };
  CHECK(bounds([](pc::Certificate&) {}).empty());
  CHECK(bounds([](auto& c) { c.result.radius = pc::next_above(c.result.radius); }) == "radius");
  CHECK(bounds([](auto& c) { c.result.p_lower = pc::next_above(c.result.p_lower); }) == "p_lower");
  CHECK(bounds([](auto& c) { c.options.alpha /= 2; }) == "alpha_sequence");
  CHECK(bounds([](auto& c) { c.alpha_noise = 0; }) == "alpha_noise");
  CHECK(bounds([](auto& c) { c.alpha_cap *= 2; }) == "alpha_cap");
  CHECK(bounds([](auto& c) { c.clip = 2; }) == "clip");
  CHECK(bounds([](auto& c) { c.result.chosen = 1 - c.result.chosen; }) == "chosen");
  CHECK(bounds([](auto& c) { c.result.n = 17; }) == "n");
  CHECK(bounds([](auto& c) { c.result.votes[0] += 1000; }) == "votes");
  CHECK(bounds([](auto& c) { c.result.selection[0] += 1000; }) == "selection");
  CHECK(bounds([](auto& c) { c.result.votes[0] = c.result.votes[1] = std::int64_t{1} << 62; }) == "votes");
  CHECK(bounds([](auto& c) { c.options.alpha = 2; }) == "options");
  CHECK(bounds([](auto& c) { c.options.noise.scale = 1000; }) == "scale");
  // What they do prove, if they were so, is drawn again.
  const auto replay = [&](auto edit) {
    std::vector<pc::Certificate> some = {all[1]};
    edit(some[0]);
    return named([&] { verifier.replay(some, run.base, run.model, run.images); });
  };
  CHECK(replay([](pc::Certificate&) {}).empty());
  CHECK(replay([](auto& c) { c.options.seed += 1; }) == "selection");
  CHECK(replay([](auto& c) { std::swap(c.result.votes[0], c.result.votes[1]); }) == "votes");
  CHECK(replay([](auto& c) { c.result.selection[0] += 1; }) == "selection");
  CHECK(replay([](auto& c) { c.result.n += 16; }) == "n");
  CHECK(replay([](auto& c) { c.label = 1 - c.label; }) == "label");
  CHECK(replay([](auto& c) { c.index += 1; }) == "image");
  CHECK(replay([](auto& c) { c.index = 1000; }) == "index");
  CHECK(replay([](auto& c) { c.image[0] = 'x'; }) == "image");
  CHECK(replay([](auto& c) { c.model[0] = 'x'; }) == "model");
  CHECK(replay([](auto& c) { c.version = "9"; }) == "version");
  CHECK(replay([](auto& c) { c.shape = pavise::Shape{1, 2, 3}; }) == "shape");
}

TEST_CASE("certificate files: stopped at any byte, a run goes on and ends with the same file; shards merge into it") {
  const Run run;
  const Scratch scratch;
  const auto all = run.certificates();
  std::string expected;
  for (const auto& c : all) {
    expected += pc::to_line(c) + "\n";
  }
  const std::string path = scratch / "run.jsonl";
  for (std::size_t cut = 0; cut <= expected.size(); cut += cut % 3 == 0 ? 97 : 101) {
    write(path, expected.substr(0, cut));
    pc::CertificateWriter writer(path, all);
    const std::size_t found = writer.found().size();
    REQUIRE(found <= all.size());
    for (std::size_t i = found; i < all.size(); ++i) {
      writer.append(all[i]);
    }
    REQUIRE(contents(path) == expected);
  }
  CHECK(pc::read_certificates(path).size() == all.size());
  write(path, expected.substr(0, 700));
  CHECK_THROWS_AS(pc::read_certificates(path), pavise::IoError);

  // A file of another run, or a damaged one, is not continued.
  Run other = run;
  other.options.seed = 4;
  write(path, expected);
  CHECK_THROWS_AS(pc::CertificateWriter(path, other.certificates()), pavise::ValueError);
  std::string damaged = expected;
  damaged[damaged.find("\"votes\"") + 10] ^= 1;
  write(path, damaged);
  CHECK_THROWS_AS(pc::CertificateWriter(path, all), pavise::ValueError);
  CHECK(contents(path) == damaged);

  std::vector<std::string> shards;
  for (std::int64_t s = 0; s < 3; ++s) {
    std::vector<std::int64_t> mine;
    for (std::int64_t i = s; i < run.images.size(); i += 3) {
      mine.push_back(i);
    }
    shards.push_back(scratch / ("shard" + std::to_string(2 - s)));
    std::string text;
    for (const auto& c : run.certificates(run.images.subset(mine))) {
      text += pc::to_line(c) + "\n";
    }
    write(shards.back(), text);
  }
  CHECK(pc::merge_certificates(shards) == expected);
  CHECK_THROWS_AS(pc::merge_certificates({shards[0], shards[0]}), pavise::ValueError);
  write(path, pc::to_line(other.certificates().front()) + "\n");
  CHECK_THROWS_AS(pc::merge_certificates({shards[1], path}), pavise::ValueError);
}

}  // namespace

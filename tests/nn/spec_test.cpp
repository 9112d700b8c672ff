// SPDX-License-Identifier: MIT
#include "pavise/nn/spec.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pavise/core/philox.hpp"

using namespace pavise;

namespace {

/// A layer of a program's own: adds a number.
class Shift : public nn::Layer<float> {
 public:
  explicit Shift(double by) : by_(by) {}
  Shape build(const Shape& in, ParameterStore<float>&, const std::string&) override { return in; }
  Var<float> forward(Var<float> x, bool) override { return x; }
  nn::Spec spec() const override {
    return {.name = "", .type = "shift", .options = {{"by", concat(by_)}}, .children = {}};
  }

 private:
  double by_;
};

void add_shift(nn::LayerRegistry<float>& r) {
  r.add("shift", [](nn::SpecReader& o, const nn::LayerRegistry<float>&) -> std::unique_ptr<nn::Layer<float>> {
    return std::make_unique<Shift>(o.number("by"));
  });
}

void check_error(const std::string& text, const std::string& message) {
  CAPTURE(text);
  CHECK_THROWS_WITH_AS(nn::parse_spec(text), message.c_str(), ValueError);
}

}  // namespace

TEST_CASE("specs are read and written") {
  const nn::Spec spec =
      nn::parse_spec(" net : sequential {\n a:conv2d( in=1 , out = 16);b : x.y-z{};c:n(m=0.5/-1e-5:+2) } ");
  CHECK(nn::to_text(spec) == "net:sequential{a:conv2d(in=1,out=16);b:x.y-z;c:n(m=0.5/-1e-5:+2)}");
  CHECK(nn::parse_spec(nn::to_text(spec)) == spec);
  REQUIRE(spec.children.size() == 3);
  CHECK(spec.children[0].name == "a");
  CHECK(spec.children[0].options[1] == std::pair<std::string, std::string>("out", "16"));
  CHECK(spec.children[2].options[0].second == "0.5/-1e-5:+2");
}

TEST_CASE("the parser names the character that is wrong") {
  check_error("", "spec: character 0: expected a layer's name or type, got the end");
  check_error("a:", "spec: character 2: expected a layer's type, got the end");
  check_error("a(", "spec: character 2: expected an option, got the end");
  check_error("a(b)", "spec: character 3: expected '=', got ')'");
  check_error("a(b=", "spec: character 4: expected a value, got the end");
  check_error("a(b=1;", "spec: character 5: expected ',' or ')', got ';'");
  check_error("a{b", "spec: character 3: expected ';' or '}', got the end");
  check_error("a{b;}", "spec: character 4: expected a layer's name or type, got '}'");
  check_error("a b", "spec: character 2: expected the end, got 'b'");
  check_error("a}", "spec: character 1: expected the end, got '}'");
  check_error(std::string("a\0b", 3), "spec: character 1: expected the end, got another character");
}

TEST_CASE("the parser has limits") {
  std::string deep;
  for (int i = 0; i < 40; ++i) {
    deep += "a{";
  }
  CHECK_THROWS_AS(nn::parse_spec(deep), ValueError);
  CHECK_THROWS_AS(nn::parse_spec(std::string(100000, '{')), ValueError);
  CHECK_THROWS_AS(nn::parse_spec(std::string(nn::SpecLimits::kLength + 1, ' ')), ValueError);
  CHECK_THROWS_AS(nn::parse_spec(std::string(nn::SpecLimits::kWord + 1, 'a')), ValueError);
  std::string wide = "a{b";
  for (std::size_t i = 0; i < nn::SpecLimits::kLayers; ++i) {
    wide += ";b";
  }
  CHECK_THROWS_AS(nn::parse_spec(wide + "}"), ValueError);
  std::string options = "a(k0=1";
  for (std::size_t i = 1; i <= nn::SpecLimits::kOptions; ++i) {
    options += ",k" + std::to_string(i) + "=1";
  }
  CHECK_THROWS_AS(nn::parse_spec(options + ")"), ValueError);
  nn::Spec nested{.name = "", .type = "a", .options = {}, .children = {}};
  for (int i = 0; i < 40; ++i) {
    nested = {.name = "", .type = "a", .options = {}, .children = {nested}};
  }
  CHECK_THROWS_AS(nn::to_text(nested), ValueError);
  CHECK_THROWS_AS(nn::to_text({.name = "a b", .type = "c", .options = {}, .children = {}}), ValueError);
  CHECK_THROWS_AS(nn::to_text({.name = "", .type = "", .options = {}, .children = {}}), ValueError);
  CHECK_THROWS_AS(nn::to_text({.name = "", .type = "c", .options = {{"k", "1,2"}}, .children = {}}), ValueError);
}

TEST_CASE("damaged text is read as a spec or refused with a ValueError, and what is read is written again") {
  const std::string good = "sequential{conv1:conv2d(in=1,out=16,kernel=4);r:relu;s:sequential{0:linear(in=2,out=3)}}";
  const std::string pieces = "(){}=,;: ab1.-\n\x80";
  RandomSequence random({.seed = 3, .purpose = Purpose::test});
  int read = 0;
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = i % 4 == 0 ? "" : good;
    for (std::uint32_t k = 1 + random.below(i % 4 == 0 ? 30 : 4); k > 0; --k) {
      const auto at = static_cast<std::size_t>(random.below(static_cast<std::uint32_t>(text.size() + 1)));
      const char c = pieces[random.below(static_cast<std::uint32_t>(pieces.size()))];
      switch (text.empty() ? 0 : random.below(3)) {
        case 0:
          text.insert(at, 1, c);
          break;
        case 1:
          text.erase(at, 1 + random.below(5));
          break;
        default:
          text[at == text.size() ? at - 1 : at] = c;
      }
    }
    try {
      const nn::Spec spec = nn::parse_spec(text);
      ++read;
      if (!(nn::parse_spec(nn::to_text(spec)) == spec)) {
        FAIL_CHECK("not written as read: " << text);
      }
    } catch (const ValueError&) {
      ++refused;
    }
  }
  CHECK(read > 100);
  CHECK(refused > 10000);
}

TEST_CASE("a program's own layers are made by the registry") {
  nn::LayerRegistry<float> registry;
  add_shift(registry);
  const nn::Spec spec = nn::parse_spec("s:shift(by=0.25)");
  CHECK(nn::to_text(registry.make(spec)->spec()) == "shift(by=0.25)");
  CHECK_THROWS_WITH_AS(add_shift(registry), "layer registry: there is a type shift already", ValueError);
  CHECK_THROWS_WITH_AS(registry.make(nn::parse_spec("s:shfit(by=1)")),
                       "layer s: there is no type 'shfit', expected one of shift", ValueError);
  CHECK_THROWS_WITH_AS(registry.make(nn::parse_spec("s:shift")), "layer s (shift): option by is missing", ValueError);
  CHECK_THROWS_WITH_AS(registry.make(nn::parse_spec("s:shift(by=one)")),
                       "layer s (shift): option by is 'one', expected a number", ValueError);
  CHECK_THROWS_AS(registry.make(nn::parse_spec("s:shift(by=1e999)")), ValueError);
  CHECK_THROWS_AS(registry.make(nn::parse_spec("s:shift(by=nan)")), ValueError);
  CHECK_THROWS_WITH_AS(registry.make(nn::parse_spec("s:shift(by=1,to=2)")),
                       "layer s (shift): there is no option to, expected by", ValueError);
  CHECK_THROWS_WITH_AS(registry.make(nn::parse_spec("s:shift(by=1,by=2)")), "layer s (shift): option by occurs twice",
                       ValueError);
  CHECK_THROWS_WITH_AS(registry.make(nn::parse_spec("s:shift(by=1){a:shift(by=1)}")),
                       "layer s (shift): has layers inside, expected none", ValueError);
  const nn::LayerRegistry<float> copy(registry);
  CHECK(copy.types() == std::vector<std::string>{"shift"});
}

TEST_CASE("a registry can be used and added to by many threads") {
  nn::LayerRegistry<float> registry;
  add_shift(registry);
  const nn::Spec spec = nn::parse_spec("s:shift(by=0.25)");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        registry.add("type" + std::to_string(t) + "-" + std::to_string(i), {});
        registry.make(spec);
      }
    });
  }
  for (auto& t : threads) {
    t.join();
  }
  CHECK(registry.types().size() == 401);
}

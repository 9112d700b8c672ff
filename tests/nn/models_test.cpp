// SPDX-License-Identifier: MIT
#include "pavise/nn/models.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "nn/model_check.hpp"
#include "pavise/nn/summary.hpp"

using namespace pavise;

namespace {

bool is_residual(std::string_view name) { return name.find("resnet") != std::string_view::npos; }

}  // namespace

TEST_CASE("models have the numbers of parameters that the literature gives") {
  const auto count = [](const nn::Model& m) { return m.parameters().count(); };
  CHECK(count(nn::small_cnn()) == 166406);  // 272 + 8,224 + 156,900 + 1,010
  CHECK(count(nn::small_cnn({.input = {3, 32, 32}})) == 784 + 8224 + 204900 + 1010);
  CHECK(count(nn::mlp({.hidden = {300, 100}})) == 266610);
  CHECK(count(nn::mlp({.hidden = {}})) == 7850);
  CHECK(count(nn::lenet()) == 431080);
  CHECK(count(nn::madry_cnn()) == 3274634);
  CHECK(count(nn::carlini_cnn()) == 312202);
  CHECK(count(nn::resnet18()) == 11173962);
  CHECK(count(nn::resnet18({.input = {3, 32, 32}, .classes = 100})) == 11220132);
  CHECK(count(nn::preact_resnet18()) == 11172170);
}

TEST_CASE("without a shape of images a model takes that which it was made for") {
  for (const auto name : nn::model_names()) {
    CAPTURE(std::string(name));
    const Shape natural = is_residual(name) ? Shape{3, 32, 32} : Shape{1, 28, 28};
    CHECK(nn::make_model(name, {.seed = 1}).input_shape() == natural);
    CHECK(nn::make_model(name, {.input = {2, 24, 24}}).input_shape() == Shape{2, 24, 24});
  }
  CHECK(nn::resnet18({.seed = 1}).input_shape() == Shape{3, 32, 32});
  CHECK(nn::preact_resnet18({.classes = 100}).input_shape() == Shape{3, 32, 32});
}

TEST_CASE("parameters have PyTorch's names and shapes") {
  const auto small = nn::small_cnn();
  std::vector<std::string> names;
  for (const auto& p : small.parameters().parameters()) {
    names.push_back(p.name() + p.shape().to_string());
  }
  CHECK(
      join(names, " ") ==
      "conv1.weight(16,1,4,4) conv1.bias(16) conv2.weight(32,16,4,4) conv2.bias(32) fc1.weight(100,1568) fc1.bias(100) "
      "fc2.weight(10,100) fc2.bias(10)");
  const auto residual = nn::resnet18();
  auto& store = residual.parameters();
  CHECK(store["conv1.weight"].shape() == Shape{64, 3, 3, 3});
  CHECK(store["bn1.running_var"].shape() == Shape{64});
  CHECK(store["layer2.0.shortcut.0.weight"].shape() == Shape{128, 64, 1, 1});
  CHECK(store["layer2.0.shortcut.1.running_mean"].shape() == Shape{128});
  CHECK(store["layer4.1.conv2.weight"].shape() == Shape{512, 512, 3, 3});
  CHECK(store["linear.weight"].shape() == Shape{10, 512});
  CHECK_FALSE(store["bn1.running_var"].trainable());
  CHECK_THROWS_AS(store["layer1.0.shortcut.0.weight"], ValueError);
}

TEST_CASE("models' derivatives are those of central differences") {
  for (const auto name : nn::model_names()) {
    CAPTURE(std::string(name));
    nn::ModelOptions options{.seed = 2, .input = {2, 16, 16}, .classes = 3, .hidden = {7, 5}};
    if (is_residual(name)) {
      options.input = {3, 8, 8};
    }
    const auto model = nn::make_model<double>(name, options);
    // One value of each parameter; the residual networks have many and are slow in double: their blocks are tested
    // alone.
    if (!is_residual(name)) {
      model_check::gradients(model, Mode::evaluation, 3);
      model_check::gradients(model, Mode::training, 3);
      continue;
    }
    model_check::Pass<double> pass(model, 0, 3, Mode::training);
    pass.tape.backward(pass.loss);
    auto& store = model.parameters();
    for (const char* parameter :
         {"conv1.weight", "layer1.0.conv1.weight", "layer2.0.shortcut.0.weight", "linear.bias"}) {
      CAPTURE(std::string(parameter));
      auto& p = store[parameter];
      const double exact = p.gradient()[3 % static_cast<std::size_t>(p.size())];
      const auto at = [&](double nudge) {
        p.edit()[3 % static_cast<std::size_t>(p.size())] += nudge;
        model_check::Pass<double> moved(model, 0, 3, Mode::training);
        const double total = moved.total();
        p.edit()[3 % static_cast<std::size_t>(p.size())] -= nudge;
        return total;
      };
      const double slope = (at(1e-6) - at(-1e-6)) / 2e-6;
      CHECK(exact != 0);
      CHECK(std::abs(slope - exact) < 1e-5 * (1 + std::abs(slope)));
    }
  }
}

TEST_CASE("models give an image the same bits in any lane") {
  for (const auto name : nn::model_names()) {
    CAPTURE(std::string(name));
    model_check::lanes(nn::make_model(name, {.input = is_residual(name) ? Shape{3, 8, 8} : Shape{1, 28, 28}}));
  }
}

TEST_CASE("a seed gives the same weights always, another seed others") {
  const auto values = [](std::uint64_t seed) {
    const auto m = nn::small_cnn({.seed = seed});
    const auto v = m.parameters().values();
    return std::vector<float>(v.begin(), v.end());
  };
  CHECK(model_check::equal_bits(values(4), values(4)));
  CHECK_FALSE(model_check::equal_bits(values(4), values(5)));
  // PyTorch's initialisation: uniform in +-1/sqrt(fan_in).
  const auto m = nn::small_cnn({.seed = 1});
  double largest = 0;
  double sum = 0;
  const auto w = m.parameters()["fc1.weight"].value();
  for (const float v : w) {
    largest = std::max(largest, std::abs(static_cast<double>(v)));
    sum += static_cast<double>(v) * static_cast<double>(v);
  }
  const double bound = 1 / std::sqrt(1568.0);
  CHECK(largest <= bound);
  CHECK(largest > 0.999 * bound);
  CHECK(std::sqrt(sum / static_cast<double>(w.size())) == doctest::Approx(bound / std::sqrt(3.0)).epsilon(0.01));
}

TEST_CASE("a clone has the same values in memory of its own, in another precision too") {
  const auto model = nn::make_model("resnet18", {.seed = 3, .input = {3, 8, 8}});
  model_check::Pass<float>(model, 0, 8, Mode::training);  // moves the running statistics
  const auto copy = nn::clone(model);
  CHECK(copy.name() == "resnet18");
  CHECK(copy.seed() == 3);
  CHECK(copy.input_shape() == model.input_shape());
  const auto logits = model_check::Pass<float>(model, 0, 2, Mode::evaluation).logits_of(1);
  CHECK(model_check::equal_bits(model_check::Pass<float>(copy, 0, 2, Mode::evaluation).logits_of(1), logits));
  for (auto& v : copy.parameters().edit_values()) {
    v = 0;
  }
  CHECK(model_check::equal_bits(model_check::Pass<float>(model, 0, 2, Mode::evaluation).logits_of(1), logits));
  const auto wide = nn::clone<double>(model);
  const auto wide_logits = model_check::Pass<double>(wide, 0, 2, Mode::evaluation).logits_of(1);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    CHECK(std::abs(wide_logits[i] - static_cast<double>(logits[i])) < 1e-4);
  }
}

TEST_CASE("pixels are normalised inside the model where that is asked for") {
  const auto plain = nn::small_cnn({.seed = 1});
  const auto normalised = nn::small_cnn({.seed = 1, .mean = {0.5}, .deviation = {0.25}});
  CHECK(normalised.parameters().count() == plain.parameters().count());
  CHECK(normalised.parameters()["normalize.mean"].value()[0] == 0.5F);
  CHECK_THROWS_AS(nn::small_cnn({.mean = {0.5}}), ValueError);
  CHECK_THROWS_AS(nn::small_cnn({.mean = {0.5, 0.5}, .deviation = {1, 1}}), ShapeError);
}

TEST_CASE("models refuse names, images and classes that they cannot have") {
  CHECK_THROWS_WITH_AS(
      nn::make_model("vgg"),
      "model: there is no 'vgg', expected one of small-cnn, mlp, lenet, madry-cnn, carlini-cnn, resnet18, "
      "preact-resnet18",
      ValueError);
  CHECK_THROWS_AS(nn::lenet({.input = {1, 8, 8}}), ShapeError);
  CHECK_THROWS_AS(nn::small_cnn({.input = {28, 28}}), ShapeError);
  CHECK_THROWS_AS(nn::small_cnn({.input = {1, 0, 28}}), ShapeError);
  CHECK_THROWS_AS(nn::small_cnn({.classes = 0}), ValueError);
  const auto model = nn::small_cnn();
  Tape<float> tape;
  tape.begin(1);
  CHECK_THROWS_AS(model(tape.input(Shape{3, 28, 28})), ShapeError);
}

TEST_CASE("a model prints its layers, shapes and numbers of parameters") {
  CHECK(nn::summary(nn::small_cnn()) ==
        "small-cnn: images (1,28,28), 10 classes\n"
        "layer  type    output      parameters\n"
        "conv1  conv2d  (16,14,14)         272\n"
        "relu1  relu    (16,14,14)           0\n"
        "conv2  conv2d  (32,7,7)         8,224\n"
        "relu2  relu    (32,7,7)             0\n"
        "fc1    linear  (100)          156,900\n"
        "relu3  relu    (100)                0\n"
        "fc2    linear  (10)             1,010\n"
        "total                         166,406\n");
  const std::string residual = nn::summary(nn::resnet18({.input = {3, 8, 8}}));
  CHECK(residual.find("layer2.0") != std::string::npos);
  CHECK(residual.find("11,173,962\n") != std::string::npos);
}

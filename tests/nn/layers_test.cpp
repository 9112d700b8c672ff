// SPDX-License-Identifier: MIT
// Every layer in a small network: made from its spec, differentiated, and applied to one image and to many.
#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "nn/model_check.hpp"
#include "pavise/nn/spec.hpp"

using namespace pavise;

namespace {

struct Case {
  const char* layers;  ///< specs of the layers before the linear one
  Shape input;
};

const Case kCases[] = {
    {"a:conv2d(in=2,out=4,kernel=3,stride=2,padding=1,dilation=1,groups=2,bias=1,init=torch)", {2, 5, 7}},
    {"a:conv2d(in=2,out=3,kernel=2,stride=1,padding=0,dilation=2,groups=1,bias=0,init=he)", {2, 5, 7}},
    {"a:conv_transpose2d(in=2,out=4,kernel=3,stride=2,padding=1,dilation=1,groups=2,output_padding=1,bias=1,init="
     "xavier)",
     {2, 3, 4}},
    {"a:linear(in=70,out=5,bias=0,init=xavier)", {2, 5, 7}},
    {"a:relu", {2, 3, 3}},
    {"a:linear(in=18,out=9,bias=1,init=torch);b:leaky_relu(slope=0.2)", {2, 3, 3}},
    {"a:linear(in=18,out=9,bias=1,init=torch);b:elu(alpha=0.7)", {2, 3, 3}},
    {"a:linear(in=18,out=9,bias=1,init=torch);b:gelu", {2, 3, 3}},
    {"a:linear(in=18,out=9,bias=1,init=torch);b:silu", {2, 3, 3}},
    {"a:linear(in=18,out=9,bias=1,init=torch);b:sigmoid", {2, 3, 3}},
    {"a:linear(in=18,out=9,bias=1,init=torch);b:tanh", {2, 3, 3}},
    {"a:linear(in=18,out=9,bias=1,init=torch);b:softplus", {2, 3, 3}},
    {"a:max_pool2d(kernel=2,stride=0,padding=0,dilation=1)", {2, 5, 7}},
    {"a:max_pool2d(kernel=3,stride=2,padding=1,dilation=2)", {2, 7, 8}},
    {"a:avg_pool2d(kernel=3,stride=2,padding=1,include_padding=0)", {2, 5, 7}},
    {"a:global_avg_pool", {3, 5, 7}},
    {"a:global_max_pool", {3, 5, 7}},
    {"a:flatten", {2, 3, 3}},
    {"a:conv2d(in=2,out=3,kernel=1,stride=1,padding=0,dilation=1,groups=1,bias=1,init=he);b:relu;c:flatten", {2, 3, 3}},
    {"a:dropout(rate=0.25)", {2, 5, 7}},
    {"a:linear(in=18,out=9,bias=1,init=torch);b:temperature(temperature=20)", {2, 3, 3}},
    {"a:normalize(mean=0.5/0.25,std=0.25/0.125)", {2, 5, 7}},
    {"a:normalize(mean=0.5/0.25,std=0.25/0.125);b:relu", {2, 5, 7}},
    {"a:batch_norm2d(channels=2,momentum=0.2,epsilon=0.001)", {2, 5, 7}},
    {"a:batch_norm2d(channels=2,momentum=0.1,epsilon=1e-05);b:relu", {2, 5, 7}},
    {"a:group_norm(groups=2,channels=4,epsilon=1e-05);b:relu", {4, 3, 5}},
    {"a:layer_norm(epsilon=0.01)", {2, 3, 5}},
    {"a:basic_block(in=2,out=2,stride=1,init=torch)", {2, 5, 4}},
    {"a:basic_block(in=2,out=3,stride=2,init=he);b:basic_block(in=3,out=3,stride=1,init=he)", {2, 6, 5}},
    {"a:preact_block(in=2,out=2,stride=1,init=torch)", {2, 5, 4}},
    {"a:preact_block(in=2,out=3,stride=2,init=he);b:relu;c:preact_block(in=3,out=3,stride=1,init=he)", {2, 6, 5}},
    {"a:sequential{0:linear(in=18,out=9,bias=1,init=torch);1:relu};b:relu", {2, 3, 3}},
    {"a:sequential;b:relu", {2, 3, 3}},
};

/// The case's layers with a linear layer of three classes behind them.
template <class T>
nn::BasicModel<T> model_of(const Case& c) {
  nn::Spec spec = nn::parse_spec(concat("sequential{", c.layers, "}"));
  ParameterStore<T> scratch;
  const Shape out = nn::make_net<T>(spec)->build(c.input, scratch, "");
  spec.children.push_back(nn::parse_spec(concat("head:linear(in=", out.numel(), ",out=3,bias=1,init=torch)")));
  nn::BasicModel<T> model("test", nn::make_net<T>(spec), c.input, 3);
  // Away from the values that shifts and statistics begin with, which lie on kinks (max(0, x) at 0).
  RandomSequence random({.seed = 1, .purpose = Purpose::test});
  for (auto& p : model.parameters().parameters()) {
    if (p.name().ends_with("bias") || p.name().ends_with("running_mean") || p.name().ends_with("running_var")) {
      for (auto& v : p.edit()) {
        v += static_cast<T>(random.uniform(0.05, 0.4));
      }
    }
  }
  return model;
}

}  // namespace

TEST_CASE("the cases have every type of layer in the registry") {
  for (const auto& type : nn::layer_registry<float>().types()) {
    CAPTURE(type);
    bool found = false;
    for (const auto& c : kCases) {
      found = found || std::string(c.layers).find(":" + type) != std::string::npos;
    }
    CHECK(found);
  }
}

TEST_CASE("a layer's spec is what it was made from") {
  for (const auto& c : kCases) {
    CAPTURE(std::string(c.layers));
    const nn::Spec spec = nn::parse_spec(concat("sequential{", c.layers, "}"));
    CHECK(nn::to_text(nn::make_net<float>(spec)->spec()) == concat("sequential{", c.layers, "}"));
  }
}

TEST_CASE("layers' derivatives are those of central differences") {
  for (const auto& c : kCases) {
    CAPTURE(std::string(c.layers));
    const auto model = model_of<double>(c);
    for (const Mode mode : {Mode::evaluation, Mode::training}) {
      CAPTURE(static_cast<int>(mode));
      model_check::gradients(model, mode, 3, 4);
    }
  }
}

TEST_CASE("layers give an image the same bits in any lane") {
  for (const auto& c : kCases) {
    CAPTURE(std::string(c.layers));
    model_check::lanes(model_of<float>(c));
    model_check::lanes(model_of<double>(c));
  }
}

TEST_CASE("a ReLU that a layer fuses gives the bits of one that it does not") {
  for (const auto& c : kCases) {
    const std::string text = c.layers;
    const auto at = text.find(";b:relu");
    if (at == std::string::npos || text.find("sequential") != std::string::npos) {
      continue;
    }
    CAPTURE(text);
    std::string apart = text;
    apart.replace(at, 7, ";z:leaky_relu(slope=0)");  // max(0, x) that is never fused
    const auto fused = model_of<float>(c);
    const auto separate = model_of<float>({apart.c_str(), c.input});
    for (const Mode mode : {Mode::evaluation, Mode::training}) {
      model_check::Pass<float> a(fused, 0, 5, mode);
      model_check::Pass<float> b(separate, 0, 5, mode);
      a.tape.backward(a.loss);
      b.tape.backward(b.loss);
      for (std::int64_t image = 0; image < 5; ++image) {
        for (std::size_t k = 0; k < 3; ++k) {
          CHECK(a.logits_of(image)[k] == b.logits_of(image)[k]);
        }
        const auto da = a.input_gradient_of(image);
        const auto db = b.input_gradient_of(image);
        for (std::size_t k = 0; k < da.size(); ++k) {
          CHECK(da[k] == db[k]);
        }
      }
    }
  }
}

TEST_CASE("normalize takes off the mean and divides by the deviation, of each channel") {
  auto net = std::make_unique<nn::Sequential<double>>();
  net->add<nn::Normalize>("n", std::vector<double>{0.5, 0.25}, std::vector<double>{0.25, 0.1}).add<nn::Flatten>("f");
  const nn::BasicModel<double> model("test", std::move(net), Shape{2, 2, 3}, 0);
  CHECK(model.parameters().count() == 0);
  CHECK(model.parameters()["n.std"].value()[1] == 0.1);
  model_check::Pass<double> pass(model, 0, 2, Mode::training);
  for (std::int64_t image = 0; image < 2; ++image) {
    for (std::int64_t e = 0; e < 12; ++e) {
      const double expected = (model_check::pixel(image, e) - (e < 6 ? 0.5 : 0.25)) / (e < 6 ? 0.25 : 0.1);
      CHECK(pass.logits_of(image)[static_cast<std::size_t>(e)] == doctest::Approx(expected).epsilon(1e-12));
    }
  }
  CHECK_THROWS_AS(nn::Normalize<float>({0.5}, {0.0}), ValueError);
  CHECK_THROWS_AS(nn::Normalize<float>({0.5}, {0.1, 0.2}), ValueError);
}

TEST_CASE("dropout drops in training alone, and two layers of a model drop different elements") {
  auto net = std::make_unique<nn::Sequential<float>>();
  net->add<nn::Dropout>("drop1", 0.5).add<nn::Flatten>("f");
  const nn::BasicModel<float> one("one", std::move(net), Shape{1, 20, 20}, 0);
  net = std::make_unique<nn::Sequential<float>>();
  net->add<nn::Dropout>("drop2", 0.5).add<nn::Flatten>("f");
  const nn::BasicModel<float> two("two", std::move(net), Shape{1, 20, 20}, 0);
  const auto values = [](const nn::BasicModel<float>& m, Mode mode, std::int64_t image) {
    return model_check::Pass<float>(m, 0, 2, mode).logits_of(image);
  };
  const auto clean = values(one, Mode::evaluation, 0);
  const auto dropped = values(one, Mode::training, 0);
  const auto other = values(two, Mode::training, 0);
  const auto neighbour = values(one, Mode::training, 1);
  int zeros = 0;
  int differ = 0;
  int differ_image = 0;
  for (std::size_t i = 0; i < clean.size(); ++i) {
    CHECK(clean[i] == static_cast<float>(model_check::pixel(0, static_cast<std::int64_t>(i))));
    CHECK((dropped[i] == 0.0F || dropped[i] == 2 * clean[i]));
    zeros += dropped[i] == 0.0F ? 1 : 0;
    differ += (dropped[i] == 0.0F) != (other[i] == 0.0F) ? 1 : 0;
    differ_image += (dropped[i] == 0.0F) != (neighbour[i] == 0.0F) ? 1 : 0;
  }
  CHECK(zeros > 150);
  CHECK(zeros < 250);
  CHECK(differ > 100);
  CHECK(differ_image > 100);
}

TEST_CASE("layers refuse shapes and options that do not fit") {
  const auto build = [](const char* layers, Shape input) {
    ParameterStore<float> store;
    return nn::make_net<float>(nn::parse_spec(concat("sequential{", layers, "}")))->build(input, store, "");
  };
  CHECK_THROWS_WITH_AS(build("c:conv2d(in=3,out=4,kernel=3)", {1, 28, 28}), "c: conv2d expects (3,H,W), got (1,28,28)",
                       ShapeError);
  CHECK_THROWS_AS(build("c:conv2d(in=1,out=4,kernel=9)", {1, 4, 4}), ShapeError);
  CHECK_THROWS_AS(build("c:linear(in=5,out=4)", {1, 2, 2}), ShapeError);
  CHECK_THROWS_AS(build("c:batch_norm2d(channels=2)", {1, 2, 2}), ShapeError);
  CHECK_THROWS_AS(build("c:group_norm(groups=2,channels=3)", {3, 2, 2}), ValueError);
  CHECK_THROWS_AS(build("c:max_pool2d(kernel=5)", {1, 4, 4}), ShapeError);
  CHECK_THROWS_AS(build("c:dropout(rate=1)", {1, 4, 4}), ValueError);
  CHECK_THROWS_AS(build("c:normalize(mean=0.5,std=0.5)", {3, 4, 4}), ShapeError);
  CHECK_THROWS_AS(build("c:conv2d(in=1,out=1,kernel=2147483647)", {1, 4, 4}), ValueError);
  CHECK_THROWS_AS(build("c:conv2d(in=1,out=1,kernel=1,stride=0)", {1, 4, 4}), ValueError);
  CHECK_THROWS_AS(build("c:conv_transpose2d(in=1,out=1,kernel=1,padding=3)", {1, 4, 4}), ShapeError);
}

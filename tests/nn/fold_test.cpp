// SPDX-License-Identifier: MIT
// Batch normalisation folded into the convolution before it: against passes that do not fold (those with gradients of
// parameters), and after everything that changes a model.
#include "pavise/nn/fold.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/scratch.hpp"
#include "nn/model_check.hpp"
#include "pavise/io/model_file.hpp"
#include "pavise/nn/models.hpp"
#include "pavise/nn/spec.hpp"
#include "pavise/optim/optimizer.hpp"

using namespace pavise;

namespace {

constexpr std::int64_t kImages = 18;  // a group and a part of one

template <class T>
using AllValues = std::vector<std::vector<T>>;

/// Gives every normalisation scales, shifts and statistics that do something.
template <class T>
void move_norms(const nn::BasicModel<T>& model) {
  RandomSequence random({.seed = 7, .purpose = Purpose::test});
  const auto add = [&](std::string_view name, double low, double high) {
    for (auto& p : model.parameters().parameters()) {
      const bool norm = p.shape().rank() == 1 && (p.name().ends_with(".bias") || p.name().ends_with(".weight") ||
                                                  p.name().find("running") != std::string::npos);
      if (norm && p.name().ends_with(name)) {
        for (auto& v : p.edit()) {
          v += static_cast<T>(random.uniform(low, high));
        }
      }
    }
  };
  add("weight", -0.5, 0.5);
  add("bias", -0.4, 0.4);
  add("running_mean", -0.3, 0.3);
  add("running_var", -0.5, 1.0);
}

/// Layers, given as specs, with a fully connected one behind them.
template <class T>
nn::BasicModel<T> model_of(const std::string& layers, Shape input) {
  nn::Spec spec = nn::parse_spec("sequential{" + layers + "}");
  ParameterStore<T> scratch;
  const Shape out = nn::make_net<T>(spec)->build(input, scratch, "");
  spec.children.push_back(nn::parse_spec(concat("head:linear(in=", out.numel(), ",out=3,bias=1,init=torch)")));
  nn::BasicModel<T> model("test", nn::make_net<T>(spec), input, 3);
  move_norms(model);
  return model;
}

/// Logits and gradients of all images of an evaluation pass, and how many of its operations are normalisations.
template <class T>
struct Evaluation {
  AllValues<T> logits, gradients;
  int norms = 0;

  Evaluation(const nn::BasicModel<T>& model, bool folded) {
    model_check::Pass<T> pass(model, 0, kImages, Mode::evaluation, {.parameter_gradients = !folded});
    for (std::size_t id = 0; id < pass.tape.size(); ++id) {
      const Var<T> v(&pass.tape, static_cast<std::int32_t>(id));
      norms += std::string_view(pass.tape.node(v).name) == "batch_norm" ? 1 : 0;
    }
    pass.tape.backward(pass.loss);
    for (std::int64_t n = 0; n < kImages; ++n) {
      logits.push_back(pass.logits_of(n));
      gradients.push_back(pass.input_gradient_of(n));
    }
  }
};

/// The largest difference, relative to the largest value.
template <class T>
double difference(const AllValues<T>& a, const AllValues<T>& b) {
  double largest = 0;
  double worst = 0;
  for (std::size_t n = 0; n < a.size(); ++n) {
    for (std::size_t i = 0; i < a[n].size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(a[n][i])));
      worst = std::max(worst, std::abs(static_cast<double>(a[n][i]) - static_cast<double>(b[n][i])));
    }
  }
  return worst / largest;
}

template <class T>
double tolerance() {
  return std::is_same_v<T, float> ? 2e-5 : 1e-13;
}

/// CHECKs that passes which fold compute what those which do not compute, now; `left`: the normalisations that no
/// convolution precedes.
template <class T>
void check_folded(const nn::BasicModel<T>& model, int left = 0) {
  const Evaluation<T> plain(model, false);
  const Evaluation<T> folded(model, true);
  CHECK(plain.norms > left);
  CHECK(folded.norms == left);
  CHECK(difference(plain.logits, folded.logits) < tolerance<T>());
  CHECK(difference(plain.gradients, folded.gradients) < 10 * tolerance<T>());
}

struct FoldCase {
  const char* layers;
  Shape input;
  int left = 0;
};

const FoldCase kFoldCases[] = {
    {"a:conv2d(in=2,out=4,kernel=3,padding=1,bias=1);b:batch_norm2d(channels=4,epsilon=0.1)", {2, 5, 7}},
    {"a:conv2d(in=2,out=4,kernel=3,stride=2,groups=2,bias=0);b:batch_norm2d(channels=4);c:relu", {2, 5, 7}},
    {"a:conv2d(in=2,out=3,kernel=1,bias=1);b:batch_norm2d(channels=3);c:leaky_relu(slope=0.1)", {2, 5, 7}},
    {"a:conv2d(in=2,out=3,kernel=2,bias=1);r:relu;b:batch_norm2d(channels=3);c:conv2d(in=3,out=3,kernel=2,bias=1);d:"
     "batch_norm2d(channels=3)",
     {2, 5, 7},
     1},
    {"a:conv2d(in=16,out=16,kernel=3,padding=1,bias=0);b:batch_norm2d(channels=16);c:relu", {16, 12, 12}},  // Winograd
    {"a:basic_block(in=2,out=2,stride=1);b:basic_block(in=2,out=3,stride=2)", {2, 6, 5}},
    {"a:preact_block(in=2,out=2,stride=1);b:preact_block(in=2,out=3,stride=2)", {2, 6, 5}, 2},
};

/// A small network with everything that folds, and the model file's and the registry's types.
nn::Model small_resnet() {
  return model_of<float>(
      "stem:conv2d(in=1,out=4,kernel=3,padding=1,bias=1);bn:batch_norm2d(channels=4);r:relu;"
      "block:basic_block(in=4,out=6,stride=2)",
      {1, 8, 8});
}

}  // namespace

TEST_CASE_TEMPLATE("folded layers compute what the layers compute", T, float, double) {
  for (const auto& c : kFoldCases) {
    CAPTURE(std::string(c.layers));
    const auto model = model_of<T>(c.layers, c.input);
    check_folded(model, c.left);
    model_check::lanes(model);
  }
}

TEST_CASE("a folded ResNet-18 computes what it computes") {
  for (const auto name : {"resnet18", "preact-resnet18"}) {
    CAPTURE(std::string(name));
    const auto model = nn::make_model(name, {.seed = 1, .input = {3, 8, 8}});
    for (int pass = 0; pass < 3; ++pass) {
      model_check::Pass<float>(model, 40 * pass, 33, Mode::training);  // running statistics of this network
    }
    check_folded(model, name == std::string("resnet18") ? 0 : 9);
  }
}

TEST_CASE("training passes do not fold, nor do they see folded weights") {
  const auto model = small_resnet();
  const auto twin = small_resnet();
  Evaluation<float>(model, true);
  for (const bool parameters : {true, false}) {
    model_check::Pass<float> a(model, 0, kImages, Mode::training, {.parameter_gradients = parameters});
    model_check::Pass<float> b(twin, 0, kImages, Mode::training, {.parameter_gradients = parameters});
    CHECK(model_check::equal_bits(a.logits_of(3), b.logits_of(3)));
  }
  CHECK(model.parameters().parameters().size() == twin.parameters().parameters().size());
  CHECK(std::ranges::equal(model.parameters().state(), twin.parameters().state()));
}

TEST_CASE("whatever changes a model, its folded weights follow") {
  const auto model = small_resnet();
  auto& store = model.parameters();
  AllValues<float> before = Evaluation<float>(model, true).logits;
  const auto check_changed = [&](const char* what) {
    CAPTURE(std::string(what));
    const auto now = Evaluation<float>(model, true).logits;
    CHECK(difference(before, now) > 1e-3);
    check_folded(model);
    before = now;
  };

  // Each array alone.
  for (const char* name : {"stem.weight", "stem.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var",
                           "block.bn2.running_mean", "block.shortcut.1.running_var"}) {
    for (auto& v : store[name].edit()) {
      v += 0.5F;
    }
    check_changed(name);
  }

  const std::vector<float> weights(store.values().begin(), store.values().end());
  model_check::Pass<float>(model, 100, 32, Mode::training);
  CHECK(std::ranges::equal(store.values(), weights));  // only running statistics have changed
  check_changed("a training pass");

  optim::Sgd<float> optimizer(store, {.momentum = 0.9});
  store.zero_gradients();
  model_check::Pass<float> pass(model, 0, 32, Mode::evaluation);  // leaves the statistics
  pass.tape.backward(pass.loss);
  optimizer.step(0.1, 1.0 / 32);
  check_changed("an optimizer's step");

  const std::vector<float> state(store.state().begin(), store.state().end());
  const auto old = before;
  for (auto& v : store.edit_state()) {
    v *= 0.5F;
  }
  check_changed("another state");
  std::ranges::copy(state, store.edit_state().begin());
  check_changed("the state before");
  CHECK(before == old);
}

TEST_CASE("a model from a file, or cloned, folds its own weights") {
  const pavise_test::Scratch scratch;
  const auto model = small_resnet();
  const auto before = Evaluation<float>(model, true).logits;
  io::save_model(scratch / "m.safetensors", model);
  for (auto& v : model.parameters().edit_values()) {
    v *= 0.5F;
  }
  Evaluation<float>(model, true);
  const auto loaded = io::load_model(scratch / "m.safetensors");
  CHECK(Evaluation<float>(loaded.model, true).logits == before);
  CHECK(Evaluation<float>(nn::clone(loaded.model), true).logits == before);
  check_folded(nn::clone<double>(loaded.model));
}

TEST_CASE("threads that fold at the same time get the bits of one") {
  const int threads = thread_count();
  const auto model = small_resnet();
  const auto one_by_one = [&](int n) {
    set_thread_count(n);
    std::vector<std::vector<float>> logits(64);
    parallel_for(64, [&](std::int64_t image) {
      logits[static_cast<std::size_t>(image)] =
          model_check::Pass<float>(model, image, 1, Mode::evaluation, {.lanes = 1}).logits_of(0);
    });
    return logits;
  };
  for (int round = 0; round < 20; ++round) {
    model.parameters()["bn.running_mean"].edit()[0] += 0.1F;
    const auto many = one_by_one(4);  // the first to come folds
    model.parameters().touch();
    CHECK(one_by_one(1) == many);
  }
  set_thread_count(threads);
}

TEST_CASE("a convolution before several normalisations folds each of them") {
  ParameterStore<double> store;
  nn::Conv2d<double> conv(1, 2, 3);
  nn::BatchNorm2d<double> clean(2);
  nn::BatchNorm2d<double> adversarial(2);
  const Shape s = conv.build({1, 5, 5}, store, "conv");
  clean.build(s, store, "clean");
  adversarial.build(s, store, "adversarial");
  store.allocate(1);
  store["clean.running_mean"].edit()[0] = 0.25;
  store["adversarial.running_var"].edit()[1] = 3.0;
  const auto values = [&](nn::BatchNorm2d<double>& norm, bool folded) {
    Tape<double> tape;
    tape.begin(1, 16, Mode::evaluation, !folded);
    Var<double> x = tape.input({1, 5, 5});
    for (std::int64_t i = 0; i < x.size() * 16; ++i) {
      x.data()[i] = model_check::pixel(i % 16, i / 16);
    }
    const Var<double> y = nn::forward_pair<double>(conv, norm, x, true);
    return AllValues<double>{{y.data(), y.data() + y.size() * 16}};
  };
  CHECK(difference(values(clean, true), values(adversarial, true)) > 1e-2);
  for (int round = 0; round < 2; ++round) {
    CHECK(difference(values(clean, true), values(clean, false)) < 1e-14);
    CHECK(difference(values(adversarial, true), values(adversarial, false)) < 1e-14);
    store["adversarial.running_var"].edit()[0] = 2.0;
  }
}

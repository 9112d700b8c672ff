// SPDX-License-Identifier: MIT
// FGSM, BIM and PGD: exact answers on linear models, and what must hold on any.
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/pgd.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/defend/adversarial_training.hpp"
#include "pavise/nn/activations.hpp"
#include "pavise/nn/linear.hpp"
#include "pavise/nn/norm.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Norm;
using attack::Threat;

namespace {

constexpr std::int64_t kImageSize = 15;

float uniform(std::uint32_t which, std::int64_t i, std::int64_t e, double low, double high) {
  pv::RandomSequence random({.seed = 21,
                             .purpose = pv::Purpose::test,
                             .image = static_cast<std::uint32_t>(i),
                             .restart = which,
                             .iteration = static_cast<std::uint32_t>(e)});
  return static_cast<float>(random.uniform(low, high));
}

/// Two classes: logits W x + b.
pv::nn::Model linear_rows() {
  auto net = std::make_unique<pv::nn::Sequential<float>>();
  net->add<pv::nn::Linear>("fc", kImageSize, 2);
  return {"linear", std::move(net), pv::Shape{1, 3, 5}, 11};
}

/// w[1] - w[0] of the linear model: moving along it favours class 1.
std::vector<double> direction(const pv::nn::Model& model) {
  const auto w = model.parameters()["fc.weight"].value();
  std::vector<double> out;
  for (std::size_t i = 0; i < kImageSize; ++i) {
    out.push_back(static_cast<double>(w[i + kImageSize]) - static_cast<double>(w[i]));
  }
  return out;
}

double dual_norm(Norm norm, const std::vector<double>& w) {
  double sum = 0;
  for (const double v : w) {
    sum = norm == Norm::linf ? sum + std::abs(v) : norm == Norm::l2 ? sum + v * v : std::max(sum, std::abs(v));
  }
  return norm == Norm::l2 ? std::sqrt(sum) : sum;
}

pv::Tensor<float> random_images(std::int64_t n, pv::Shape shape = {1, 3, 5}) {
  pv::Tensor<float> out(pv::Shape{n, shape[0], shape[1], shape[2]});
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t e = 0; e < shape.numel(); ++e) {
      out[i * shape.numel() + e] = uniform(1, i, e, 0, 1);
    }
  }
  return out;
}

/// Predictions of the model, one image at a time.
std::vector<std::int32_t> predictions(const pv::nn::Model& model, const pv::Tensor<float>& images) {
  std::vector<std::int32_t> out;
  const std::vector<std::int32_t> any(static_cast<std::size_t>(images.shape()[0]), 0);
  return attack::run(attack::fgsm(attack::linf(0)), model, images, any).clean_prediction;
}

/// The same for images in the threat's box.
std::vector<std::int32_t> predictions_in(const Threat& threat, const pv::nn::Model& model,
                                         const pv::Tensor<float>& images) {
  const std::vector<std::int32_t> any(static_cast<std::size_t>(images.shape()[0]), 0);
  return attack::run(attack::fgsm(threat.with_epsilon(0)), model, images, any).clean_prediction;
}

/// Linear, batch normalisation, ReLU, Linear on 16 pixels of drawn data, trained for a moment.
struct TrainedGaussians {
  TrainedGaussians() : train(pv::data::two_gaussians(240, 16, 0.1, 0.12, 1)), model(make()) {
    pv::defend::AdversarialTraining{.epochs = 20, .batch_size = 40, .learning_rate = 0.02}.fit(model, train);
  }
  static pv::nn::Model make() {
    auto net = std::make_unique<pv::nn::Sequential<float>>();
    net->add<pv::nn::Linear>("fc1", 16, 20);
    net->add<pv::nn::BatchNorm2d>("bn", 20);
    net->add<pv::nn::ReLU>("relu");
    net->add<pv::nn::Linear>("fc2", 20, 2);
    return {"small", std::move(net), pv::Shape{1, 1, 16}, 2};
  }
  pv::data::Dataset train;
  pv::nn::Model model;
};

const TrainedGaussians& trained() {
  static const TrainedGaussians t;
  return t;
}

bool same_row(const pv::Tensor<float>& a, std::int64_t i, const pv::Tensor<float>& b, std::int64_t j) {
  return std::memcmp(a.row(i).data(), b.row(j).data(), a.row(i).size_bytes()) == 0;
}

}  // namespace

TEST_CASE("linear model: the attacks reach the exact optimum") {
  const auto model = linear_rows();
  const auto w = direction(model);
  const auto images = random_images(37);
  const auto labels = predictions(model, images);
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    const Threat threat(norm, 0.2, -10, 10);
    const double best = 0.2 * dual_norm(norm, w);
    const std::vector<std::pair<std::string, attack::Pgd>> attacks{
        {"fgsm", attack::fgsm(threat)},
        {"pgd", attack::Pgd(threat, {.steps = 40, .step_size = 0.05})},
        {"bim", attack::bim(threat, {.steps = 20, .step_size = 0.02})}};
    for (const auto& [name, a] : attacks) {
      CAPTURE(name);
      CAPTURE(std::string(attack::norm_name(norm)));
      const auto result = attack::run(a, model, images, labels);
      for (std::int64_t i = 0; i < 37; ++i) {
        // How far the margin moved towards the other class.
        double moved = 0;
        for (std::size_t e = 0; e < kImageSize; ++e) {
          moved += w[e] * static_cast<double>(result.adversarial.row(i)[e] - images.row(i)[e]);
        }
        moved = labels[static_cast<std::size_t>(i)] == 0 ? moved : -moved;
        CHECK(moved <= best * (1 + 1e-4));
        CHECK(moved >= best * (1 - (name == "pgd" ? 2e-3 : 1e-4)));
        CHECK(result.distance[static_cast<std::size_t>(i)] <= 0.2f + 1e-5f);
      }
    }
  }
}

TEST_CASE("linear model: robust accuracy is the share of images farther from the plane than epsilon") {
  const auto model = linear_rows();
  const auto w = direction(model);
  const auto b = model.parameters()["fc.bias"].value();
  const auto images = random_images(200);
  const auto labels = predictions(model, images);
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    for (const double epsilon : {0.02, 0.05, 0.1}) {
      std::int64_t expected = 0;
      for (std::int64_t i = 0; i < 200; ++i) {
        double margin = static_cast<double>(b[1]) - static_cast<double>(b[0]);
        for (std::size_t e = 0; e < kImageSize; ++e) {
          margin += w[e] * static_cast<double>(images.row(i)[e]);
        }
        expected += std::abs(margin) > epsilon * dual_norm(norm, w) ? 1 : 0;
      }
      CHECK(expected > 0);
      CHECK(expected < 200);
      const auto result = attack::run(attack::fgsm(Threat(norm, epsilon, -10, 10)), model, images, labels);
      CHECK(result.clean_correct == 200);
      CHECK(result.robust_correct == expected);
    }
  }
}

TEST_CASE("any model: the result does not depend on neighbours, order, threads or instruction set") {
  const auto& model = trained().model;
  const auto images = attack::to_tensor(trained().train.first(37));
  const auto& all = trained().train.labels();
  const std::vector<std::int32_t> labels(all.begin(), all.begin() + 37);
  const struct Restore {
    int threads = pv::thread_count();
    pv::kernels::Isa isa = pv::kernels::isa();
    ~Restore() {
      pv::set_thread_count(threads);
      pv::kernels::set_isa(isa);
    }
  } restore;
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    CAPTURE(std::string(attack::norm_name(norm)));
    const attack::Pgd pgd(Threat(norm, norm == Norm::linf ? 0.03 : norm == Norm::l2 ? 0.1 : 0.5), {.steps = 5});
    const attack::RunOptions options{.restarts = 3, .seed = 4};
    const auto reference = attack::run(pgd, model, images, labels, options);
    CHECK(reference.robust_correct > 0);
    CHECK(reference.robust_correct < reference.clean_correct);
    const auto same = [&](const attack::Result& r, std::int64_t i, std::int64_t j) {
      const auto a = static_cast<std::size_t>(i);
      const auto b = static_cast<std::size_t>(j);
      CHECK(same_row(r.adversarial, i, reference.adversarial, j));
      CHECK(r.prediction[a] == reference.prediction[b]);
      CHECK(r.success[a] == reference.success[b]);
      CHECK(r.attempt[a] == reference.attempt[b]);
      CHECK(std::memcmp(&r.confidence[a], &reference.confidence[b], 4) == 0);
    };
    for (const int threads : {1, 2, 3}) {
      pv::set_thread_count(threads);
      const auto r = attack::run(pgd, model, images, labels, options);
      for (std::int64_t i = 0; i < 37; ++i) {
        same(r, i, i);
      }
    }
    for (const auto isa : {pv::kernels::Isa::portable, pv::kernels::Isa::avx2}) {
      pv::kernels::set_isa(isa);
      const auto r = attack::run(pgd, model, images, labels, options);
      for (std::int64_t i = 0; i < 37; ++i) {
        same(r, i, i);
      }
    }
    pv::kernels::set_isa(restore.isa);
    // Backwards, with the ids that name the images.
    pv::Tensor<float> turned(images.shape());
    std::vector<std::int32_t> turned_labels;
    std::vector<std::uint32_t> ids;
    for (std::int64_t i = 0; i < 37; ++i) {
      std::copy(images.row(36 - i).begin(), images.row(36 - i).end(), turned.row(i).begin());
      turned_labels.push_back(labels[static_cast<std::size_t>(36 - i)]);
      ids.push_back(static_cast<std::uint32_t>(36 - i));
    }
    const auto r = attack::run(pgd, model, turned, turned_labels, options, ids.data());
    for (std::int64_t i = 0; i < 37; ++i) {
      same(r, i, 36 - i);
    }
    // One by one: a single lane.
    for (std::int64_t i = 0; i < 37; i += 5) {
      pv::Tensor<float> one(pv::Shape{1, 1, 1, 16}, std::span<const float>(images.row(i)));
      const auto id = static_cast<std::uint32_t>(i);
      same(attack::run(pgd, model, one, std::span(labels).subspan(id, 1), options, &id), 0, i);
    }
  }
}

TEST_CASE("any model: one lane and one of sixteen give the same bits, with and without a random start") {
  const auto& model = trained().model;
  const auto set = trained().train.first(16);
  const auto images = attack::to_tensor(set);
  for (const bool random : {false, true}) {
    const attack::Pgd pgd(attack::linf(0.1), {.steps = 4, .random_start = random});
    attack::Passes passes;
    std::vector<float> alone(16 + 32);
    pv::LaneBatch<float> group(pv::Shape{1, 1, 16}, 16, 16);
    for (std::uint32_t i = 0; i < 16; ++i) {
      group.labels()[i] = set.label(i);
      group.ids()[i] = i;
    }
    group.pack([&](std::int64_t i, float* out) { std::copy(images.row(i).begin(), images.row(i).end(), out); });
    pv::AlignedVector<float> together(16 * 16 + 64);
    pgd.perturb(model, group, together.data(), {.seed = 1, .iteration = 2}, passes);
    for (std::uint32_t i = 0; i < 16; ++i) {
      pv::LaneBatch<float> single(pv::Shape{1, 1, 16}, 1, 1);
      single.labels()[0] = set.label(i);
      single.ids()[0] = i;
      single.pack([&](std::int64_t, float* out) { std::copy(images.row(i).begin(), images.row(i).end(), out); });
      pgd.perturb(model, single, alone.data(), {.seed = 1, .iteration = 2}, passes);
      bool same = true;
      for (std::size_t e = 0; e < 16; ++e) {
        same = same && std::memcmp(&alone[e], &together[e * 16 + i], 4) == 0;
      }
      CHECK(same);
    }
    CHECK(passes.forward == 4 * 32);
    CHECK(passes.backward == 4 * 32);
  }
}

TEST_CASE("any model: epsilon 0 gives the clean accuracy and the clean images") {
  const auto& t = trained();
  const auto result = attack::run(attack::Pgd(attack::linf(0)), t.model, t.train, {.restarts = 2});
  CHECK(result.clean_correct > 200);
  CHECK(result.robust_correct == result.clean_correct);
  const auto images = attack::to_tensor(t.train);
  CHECK(std::memcmp(images.data(), result.adversarial.data(), images.span().size_bytes()) == 0);
  CHECK(result.clean_correct == pv::defend::accuracy(t.model, t.train).correct);
}

TEST_CASE("any model: more restarts, more steps and a larger radius never help the model") {
  const auto& t = trained();
  std::int64_t before = t.train.size();
  for (const std::int64_t restarts : {1, 2, 5, 10}) {
    const auto r = attack::run(attack::Pgd(attack::linf(0.06), {.steps = 2}), t.model, t.train, {.restarts = restarts});
    CHECK(r.robust_correct <= before);
    before = r.robust_correct;
  }
  const auto fgsm = attack::run(attack::fgsm(attack::linf(0.06)), t.model, t.train);
  const auto pgd = attack::run(attack::Pgd(attack::linf(0.06), {.steps = 20}), t.model, t.train, {.restarts = 5});
  CHECK(fgsm.robust_correct < fgsm.clean_correct);
  CHECK(pgd.robust_correct <= fgsm.robust_correct);
  std::int64_t last = t.train.size();
  for (const double epsilon : {0.0, 0.03, 0.06, 0.12}) {
    const auto r = attack::run(attack::Pgd(attack::linf(epsilon)), t.model, t.train, {.restarts = 3});
    CHECK(r.robust_correct <= last);
    last = r.robust_correct;
  }
  CHECK(last < 24);
  // Without stopping at a success the largest loss wins, and it is a success wherever stopping finds one.
  const attack::Pgd two(attack::linf(0.06), {.steps = 2});
  const auto stop = attack::run(two, t.model, t.train, {.restarts = 4});
  const auto all = attack::run(two, t.model, t.train, {.restarts = 4, .stop_at_success = false});
  CHECK(all.success == stop.success);
}

TEST_CASE("any model: what an attack reports is so") {
  const auto& t = trained();
  const Threat threat = attack::linf(0.06);
  const auto r = attack::run(attack::Pgd(threat), t.model, t.train, {.restarts = 2});
  const auto images = attack::to_tensor(t.train);
  const auto prediction = predictions(t.model, r.adversarial);
  std::int64_t robust = 0;
  for (std::int64_t i = 0; i < r.size(); ++i) {
    const auto k = static_cast<std::size_t>(i);
    CHECK(r.prediction[k] == prediction[k]);
    CHECK((r.success[k] != 0) == (prediction[k] != t.train.label(i)));
    robust += r.success[k] == 0 ? 1 : 0;
    float distance = 0;
    for (std::size_t e = 0; e < 16; ++e) {
      const float v = r.adversarial.row(i)[e];
      CHECK((v >= 0 && v <= 1));
      distance = std::max(distance, std::abs(v - images.row(i)[e]));
    }
    CHECK(distance <= 0.06f + 1e-6f);
    CHECK(r.distance[k] == doctest::Approx(distance));
    CHECK((r.attempt[k] == -1) == (r.clean_prediction[k] != t.train.label(i)));
  }
  CHECK(robust == r.robust_correct);
  std::int64_t reported = 0;
  const auto counting =
      attack::run(attack::Pgd(threat, {.steps = 2}), t.model, t.train, {.restarts = 3, .progress = [&](std::int64_t n) {
#ifdef _OPENMP
#pragma omp atomic
#endif
                                                                          reported += n;
                                                                        }});
  CHECK(reported == 3 * counting.size());
}

TEST_CASE("targeted: labels are targets, and success is reaching them") {
  const auto& t = trained();
  std::vector<std::int32_t> targets;
  for (const auto label : t.train.labels()) {
    targets.push_back(1 - label);
  }
  const auto images = attack::to_tensor(t.train);
  const attack::Pgd targeted(attack::linf(0.06), {.targeted = true});
  const auto r = attack::run(targeted, t.model, images, targets);
  const auto untargeted = attack::run(attack::Pgd(attack::linf(0.06)), t.model, t.train);
  std::int64_t reached = 0;
  for (std::int64_t i = 0; i < r.size(); ++i) {
    const auto k = static_cast<std::size_t>(i);
    CHECK((r.success[k] != 0) == (r.prediction[k] == targets[k]));
    reached += r.success[k];
  }
  // With two classes reaching the other one is leaving one's own: the same steps.
  CHECK(reached == untargeted.size() - untargeted.robust_correct);
  CHECK(reached > untargeted.size() - untargeted.clean_correct);
}

TEST_CASE("a loss of one's own: the margin instead of the cross-entropy") {
  const auto& t = trained();
  const attack::Loss margin = [](pv::Var<float> logits, const std::int32_t* labels) {
    return pv::margin_loss(logits, labels);
  };
  const auto r = attack::run(attack::Pgd(attack::linf(0.06), {.loss = margin}), t.model, t.train);
  CHECK(r.robust_correct < r.clean_correct);
  // The gradient of a loss that ignores the label points elsewhere.
  const attack::Loss blind = [](pv::Var<float> logits, const std::int32_t*) {
    static const std::int32_t zeros[16] = {};
    return pv::cross_entropy(logits, zeros);
  };
  const auto b = attack::run(attack::Pgd(attack::linf(0.06), {.loss = blind}), t.model, t.train);
  CHECK(b.robust_correct > r.robust_correct);
}

TEST_CASE("an attack leaves the model as it was: it cannot run in training mode") {
  const auto& t = trained();
  const auto state = t.model.parameters().state();
  const std::vector<float> before(state.begin(), state.end());
  attack::run(attack::Pgd(attack::linf(0.1)), t.model, t.train, {.restarts = 2});
  pv::LaneBatch<float> batch;
  std::vector<std::int64_t> positions{0, 1, 2, 3, 4};
  pv::defend::pack_batch(t.train, positions, {}, batch);
  pv::AlignedVector<float> out(static_cast<std::size_t>(batch.size() * 16) + 64);
  attack::Passes passes;
  attack::fgsm_rs(attack::linf(0.1)).perturb(t.model, batch, out.data(), {}, passes);
  const auto after = t.model.parameters().state();
  CHECK(std::memcmp(before.data(), after.data(), before.size() * sizeof(float)) == 0);
  double gradient = 0;
  const auto& model = t.model;
  model.parameters().zero_gradients();
  attack::run(attack::Pgd(attack::linf(0.1)), model, t.train.first(20));
  for (const float g : model.parameters().gradients()) {
    gradient += std::abs(static_cast<double>(g));
  }
  CHECK(gradient == 0);
}

TEST_CASE("attacks: what cannot be attacked is refused in words") {
  const auto model = linear_rows();
  auto images = random_images(3);
  const std::vector<std::int32_t> labels{0, 1, 0};
  const attack::Pgd pgd(attack::linf(0.1));
  images[7] = 1.5f;
  CHECK_THROWS_WITH_AS(
      attack::run(pgd, model, images, labels),
      "pgd: a pixel of image 0 is 1.5, outside the declared box [0,1]; images are given before normalisation",
      pv::ValueError);
  images[7] = std::nanf("");
  CHECK_THROWS_AS(attack::run(pgd, model, images, labels), pv::ValueError);
  images[7] = 0.5f;
  const std::vector<std::int32_t> two{0, 1};
  CHECK_THROWS_AS(attack::run(pgd, model, images, two), pv::ShapeError);
  const std::vector<std::int32_t> wrong{0, 1, 2};
  CHECK_THROWS_AS(attack::run(pgd, model, images, wrong), pv::ValueError);
  CHECK_THROWS_AS(attack::run(pgd, model, images, labels, {.restarts = 0}), pv::ValueError);
  CHECK_THROWS_AS(attack::run(pgd, model, random_images(3, {1, 5, 3}), labels), pv::ShapeError);
  CHECK_THROWS_AS(attack::Pgd(attack::linf(0.1), {.steps = 0}), pv::ValueError);
  CHECK_THROWS_AS(attack::Pgd(attack::linf(0.1), {.step_size = -1}), pv::ValueError);
}

TEST_CASE("attacks: a model that gives NaN is refused, and NaN is never a success") {
  auto model = linear_rows();
  const auto images = random_images(21);
  const std::vector<std::int32_t> labels(21, 0);
  const attack::Classifier broken("broken", model.input_shape(), 2, [&](pv::Var<float> x) {
    return pv::pointwise(
        "broken", model(x),
        [](auto in, auto out) {
          for (std::size_t i = 0; i < in.size(); ++i) {
            out[i] = in[i] > 1e30f ? in[i] : std::nanf("");
          }
        },
        [](auto, auto, auto, auto) {});
  });
  CHECK_THROWS_AS(attack::run(attack::Pgd(attack::l2(0.1)), broken, images, labels), pv::ValueError);
  CHECK_FALSE(attack::fooled({.prediction = 1, .finite = false}, 0, false));
  CHECK_FALSE(attack::fooled({.prediction = 1, .finite = false}, 1, true));
  CHECK(attack::fooled({.prediction = 1}, 0, false));
}

TEST_CASE("attacks: a pixel on the wall of a box that no float hits exactly is inside") {
  const auto model = linear_rows();
  for (const double low : {0.7, 0.3}) {
    const Threat threat(Norm::linf, 0.05, low, low + 0.2);
    auto images = random_images(3);
    for (float& v : images) {
      v = static_cast<float>(v < 0.5f ? threat.low : threat.high);
    }
    const auto result = attack::run(attack::Pgd(threat), model, images, predictions_in(threat, model, images));
    CHECK(result.clean_correct == 3);
    // What the attack returned may be attacked again.
    CHECK_NOTHROW(attack::run(attack::Pgd(threat), model, result.adversarial, result.prediction));
  }
}

TEST_CASE("attacks: progress adds up to images times restarts that there are") {
  const auto& t = trained();
  const auto set = t.train.first(60);
  const auto images = attack::to_tensor(set);
  std::vector<std::int32_t> labels(set.labels().begin(), set.labels().end());
  for (std::size_t i = 0; i < 7; ++i) {
    labels[i] = 1 - labels[i];  // wrong from the start
  }
  for (const bool random : {true, false}) {
    for (const bool stop : {true, false}) {
      CAPTURE(random);
      CAPTURE(stop);
      std::atomic<std::int64_t> done{0};
      const attack::RunOptions options{
          .restarts = 5, .stop_at_success = stop, .progress = [&](std::int64_t n) { done += n; }};
      const auto result = attack::run(attack::Pgd(attack::linf(0.1), {.steps = 3, .random_start = random}), t.model,
                                      images, labels, options);
      CHECK(result.clean_correct < 60);
      CHECK(done == 60 * (random ? 5 : 1));
    }
  }
}

TEST_CASE("attacks: no images are no work") {
  const auto result = attack::run(attack::Pgd(attack::linf(0.1)), linear_rows(), pv::Tensor<float>({0, 1, 3, 5}), {});
  CHECK(result.size() == 0);
  CHECK(result.robust_correct == 0);
  CHECK(result.forward_passes == 0);
  const auto set = trained().train.first(0);
  CHECK(attack::run(attack::Pgd(attack::linf(0.1)), trained().model, set).size() == 0);
}

TEST_CASE("attacks: names, defaults and Kurakin's number of steps") {
  CHECK(attack::Pgd(attack::linf(0.1), {.steps = 5}).options().step_size == doctest::Approx(0.05));
  CHECK(attack::fgsm(attack::linf(0.1)).options().step_size == doctest::Approx(0.1));
  CHECK_FALSE(attack::fgsm(attack::linf(0.1)).random());
  CHECK(attack::fgsm_rs(attack::linf(0.1)).options().step_size == doctest::Approx(0.125));
  CHECK(attack::bim(attack::linf(8 / 255.0), {.steps = 0}).options().steps == 10);
  CHECK(attack::bim(attack::linf(16 / 255.0), {.steps = 0}).options().steps == 20);
  CHECK(attack::bim(attack::linf(8 / 255.0)).name() == "bim");
}

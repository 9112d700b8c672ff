// SPDX-License-Identifier: MIT
// Each sign and each check on a classifier made to set it off, and on one without fault.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "evaluate/models.hpp"
#include "pavise/attack/apgd.hpp"

using namespace evaluate_checks;
using evaluate::Sign;
using evaluate::SignState;

namespace {

constexpr std::int64_t kImages = 60;

pv::Var<float> cross_entropy_loss(pv::Var<float> z, const std::int32_t* labels) { return pv::cross_entropy(z, labels); }

evaluate::Probe probe_of(const attack::Classifier& model) {
  const auto set = digits().test.first(100);
  const auto images = attack::to_tensor(set);
  const auto ids = attack::source_ids(set);
  const auto clean = attack::run(attack::fgsm(threat().with_epsilon(0)), model, images, set.labels());
  std::vector<std::int64_t> index;
  for (std::size_t i = 0; i < clean.success.size() && index.size() < kImages; ++i) {
    if (clean.success[i] == 0) {
      index.push_back(static_cast<std::int64_t>(i));
    }
  }
  return evaluate::make_probe(images, set.labels(), ids, std::move(index));
}

/// Two classes told apart by a curve of the mean pixel v of images around 1/2: class 1 where curve(v - 1/2) > 0. The
/// gradient always leads to larger v, right or wrong.
attack::Classifier curved(std::string name, float (*curve)(float)) {
  auto logits = [curve](pv::Var<float> x) {
    return pv::custom(
        "curve", x, pv::Shape{2},
        [curve](auto in, auto out) {
          const std::size_t lanes = out.size() / 2;
          for (std::size_t lane = 0; lane < lanes; ++lane) {
            float sum = 0;
            for (std::size_t i = lane; i < in.size(); i += lanes) {
              sum += in[i];
            }
            out[lane] = 0;
            out[lanes + lane] = 10 * curve(sum / static_cast<float>(in.size() / lanes) - 0.5f);
          }
        },
        [](auto in, auto out, auto dy, auto dx) {
          const std::size_t lanes = out.size() / 2;
          for (std::size_t i = 0; i < in.size(); ++i) {
            dx[i] += dy[lanes + i % lanes];
          }
        });
  };
  return {std::move(name), pv::Shape{1, 2, 2}, 2, std::move(logits), {}};
}

/// Images around 1/2 of label 0.
evaluate::Probe grey() {
  evaluate::Probe probe;
  probe.images = pv::Tensor<float>(pv::Shape{kImages, 1, 2, 2}, 0.5f);
  for (std::int64_t i = 0; i < kImages; ++i) {
    probe.images.row(i)[0] += static_cast<float>(i) * 1e-5f;
    probe.labels.push_back(0);
    probe.ids.push_back(static_cast<std::uint32_t>(i));
    probe.index.push_back(i);
  }
  return probe;
}

evaluate::SignContext context(const attack::Classifier& model, const evaluate::Probe& probe) {
  return {.model = model, .probe = probe, .threat = threat(), .loss = cross_entropy_loss, .steps = 20};
}

std::vector<Sign> order_signs(const attack::Classifier& model, const evaluate::Probe& probe,
                              const attack::Attack& strong) {
  std::vector<evaluate::CurvePoint> curve;
  auto signs = evaluate::order_signs(context(model, probe), strong, {}, curve);
  CHECK(curve.size() == 6);
  for (std::size_t i = 1; i < curve.size(); ++i) {
    CHECK(curve[i].epsilon > curve[i - 1].epsilon);
  }
  CHECK(curve[0].epsilon == 0.0);
  CHECK(curve[3].epsilon == threat().epsilon);
  return signs;
}

attack::Apgd strong_attack() { return attack::apgd_ce(threat(), {.steps = 30}); }

}  // namespace

TEST_CASE("signs: a share passes, fails where its interval lies above the threshold, and is unclear in between") {
  CHECK(evaluate::share_sign("s", 2, 100, 0.02, 0.95, "").state == SignState::passed);
  CHECK(evaluate::share_sign("s", 3, 100, 0.02, 0.95, "").state == SignState::unclear);
  CHECK(evaluate::share_sign("s", 20, 100, 0.02, 0.95, "").state == SignState::failed);
  CHECK(evaluate::share_sign("s", 0, 0, 0.02, 0.95, "").state == SignState::unclear);
  CHECK(evaluate::no_sign("s", "why").state == SignState::not_applicable);
}

TEST_CASE("signs: zero gradients") {
  const attack::Classifier good = plain_model();
  const auto hidden = behind("hidden", plain_model(), [](auto x) { return false_gradient(x, 0); });
  const auto tiny = behind("tiny", plain_model(), [](auto x) { return false_gradient(x, 1e-35f); });
  const auto probe = probe_of(good);
  REQUIRE(probe.size() == kImages);
  const auto of = [&](const attack::Classifier& c) {
    return evaluate::zero_gradients(c, probe, threat(), cross_entropy_loss, 0, 0.95);
  };
  CHECK(of(good).state == SignState::passed);
  CHECK(of(hidden).state == SignState::failed);
  CHECK(of(hidden).value == 1.0);
  CHECK(of(tiny).state == SignState::failed);  // underflow counts
}

TEST_CASE("signs: finite differences") {
  const attack::Classifier good = plain_model();
  const auto probe = probe_of(good);
  const auto of = [&](const attack::Classifier& c) {
    return evaluate::finite_differences(c, probe, threat(), 0, 0.95);
  };
  for (const auto& s : of(good)) {
    CHECK_MESSAGE(s.state == SignState::passed, s.name, ": ", s.sentence);
  }
  for (const auto& s : of(behind("turned", plain_model(), [](auto x) { return false_gradient(x, -1); }))) {
    CHECK_MESSAGE(s.state == SignState::failed, s.name, ": ", s.sentence);
  }
  // The right direction at the wrong length.
  const auto small = of(behind("small", plain_model(), [](auto x) { return false_gradient(x, 0.1f); }));
  CHECK(small[0].state == SignState::passed);
  CHECK(small[1].state == SignState::failed);
}

TEST_CASE("signs: variance of the gradient") {
  const auto probe = probe_of(plain_model());
  const auto of = [&](std::function<pv::Var<float>(pv::Var<float>)> filter) {
    const auto noisy = behind("noisy", plain_model(), std::move(filter), {}, declared_random());
    return evaluate::gradient_variance(noisy.with_draws(4), probe, cross_entropy_loss, 0);
  };
  CHECK(of([](auto x) { return add_noise(x, 0.02); }).state == SignState::passed);
  // A derivative of random sign: all of it is noise.
  const auto lost = of([](auto x) {
    const auto key = x.tape().key();
    return pv::pointwise(
        "lost", x, [](auto in, auto out) { std::copy(in.begin(), in.end(), out.begin()); },
        [key](auto, auto, auto dy, auto dx) {
          const std::size_t lanes = dx.size() / 784;
          for (std::size_t i = 0; i < dx.size(); ++i) {
            const auto word = pv::random_block({.seed = key.seed, .image = key.images[i % lanes]},
                                               static_cast<std::uint32_t>(i / lanes))[0];
            dx[i] += (word & 1) != 0 ? dy[i] : -dy[i];
          }
        });
  });
  CHECK(lost.state == SignState::failed);
  CHECK(std::abs(lost.value) < 0.2);
}

TEST_CASE("signs: the order of attacks") {
  const attack::Classifier good = plain_model();
  const auto probe = probe_of(good);
  for (const auto& s : order_signs(good, probe, strong_attack())) {
    CHECK_MESSAGE(s.state == SignState::passed, s.name, ": ", s.sentence);
  }
  // The gradient is right on pixels that are multiples of 1/255, as FGSM sees them, and wrong elsewhere.
  const auto trap = behind("trap", plain_model(), [](auto x) {
    return pv::pointwise(
        "trap", x, [](auto in, auto out) { std::copy(in.begin(), in.end(), out.begin()); },
        [](auto in, auto, auto dy, auto dx) {
          for (std::size_t i = 0; i < dx.size(); ++i) {
            const float level = in[i] * 255.0f;
            dx[i] += std::abs(level - std::round(level)) < 1e-3f ? dy[i] : -dy[i];
          }
        });
  });
  CHECK(sign(order_signs(trap, probe, strong_attack()), "FGSM against PGD").state == SignState::failed);
  const attack::Pgd weak(threat().with_epsilon(0.001), {.steps = 1});
  CHECK(sign(order_signs(good, probe, weak), "PGD against APGD").state == SignState::failed);
}

TEST_CASE("signs: success and loss over epsilon") {
  const auto probe = grey();
  const auto line = curved("line", [](float v) { return v - 0.05f; });
  for (const auto& s : order_signs(line, probe, strong_attack())) {
    CHECK_MESSAGE(s.state == SignState::passed, s.name, ": ", s.sentence);
  }
  // Adversarial from 0.05 to 0.12 alone: larger balls are walked through.
  const auto bump = curved("bump", [](float v) { return v < 0.11f ? v - 0.05f : -1.0f; });
  const auto signs = order_signs(bump, probe, strong_attack());
  CHECK(sign(signs, "success over epsilon").state == SignState::failed);
  CHECK(sign(signs, "loss over epsilon").state == SignState::failed);
}

TEST_CASE("signs: the curve over epsilon counts all that was found") {
  const auto probe = grey();
  const auto line = curved("line", [](float v) { return v - 0.12f; });  // falls to PGD between 0.1 and 0.15
  std::vector<float> found(kImages, std::numeric_limits<float>::infinity());
  found[0] = 0.04f;
  found[1] = 0.1f;
  std::vector<evaluate::CurvePoint> curve;
  evaluate::order_signs(context(line, probe), strong_attack(), found, curve);
  REQUIRE(curve.size() == 6);
  const std::vector<std::int64_t> expected = {kImages, kImages, kImages - 1, kImages - 2, 0, 0};
  for (std::size_t i = 0; i < curve.size(); ++i) {
    CHECK(curve[i].correct == expected[i]);
    CHECK(curve[i].total == kImages);
  }
}

TEST_CASE("signs: an unbounded epsilon") {
  const auto probe = grey();
  const auto line = curved("line", [](float v) { return v - 0.3f; });
  const auto wall = curved("wall", [](float v) { return v > 0.01f && v < 0.02f ? 1.0f : -1.0f; });
  CHECK(evaluate::unbounded_sign(context(line, probe)).state == SignState::passed);
  CHECK(evaluate::unbounded_sign(context(wall, probe)).state == SignState::failed);
  const auto l2 = attack::l2(0.5);
  CHECK(evaluate::detail::whole_box(l2, 4) == doctest::Approx(2.0));
  CHECK(evaluate::detail::whole_box(attack::l1(0.5, -1, 1), 4) == doctest::Approx(8.0));
}

TEST_CASE("signs: ten times the steps") {
  const attack::Classifier good = plain_model();
  const auto probe = probe_of(good);
  // As if nothing but a single step had been tried: many fall to the longer attack.
  const std::vector<std::uint8_t> all(static_cast<std::size_t>(probe.size()), 1);
  const auto fired = evaluate::steps_sign(context(good, probe), all, strong_attack());
  CHECK(fired.state == SignState::failed);
  CHECK(fired.value > 0.5);
  const auto result = attack::run(strong_attack(), good, probe.images, probe.labels, {}, probe.ids.data());
  std::vector<std::uint8_t> standing;
  for (const auto success : result.success) {
    standing.push_back(success == 0 ? 1 : 0);
  }
  CHECK(evaluate::steps_sign(context(good, probe), standing, strong_attack()).state == SignState::passed);
}

TEST_CASE("signs: attacks without gradients and transferred ones ahead of those with gradients") {
  auto options = few_steps();
  options.suite = "quick";
  options.signs.images = 30;
  options.signs.steps = 5;
  options.surrogates.push_back(plain_model());
  const auto set = digits().test.first(60);
  const auto hidden = behind("hidden", plain_model(), [](auto x) { return false_gradient(x, 0); });
  const auto masked = evaluate::robustness(hidden, set, threat(), options);
  CHECK(sign(masked.signs, "gradient-free attacks").state == SignState::failed);
  // Twenty queries of Square leave the surrogate's images something to break; on all images they break more.
  CHECK(sign(masked.signs, "transferred attacks").state == SignState::failed);
  options.all_images = true;
  const auto whole = evaluate::robustness(hidden, set, threat(), options);
  CHECK(sign(whole.signs, "transferred attacks").value > sign(masked.signs, "transferred attacks").value);
  CHECK(whole.robust_correct == masked.robust_correct);
  CHECK(whole.attacks.back().name == "transfer(small-cnn)");
  CHECK(whole.attacks.back().access == attack::Access::transfer);

  options.surrogates = {robust_model()};
  const auto open = evaluate::robustness(plain_model(), set, threat(), options);
  CHECK(sign(open.signs, "gradient-free attacks").state == SignState::passed);
  CHECK(sign(open.signs, "transferred attacks").state == SignState::passed);
}

TEST_CASE("checks: the pixel box and epsilon 0") {
  const auto images = attack::to_tensor(digits().test.first(20));
  CHECK(evaluate::check_pixel_box(images, threat()).passed);
  auto units = images;  // a box of bytes, pixels in [0,1]
  CHECK_FALSE(evaluate::check_pixel_box(units, attack::linf(25, 0, 255)).passed);
  units.row(3)[7] = 1.5f;
  CHECK_FALSE(evaluate::check_pixel_box(units, threat()).passed);

  const attack::Classifier model = plain_model();
  const auto labels = digits().test.first(20).labels();
  auto zero = attack::run(attack::fgsm(threat().with_epsilon(0)), model, images, labels);
  CHECK(evaluate::check_epsilon_zero(model, images, zero).passed);
  zero.robust_correct -= 1;
  CHECK_FALSE(evaluate::check_epsilon_zero(model, images, zero).passed);
  zero.robust_correct += 1;
  zero.adversarial.row(2)[1] += 0.5f;
  CHECK_FALSE(evaluate::check_epsilon_zero(model, images, zero).passed);
}

TEST_CASE("checks: evaluation mode and independence of the batch") {
  const attack::Classifier model = plain_model();
  const auto probe = probe_of(model);
  CHECK(evaluate::check_evaluation_mode(model, probe).passed);
  CHECK(evaluate::check_batch_independence(model, probe, 0).passed);
  const auto noise = [](auto x) { return add_noise(x, 0.01); };
  const auto secret = behind("secret", plain_model(), noise);
  CHECK_FALSE(evaluate::check_evaluation_mode(secret, probe).passed);
  const auto declared = behind("declared", plain_model(), noise, {}, declared_random());
  CHECK(evaluate::check_evaluation_mode(declared, probe).passed);
  CHECK(evaluate::check_batch_independence(declared, probe, 0).passed);
  // Statistics of the batch, as batch normalisation takes them in training mode.
  const auto centred = behind("centred", plain_model(), {}, [](auto z) {
    return pv::pointwise(
        "centre", z,
        [](auto in, auto out) {
          float sum = 0;
          for (const float v : in) {
            sum += v;
          }
          for (std::size_t i = 0; i < in.size(); ++i) {
            out[i] = in[i] - sum / static_cast<float>(in.size());
          }
        },
        [](auto, auto, auto dy, auto dx) {
          for (std::size_t i = 0; i < dx.size(); ++i) {
            dx[i] += dy[i];
          }
        });
  });
  CHECK_FALSE(evaluate::check_batch_independence(centred, probe, 0).passed);
}

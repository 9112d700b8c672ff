// SPDX-License-Identifier: MIT
// The loop that moves images through lanes: a search whose images take very different numbers of steps.
#include "pavise/attack/search.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "pavise/attack/run.hpp"
#include "pavise/nn/models.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;

namespace {

/// Walks along the sign of the gradient by epsilon / 16 and ends an image at its first success, or after as many steps
/// as its name says.
class Walk : public attack::SearchAttack {
 public:
  using SearchAttack::SearchAttack;
  std::string name() const override { return "walk"; }
  std::unique_ptr<attack::Search> search(attack::Lanes& lanes) const override {
    struct State : attack::Search {
      explicit State(const attack::Lanes& l) : x(l.array()), gradient(l.array()) {}
      void start(attack::Lanes& l, int lane) override { l.copy_lane(l.clean(), lane, x.data()); }
      void step(attack::Lanes& l) override {
        const auto& answer = l.differentiate(
            x.data(), [](pv::Var<float> z, const std::int32_t* y) { return pv::cross_entropy(z, y); }, gradient.data());
        for (int lane = 0; lane < l.width(); ++lane) {
          if (!l.active(lane)) {
            continue;
          }
          l.keep(lane, x.data());
          if (l.fooled(answer, lane) || l.step(lane) >= static_cast<std::int64_t>(l.id(lane) % 23 + l.restart(lane))) {
            l.finish(lane);
          }
        }
        attack::step(l.threat(), x.data(), gradient.data(), l.clean(), l.size(), l.width(), l.threat().epsilon / 16);
      }
      pv::AlignedVector<float> x, gradient;
    };
    return std::make_unique<State>(lanes);
  }
};

pv::Tensor<float> some_images(std::int64_t n) {
  pv::Tensor<float> images(pv::Shape{n, 1, 28, 28});
  pv::RandomSequence random({.purpose = pv::Purpose::test});
  for (float& v : images) {
    v = static_cast<float>(random.uniform());
  }
  return images;
}

}  // namespace

TEST_CASE("search: an image's result depends on nothing but the image, its label and its key") {
  const auto model = pv::nn::small_cnn({.seed = 3});
  const auto images = some_images(75);
  std::vector<std::int32_t> labels(75, 0);
  const Walk walk(attack::linf(0.02));
  // Labels that the model gives, so that every image has something to lose.
  labels = attack::run(walk, model, images, labels).clean_prediction;
  std::vector<std::uint32_t> ids;
  for (std::uint32_t i = 0; i < 75; ++i) {
    ids.push_back(i * 7);
  }
  const attack::RunOptions options{.restarts = 3};
  const auto reference = attack::run(walk, model, images, labels, options, ids.data());
  CHECK(reference.clean_correct == 75);
  CHECK(reference.robust_correct > 0);
  CHECK(reference.robust_correct < 75);
  const int threads = pv::thread_count();
  for (const int count : {1, 3}) {
    pv::set_thread_count(count);
    for (const std::int64_t part : {75, 1, 5, 40}) {
      pv::Tensor<float> some(pv::Shape{part, 1, 28, 28});
      std::vector<std::int32_t> some_labels;
      std::vector<std::uint32_t> some_ids;
      for (std::int64_t i = 0; i < part; ++i) {  // backwards
        const std::int64_t from = part - 1 - i;
        std::copy(images.row(from).begin(), images.row(from).end(), some.row(i).begin());
        some_labels.push_back(labels[static_cast<std::size_t>(from)]);
        some_ids.push_back(ids[static_cast<std::size_t>(from)]);
      }
      const auto result = attack::run(walk, model, some, some_labels, options, some_ids.data());
      bool same = true;
      for (std::int64_t i = 0; i < part; ++i) {
        const std::int64_t from = part - 1 - i;
        const auto a = static_cast<std::size_t>(i);
        const auto b = static_cast<std::size_t>(from);
        same = same && std::equal(result.adversarial.row(i).begin(), result.adversarial.row(i).end(),
                                  reference.adversarial.row(from).begin());
        same = same && result.success[a] == reference.success[b] && result.attempt[a] == reference.attempt[b];
        same = same && result.forward[a] == reference.forward[b] && result.backward[a] == reference.backward[b];
      }
      CHECK_MESSAGE(same, count, " threads, ", part, " images");
    }
  }
  pv::set_thread_count(threads);
}

TEST_CASE("search: as part of training it perturbs a batch as a run does") {
  const auto model = pv::nn::small_cnn({.seed = 3});
  const auto images = some_images(19);
  const std::vector<std::int32_t> labels(19, 4);
  const Walk walk(attack::linf(0.02));
  const attack::Work work{images, labels, nullptr, {}, 0, {}};
  std::vector<attack::Attempt> attempts(19);
  for (std::size_t i = 0; i < 19; ++i) {
    attempts[i].image = static_cast<std::int64_t>(i);
  }
  const auto batch = work.pack(attempts, 16);
  pv::AlignedVector<float> out(static_cast<std::size_t>(batch.groups() * batch.size() * 16) + 16);
  attack::Passes passes;
  walk.perturb(model, batch, out.data(), {}, passes);
  std::vector<std::int32_t> rankings(19 * 10, 0);
  const attack::Work ranked{images, labels, nullptr, rankings, 0, {}};
  walk.attempt(model, ranked, attempts);
  std::int64_t forward = 19;
  for (std::size_t i = 0; i < 19; ++i) {
    forward += attempts[i].forward;
    bool same = true;
    for (std::int64_t e = 0; e < batch.size(); ++e) {
      const auto g = static_cast<std::int64_t>(i) / 16;
      const auto lane = static_cast<std::int64_t>(i) % 16;
      same = same && out[static_cast<std::size_t>((g * batch.size() + e) * 16 + lane)] ==
                         attempts[i].adversarial[static_cast<std::size_t>(e)];
    }
    CHECK(same);
  }
  CHECK(passes.forward == forward);
}

// SPDX-License-Identifier: MIT
#include "pavise/optim/optimizer.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pavise/core/philox.hpp"
#include "pavise/nn/init.hpp"
#include "pavise/optim/average.hpp"

using namespace pavise;

namespace {

/// Two parameters, (4) and (n), and a buffer of 3; the last two drawn from a seed.
template <class T>
std::unique_ptr<ParameterStore<T>> store_of(std::int64_t n) {
  auto store = std::make_unique<ParameterStore<T>>();
  store->add("a", Shape{4}, {});
  store->add("b", Shape{n}, nn::normal_init<T>(1.0));
  store->add("buffer", Shape{3}, nn::uniform_init<T>(1.0), false);
  store->allocate(7);
  const std::array<double, 4> start{0.5, -1.25, 2.0, 0.0};
  for (std::size_t i = 0; i < 4; ++i) {
    (*store)["a"].edit()[i] = static_cast<T>(start[i]);
  }
  return store;
}

/// The gradient that PyTorch was given: sin(t + i) + w/2.
template <class T>
void set_gradient(ParameterStore<T>& store, int t) {
  for (auto& p : store.parameters()) {
    for (std::int64_t i = 0; p.trainable() && i < p.size(); ++i) {
      p.gradient_data()[i] = static_cast<T>(std::sin(t + static_cast<double>(i)) +
                                            0.5 * static_cast<double>(p.value()[static_cast<std::size_t>(i)]));
    }
  }
}

template <class T>
void check_against_torch(optim::Optimizer<T>& optimizer, ParameterStore<T>& store,
                         const std::array<double, 4>& expected, double tolerance) {
  for (int t = 0; t < 5; ++t) {
    set_gradient(store, t);
    optimizer.step(0.1);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    CAPTURE(i);
    CHECK(std::abs(static_cast<double>(store["a"].value()[i]) - expected[i]) < tolerance);
  }
}

// Five steps at rate 0.1 from (0.5, -1.25, 2, 0), in double, by torch.optim 2.13.
struct Recorded {
  const char* name;
  optim::OptimizerOptions options;
  std::array<double, 4> weights;
};
const Recorded kRecorded[] = {
    {"sgd", {.momentum = 0.0}, {0.2949546061841206, -0.9586728138462717, 1.6487405356975546, 0.10078076933034959}},
    {"sgd",
     {.momentum = 0.9, .weight_decay = 0.01},
     {-0.22783699408966127, -0.8555224466723219, 0.8704263929676649, 0.40791245264573345}},
    {"sgd",
     {.momentum = 0.9, .nesterov = true, .weight_decay = 0.01},
     {-0.26909824024272233, -0.5980038772808323, 0.7981246267676001, 0.41937638535730476}},
    {"adam", {}, {0.0908729634118815, -1.2977004193748696, 1.603050600969303, 0.14647395961461235}},
    {"adam",
     {.weight_decay = 0.01, .beta1 = 0.8, .beta2 = 0.95},
     {0.09716425748141949, -1.2669589061086834, 1.617258393190279, 0.14736815936591335}},
    {"adamw",
     {.weight_decay = 0.05},
     {0.08345945712494324, -1.2649444346544667, 1.5598557791560894, 0.14632922984056518}},
};

/// The textbook's loops, one weight at a time, in double.
struct ScalarReference {
  std::string name;
  optim::OptimizerOptions o;
  std::vector<double> first, second;
  int t = 0;

  void step(std::vector<double>& w, const std::vector<double>& gradient, double rate, double scale) {
    first.resize(w.size());
    second.resize(w.size());
    ++t;
    for (std::size_t i = 0; i < w.size(); ++i) {
      double g = gradient[i] * scale;
      if (name == "adamw") {
        w[i] -= rate * o.weight_decay * w[i];
      } else {
        g += o.weight_decay * w[i];
      }
      if (name == "sgd") {
        first[i] = o.momentum * first[i] + g;
        w[i] -= rate * (o.momentum == 0 ? g : o.nesterov ? g + o.momentum * first[i] : first[i]);
        continue;
      }
      first[i] = o.beta1 * first[i] + (1 - o.beta1) * g;
      second[i] = o.beta2 * second[i] + (1 - o.beta2) * g * g;
      w[i] -= rate * (first[i] / (1 - std::pow(o.beta1, t))) /
              (std::sqrt(second[i] / (1 - std::pow(o.beta2, t))) + o.epsilon);
    }
  }
};

template <class T>
bool same(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

struct RestoreIsa {
  kernels::Isa isa = kernels::isa();
  int threads = thread_count();
  ~RestoreIsa() {
    kernels::set_isa(isa);
    set_thread_count(threads);
  }
};

}  // namespace

TEST_CASE("optimizers give PyTorch's numbers") {
  for (const auto& r : kRecorded) {
    CAPTURE(std::string(r.name));
    auto wide = store_of<double>(3);
    check_against_torch(*optim::make_optimizer<double>(r.name, *wide, r.options), *wide, r.weights, 1e-13);
    auto narrow = store_of<float>(3);
    check_against_torch(*optim::make_optimizer<float>(r.name, *narrow, r.options), *narrow, r.weights, 2e-6);
  }
}

TEST_CASE("optimizers agree with loops over single weights, over several chunks") {
  for (const auto& r : kRecorded) {
    CAPTURE(std::string(r.name));
    auto store = store_of<double>(40001);
    auto& p = (*store)["b"];
    std::vector<double> w(p.value().begin(), p.value().end());
    const auto before = w;
    ScalarReference reference{r.name, r.options, {}, {}};
    const auto optimizer = optim::make_optimizer<double>(r.name, *store, r.options);
    for (int t = 0; t < 3; ++t) {
      set_gradient(*store, t);
      reference.step(w, {p.gradient().begin(), p.gradient().end()}, 0.05, 0.25);
      optimizer->step(0.05, 0.25);
    }
    double worst = 0;
    double moved = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      worst = std::max(worst, std::abs(w[i] - p.value()[i]));
      moved = std::max(moved, std::abs(w[i] - before[i]));
    }
    CHECK(worst < 1e-12);
    CHECK(moved > 0.01);
  }
}

TEST_CASE(
    "an update has the same bits with any instruction set and number of threads, and leaves padding and buffers "
    "alone") {
  const RestoreIsa restore;
  for (const auto& r : kRecorded) {
    CAPTURE(std::string(r.name));
    std::vector<float> expected;
    for (const auto isa : {kernels::Isa::portable, kernels::Isa::avx2, kernels::Isa::avx512}) {
      kernels::set_isa(isa);
      for (const int threads : {1, 3}) {
        set_thread_count(threads);
        auto store = store_of<float>(40001);
        const std::vector<float> buffer((*store)["buffer"].value().begin(), (*store)["buffer"].value().end());
        const auto optimizer = optim::make_optimizer<float>(r.name, *store, r.options);
        optim::WeightAverage<float> average(*store, 0.9);
        for (int t = 0; t < 3; ++t) {
          set_gradient(*store, t);
          optim::clip_gradient_norm(*store, 5.0);
          optimizer->step(0.05);
          average.update();
        }
        std::vector<float> got(store->state().begin(), store->state().end());
        got.insert(got.end(), average.values().begin(), average.values().end());
        CHECK((expected.empty() || same<float>(expected, got)));
        expected = got;
        CHECK(same<float>(buffer, (*store)["buffer"].value()));
        for (std::size_t i = 4; i < 16; ++i) {
          CHECK(store->values()[i] == 0.0F);
        }
      }
    }
  }
}

TEST_CASE("an optimizer goes on from its saved state with the same bits") {
  for (const auto& r : kRecorded) {
    CAPTURE(std::string(r.name));
    auto whole = store_of<float>(100);
    const auto unbroken = optim::make_optimizer<float>(r.name, *whole, r.options);
    auto broken = store_of<float>(100);
    const auto first = optim::make_optimizer<float>(r.name, *broken, r.options);
    for (int t = 0; t < 3; ++t) {
      for (auto* s : {whole.get(), broken.get()}) {
        set_gradient(*s, t);
      }
      unbroken->step(0.1);
      first->step(0.1);
    }
    const auto second = optim::make_optimizer<float>(r.name, *broken, r.options);
    const auto from = first->state();
    const auto to = second->state();
    REQUIRE(from.size() == to.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      CHECK(from[i].name == to[i].name);
      REQUIRE(from[i].values.size() == to[i].values.size());
      std::copy(from[i].values.begin(), from[i].values.end(), to[i].values.begin());
    }
    second->set_steps(first->steps());
    for (int t = 3; t < 6; ++t) {
      for (auto* s : {whole.get(), broken.get()}) {
        set_gradient(*s, t);
      }
      unbroken->step(0.1);
      second->step(0.1);
    }
    CHECK(same<float>(whole->values(), broken->values()));
  }
}

TEST_CASE("optimizers refuse what makes no sense") {
  auto store = store_of<float>(3);
  CHECK_THROWS_WITH_AS(optim::make_optimizer<float>("lion", *store),
                       "optimizer: there is no 'lion', expected one of sgd, adam, adamw", ValueError);
  CHECK_THROWS_AS(optim::Sgd<float>(*store, {.momentum = 1.0}), ValueError);
  CHECK_THROWS_AS(optim::Sgd<float>(*store, {.nesterov = true}), ValueError);
  CHECK_THROWS_AS(optim::Adam<float>(*store, {.beta2 = 1.0}), ValueError);
  CHECK_THROWS_AS(optim::Adam<float>(*store, {.epsilon = 0.0}), ValueError);
  CHECK_THROWS_AS(optim::AdamW<float>(*store, {.weight_decay = -1.0}), ValueError);
  optim::Sgd<float> sgd(*store);
  CHECK_THROWS_AS(sgd.step(-0.1), ValueError);
  CHECK_THROWS_AS(sgd.step(std::numeric_limits<double>::quiet_NaN()), ValueError);
  CHECK(sgd.steps() == 0);
  CHECK(optim::AdamW<float>(*store).name() == "adamw");
}

TEST_CASE("gradients are clipped by their norm, as PyTorch does, and by value") {
  auto store = store_of<double>(3);
  const std::array<double, 4> gradient{3.0, -4.0, 12.0, 0.0};
  std::copy(gradient.begin(), gradient.end(), (*store)["a"].gradient_data());
  CHECK(optim::gradient_norm(*store) == 13.0);
  CHECK(optim::clip_gradient_norm(*store, 20.0) == 13.0);
  CHECK((*store)["a"].gradient()[1] == -4.0);
  CHECK(optim::clip_gradient_norm(*store, 2.0) == 13.0);
  const std::array<double, 4> clipped{0.46153842603550577, -0.615384568047341, 1.846153704142023, 0.0};  // torch's
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(std::abs((*store)["a"].gradient()[i] - clipped[i]) < 1e-15);
  }
  optim::clip_gradient_values(*store, 0.5);
  CHECK((*store)["a"].gradient()[0] == doctest::Approx(clipped[0]));
  CHECK((*store)["a"].gradient()[1] == -0.5);
  CHECK((*store)["a"].gradient()[2] == 0.5);
  (*store)["a"].gradient_data()[3] = std::numeric_limits<double>::quiet_NaN();
  optim::clip_gradient_values(*store, 0.5);
  CHECK(std::isnan((*store)["a"].gradient()[3]));
  CHECK_THROWS_AS(optim::clip_gradient_norm(*store, 0.0), ValueError);
  CHECK_THROWS_AS(optim::clip_gradient_values(*store, -1.0), ValueError);
}

TEST_CASE("the weight average follows weights and buffers, and is put in place for a while") {
  auto store = store_of<double>(3);
  optim::WeightAverage<double> average(*store, 0.75);
  const double start = (*store)["a"].value()[0];
  const double buffer = (*store)["buffer"].value()[2];
  (*store)["a"].edit()[0] = 2.0;
  (*store)["buffer"].edit()[2] = 10.0;
  average.update();
  average.update();
  const double a = start + (2.0 - start) * (1 - 0.75 * 0.75);
  const double b = buffer + (10.0 - buffer) * (1 - 0.75 * 0.75);
  {
    const optim::AverageScope<double> scope(average);
    CHECK((*store)["a"].value()[0] == doctest::Approx(a));
    CHECK((*store)["buffer"].value()[2] == doctest::Approx(b));
  }
  CHECK((*store)["a"].value()[0] == 2.0);
  CHECK((*store)["buffer"].value()[2] == 10.0);
  CHECK_THROWS_AS(optim::WeightAverage<double>(*store, 1.0), ValueError);
}

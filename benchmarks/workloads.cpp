// SPDX-License-Identifier: MIT
// Whole workloads, as benchmarks/compare.py runs them in alternation with the same ones in PyTorch (benchmarks/peers/).
//
//   workloads list                     the workloads
//   workloads NAME [SECONDS]           runs one and prints a line of JSON
//   workloads --serve                  reads "NAME SECONDS" from standard input, answers each with a line of JSON;
//                                      "list", "quit"
//
// FLOPs are those of the direct algorithm without the taps that fall on padding, multiplications and additions counted
// apart, so that a share of the peak says how busy the arithmetic units are (and may exceed 1 where Winograd saves
// work).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "pavise/attack/pgd.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/core/random.hpp"
#include "pavise/nn/models.hpp"
#include "pavise/optim/optimizer.hpp"
#include "peak.hpp"

namespace {

using namespace pavise;
using benchmarks::now;

constexpr double kEpsilon = 0.1;

/// FLOPs of one image through a network: forward, its derivative with respect to the input, and to the weights.
struct Flops {
  double forward = 0, input = 0, weights = 0;
};

double plan_flops(const kernels::GatherPlan& plan) {
  double flops = 0;
  for (const auto& run : plan.runs) {
    flops += 2.0 * run.count * static_cast<double>(plan.classes[static_cast<std::size_t>(run.tap_class)].offset.size());
  }
  return flops * static_cast<double>(plan.rows * plan.channel_groups);
}

Flops small_cnn_flops() {
  Flops f;
  for (const kernels::ConvGeometry& g : {kernels::ConvGeometry{1, 28, 28, 16, 4, 4, 2, 1, 1, 1, 14, 14},
                                         kernels::ConvGeometry{16, 14, 14, 32, 4, 4, 2, 1, 1, 1, 7, 7}}) {
    const double flops = plan_flops(kernels::forward_plan(g));
    f.forward += flops;
    f.input += flops;
    f.weights += flops;
  }
  const double connected = 2.0 * (1568 * 100 + 100 * 10);
  f.forward += connected;
  f.input += connected;
  f.weights += connected;
  return f;
}

/// resnet18 for 32x32 images: stem, three-by-three convolutions, strides and shortcuts.
Flops resnet18_flops() {
  double flops = plan_flops(kernels::forward_plan({3, 32, 32, 64, 3, 3, 1, 1, 1, 1, 32, 32}));
  std::int64_t channels = 64;
  std::int64_t side = 32;
  for (const std::int64_t width : {64, 128, 256, 512}) {
    for (int block = 0; block < 2; ++block) {
      const std::int64_t stride = width != channels ? 2 : 1;
      const std::int64_t out = side / stride;
      flops += plan_flops(kernels::forward_plan({channels, side, side, width, 3, 3, stride, 1, 1, 1, out, out}));
      flops += plan_flops(kernels::forward_plan({width, out, out, width, 3, 3, 1, 1, 1, 1, out, out}));
      if (stride != 1) {
        flops += plan_flops(kernels::forward_plan({channels, side, side, width, 1, 1, stride, 0, 1, 1, out, out}));
      }
      channels = width;
      side = out;
    }
  }
  flops += 2.0 * 512 * 10;
  return {flops, flops, flops};
}

LaneBatch<float> random_batch(Shape shape, std::int64_t images, int lanes) {
  LaneBatch<float> batch(shape, images, lanes);
  RandomSequence random({.seed = 1, .purpose = Purpose::test});
  for (std::int64_t i = 0; i < images; ++i) {
    batch.labels()[i] = static_cast<std::int32_t>(random.below(10));
    batch.ids()[i] = static_cast<std::uint32_t>(i);
  }
  batch.repeat_last();
  std::vector<float> pixels(static_cast<std::size_t>(images * batch.size()));
  for (auto& p : pixels) {
    p = static_cast<float>(random.uniform());
  }
  batch.pack([&](std::int64_t i, float* out) { std::copy_n(pixels.begin() + i * batch.size(), batch.size(), out); });
  return batch;
}

/// Logits of every group, depth first.
void forward(const nn::Model& model, LaneBatch<float>& batch) {
  parallel_for(batch.groups(), [&](std::int64_t g) {
    auto& tape = thread_tape<float>();
    tape.begin(batch.valid(g), batch.lanes());
    (void)model(tape.view(batch.shape(), batch.values(g)));
  });
}

/// One training step on `values` (laid out as the batch): breadth first, mean cross-entropy, Adam.
struct Training {
  nn::Model model = nn::small_cnn({.seed = 0});
  optim::Adam<float> optimizer{model.parameters()};
  Tape<float> tape;
  std::vector<float> seed;
  std::vector<float> initial{model.parameters().values().begin(), model.parameters().values().end()};

  /// The state of a fresh model and optimizer.
  void reset() {
    std::copy(initial.begin(), initial.end(), model.parameters().edit_values().begin());
    for (const auto& array : optimizer.state()) {
      std::fill(array.values.begin(), array.values.end(), 0.0f);
    }
    optimizer.set_steps(0);
  }

  void step(LaneBatch<float>& batch, float* values) {
    tape.begin(batch.images(), 16, Mode::training, true);
    seed.assign(static_cast<std::size_t>(batch.groups() * 16), 0.0f);
    std::fill_n(seed.begin(), batch.images(), 1.0f / static_cast<float>(batch.images()));
    model.parameters().zero_gradients();
    tape.backward(cross_entropy(model(tape.view(batch.shape(), values)), batch.labels()), seed.data());
    optimizer.step(1e-4);
  }
};

struct Workload {
  std::function<void()> iterate;
  double flops = 0.0;
  std::int64_t items = 0;
  /// Before each measurement: thousands of steps on one batch end in denormal gradients.
  std::function<void()> reset = {};
};

/// A gradient with respect to the input and nothing else.
struct InputGradient {
  nn::Model model = nn::small_cnn({.seed = 0});
  LaneBatch<float> batch = random_batch(Shape{1, 28, 28}, 128, 16);
  void operator()() {
    parallel_for(batch.groups(), [&](std::int64_t g) {
      auto& tape = thread_tape<float>();
      tape.begin(batch.valid(g));
      const auto x = tape.view(batch.shape(), batch.values(g), true);
      tape.backward(cross_entropy(model(x), batch.labels(g)));
    });
  }
};

Workload adversarial_training(const attack::Pgd& attack) {
  struct State {
    Training training;
    LaneBatch<float> batch = random_batch(Shape{1, 28, 28}, 128, 16);
    AlignedVector<float> adversarial = AlignedVector<float>(128 * 784 + 64);
    attack::Passes passes;
    std::uint32_t iteration = 0;
  };
  auto state = std::make_shared<State>();
  const Flops f = small_cnn_flops();
  const double first = plan_flops(kernels::forward_plan({1, 28, 28, 16, 4, 4, 2, 1, 1, 1, 14, 14}));
  const auto steps = static_cast<double>(attack.options().steps);
  return {[state, attack] {
            attack.perturb(state->training.model, state->batch, state->adversarial.data(),
                           {.seed = 0, .iteration = state->iteration++}, state->passes);
            state->training.step(state->batch, state->adversarial.data());
          },
          128 * (steps * (f.forward + f.input) + f.forward + f.input - first + f.weights), 128,
          [state] { state->training.reset(); }};
}

Workload make(const std::string& name) {
  const Flops small = small_cnn_flops();
  const double first = plan_flops(kernels::forward_plan({1, 28, 28, 16, 4, 4, 2, 1, 1, 1, 14, 14}));
  if (name == "small_cnn_forward_b128") {
    auto model = std::make_shared<nn::Model>(nn::small_cnn({.seed = 0}));
    auto batch = std::make_shared<LaneBatch<float>>(random_batch(Shape{1, 28, 28}, 128, 16));
    return {[=] { forward(*model, *batch); }, 128 * small.forward, 128};
  }
  if (name == "small_cnn_input_grad_b128") {
    auto gradient = std::make_shared<InputGradient>();
    return {[=] { (*gradient)(); }, 128 * (small.forward + small.input), 128};
  }
  if (name == "small_cnn_train_adam_b128") {
    auto training = std::make_shared<Training>();
    auto batch = std::make_shared<LaneBatch<float>>(random_batch(Shape{1, 28, 28}, 128, 16));
    return {[=] { training->step(*batch, batch->values()); },
            128 * (small.forward + small.input - first + small.weights), 128, [=] { training->reset(); }};
  }
  if (name == "small_cnn_fgsm_rs_train_b128") {
    return adversarial_training(attack::fgsm_rs(attack::linf(kEpsilon)));
  }
  if (name == "small_cnn_pgd7_train_b128") {
    return adversarial_training(attack::Pgd(attack::linf(kEpsilon), {.steps = 7}));
  }
  if (name == "small_cnn_pgd7_attack_b1") {
    auto model = std::make_shared<nn::Model>(nn::small_cnn({.seed = 0}));
    auto batch = std::make_shared<LaneBatch<float>>(random_batch(Shape{1, 28, 28}, 1, 1));
    auto out = std::make_shared<AlignedVector<float>>(1024);
    auto passes = std::make_shared<attack::Passes>();
    const attack::Pgd attack(attack::linf(kEpsilon), {.steps = 7});
    return {[=] { attack.perturb(*model, *batch, out->data(), {}, *passes); }, 7 * (small.forward + small.input), 1};
  }
  if (name == "randn") {
    constexpr std::int64_t kCount = 1 << 24;
    auto values = std::make_shared<AlignedVector<float>>(kCount);
    auto draw = std::make_shared<std::uint32_t>(0);
    return {[=] {
              random_normal(std::span<float>(*values), {.seed = 1, .purpose = Purpose::test, .iteration = (*draw)++});
            },
            0, kCount};
  }
  if (name == "resnet18_forward_b32") {
    auto model = std::make_shared<nn::Model>(nn::resnet18({.seed = 0, .input = Shape{3, 32, 32}}));
    auto batch = std::make_shared<LaneBatch<float>>(random_batch(Shape{3, 32, 32}, 32, 16));
    return {[=] { forward(*model, *batch); }, 32 * resnet18_flops().forward, 32};
  }
  if (name == "resnet18_pgd7_attack_b32") {
    auto model = std::make_shared<nn::Model>(nn::resnet18({.seed = 0, .input = Shape{3, 32, 32}}));
    auto batch = std::make_shared<LaneBatch<float>>(random_batch(Shape{3, 32, 32}, 32, 16));
    auto out = std::make_shared<AlignedVector<float>>(32 * 3072 + 64);
    auto passes = std::make_shared<attack::Passes>();
    const attack::Pgd attack(attack::linf(8.0 / 255.0), {.steps = 7});
    const Flops f = resnet18_flops();
    return {[=] { attack.perturb(*model, *batch, out->data(), {}, *passes); }, 32 * 7 * (f.forward + f.input), 32};
  }
  throw ValueError("unknown workload " + name);
}

const std::vector<std::string> kNames = {"small_cnn_forward_b128",
                                         "small_cnn_input_grad_b128",
                                         "small_cnn_train_adam_b128",
                                         "small_cnn_fgsm_rs_train_b128",
                                         "small_cnn_pgd7_train_b128",
                                         "small_cnn_pgd7_attack_b1",
                                         "randn",
                                         "resnet18_forward_b32",
                                         "resnet18_pgd7_attack_b32",
                                         "peak_memory_pgd7"};

/// Largest resident size, in bytes, of a process of its own that does the PGD-7 job.
double peak_memory(const std::string& program) {
  std::FILE* pipe = popen(("'" + program + "' --pgd7-job").c_str(), "r");
  require<Error>(pipe != nullptr, "peak_memory_pgd7: cannot start ", program);
  double kib = 0.0;
  const bool ok = std::fscanf(pipe, "%lf", &kib) == 1;
  pclose(pipe);
  require<Error>(ok, "peak_memory_pgd7: the job failed");
  return kib * 1024.0;
}

std::string run(const std::string& name, double seconds, const std::string& program,
                std::map<std::string, Workload>& made) {
  std::ostringstream out;
  out.precision(9);
  out << "{\"workload\":\"" << name << "\",\"samples\":[";
  if (name == "peak_memory_pgd7") {
    out << peak_memory(program) << "],\"flops_per_iteration\":null,\"peak_gflops\":null,\"items_per_iteration\":1}";
    return out.str();
  }
  if (!made.contains(name)) {
    made.emplace(name, make(name));
    made.at(name).iterate();
  }
  const Workload& workload = made.at(name);
  if (workload.reset) {
    workload.reset();
  }
  workload.iterate();
  const double end = now() + seconds;
  bool first = true;
  do {
    const double start = now();
    workload.iterate();
    out << (first ? "" : ",") << now() - start;
    first = false;
  } while (now() < end);
  const double peak = benchmarks::peak_gflops();
  out << "],\"flops_per_iteration\":";
  workload.flops > 0 ? out << workload.flops : out << "null";
  out << ",\"peak_gflops\":";
  peak > 0 ? out << peak : out << "null";
  out << ",\"items_per_iteration\":" << workload.items << ",\"isa\":\"" << kernels::isa_name(kernels::isa())
      << "\",\"threads\":" << thread_count() << "}";
  return out.str();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "--help";
  std::map<std::string, Workload> made;
  try {
    if (first == "--pgd7-job") {
      const Workload job = make("small_cnn_pgd7_train_b128");
      for (int i = 0; i < 50; ++i) {
        job.iterate();
      }
      // The high-water mark of this process alone: getrusage's may be that of the process which started it.
      std::ifstream status("/proc/self/status");
      for (std::string line; std::getline(status, line);) {
        if (line.starts_with("VmHWM:")) {
          std::printf("%ld\n", std::atol(line.c_str() + 6));
        }
      }
    } else if (first == "list") {
      std::printf("%s\n", join(kNames, "\n").c_str());
    } else if (first == "--serve") {
      for (std::string line; std::getline(std::cin, line) && line != "quit";) {
        std::istringstream words(line);
        std::string name;
        double seconds = 0.3;
        words >> name >> seconds;
        try {
          std::cout << (name == "list" ? join(kNames, " ") : run(name, seconds, argv[0], made)) << std::endl;
        } catch (const std::exception& e) {
          std::string text = e.what();
          std::replace(text.begin(), text.end(), '"', '\'');
          std::cout << "{\"workload\":\"" << name << "\",\"error\":\"" << text << "\"}" << std::endl;
        }
      }
    } else if (first == "--help") {
      std::printf("usage: workloads list | NAME [SECONDS] | --serve\n%s\n", join(kNames, "\n").c_str());
    } else {
      std::printf("%s\n", run(first, argc > 2 ? std::atof(argv[2]) : 1.0, argv[0], made).c_str());
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "workloads: %s\n", e.what());
    return 1;
  }
  return 0;
}

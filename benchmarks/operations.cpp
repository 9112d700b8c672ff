// SPDX-License-Identifier: MIT
// Times the operations of the table that the tests check (tests/autodiff/op_table.hpp): one group of sixteen images in
// one thread, forward and backward, in GFLOP/s of the direct algorithm and as a share of the machine's peak where an
// operation is made of arithmetic. Options are Google Benchmark's, such as --benchmark_filter=conv2d.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "autodiff/op_cases.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/random.hpp"
#include "peak.hpp"

namespace {

using namespace pavise;
using op_table::Case;

/// One case with its operands filled.
class Job {
 public:
  explicit Job(const Case& c) : case_(c) {
    for (std::size_t i = 0; i < c.parameters.size(); ++i) {
      const auto& operand = c.parameters[i];
      parameters_.push_back(&store_.add("p" + std::to_string(i), operand.shape, {}, !operand.buffer));
    }
    store_.allocate(0);
    for (std::size_t i = 0; i < c.parameters.size(); ++i) {
      fill(parameters_[i]->edit(), c.parameters[i]);
    }
    for (const auto& operand : c.inputs) {
      inputs_.emplace_back(static_cast<std::size_t>(operand.shape.numel() * 16) + 16);
      fill(inputs_.back(), operand);
    }
  }

  void run(bool backward) {
    tape_.begin(16, 16, case_.mode);
    op_table::Operands<float> o{.tape = tape_, .x = {}, .p = {}, .parameter = parameters_, .image = images_};
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      o.x.push_back(tape_.view(case_.inputs[i].shape, inputs_[i].data(), backward));
    }
    for (auto* p : parameters_) {
      o.p.push_back(tape_.parameter(*p));
    }
    const Var<float> y = case_.run(o);
    if (backward) {
      if (seed_.empty()) {
        seed_.assign(static_cast<std::size_t>(y.size() * 16), 1.0f);
      }
      tape_.backward(y, seed_.data());
    }
    benchmark::DoNotOptimize(y.data());
  }

 private:
  void fill(std::span<float> values, const op_table::Operand& operand) {
    RandomSequence random({.seed = 1, .purpose = Purpose::test, .image = draws_++});
    for (auto& v : values) {
      v = static_cast<float>(random.uniform(operand.low, operand.high));
    }
  }

  const Case& case_;
  ParameterStore<float> store_;
  std::vector<Parameter<float>*> parameters_;
  std::vector<AlignedVector<float>> inputs_;
  std::vector<std::uint32_t> images_ = std::vector<std::uint32_t>(16);
  std::vector<float> seed_;
  Tape<float> tape_;
  std::uint32_t draws_ = 0;
};

void time_case(benchmark::State& state, const Case& c, bool backward, double peak) {
  Job job(c);
  job.run(backward);
  for (auto _ : state) {
    job.run(backward);
  }
  state.SetItemsProcessed(state.iterations() * 16);
  if (c.flops > 0) {
    const double flops = 16 * c.flops * (backward ? 2 : 1) * static_cast<double>(state.iterations());
    state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, benchmark::Counter::kIsRate);
    if (peak > 0) {
      state.counters["peak"] = benchmark::Counter(flops / 1e9 / peak, benchmark::Counter::kIsRate);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  set_thread_count(1);
  const double peak = benchmarks::peak_gflops();
  const std::vector<Case> cases = op_table::benchmark_cases();
  for (const Case& c : cases) {
    for (const bool backward : {false, true}) {
      benchmark::RegisterBenchmark(
          (c.name + (backward ? " / forward and input gradient" : " / forward")).c_str(),
          [&c, backward, peak](benchmark::State& state) { time_case(state, c, backward, peak); });
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 1;
  }
  benchmark::AddCustomContext("isa", std::string(kernels::isa_name(kernels::isa())));
  benchmark::AddCustomContext("peak_gflops_of_one_thread", std::to_string(peak));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

// SPDX-License-Identifier: MIT
// The checks of the CUDA kernels on a GPU, without a test framework.
//
//   gpu_checks [--quick] [NAME...]   all checks, or those whose name contains one of the words; --quick: small ones, for
//                                    compute-sanitizer
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "cuda/attack_checks.hpp"
#include "cuda/batch_norm_checks.hpp"
#include "cuda/bf16_checks.hpp"
#include "cuda/device_checks.hpp"
#include "cuda/filter_checks.hpp"
#include "cuda/filter_kernel_checks.hpp"
#include "cuda/gather_gemm_checks.hpp"
#include "cuda/lane_checks.hpp"
#include "cuda/network_checks.hpp"
#include "cuda/norm_checks.hpp"
#include "cuda/peers_checks.hpp"
#include "cuda/reduce_checks.hpp"
#include "cuda/running_norm_checks.hpp"
#include "cuda/training_checks.hpp"
#include "cuda/update_checks.hpp"
#include "cuda/weight_gradient_checks.hpp"
#include "cuda/window_checks.hpp"
#include "pavise/core/device.hpp"

namespace {

using cuda_checks::Report;
using cuda_checks::Table;

struct Check {
  const char* name;
  bool quick;
  void (*run)(Report&, const Table&);
};

const Check kChecks[] = {
    {"graphs", true, cuda_checks::check_graphs},
    {"random", true, cuda_checks::check_random},
    {"elementwise", true, cuda_checks::check_elementwise},
    {"attack_steps", true, cuda_checks::check_attack_steps},
    {"apgd", true, cuda_checks::check_apgd},
    {"momentum", true, cuda_checks::check_momentum},
    {"probes", true, cuda_checks::check_probes},
    {"rows", true, cuda_checks::check_rows},
    {"losses", true, cuda_checks::check_losses},
    {"softmax", true, cuda_checks::check_softmax},
    {"sums", true, cuda_checks::check_sums},
    {"pools", true, cuda_checks::check_pools},
    {"channels", true, cuda_checks::check_channels},
    {"batch_norm", true, cuda_checks::check_batch_norm},
    {"running_norm", true, cuda_checks::check_running_norm},
    {"row_norms", true, cuda_checks::check_row_norms},
    {"dropout", true, cuda_checks::check_dropout},
    {"optimizers", true, cuda_checks::check_optimizers},
    {"medians", true, cuda_checks::check_medians},
    {"bilateral", true, cuda_checks::check_bilateral},
    {"jpeg", true, cuda_checks::check_jpeg},
    {"counts", true, cuda_checks::check_counts},
    {"weight_gradients", true, cuda_checks::check_weight_gradients},
    {"matrices", false, cuda_checks::check_matrices},
    {"winograd", true, cuda_checks::check_winograd},
    {"convolutions", false, cuda_checks::check_convolutions},
    {"image_gradients", true, cuda_checks::check_image_gradients},
    {"tiles", true, cuda_checks::check_tiles},
    {"fast", true, cuda_checks::check_fast},
    {"bf16", true, cuda_checks::check_bf16},
    {"layouts", true, cuda_checks::check_layouts},
    {"grid_noise", true, cuda_checks::check_grid_noise},
    {"filter_elements", true, cuda_checks::check_filter_elements},
    {"nlm", true, cuda_checks::check_nlm},
    {"resample", true, cuda_checks::check_resample},
    {"gather_pixels", true, cuda_checks::check_gather_pixels},
    {"total_variation", true, cuda_checks::check_total_variation},
    {"strided_copy", true, cuda_checks::check_strided_copy},
    {"small_models", true, cuda_checks::check_small_models},
    {"rounded_models", true, cuda_checks::check_rounded_models},
    {"small_attacks", true, cuda_checks::check_small_attacks},
    {"training", true, cuda_checks::check_training},
    {"updates", true, cuda_checks::check_updates},
    {"defenses", true, cuda_checks::check_defenses},
    {"filtered_models", true, cuda_checks::check_filtered_models},
    {"filtered_attacks", true, cuda_checks::check_filtered_attacks},
    {"filtered_training", true, cuda_checks::check_filtered_training},
    {"linear_bounds", true, cuda_checks::check_linear_bounds},
    {"bounds_training", true, cuda_checks::check_bounds_training},
    {"peers", true, [](Report& r, const Table&) { cuda_checks::check_peers(r, cuda_checks::through_hosts); }},
    {"broken_ascent", true, cuda_checks::check_broken_ascent},
    {"small_certificates", true, cuda_checks::check_small_certificates},
    {"refusals", true, cuda_checks::check_refusals},
    {"library_models", false, cuda_checks::check_library_models},
    {"large_attacks", false, cuda_checks::check_large_attacks},
    {"large_certificates", false, cuda_checks::check_large_certificates},
    {"attack", false, [](Report& r, const Table& t) { cuda_checks::check_attack(r, t, 1000, 7); }},
};

}  // namespace

int main(int argc, char** argv) {
  bool quick = false;
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--quick") {
      quick = true;
    } else {
      words.emplace_back(argv[i]);
    }
  }
  int failed = 0;
  try {
    const Table& t = pavise::Device::cuda(0).kernels();
    std::printf("device: %s\n", t.device_info(0).name);
    for (const Check& c : kChecks) {
      bool wanted = words.empty() && (!quick || c.quick);
      for (const auto& w : words) {
        wanted = wanted || std::string(c.name).find(w) != std::string::npos;
      }
      if (!wanted) {
        continue;
      }
      const auto begin = std::chrono::steady_clock::now();
      Report report;
      try {
        c.run(report, t);
      } catch (const std::exception& e) {
        report.fail(e.what());
      }
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      const bool ok = report.failures() == 0 && report.comparisons() > 0;
      failed += ok ? 0 : 1;
      std::printf("%-18s %s  %lld comparisons, %lld differ, %.1f s\n%s", c.name, ok ? "ok    " : "FAILED",
                  static_cast<long long>(report.comparisons()), static_cast<long long>(report.failures()), seconds,
                  report.text().c_str());
      std::fflush(stdout);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "gpu_checks: %s\n", e.what());
    return 1;
  }
  return failed == 0 ? 0 : 1;
}

// SPDX-License-Identifier: MIT
// Times the CUDA kernels with device events: medians, warm, on random inputs. Prints a line of JSON for each
// measurement as soon as it is made, so that a run that is cut off leaves what it has.
//
//   bench FILE [SECTION...]   sections: network residual weights elements filters attacks training tiles
//
// FLOPs are those of the direct algorithm without the taps that fall on padding, multiplications and additions counted
// apart; bytes count each array once.
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "attacks.hpp"
#include "cuda/network.hpp"
#include "filters.hpp"
#include "measure.hpp"
#include "pavise/core/device.hpp"
#include "pavise/device/network.hpp"

namespace {

using namespace cuda_checks;
using gpu_bench::Arithmetic;
using gpu_bench::Bench;
using gpu_bench::Noise;
using gpu_bench::plan_flops;
using gpu_bench::plan_of;
using kernels::ConvGeometry;

void ceilings(Bench& b) {
  const OnDevice<float> sink(b.t, 1);
  double count = 0;
  const double ms = b.time([&] { count = b.t.measure_fma(b.stream, sink.get(), 400); });
  b.peak_flops = 2.0 * count / (ms * 1e-3);
  b.line("ceilings", "fma", ms, 2.0 * count, 0,
         pavise::concat(",\"tflops\":", static_cast<float>(b.peak_flops * 1e-12)));
  constexpr std::size_t kBytes = std::size_t{1} << 31;
  const OnDevice<std::byte> from(b.t, kBytes);
  const OnDevice<std::byte> to(b.t, kBytes);
  b.t.synchronize(nullptr);
  b.t.fill_bytes(from.get(), 0x3C, kBytes, b.stream);
  const double copy_ms = b.time([&] { b.t.copy(to.get(), from.get(), kBytes, b.stream); });
  b.peak_bytes = 2.0 * static_cast<double>(kBytes) / (copy_ms * 1e-3);
  b.line("ceilings", "copy", copy_ms, 0, 2.0 * static_cast<double>(kBytes),
         pavise::concat(",\"tb_per_s\":", static_cast<float>(b.peak_bytes * 1e-12)));
}

void network(Bench& b, Arithmetic arithmetic, std::int64_t images) {
  {
    const auto model = pavise::nn::small_cnn({.seed = 0});
    auto& store = model.parameters();
    const auto layers = small_cnn_layers(store);
    DeviceNetwork net(b.t, layers, std::vector<float>(store.values().begin(), store.values().end()), images, b.stream,
                      arithmetic);
    Noise noise(b, net.groups());
    const auto center = noise.uniform(784, net.groups());
    const OnDevice<float> x(b.t, net.lanes(784));
    std::vector<std::int32_t> label(net.lanes(1));
    pavise::RandomSequence random({.purpose = pavise::Purpose::test});
    for (auto& l : label) {
      l = static_cast<std::int32_t>(random.below(10));
    }
    const OnDevice<std::int32_t> labels(b.t, label);
    b.t.synchronize(nullptr);
    double forward = 0;
    for (const auto& l : layers) {
      forward += plan_flops(plan_of(l, false)) * static_cast<double>(images);
    }
    const std::string suffix = gpu_bench::suffix(images, arithmetic);
    const kernels::cuda::AttackStep step{0, 2.5f * 0.1f / 7.0f, 0.1f, 0.0f, 1.0f};
    const kernels::cuda::AdamStep adam{1e-3f, 1.0f, 0.1f, 0.001f, 1e-8f, 0.0f, 1.0f, 1.0f / static_cast<float>(images)};
    std::uint32_t iteration = 0;
    const auto start = [&] {
      b.t.random_start(b.stream, x.get(), center.get(), 784, net.groups(), step, noise.keys(++iteration), nullptr);
    };
    start();
    b.line("network", "forward" + suffix, b.time([&] { net.forward(x.get()); }), forward, 0);
    b.line("network", "gradient of the input" + suffix, b.time([&] {
      net.forward(x.get());
      net.backward(labels.get(), true);
    }),
           2 * forward, 0);
    const auto attack = [&] { net.attack(x.get(), center.get(), labels.get(), step, 7); };
    const auto train = [&] { net.train(x.get(), labels.get(), adam); };
    b.line("network", "pgd7 training step" + suffix, b.time([&] {
      start();
      attack();
      train();
    }),
           17 * forward, 0);
    b.t.begin_graph(b.stream);
    attack();
    train();
    const auto graph = b.t.end_graph(b.stream);
    b.line("network", "pgd7 training step, graph" + suffix, b.time([&] {
      start();
      b.t.launch_graph(graph, b.stream);
    }),
           17 * forward, 0);
    b.t.destroy_graph(graph);
    b.line("network", "training step" + suffix, b.time(train), 3 * forward, 0);
    const OnDevice<std::uint32_t> votes(b.t, std::vector<std::uint32_t>(10));
    const auto add_noise = [&] {
      b.t.add_noise(b.stream, center.get(), 0, 0.25f, x.get(), 784, net.groups(), noise.keys(++iteration));
    };
    const auto vote = [&] {
      net.forward(x.get());
      net.predict();
      b.t.count_votes(b.stream, net.prediction(), images, votes.get());
    };
    const auto smoothing = [&](const char* kind, const auto& passes) {
      const double ms = b.time([&] {
        add_noise();
        passes();
      });
      b.line("network", kind + suffix, ms, forward, 0,
             pavise::concat(",\"samples_per_s\":", static_cast<float>(static_cast<double>(images) / (ms * 1e-3))));
    };
    smoothing("smoothing", vote);
    b.t.begin_graph(b.stream);
    vote();
    const auto votes_graph = b.t.end_graph(b.stream);
    smoothing("smoothing, graph", [&] { b.t.launch_graph(votes_graph, b.stream); });
    b.t.destroy_graph(votes_graph);
    // Where the time goes, layer by layer.
    for (std::size_t i = 0; i < layers.size(); ++i) {
      for (const bool backward : {false, true}) {
        const auto plan = plan_of(layers[i], backward);
        const LayerProduct product(b.t, layers[i], backward, arithmetic);
        const OnDevice<float> weight(b.t, numbers(layers[i].in() * layers[i].out() + 16384, 1));
        b.t.synchronize(nullptr);
        product.pack(b.stream, weight.get());
        const auto in = noise.uniform(plan.in_size, net.groups());
        const OnDevice<float> out(b.t, net.lanes(plan.out_size));
        b.t.synchronize(nullptr);
        b.line("layers", pavise::concat("layer ", i + 1, backward ? " backward" : " forward", suffix),
               b.time([&] { product.apply(b.stream, in.get(), out.get(), {.relu = !backward}, net.groups()); }, 40.0),
               plan_flops(plan) * static_cast<double>(images),
               4.0 * static_cast<double>(images) * static_cast<double>(plan.in_size + plan.out_size));
        b.t.synchronize(b.stream);
      }
    }
  }
}

void networks(Bench& b) {
  for (const std::int64_t images : {4096, 16384}) {
    for (const Arithmetic arithmetic : gpu_bench::kArithmetics) {
      network(b, arithmetic, images);
    }
  }
}

/// resnet18 as attacks see it: a model of the library, traced and run on the device.
void residual(Bench& b) {
  const auto model = pavise::nn::resnet18({.seed = 0});
  const std::int64_t images = 1024;
  for (const Arithmetic arithmetic : gpu_bench::kArithmetics) {
    pavise::device::Network net(model, pavise::Device::cuda(0), images, pavise::device::Use::gradient, arithmetic);
    Bench own{b.t, b.out, net.stream().get(), b.peak_flops, b.peak_bytes};
    const std::int64_t groups = pavise::device::groups_of(images);
    const std::int64_t n = net.size();
    Noise noise(b, groups);
    const auto center = noise.uniform(n, groups);
    const OnDevice<float> x(b.t, static_cast<std::size_t>(n * groups * 32));
    const OnDevice<std::int32_t> labels(b.t, std::vector<std::int32_t>(static_cast<std::size_t>(groups * 32), 3));
    b.t.synchronize(nullptr);
    b.t.copy(x.get(), center.get(), static_cast<std::size_t>(n * groups * 32) * sizeof(float), net.stream().get());
    const std::string suffix = gpu_bench::suffix(images, arithmetic);
    own.line("network", "resnet18 forward" + suffix, own.time([&] { net.forward(x.get(), images); }), 0, 0);
    const kernels::cuda::AttackStep step{0, 2.5f * 8.0f / 255.0f / 7.0f, 8.0f / 255.0f, 0.0f, 1.0f};
    own.line("network", "resnet18 pgd7" + suffix, own.time([&] {
      for (int i = 0; i < 7; ++i) {
        net.forward(x.get(), images);
        net.cross_entropy(labels.get(), 0.0f, 1.0f);
        b.t.attack_step(net.stream().get(), x.get(), net.backward(), center.get(), n, groups, step);
      }
    }),
             0, 0);
  }
}

/// One plan with every register tile, and with its own choice.
void sweep(Bench& b, const std::string& name, const kernels::GatherPlan& plan, std::int64_t images) {
  const std::int64_t groups = groups_of(images, 32);
  Noise noise(b, groups);
  auto* op = b.t.make_operator(plan);
  std::int64_t weights = 0;
  for (const auto s : plan.tap_source) {
    weights = std::max(weights, s);
  }
  weights += 1 + (plan.rows - 1) * plan.weight_row + (plan.channel_groups - 1) * plan.weight_group;
  const OnDevice<float> weight(b.t, numbers(weights, 1));
  b.t.synchronize(nullptr);
  b.t.pack_operator(b.stream, op, weight.get());
  const auto in = noise.uniform(plan.in_size, groups);
  const OnDevice<float> out(b.t, static_cast<std::size_t>(plan.out_size * groups * 32));
  b.t.synchronize(nullptr);
  const double flops = plan_flops(plan) * static_cast<double>(images);
  b.line("tiles", pavise::concat(name, " b", images, " own choice"),
         b.time([&] { b.t.apply_operator(b.stream, op, in.get(), out.get(), {}, groups); }, 30.0), flops, 0);
  for (int i = 0; const int tile = b.t.operator_tiles(i); ++i) {
    b.line(
        "tiles", pavise::concat(name, " b", images, " ", tile / 100, "x", tile % 100),
        b.time([&] { b.t.apply_operator_tiled(b.stream, op, in.get(), out.get(), {}, groups, tile / 100, tile % 100); },
               20.0),
        flops, 0);
  }
  b.line("tiles", pavise::concat(name, ", fast b", images, " own choice"),
         b.time([&] { b.t.apply_operator_fast(b.stream, op, in.get(), out.get(), {}, groups); }, 20.0), flops, 0);
  for (int i = 0; const int tile = b.t.fast_operator_tiles(i); ++i) {
    b.line("tiles", pavise::concat(name, ", fast b", images, " ", tile / 100, "x", tile % 100),
           b.time(
               [&] {
                 b.t.apply_operator_fast_tiled(b.stream, op, in.get(), out.get(), {}, groups, tile / 100, tile % 100);
               },
               20.0),
           flops, 0);
  }
  b.t.synchronize(b.stream);
  b.t.destroy_operator(op);
}

/// One layer in bf16 by every kernel, and by its own choice.
void sweep_bf16(Bench& b, const std::string& name, const ConvGeometry& g, bool back, std::int64_t images) {
  if (!kernels::cuda::has_patches(g)) {
    return;
  }
  const std::int64_t groups = groups_of(images, 32);
  const auto plan = kernels::cuda::patch_plan(g, back);
  Noise noise(b, groups);
  auto* patches = b.t.make_patches(plan);
  const OnDevice<float> weight(b.t, numbers(g.out_channels * g.in_channels * g.kernel_height * g.kernel_width, 1));
  b.t.synchronize(nullptr);
  b.t.pack_patches(b.stream, patches, weight.get());
  const auto in = noise.uniform(plan.in_size, groups);
  const OnDevice<float> out(b.t, static_cast<std::size_t>(plan.out_size * groups * 32));
  b.t.synchronize(nullptr);
  const double flops = plan_flops(back ? backward_plan(g) : forward_plan(g)) * static_cast<double>(images);
  b.line("tiles", pavise::concat(name, ", bf16 b", images, " own choice"),
         b.time([&] { b.t.apply_patches(b.stream, patches, in.get(), out.get(), {}, groups); }, 20.0), flops, 0);
  for (int i = 0; const int shape = b.t.patch_kernels(patches, i); ++i) {
    if (shape > 0) {
      b.line("tiles", pavise::concat(name, ", bf16 b", images, " ", i, ":", shape / 100, "x", shape % 100),
             b.time([&] { b.t.apply_patches_by(b.stream, patches, in.get(), out.get(), {}, groups, i); }, 15.0), flops,
             0);
    }
  }
  b.t.synchronize(b.stream);
  b.t.destroy_patches(patches);
}

void tiles(Bench& b) {
  const auto model = pavise::nn::small_cnn({.seed = 0});
  const auto layers = small_cnn_layers(model.parameters());
  struct Row {
    std::string name;
    NetworkLayer layer;
    std::int64_t images;
    bool forward, backward;
  };
  std::vector<Row> rows;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    rows.push_back({pavise::concat("small-cnn layer ", i + 1), layers[i], 4096, true, true});
  }
  for (const std::int64_t width : {64, 128, 256, 512}) {
    const std::int64_t side = 32 * 64 / width;
    rows.push_back({pavise::concat("conv 3x3 ", width, " channels ", side, "x", side),
                    {geometry(width, side, side, width, 3, 1, 1, 1, 1), false, false, 0, 0},
                    1024,
                    true,
                    false});
  }
  rows.push_back({"conv 3x3 stride 2, 64 to 128 channels",
                  {geometry(64, 32, 32, 128, 3, 2, 1, 1, 1), false, false, 0, 0},
                  1024,
                  true,
                  true});
  rows.push_back({"conv 1x1 128 channels 16x16",
                  {geometry(128, 16, 16, 128, 1, 1, 0, 1, 1), false, false, 0, 0},
                  1024,
                  true,
                  false});
  rows.push_back(
      {"linear 1024x1024", {geometry(1024, 1, 1, 1024, 1, 1, 0, 1, 1), true, false, 0, 0}, 4096, true, false});
  for (const Row& row : rows) {
    for (const bool back : {false, true}) {
      if (back ? row.backward : row.forward) {
        const std::string name = row.name + (back ? " backward" : "");
        sweep_bf16(b, name, row.layer.geometry, back, row.images);
        sweep(b, name, plan_of(row.layer, back), row.images);
      }
    }
  }
}

void elements(Bench& b) {
  const std::int64_t groups = 4096 / 32 * 4;
  const std::int64_t n = 784 * 4;
  const std::int64_t count = n * groups * 32;
  const double bytes = 4.0 * static_cast<double>(count);
  Noise noise(b, groups);
  const auto x = noise.uniform(n, groups);
  const auto y = noise.uniform(n, groups);
  const auto z = noise.uniform(n, groups);
  const auto f = noise.uniform(64, 1);
  const OnDevice<float> lane(b.t, static_cast<std::size_t>(groups * 32));
  b.t.synchronize(nullptr);
  b.line("elements", "relu",
         b.time([&] { b.t.unary_forward(b.stream, kernels::Unary::relu, x.get(), y.get(), count, 0, 0); }), 0,
         2 * bytes);
  b.line("elements", "gelu",
         b.time([&] { b.t.unary_forward(b.stream, kernels::Unary::gelu, x.get(), y.get(), count, 0, 0); }), 0,
         2 * bytes);
  b.line("elements", "exp",
         b.time([&] { b.t.unary_forward(b.stream, kernels::Unary::exp, x.get(), y.get(), count, 0, 0); }), 0,
         2 * bytes);
  b.line("elements", "sum with relu", b.time([&] { b.t.add_values(b.stream, x.get(), y.get(), z.get(), count, true); }),
         0, 3 * bytes);
  b.line("elements", "batch norm, evaluation mode", b.time([&] {
    b.t.channel_affine(b.stream, x.get(), y.get(), 16, n / 16, {f.get(), f.get(), f.get()}, true, groups);
  }),
         0, 2 * bytes);
  b.line("elements", "linf step", b.time([&] {
    b.t.attack_step(b.stream, x.get(), y.get(), z.get(), n, groups, {0, 0.01f, 0.1f, 0.0f, 1.0f});
  }),
         0, 4 * bytes);
  b.line("elements", "l2 step", b.time([&] {
    b.t.attack_step(b.stream, x.get(), y.get(), z.get(), n, groups, {2, 0.01f, 0.5f, 0.0f, 1.0f});
  }),
         0, 4 * bytes);
  b.line("elements", "normal random numbers",
         b.time([&] { b.t.random_lanes(b.stream, kernels::Distribution::normal, x.get(), n, groups, noise.keys(99)); }),
         0, bytes);
  const ConvGeometry pool{16, 28, 7, 16, 2, 2, 2, 0, 1, 1, 14, 3};
  b.line("elements", "max pooling 2x2", b.time([&] { b.t.max_pool(b.stream, pool, x.get(), y.get(), groups); }), 0,
         1.25 * bytes);
}

void weights(Bench& b) {
  const auto model = pavise::nn::small_cnn({.seed = 0});
  const std::int64_t images = 4096;
  const std::int64_t groups = images / 32;
  Noise noise(b, groups);
  auto layers = small_cnn_layers(model.parameters());
  layers.push_back({geometry(64, 16, 16, 64, 3, 1, 1, 1, 1), false, false, 0, 0});
  for (const auto& l : layers) {
    const auto x = noise.uniform(l.in(), groups);
    const auto dy = noise.uniform(l.out(), groups);
    const std::int64_t taps = l.geometry.in_channels * l.geometry.kernel_height * l.geometry.kernel_width;
    const OnDevice<float> dw(b.t, std::vector<float>(static_cast<std::size_t>(l.geometry.out_channels * taps)));
    const std::int64_t scratch_size = l.matrix ? b.t.linear_weight_gradient_scratch(l.out(), l.in(), groups)
                                               : b.t.conv_weight_gradient_scratch(l.geometry, groups);
    const OnDevice<float> scratch(b.t, static_cast<std::size_t>(scratch_size));
    b.t.synchronize(nullptr);
    for (const bool fast : {false, true}) {
      const double ms = b.time(
          [&] {
            const std::int64_t slices = l.matrix
                                            ? (fast ? b.t.linear_weight_gradient_fast : b.t.linear_weight_gradient)(
                                                  b.stream, l.out(), l.in(), x.get(), dy.get(), scratch.get(), groups)
                                            : (fast ? b.t.conv_weight_gradient_fast : b.t.conv_weight_gradient)(
                                                  b.stream, l.geometry, x.get(), dy.get(), scratch.get(), groups);
            b.t.add_slices(b.stream, scratch.get(), l.geometry.out_channels * taps, slices, {nullptr, dw.get(), true});
          },
          40.0);
      b.line("weights", name_of(l.geometry) + (fast ? ", fast" : ""), ms,
             plan_flops(plan_of(l, false)) * static_cast<double>(images), 0);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    pavise::require(argc >= 2, "usage: bench FILE [network residual weights elements filters attacks training tiles]");
    std::vector<std::string> sections(argv + 2, argv + argc);
    if (sections.empty()) {
      sections = {"network", "residual", "weights", "elements", "filters", "attacks", "training", "tiles"};
    }
    const auto device = pavise::Device::cuda(0);
    const Table& t = device.kernels();
    std::FILE* out = std::fopen(argv[1], "w");
    pavise::require<pavise::IoError>(out != nullptr, "bench: cannot write ", argv[1]);
    Bench b{t, out, t.make_stream()};
    const auto info = t.device_info(0);
    std::fprintf(out,
                 "{\"section\":\"device\",\"name\":\"%s\",\"major\":%d,\"minor\":%d,\"multiprocessors\":%d,"
                 "\"memory\":%zu}\n",
                 info.name, info.major, info.minor, info.multiprocessors, info.memory);
    ceilings(b);
    const std::map<std::string, void (*)(Bench&)> all = {{"network", networks},
                                                         {"residual", residual},
                                                         {"tiles", tiles},
                                                         {"elements", elements},
                                                         {"weights", weights},
                                                         {"filters", gpu_bench::filters},
                                                         {"attacks", gpu_bench::attacks},
                                                         {"training", gpu_bench::training}};
    for (const auto& s : sections) {
      if (const auto found = all.find(s); found != all.end()) {
        found->second(b);
      }
    }
    std::fclose(out);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench: %s\n", e.what());
    return 1;
  }
  return 0;
}

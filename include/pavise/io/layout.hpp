// SPDX-License-Identifier: MIT
// Layouts: what the state dicts of others' PyTorch code call the parameters of the models here, and what they leave out of
// the file (how pixels are normalised). A state dict is read as safetensors (safetensors.torch.save_file). Opt-in:
// includes nlohmann-json.
//
//     auto file = pavise::io::read_safetensors("state.safetensors");
//     auto model = pavise::io::import_model(file, "state.safetensors", pavise::io::find_layout("trades-mnist"));
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/io/model_file.hpp"
#include "pavise/io/safetensors.hpp"
#include "pavise/nn/models.hpp"

namespace pavise::io {

/// One way to name a model's parameters.
struct Layout {
  std::string_view name;
  std::string_view words;  ///< whose code it is, and which network
  std::string_view model;  ///< as nn::make_model knows it
  std::string_view head;   ///< the last layer, whose outputs are the classes
  /// The beginning of a name there and here; the first that fits counts, and a name that none fits is the same.
  std::vector<std::pair<std::string_view, std::string_view>> renames = {};
  std::vector<std::string_view> left_out = {};  ///< beginnings of names that are no weights of the network
  /// Of the pixels, where training normalised them outside of the network; one a channel.
  std::vector<double> mean = {}, deviation = {};
  std::string_view mean_tensor = "normalize.mean", deviation_tensor = "normalize.std";  ///< where the file says so
};

/// All layouts that `pavise import` knows.
inline const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all{
      {.name = "fast-at-mnist",
       .words = "Fast-AT (Wong, Rice and Kolter 2020), MNIST: nn.Sequential of 8 modules",
       .model = "small-cnn",
       .head = "fc2",
       .renames = {{"0.", "conv1."}, {"2.", "conv2."}, {"5.", "fc1."}, {"7.", "fc2."}}},
      {.name = "fast-at-cifar",
       .words = "Fast-AT, CIFAR-10: PreActResNet18, with the normalisation of its training",
       .model = "preact-resnet18",
       .head = "linear",
       .mean = {0.4914, 0.4822, 0.4465},
       .deviation = {0.2471, 0.2435, 0.2616}},
      {.name = "trades-mnist",
       .words = "TRADES (Zhang et al. 2019), MNIST: SmallCNN",
       .model = "carlini-cnn",
       .head = "fc3",
       .renames = {{"feature_extractor.conv", "conv"}, {"classifier.fc", "fc"}}},
      {.name = "madry-mnist",
       .words = "Madry et al. (2018), MNIST, as AdverTorch's LeNet5Madry or an nn.Sequential of 10 modules",
       .model = "madry-cnn",
       .head = "fc2",
       .renames = {{"conv", "conv"},
                   {"linear1.", "fc1."},
                   {"linear2.", "fc2."},
                   {"0.", "conv1."},
                   {"3.", "conv2."},
                   {"7.", "fc1."},
                   {"9.", "fc2."}}},
      {.name = "madry-cifar",
       .words = "MadryLab's robustness library, CIFAR-10: AttackerModel around ResNet18, with its normalizer",
       .model = "resnet18",
       .head = "linear",
       .renames = {{"model.", ""}},
       .left_out = {"attacker."},
       .mean_tensor = "normalizer.new_mean",
       .deviation_tensor = "normalizer.new_std"},
      {.name = "resnet18",
       .words = "ResNet18 for CIFAR (kuangliu/pytorch-cifar; TRADES), pixels in [0,1]",
       .model = "resnet18",
       .head = "linear"},
      {.name = "preact-resnet18",
       .words = "PreActResNet18 for CIFAR (kuangliu/pytorch-cifar with bn before the pooling), pixels in [0,1]",
       .model = "preact-resnet18",
       .head = "linear"},
      {.name = "small-cnn", .words = "small-cnn under its own names", .model = "small-cnn", .head = "fc2"},
      {.name = "lenet", .words = "lenet under its own names", .model = "lenet", .head = "fc2"},
      {.name = "madry-cnn", .words = "madry-cnn under its own names", .model = "madry-cnn", .head = "fc2"},
      {.name = "carlini-cnn", .words = "carlini-cnn under its own names", .model = "carlini-cnn", .head = "fc3"}};
  return all;
}

/// The layout called `name`; ValueError lists those there are.
inline const Layout& find_layout(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& layout : layouts()) {
    if (layout.name == name) {
      return layout;
    }
    names.push_back(layout.name);
  }
  throw ValueError(concat("layout: there is no '", name, "', expected one of ", join(names)));
}

struct ImportOptions {
  Shape input{};  ///< of an image, (C,H,W); empty: what the model was made for
  /// Of the pixels, one a channel, in place of what the layout or the file says.
  std::optional<std::vector<double>> mean, deviation;
};

namespace detail {

/// The name here of the tensor `theirs`.
inline std::string name_here(const Layout& layout, std::string_view theirs) {
  for (const auto& [from, to] : layout.renames) {
    if (theirs.starts_with(from)) {
      return concat(to, theirs.substr(from.size()));
    }
  }
  return std::string(theirs);
}

/// The name there of what is `ours` here.
inline std::string name_there(const Layout& layout, std::string_view ours) {
  for (const auto& [from, to] : layout.renames) {
    if (ours.starts_with(to)) {
      return concat(from, ours.substr(to.size()));
    }
  }
  return std::string(ours);
}

/// The state dict's tensors by their names here, and how pixels are normalised.
struct State {
  std::map<std::string, const SafetensorsFile::Entry*> tensors;
  std::vector<double> mean, deviation;
};

inline std::vector<double> channel_values(const std::string& path, const SafetensorsFile::Entry& entry) {
  require_model(entry.dtype == Dtype::f32 && entry.shape.numel() <= 4, path, "tensor ", entry.name, " is ",
                dtype_name(entry.dtype), " ", entry.shape, ", expected a number of F32 for each channel");
  const auto values = entry.tensor<float>();
  return {values.span().begin(), values.span().end()};
}

inline State read_state(const SafetensorsFile& file, const std::string& path, const Layout& layout) {
  constexpr std::string_view kParallel = "module.";  // of DataParallel, around everything
  const bool parallel =
      !file.tensors.empty() && std::all_of(file.tensors.begin(), file.tensors.end(),
                                           [&](const auto& e) { return e.name.starts_with(kParallel); });
  State out{.tensors = {}, .mean = layout.mean, .deviation = layout.deviation};
  for (const auto& entry : file.tensors) {
    const std::string_view name = std::string_view(entry.name).substr(parallel ? kParallel.size() : 0);
    if (name == layout.mean_tensor) {
      out.mean = channel_values(path, entry);
    } else if (name == layout.deviation_tensor) {
      out.deviation = channel_values(path, entry);
    } else if (!name.ends_with(".num_batches_tracked") &&
               std::none_of(layout.left_out.begin(), layout.left_out.end(),
                            [&](std::string_view start) { return name.starts_with(start); })) {
      const auto [at, fresh] = out.tensors.emplace(name_here(layout, name), &entry);
      require_model(fresh, path, "tensors ", at->second->name, " and ", entry.name, " are both ", at->first,
                    " in the layout ", layout.name);
    }
  }
  return out;
}

}  // namespace detail

/// The model that the state dict `file` holds in the layout `layout`; `path` is its name in messages. The number of
/// classes is that of the last layer's outputs. Throws IoError that names the tensor where one is missing, left over, not
/// F32 or of another shape than the network's; ValueError and ShapeError for options that make no model.
inline nn::Model import_model(const SafetensorsFile& file, const std::string& path, const Layout& layout,
                              const ImportOptions& options = {}) {
  const detail::State state = detail::read_state(file, path, layout);
  const auto find = [&](const std::string& name, const std::string& shape) -> const SafetensorsFile::Entry& {
    const auto at = state.tensors.find(name);
    detail::require_model(at != state.tensors.end(), path, "tensor ", detail::name_there(layout, name), shape,
                          " is missing, which the layout ", layout.name, " has");
    return *at->second;
  };
  const auto& head = find(concat(layout.head, ".weight"), "");
  detail::require_model(head.shape.rank() == 2 && head.shape[0] >= 1, path, "tensor ", head.name, " has the shape ",
                        head.shape, ", expected (classes,inputs)");
  nn::Model model = nn::make_model(layout.model, {.input = options.input,
                                                  .classes = head.shape[0],
                                                  .mean = options.mean.value_or(state.mean),
                                                  .deviation = options.deviation.value_or(state.deviation)});
  std::set<std::string_view> used;
  for (auto& p : model.parameters().parameters()) {
    if (p.name().starts_with("normalize.")) {
      continue;
    }
    const auto& entry = find(p.name(), concat(" ", p.shape()));
    detail::require_model(entry.shape == p.shape(), path, "tensor ", entry.name, " has the shape ", entry.shape,
                          ", expected ", p.shape(), " of ", p.name());
    detail::require_model(entry.dtype == Dtype::f32, path, "tensor ", entry.name, " is ", dtype_name(entry.dtype),
                          ", expected F32");
    entry.copy_to<float>(p.edit());
    used.insert(entry.name);
  }
  for (const auto& [name, entry] : state.tensors) {
    detail::require_model(used.contains(entry->name), path, "tensor ", entry->name, " ", entry->shape,
                          " belongs to no layer of ", layout.model);
  }
  return model;
}

}  // namespace pavise::io

// SPDX-License-Identifier: MIT
// Model files: safetensors whose tensors have PyTorch's names and shapes ("conv1.weight" (out,in,kh,kw)), so that
// safetensors.torch.load_file reads them, and whose metadata says what the network is and how it was trained, so that
// the file loads by itself. Opt-in: includes nlohmann-json.
//
//   pavise.architecture  the layers, as nn/spec.hpp writes them      pavise.input    "(1,28,28)"
//   pavise.model         the model's name                            pavise.classes  "10"
//   pavise.version       of the library that wrote it                pavise.seed     of the initial weights
//   recipe.*             how it was trained, as the writer says      format          "pt", for readers that ask
#pragma once

#include <charconv>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "pavise/core/version.hpp"
#include "pavise/io/safetensors.hpp"
#include "pavise/nn/registry.hpp"

namespace pavise::io {

/// How a model was trained: keys and values as text, in the order of the keys.
using Recipe = std::map<std::string, std::string>;

/// What a model file holds.
template <class T>
struct BasicModelFile {
  nn::BasicModel<T> model;
  Recipe recipe;
  std::string version;  ///< of the library that wrote it
};

using ModelFile = BasicModelFile<float>;

namespace detail {

inline constexpr std::string_view kRecipePrefix = "recipe.";

/// Throws IoError "`path`: model file: ..." unless `condition` holds.
template <class... Pieces>
void require_model(bool condition, std::string_view path, const Pieces&... pieces) {
  require<IoError>(condition, path, ": model file: ", pieces...);
}

template <class N>
N metadata_number(std::string_view path, std::string_view key, std::string_view text) {
  N out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  require_model(error == std::errc() && end == text.data() + text.size(), path, key, " is '", text.substr(0, 100),
                "', expected a whole number");
  return out;
}

/// "(1,28,28)" as a shape of positive extents of at most 2^30.
inline Shape metadata_shape(std::string_view path, std::string_view key, std::string_view text) {
  constexpr std::int64_t kMaxExtent = std::int64_t{1} << 30;
  require_model(text.size() >= 3 && text.front() == '(' && text.back() == ')', path, key, " is '", text.substr(0, 100),
                "', expected a shape like (1,28,28)");
  std::int64_t extents[Shape::kMaxRank];
  std::size_t rank = 0;
  for (std::size_t at = 1; at < text.size();) {
    const std::size_t end = text.find_first_of(",)", at);
    require_model(rank < Shape::kMaxRank, path, key, " has more than ", Shape::kMaxRank, " axes");
    extents[rank] = metadata_number<std::int64_t>(path, key, text.substr(at, end - at));
    require_model(extents[rank] >= 1 && extents[rank] <= kMaxExtent, path, key, " is '", text.substr(0, 100),
                  "', expected extents of 1 to ", kMaxExtent);
    ++rank;
    at = end + 1;
  }
  return Shape(extents, rank);
}

/// Calls make(); a ValueError or ShapeError becomes an IoError that names the file.
template <class Make>
auto from_metadata(std::string_view path, const Make& make) {
  try {
    return make();
  } catch (const IoError&) {
    throw;
  } catch (const Error& error) {
    throw IoError(
        concat(path, ": model file: the architecture does not make a model: ", std::string_view(error.what())));
  }
}

/// Checks that the file holds exactly the parameters that a network registered, in type and shape.
template <class T>
void check_tensors(const std::string& path, const SafetensorsFile& file, const ParameterStore<T>& expected) {
  std::map<std::string_view, const SafetensorsFile::Entry*> unknown;
  for (const auto& entry : file.tensors) {
    unknown[entry.name] = &entry;
  }
  for (const auto& p : expected.parameters()) {
    const auto found = unknown.find(p.name());
    require_model(found != unknown.end(), path, "tensor ", p.name(), " ", p.shape(), " is missing");
    const auto* entry = found->second;
    unknown.erase(found);
    require_model(entry->shape == p.shape(), path, "tensor ", p.name(), " has the shape ", entry->shape, ", expected ",
                  p.shape());
    require_model(entry->dtype == dtype_of<T>(), path, "tensor ", p.name(), " is ", dtype_name(entry->dtype),
                  ", expected ", dtype_name(dtype_of<T>()));
  }
  for (const auto& [name, entry] : unknown) {
    require_model(false, path, "tensor ", name, " ", entry->shape, " belongs to no layer of the model");
  }
}

/// The most values of one image that the layers of a model file may hold together: a forward pass of sixteen images then
/// takes 2 GiB at most. (resnet18 has 6 million for images of 224 x 224 pixels.)
inline constexpr std::int64_t kMaxActivations = std::int64_t{1} << 25;

/// Adds up the values behind each layer, inner ones too, and throws ValueError where there are more than that.
template <class T>
void check_activations(const nn::Sequential<T>& net, std::int64_t& total) {
  for (std::size_t i = 0; i < net.layers().size(); ++i) {
    const auto& [name, layer] = net.layers()[i];
    const Shape& shape = net.shapes()[i];
    const std::int64_t n = shape.numel();
    require(n <= kMaxActivations - total, "layer ", name, " gives ", shape, ": the layers hold more than ",
            kMaxActivations, " values of one image");
    total += n;
    if (const auto* inner = dynamic_cast<const nn::Sequential<T>*>(layer.get())) {
      check_activations(*inner, total);
    }
  }
}

}  // namespace detail

/// Writes a model at `path`, atomically, with the recipe of its training as metadata. Throws IoError where it cannot be
/// written, ValueError where a piece of metadata is not UTF-8.
template <class T>
void save_model(const std::string& path, const nn::BasicModel<T>& model, const Recipe& recipe = {}) {
  SafetensorsFile file;
  for (const auto& [key, value] : recipe) {
    file.metadata[concat(detail::kRecipePrefix, key)] = value;
  }
  file.metadata["format"] = "pt";
  file.metadata["pavise.architecture"] = nn::to_text(model.net().spec());
  file.metadata["pavise.model"] = model.name();
  file.metadata["pavise.input"] = model.input_shape().to_string();
  file.metadata["pavise.classes"] = std::to_string(model.classes());
  file.metadata["pavise.seed"] = std::to_string(model.seed());
  file.metadata["pavise.version"] = std::string(kVersion);
  for (const auto& p : std::as_const(model.parameters()).parameters()) {
    file.tensors.push_back(SafetensorsFile::Entry::of<T>(p.name(), p.shape(), p.value()));
  }
  write_safetensors(path, file);
}

/// Reads a model and its recipe. Layers are made by `registry`. Throws IoError, naming the file and what is wrong,
/// where it cannot be read, the metadata do not describe a model, or its tensors are not exactly those of the model in
/// name, type and shape, or its layers would hold more than 2^25 values of one image. Nothing is allocated by what the
/// metadata claim before the tensors are known to be there.
template <class T>
BasicModelFile<T> load_model(const std::string& path, const nn::LayerRegistry<T>& registry) {
  const SafetensorsFile file = read_safetensors(path);
  const auto metadata = [&](const char* key) -> const std::string& {
    const auto found = file.metadata.find(key);
    detail::require_model(found != file.metadata.end(), path, "the metadata has no ", key,
                          ": it was not written by Pavise");
    return found->second;
  };
  const std::string& architecture = metadata("pavise.architecture");
  const Shape input = detail::metadata_shape(path, "pavise.input", metadata("pavise.input"));
  const auto seed = detail::metadata_number<std::uint64_t>(path, "pavise.seed", metadata("pavise.seed"));
  const auto classes = detail::metadata_number<std::int64_t>(path, "pavise.classes", metadata("pavise.classes"));

  nn::BasicModel<T> model = detail::from_metadata(path, [&] {
    const nn::Spec spec = nn::parse_spec(architecture);
    ParameterStore<T> expected;  // names and shapes alone: it is never allocated
    const auto net = nn::make_net<T>(spec, registry);
    const Shape out = net->build(input, expected, "");
    detail::require_model(out == Shape{classes}, path, "the network gives ", out, ", pavise.classes says ",
                          Shape{classes});
    detail::check_tensors(path, file, expected);
    std::int64_t values = 0;
    detail::check_activations(*net, values);
    return nn::BasicModel<T>(metadata("pavise.model"), nn::make_net<T>(spec, registry), input, seed);
  });
  for (auto& p : model.parameters().parameters()) {
    file.find(p.name())->template copy_to<T>(p.edit());
  }
  Recipe recipe;
  for (const auto& [key, value] : file.metadata) {
    if (key.starts_with(detail::kRecipePrefix)) {
      recipe[key.substr(detail::kRecipePrefix.size())] = value;
    }
  }
  const auto version = file.metadata.find("pavise.version");
  return {std::move(model), std::move(recipe), version != file.metadata.end() ? version->second : ""};
}
template <class T = float>
BasicModelFile<T> load_model(const std::string& path) {
  return load_model<T>(path, nn::layer_registry<T>());
}

}  // namespace pavise::io

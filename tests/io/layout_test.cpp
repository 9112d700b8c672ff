// SPDX-License-Identifier: MIT
#include "pavise/io/layout.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "io/scratch.hpp"
#include "pavise/core/philox.hpp"

using namespace pavise;

namespace {

/// A model's parameters as another's state dict names them.
io::SafetensorsFile state_of(const nn::Model& model, const io::Layout& layout, const std::string& before = "") {
  io::SafetensorsFile file;
  for (const auto& p : std::as_const(model.parameters()).parameters()) {
    file.tensors.push_back(
        io::SafetensorsFile::Entry::of<float>(before + io::detail::name_there(layout, p.name()), p.shape(), p.value()));
  }
  return file;
}

nn::Model random_model(const io::Layout& layout, std::int64_t classes) {
  nn::Model model = nn::make_model(layout.model, {.seed = 5, .classes = classes});
  RandomSequence random({.seed = 1, .purpose = Purpose::test});
  for (auto& p : model.parameters().parameters()) {
    for (auto& v : p.edit()) {
      v += static_cast<float>(random.uniform(0.0, 0.5));
    }
  }
  return model;
}

/// The parameters but for those of normalisation.
std::vector<float> weights(const nn::Model& model) {
  std::vector<float> out;
  for (const auto& p : std::as_const(model.parameters()).parameters()) {
    if (!p.name().starts_with("normalize.")) {
      out.insert(out.end(), p.value().begin(), p.value().end());
    }
  }
  return out;
}

std::vector<float> buffer(const nn::Model& model, const std::string& name) {
  for (const auto& p : std::as_const(model.parameters()).parameters()) {
    if (p.name() == name) {
      return {p.value().begin(), p.value().end()};
    }
  }
  return {};
}

/// The message of the IoError that importing a changed state of small-cnn gives.
std::string refusal(const std::function<void(io::SafetensorsFile&)>& change) {
  const auto& layout = io::find_layout("fast-at-mnist");
  auto file = state_of(random_model(layout, 10), layout);
  change(file);
  try {
    io::import_model(file, "state.safetensors", layout);
  } catch (const IoError& error) {
    return error.what();
  }
  return "no IoError";
}

TEST_CASE("layouts: every one imports what bears its names, with or without DataParallel around it") {
  for (const auto& layout : io::layouts()) {
    CAPTURE(layout.name);
    const auto model = random_model(layout, 7);
    for (const std::string before : {"", "module."}) {
      auto file = state_of(model, layout, before);
      const std::int64_t batches[] = {391};
      file.tensors.push_back(io::SafetensorsFile::Entry::of<std::int64_t>(before + "bn1.num_batches_tracked", Shape{1},
                                                                          std::span<const std::int64_t>(batches)));
      const auto imported = io::import_model(file, "state.safetensors", layout);
      CHECK(imported.name() == layout.model);
      CHECK(imported.classes() == 7);
      CHECK(weights(imported) == weights(model));
    }
  }
  CHECK_THROWS_WITH_AS(io::find_layout("keras"),
                       doctest::Contains("there is no 'keras', expected one of fast-at-mnist"), ValueError);
}

TEST_CASE("layouts: Fast-AT's names are the numbers of its modules, TRADES' those of its two parts") {
  const auto names = [](const char* name) {
    const auto& layout = io::find_layout(name);
    std::vector<std::string> out;
    for (const auto& entry : state_of(nn::make_model(layout.model), layout).tensors) {
      out.push_back(entry.name);
    }
    return out;
  };
  CHECK(names("fast-at-mnist") == std::vector<std::string>{"0.weight", "0.bias", "2.weight", "2.bias", "5.weight",
                                                           "5.bias", "7.weight", "7.bias"});
  const auto trades = names("trades-mnist");
  for (const char* name : {"feature_extractor.conv1.weight", "feature_extractor.conv4.bias", "classifier.fc1.weight",
                           "classifier.fc3.bias"}) {
    CHECK(std::count(trades.begin(), trades.end(), name) == 1);
  }
  // Madry's network goes by two namings.
  const auto& madry = io::find_layout("madry-mnist");
  const auto model = random_model(madry, 10);
  auto file = state_of(model, madry);
  CHECK(file.find("linear2.weight") != nullptr);
  for (auto& entry : file.tensors) {
    for (const auto& [from, to] :
         {std::pair{"conv1.", "0."}, {"conv2.", "3."}, {"linear1.", "7."}, {"linear2.", "9."}}) {
      if (entry.name.starts_with(from)) {
        entry.name = to + entry.name.substr(std::string(from).size());
      }
    }
  }
  CHECK(file.find("9.weight") != nullptr);
  CHECK(weights(io::import_model(file, "state.safetensors", madry)) == weights(model));
}

TEST_CASE("layouts: normalisation comes from the layout, from the file, or from who imports") {
  const auto& fast = io::find_layout("fast-at-cifar");
  const auto file = state_of(random_model(fast, 10), fast);
  CHECK(buffer(io::import_model(file, "f", fast), "normalize.mean") == std::vector<float>{0.4914f, 0.4822f, 0.4465f});
  CHECK(buffer(io::import_model(file, "f", fast), "normalize.std") == std::vector<float>{0.2471f, 0.2435f, 0.2616f});
  const io::ImportOptions other{
      .input = {}, .mean = std::vector{0.5, 0.5, 0.5}, .deviation = std::vector{1.0, 1.0, 1.0}};
  CHECK(buffer(io::import_model(file, "f", fast, other), "normalize.mean") == std::vector<float>{0.5f, 0.5f, 0.5f});
  const io::ImportOptions none{.input = {}, .mean = std::vector<double>{}, .deviation = std::vector<double>{}};
  CHECK(buffer(io::import_model(file, "f", fast, none), "normalize.mean").empty());

  const auto& madry = io::find_layout("madry-cifar");
  auto wrapped = state_of(random_model(madry, 10), madry, "module.");
  const float mean[] = {0.25f, 0.5f, 0.75f};
  for (const char* name :
       {"module.normalizer.new_mean", "module.normalizer.new_std", "module.attacker.normalize.new_std"}) {
    wrapped.tensors.push_back(
        io::SafetensorsFile::Entry::of<float>(name, Shape{3, 1, 1}, std::span<const float>(mean)));
  }
  CHECK(wrapped.find("module.model.layer1.0.bn1.running_var") != nullptr);
  const auto imported = io::import_model(wrapped, "f", madry);
  CHECK(buffer(imported, "normalize.mean") == std::vector<float>{0.25f, 0.5f, 0.75f});
  CHECK(buffer(imported, "normalize.std") == std::vector<float>{0.25f, 0.5f, 0.75f});
}

TEST_CASE("layouts: what is missing, left over or of the wrong shape is named as the file names it") {
  const auto erase = [](const char* name) {
    return [name](io::SafetensorsFile& f) { std::erase_if(f.tensors, [&](const auto& e) { return e.name == name; }); };
  };
  const auto add = [](io::SafetensorsFile& f, const char* name, Shape shape) {
    const std::vector<float> zeros(static_cast<std::size_t>(shape.numel()));
    f.tensors.push_back(io::SafetensorsFile::Entry::of<float>(name, shape, std::span<const float>(zeros)));
  };
  CHECK(refusal([](auto&) {}) == "no IoError");
  CHECK(refusal(erase("2.bias")) ==
        "state.safetensors: model file: tensor 2.bias (32) is missing, which the layout fast-at-mnist has");
  CHECK(refusal(erase("7.weight")) ==
        "state.safetensors: model file: tensor 7.weight is missing, which the layout fast-at-mnist has");
  CHECK(refusal([&](auto& f) {
          add(f, "9.weight", {2, 3});
        }) == "state.safetensors: model file: tensor 9.weight (2,3) belongs to no layer of small-cnn");
  CHECK(refusal([&](auto& f) { add(f, "conv1.weight", {2}); }) ==
        "state.safetensors: model file: tensors 0.weight and conv1.weight are both conv1.weight in the layout "
        "fast-at-mnist");
  CHECK(refusal([&](auto& f) {
          erase("5.weight")(f);
          add(f, "5.weight", {100, 2048});
        }) ==
        "state.safetensors: model file: tensor 5.weight has the shape (100,2048), expected (100,1568) of fc1.weight");
  CHECK(refusal([&](auto& f) {
          erase("0.bias")(f);
          const std::vector<double> zeros(16);
          f.tensors.push_back(io::SafetensorsFile::Entry::of<double>("0.bias", {16}, std::span<const double>(zeros)));
        }) == "state.safetensors: model file: tensor 0.bias is F64, expected F32");
  CHECK(refusal([&](auto& f) {
          erase("7.weight")(f);
          add(f, "7.weight", {10});
        }) == "state.safetensors: model file: tensor 7.weight has the shape (10), expected (classes,inputs)");
}

}  // namespace

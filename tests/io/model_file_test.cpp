// SPDX-License-Identifier: MIT
#include "pavise/io/model_file.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "pavise/core/philox.hpp"

using namespace pavise;

namespace {

/// A small network with weights, buffers and a block inside: 8x8 images, 3 classes.
template <class T>
nn::BasicModel<T> small_model() {
  const nn::Spec spec = nn::parse_spec(
      "sequential{normalize:normalize(mean=0.5,std=0.25);conv1:conv2d(in=1,out=4,kernel=3,bias=0);"
      "bn1:batch_norm2d(channels=4);relu1:relu;layer1:sequential{0:basic_block(in=4,out=6,stride=2)};fc:linear(in=54,"
      "out=3)}");
  nn::BasicModel<T> model("tiny", nn::make_net<T>(spec), Shape{1, 8, 8}, 42);
  RandomSequence random({.seed = 1, .purpose = Purpose::test});
  for (auto& p : model.parameters().parameters()) {
    for (auto& v : p.edit()) {
      v += static_cast<T>(random.uniform(0.0, 0.5));
    }
  }
  return model;
}

template <class T>
std::vector<T> logits(const nn::BasicModel<T>& model) {
  Tape<T> tape;
  tape.begin(1, 1);
  Var<T> x = tape.input(model.input_shape());
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data()[i] = static_cast<T>(i % 7) / 7;
  }
  const Var<T> y = model(x);
  return std::vector<T>(y.data(), y.data() + y.size());
}

template <class T>
bool equal_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// CHECKs that a changed file is refused by an IoError that names the file and `part`.
void check_refused(const std::string& path, const io::SafetensorsFile& good,
                   const std::function<void(io::SafetensorsFile&)>& change, const std::string& part) {
  CAPTURE(part);
  io::SafetensorsFile file = good;
  change(file);
  io::write_safetensors(path, file);
  std::string message = "nothing was thrown";
  try {
    io::load_model(path);
  } catch (const IoError& error) {
    message = error.what();
  }
  CAPTURE(message);
  CHECK(message.find(path) == 0);
  CHECK(message.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("a model file gives back the model and its recipe") {
  const pavise_test::Scratch scratch;
  const std::string path = scratch / "m.safetensors";
  const auto check = [&](const auto& model) {
    using T = std::remove_cvref_t<decltype(logits(model)[0])>;
    io::save_model(path, model, {{"defense", "pgd"}, {"epsilon", "0.1"}, {"note", "a \"quoted\" \xC3\xA4"}});
    const auto loaded = io::load_model<T>(path);
    CHECK(loaded.model.name() == "tiny");
    CHECK(loaded.model.seed() == 42);
    CHECK(loaded.model.classes() == 3);
    CHECK(loaded.model.input_shape() == Shape{1, 8, 8});
    CHECK(loaded.version == kVersion);
    CHECK(loaded.recipe == io::Recipe{{"defense", "pgd"}, {"epsilon", "0.1"}, {"note", "a \"quoted\" \xC3\xA4"}});
    CHECK(nn::to_text(loaded.model.net().spec()) == nn::to_text(model.net().spec()));
    CHECK(equal_bits(logits(loaded.model), logits(model)));
    const auto a = std::as_const(model.parameters()).state();
    const auto b = std::as_const(loaded.model.parameters()).state();
    CHECK(equal_bits(std::vector<T>(a.begin(), a.end()), std::vector<T>(b.begin(), b.end())));
  };
  check(small_model<float>());
  check(small_model<double>());
  const auto file = io::read_safetensors(path);
  REQUIRE(file.find("layer1.0.shortcut.1.running_var") != nullptr);
  CHECK(file.find("conv1.weight")->shape == Shape{4, 1, 3, 3});
}

TEST_CASE("a model file that does not fit is refused, naming file and tensor") {
  const pavise_test::Scratch scratch;
  const std::string path = scratch / "m.safetensors";
  io::save_model(path, small_model<float>());
  const auto good = io::read_safetensors(path);
  using File = io::SafetensorsFile;
  const auto refused = [&](const std::function<void(File&)>& change, const std::string& part) {
    check_refused(path, good, change, part);
  };
  const auto architecture = [](std::string text) {
    return [text](File& f) { f.metadata["pavise.architecture"] = text; };
  };
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good.metadata.at("pavise.architecture");
    text.replace(text.find(from), from.size(), to);
    return architecture(text);
  };
  refused([](File& f) { f.tensors.erase(f.tensors.begin() + 2); }, "tensor conv1.weight (4,1,3,3) is missing");
  refused(
      [](File& f) {
        f.tensors[2].shape = Shape{4, 9};
      },
      "tensor conv1.weight has the shape (4,9), expected (4,1,3,3)");
  refused([](File& f) { f.tensors[2].dtype = io::Dtype::i32; }, "tensor conv1.weight is I32, expected F32");
  refused([](File& f) { f.tensors.push_back(File::Entry::of<float>("fc2.bias", Tensor<float>(Shape{3}))); },
          "tensor fc2.bias (3) belongs to no layer");
  refused([](File& f) { f.metadata.erase("pavise.architecture"); }, "the metadata has no pavise.architecture");
  refused([](File& f) { f.metadata.clear(); }, "the metadata has no pavise.");
  refused([](File& f) { f.metadata["pavise.classes"] = "10"; }, "the network gives (3), pavise.classes says (10)");
  refused([](File& f) { f.metadata["pavise.seed"] = "-1"; }, "pavise.seed is '-1'");
  for (const char* shape : {"", "()", "(1,8,8", "(1,8,,8)", "(1,-8,8)", "(1,8,99999999999999999999)",
                            "(1,8,4611686018427387904)", "(1,1,1,1,1,1,1)", "(1,8,8) ", "(0,8,8)"}) {
    refused([&](File& f) { f.metadata["pavise.input"] = shape; }, "pavise.input");
  }
  refused([](File& f) { f.metadata["pavise.input"] = "(3,8,8)"; }, "normalize expects (1,...), got (3,8,8)");
  refused([](File& f) { f.metadata["pavise.input"] = "(1,9,8)"; }, "fc: linear expects 54 inputs");
  refused(architecture("sequential{a"), "spec: character 12");
  refused(architecture("relu"), "expected sequential");
  refused(replaced("relu1:relu", "relu1:relx"), "layer relu1: there is no type 'relx'");
  refused(replaced("kernel=3", "kernel=x"), "layer conv1 (conv2d): option kernel is 'x'");
  refused(replaced("relu1", "conv1"), "two layers named conv1");
  // Sizes that would take all memory, if they were believed.
  refused(architecture("sequential{fc:linear(in=64,out=2147483648)}"), "the network gives (2147483648)");
  refused(architecture("sequential{a:linear(in=64,out=2147483648);fc:linear(in=2147483648,out=3)}"),
          "tensor a.weight (2147483648,64) is missing");
  refused(architecture("sequential{c:conv2d(in=1,out=2147483648,kernel=32767,padding=2147483647);g:global_avg_pool;"
                       "fc:linear(in=2147483648,out=3)}"),
          "tensor c.weight");
  // Few weights, and a pass that would take all memory.
  const std::string layers =
      "sequential{c:conv2d(in=1,out=2,kernel=1,padding=0);g:global_avg_pool;fc:linear(in=2,out=3)}";
  io::save_model(path, nn::Model("wide", nn::make_net<float>(nn::parse_spec(layers)), Shape{1, 8, 8}, 1));
  check_refused(
      path, io::read_safetensors(path),
      [&](File& f) {
        std::string& text = f.metadata["pavise.architecture"];
        text.replace(text.find("padding=0"), 9, "padding=3000");
      },
      "hold more than 33554432 values of one image");
}

TEST_CASE("a damaged model file is refused, or holds a model") {
  const pavise_test::Scratch scratch;
  const std::string path = scratch / "m.safetensors";
  io::save_model(path, small_model<float>(), {{"defense", "none"}});
  const auto good = io::read_file(path);
  RandomSequence random({.seed = 9, .purpose = Purpose::test});
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    auto bytes = good;
    if (i % 4 == 0) {
      bytes.resize(random.below(static_cast<std::uint32_t>(good.size())));
    } else {
      // Mostly in the header, where the structure is.
      const auto limit =
          static_cast<std::uint32_t>(i % 4 == 1 ? good.size() : std::min<std::size_t>(good.size(), 2500));
      for (int k = 0; k < 1 + i % 3; ++k) {
        bytes[random.below(limit)] = static_cast<std::uint8_t>(32 + random.below(96));
      }
    }
    io::write_atomically(path, std::span<const std::uint8_t>(bytes));
    try {
      const auto loaded = io::load_model(path);
      CHECK(loaded.model.classes() == 3);
    } catch (const IoError& error) {
      ++refused;
      if (std::string(error.what()).find(path) != 0) {
        FAIL_CHECK("the file is not named: " << error.what());
      }
    }
  }
  CHECK(refused > 1000);
  CHECK(refused < 2000);
}

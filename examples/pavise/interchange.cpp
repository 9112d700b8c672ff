// SPDX-License-Identifier: MIT
// What goes to and fro between Pavise and Python: `pavise import` makes a model of another's weights, `pavise logits`
// writes what a model answers as .npy, and `pavise attack --export` the images.
#include "interchange.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "pavise/autodiff/loss.hpp"
#include "pavise/core/lane_batch.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/data/npy.hpp"
#include "pavise/io/layout.hpp"
#include "pavise/nn/registry.hpp"
#include "pavise/report/png.hpp"

namespace pavise::program {
namespace {

namespace fs = std::filesystem;

/// Makes a directory for files that are to be written after long work.
void prepare_directory(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  require<IoError>(!error && fs::is_directory(path), path, ": the directory cannot be made: ", error.message());
}

std::string in(const std::string& directory, const std::string& name) { return (fs::path(directory) / name).string(); }

/// (N) labels for .npy.
Tensor<std::int32_t> label_tensor(const std::vector<std::int32_t>& labels) {
  Tensor<std::int32_t> out(Shape{static_cast<std::int64_t>(labels.size())});
  std::copy(labels.begin(), labels.end(), out.span().begin());
  return out;
}

struct ImportCommand {
  std::string layout;
  std::string in;
  std::string out;
  std::string label;
  std::string defense = "unknown";
  std::optional<std::string> mean;
  std::optional<std::string> deviation;
};

void run_import(const ImportCommand& o, const std::string& command) {
  const io::Layout& layout = io::find_layout(o.layout);
  io::ImportOptions options;
  require(o.mean.has_value() == o.deviation.has_value(), "--mean and --deviation go together");
  if (o.mean) {
    const bool none = *o.mean == "none" && *o.deviation == "none";
    options.mean = none ? std::vector<double>{} : parse_radii(*o.mean);
    options.deviation = none ? std::vector<double>{} : parse_radii(*o.deviation);
  }
  prepare_output(o.out);
  const nn::Model model = io::import_model(io::read_safetensors(o.in), o.in, layout, options);
  io::save_model(o.out, model,
                 {{"defense", o.defense},
                  {"label", o.label.empty() ? o.defense == "unknown" ? o.layout : o.defense : o.label},
                  {"imported", o.layout},
                  {"command", command}});
  std::printf("%s: %s for images of %s, %d classes, %lld parameters\n", o.out.c_str(), model.name().c_str(),
              model.input_shape().to_string().c_str(), model.classes(),
              static_cast<long long>(model.parameters().count()));
}

std::string layout_list() {
  std::string out = "Layouts for --layout, the model that each makes, and whose code it is:\n\n";
  for (const auto& layout : io::layouts()) {
    out += concat("  ", layout.name, std::string(17 - layout.name.size(), ' '), layout.model,
                  std::string(17 - layout.model.size(), ' '), layout.words, "\n");
  }
  return out;
}

struct LogitsCommand {
  std::string model_file;
  std::string images;
  std::string labels;
  std::string out;
  bool wide = false;
};

/// Labels of any of the integer types.
std::vector<std::int32_t> read_labels(const std::string& path, std::int64_t images, std::int32_t classes) {
  std::vector<std::int32_t> out;
  std::visit(
      [&](const auto& array) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(array.data())>>;
        require<IoError>(std::is_integral_v<T> && array.shape() == Shape{images}, path, ": expected ", images,
                         " labels of an integer type, got ", array.shape());
        for (const auto v : array.span()) {
          require<IoError>(v >= T{0} && static_cast<std::int64_t>(v) < classes, path, ": label ",
                           static_cast<std::int64_t>(v), ", expected 0 to ", classes - 1);
          out.push_back(static_cast<std::int32_t>(v));
        }
      },
      data::read_npy(path));
  return out;
}

/// Logits and, where labels are given, gradients of cross-entropy, in the precision of the model.
template <class T>
void write_answers(const nn::BasicModel<T>& model, const Tensor<float>& images, const std::vector<std::int32_t>& labels,
                   const std::string& directory) {
  const Shape& s = images.shape();
  LaneBatch<T> batch(model.input_shape(), s[0], 16);
  batch.pack([&](std::int64_t i, T* out) { std::copy(images.row(i).begin(), images.row(i).end(), out); });
  for (std::int64_t i = 0; i < s[0]; ++i) {
    batch.labels()[i] = labels.empty() ? 0 : labels[static_cast<std::size_t>(i)];
    batch.ids()[i] = static_cast<std::uint32_t>(i);
  }
  batch.repeat_last();
  Tensor<T> logits(Shape{s[0], std::int64_t{model.classes()}});
  Tensor<T> gradients(s);
  const auto unpack = [&](std::int64_t g, const T* lanes, Tensor<T>& out) {
    const std::int64_t size = out.size() / s[0];
    for (std::int64_t lane = 0; lane < batch.valid(g); ++lane) {
      for (std::int64_t e = 0; e < size; ++e) {
        out[(g * 16 + lane) * size + e] = lanes[e * 16 + lane];
      }
    }
  };
  parallel_for(batch.groups(), [&](std::int64_t g) {
    auto& tape = thread_tape<T>();
    tape.begin(16);
    tape.set_key({.seed = 0, .iteration = 0, .images = batch.ids(g)});
    const Var<T> x = tape.view(model.input_shape(), batch.values(g), !labels.empty());
    const Var<T> z = model(x);
    unpack(g, z.data(), logits);
    if (!labels.empty()) {
      const Var<T> loss = cross_entropy(z, batch.labels(g));
      if (tape.needs_gradient(loss)) {
        tape.backward(loss);
        if (const T* gradient = tape.input_gradient(x)) {
          unpack(g, gradient, gradients);
        }
      }
    }
  });
  data::write_npy(in(directory, "logits.npy"), logits);
  if (!labels.empty()) {
    data::write_npy(in(directory, "gradients.npy"), gradients);
  }
}

void run_logits(const LogitsCommand& o) {
  prepare_directory(o.out);
  const auto file = io::load_model(o.model_file);
  const Tensor<float> images = data::read_npy_as<float>(o.images);
  const Shape& s = images.shape();
  const Shape& expected = file.model.input_shape();
  require<ShapeError>(s.rank() == 4 && s[0] >= 1 && Shape{s[1], s[2], s[3]} == expected, o.images, ": images of ", s,
                      ", expected (N,C,H,W) with images of ", expected);
  const auto labels =
      o.labels.empty() ? std::vector<std::int32_t>{} : read_labels(o.labels, s[0], file.model.classes());
  if (o.wide) {
    write_answers(nn::clone<double>(file.model), images, labels, o.out);
  } else {
    write_answers(file.model, images, labels, o.out);
  }
  std::printf("%s: logits%s of %lld images\n", o.out.c_str(), labels.empty() ? "" : " and gradients",
              static_cast<long long>(s[0]));
}

}  // namespace

void prepare_export(const std::string& directory) { prepare_directory(directory); }

void export_images(const std::string& directory, const data::Dataset& clean, const attack::Result& result,
                   const std::vector<std::int32_t>& labels, std::int64_t pictures) {
  const Tensor<float> before = attack::to_tensor(clean);
  data::write_npy(in(directory, "clean.npy"), before);
  data::write_npy(in(directory, "adversarial.npy"), result.adversarial);
  data::write_npy(in(directory, "labels.npy"), label_tensor(labels));
  data::write_npy(in(directory, "predictions.npy"), label_tensor(result.prediction));
  const Shape& s = clean.image_shape();
  if (s[0] != 1 && s[0] != 3) {
    return;  // no picture has so many channels
  }
  for (std::int64_t i = 0; i < std::min(pictures, clean.size()); ++i) {
    for (const auto& [name, images] : {std::pair{"clean", &before}, {"adversarial", &result.adversarial}}) {
      report::Image picture{.width = s[2], .height = s[1], .channels = s[0], .pixels = {}};
      const auto row = images->row(i);
      for (std::int64_t at = 0; at < s[1] * s[2]; ++at) {
        for (std::int64_t c = 0; c < s[0]; ++c) {
          const float v = row[static_cast<std::size_t>(c * s[1] * s[2] + at)];
          picture.pixels.push_back(static_cast<std::uint8_t>(std::lround(std::clamp(v, 0.0f, 1.0f) * 255.0f)));
        }
      }
      char number[32];
      std::snprintf(number, sizeof number, "%05lld-", static_cast<long long>(clean.source_index(i)));
      io::write_atomically(in(directory, concat(number, name, ".png")), report::encode_png(picture));
    }
  }
}

void add_import(CLI::App& app, const std::string& command) {
  auto o = std::make_shared<ImportCommand>();
  auto* sub = app.add_subcommand("import",
                                 "Makes a model file of a PyTorch state dict, which safetensors.torch.save_file wrote");
  auto* layout = sub->add_option("--layout", o->layout, "Whose names the tensors have; --list shows all");
  auto* from = sub->add_option("--in", o->in, "The state dict, a safetensors file");
  auto* to = sub->add_option("--out", o->out, "The model file");
  sub->add_option("--label", o->label, "What the report calls this model (default: its defence, or the layout)");
  sub->add_option("--defense", o->defense, "How it was trained, as `pavise train --defense` names it")
      ->capture_default_str();
  sub->add_option("--mean", o->mean,
                  "Mean of the pixels that the network expects, one a channel, separated by commas, in place of the "
                  "layout's; none: it takes pixels as they are");
  sub->add_option("--deviation", o->deviation, "And their standard deviation");
  sub->add_flag_callback(
      "--list",
      [] {
        std::cout << layout_list();
        throw CLI::Success();
      },
      "List the layouts");
  for (auto* option : {layout, from, to}) {
    option->required();
  }
  sub->callback([o, command] { run_import(*o, command); });
}

void add_logits(CLI::App& app) {
  auto o = std::make_shared<LogitsCommand>();
  auto* sub = app.add_subcommand(
      "logits", "Writes a model's logits as .npy and, with labels, the gradients of cross-entropy by the pixels");
  sub->add_option("--model-file", o->model_file, "The model, as `pavise train` or `import` wrote it")->required();
  sub->add_option("--images", o->images, "Images (N,C,H,W) of float32 in a .npy file, pixels in [0,1]")->required();
  sub->add_option("--labels", o->labels, "Their labels (N), integers in a .npy file");
  sub->add_option("--out", o->out, "Directory for logits.npy (N,classes) and gradients.npy (N,C,H,W)")->required();
  sub->add_flag("--double", o->wide, "Compute in float64, and write that");
  sub->callback([o] { run_logits(*o); });
}

}  // namespace pavise::program

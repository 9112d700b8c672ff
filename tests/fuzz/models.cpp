// SPDX-License-Identifier: MIT
// Targets: model files and what they hold.
#include "pavise/nn/models.hpp"
#include "fuzz/target.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/io/model_file.hpp"

namespace pavise_fuzz {

namespace {

namespace io = pavise::io;
namespace nn = pavise::nn;
using pavise::Shape;

/// The logits of a grey image and their gradient, where that is little work: whatever a file says that a network is,
/// the kernels stay within their memory.
void run_once(const nn::Model& model) {
  std::int64_t values = 0;
  io::detail::check_activations(model.net(), values);
  if (values + model.input_shape().numel() > 4096 || model.parameters().count() > 4096) {
    return;
  }
  pavise::Tape<float> tape;
  tape.begin(1);
  auto x = tape.input(model.input_shape(), true);
  for (std::int64_t i = 0; i < x.size() * tape.lanes(); ++i) {
    x.data()[i] = 0.5F;
  }
  const std::vector<std::int32_t> labels(static_cast<std::size_t>(tape.lanes()), 0);
  tape.backward(pavise::cross_entropy(model(x), labels.data()));
}

void read_model(const Bytes& file) {
  const MemoryFile there(file);
  run_once(io::load_model(there.path()).model);
}

/// The first byte says how many channels the images have, of 6 x 5 pixels; the spec follows.
void read_spec(const Bytes& file) {
  const std::int64_t channels = file.empty() ? 1 : file[0] % 4;
  const nn::Spec spec = nn::parse_spec(text_of(file).substr(file.empty() ? 0 : 1));
  expect(nn::parse_spec(nn::to_text(spec)) == spec, "a spec does not come back");
  auto net = nn::make_net<float>(spec);
  const Shape input{channels, 6, 5};
  pavise::ParameterStore<float> store;  // names and shapes alone
  net->build(input, store, "");
  std::int64_t values = 0;
  io::detail::check_activations(*net, values);
  std::int64_t parameters = 0;
  for (const auto& p : store.parameters()) {
    const std::int64_t n = p.shape().numel();
    if (n > 4096 - parameters) {
      return;
    }
    parameters += n;
  }
  run_once({"fuzz", nn::make_net<float>(spec), input, 0});
}

nn::Model small_model() {
  const auto spec = nn::parse_spec(
      "sequential{norm:normalize(mean=0.5,std=0.25);conv:conv2d(in=1,out=3,kernel=3,stride=2,padding=1);bn:batch_"
      "norm2d("
      "channels=3);relu:relu;pool:global_avg_pool;fc:linear(in=3,out=4)}");
  return {"fuzz", nn::make_net<float>(spec), Shape{1, 6, 5}, 7};
}

std::vector<Bytes> models() {
  const auto mlp = nn::mlp({.seed = 3, .input = Shape{1, 2, 2}, .classes = 2, .hidden = {3}});
  return {saved([&](const std::string& path) {
            io::save_model(path, mlp, {{"defense", "none"}});
          }),
          saved([](const std::string& path) { io::save_model(path, small_model()); })};
}

std::vector<Bytes> specs() {
  std::vector<Bytes> out = {bytes_of("\x01" + nn::to_text(small_model().net().spec()))};
  for (const char* layers :
       {"a:max_pool2d(kernel=3,stride=2,padding=1);b:avg_pool2d(kernel=2,include_padding=0);c:flatten",
        "a:conv_transpose2d(in=3,out=2,kernel=2,stride=2,groups=1,output_padding=1);b:global_max_pool",
        "a:basic_block(in=3,out=4,stride=2);b:preact_block(in=4,out=4);c:group_norm(groups=2,channels=4);d:flatten",
        "a:dropout(rate=0.5);b:leaky_relu(slope=0.1);c:elu;d:gelu;e:silu;f:tanh;g:sigmoid;h:softplus;i:layer_norm;"
        "j:sequential{k:flatten};l:temperature(temperature=10)"}) {
    out.push_back(bytes_of(pavise::concat("\x03sequential{", layers, "}")));
  }
  return out;
}

std::vector<Target> targets() {
  return {
      {"safetensors", 64, kMiB, [](const Bytes& file) { io::parse_safetensors(file, "fuzz"); }, models},
      // A network that is run has at most 4,096 values and parameters; its tape begins with 1 MiB.
      {"model-file", 64, 16 * kMiB, read_model, models},
      {"spec", 64, 16 * kMiB, read_spec, specs},
  };
}

[[maybe_unused]] const Targets kTargets(targets);

}  // namespace

}  // namespace pavise_fuzz

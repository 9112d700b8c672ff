// SPDX-License-Identifier: MIT
// The loop of a training run and its checkpoints. Users call Trainer (trainer.hpp).
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pavise/core/communicator.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/data/loader.hpp"
#include "pavise/defend/batch.hpp"
#include "pavise/defend/checkpoint.hpp"
#include "pavise/defend/history.hpp"
#include "pavise/defend/strategy.hpp"
#include "pavise/defend/train_options.hpp"
#include "pavise/nn/model.hpp"
#include "pavise/optim/average.hpp"
#include "pavise/optim/optimizer.hpp"

namespace pavise::defend::detail {

class TrainingRun : public Inspection {
 public:
  TrainingRun(nn::Model& model, const data::Dataset& train, const data::Dataset& validation, Strategy& strategy,
              const TrainOptions& options)
      : model_(model),
        store_(model.parameters()),
        train_(train),
        validation_(validation),
        strategy_(strategy),
        options_(options),
        loader_{.dataset = train,
                .batch_size = std::min(options.batch_size, std::max<std::int64_t>(train.size(), 1)),
                .seed = options.seed} {
    require(train.size() >= 1, "trainer: the training set ", train.name(), " is empty");
    for (const auto* set : {&train, &validation}) {
      require<ShapeError>(set->size() == 0 || set->image_shape() == model.input_shape(), "trainer: model ",
                          model.name(), " expects images of ", model.input_shape(), ", data set ", set->name(), " has ",
                          set->image_shape());
      require(set->classes() <= model.classes(), "trainer: model ", model.name(), " has ", model.classes(),
              " classes, data set ", set->name(), " has ", set->classes());
    }
    batches_ = (train.size() + loader_.batch_size - 1) / loader_.batch_size;
    updates_ = options.epochs * batches_ * strategy.replays();
    require(updates_ < kMeasuring, "trainer: ", updates_, " updates, expected less than ", kMeasuring);
    rate_ = options.rates(updates_);
    if (options.accelerate) {
      device_ = options.accelerate(model_, loader_.batch_size);
      require(strategy.runs_on_device(), strategy.name(), ": this training does not run on ", device_->device(),
              " (the library's own do; see Strategy::runs_on_device)");
      const auto processes = options.team != nullptr ? options.team->size() : 1;
      require(processes == device_->processes(), "trainer: ", processes, " processes, and ", device_->device(),
              " was set up to share minibatches with ", device_->processes(), " (device::training takes its peers)");
    }
    if (!options.checkpoint.empty()) {
      configuration_ = configuration(updates_);
    }
    optimizer_ = optim::make_optimizer(options.optimizer, store_, options.optimizer_options);
    if (options.average_decay > 0) {
      average_ = std::make_unique<optim::WeightAverage<float>>(store_, options.average_decay);
    }
    if (device_ != nullptr) {
      device_->take_updates(*optimizer_);
    }
    strategy_.begin(model_, loader_.batch_size);
    history_.parameters = store_.count();
  }

  /// Trains to the end, from the beginning or from a checkpoint.
  History finish() {
    if (!options_.checkpoint.empty() && options_.resume && first_says(io::is_file(options_.checkpoint))) {
      load();
      report_progress(0);
    }
    for (; epoch_ < options_.epochs; ++epoch_) {
      run_epoch();
    }
    static_cast<void>(store_.state());  // a device that has the weights gives them back, or throws
    if (average_ != nullptr) {
      average_->swap();
    }
    history_.updates = update_;
    history_.forward_passes = passes_.forward;
    history_.backward_passes = passes_.backward;
    return std::move(history_);
  }

  const nn::Model& model() const override { return model_; }
  std::int64_t epoch() const override { return epoch_; }
  std::int64_t update() const override { return update_; }
  bool end_of_epoch() const override { return batch_ == batches_; }
  std::uint64_t seed() const override { return options_.seed; }
  attack::Passes& passes() override { return passes_; }
  const LaneBatch<float>& first_batch() override {
    if (first_.images() == 0) {
      pack_batch(train_, loader_.epoch(0).batch(0), {}, first_);
    }
    return first_;
  }
  Snapshot snapshot() const override {
    Snapshot out;
    const auto add = [&](std::span<const float> values) {
      out.values.insert(out.values.end(), values.begin(), values.end());
    };
    add(store_.state());
    for (const auto& part : optimizer_->state()) {
      add(part.values);
    }
    if (average_ != nullptr) {
      add(average_->values());
    }
    out.optimizer_steps = optimizer_->steps();
    return out;
  }
  void restore(const Snapshot& snapshot) override {
    const std::size_t size = this->snapshot().values.size();
    require(snapshot.values.size() == size, "trainer: a snapshot of ", snapshot.values.size(), " values, expected ",
            size);
    const float* from = snapshot.values.data();
    const auto take = [&](std::span<float> values) {
      std::copy_n(from, values.size(), values.begin());
      from += values.size();
    };
    take(store_.edit_state());
    for (const auto& part : optimizer_->state()) {
      take(part.values);
    }
    if (average_ != nullptr) {
      take(average_->values());
    }
    optimizer_->set_steps(snapshot.optimizer_steps);
  }
  void event(std::string text) override { events_.push_back(std::move(text)); }

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  void run_epoch() {
    const data::Epoch order = loader_.epoch(epoch_);
    clock_ = now();
    while (batch_ < batches_) {
      const auto positions = order.batch(batch_);
      run_batch(positions);
      ++batch_;
      report_progress(static_cast<std::int64_t>(positions.size()));
      strategy_.inspect(*this);
      const std::int64_t interval = options_.checkpoint_interval;
      if (interval > 0 && update_ - saved_at_ >= interval && batch_ < batches_) {
        save();
      }
    }
    finish_epoch();
  }

  void run_batch(std::span<const std::int64_t> batch) {
    const auto images = static_cast<std::int64_t>(batch.size());
    const auto [before, behind] = own_images(images);
    if (before < behind) {
      pack_batch(train_, batch.subspan(static_cast<std::size_t>(before), static_cast<std::size_t>(behind - before)),
                 {.augmentation = options_.augmentation,
                  .gaussian_sigma = options_.gaussian_sigma,
                  .seed = options_.seed,
                  .epoch = epoch_},
                 clean_);
    } else {
      clean_.resize(train_.image_shape(), 0, kernels::kLanes);
    }
    adversarial_.resize(static_cast<std::size_t>(clean_.groups() * clean_.size() * kernels::kLanes) + 16);
    Step step{.model = model_,
              .tape = tape_,
              .clean = clean_,
              .adversarial = adversarial_,
              .passes = own_passes_,
              .totals = totals_,
              .seeds = seeds_,
              .predictions = predictions_,
              .seed = options_.seed,
              .epoch = epoch_,
              .updates = updates_,
              .label_smoothing = options_.label_smoothing,
              .team = options_.team,
              .images_of_all = images,
              .images_before = before,
              .block = block(),
              .device = device_.get()};
    for (std::int64_t replay = 0; replay < strategy_.replays(); ++replay) {
      step.update = update_;
      strategy_.craft(step);
      store_.zero_gradients();
      strategy_.accumulate(step);
      require(std::isfinite(totals_.loss), "trainer: the loss is no longer a finite number at update ", update_,
              " (epoch ", epoch_ + 1, ", batch ", batch_ + 1, "); a smaller learning rate or a clip norm may help");
      if (options_.clip_norm > 0) {
        optim::clip_gradient_norm(store_, options_.clip_norm);
      }
      last_rate_ = rate_(update_);
      optimizer_->step(last_rate_);
      strategy_.after_update(step);
      if (average_ != nullptr) {
        average_->update();
      }
      ++update_;
    }
    std::int64_t passes[] = {own_passes_.forward.exchange(0), own_passes_.backward.exchange(0)};
    add_up_all(passes);
    passes_.forward += passes[0];
    passes_.backward += passes[1];
  }

  /// Images that a share of a minibatch is a multiple of: those of a group, or what a device asks for.
  std::int64_t block() const { return device_ != nullptr ? device_->block() : kernels::kLanes; }

  /// The images [begin, end) of a minibatch that are this process's: whole blocks.
  std::pair<std::int64_t, std::int64_t> own_images(std::int64_t images) const {
    if (options_.team == nullptr) {
      return {0, images};
    }
    return share_of(images, options_.team->rank(), options_.team->size(), block());
  }

  /// Makes each of `values` the sum of all processes'.
  void add_up_all(std::span<std::int64_t> values) const {
    if (options_.team != nullptr) {
      add_up(*options_.team, values);
    }
  }

  /// What the first rank's files say counts.
  bool first_says(bool own) const {
    if (options_.team != nullptr) {
      broadcast(*options_.team, std::span(&own, 1), 0);
    }
    return own;
  }

  /// The validation set's accuracy, of which each process measures its share.
  Count validate(const attack::Attack* attack) const {
    const attack::Seed seed{.seed = options_.seed, .iteration = kMeasuring};
    if (options_.team == nullptr) {
      return accuracy(model_, validation_, attack, seed);
    }
    const auto [begin, end] = share_of(validation_.size(), options_.team->rank(), options_.team->size());
    std::vector<std::int64_t> own;
    for (std::int64_t i = begin; i < end; ++i) {
      own.push_back(i);
    }
    const Count count = accuracy(model_, validation_.subset(own), attack, seed);
    std::int64_t counts[] = {count.correct, count.total};
    add_up_all(counts);
    return {.correct = counts[0], .total = counts[1]};
  }

  void finish_epoch() {
    EpochRecord record;
    record.epoch = epoch_;
    record.loss = totals_.loss / static_cast<double>(totals_.images);
    record.clean = totals_.clean;
    record.adversarial = totals_.adversarial;
    record.learning_rate = last_rate_;
    record.seconds = seconds_ + now() - clock_;
    record.images_per_second = static_cast<double>(train_.size()) / std::max(record.seconds, 1e-9);
    if (validation_.size() > 0) {
      std::unique_ptr<optim::AverageScope<float>> averaged;
      if (average_ != nullptr) {
        averaged = std::make_unique<optim::AverageScope<float>>(*average_);
      }
      record.validation = validate(nullptr);
      if (options_.validation_attack) {
        record.validation_adversarial = validate(&*options_.validation_attack);
      }
    }
    record.events = std::move(events_);
    history_.epochs.push_back(std::move(record));
    events_.clear();
    totals_ = {};
    seconds_ = 0;
    batch_ = 0;
    if (!options_.checkpoint.empty()) {
      ++epoch_;
      save();
      --epoch_;
    }
  }

  std::int64_t done_of_epoch(std::int64_t batches) const {
    return std::min(batches * loader_.batch_size, train_.size());
  }

  void report_progress(std::int64_t images) {
    if (!options_.progress) {
      return;
    }
    const Count& count = totals_.adversarial.total > 0 ? totals_.adversarial : totals_.clean;
    const std::string name = strategy_.name();
    options_.progress({.name = name,
                       .epoch = epoch_,
                       .epochs = options_.epochs,
                       .batch = batch_,
                       .batches = batches_,
                       .images = images,
                       .images_done = done_of_epoch(batch_),
                       .images_of_epoch = train_.size(),
                       .loss = totals_.images > 0 ? totals_.loss / static_cast<double>(totals_.images) : 0.0,
                       .accuracy = count.total > 0 ? count.share() : 0.0,
                       .learning_rate = last_rate_});
  }

  /// Everything that decides the outcome, a line each: a checkpoint of a run with other lines is refused.
  std::string configuration(std::int64_t updates) const {
    std::string out;
    const auto line = [&](const auto&... pieces) { out += concat(pieces..., "\n"); };
    for (const auto& recipe : {strategy_.recipe(), options_.recipe()}) {
      for (const auto& [key, value] : recipe) {
        line(key, ": ", value);
      }
    }
    for (std::int64_t i = 0; i <= 8; ++i) {
      line("rate at ", i, "/8 of the updates: ", rate_(i * (updates - 1) / 8));
    }
    line("model: ", model_.name(), " for ", model_.input_shape());
    if (device_ != nullptr) {
      line("device: ", device_->device().substr(0, device_->device().find(':')));
      if (device_->arithmetic() != "exact") {
        line("arithmetic: ", device_->arithmetic());
      }
    }
    for (const auto& p : store_.parameters()) {
      line(p.name(), ": ", p.shape());
    }
    const auto bytes = [](const auto* data, std::size_t n) {
      return std::span(reinterpret_cast<const std::uint8_t*>(data), n * sizeof *data);
    };
    line("initial weights: CRC ", checksum(bytes(store_.state().data(), store_.state().size())));
    const auto set = [&](const char* what, const data::Dataset& s) {
      std::vector<std::uint32_t> sums(static_cast<std::size_t>(s.size()));
      parallel_chunks(s.size(), 256, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          sums[static_cast<std::size_t>(i)] = checksum({s.pixels(i), static_cast<std::size_t>(s.image_size())}) ^
                                              static_cast<std::uint32_t>(s.source_index(i) * 2654435761u);
        }
      });
      line(what, ": ", s.name(), ", ", s.size(), " images, CRC ", checksum(bytes(sums.data(), sums.size())),
           ", labels ", checksum(bytes(s.labels().data(), s.labels().size())));
    };
    set("training set", train_);
    if (validation_.size() > 0) {
      set("validation set", validation_);
      line("validation attack: ",
           options_.validation_attack ? options_.validation_attack->name() : std::string("none"));
    }
    return out;
  }

  void save() {
    saved_at_ = update_;
    if (options_.checkpoint.empty() || (options_.team != nullptr && !options_.team->first())) {
      return;
    }
    StateWriter out;
    out.put("configuration", std::string_view(configuration_));
    out.put("epoch", epoch_);
    out.put("batch", batch_);
    out.put("update", update_);
    const Snapshot state = snapshot();
    put_snapshot(out, "state", state);
    out.put("loss", totals_.loss);
    out.put("images", totals_.images);
    put_count(out, totals_.clean);
    put_count(out, totals_.adversarial);
    out.put("rate", last_rate_);
    out.put("seconds", seconds_ + (batch_ > 0 ? now() - clock_ : 0.0));
    put_events(out, events_);
    out.put("forward", passes_.forward.load());
    out.put("backward", passes_.backward.load());
    out.put("epochs", static_cast<std::uint64_t>(history_.epochs.size()));
    for (const auto& e : history_.epochs) {
      out.put("epoch", e.epoch);
      const double numbers[] = {e.loss, e.learning_rate, e.seconds, e.images_per_second};
      out.put("numbers", std::span<const double>(numbers));
      for (const auto* count : {&e.clean, &e.adversarial, &e.validation, &e.validation_adversarial}) {
        put_count(out, *count);
      }
      put_events(out, e.events);
    }
    strategy_.save(out);
    write_checkpoint(options_.checkpoint, out.bytes());
  }

  /// The checkpoint as the first rank reads it.
  std::vector<std::uint8_t> read() const {
    if (options_.team == nullptr) {
      return read_checkpoint(options_.checkpoint);
    }
    const auto own = options_.team->first() ? read_checkpoint(options_.checkpoint) : std::vector<std::uint8_t>{};
    return gather(*options_.team, std::span<const std::uint8_t>(own));
  }

  void load() {
    const auto bytes = read();
    StateReader in(options_.checkpoint, bytes);
    const std::string stored = in.text("configuration");
    require<IoError>(stored == configuration_, options_.checkpoint,
                     ": the checkpoint is of another run: ", first_difference(stored, configuration_),
                     "; remove it, or set resume to false, to begin anew");
    epoch_ = in.get<std::int64_t>("epoch");
    batch_ = in.get<std::int64_t>("batch");
    update_ = in.get<std::int64_t>("update");
    const bool within = epoch_ >= 0 && epoch_ <= options_.epochs && batch_ >= 0 && batch_ <= batches_ && update_ >= 0 &&
                        update_ <= updates_;
    require<IoError>(within, options_.checkpoint, ": the checkpoint stands at epoch ", epoch_, ", batch ", batch_,
                     ", update ", update_, ", the run has ", options_.epochs, " epochs of ", batches_, " batches, ",
                     updates_, " updates");
    const Snapshot state = get_snapshot(in, "state");
    totals_.loss = in.get<double>("loss");
    totals_.images = in.get<std::int64_t>("images");
    totals_.clean = get_count(in);
    totals_.adversarial = get_count(in);
    last_rate_ = in.get<double>("rate");
    seconds_ = in.get<double>("seconds");
    events_ = get_events(in);
    passes_.forward = in.get<std::int64_t>("forward");
    passes_.backward = in.get<std::int64_t>("backward");
    const auto epochs = in.get<std::uint64_t>("epochs");
    for (std::uint64_t i = 0; i < epochs; ++i) {
      EpochRecord e;
      e.epoch = in.get<std::int64_t>("epoch");
      double numbers[4];
      in.read("numbers", std::span<double>(numbers));
      e.loss = numbers[0];
      e.learning_rate = numbers[1];
      e.seconds = numbers[2];
      e.images_per_second = numbers[3];
      for (auto* count : {&e.clean, &e.adversarial, &e.validation, &e.validation_adversarial}) {
        *count = get_count(in);
      }
      e.events = get_events(in);
      history_.epochs.push_back(std::move(e));
    }
    strategy_.load(in);
    in.expect_end();
    restore(state);
    history_.resumed_at = update_;
    saved_at_ = update_;
  }

  static void put_count(StateWriter& out, const Count& count) {
    const std::int64_t values[] = {count.correct, count.total};
    out.put("count", std::span<const std::int64_t>(values));
  }
  static Count get_count(StateReader& in) {
    std::int64_t values[2];
    in.read("count", std::span<std::int64_t>(values));
    return {.correct = values[0], .total = values[1]};
  }
  static void put_events(StateWriter& out, const std::vector<std::string>& events) {
    out.put("events", static_cast<std::uint64_t>(events.size()));
    for (const auto& event : events) {
      out.put("event", std::string_view(event));
    }
  }
  static std::vector<std::string> get_events(StateReader& in) {
    std::vector<std::string> out;
    const auto n = in.get<std::uint64_t>("events");
    for (std::uint64_t i = 0; i < n; ++i) {
      out.push_back(in.text("event"));
    }
    return out;
  }

  nn::Model& model_;
  ParameterStore<float>& store_;
  const data::Dataset& train_;
  const data::Dataset& validation_;
  Strategy& strategy_;
  const TrainOptions& options_;
  data::Loader loader_;
  std::function<double(std::int64_t)> rate_;
  std::string configuration_;
  std::unique_ptr<optim::Optimizer<float>> optimizer_;
  std::unique_ptr<optim::WeightAverage<float>> average_;
  std::unique_ptr<attack::Accelerator> device_;  ///< goes before the optimizer

  Tape<float> tape_;
  LaneBatch<float> clean_;
  LaneBatch<float> first_;
  AlignedVector<float> adversarial_;
  AlignedVector<float> seeds_;
  std::vector<std::int32_t> predictions_;
  attack::Passes passes_;      ///< of all processes
  attack::Passes own_passes_;  ///< of this one in the current minibatch

  std::int64_t batches_ = 0;
  std::int64_t updates_ = 0;
  std::int64_t epoch_ = 0;
  std::int64_t batch_ = 0;
  std::int64_t update_ = 0;
  std::int64_t saved_at_ = 0;
  Totals totals_;
  std::vector<std::string> events_;
  History history_;
  double last_rate_ = 0;
  double seconds_ = 0;  ///< of this epoch, before the run was resumed
  double clock_ = 0;
};

}  // namespace pavise::defend::detail

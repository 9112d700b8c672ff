// SPDX-License-Identifier: MIT
// Records as the program writes them, made up: three models, trained and attacked twice each.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pavise_test {

using Json = nlohmann::json;

inline Json count(std::int64_t correct, std::int64_t total) { return {{"correct", correct}, {"total", total}}; }

inline Json origin(const std::string& label, const std::string& defense) {
  return {{"version", "0.1.0"},
          {"build", {{"compiler", "g++ 12.2"}, {"isa", "avx2"}, {"threads", 2}, {"openmp", true}}},
          {"seed", 7},
          {"data", "fashion-mnist"},
          {"data_note", ""},
          {"model", "small-cnn"},
          {"model_file", "runs/" + defense + ".safetensors"},
          {"defense", defense},
          {"label", label}};
}

inline Json training_record(int model, const std::string& label, const std::string& defense) {
  Json out = origin(label, defense);
  out["kind"] = "training";
  out["command"] = "pavise train --data fashion-mnist --model small-cnn --defense " + defense +
                   " --eps 0.1 --epochs 5 --seed 7 --out runs/" + defense + ".safetensors";
  out["parameters"] = 165514;
  out["recipe"] = {{"epochs", 5}, {"batch_size", 128}, {"learning_rate", 0.1}, {"epsilon", 0.1}};
  out["date"] = "2026-01-01T10:0" + std::to_string(model) + ":00Z";
  out["seconds"] = 12.5 + 20 * model;
  for (int e = 1; e <= 5; ++e) {
    const double gain = 1 - std::exp(-0.6 * e);
    Json epoch = {{"epoch", e},
                  {"loss", 0.3 + 0.3 * model + 0.5 * std::exp(-0.7 * e)},
                  {"accuracy", count(std::lround(60000 * (0.70 + (0.23 - 0.05 * model) * gain)), 60000)},
                  {"adversarial_accuracy", nullptr},
                  {"learning_rate", 0.1},
                  {"seconds", 2.5},
                  {"images_per_second", 24000},
                  {"events", Json::array()}};
    if (model > 0) {
      epoch["adversarial_accuracy"] = count(std::lround(60000 * (0.40 + (0.20 + 0.05 * model) * gain)), 60000);
    }
    if (model == 1 && e == 4) {
      epoch["events"].push_back("catastrophic overfitting: rolled back to epoch 3");
    }
    out["history"].push_back(epoch);
  }
  return out;
}

/// A picture of 28 x 28: a bar, a cross or a ring on a dark ground.
inline std::vector<int> drawing(int kind) {
  std::vector<int> out;
  for (int y = 0; y < 28; ++y) {
    for (int x = 0; x < 28; ++x) {
      const double r = std::hypot(x - 13.5, y - 13.5);
      const bool on = kind % 3 == 0   ? x > 9 && x < 18 && y > 3 && y < 25
                      : kind % 3 == 1 ? std::abs(x - y) < 4 || std::abs(x + y - 27) < 4
                                      : r > 6 && r < 11;
      out.push_back(on ? 200 - 3 * (x % 7) - 2 * y : 4);
    }
  }
  return out;
}

/// Three images under attacks of growing radius; the second falls at 0.1, the third was wrong from the start.
inline Json sweep(const std::vector<double>& radii) {
  Json out = {{"shape", {1, 28, 28}}, {"images", Json::array()}, {"steps", Json::array()}};
  for (int k = 0; k < 3; ++k) {
    out["images"].push_back({{"index", k}, {"label", k}});
  }
  for (const double radius : radii) {
    Json step = {{"epsilon", radius}, {"images", Json::array()}};
    for (int k = 0; k < 3; ++k) {
      auto pixels = drawing(k);
      for (std::size_t i = 0; i < pixels.size(); ++i) {
        const int change = static_cast<int>(std::lround(255 * radius)) * (i % 3 == 0 ? 1 : -1);
        pixels[i] = std::clamp(pixels[i] + change, 0, 255);
      }
      const bool fooled = k == 2 || (k == 1 && radius >= 0.1);
      step["images"].push_back(
          {{"prediction", fooled ? k + 3 : k}, {"confidence", 0.9 - radius}, {"fooled", fooled}, {"pixels", pixels}});
    }
    out["steps"].push_back(std::move(step));
  }
  return out;
}

inline Json attack_record(int model, const std::string& label, const std::string& defense, const std::string& attack,
                          std::int64_t clean, std::int64_t robust) {
  Json out = origin(label, defense);
  out["kind"] = "attack";
  out["command"] = "pavise attack --model-file runs/" + defense + ".safetensors --data fashion-mnist --attack " +
                   attack + (attack == "pgd" ? " --steps 50 --restarts 10" : "") +
                   " --eps 0.1 --count 1000 --json runs/" + defense + "-" + attack + ".json";
  out["attack"] = attack;
  out["norm"] = "linf";
  out["epsilon"] = 0.1;
  out["recipe"] = attack == "pgd" ? Json{{"steps", 50}, {"restarts", 10}, {"step_size", 0.01}} : Json::object();
  out["count"] = 1000;
  out["clean"] = count(clean, 1000);
  out["robust"] = count(robust, 1000);
  out["passes"] = {{"forward", attack == "pgd" ? 511000 : 2000}, {"backward", attack == "pgd" ? 500000 : 1000}};
  out["passes_at_epsilon"] = {{"forward", attack == "pgd" ? 101000 : 2000},
                              {"backward", attack == "pgd" ? 100000 : 1000}};
  out["seconds"] = attack == "pgd" ? 14.2 : 0.11;
  out["images_per_second"] = 70.4;
  out["date"] = "2026-01-01T10:1" + std::to_string(model) + ":00Z";
  out["class_names"] = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                        "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
  if (attack != "pgd") {
    return out;
  }
  for (int i = 0; i <= 8; ++i) {
    const double e = 0.025 * i;
    const double slope = static_cast<double>(clean - robust) / 0.1;
    const double left = static_cast<double>(clean) - slope * e;
    out["curve"].push_back(
        {{"epsilon", e}, {"correct", std::clamp<std::int64_t>(std::llround(left), 0, 1000)}, {"total", 1000}});
  }
  out["sweep"] = sweep({0, 0.05, 0.1, 0.2});
  out["gallery"]["shape"] = {1, 28, 28};
  for (int k = 0; k < 6; ++k) {
    const auto clean_pixels = drawing(k);
    std::vector<double> adversarial;
    for (std::size_t i = 0; i < clean_pixels.size(); ++i) {
      const bool up = (i / 3 + i / 28 * 5 + static_cast<std::size_t>(k)) % 5 < 2;
      adversarial.push_back(std::clamp(clean_pixels[i] + (up ? 25.5 : -25.5), 0.0, 255.0));
    }
    const int fooled = model == 0 || k % 3 == model ? (k + 3) % 10 : k;
    out["gallery"]["items"].push_back({{"index", 17 + 31 * k},
                                       {"label", k},
                                       {"clean_prediction", k},
                                       {"adversarial_prediction", fooled},
                                       {"clean_confidence", 0.98 - 0.06 * k},
                                       {"adversarial_confidence", 0.71 + 0.02 * k},
                                       {"clean", clean_pixels},
                                       {"adversarial", adversarial}});
  }
  return out;
}

/// The adversarially trained model under a suite of four attacks: of 1000 images 634 stand.
inline Json evaluation_record(const std::string& verdict = "reliable") {
  constexpr int kTotal = 1000;
  Json out = attack_record(2, "PGD-7", "pgd", "auto", 827, 600);
  out["kind"] = "evaluation";
  Json e = {{"suite", "auto"},
            {"verdict", verdict},
            {"reason", "all signs are as they should be"},
            {"total", kTotal},
            {"notes", {"square is added: no evaluation relies on gradients alone"}},
            {"attacks", Json::array()},
            {"matrix", Json::array()},
            {"images", Json::array()}};
  const std::vector<std::string> names = {"apgd-ce", "apgd-t", "fab-t", "square"};
  const std::vector<int> broken = {190, 30, 6, 1};
  std::vector<std::string> matrix(names.size(), std::string(kTotal, '.'));
  std::vector<int> by(kTotal, -1);
  int next = 0;
  const auto place = [&next] { return (next++ * 7) % kTotal; };  // 7 and 1000 share no factor
  for (int i = 0; i < kTotal - 827; ++i) {
    by[static_cast<std::size_t>(place())] = -2;
  }
  for (std::size_t a = 0; a < names.size(); ++a) {
    for (int i = 0; i < broken[a]; ++i) {
      by[static_cast<std::size_t>(place())] = static_cast<int>(a);
    }
  }
  int standing = 827;
  for (std::size_t a = 0; a < names.size(); ++a) {
    for (std::size_t i = 0; i < kTotal; ++i) {
      matrix[a][i] = by[i] == static_cast<int>(a) ? 'x' : by[i] == -1 || by[i] > static_cast<int>(a) ? 'o' : '.';
    }
    e["attacks"].push_back({{"name", names[a]},
                            {"settings", "100 steps"},
                            {"access", a == 3 ? "outputs" : "gradients"},
                            {"tried", standing},
                            {"broken", broken[a]},
                            {"first", broken[a]},
                            {"standing", standing - broken[a]},
                            {"forward", standing * 101},
                            {"backward", a == 3 ? 0 : standing * 100},
                            {"seconds", 3.5}});
    standing -= broken[a];
    e["matrix"].push_back(matrix[a]);
  }
  for (int i = 0; i < kTotal; ++i) {
    e["images"].push_back({{"broken_by", by[static_cast<std::size_t>(i)]}});
  }
  e["checks"] = {{{"name", "epsilon 0"}, {"passed", true}, {"detail", "the attack changes nothing"}}};
  e["signs"] = {{{"name", "zero gradients"},
                 {"value", 0.0},
                 {"threshold", 0.1},
                 {"at_most", true},
                 {"images", 100},
                 {"state", "passed"},
                 {"sentence", "share of images whose gradient is exactly zero"}},
                {{"name", "unbounded epsilon"},
                 {"value", verdict == "unreliable" ? 0.41 : 0.0},
                 {"threshold", 0.0},
                 {"at_most", true},
                 {"images", 100},
                 {"state", verdict == "unreliable" ? "failed" : "passed"},
                 {"sentence", "accuracy that is left when every pixel may become anything"}},
                {{"name", "variance under EOT"},
                 {"value", nullptr},
                 {"threshold", 0.5},
                 {"at_most", true},
                 {"images", 0},
                 {"state", "not applicable"},
                 {"sentence", "the defence draws no random numbers"}}};
  for (int i = 0; i <= 6; ++i) {
    e["curve"].push_back({{"epsilon", 0.05 * i}, {"correct", 83 - 13 * i + i * i / 6}, {"total", 100}});
  }
  out["evaluation"] = std::move(e);
  return out;
}

inline std::vector<Json> sample_records() {
  return {training_record(0, "Plain", "none"),
          training_record(1, "FGSM-RS", "fgsm-rs"),
          training_record(2, "PGD-7", "pgd"),
          attack_record(0, "Plain", "none", "fgsm", 913, 72),
          attack_record(0, "Plain", "none", "pgd", 913, 2),
          attack_record(1, "FGSM-RS", "fgsm-rs", "fgsm", 846, 651),
          attack_record(1, "FGSM-RS", "fgsm-rs", "pgd", 846, 583),
          attack_record(2, "PGD-7", "pgd", "fgsm", 827, 668),
          attack_record(2, "PGD-7", "pgd", "pgd", 827, 634)};
}

}  // namespace pavise_test

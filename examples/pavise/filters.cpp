// SPDX-License-Identifier: MIT
// `pavise filters`: what filters in front of a model are worth, and what they make of images.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "pavise/defend/filter/apply.hpp"
#include "pavise/evaluate/filters.hpp"
#include "subject.hpp"

namespace pavise::program {
namespace {

struct FiltersOptions : Subject {
  evaluate::FilterOptions show;
};

/// Filters that the literature names for images of this shape.
std::vector<std::string> usual_filters(const Shape& image) {
  const bool colour = image[0] == 3;
  std::vector<std::string> out{"bit-depth:3",
                               "bit-depth:5",
                               "median:2",
                               "median:3",
                               "gaussian-blur:1",
                               "bilateral:5-0.1-2",
                               colour ? "nlm:13-3-2" : "nlm:11-3-4",
                               "jpeg:75",
                               "jpeg:30",
                               "tv:0.03-0.5-50",
                               "gaussian-noise:0.1",
                               "uniform-noise:0.1"};
  if (image[1] >= 8) {
    out.push_back(concat("resize-pad:", image[1] - image[1] / 7));
  }
  return out;
}

/// The first images, and each of them behind every filter that keeps their shape, as bytes.
nlohmann::json shown(const data::Dataset& set, const std::vector<defend::FilterList<float>>& rows, std::int64_t count,
                     std::uint64_t seed) {
  const auto images = attack::to_tensor(set.first(count));
  const Shape s = set.image_shape();
  nlohmann::json items = nlohmann::json::array();
  for (std::int64_t i = 0; i < images.shape()[0]; ++i) {
    items.push_back({{"index", set.source_index(i)},
                     {"label", set.label(i)},
                     {"clean", bytes_json(images.row(i))},
                     {"filtered", nlohmann::json::array()}});
  }
  for (const auto& filters : rows) {
    const bool kept = filters.output_shape(s) == s;
    const auto behind = kept ? defend::filter_images(filters, images, seed) : Tensor<float>();
    for (std::size_t i = 0; i < items.size(); ++i) {
      items[i]["filtered"].push_back(kept ? bytes_json(behind.row(static_cast<std::int64_t>(i)))
                                          : nlohmann::json(nullptr));
    }
  }
  return {{"shape", {s[0], s[1], s[2]}}, {"items", std::move(items)}};
}

void run_filters(FiltersOptions o) {
  o.apply();
  require(o.smooth.empty(), "--smooth does not go with filters");
  const attack::Threat threat = o.threat();
  const auto file = o.load_model();
  const std::vector<std::string> texts = std::exchange(o.filters, {});  // rows of the table, and not one pipeline
  const data::Dataset test = o.load_test(file.model);
  std::vector<defend::FilterList<float>> rows;
  for (const auto& text : texts.empty() ? usual_filters(test.image_shape()) : texts) {
    rows.push_back(make_filters({text}));
  }
  o.show.seed = o.seed;
  o.show.settings.draws = o.draws;
  const attack::Classifier model = o.bare_classifier(file.model);
  std::FILE* table = o.json == "-" ? stderr : stdout;
  std::fprintf(table, "%-28s %-24s %9s %9s %9s\n", "filter", "declares", "clean", "unaware", "adaptive");
  const auto percent = [](std::int64_t k, std::int64_t n) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f %%", 100.0 * static_cast<double>(k) / static_cast<double>(n));
    return std::string(text);
  };
  const Stopwatch watch;
  nlohmann::json points = nlohmann::json::array();
  const auto show = [&](const defend::FilterList<float>& filters) {
    if (!o.quiet) {
      o.show.progress = [&](std::string_view stage) {
        std::fprintf(stderr, "%s: %.*s\n", filters.empty() ? "no filter" : filters.to_string().c_str(),
                     static_cast<int>(stage.size()), stage.data());
      };
    }
    const auto r = filters.empty() ? evaluate::show_filter(model, filters, test, threat, o.show)
                                   : evaluate::show_filter(model, o.behind(filters, file.model, test.image_shape()),
                                                           filters.to_string(), test, threat, o.show);
    const std::string declares =
        concat(r.declaration.random ? "random" : "fixed", r.declaration.differentiable ? "" : ", not differentiable");
    std::fprintf(table, "%-28s %-24s %9s %9s %9s\n", filters.empty() ? "none" : r.filters.c_str(), declares.c_str(),
                 percent(r.clean, r.total).c_str(), percent(r.unaware, r.total).c_str(),
                 percent(r.adaptive, r.total).c_str());
    std::fflush(table);
    points.push_back({{"filters", r.filters},
                      {"random", r.declaration.random},
                      {"differentiable", r.declaration.differentiable},
                      {"clean", count(r.clean, r.total)},
                      {"unaware", count(r.unaware, r.total)},
                      {"adaptive", count(r.adaptive, r.total)}});
  };
  show({});
  for (const auto& filters : rows) {
    show(filters);
  }
  std::fprintf(table,
               "%lld images, %s %s: apgd on cross-entropy and on logits, %lld steps, made on the model alone (unaware) "
               "or for the filters, with square (adaptive).\n",
               static_cast<long long>(test.size()), o.norm.c_str(), o.eps.c_str(),
               static_cast<long long>(o.show.settings.steps));
  if (!o.json.empty()) {
    nlohmann::json json = o.make_record("filters", file, test);
    json["recipe"] = {{"steps", o.show.settings.steps},
                      {"queries", o.show.settings.queries},
                      {"draws", o.show.settings.draws},
                      {"judging_draws", o.show.judging_draws}};
    json["points"] = std::move(points);
    json["seconds"] = watch.seconds();
    if (o.gallery > 0) {
      json["gallery"] = shown(test, rows, o.gallery, o.seed);
    }
    write_json(o.json, json);
  }
}

}  // namespace

void add_filters(CLI::App& app, const std::string& command) {
  auto o = std::make_shared<FiltersOptions>();
  o->command = command;
  o->gallery = 4;
  auto* sub = app.add_subcommand(
      "filters",
      "Filters in front of a model: accuracy under an attack that does not know them, and under one that does");
  o->add_to(*sub);
  sub->get_option("--filter")
      ->description(
          "A row of the table: a filter, or several with + between them; may be given several times "
          "(default: the usual ones). " +
          filter_list());
  sub->add_option("--steps", o->show.settings.steps, "Steps of APGD")->capture_default_str();
  sub->add_option("--queries", o->show.settings.queries, "Queries of Square; of a random filter a fifth")
      ->capture_default_str();
  sub->add_option("--judging-draws", o->show.judging_draws, "Draws of a random filter by which an image is judged")
      ->capture_default_str();
  sub->callback([o] { run_filters(*o); });
}

}  // namespace pavise::program

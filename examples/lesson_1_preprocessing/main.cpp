// SPDX-License-Identifier: MIT
// Preprocessing: filters in front of a network take an attack's noise out, until the attack knows of them.
#include "../lesson.hpp"
#include "pavise/attack/apgd.hpp"
#include "pavise/attack/transfer.hpp"
#include "pavise/defend/filter/apply.hpp"
#include "pavise/defend/filter/bit_depth.hpp"
#include "pavise/defend/filter/jpeg.hpp"
#include "pavise/defend/filter/median.hpp"
#include "pavise/defend/filter/pipeline.hpp"
#include "pavise/defend/filter/resize_pad.hpp"
#include "pavise/pavise.hpp"

namespace pv = pavise;
using pv::lesson::point;
using pv::lesson::share;

namespace {

struct Filtered {
  std::string name;
  pv::defend::FilterList<float> filters;
};

template <class Filter>
Filtered filtered(const std::string& name, const Filter& filter) {
  Filtered out{name, {}};
  out.filters.add(filter);
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  pv::lesson::Lesson lesson(argc, argv, "Lesson 1: preprocessing", 20000, 500);
  const auto& test = lesson.test;
  const std::int64_t n = test.size();

  // A network trained as usual, which never hears of filters or attacks.
  auto model = pv::nn::small_cnn({.seed = lesson.seed});
  const pv::defend::AdversarialTraining training{.epochs = 4, .seed = lesson.seed};
  training.fit(model, lesson.train, pv::report::progress());

  const std::vector<Filtered> defences = {{"none", {}},
                                          filtered("3 bits", pv::defend::BitDepth<float>(3)),
                                          filtered("median 3x3", pv::defend::Median<float>(3)),
                                          filtered("JPEG 30", pv::defend::Jpeg<float>(30)),
                                          filtered("random size", pv::defend::ResizePad<float>(22))};

  // One attack, made twice: once on the network alone, and once on all that stands between a pixel and the answer. The
  // gradient goes through a filter as through the identity where the filter has none (BPDA), and of a filter that draws
  // random numbers every step takes the mean over ten draws (EOT).
  const auto apgd = pv::attack::apgd_ce(pv::attack::linf(0.1), {.steps = 40});
  const auto made_without = pv::attack::transfer(apgd, model);
  const pv::attack::RunOptions options{.seed = lesson.seed, .judging_draws = 20};

  pv::report::Table table({{"filter", {}}, {"clean", {}}, {"attack made without it", {}}, {"attack made for it", {}}});
  pv::report::Series series[] = {{.name = "clean"}, {.name = "attack made without it"}, {.name = "attack made for it"}};
  std::vector<std::string> names;
  std::vector<pv::lesson::Row> rows;
  std::vector<pv::attack::Result> unaware, aware;
  for (const auto& defence : defences) {
    const auto& filters = defence.filters;
    const pv::attack::Classifier pipeline = pv::defend::Pipeline(filters, model);
    const std::int64_t draws = pipeline.declaration().random ? 10 : 1;
    unaware.push_back(pv::attack::run(made_without, pipeline, test, options));
    aware.push_back(pv::attack::run(apgd, pipeline.with_draws(draws), test, options));
    const std::int64_t counts[] = {aware.back().clean_correct, unaware.back().robust_correct,
                                   aware.back().robust_correct};
    table.add_row({defence.name, share(counts[0], n), share(counts[1], n), share(counts[2], n)});
    names.push_back(defence.name);
    for (std::size_t i = 0; i < 3; ++i) {
      series[i].points.push_back(point(0, counts[i], n));
    }

    // What the network sees of two images: as they are, attacked without the filter, attacked for it.
    rows.push_back({defence.name, {}});
    for (std::int64_t i = 0; i < 2; ++i) {
      const auto shown = [&](const std::string& what, const pv::Tensor<float>& images, std::int32_t answer) {
        const auto seen = filters.empty() ? images : pv::defend::filter_images(filters, images, lesson.seed);
        rows.back().shots.push_back({pv::lesson::image_of(seen, i), what + "|" + lesson.name(answer)});
      };
      const auto at = static_cast<std::size_t>(i);
      shown("clean", pv::attack::to_tensor(test.first(2)), aware.back().clean_prediction[at]);
      shown("unaware", unaware.back().adversarial, unaware.back().prediction[at]);
      shown("aware", aware.back().adversarial, aware.back().prediction[at]);
    }
  }
  std::printf("\n%s\n", table.to_string().c_str());
  lesson.picture("images.svg", pv::lesson::gallery("What the network sees behind each filter", rows));
  lesson.picture("filters.svg", pv::report::bar_chart(names, {series[0], series[1], series[2]},
                                                      pv::lesson::percent_chart("Images classified correctly", "")));

  for (std::size_t f = 1; f < defences.size(); ++f) {
    lesson.claim(aware[f].robust_correct < unaware[f].robust_correct, "who knows of it breaks more: " + names[f]);
    lesson.claim(aware[f].robust_correct * 5 < n, "and four images in five at least: " + names[f]);
  }
  lesson.claim(aware.back().clean_correct < aware.front().clean_correct - n / 20,
               "random sizes cost more than 5 % of clean accuracy, attacked or not");
  return lesson.end();
}

// SPDX-License-Identifier: MIT
// A record of a detector as `pavise detect` writes it.
#pragma once

#include <nlohmann/json.hpp>

#include "report/sample_records.hpp"

namespace detect_checks {

using Json = nlohmann::json;

inline Json detection_sample() {
  const auto flagged = [](double rate, int k, int n) {
    return Json{{"rate", rate}, {"threshold", 0.1}, {"flagged", k}, {"total", n}};
  };
  Json out = pavise_test::origin("plain", "feature squeezing");
  out["kind"] = "detection";
  out["command"] = "pavise detect --model-file <m>";
  out["norm"] = "linf";
  out["epsilon"] = 0.3;
  out["squeezers"] = {"bit-depth:1", "median:2"};
  out["threshold"] = 0.1;
  out["false_positive_rate"] = 0.05;
  out["fit_images"] = 5000;
  out["clean"] = pavise_test::count(98, 100);
  out["clean_served"] = pavise_test::count(94, 100);
  out["robust"] = pavise_test::count(4, 100);
  out["robust_served"] = pavise_test::count(2, 100);
  out["undetected_robust"] = pavise_test::count(1, 100);
  out["false_alarms"] = {flagged(0.01, 1, 100), flagged(0.05, 6, 100), flagged(0.1, 9, 100)};
  out["attacks"] = {{{"name", "fgsm"},
                     {"settings", ""},
                     {"adaptive", false},
                     {"norm", "linf"},
                     {"epsilon", 0.3},
                     {"within_threat", true},
                     {"tried", 98},
                     {"fooled", 97},
                     {"evaded", 9},
                     {"distance", 0.3},
                     {"area", 0.97},
                     {"detected", {flagged(0.01, 70, 97), flagged(0.05, 88, 97), flagged(0.1, 92, 97)}},
                     {"roc", {{0.0, 0.0}, {0.0, 0.6}, {0.05, 0.9}, {0.2, 1.0}, {1.0, 1.0}}}},
                    {{"name", "carlini-wagner"},
                     {"settings", "200 steps, 5 constants"},
                     {"adaptive", true},
                     {"norm", "l2"},
                     {"epsilon", 1.0},
                     {"within_threat", false},
                     {"tried", 98},
                     {"fooled", 98},
                     {"evaded", 96},
                     {"distance", 3.01},
                     {"area", 0.88},
                     {"detected", {flagged(0.01, 0, 98), flagged(0.05, 2, 98), flagged(0.1, 60, 98)}},
                     {"roc", {{0.0, 0.0}, {0.06, 0.0}, {0.1, 0.7}, {1.0, 1.0}}}}};
  return out;
}

}  // namespace detect_checks

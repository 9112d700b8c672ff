// SPDX-License-Identifier: MIT
// `pavise report`: the records of a directory as one page.
#include <iostream>
#include <memory>

#include "common.hpp"
#include "pavise/report/html.hpp"

namespace pavise::program {

void add_report(CLI::App& app) {
  struct ReportOptions {
    std::string in = "runs";
    std::string out = "robustness-report";
  };
  auto options = std::make_shared<ReportOptions>();
  auto* sub = app.add_subcommand("report", "Writes a self-contained HTML page from the JSON records of a directory");
  sub->add_option("--in", options->in, "Directory with the records that `train`, `attack` and `evaluate` wrote")
      ->capture_default_str();
  sub->add_option("--out", options->out, "Directory for index.html, or a file ending in .html")->capture_default_str();
  sub->callback([options] {
    const auto records = report::collect_records(options->in);
    const std::string page = report::write_report(records, options->out);
    std::cout << page << ": " << records.size() << " records\n";
  });
}

}  // namespace pavise::program

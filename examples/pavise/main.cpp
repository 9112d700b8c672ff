// SPDX-License-Identifier: MIT
// The `pavise` program: trains, attacks, certifies and reports from the command line.
#include <exception>
#include <iostream>

#include "common.hpp"
#include "pavise/core/thread_loops.hpp"

int main(int argc, char** argv) {
  CLI::App app("Trains neural networks that withstand adversarial inputs, attacks them, certifies them, and reports.",
               "pavise");
  if (!pavise::has_threads()) {
    pavise::use_standard_threads();
  }
  app.set_version_flag("--version", "pavise " + std::string(pavise::kVersion));
  app.require_subcommand(0, 1);
  app.get_formatter()->column_width(36);
  pavise::program::register_filters();
  const std::string command = pavise::program::command_line(argc, argv);
  pavise::program::add_train(app, command);
  pavise::program::add_attack(app, command);
  pavise::program::add_evaluate(app, command);
  pavise::program::add_certify(app, command);
  pavise::program::add_verify(app);
  pavise::program::add_distill(app, command);
  pavise::program::add_detect(app, command);
  pavise::program::add_filters(app, command);
  pavise::program::add_report(app);
  pavise::program::add_import(app, command);
  pavise::program::add_logits(app);
  try {
    app.parse(argc, argv);
    if (app.get_subcommands().empty()) {
      std::cerr << app.help();
      return 2;
    }
  } catch (const CLI::ParseError& e) {
    return app.exit(e);
  } catch (const std::exception& e) {
    std::cerr << "pavise: " << e.what() << "\n";
    return 1;
  }
  return 0;
}

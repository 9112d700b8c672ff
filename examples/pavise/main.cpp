// SPDX-License-Identifier: MIT
// The `pavise` program: trains, attacks, certifies and reports from the command line.
#include <exception>
#include <iostream>
#include <string>

#include "common.hpp"
#include "pavise/core/thread_loops.hpp"
#include "team.hpp"

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
  pavise::program::Team team;
  try {
    team.start(argc, argv);
    pavise::program::add_train(app, command, team.ranks());
    pavise::program::add_attack(app, command, team.ranks());
    pavise::program::add_evaluate(app, command);
    pavise::program::add_certify(app, command, team.ranks());
    pavise::program::add_verify(app);
    pavise::program::add_distill(app, command);
    pavise::program::add_detect(app, command);
    pavise::program::add_filters(app, command);
    pavise::program::add_report(app);
    pavise::program::add_import(app, command);
    pavise::program::add_logits(app);
    team.share(app, {"train", "attack", "certify"});
    app.parse(argc, argv);
    if (app.get_subcommands().empty()) {
      if (team.writes()) {
        std::cerr << app.help();
      }
      return 2;
    }
  } catch (const CLI::ParseError& e) {
    return team.writes() ? app.exit(e) : e.get_exit_code();
  } catch (const std::exception& e) {
    return team.fail(e.what());
  }
  return 0;
}

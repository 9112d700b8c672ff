// SPDX-License-Identifier: MIT
// The `pavise` program as the tests see it: a command, its exit status and what it wrote.
#pragma once

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace pavise_test::program {

namespace fs = std::filesystem;

struct Outcome {
  int status = -1;
  std::string text;  ///< both outputs
};

inline std::string program() {
  const char* path = std::getenv("PAVISE_PROGRAM");
  return path != nullptr && fs::exists(path) ? path : "";
}

inline Outcome run(const std::string& arguments) {
  Outcome out;
  std::FILE* pipe = popen(("'" + program() + "' " + arguments + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  char buffer[4096];
  for (std::size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
    out.text.append(buffer, n);
  }
  out.status = WEXITSTATUS(pclose(pipe));
  return out;
}

inline std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A directory of the test's own, removed at its end.
struct Scratch {
  fs::path path = fs::temp_directory_path() / ("pavise_program_test_" + std::to_string(getpid()));
  Scratch() { fs::create_directories(path); }
  ~Scratch() { fs::remove_all(path); }
  std::string operator/(const std::string& name) const { return (path / name).string(); }
};

inline bool there() {
  if (!program().empty()) {
    return true;
  }
  MESSAGE("skipped: the program is not built (PAVISE_PROGRAM)");
  return false;
}

inline const std::string kTrain = "train --data drawn-digits --train-count 1280 --epochs 2 --quiet --seed 3 ";

/// Starts the program, its output thrown away, and kills it after so many milliseconds.
inline void run_and_kill(const std::string& arguments, int milliseconds) {
  const std::string line = "exec '" + program() + "' " + arguments + " >/dev/null 2>&1";
  const pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", line.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  usleep(static_cast<useconds_t>(milliseconds) * 1000);
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
}

}  // namespace pavise_test::program

// SPDX-License-Identifier: MIT
// Links two units that include every public header; they must compute the same, with the same inline functions.
#include <cstdio>
#include <string>

std::string first();
std::string second();
const void* first_address();
const void* second_address();

int main() {
  const std::string a = first();
  const std::string b = second();
  std::printf("%s\n", a.c_str());
  if (a != b || a.empty() || a.find("but") != std::string::npos) {
    std::printf("%s\n", b.c_str());
    return 1;
  }
  return first_address() == second_address() ? 0 : 1;
}

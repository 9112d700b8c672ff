// SPDX-License-Identifier: MIT
// A reader that knows just enough XML to say whether a document is well-formed: tags match, attributes are quoted and
// unique, entities are known, no stray < or &.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <set>
#include <string>
#include <vector>

namespace pavise_test {

/// What is wrong with `xml`, or "" where it is well-formed.
inline std::string xml_error(const std::string& xml) {
  std::vector<std::string> open;
  std::size_t i = 0;
  const auto name = [&] {
    std::string out;
    while (i < xml.size() && (std::isalnum(static_cast<unsigned char>(xml[i])) || xml[i] == '-' || xml[i] == ':')) {
      out += xml[i++];
    }
    return out;
  };
  const auto text_error = [](const std::string& text) -> std::string {
    for (std::size_t p = 0; p < text.size(); ++p) {
      const auto c = static_cast<unsigned char>(text[p]);
      if (c == '<' || (c < 0x20 && c != '\n' && c != '\t')) {
        return "a stray character in: " + text;
      }
      if (c == '&') {
        const std::string entity = text.substr(p, text.find(';', p) - p + 1);
        if (!std::set<std::string>{"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"}.count(entity)) {
          return "an unknown entity in: " + text;
        }
      }
    }
    return "";
  };
  while (i < xml.size()) {
    if (xml[i] != '<') {
      const std::size_t end = std::min(xml.find('<', i), xml.size());
      const std::string text = xml.substr(i, end - i);
      if (const auto error = text_error(text); !error.empty()) {
        return error;
      }
      if (open.empty() && text.find_first_not_of(" \n") != std::string::npos) {
        return "text outside the root: " + text;
      }
      i = end;
      continue;
    }
    ++i;
    if (i < xml.size() && xml[i] == '/') {
      ++i;
      const auto tag = name();
      if (open.empty() || open.back() != tag || i >= xml.size() || xml[i] != '>') {
        return "</" + tag + "> closes nothing";
      }
      open.pop_back();
      ++i;
      continue;
    }
    const auto tag = name();
    if (tag.empty()) {
      return "a stray < at " + std::to_string(i);
    }
    std::set<std::string> seen;
    for (;;) {
      const std::size_t before = i;
      while (i < xml.size() && std::isspace(static_cast<unsigned char>(xml[i]))) {
        ++i;
      }
      if (i < xml.size() && xml[i] == '>') {
        open.push_back(tag);
        ++i;
        break;
      }
      if (xml.compare(i, 2, "/>") == 0) {
        i += 2;
        break;
      }
      const auto attribute = name();
      if (attribute.empty() || before == i - attribute.size() || !seen.insert(attribute).second ||
          xml.compare(i, 2, "=\"") != 0) {
        return "<" + tag + "> has a broken attribute " + attribute;
      }
      const std::size_t end = xml.find('"', i + 2);
      if (end == std::string::npos) {
        return "an attribute without an end";
      }
      if (const auto error = text_error(xml.substr(i + 2, end - i - 2)); !error.empty()) {
        return error;
      }
      i = end + 1;
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> is never closed";
}

}  // namespace pavise_test

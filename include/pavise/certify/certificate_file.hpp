// SPDX-License-Identifier: MIT
// Files of certificates. A line is written in one piece and is there once its end is; a run that was killed drops what
// is left of the last line, checks the others, and goes on behind them. Opt-in: includes nlohmann-json.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/certify/certificate.hpp"
#include "pavise/io/file.hpp"

namespace pavise::certify {

/// A certificate of kind C and the line that it stands in.
template <class C>
struct CertificateLine {
  C certificate;
  std::string text;
};

namespace detail {

/// The lines of a file that have an end; what follows the last of them is left out.
inline std::vector<std::string> complete_lines(const std::string& path, std::uint64_t& bytes) {
  const auto content = io::read_file(path);
  std::vector<std::string> lines;
  auto start = content.begin();
  for (;;) {
    const auto end = std::find(start, content.end(), std::uint8_t{'\n'});
    if (end == content.end()) {
      break;
    }
    lines.emplace_back(start, end);
    start = end + 1;
  }
  bytes = static_cast<std::uint64_t>(start - content.begin());
  return lines;
}

template <class C>
CertificateLine<C> read_line(const std::string& path, std::size_t number, std::string text) {
  try {
    C c = parse_line<C>(text);
    return {std::move(c), std::move(text)};
  } catch (const CertificateError& e) {
    throw CertificateError(e.field, concat(path, ": line ", number, ": ", std::string_view(e.what())));
  }
}

}  // namespace detail

/// The kind that the first line of a file says it is of, or "" where it says none. Throws IoError where the file cannot
/// be read.
inline std::string file_kind(const std::string& path) {
  std::uint64_t bytes = 0;
  const auto lines = detail::complete_lines(path, bytes);
  return lines.empty() ? "" : kind_of(lines.front());
}

/// The certificates of a file, of kind C. Throws IoError where it cannot be read or ends within a line,
/// CertificateError, naming the field, for a line that was changed.
template <class C = Certificate>
std::vector<CertificateLine<C>> read_certificates(const std::string& path) {
  std::uint64_t bytes = 0;
  std::vector<CertificateLine<C>> out;
  for (auto& line : detail::complete_lines(path, bytes)) {
    out.push_back(detail::read_line<C>(path, out.size() + 1, std::move(line)));
  }
  const auto size = io::read_file(path).size();
  io::require_at(bytes == size, path, bytes,
                 "the last line has no end: the run was stopped, and goes on when started again");
  return out;
}

/// The lines of several files, in the order of the images: shards of a run become the file of the whole run. Throws
/// ValueError for files of different runs, or for an image that occurs twice.
template <class C = Certificate>
std::string merge_certificates(const std::vector<std::string>& paths) {
  std::map<std::int64_t, CertificateLine<C>> all;
  for (const auto& path : paths) {
    for (auto& line : read_certificates<C>(path)) {
      require(all.empty() || same_run(line.certificate, all.begin()->second.certificate), path, ": image ",
              line.certificate.index, " is of another run than image ", all.empty() ? 0 : all.begin()->first);
      const std::int64_t index = line.certificate.index;
      require(all.emplace(index, std::move(line)).second, path, ": image ", index, " occurs twice");
    }
  }
  std::string out;
  for (const auto& [index, line] : all) {
    out += line.text + "\n";
  }
  return out;
}

/// Appends certificates of kind C to a file, behind those that are there.
template <class C>
class BasicCertificateWriter {
 public:
  /// Opens the file, or makes it. `expected`: the certificates of the run, in order, without their results: those in the
  /// file must be the first of them. Throws CertificateError, naming field and line, where one was changed; ValueError
  /// where the file is of another run; IoError where it cannot be written.
  BasicCertificateWriter(const std::string& path, std::span<const C> expected)
      : path_(path), file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
    require<IoError>(file_.get() >= 0, path, ": cannot be written: ", io::detail::reason());
    std::uint64_t bytes = 0;
    for (auto& text : detail::complete_lines(path, bytes)) {
      auto line = detail::read_line<C>(path, found_.size() + 1, std::move(text));
      const std::size_t i = found_.size();
      const bool same = i < expected.size() && same_run(line.certificate, expected[i]) &&
                        line.certificate.index == expected[i].index && line.certificate.image == expected[i].image &&
                        line.certificate.label == expected[i].label;
      require(same, path, ": line ", i + 1,
              ": of another run (model, images, options or seed differ); delete the file ", "or name another one");
      found_.push_back(std::move(line.certificate));
    }
    require<IoError>(::ftruncate(file_.get(), static_cast<off_t>(bytes)) == 0, path,
                     ": cannot be written: ", io::detail::reason());
  }

  /// Those that were there.
  const std::vector<C>& found() const { return found_; }

  /// Writes a certificate through to the disk's cache; a crash may cost its line, never an earlier one.
  void append(const C& certificate) {
    const std::string line = to_line(certificate) + "\n";
    io::detail::write_all(file_.get(), std::as_bytes(std::span(line.data(), line.size())), path_);
  }

 private:
  std::string path_;
  io::detail::Descriptor file_;
  std::vector<C> found_;
};

using CertificateWriter = BasicCertificateWriter<Certificate>;

}  // namespace pavise::certify

// SPDX-License-Identifier: MIT
#include "pavise/io/file.hpp"

#include <doctest/doctest.h>

#include "io/archives.hpp"
#include "io/scratch.hpp"

using namespace pavise_test;
namespace io = pavise::io;

namespace {

Bytes numbers(std::size_t n) {
  Bytes out(n);
  pavise::RandomSequence random({.seed = 9, .purpose = pavise::Purpose::test});
  for (auto& b : out) {
    b = static_cast<std::uint8_t>(random.below(16));
  }
  return out;
}

}  // namespace

TEST_CASE("a file is read back as it was written, gzipped or not") {
  const Scratch scratch;
  for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{100'000}, std::size_t{3'000'000}}) {
    const auto bytes = numbers(n);
    const auto path = scratch / "plain";
    io::write_atomically(path, std::span<const std::uint8_t>(bytes));
    CHECK(io::read_file(path) == bytes);
    CHECK(io::read_gzip(path, n) == bytes);
    CHECK(io::read_gzip(scratch.write("packed", gzipped(bytes)), n) == bytes);
    if (n > 0) {
      CHECK(contains(io_error([&] { io::read_file(path, n - 1); }), "at most"));
      CHECK(contains(io_error([&] { io::read_gzip(path, n - 1); }), "more than"));
    }
  }
  CHECK(scratch.entries() == 2);  // nothing temporary is left
}

TEST_CASE("a missing file, a directory and a device are refused by name") {
  const Scratch scratch;
  for (const auto& path : {scratch / "missing", scratch.path(), std::string("/dev/zero")}) {
    CHECK(contains(io_error([&] { io::read_file(path); }), path));
    CHECK(contains(io_error([&] { io::GzipReader reader(path); }), path));
  }
}

TEST_CASE("a truncated or damaged gzip stream is refused, also where only its checksum is") {
  const Scratch scratch;
  const auto bytes = numbers(5000);
  const auto packed = gzipped(bytes);
  const auto read = [&](const Bytes& content) {
    io::GzipReader reader(scratch.write("file", content));
    const auto out = reader.read_bytes(bytes.size(), "the numbers");
    reader.expect_end();
    return out;
  };
  CHECK(read(packed) == bytes);
  check_truncations(packed, read);
  auto wrong = packed;
  wrong[wrong.size() - 6] ^= 1;  // in the checksum
  CHECK(contains(io_error([&] { read(wrong); }), "corrupt"));
  CHECK(fuzz(packed, 2000, read) > 1500);
}

TEST_CASE("a false length costs no more memory than the file is worth") {
  const Scratch scratch;
  const auto path = scratch.write("file", numbers(100));
  io::GzipReader reader(path);
  // 2^60 bytes could not be allocated: asking for them at once would throw something else.
  const auto message = io_error([&] { reader.read_bytes(std::uint64_t{1} << 60, "the data"); });
  CHECK(contains(message, path + ": byte 100: "));
  CHECK(contains(message, "the data"));
}

TEST_CASE("what is packed unpacks to 256 times its size, or to 64 MiB, and no further") {
  const Scratch scratch;
  CHECK(io::unpacked_limit(0) == std::uint64_t{1} << 26);
  CHECK(io::unpacked_limit(std::uint64_t{1} << 20) == std::uint64_t{1} << 28);
  CHECK(io::unpacked_limit(std::numeric_limits<std::uint64_t>::max()) > std::uint64_t{1} << 63);
  const std::size_t most = std::size_t{1} << 26;
  const auto read = [&](std::size_t n) {  // of zeros, which deflate packs to a thousandth
    const auto path = scratch.write("file", gzipped(Bytes(n)));
    return io_error([&] { io::read_gzip(path, std::uint64_t{1} << 40); });
  };
  CHECK(read(most).empty());
  CHECK(contains(read(most + 1), "unpack to more than 67108864 bytes"));
}

TEST_CASE("expect_end refuses what follows") {
  const Scratch scratch;
  io::GzipReader reader(scratch.write("file", numbers(11)));
  reader.read_bytes(10, "the data");
  CHECK(contains(io_error([&] { reader.expect_end(); }), "byte 10: "));
}

TEST_CASE("writing replaces a file in one step or not at all") {
  const Scratch scratch;
  const auto path = scratch / "file";
  io::write_atomically(path, std::string_view("old"));
  io::write_atomically(path, std::string_view("new and longer"));
  CHECK(io::read_file(path) == bytes_of("new and longer"));

  CHECK(contains(io_error([&] { io::write_atomically(scratch / "missing/file", std::string_view("x")); }),
                 "missing/file"));
  CHECK(contains(io_error([&] { io::write_atomically(path + "/below", std::string_view("x")); }), "/below"));
  // The rename is what fails here: a directory is in the way. Nothing temporary stays, and the directory is as it was.
  scratch.write("folder/inside", bytes_of("kept"));
  CHECK(contains(io_error([&] { io::write_atomically(scratch / "folder", std::string_view("x")); }), "folder"));
  CHECK(io::read_file(scratch / "folder/inside") == bytes_of("kept"));
  CHECK(io::read_file(path) == bytes_of("new and longer"));
  CHECK(scratch.entries() == 2);
}

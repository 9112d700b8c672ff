// SPDX-License-Identifier: MIT
#include "pavise/io/safetensors.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "io/scratch.hpp"

using namespace pavise_test;
namespace io = pavise::io;
using pavise::Shape;
using pavise::Tensor;
using Entry = io::SafetensorsFile::Entry;

namespace {

/// A file with this header and so many bytes of data, counted 0, 1, 2, ...
Bytes file_with(const std::string& header, std::size_t data) {
  Bytes out(8);
  const std::uint64_t length = header.size();
  std::memcpy(out.data(), &length, 8);
  out.resize(8 + header.size());
  std::copy(header.begin(), header.end(), out.begin() + 8);
  for (std::size_t i = 0; i < data; ++i) {
    out.push_back(static_cast<std::uint8_t>(i));
  }
  return out;
}

std::string refusal(const Bytes& bytes) {
  return io_error([&] { io::parse_safetensors(bytes, "file"); });
}

std::string refusal(const std::string& header, std::size_t data) { return refusal(file_with(header, data)); }

io::SafetensorsFile sample_file() {
  io::SafetensorsFile file;
  file.metadata = {{"architecture", "{\"layers\": [1, 2]}"}, {"quote\"", "\xC3\xA9\n"}};
  file.tensors.push_back(Entry::of("u8", Tensor<std::uint8_t>(Shape{3}, {1, 2, 3})));
  file.tensors.push_back(Entry::of("conv1.weight", Tensor<float>(Shape{2, 1, 1, 2}, {1.5F, -0.0F, 3e38F, 1e-45F})));
  file.tensors.push_back(Entry::of("scalar", Tensor<double>(Shape{}, {0.1})));
  file.tensors.push_back(Entry::of("empty", Tensor<float>(Shape{0, 4})));
  file.tensors.push_back(Entry::of("i64", Tensor<std::int64_t>(Shape{2}, {-1, std::int64_t{1} << 62})));
  file.tensors.push_back(Entry::of("i32", Tensor<std::int32_t>(Shape{1, 1}, {-7})));
  return file;
}

}  // namespace

TEST_CASE("safetensors: round trip of every type, bit for bit, in order") {
  const Scratch scratch;
  const auto file = sample_file();
  const auto path = scratch / "model.safetensors";
  io::write_safetensors(path, file);
  const auto back = io::read_safetensors(path);
  CHECK(back.metadata == file.metadata);
  REQUIRE(back.tensors.size() == file.tensors.size());
  for (std::size_t i = 0; i < file.tensors.size(); ++i) {
    CHECK(back.tensors[i].name == file.tensors[i].name);
    CHECK(back.tensors[i].dtype == file.tensors[i].dtype);
    CHECK(back.tensors[i].shape == file.tensors[i].shape);
    CHECK(back.tensors[i].bytes == file.tensors[i].bytes);
  }
  REQUIRE(back.find("i64") != nullptr);
  CHECK(back.find("i64")->tensor<std::int64_t>()[1] == std::int64_t{1} << 62);
  CHECK(back.find("nothing") == nullptr);
  CHECK_THROWS_AS(back.find("i64")->tensor<float>(), pavise::ValueError);
  std::vector<float> five(5);
  CHECK_THROWS_AS(back.find("conv1.weight")->copy_to<float>(five), pavise::ShapeError);

  // The header is padded to eight bytes, so that the data start aligned.
  const auto bytes = io::read_file(path);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);
  // The same file gives the same bytes.
  io::write_safetensors(scratch / "again", back);
  CHECK(io::read_file(scratch / "again") == bytes);
}

TEST_CASE("safetensors: a file as other programs write it") {
  // Not in the order of the names, with spaces and escapes; the tensors come in the order of their bytes.
  const std::string header = R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},)"
                             R"("\u0061" : {"data_offsets":[0,4] , "shape":[2,2],"dtype":"U8"}}  )";
  const auto file = io::parse_safetensors(file_with(header, 8), "file");
  REQUIRE(file.tensors.size() == 2);
  CHECK(file.tensors[0].name == "a");
  CHECK(file.tensors[0].tensor<std::uint8_t>()[3] == 3);
  CHECK(file.tensors[1].name == "b");
  CHECK(io::parse_safetensors(file_with("{}", 0), "file").tensors.empty());
}

TEST_CASE("safetensors: whatever the format forbids is refused, and the byte named") {
  const std::string a4 = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  CHECK(refusal(a4, 4).empty());
  CHECK(contains(refusal(a4, 3), "not within"));
  CHECK(contains(refusal(a4, 5), "belong to none"));
  CHECK(contains(refusal(" " + a4, 4), "byte 8: safetensors: the header does not start"));
  CHECK(contains(refusal(R"([])", 0), "start"));
  CHECK(contains(refusal("", 0), "start"));
  CHECK(contains(refusal(a4 + "x", 4), "JSON"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})", 4), "JSON"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U7","shape":[4],"data_offsets":[0,4]}})", 4), "U7"));
  CHECK(contains(refusal(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}})", 4), "needs 16 bytes"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}})", 4), "negative"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}})", 4), "fraction"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}})", 4), "3 numbers"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})", 4), "not within"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","shape":[4]}})", 4), "expected dtype, shape and data_offsets"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4), "twice"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}})", 4), "'x'"));
  CHECK(contains(refusal(R"({"a":{"dtype":["U8"],"shape":[4],"data_offsets":[0,4]}})", 4), "a list"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","shape":[[4]],"data_offsets":[0,4]}})", 4), "a list"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","shape":{},"data_offsets":[0,4]}})", 4), "an object"));
  CHECK(contains(refusal(R"({"a":{"dtype":null,"shape":[4],"data_offsets":[0,4]}})", 4), "null"));
  CHECK(contains(refusal(R"({"a":true})", 0), "boolean"));
  CHECK(contains(refusal(R"({"a":[4]})", 0), "a list"));
  CHECK(contains(refusal(R"({"__metadata__":{"a":1}})", 0), "a number"));
  CHECK(contains(refusal(R"({"__metadata__":{"a":"1","a":"2"}})", 0), "twice"));
  CHECK(contains(refusal(R"({"__metadata__":{},"__metadata__":{}})", 0), "twice"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1), "axes"));
  const auto two = [](const char* second) {
    return std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)") + second + "}";
  };
  CHECK(refusal(two(R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]})"), 8).empty());
  CHECK(contains(refusal(two(R"("a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]})"), 8), "twice"));
  CHECK(contains(refusal(two(R"("b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]})"), 7), "overlap"));
  CHECK(contains(refusal(two(R"("b":{"dtype":"U8","shape":[3],"data_offsets":[5,8]})"), 8), "hole"));
  CHECK(contains(refusal(two(R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})"), 4), "overlap"));
  // 2^32 * 2^32 elements, and 2^61 doubles, overflow 64 bits; both are more than any file holds.
  CHECK(
      contains(refusal(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0), "overflow"));
  CHECK(
      contains(refusal(R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})", 0), "overflow"));
  CHECK(contains(refusal(R"({"a":{"dtype":"U8","shape":[18446744073709551615,0],"data_offsets":[0,0]}})", 0),
                 "overflow"));
  CHECK(
      contains(refusal(R"({"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,0]}})", 0), "fraction"));
  // The byte is that of the place in the file.
  CHECK(contains(refusal(R"({"a":nonsense})", 0), "file: byte 15: "));
  // A header's length that is more than there is, or than is allowed.
  auto bytes = file_with(a4, 4);
  bytes[0] = static_cast<std::uint8_t>(bytes.size() - 7);
  CHECK(contains(refusal(bytes), "more bytes"));
  bytes[7] = 0x80;
  CHECK(contains(refusal(bytes), "at most 100000000"));
}

TEST_CASE("safetensors: deep nesting costs nothing") {
  CHECK(contains(refusal("{\"a\":" + std::string(1'000'000, '['), 0), "a list"));
  CHECK(contains(refusal("{\"__metadata__\":" + std::string(1'000'000, '{'), 0), "JSON"));
}

TEST_CASE("safetensors: a truncated or damaged file is refused or read, and nothing else") {
  const Scratch scratch;
  io::write_safetensors(scratch / "file", sample_file());
  const auto bytes = io::read_file(scratch / "file");
  const auto read = [](const Bytes& b) { io::parse_safetensors(b, "file"); };
  check_truncations(bytes, read);
  CHECK(fuzz(bytes, 6000, read) > 3000);
}

TEST_CASE("safetensors: what cannot be written is refused, and the old file stays") {
  const Scratch scratch;
  const auto path = scratch / "file";
  io::write_safetensors(path, sample_file());
  const auto before = io::read_file(path);
  auto twice = sample_file();
  twice.tensors.push_back(twice.tensors.front());
  CHECK_THROWS_AS(io::write_safetensors(path, twice), pavise::ValueError);
  auto wrong = sample_file();
  wrong.tensors.front().bytes.pop_back();
  CHECK_THROWS_AS(io::write_safetensors(path, wrong), pavise::ShapeError);
  auto bad = sample_file();
  bad.metadata["x"] = "\xFF";
  CHECK_THROWS_AS(io::write_safetensors(path, bad), pavise::ValueError);
  CHECK_THROWS_AS(io::write_safetensors(scratch / "no/folder", sample_file()), pavise::IoError);
  CHECK(io::read_file(path) == before);
  CHECK_THROWS_AS(Entry::of<float>("x", Shape{3}, std::vector<float>(2)), pavise::ShapeError);
}

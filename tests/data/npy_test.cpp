// SPDX-License-Identifier: MIT
#include "pavise/data/npy.hpp"

#include <doctest/doctest.h>

#include "io/archives.hpp"
#include "io/scratch.hpp"

using namespace pavise_test;
namespace data = pavise::data;
using pavise::Shape;
using pavise::Tensor;

namespace {

Bytes npy(const std::string& header, const Bytes& content) {
  Bytes out = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
  put(out, header.size(), 2);
  out.insert(out.end(), header.begin(), header.end());
  out.insert(out.end(), content.begin(), content.end());
  return out;
}

std::string refusal(const std::string& header, const Bytes& content) {
  return io_error([&] { data::parse_npy(npy(header, content), "file"); });
}

template <class T>
void check_round_trip(const Tensor<T>& tensor) {
  const Scratch scratch;
  data::write_npy(scratch / "a.npy", tensor);
  const auto back = data::read_npy_as<T>(scratch / "a.npy");
  CHECK(back.shape() == tensor.shape());
  CHECK(std::equal(back.begin(), back.end(), tensor.begin(), tensor.end()));
  CHECK(pavise::io::read_file(scratch / "a.npy").size() % 64 == tensor.size() * sizeof(T) % 64);
}

}  // namespace

TEST_CASE("npy: round trip of every type and rank") {
  check_round_trip(Tensor<float>(Shape{2, 3}, {1.5F, -2, 3, 4, 5, 6}));
  check_round_trip(Tensor<double>(Shape{}, {0.1}));
  check_round_trip(Tensor<std::uint8_t>(Shape{3}, {0, 128, 255}));
  check_round_trip(Tensor<std::int32_t>(Shape{0, 7}));
  check_round_trip(Tensor<std::int64_t>(Shape{1, 1, 1, 1, 1, 2}, {-1, std::int64_t{1} << 62}));
}

TEST_CASE("npy: headers as NumPy writes them, and what is refused") {
  const Bytes four = {1, 2, 3, 4};
  CHECK(refusal("{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }   \n", four).empty());
  CHECK(refusal("{'shape': (2, 2), 'descr': '<f4', 'fortran_order': False}", Bytes(16)).empty());
  CHECK(refusal("{\"descr\": \"<i4\", 'fortran_order': False, 'shape': ()}", four).empty());
  CHECK(contains(refusal("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 2), }", four), "Fortran order"));
  CHECK(contains(refusal("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", four), "'>f4'"));
  CHECK(contains(refusal("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", Bytes(8)), "'<c8'"));
  CHECK(contains(refusal("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", four), "structured"));
  CHECK(contains(refusal("{'descr': '|u1', 'fortran_order': False, }", four), "expected the keys"));
  CHECK(contains(refusal("{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (4,)}", four), "twice"));
  CHECK(contains(refusal("{'descr': '|u1', 'fortran_order': False, 'shape': (4,), 'x': 1}", four), "'x'"));
  CHECK(contains(refusal("{'descr': '|u1', 'fortran_order': False, 'shape': (-4,)}", four), "extent"));
  CHECK(contains(refusal("{'descr': '|u1', 'fortran_order': False, 'shape': (5,)}", four), "has 5 bytes"));
  CHECK(contains(refusal("{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}", four), "has 3 bytes"));
  CHECK(contains(refusal("{'descr': '|u1', 'fortran_order': False, 'shape': (1,1,1,1,1,1,4)}", four), "axes"));
  const std::string big = "{'descr': '<f8', 'fortran_order': False, 'shape': (";
  CHECK(contains(refusal(big + "4294967296, 4294967296)}", four), "overflow"));
  CHECK(contains(refusal(big + "0, 9223372036854775808)}", {}), "overflow"));
  CHECK(contains(refusal(big + "99999999999999999999,)}", {}), "extent"));
  CHECK(contains(refusal(big + "1000000000000,)}", four), "8000000000000 bytes"));
  auto version = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}", four);
  version[6] = 4;
  CHECK(contains(io_error([&] { data::parse_npy(version, "file"); }), "file: byte 6: npy: version 4.0"));
}

TEST_CASE("npy: truncated and damaged files") {
  const auto bytes = data::npy_bytes(Tensor<float>(Shape{3, 5}, 1.5F));
  const auto read = [](const Bytes& b) { data::parse_npy(b, "file"); };
  check_truncations(bytes, read);
  CHECK(fuzz(bytes, 5000, read) > 2000);
}

TEST_CASE("npz: stored and deflated") {
  const Tensor<float> x(Shape{40, 5}, 0.25F);
  const Tensor<std::int64_t> y(Shape{3}, {7, 8, 9});
  for (const bool deflated : {false, true}) {
    const auto bytes = zip({{"x.npy", data::npy_bytes(x)}, {"y.npy", data::npy_bytes(y)}}, deflated);
    const auto arrays = data::parse_npz(bytes, "file");
    REQUIRE(arrays.size() == 2);
    CHECK(std::get<Tensor<float>>(arrays.at("x"))[199] == 0.25F);
    CHECK(std::get<Tensor<std::int64_t>>(arrays.at("y"))[2] == 9);
    const auto read = [](const Bytes& b) { data::parse_npz(b, "file"); };
    check_truncations(bytes, read);
    CHECK(fuzz(bytes, 4000, read) > 3000);
    // The last bytes are the directory: damage that is aimed at it.
    const std::size_t tail = 2 * 51 + 22;
    CHECK(fuzz(Bytes(bytes.end() - static_cast<std::ptrdiff_t>(tail), bytes.end()), 4000, [&](const Bytes& damaged) {
            Bytes whole(bytes.begin(), bytes.end() - static_cast<std::ptrdiff_t>(tail));
            whole.insert(whole.end(), damaged.begin(), damaged.end());
            data::parse_npz(whole, "file");
          }) > 2000);
  }
}

TEST_CASE("npz: false sizes, checksums, methods and overlaps are refused") {
  const Bytes content = data::npy_bytes(Tensor<std::uint8_t>(Shape{4}, {1, 2, 3, 4}));
  const auto good = zip({{"a.npy", content}}, true);
  const auto directory = good.size() - 22 - 46 - 5;
  const auto with = [&](std::size_t at, std::uint64_t value, int n) {
    Bytes bytes = good;
    for (int i = 0; i < n; ++i) {
      bytes[at + static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(value >> 8 * i);
    }
    return io_error([&] { data::parse_npz(bytes, "file"); });
  };
  CHECK(with(directory, 0x02014b50, 4).empty());
  CHECK(contains(with(directory + 8, 1, 2), "encrypted"));
  CHECK(contains(with(directory + 10, 12, 2), "method 12"));
  CHECK(contains(with(directory + 16, 1, 4), "checksum"));
  CHECK(contains(with(directory + 20, 0xFFFFFFFF, 4), "zip64"));
  CHECK(contains(with(directory + 24, 0xFFFFFFFE, 4), "unpack to 4294967294 bytes or more, at most 67108864"));
  CHECK(contains(with(directory + 24, 1 << 26, 4), "unpacks to 132 bytes, expected 67108864"));
  CHECK(contains(with(directory + 24, 100, 4), "more than its 100 bytes"));
  CHECK(contains(with(directory + 42, 1, 4), "no local header"));
  CHECK(contains(with(good.size() - 6, directory + 1, 4), "the directory is at"));
  CHECK(contains(with(good.size() - 12, 0xFFFF, 2), "zip64"));
  CHECK(contains(io_error([&] { data::parse_npz(zip({{"a.txt", content}}, false), "file"); }), "not a .npy"));
  CHECK(contains(io_error([&] {
                   data::parse_npz(zip({{"a.npy", content}, {"a.npy", content}}, false), "file");
                 }),
                 "twice"));
}

TEST_CASE("npz: an archive unpacks to 256 times its size, or to 64 MiB, and no further") {
  const Bytes half(std::size_t{1} << 25);
  const auto packed = zip({{"a", half}, {"b", half}}, true);
  CHECK(data::parse_zip(packed, "file").size() == 2);
  const auto more = zip({{"a", half}, {"b", half}, {"c", {1}}}, true);
  CHECK(contains(io_error([&] { data::parse_zip(more, "file"); }), "unpack to 67108865 bytes or more"));
}

TEST_CASE("npz: a data set") {
  const Scratch scratch;
  const auto read = [&](const Bytes& images, const Bytes& labels, std::int32_t classes = 0) {
    const auto path = scratch.write("set.npz", zip({{"images.npy", images}, {"labels.npy", labels}}, true));
    return data::read_npz_dataset(path, "images", "labels", classes);
  };
  const auto labels = data::npy_bytes(Tensor<std::int64_t>(Shape{2}, {2, 0}));
  const auto bytes = read(data::npy_bytes(Tensor<std::uint8_t>(Shape{2, 1, 1, 3}, {0, 1, 2, 3, 4, 255})), labels);
  CHECK(bytes.image_shape() == Shape{1, 1, 3});
  CHECK(bytes.classes() == 3);
  CHECK(bytes.label(0) == 2);
  CHECK(bytes.pixels(1)[2] == 255);
  const auto floats = read(data::npy_bytes(Tensor<float>(Shape{2, 1, 2}, {0, 0.5F, 1.0F / 255, 1})), labels, 10);
  CHECK(floats.classes() == 10);
  CHECK(floats.pixels(0)[1] == 128);
  CHECK(floats.pixels(1)[0] == 1);
  CHECK(floats.pixels(1)[1] == 255);
  const auto floats_of = [](float v) { return data::npy_bytes(Tensor<float>(Shape{2, 1, 1}, v)); };
  CHECK(contains(io_error([&] { read(floats_of(1.5F), labels); }), "pixel 0 of 'images' is 1.5"));
  CHECK(
      contains(io_error([&] { read(floats_of(std::numeric_limits<float>::quiet_NaN()), labels); }), "expected 0 to 1"));
  CHECK(contains(io_error([&] {
                   read(floats_of(1), data::npy_bytes(Tensor<std::int64_t>(Shape{2}, {0, -1})));
                 }),
                 "label -1"));
  CHECK(contains(io_error([&] { read(floats_of(1), data::npy_bytes(Tensor<std::int64_t>(Shape{3}))); }), "3 labels"));
  CHECK(contains(io_error([&] { read(floats_of(1), floats_of(1)); }), "expected integers"));
  CHECK(contains(io_error([&] { read(labels, labels); }), "expected bytes or floats"));
  CHECK(contains(io_error([&] { read(floats_of(1), labels, 2); }), "expected 0 to 1"));
  CHECK(contains(io_error([&] { data::read_npz_dataset(scratch / "set.npz", "pictures"); }), "only images, labels"));
}

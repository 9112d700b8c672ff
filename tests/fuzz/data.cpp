// SPDX-License-Identifier: MIT
// Targets: the readers of data sets.
#include "fuzz/target.hpp"
#include "io/pictures.hpp"
#include "pavise/data/cifar.hpp"
#include "pavise/data/idx.hpp"
#include "pavise/data/image_folder.hpp"
#include "pavise/data/npy.hpp"

namespace pavise_fuzz {

namespace {

namespace data = pavise::data;
namespace io = pavise::io;
using pavise::Shape;
using pavise::Tensor;
using pavise_test::encoded;
using pavise_test::gzipped;
using pavise_test::picture;

/// What is deflated grows by 1,032 at most (io::unpacked_limit is larger for files this small), and a reader holds it up
/// to four times: an old and a new vector of twice the size, and what is made of it.
constexpr std::uint64_t kPacked = 4 * 1032;

void read_idx(const Bytes& file) {
  const MemoryFile there(file);
  data::read_idx(there.path(), file.size() > 3 && file[3] == 1 ? 1 : 3);
}

void read_idx_dataset(const Bytes& file) {
  const MemoryFile images(file);
  const MemoryFile labels(pavise_test::idx({2}, {1, 0}));
  data::read_idx_dataset("fuzz", images.path(), labels.path(), {"a", "b"});
}

void read_gzip(const Bytes& file) {
  const MemoryFile there(file);
  io::read_gzip(there.path(), std::uint64_t{1} << 40);
}

void read_cifar(const Bytes& file) {
  const MemoryFile there(file);
  const std::vector<std::string> names(10, "class");
  data::detail::read_cifar("fuzz", {there.path()}, 1, names);
}

void read_npz(const Bytes& file) {
  const MemoryFile there(file);
  data::read_npz_dataset(there.path());
}

void read_folder(const Bytes& file) {
  const MemoryFile there(file);
  data::image_folder_split(there.path());
}

void read_image(const Bytes& file) {
  const auto image = io::decode_image(file, "fuzz", file.empty() ? 0 : std::int64_t{file[file.size() / 2]} % 2 * 3);
  if (image.pixels.size() < 10000) {
    io::resized(image, 7, 5);
  }
}

Bytes cifar_records() {
  Bytes out(2 * 3073, 7);
  out[0] = out[3073] = 9;
  return out;
}

pavise_test::Files npz_files() {
  return {{"images.npy", data::npy_bytes(Tensor<float>(Shape{2, 1, 2, 2}, 0.5F))},
          {"labels.npy", data::npy_bytes(Tensor<std::int64_t>(Shape{2}, {1, 0}))}};
}

Bytes archive(const std::string& format, pavise_test::LongNames names) {
  return pavise_test::tar({{"train/a/1." + format, encoded(picture(3, 4, 5), format)},
                           {"train/b/2." + format, encoded(picture(3, 4, 5, 1), format)},
                           {"test/a/3." + format, encoded(picture(3, 4, 5, 2), format)}},
                          names);
}

std::vector<Bytes> images() {
  std::vector<Bytes> out;
  for (const char* format : {"png", "jpg", "bmp"}) {
    for (const int channels : {1, 3}) {
      out.push_back(encoded(picture(channels, 9, 17), format));
    }
  }
  return out;
}

std::vector<Target> targets() {
  using pavise_test::LongNames;
  const Bytes pixels = pavise_test::idx({2, 2, 3}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255});
  return {
      {"gzip", kPacked, 4 * kMiB, read_gzip,
       [] {
         return std::vector<Bytes>{gzipped(cifar_records()), gzipped({1, 2, 3})};
       }},
      {"idx", kPacked, 4 * kMiB, read_idx,
       [=] {
         return std::vector<Bytes>{pixels, gzipped(pixels), pavise_test::idx({3}, {0, 1, 0})};
       }},
      {"idx-dataset", kPacked, 4 * kMiB, read_idx_dataset,
       [=] {
         return std::vector<Bytes>{pixels, gzipped(pixels)};
       }},
      {"cifar", kPacked, 4 * kMiB, read_cifar,
       [] {
         return std::vector<Bytes>{cifar_records(), gzipped(cifar_records())};
       }},
      {"npy", 2, kMiB, [](const Bytes& file) { data::parse_npy(file, "fuzz"); },
       [] {
         return std::vector<Bytes>{data::npy_bytes(Tensor<float>(Shape{2, 3}, 1.5F)),
                                   data::npy_bytes(Tensor<std::int32_t>(Shape{0, 7})),
                                   data::npy_bytes(Tensor<std::uint8_t>(Shape{}))};
       }},
      {"npz", kPacked, 4 * kMiB, read_npz,
       [] {
         return std::vector<Bytes>{pavise_test::zip(npz_files(), false), pavise_test::zip(npz_files(), true)};
       }},
      // 64 MiB of pixels at least, and one image as below.
      {"image-folder", kPacked, (64 + 96) * kMiB, read_folder,
       [] {
         return std::vector<Bytes>{archive("png", LongNames::none), archive("jpg", LongNames::gnu),
                                   archive("bmp", LongNames::pax), gzipped(archive("png", LongNames::none))};
       }},
      // A small image may have 4 Mi pixels; the decoder holds them up to some twenty times, as coefficients too.
      {"image", 8 * 1032, 96 * kMiB, read_image, images},
  };
}

[[maybe_unused]] const Targets kTargets(targets);

}  // namespace

}  // namespace pavise_fuzz

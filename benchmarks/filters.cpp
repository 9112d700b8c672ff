// SPDX-License-Identifier: MIT
// Filters of images, as benchmarks/compare_filters.py runs them in alternation with OpenCV's, SciPy's and Pillow's.
//
//   filters FILE COUNT CHANNELS HEIGHT WIDTH     reads COUNT images of bytes, (C,H,W) each, then from standard input
//       time FILTER SECONDS    times the filter on all images in lanes, as in front of a model: a line of JSON
//       dense FILTER SECONDS   the same, from dense floats to dense floats
//       libjpeg QUALITY SECONDS  times libjpeg itself, bytes to bytes, on as many threads; where it was found
//       write FILTER FILE      writes what the filter makes of them, as floats
//       quit
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#ifdef PAVISE_HAVE_LIBJPEG
#include "filter/libjpeg.hpp"
#endif
#include "pavise/defend/filter/apply.hpp"
#include "pavise/defend/filter/catalog.hpp"
#include "peak.hpp"

namespace {

using namespace pavise;

template <class Body>
std::string samples(const std::string& name, double seconds, const Body& body) {
  std::ostringstream out;
  out.precision(9);
  out << "{\"filter\":\"" << name << "\",\"samples\":[";
  body();
  const double end = benchmarks::now() + seconds;
  bool first = true;
  do {
    const double start = benchmarks::now();
    body();
    out << (first ? "" : ",") << benchmarks::now() - start;
    first = false;
  } while (benchmarks::now() < end);
  out << "],\"isa\":\"" << kernels::isa_name(kernels::isa()) << "\",\"threads\":" << thread_count() << "}";
  return out.str();
}

#ifdef PAVISE_HAVE_LIBJPEG
/// The images as libjpeg wants them, (H,W,C).
std::vector<std::vector<std::uint8_t>> interleaved(const std::vector<std::uint8_t>& bytes, const Shape& s) {
  const auto pixels = static_cast<std::size_t>(s[2] * s[3]);
  const auto channels = static_cast<std::size_t>(s[1]);
  std::vector<std::vector<std::uint8_t>> out(static_cast<std::size_t>(s[0]),
                                             std::vector<std::uint8_t>(pixels * channels));
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (std::size_t e = 0; e < pixels * channels; ++e) {
      out[i][e % pixels * channels + e / pixels] = bytes[i * pixels * channels + e];
    }
  }
  return out;
}
#endif

std::string answer(std::istringstream& words, const std::vector<std::uint8_t>& bytes, const Tensor<float>& images) {
  std::string verb, name, rest;
  words >> verb >> name >> rest;
  const Shape& s = images.shape();
  if (verb == "libjpeg") {
#ifdef PAVISE_HAVE_LIBJPEG
    const auto all = interleaved(bytes, s);
    std::vector<std::vector<std::uint8_t>> back(all.size());
    return samples("libjpeg " + name, std::atof(rest.c_str()), [&] {
      parallel_chunks(s[0], 16, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const auto at = static_cast<std::size_t>(i);
          back[at] = libjpeg::round_trip(all[at], static_cast<int>(s[2]), static_cast<int>(s[3]),
                                         static_cast<int>(s[1]), std::atoi(name.c_str()), true);
        }
      });
    });
#else
    return "{\"filter\":\"libjpeg\",\"error\":\"built without libjpeg\"}";
#endif
  }
  const auto filters = defend::make_filters<float>({name});
  if (verb == "write") {
    const auto out = defend::filter_images(filters, images);
    std::ofstream file(rest, std::ios::binary);
    file.write(reinterpret_cast<const char*>(out.data()), out.size() * static_cast<std::int64_t>(sizeof(float)));
    return "{\"filter\":\"" + name + "\",\"written\":" + std::to_string(out.size()) + "}";
  }
  if (verb == "time") {
    const Shape image{s[1], s[2], s[3]};
    LaneBatch<float> batch(image, s[0], 16);
    batch.pack([&](std::int64_t i, float* out) { std::copy_n(images.row(i).begin(), image.numel(), out); });
    return samples(name, std::atof(rest.c_str()), [&] {
      parallel_for(batch.groups(), [&](std::int64_t g) {
        auto& tape = thread_tape<float>();
        tape.begin(batch.valid(g));
        (void)filters(tape.view(image, batch.values(g)));
      });
    });
  }
  require(verb == "dense", "filters: ", verb, ", expected time, dense, libjpeg, write or quit");
  return samples(name, std::atof(rest.c_str()), [&] { (void)defend::filter_images(filters, images); });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: filters FILE COUNT CHANNELS HEIGHT WIDTH\n");
    return 2;
  }
  try {
    Tensor<float> images({std::atoll(argv[2]), std::atoll(argv[3]), std::atoll(argv[4]), std::atoll(argv[5])});
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(images.size()));
    std::ifstream file(argv[1], std::ios::binary);
    file.read(reinterpret_cast<char*>(bytes.data()), images.size());
    require<IoError>(static_cast<bool>(file), argv[1], ": holds no ", images.size(), " bytes");
    for (std::int64_t i = 0; i < images.size(); ++i) {
      images[i] = static_cast<float>(bytes[static_cast<std::size_t>(i)]) / 255.0f;
    }
    for (std::string line; std::getline(std::cin, line) && line != "quit";) {
      std::istringstream words(line);
      try {
        std::cout << answer(words, bytes, images) << std::endl;
      } catch (const std::exception& e) {
        std::cout << "{\"error\":\"" << e.what() << "\"}" << std::endl;
      }
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "filters: %s\n", e.what());
    return 1;
  }
  return 0;
}

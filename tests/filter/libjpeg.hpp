// SPDX-License-Identifier: MIT
// An image through libjpeg itself, in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

// after <cstdio>, which it needs
#include <jpeglib.h>

namespace libjpeg {

/// Encodes (height,width,channels) bytes at a quality and decodes them. `halved`: 4:2:0, else 4:4:4.
inline std::vector<std::uint8_t> round_trip(const std::vector<std::uint8_t>& pixels, int height, int width,
                                            int channels, int quality, bool halved) {
  const auto row = static_cast<std::size_t>(width * channels);
  jpeg_error_mgr errors;
  jpeg_compress_struct out;
  out.err = jpeg_std_error(&errors);
  jpeg_create_compress(&out);
  unsigned char* file = nullptr;
  unsigned long size = 0;  // NOLINT(google-runtime-int): libjpeg's
  jpeg_mem_dest(&out, &file, &size);
  out.image_width = static_cast<JDIMENSION>(width);
  out.image_height = static_cast<JDIMENSION>(height);
  out.input_components = channels;
  out.in_color_space = channels == 3 ? JCS_RGB : JCS_GRAYSCALE;
  jpeg_set_defaults(&out);
  jpeg_set_quality(&out, quality, TRUE);
  if (channels == 3) {
    out.comp_info[0].h_samp_factor = halved ? 2 : 1;
    out.comp_info[0].v_samp_factor = halved ? 2 : 1;
  }
  jpeg_start_compress(&out, TRUE);
  while (out.next_scanline < out.image_height) {
    auto* at = const_cast<JSAMPROW>(pixels.data() + out.next_scanline * row);
    jpeg_write_scanlines(&out, &at, 1);
  }
  jpeg_finish_compress(&out);
  jpeg_destroy_compress(&out);

  jpeg_decompress_struct in;
  in.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&in);
  jpeg_mem_src(&in, file, size);
  jpeg_read_header(&in, TRUE);
  jpeg_start_decompress(&in);
  std::vector<std::uint8_t> back(pixels.size());
  while (in.output_scanline < in.output_height) {
    auto* at = back.data() + in.output_scanline * row;
    jpeg_read_scanlines(&in, &at, 1);
  }
  jpeg_finish_decompress(&in);
  jpeg_destroy_decompress(&in);
  std::free(file);  // NOLINT(cppcoreguidelines-no-malloc): libjpeg's
  return back;
}

}  // namespace libjpeg

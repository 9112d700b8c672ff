// SPDX-License-Identifier: MIT
// A folder of images, one sub-folder a class, or a tar archive of one, read without unpacking it. Opt-in: includes
// stb_image.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/shape.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/data/tar.hpp"
#include "pavise/io/file.hpp"
#include "pavise/io/image.hpp"

namespace pavise::data {

struct ImageFolderOptions {
  std::int64_t channels = 0;  ///< 1: grey, 3: colour, 0: as the first image
  std::int64_t height = 0;    ///< height and width to which images are resized, or 0: all must be of one size
  std::int64_t width = 0;
  std::uint64_t max_file_bytes = std::uint64_t{1} << 26;  ///< the largest image file that is read
  /// The most memory that the decoded images may take; where they are not resized, io::unpacked_limit of the files, too.
  std::uint64_t max_pixel_bytes = std::uint64_t{1} << 35;
  std::string name;  ///< of the data set, or "": the last part of the path
};

namespace detail {

/// An image file: where it is, and its bytes where they are in memory already.
struct ImageFile {
  std::string part, class_name, name, path;
  std::vector<std::uint8_t> bytes;
};

inline bool is_image_name(std::string_view path) {
  const auto file = path.substr(path.find_last_of('/') + 1);
  std::string ending(file.substr(std::min(file.find_last_of('.'), file.size())));
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return !file.starts_with('.') && (ending == ".png" || ending == ".jpg" || ending == ".jpeg" || ending == ".bmp");
}

/// Puts the image at `relative`, "class/file" or "train/class/file", in its place. What comes before, in an archive the
/// folder that was packed, has to be the same for all: it is kept in `root`.
inline ImageFile place_image(std::string_view relative, const std::string& path, std::string& root, bool first) {
  while (relative.starts_with("./")) {
    relative.remove_prefix(2);
  }
  const auto cut = [&] {  // takes the last part off
    const auto slash = relative.find_last_of('/');
    const auto last = relative.substr(slash == std::string_view::npos ? 0 : slash + 1);
    relative = relative.substr(0, slash == std::string_view::npos ? 0 : slash);
    return std::string(last);
  };
  ImageFile out;
  out.path = path;
  out.name = cut();
  out.class_name = cut();
  require<IoError>(!out.class_name.empty(), path, ": image folder: expected class/image or train/class/image");
  const auto above = relative.substr(relative.find_last_of('/') + 1);  // npos + 1 is 0
  if (above == "train" || above == "test") {
    out.part = cut();
  }
  root = first ? std::string(relative) : root;
  require<IoError>(relative == root, path, ": image folder: expected ", root, root.empty() ? "" : "/",
                   "class/image or train/class/image, as for the images before");
  return out;
}

/// All images of a folder or an archive, sorted by part, class and name.
inline std::vector<ImageFile> list_images(const std::string& path, const ImageFolderOptions& options) {
  std::vector<ImageFile> out;
  std::string root;
  if (io::is_directory(path)) {
    namespace fs = std::filesystem;
    std::error_code error;
    for (auto it = fs::recursive_directory_iterator(path, error); !error && it != fs::recursive_directory_iterator();
         it.increment(error)) {
      const auto file = it->path().string();
      if (io::is_file(file) && is_image_name(file)) {
        const auto relative = it->path().lexically_relative(path).string();
        out.push_back(place_image(relative, file, root, out.empty()));
      }
    }
    require<IoError>(!error, path, ": cannot be listed: ", error.message());
  } else {
    read_tar(path, options.max_file_bytes, is_image_name,
             [&](const std::string& name, std::vector<std::uint8_t> bytes) {
               out.push_back(place_image(name, concat(path, "/", name), root, out.empty()));
               out.back().bytes = std::move(bytes);
             });
  }
  require<IoError>(!out.empty(), path, ": image folder: no PNG, JPEG or BMP image in it");
  std::sort(out.begin(), out.end(), [](const ImageFile& a, const ImageFile& b) {
    return std::tie(a.part, a.class_name, a.name) < std::tie(b.part, b.class_name, b.name);
  });
  return out;
}

/// Decodes `files`, in parallel, to images of one shape.
inline Dataset decode_images(const std::vector<ImageFile>& files, const std::vector<std::string>& class_names,
                             const Shape& shape, bool resize, const ImageFolderOptions& options, std::string name) {
  const auto bytes_of = [&](const ImageFile& file) {
    return file.bytes.empty() ? io::read_file(file.path, options.max_file_bytes) : std::vector<std::uint8_t>();
  };
  const auto n = static_cast<std::int64_t>(files.size());
  std::vector<std::int32_t> labels;
  for (const auto& file : files) {
    const auto found = std::lower_bound(class_names.begin(), class_names.end(), file.class_name);
    require<IoError>(found != class_names.end() && *found == file.class_name, file.path, ": image folder: the class '",
                     file.class_name, "' has no images for training");
    labels.push_back(static_cast<std::int32_t>(found - class_names.begin()));
  }
  // Every header first: only then is it true that so much memory is needed.
  const auto checked = [&](const ImageFile& file, std::span<const std::uint8_t> bytes) {
    const auto info = io::image_info(bytes, file.path);
    require<IoError>(resize || (info.height == shape[1] && info.width == shape[2]), file.path,
                     ": image folder: ", info.width, " by ", info.height, " pixels, the first image has ", shape[2],
                     " by ", shape[1], " (set height and width to resize)");
  };
  std::atomic<std::uint64_t> packed{0};
  parallel_chunks(n, 64, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      const auto& file = files[static_cast<std::size_t>(i)];
      const auto read = bytes_of(file);
      const std::span<const std::uint8_t> bytes = file.bytes.empty() ? read : file.bytes;
      checked(file, bytes);
      packed += bytes.size();
    }
  });
  const auto size = static_cast<std::uint64_t>(shape.numel());
  const auto most = resize ? options.max_pixel_bytes : std::min(options.max_pixel_bytes, io::unpacked_limit(packed));
  require<IoError>(size <= most / static_cast<std::uint64_t>(std::max<std::int64_t>(n, 1)),
                   files.empty() ? name : files.front().path, ": image folder: ", n, " images of ", shape,
                   " need more than ", most, " bytes, the most for files of ", packed.load(), " bytes");
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(n) * size);
  parallel_chunks(n, 64, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = begin; i < end; ++i) {
      const auto& file = files[static_cast<std::size_t>(i)];
      const auto read = bytes_of(file);
      const std::span<const std::uint8_t> bytes = file.bytes.empty() ? read : file.bytes;
      checked(file, bytes);  // again: a file on disk may have changed
      auto image = io::decode_image(bytes, file.path, shape[0]);
      if (image.height != shape[1] || image.width != shape[2]) {
        image = io::resized(image, shape[1], shape[2]);
      }
      std::copy(image.pixels.begin(), image.pixels.end(),
                pixels.begin() + static_cast<std::ptrdiff_t>(i * shape.numel()));
    }
  });
  return {std::move(name), shape, std::move(pixels), std::move(labels), class_names};
}

/// What is common to both functions below: the images of `parts`, under the classes of the first part.
inline std::vector<Dataset> read_image_folder(const std::string& path, const ImageFolderOptions& options,
                                              const std::vector<std::string>& parts) {
  require((options.height == 0) == (options.width == 0) && options.height >= 0 && options.width >= 0,
          "image_folder: height is ", options.height, ", width is ", options.width, ", expected both, or 0 and 0");
  require(options.channels == 0 || options.channels == 1 || options.channels == 3, "image_folder: ", options.channels,
          " channels, expected 0, 1 or 3");
  std::map<std::string, std::vector<ImageFile>> files;
  for (auto& file : list_images(path, options)) {
    auto& part = files[file.part];
    part.push_back(std::move(file));
  }
  for (const auto& [part, images] : files) {
    require<IoError>(std::find(parts.begin(), parts.end(), part) != parts.end(), images.front().path,
                     part.empty() ? ": image folder: expected the folders train and test"
                                  : ": image folder: is divided into train and test, expected one set");
  }
  for (const auto& part : parts) {
    require<IoError>(files.contains(part), path, ": image folder: no images in ", part);
  }
  const auto& first = files[parts.front()];
  std::vector<std::string> class_names;
  for (const auto& file : first) {
    if (class_names.empty() || class_names.back() != file.class_name) {
      class_names.push_back(file.class_name);
    }
  }
  const auto& sample = first.front();
  const auto read = sample.bytes.empty() ? io::read_file(sample.path, options.max_file_bytes) : sample.bytes;
  const auto info = io::image_info(read, sample.path);
  const bool resize = options.height > 0;
  const Shape shape{options.channels > 0 ? options.channels : info.channels, resize ? options.height : info.height,
                    resize ? options.width : info.width};
  auto trimmed = path;
  while (trimmed.size() > 1 && trimmed.ends_with('/')) {
    trimmed.pop_back();
  }
  const auto name = options.name.empty() ? trimmed.substr(trimmed.find_last_of('/') + 1) : options.name;
  std::vector<Dataset> out;
  for (const auto& part : parts) {
    out.push_back(decode_images(files[part], class_names, shape, resize, options, name));
    files[part].clear();
  }
  return out;
}

}  // namespace detail

/// The data set of `path`, a folder (or a tar archive of one, gzipped or not) with a folder of PNG, JPEG or BMP images
/// for each class. Classes and images are sorted by name. Other files are passed over. Throws IoError that names the
/// file where an image cannot be read or has another size than the first.
inline Dataset image_folder(const std::string& path, const ImageFolderOptions& options = {}) {
  return std::move(detail::read_image_folder(path, options, {""}).front());
}

/// As image_folder, for a folder or archive that holds two of them: train and test. The classes are those of train.
inline Split image_folder_split(const std::string& path, const ImageFolderOptions& options = {}) {
  auto parts = detail::read_image_folder(path, options, {"train", "test"});
  return {std::move(parts[0]), std::move(parts[1])};
}

}  // namespace pavise::data

// The .npy file format (numpy.lib.format, versions 1 to 3).
#pragma once
#include <string>
#include <vector>

#include "fovea/stored_array.hpp"

namespace fovea {

/// Maps a .npy file: int8 .. int64, uint8 .. uint64, float16, float32, float64, either byte order, C or
/// Fortran order. FormatError naming file, field and value for anything else: pickled objects, structured,
/// text, boolean and complex elements, a header that is damaged or too long, a shape that is negative, too
/// large, of more than 6 axes, or does not agree with the size of the file. Nothing is allocated for what the
/// header claims.
StoredArray open_npy(const std::string& path);

/// The same from bytes in memory that `owner` keeps alive; `name` stands for the file in errors.
StoredArray parse_npy(const std::string& name, const std::byte* bytes, std::size_t size,
                      std::shared_ptr<const void> owner);

/// The words of a list: numpy's unicode and byte strings (as UTF-8), numbers as they are written shortest.
/// FormatError as parse_npy.
std::vector<std::string> parse_npy_words(const std::string& name, const std::byte* bytes, std::size_t size);

/// Reads a whole file as a host tensor of the given dtype.
Tensor read_npy(const std::string& path, DType dtype, const Device& device);

/// Writes an f32, f64 or i64 tensor from any device, version 1.0, C order: temporary name, fsync, rename.
void write_npy(const std::string& path, const Tensor& tensor);

}  // namespace fovea

// Whole .npy files in memory, of element types that tensors lack, and of text.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

/// What precedes the values of a .npy file: version 1.0, C order, as long as numpy makes it.
std::string npy_header(std::string_view descr, const std::vector<std::int64_t>& shape);

/// A file of numbers: int8, uint8, int64, float or double, as many as the shape has elements (ShapeError).
template <class T>
std::string npy_file(const std::vector<T>& values, const std::vector<std::int64_t>& shape);

/// A file of texts, shape (count,), as numpy's unicode arrays `<U<width>` hold them: UTF-32, filled up with
/// zeros. Without a width, that of the longest text. Error where a text is longer or not ASCII.
std::string npy_file(const std::vector<std::string>& texts, std::size_t width = 0);

}  // namespace fovea

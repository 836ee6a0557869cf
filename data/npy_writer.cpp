#include "data/npy_writer.hpp"

#include <algorithm>

#include "fovea/error.hpp"
#include "fovea/stored_array.hpp"

namespace fovea {
namespace {

template <class T>
constexpr const char* descr_of = nullptr;
template <>
constexpr const char* descr_of<std::int8_t> = "|i1";
template <>
constexpr const char* descr_of<std::uint8_t> = "|u1";
template <>
constexpr const char* descr_of<std::int64_t> = "<i8";
template <>
constexpr const char* descr_of<float> = "<f4";
template <>
constexpr const char* descr_of<double> = "<f8";

}  // namespace

std::string npy_header(std::string_view descr, const std::vector<std::int64_t>& shape) {
  std::string header =
      text("{'descr': '", descr, "', 'fortran_order': False, 'shape': ", shape_text(shape), ", }");
  constexpr std::size_t preamble = 10, alignment = 64;
  header.append(alignment - (preamble + header.size() + 1) % alignment, ' ');
  header += '\n';
  std::string start("\x93NUMPY\x01\x00", 8);
  start += static_cast<char>(header.size() & 255);
  start += static_cast<char>(header.size() >> 8);
  return start + header;
}

template <class T>
std::string npy_file(const std::vector<T>& values, const std::vector<std::int64_t>& shape) {
  std::int64_t elements = 1;
  for (const std::int64_t extent : shape) elements *= extent;
  if (elements != static_cast<std::int64_t>(values.size()))
    throw ShapeError("npy_file",
                     text("shape ", shape_text(shape), " does not have ", values.size(), " elements"));
  std::string file = npy_header(descr_of<T>, shape);
  file.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  return file;
}

template std::string npy_file(const std::vector<std::int8_t>&, const std::vector<std::int64_t>&);
template std::string npy_file(const std::vector<std::uint8_t>&, const std::vector<std::int64_t>&);
template std::string npy_file(const std::vector<std::int64_t>&, const std::vector<std::int64_t>&);
template std::string npy_file(const std::vector<float>&, const std::vector<std::int64_t>&);
template std::string npy_file(const std::vector<double>&, const std::vector<std::int64_t>&);

std::string npy_file(const std::vector<std::string>& texts, std::size_t width) {
  std::size_t longest = 1;  // numpy has no narrower type
  for (const std::string& entry : texts) {
    longest = std::max(longest, entry.size());
    if (std::any_of(entry.begin(), entry.end(), [](char c) { return c == 0 || (c & 0x80) != 0; }))
      throw Error("npy_file", text("a text must be ASCII without zeros: ", entry));
  }
  if (width == 0) width = longest;
  if (longest > width)
    throw Error("npy_file", text("a text must have at most ", width, " characters: ", longest));
  std::string file = npy_header(text("<U", width), {static_cast<std::int64_t>(texts.size())});
  const std::size_t values_at = file.size();
  file.resize(values_at + texts.size() * width * 4, '\0');
  for (std::size_t i = 0; i < texts.size(); ++i)
    for (std::size_t c = 0; c < texts[i].size(); ++c) file[values_at + (i * width + c) * 4] = texts[i][c];
  return file;
}

}  // namespace fovea

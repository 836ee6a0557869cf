#include "fovea/npy.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "data/npy_writer.hpp"
#include "engine/atomic_file.hpp"

namespace fovea {

namespace {

constexpr std::size_t longest_header = 1 << 20;
constexpr int highest_rank = 6;

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw FormatError("npy", text(name, ": ", what));
}

// Text of a file in a message: printable and short.
std::string quoted(std::string_view part) {
  std::string result = "'";
  for (const char c : part.substr(0, 60)) result += c >= ' ' && c <= '~' ? c : '?';
  return result + (part.size() > 60 ? "..'" : "'");
}

struct Header {
  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<std::vector<std::int64_t>> shape;
};

// The header is a Python dictionary literal with three known keys; nothing else of Python is understood.
class HeaderParser {
 public:
  HeaderParser(const std::string& name, std::string_view rest) : name_(name), rest_(rest) {}

  Header parse() {
    Header header;
    expect('{', "header");
    while (!accept('}')) {
      const std::string key = parse_text("key");
      expect(':', key);
      if (key == "descr" && !header.descr)
        header.descr = parse_descr();
      else if (key == "fortran_order" && !header.fortran_order)
        header.fortran_order = parse_bool();
      else if (key == "shape" && !header.shape)
        header.shape = parse_shape();
      else
        fail(name_, text("header key unknown or twice: ", quoted(key)));
      if (!accept(',')) {
        expect('}', "header");
        break;
      }
    }
    skip_space();
    if (!rest_.empty()) fail(name_, text("header goes on after its end: ", quoted(rest_)));
    if (!header.descr) fail(name_, "header lacks 'descr'");
    if (!header.fortran_order) fail(name_, "header lacks 'fortran_order'");
    if (!header.shape) fail(name_, "header lacks 'shape'");
    return header;
  }

 private:
  void skip_space() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n' || rest_[0] == '\t'))
      rest_.remove_prefix(1);
  }

  bool accept(char c) {
    skip_space();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void expect(char c, std::string_view field) {
    if (!accept(c)) fail(name_, text(field, ": expected '", c, "', found ", quoted(rest_)));
  }

  std::string parse_text(std::string_view field) {
    skip_space();
    const char quote = rest_.empty() ? '\0' : rest_[0];
    if (quote != '\'' && quote != '"') fail(name_, text(field, ": expected a string, found ", quoted(rest_)));
    const std::size_t end = rest_.find(quote, 1);
    if (end == std::string_view::npos) fail(name_, text(field, ": string without end: ", quoted(rest_)));
    std::string result(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return result;
  }

  std::string parse_descr() {
    skip_space();
    if (!rest_.empty() && (rest_[0] == '[' || rest_[0] == '('))
      fail(name_, text("descr: structured element types are not supported: ", quoted(rest_)));
    return parse_text("descr");
  }

  bool parse_bool() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (rest_.substr(0, word.size()) != word) continue;
      rest_.remove_prefix(word.size());
      return value;
    }
    fail(name_, text("fortran_order: expected True or False, found ", quoted(rest_)));
  }

  std::vector<std::int64_t> parse_shape() {
    std::vector<std::int64_t> shape;
    expect('(', "shape");
    while (!accept(')')) {
      shape.push_back(parse_extent());
      if (static_cast<int>(shape.size()) > highest_rank)
        fail(name_, text("shape: more than ", highest_rank, " axes"));
      if (!accept(',')) {
        expect(')', "shape");
        break;
      }
    }
    return shape;
  }

  std::int64_t parse_extent() {
    skip_space();
    std::int64_t extent = 0;
    std::size_t digits = 0;
    for (; digits < rest_.size() && rest_[digits] >= '0' && rest_[digits] <= '9'; ++digits)
      if (__builtin_mul_overflow(extent, 10, &extent) ||
          __builtin_add_overflow(extent, rest_[digits] - '0', &extent))
        fail(name_, text("shape: extent too large: ", quoted(rest_)));
    if (digits == 0) fail(name_, text("shape: expected a number of at least 0, found ", quoted(rest_)));
    rest_.remove_prefix(digits);
    if (!rest_.empty() && rest_[0] == 'L') rest_.remove_prefix(1);  // written by Python 2
    return extent;
  }

  const std::string& name_;
  std::string_view rest_;
};

ElementType parse_element(const std::string& name, const std::string& descr, bool* swapped) {
  const auto refuse = [&](const std::string& why) { fail(name, text("descr: ", why, ": ", quoted(descr))); };
  if (descr.find('O') != std::string::npos) refuse("pickled objects are not read");
  if (descr.size() != 3) refuse("element type not supported");
  const char order = descr[0];
  if (order != '<' && order != '>' && order != '|' && order != '=') refuse("byte order unknown");
  const bool little =
      order == '<' || ((order == '|' || order == '=') && std::endian::native == std::endian::little);
  *swapped = little != (std::endian::native == std::endian::little);
  constexpr std::pair<std::string_view, ElementType> types[] = {
      {"i1", ElementType::int8},    {"i2", ElementType::int16},   {"i4", ElementType::int32},
      {"i8", ElementType::int64},   {"u1", ElementType::uint8},   {"u2", ElementType::uint16},
      {"u4", ElementType::uint32},  {"u8", ElementType::uint64},  {"f2", ElementType::float16},
      {"f4", ElementType::float32}, {"f8", ElementType::float64},
  };
  for (const auto& [code, type] : types) {
    if (descr.substr(1) != code) continue;
    if (size_of(type) == 1)
      *swapped = false;
    else if (order == '|')
      refuse("byte order missing");
    return type;
  }
  refuse("element type not supported (int8 .. int64, uint8 .. uint64, float16, float32, float64)");
  return ElementType::float32;
}

// Length of preamble and header: where the values begin.
std::string_view find_header(const std::string& name, std::string_view file, std::size_t* values_at) {
  constexpr std::string_view magic = "\x93NUMPY";
  if (file.substr(0, magic.size()) != magic)
    fail(name, "is not a .npy file: it does not begin with \\x93NUMPY");
  if (file.size() < 10) fail(name, text("is cut off in its preamble: ", file.size(), " bytes"));
  const int major = static_cast<unsigned char>(file[6]), minor = static_cast<unsigned char>(file[7]);
  if (major < 1 || major > 3 || minor != 0) fail(name, text("version not supported: ", major, ".", minor));
  const std::size_t length_bytes = major == 1 ? 2 : 4, begin = 8 + length_bytes;
  if (file.size() < begin) fail(name, text("is cut off in its preamble: ", file.size(), " bytes"));
  std::size_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i)
    length |= static_cast<std::size_t>(static_cast<unsigned char>(file[8 + i])) << 8 * i;
  if (length > longest_header) fail(name, text("header too long: ", length, " bytes"));
  if (length > file.size() - begin)
    fail(name,
         text("is cut off in its header: ", length, " bytes announced, ", file.size() - begin, " there"));
  *values_at = begin + length;
  return file.substr(begin, length);
}

// A file mapped into memory for as long as somebody holds it.
class Mapping {
 public:
  explicit Mapping(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) fail(path, text("cannot be opened: ", std::strerror(errno)));
    struct stat status {};
    const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    if (regular && status.st_size > 0) {
      size_ = static_cast<std::size_t>(status.st_size);
      void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
      if (mapped != MAP_FAILED) bytes_ = static_cast<const std::byte*>(mapped);
    }
    const int error = errno;
    ::close(descriptor);
    if (!regular) fail(path, "is not a regular file");
    if (size_ > 0 && !bytes_) fail(path, text("cannot be mapped: ", std::strerror(error)));
  }
  ~Mapping() {
    if (bytes_) ::munmap(const_cast<std::byte*>(bytes_), size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const std::byte* bytes() const { return bytes_; }
  std::size_t size() const { return size_; }

 private:
  const std::byte* bytes_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace

StoredArray parse_npy(const std::string& name, const std::byte* bytes, std::size_t size,
                      std::shared_ptr<const void> owner) {
  std::size_t values_at = 0;
  const std::string_view header_text =
      find_header(name, std::string_view(reinterpret_cast<const char*>(bytes), size), &values_at);
  const Header header = HeaderParser(name, header_text).parse();
  bool swapped = false;
  const ElementType type = parse_element(name, *header.descr, &swapped);

  // Looked for in the product of the extents other than 0, so that a 0 hides no lie.
  constexpr std::int64_t most_elements = std::int64_t{1} << 58;  // of any type: their bytes fit 64 bits
  std::int64_t elements = 1, wanted = static_cast<std::int64_t>(size_of(type));
  for (const std::int64_t extent : *header.shape) {
    if (extent > 0 && elements > most_elements / extent)
      fail(name, text("shape: too many elements: ", shape_text(*header.shape)));
    elements *= std::max<std::int64_t>(extent, 1);
    wanted *= extent;
  }
  if (static_cast<std::size_t>(wanted) != size - values_at)
    fail(name, text("shape ", shape_text(*header.shape), " of ", to_string(type), " needs ", wanted,
                    " bytes, the file has ", size - values_at));

  StoredArray array(name, type, *header.shape, bytes + values_at, std::move(owner));
  array.swapped_ = swapped;
  if (*header.fortran_order) {
    std::int64_t stride = static_cast<std::int64_t>(size_of(type));
    for (std::size_t axis = 0; axis < array.shape_.size(); ++axis) {
      array.strides_[axis] = stride;
      stride *= array.shape_[axis];
    }
  }
  return array;
}

namespace {

/// "<U12" or "|S5": units of a text element, and bytes of a unit.
struct TextElement {
  std::size_t units = 0, unit_bytes = 0;
  bool big_endian = false;
};

std::optional<TextElement> parse_text_element(const std::string& descr) {
  if (descr.size() < 3 || (descr[1] != 'U' && descr[1] != 'S')) return std::nullopt;
  TextElement element;
  element.unit_bytes = descr[1] == 'U' ? 4 : 1;
  element.big_endian = descr[0] == '>' || (descr[0] != '<' && std::endian::native == std::endian::big);
  const char* end = descr.data() + descr.size();
  const auto [stop, error] = std::from_chars(descr.data() + 2, end, element.units);
  constexpr std::size_t most_units = 1 << 16;
  if (error != std::errc() || stop != end || element.units > most_units) return std::nullopt;
  return element;
}

void append_utf8(const std::string& name, std::uint32_t point, std::string& word) {
  if (point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
    fail(name, text("a text holds what is no character: ", point));
  const auto put = [&](std::uint32_t byte) { word += static_cast<char>(byte); };
  if (point < 0x80) return put(point);
  if (point < 0x800) {
    put(0xc0 | point >> 6);
  } else if (point < 0x10000) {
    put(0xe0 | point >> 12);
    put(0x80 | (point >> 6 & 0x3f));
  } else {
    put(0xf0 | point >> 18);
    put(0x80 | (point >> 12 & 0x3f));
    put(0x80 | (point >> 6 & 0x3f));
  }
  put(0x80 | (point & 0x3f));
}

/// Padded with zeros at the end.
std::string parse_word(const std::string& name, const TextElement& element, const unsigned char* bytes) {
  std::string word;
  std::size_t zeros = 0;
  for (std::size_t unit = 0; unit < element.units; ++unit, bytes += element.unit_bytes) {
    std::uint32_t point = bytes[0];
    if (element.unit_bytes == 4) {
      point = 0;
      for (std::size_t i = 0; i < 4; ++i)
        point |= std::uint32_t{bytes[i]} << 8 * (element.big_endian ? 3 - i : i);
    }
    if (point == 0) {
      ++zeros;
      continue;
    }
    word.append(std::exchange(zeros, 0), '\0');
    append_utf8(name, point, word);
  }
  return word;
}

std::vector<std::string> number_words(const StoredArray& array) {
  std::vector<std::string> words;
  if (is_floating(array.type())) {
    for (const double value : array.to_tensor(DType::f64, cpu_device(1)).to_vector<double>()) {
      char word[32];
      const auto [end, error] = std::to_chars(word, word + sizeof word, value);
      words.emplace_back(word, end);
    }
  } else {
    for (const std::int64_t value : array.to_tensor(DType::i64, cpu_device(1)).to_vector<std::int64_t>())
      words.push_back(std::to_string(value));
  }
  return words;
}

}  // namespace

std::vector<std::string> parse_npy_words(const std::string& name, const std::byte* bytes, std::size_t size) {
  std::size_t values_at = 0;
  const Header header =
      HeaderParser(
          name, find_header(name, std::string_view(reinterpret_cast<const char*>(bytes), size), &values_at))
          .parse();
  const auto element = parse_text_element(*header.descr);
  if (!element)
    return number_words(parse_npy(name, bytes, size, std::shared_ptr<const void>(bytes, [](const void*) {})));
  std::int64_t count = 1, longest = 1;
  for (const std::int64_t extent : *header.shape) {
    longest = std::max(longest, extent);
    if (__builtin_mul_overflow(count, extent, &count)) fail(name, "shape: too many elements");
  }
  if (longest != std::max<std::int64_t>(count, 1))
    fail(name, text("shape: a list of words expected: ", shape_text(*header.shape)));
  const std::size_t word_bytes = element->units * element->unit_bytes, there = size - values_at;
  if (word_bytes == 0 ? there != 0
                      : there % word_bytes != 0 || there / word_bytes != static_cast<std::size_t>(count))
    fail(name, text("shape ", shape_text(*header.shape), " of ", quoted(*header.descr), " does not fit the ",
                    there, " bytes of the file"));
  if (word_bytes == 0 && count > 0) fail(name, "descr: words without a length");
  std::vector<std::string> words;
  const auto* at = reinterpret_cast<const unsigned char*>(bytes) + values_at;
  for (std::int64_t i = 0; i < count; ++i, at += word_bytes) words.push_back(parse_word(name, *element, at));
  return words;
}

StoredArray open_npy(const std::string& path) {
  const auto mapping = std::make_shared<const Mapping>(path);
  return parse_npy(path, mapping->bytes(), mapping->size(), mapping);
}

Tensor read_npy(const std::string& path, DType dtype, const Device& device) {
  return open_npy(path).to_tensor(dtype, device);
}

void write_npy(const std::string& path, const Tensor& tensor) {
  const Tensor host = tensor.device().on_host() ? tensor : tensor.to(cpu_device(1));
  const char* descr = host.dtype() == DType::f32 ? "<f4" : host.dtype() == DType::f64 ? "<f8" : "<i8";
  AtomicFile file(path);
  file.write(npy_header(descr, host.shape().vector()));
  file.write(std::string_view(static_cast<const char*>(host.raw()), host.bytes()));
  file.commit();
}

}  // namespace fovea

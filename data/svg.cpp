#include "data/svg.hpp"

#include <array>
#include <charconv>

namespace fovea::svg {

std::string number(double value, int decimals) {
  std::array<char, 64> buffer{};
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed, decimals);
  const std::string digits(buffer.data(), end.ptr);
  return digits.find_first_of("123456789") == std::string::npos && digits[0] == '-' ? digits.substr(1)
                                                                                    : digits;
}

std::string escaped(const std::string& words) {
  std::string out;
  for (const char c : words) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += c;
    }
  return out;
}

}  // namespace fovea::svg

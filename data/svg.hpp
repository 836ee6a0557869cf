// Words and numbers of SVG pictures, the same bytes everywhere.
#pragma once
#include <string>

namespace fovea::svg {

/// A number with a fixed count of decimals, whatever the locale; never "-0".
std::string number(double value, int decimals);
/// Text between tags.
std::string escaped(const std::string& words);

}  // namespace fovea::svg

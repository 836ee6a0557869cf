// Errors of fovea: everything the library refuses is thrown as one of these; it never prints, exits or
// aborts.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fovea {

/// Base of all errors. what() reads `[where] rule: actual values`.
class Error : public std::runtime_error {
 public:
  Error(std::string_view where, std::string_view what)
      : std::runtime_error(std::string("[").append(where).append("] ").append(what)) {}
};

/// A tensor or argument has the wrong shape, dtype or device for an operation.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A file does not follow its format.
class FormatError : public Error {
 public:
  using Error::Error;
};

/// A parameter or configuration value is unknown, of the wrong type or out of range.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// A device is missing, lacks a kernel, or failed while running one.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// The arguments streamed one after the other: the values part of a message.
template <class... Args>
std::string text(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

}  // namespace fovea

// Writing small HDF5 files that are the same bytes for the same content.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace fovea {

/// An HDF5 file built in memory, without time stamps, and written whole by save(). Throws Error, with the
/// file and the dataset, when the HDF5 library refuses.
class Hdf5Writer {
 public:
  explicit Hdf5Writer(std::string path);
  ~Hdf5Writer();
  Hdf5Writer(const Hdf5Writer&) = delete;
  Hdf5Writer& operator=(const Hdf5Writer&) = delete;

  /// Creates a group; `name` is a path from the root.
  void group(const std::string& name);
  /// Writes a dataset of row-major values, as many as `shape` says; T: uint8, uint16, int64 (std), float or
  /// double.
  template <class T>
  void write(const std::string& name, const std::vector<std::int64_t>& shape, const std::vector<T>& values);
  /// Writes a one-dimensional dataset of fixed-length strings.
  void write(const std::string& name, const std::vector<std::string>& values);
  /// Closes the file and gives it its name; once, last.
  void save();

 private:
  void write(const std::string& name, const std::vector<std::int64_t>& shape, std::int64_t type,
             const void* values);

  std::string path_;
  std::int64_t file_ = -1;
};

}  // namespace fovea

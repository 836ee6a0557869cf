// Data sets of an HDF5 file, read where a damaged file cannot hurt.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "fovea/stored_array.hpp"

namespace fovea {

/// A data set: numbers, or text, or neither where its type is not supported (session_info only).
struct Hdf5Item {
  std::string
      name;  ///< path from the root without a leading slash: "responses_wn", "session_info/cell_index"
  StoredArray values;
  std::vector<std::string> text;
};

/// Chooses data sets by name.
using Hdf5Filter = std::function<bool(const std::string& name)>;

/// The wanted data sets at the root and in the group session_info, by name. Numbers keep their type in native
/// byte order. The HDF5 library crashes on some damaged files, so it runs in a child process with limits on
/// memory and time; FormatError naming file, data set and value for whatever is wrong: no HDF5 file, damage,
/// element types other than integers and floats of up to 64 bits, more than 6 axes, links into other files,
/// sizes that the file cannot hold.
std::vector<Hdf5Item> read_hdf5(const std::string& path, const Hdf5Filter& wanted);

/// read_hdf5, or a function that stands for it.
using Hdf5Reader = std::function<std::vector<Hdf5Item>(const std::string& path, const Hdf5Filter& wanted)>;

/// What the child process writes: every data set is announced with its size, then given.
class Hdf5Sink {
 public:
  virtual ~Hdf5Sink() = default;
  virtual void numbers(const std::string& name, ElementType type, const std::vector<std::int64_t>& shape,
                       const std::byte* bytes, std::size_t size) = 0;
  virtual void text(const std::string& name, const std::vector<std::string>& lines) = 0;
  virtual void unsupported(const std::string& name) = 0;
};

/// The part that calls the HDF5 library (hdf5_reader.cpp).
void read_hdf5_items(const std::string& path, const Hdf5Filter& wanted, Hdf5Sink& sink);

}  // namespace fovea

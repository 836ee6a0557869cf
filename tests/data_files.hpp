// Small data files for tests: folders that go away, npy bytes, HDF5 files.
#pragma once
#include <hdf5.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fovea/error.hpp"

namespace fovea::test {

/// A new folder, removed with everything in it.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
    std::string name = (parent / "fovea-test-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw Error("test", "no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The bytes of values in memory, the bytes of every value turned round for the other byte order.
template <class T>
std::string bytes_of(const std::vector<T>& values, bool turned = false) {
  std::string bytes;
  for (const T value : values) {
    std::string one(reinterpret_cast<const char*>(&value), sizeof value);
    if (turned) one = std::string(one.rbegin(), one.rend());
    bytes += one;
  }
  return bytes;
}

/// A .npy file with this header dictionary.
inline std::string npy_bytes(const std::string& dictionary, const std::string& values, int version = 1) {
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  std::string header = dictionary;
  while ((8 + length_bytes + header.size() + 1) % 64) header += ' ';
  header += '\n';
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  for (std::size_t i = 0; i < length_bytes; ++i) file += static_cast<char>(header.size() >> 8 * i & 255);
  return file + header + values;
}

inline std::string npy_dictionary(const std::string& descr, const std::string& shape, bool fortran = false) {
  return "{'descr': '" + descr + "', 'fortran_order': " + (fortran ? "True" : "False") +
         ", 'shape': " + shape + ", }";
}

template <class T>
struct Hdf5Type;
template <>
struct Hdf5Type<std::int8_t> {
  static hid_t native() { return H5T_NATIVE_INT8; }
};
template <>
struct Hdf5Type<std::uint8_t> {
  static hid_t native() { return H5T_NATIVE_UINT8; }
};
template <>
struct Hdf5Type<std::int64_t> {
  static hid_t native() { return H5T_NATIVE_INT64; }
};
template <>
struct Hdf5Type<float> {
  static hid_t native() { return H5T_NATIVE_FLOAT; }
};
template <>
struct Hdf5Type<double> {
  static hid_t native() { return H5T_NATIVE_DOUBLE; }
};

/// An HDF5 file being written.
class Hdf5Writer {
 public:
  /// `latest`: in the newest version of the format instead of the oldest that will do.
  explicit Hdf5Writer(const std::string& path, bool latest = false) {
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (latest) H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    file_ = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
    if (file_ < 0) throw Error("test", "no HDF5 file: " + path);
  }
  ~Hdf5Writer() { H5Fclose(file_); }
  Hdf5Writer(const Hdf5Writer&) = delete;
  Hdf5Writer& operator=(const Hdf5Writer&) = delete;

  hid_t id() const { return file_; }
  void group(const std::string& name) {
    H5Gclose(H5Gcreate2(file_, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  }
  /// Stored as `file_type`, the native one by default.
  template <class T>
  void numbers(const std::string& name, const std::vector<hsize_t>& shape, const std::vector<T>& values,
               hid_t file_type = -1) {
    raw(name, shape, file_type < 0 ? Hdf5Type<T>::native() : file_type, Hdf5Type<T>::native(), values.data());
  }
  void raw(const std::string& name, const std::vector<hsize_t>& shape, hid_t file_type, hid_t memory_type,
           const void* values, hid_t properties = H5P_DEFAULT) {
    const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    const hid_t data =
        H5Dcreate2(file_, name.c_str(), file_type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    if (data < 0) throw Error("test", "no data set: " + name);
    if (values) H5Dwrite(data, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(data);
    H5Sclose(space);
  }

 private:
  hid_t file_;
};

/// The message of the error of type E that `call` throws; "" where it throws none.
template <class E, class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

}  // namespace fovea::test

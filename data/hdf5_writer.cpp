#include "data/hdf5_writer.hpp"

#include <hdf5.h>

#include <algorithm>
#include <functional>

#include "data/hdf5_handle.hpp"
#include "engine/atomic_file.hpp"
#include "fovea/error.hpp"

namespace fovea {
namespace {

/// Runs `action` with the library's own error printing off for its duration; false when its result is
/// negative.
bool succeeds(const std::function<std::int64_t()>& action) {
  std::int64_t result = -1;
  H5E_BEGIN_TRY { result = action(); }
  H5E_END_TRY
  return result >= 0;
}

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(path, text("HDF5 cannot write ", what));
}

template <class T>
hid_t memory_type();
template <>
hid_t memory_type<std::uint8_t>() {
  return H5T_NATIVE_UINT8;
}
template <>
hid_t memory_type<std::uint16_t>() {
  return H5T_NATIVE_UINT16;
}
template <>
hid_t memory_type<std::int64_t>() {
  return H5T_NATIVE_INT64;
}
template <>
hid_t memory_type<float>() {
  return H5T_NATIVE_FLOAT;
}
template <>
hid_t memory_type<double>() {
  return H5T_NATIVE_DOUBLE;
}

}  // namespace

Hdf5Writer::Hdf5Writer(std::string path) : path_(std::move(path)) {
  const bool made = succeeds([&] {
    const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose), creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
    H5Pset_fapl_core(access, 1 << 20, false);
    H5Pset_obj_track_times(creation, false);
    file_ = H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, creation, access);
    return file_;
  });
  if (!made) fail(path_, "a file in memory");
}

Hdf5Writer::~Hdf5Writer() {
  if (file_ >= 0) succeeds([&] { return H5Fclose(file_); });
}

void Hdf5Writer::group(const std::string& name) {
  const bool made = succeeds([&] {
    const Handle creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
    H5Pset_obj_track_times(creation, false);
    const Handle made_group(H5Gcreate2(file_, name.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT), H5Gclose);
    return static_cast<hid_t>(made_group);
  });
  if (!made) fail(path_, name);
}

void Hdf5Writer::write(const std::string& name, const std::vector<std::int64_t>& shape, std::int64_t type,
                       const void* values) {
  const std::vector<hsize_t> extents(shape.begin(), shape.end());
  const bool written = succeeds([&]() -> std::int64_t {
    const Handle space(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr), H5Sclose);
    const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_obj_track_times(creation, false);
    const Handle set(H5Dcreate2(file_, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT),
                     H5Dclose);
    if (set < 0) return -1;
    return H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
  });
  if (!written) fail(path_, name);
}

template <class T>
void Hdf5Writer::write(const std::string& name, const std::vector<std::int64_t>& shape,
                       const std::vector<T>& values) {
  std::int64_t elements = 1;
  for (const std::int64_t extent : shape) elements *= extent;
  if (elements != static_cast<std::int64_t>(values.size()))
    throw ShapeError(path_, text(name, ": ", elements, " values expected: ", values.size()));
  write(name, shape, memory_type<T>(), values.data());
}

void Hdf5Writer::write(const std::string& name, const std::vector<std::string>& values) {
  std::size_t longest = 1;
  for (const std::string& value : values) longest = std::max(longest, value.size());
  std::string flat;
  for (const std::string& value : values) flat += value + std::string(longest - value.size(), '\0');
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, longest);
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  write(name, {static_cast<std::int64_t>(values.size())}, type, flat.data());
}

void Hdf5Writer::save() {
  std::string image;
  const bool read = succeeds([&]() -> std::int64_t {
    if (H5Fflush(file_, H5F_SCOPE_LOCAL) < 0) return -1;
    const ssize_t size = H5Fget_file_image(file_, nullptr, 0);
    if (size < 0) return -1;
    image.resize(static_cast<std::size_t>(size));
    return H5Fget_file_image(file_, image.data(), image.size());
  });
  if (!read) fail(path_, "the file's image");
  succeeds([&] { return H5Fclose(file_); });
  file_ = -1;
  write_file_atomically(path_, image);
}

template void Hdf5Writer::write(const std::string&, const std::vector<std::int64_t>&,
                                const std::vector<std::uint8_t>&);
template void Hdf5Writer::write(const std::string&, const std::vector<std::int64_t>&,
                                const std::vector<std::uint16_t>&);
template void Hdf5Writer::write(const std::string&, const std::vector<std::int64_t>&,
                                const std::vector<std::int64_t>&);
template void Hdf5Writer::write(const std::string&, const std::vector<std::int64_t>&,
                                const std::vector<float>&);
template void Hdf5Writer::write(const std::string&, const std::vector<std::int64_t>&,
                                const std::vector<double>&);

}  // namespace fovea

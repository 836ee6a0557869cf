// The only file that calls the HDF5 library. It runs in a child process (hdf5_file.cpp).
#include <hdf5.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "data/hdf5_file.hpp"
#include "data/hdf5_handle.hpp"

namespace fovea {

namespace {

constexpr int highest_rank = 6;
constexpr std::int64_t most_info_bytes = 16 << 20;  // a field of session_info larger than this is not kept
// A chunked data set may be compressed: by deflate at most 1032 times.
constexpr std::int64_t most_compression = 2048;

std::string class_name(H5T_class_t type) {
  switch (type) {
    case H5T_STRING:
      return "text";
    case H5T_COMPOUND:
      return "compound";
    case H5T_ENUM:
      return "enumeration or boolean";
    case H5T_REFERENCE:
      return "reference";
    case H5T_OPAQUE:
      return "opaque";
    case H5T_BITFIELD:
      return "bit field";
    case H5T_VLEN:
      return "variable length";
    case H5T_ARRAY:
      return "array";
    case H5T_TIME:
      return "time";
    default:
      return "unknown";
  }
}

struct MemoryType {
  ElementType element;
  hid_t native;
};

class FileReader {
 public:
  FileReader(const std::string& path, const Hdf5Filter& wanted, Hdf5Sink& sink)
      : path_(path), wanted_(wanted), sink_(sink) {}

  void read() {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    struct stat status {};
    if (::stat(path_.c_str(), &status) != 0) fail("", "cannot be opened");
    if (!S_ISREG(status.st_mode)) fail("", "is not a regular file");
    file_bytes_ = status.st_size;
    const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_file_locking(access, false, true);  // read-only media and file systems without locks
    const Handle file(H5Fopen(path_.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
    if (file < 0) fail("", "is not an HDF5 file, or it is damaged");
    for (const std::string& name : names_in(file, "/"))
      if (wanted_(name)) read_item(file, name, false);
    if (H5Lexists(file, "session_info", H5P_DEFAULT) <= 0) return;
    const Handle info(H5Gopen2(file, "session_info", H5P_DEFAULT), H5Gclose);
    if (info < 0) fail("session_info", "is not a group, or it is damaged");
    for (const std::string& name : names_in(info, "session_info"))
      if (wanted_("session_info/" + name)) read_item(file, "session_info/" + name, true);
  }

 private:
  [[noreturn]] void fail(const std::string& name, const std::string& what) const {
    throw FormatError("hdf5", text(path_, name.empty() ? "" : ": ", name, ": ", what));
  }

  std::vector<std::string> names_in(hid_t group, const std::string& where) const {
    std::vector<std::string> names;
    const auto note = [](hid_t, const char* name, const H5L_info_t*, void* list) -> herr_t {
      static_cast<std::vector<std::string>*>(list)->emplace_back(name);
      return 0;
    };
    if (H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, note, &names) < 0)
      fail(where, "the list of members is damaged");
    std::sort(names.begin(), names.end());
    return names;
  }

  // `info`: a field of session_info, where other types are noted instead of refused.
  void read_item(hid_t file, const std::string& name, bool info) const {
    H5L_info_t link;
    if (H5Lget_info(file, name.c_str(), &link, H5P_DEFAULT) < 0) fail(name, "the link is damaged");
    if (link.type == H5L_TYPE_EXTERNAL) fail(name, "links into other files are not followed");
    const Handle object(H5Oopen(file, name.c_str(), H5P_DEFAULT), H5Oclose);
    if (object < 0) fail(name, "cannot be opened: it is damaged or a link to nothing");
    if (H5Iget_type(object) != H5I_DATASET) {
      if (info) return sink_.unsupported(name);
      fail(name, "is not a data set");
    }
    const Handle type(H5Dget_type(object), H5Tclose);
    if (type < 0) fail(name, "its element type is damaged");
    const std::vector<std::int64_t> shape = shape_of(object, name);
    const H5T_class_t kind = H5Tget_class(type);
    if (kind == H5T_INTEGER || kind == H5T_FLOAT) return read_numbers(object, type, kind, name, shape, info);
    if (!info) fail(name, text("numbers expected, the element type is ", class_name(kind)));
    if (kind == H5T_STRING) return read_text(object, type, name, shape);
    sink_.unsupported(name);
  }

  std::vector<std::int64_t> shape_of(hid_t data, const std::string& name) const {
    const Handle space(H5Dget_space(data), H5Sclose);
    const H5S_class_t kind = H5Sget_simple_extent_type(space);
    if (kind == H5S_NULL) fail(name, "is empty (a null space)");
    const int rank = H5Sget_simple_extent_ndims(space);
    if (kind == H5S_NO_CLASS || rank < 0) fail(name, "its shape is damaged");
    if (rank > highest_rank) fail(name, text("more than ", highest_rank, " axes: ", rank));
    hsize_t extents[highest_rank] = {};
    if (H5Sget_simple_extent_dims(space, extents, nullptr) != rank) fail(name, "its shape is damaged");
    std::vector<std::int64_t> shape;
    for (int axis = 0; axis < rank; ++axis) {
      if (extents[axis] > static_cast<hsize_t>(std::numeric_limits<std::int64_t>::max()))
        fail(name, text("extent too large: ", extents[axis]));
      shape.push_back(static_cast<std::int64_t>(extents[axis]));
    }
    return shape;
  }

  // Bytes of `shape`, after checking that the file can hold them.
  std::int64_t checked_bytes(hid_t data, const std::string& name, const std::vector<std::int64_t>& shape,
                             std::size_t element) const {
    std::int64_t bytes = static_cast<std::int64_t>(element);
    for (const std::int64_t extent : shape)  // overflow is looked for beside zeros, so that they hide no lie
      if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(extent, 1), &bytes))
        fail(name, text("shape too large: ", shape_text(shape)));
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) bytes = 0;
    const Handle properties(H5Dget_create_plist(data), H5Pclose);
    if (properties < 0) fail(name, "its layout is damaged");
    if (H5Pget_external_count(properties) > 0) fail(name, "values in other files are not read");
    const H5D_layout_t layout = H5Pget_layout(properties);
    if (layout != H5D_COMPACT && layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED)
      fail(name, "its layout is virtual or unknown; values in other files are not read");
    if (bytes > 0 && H5Dget_storage_size(data) == 0) fail(name, "holds no values: it was never written");
    const std::int64_t factor =
        layout == H5D_CHUNKED ? most_compression : 8;  // 8: one byte may widen to eight
    if (bytes / factor > file_bytes_)
      fail(name, text("shape ", shape_text(shape), " cannot be: the file has only ", file_bytes_, " bytes"));
    return bytes;
  }

  MemoryType memory_type(hid_t type, H5T_class_t kind, const std::string& name) const {
    const std::size_t size = H5Tget_size(type);
    if (size == 0 || size > 8) fail(name, text("element of ", size, " bytes; at most 8 are read"));
    if (kind == H5T_FLOAT)
      return size <= 4 ? MemoryType{ElementType::float32, H5T_NATIVE_FLOAT}
                       : MemoryType{ElementType::float64, H5T_NATIVE_DOUBLE};
    const bool negative = H5Tget_sign(type) != H5T_SGN_NONE;
    if (size == 1)
      return negative ? MemoryType{ElementType::int8, H5T_NATIVE_INT8}
                      : MemoryType{ElementType::uint8, H5T_NATIVE_UINT8};
    if (size == 2)
      return negative ? MemoryType{ElementType::int16, H5T_NATIVE_INT16}
                      : MemoryType{ElementType::uint16, H5T_NATIVE_UINT16};
    if (size <= 4)
      return negative ? MemoryType{ElementType::int32, H5T_NATIVE_INT32}
                      : MemoryType{ElementType::uint32, H5T_NATIVE_UINT32};
    return negative ? MemoryType{ElementType::int64, H5T_NATIVE_INT64}
                    : MemoryType{ElementType::uint64, H5T_NATIVE_UINT64};
  }

  void read_numbers(hid_t data, hid_t type, H5T_class_t kind, const std::string& name,
                    const std::vector<std::int64_t>& shape, bool info) const {
    if (info && H5Tget_size(type) > 8) return sink_.unsupported(name);
    const MemoryType memory = memory_type(type, kind, name);
    const std::int64_t bytes = checked_bytes(data, name, shape, size_of(memory.element));
    if (info && bytes > most_info_bytes) return sink_.unsupported(name);
    std::vector<std::byte> values(static_cast<std::size_t>(bytes));
    if (bytes > 0 && H5Dread(data, memory.native, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0)
      fail(name, "cannot be read: it is damaged, or a compression filter is missing");
    sink_.numbers(name, memory.element, shape, values.data(), values.size());
  }

  void read_text(hid_t data, hid_t type, const std::string& name,
                 const std::vector<std::int64_t>& shape) const {
    const bool variable = H5Tis_variable_str(type) > 0;
    const std::size_t size = variable ? sizeof(char*) : H5Tget_size(type);
    const std::int64_t bytes = checked_bytes(data, name, shape, size);
    if (bytes > most_info_bytes) return sink_.unsupported(name);
    std::vector<char> values(static_cast<std::size_t>(bytes));
    const Handle memory(H5Tcopy(type), H5Tclose);
    if (bytes > 0 && H5Dread(data, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0)
      fail(name, "cannot be read: it is damaged, or a compression filter is missing");
    std::vector<std::string> lines;
    for (std::size_t at = 0; at < values.size(); at += size) {
      const char* line = values.data() + at;
      if (variable) std::memcpy(&line, values.data() + at, sizeof line);
      lines.push_back(!line      ? std::string()
                      : variable ? std::string(line)
                                 : std::string(line, ::strnlen(line, size)));
    }
    sink_.text(name, lines);
    if (!variable) return;
    const Handle space(H5Dget_space(data), H5Sclose);
    H5Dvlen_reclaim(memory, space, H5P_DEFAULT, values.data());
  }

  const std::string& path_;
  const Hdf5Filter& wanted_;
  Hdf5Sink& sink_;
  std::int64_t file_bytes_ = 0;
};

}  // namespace

void read_hdf5_items(const std::string& path, const Hdf5Filter& wanted, Hdf5Sink& sink) {
  FileReader(path, wanted, sink).read();
}

}  // namespace fovea

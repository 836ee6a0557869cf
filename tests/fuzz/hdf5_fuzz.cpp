// Well-formed HDF5 files of any groups, types, shapes, layouts and values as recordings: the input is a list
// of instructions that builds a session file, which is then loaded and sampled as training does. The reader
// runs in this process, so that coverage and sanitizers see it; libhdf5 itself is not the subject.
#include <hdf5.h>

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <vector>

#include "data/hdf5_handle.hpp"
#include "data/openretina.hpp"
#include "data/sampler.hpp"
#include "fuzz.hpp"

namespace {

using namespace fovea;
using namespace fovea::fuzz;

/// Bytes one after the other, then zeros.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  unsigned byte() { return at_ < size_ ? data_[at_++] : 0; }
  template <class T, std::size_t N>
  const T& one_of(const std::array<T, N>& choices) {
    return choices[byte() % N];
  }
  bool empty() const { return at_ >= size_; }

 private:
  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;
};

constexpr hsize_t most_values = 1 << 12;

const std::array<const char*, 18> names{"responses_train",
                                        "responses_test",
                                        "responses_other",
                                        "responses_by_trial_test",
                                        "responses_by_trial_other",
                                        "stimulus_train",
                                        "stimulus_test",
                                        "stimulus_other",
                                        "responses_",
                                        "responses_a\nb",
                                        "responses_\xff",
                                        "responses_by_trial_",
                                        "stimulus_",
                                        "session_info",
                                        "session_info/a",
                                        "session_info/b",
                                        "session_info/c\x01",
                                        "else"};
// Mostly small ones that fit the shared movies.
const std::array<hsize_t, 20> extents{0,  1,  2,  3,  4,  5,       6,       7,          8,          9,
                                      12, 12, 12, 12, 40, 1 << 20, 1 << 30, 1ull << 40, 1ull << 62, ~1ull};

// ---- types

hid_t copied(hid_t type, std::size_t size) {
  const hid_t copy = H5Tcopy(type);
  H5Tset_size(copy, size);
  return copy;
}

hid_t half() {
  const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
  H5Tset_fields(type, 15, 10, 5, 0, 10);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, 15);
  return type;
}

hid_t compound() {
  const hid_t type = H5Tcreate(H5T_COMPOUND, 8);
  H5Tinsert(type, "a", 0, H5T_NATIVE_FLOAT);
  return type;
}

hid_t enumeration() {
  const hid_t type = H5Tenum_create(H5T_NATIVE_INT8);
  const std::int8_t value = 1;
  H5Tenum_insert(type, "one", &value);
  return type;
}

hid_t array_of_two() {
  const hsize_t two = 2;
  return H5Tarray_create2(H5T_NATIVE_FLOAT, 1, &two);
}

const std::array<hid_t (*)(), 22> types{
    [] { return H5Tcopy(H5T_STD_I8LE); },
    [] { return H5Tcopy(H5T_STD_U8BE); },
    [] { return H5Tcopy(H5T_STD_I16BE); },
    [] { return H5Tcopy(H5T_STD_U16LE); },
    [] { return copied(H5T_STD_I32LE, 3); },
    [] { return H5Tcopy(H5T_STD_U32BE); },
    [] { return copied(H5T_STD_I64BE, 7); },
    [] { return H5Tcopy(H5T_STD_I64LE); },
    [] { return H5Tcopy(H5T_STD_U64BE); },
    [] { return copied(H5T_STD_I64LE, 16); },
    half,
    [] { return H5Tcopy(H5T_IEEE_F32BE); },
    [] { return H5Tcopy(H5T_IEEE_F64LE); },
    [] { return H5Tcopy(H5T_NATIVE_LDOUBLE); },
    [] { return copied(H5T_C_S1, 3); },
    [] { return copied(H5T_C_S1, H5T_VARIABLE); },
    compound,
    enumeration,
    array_of_two,
    [] { return H5Tcreate(H5T_OPAQUE, 4); },
    [] { return H5Tcopy(H5T_STD_B16LE); },
    [] { return H5Tvlen_create(H5T_NATIVE_INT8); },
};

bool is_numeric(hid_t type) { return H5Tget_class(type) == H5T_INTEGER || H5Tget_class(type) == H5T_FLOAT; }

// ---- the file

/// Small numbers, or any bytes: among them are NaN and values beyond f32.
void write_values(hid_t data, hid_t type, hsize_t count, Input& input) {
  const unsigned how = input.byte();
  if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0) {
    const std::vector<const char*> words(count, how % 2 ? "word" : nullptr);
    H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, words.data());
  } else if (is_numeric(type) && how < 200) {
    std::vector<std::int8_t> values(count);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int8_t>(i * i * how % 13);
    H5Dwrite(data, H5T_NATIVE_INT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  } else {
    std::vector<unsigned char> values(count * H5Tget_size(type));
    if (H5Tget_class(type) != H5T_VLEN)  // those hold pointers
      for (unsigned char& value : values) value = static_cast<unsigned char>(input.byte());
    H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  }
}

void set_layout(hid_t properties, const std::vector<hsize_t>& shape, unsigned how) {
  if (how % 4 == 1) H5Pset_layout(properties, H5D_COMPACT);
  if (how % 4 < 2 || shape.empty()) return;
  std::vector<hsize_t> chunk;
  for (const hsize_t extent : shape) chunk.push_back(std::clamp<hsize_t>(extent, 1, 4));
  H5Pset_chunk(properties, static_cast<int>(chunk.size()), chunk.data());
  if (how & 4) H5Pset_shuffle(properties);
  if (how & 8) H5Pset_deflate(properties, 1);
  if (how & 16) H5Pset_fletcher32(properties);
}

void write_data_set(hid_t file, const char* name, Input& input) {
  const Handle type(input.one_of(types)(), H5Tclose);
  std::vector<hsize_t> shape(input.byte() % 8);
  double values = 1;
  for (hsize_t& extent : shape) values *= static_cast<double>(extent = input.one_of(extents));
  const unsigned layout = input.byte();
  const Handle space(layout == 255 ? H5Screate(H5S_NULL)
                                   : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr),
                     H5Sclose);
  const Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  set_layout(properties, shape, layout);
  if (layout == 254) H5Pset_external(properties, "/dev/null", 0, 100);
  const Handle data(H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT), H5Dclose);
  if (data >= 0 && layout != 255 && values <= static_cast<double>(most_values) && layout % 32 != 31)
    write_values(data, type, static_cast<hsize_t>(values), input);
}

void write_item(hid_t file, Input& input) {
  const char* name = input.one_of(names);
  switch (input.byte() % 16) {
    case 0:
      H5Gclose(H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
      break;
    case 1:
      H5Lcreate_soft(input.one_of(names), file, name, H5P_DEFAULT, H5P_DEFAULT);
      break;
    case 2:
      H5Lcreate_hard(file, input.one_of(names), file, name, H5P_DEFAULT, H5P_DEFAULT);
      break;
    case 3:
      H5Lcreate_external("other.h5", "/x", file, name, H5P_DEFAULT, H5P_DEFAULT);
      break;
    default:
      write_data_set(file, name, input);
  }
}

void write_session(const std::string& path, Input& input) {
  const Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
  require(file >= 0, "an HDF5 file");
  for (int items = 0; items < 8 && !input.empty(); ++items) write_item(file, input);
}

// ---- reading it

class Collector : public Hdf5Sink {
 public:
  explicit Collector(std::string path) : path_(std::move(path)) {}

  void numbers(const std::string& name, ElementType type, const std::vector<std::int64_t>& shape,
               const std::byte* bytes, std::size_t size) override {
    const auto values = std::make_shared<std::vector<std::byte>>(bytes, bytes + size);
    items.push_back({name, StoredArray(path_ + ": " + name, type, shape, values->data(), values), {}});
    require(items.back().values.byte_count() == size, "a data set of its announced size");
  }
  void text(const std::string& name, const std::vector<std::string>& lines) override {
    items.push_back({name, {}, lines});
  }
  void unsupported(const std::string& name) override { items.push_back({name, {}, {}}); }

  std::vector<Hdf5Item> items;

 private:
  std::string path_;
};

std::vector<Hdf5Item> read_here(const std::string& path, const Hdf5Filter& wanted) {
  Collector collector(path);
  read_hdf5_items(path, wanted, collector);
  return std::move(collector.items);
}

void write_movie(const std::string& path, int frames, int step) {
  std::string header = text("{'descr': '|i1', 'fortran_order': False, 'shape': (1, ", frames, ", 2, 2), }");
  header.resize(117, ' ');
  header += '\n';
  std::ofstream file(path, std::ios::binary);
  file << "\x93NUMPY\x01" << '\0' << static_cast<char>(header.size()) << '\0' << header;
  for (int i = 0; i < frames * 4; ++i) file << static_cast<char>(i * i * step % 11);
}

const Folder& folder() {
  static const Folder made;
  static const bool written = [] {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    std::filesystem::create_directory(made / "stimuli");
    write_movie(made / "stimuli/train.npy", 12, 1);
    write_movie(made / "stimuli/test.npy", 6, 3);
    return true;
  }();
  require(written, "movies");
  return made;
}

DataOptions options_of(unsigned how) {
  DataOptions options;
  options.path = folder().path();
  if (how & 1) options.test_names = {"test"};
  options.normalize = how & 2 ? NormalizeMode::none : NormalizeMode::training_movie;
  options.batch_size = how & 4 ? 2 : 1;
  options.train_chunk_size = how & 8 ? 3 : 2;
  options.clip_length = 3;
  options.num_val_clips = 1;
  options.allow_over_boundaries = (how & 16) != 0;
  return options;
}

bool all_finite(const Tensor& tensor) {
  for (const float value : tensor.to_vector<float>())
    if (!std::isfinite(value)) return false;
  return true;
}

void sample(const DataSet& data, const DataOptions& options, const Device& device) {
  TrainingSampler sampler(data, options, 1, DType::f32, device);
  while (const Batch* batch = sampler.next())
    require(all_finite(batch->stimulus) && all_finite(batch->responses), "batches are finite");
  ValidationClips clips(data, options, DType::f32, device);
  while (const Batch* batch = clips.next()) require(all_finite(batch->responses), "clips are finite");
}

void check_data(const DataSet& data, DataParts parts, const Device& device) {
  for (const Session& session : data.sessions) {
    require(session.neurons > 0, "a session has neurons");
    if (parts == DataParts::all)
      require(session.mean_activity.size() == static_cast<std::size_t>(session.neurons), "a mean per neuron");
    for (const TestMovie& test : session.tests)
      require(test.stimulus.frames() == test.responses.frames() &&
                  all_finite(test.responses.read(DType::f32, device)),
              "a test movie is whole and finite");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Device device = cpu_device(1, Isa::reference);
  Input input(data, size);
  const unsigned how = input.byte();
  const DataOptions options = options_of(how);
  const DataParts parts = how & 32 ? DataParts::tests : DataParts::all;
  write_session(folder() / "s.h5", input);
  DataSet loaded;
  if (refuses([&] { loaded = load_openretina(options, parts, read_here); })) return 0;
  check_data(loaded, parts, device);
  require(load_openretina(options, parts, read_here).content_hash == loaded.content_hash,
          "the same file has the same hash");
  if (parts == DataParts::all) (void)refuses([&] { sample(loaded, options, device); });
  return 0;
}

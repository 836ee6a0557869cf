// Writes small recordings in different HDF5 layouts, and their stimuli, for tools/damaged_hdf5.py.
#include <iostream>

#include "data_files.hpp"

namespace {

using namespace fovea;
using namespace fovea::test;

constexpr hsize_t neurons = 3, train_frames = 100, test_frames = 20, side = 4;

std::vector<std::int8_t> wave(hsize_t count, int step) {
  std::vector<std::int8_t> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = static_cast<std::int8_t>(i * i * static_cast<std::size_t>(step) % 11);
  return values;
}

void write_movie(const std::string& path, hsize_t frames) {
  write_bytes(path, npy_bytes(npy_dictionary("|i1", text("(1, ", frames, ", 4, 4)")),
                              bytes_of(wave(frames * side * side, 7))));
}

void responses(Hdf5Writer& file, hid_t type, hid_t properties = H5P_DEFAULT) {
  for (const auto& [name, frames] :
       {std::pair{"responses_train", train_frames}, std::pair{"responses_test", test_frames}})
    file.raw(name, {neurons, frames}, type, H5T_NATIVE_INT8, wave(neurons * frames, 3).data(), properties);
}

void contiguous(Hdf5Writer& file) { responses(file, H5T_IEEE_F32LE); }

void big_endian(Hdf5Writer& file) { responses(file, H5T_STD_I16BE); }

void chunked(Hdf5Writer& file) {
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t chunk[] = {1, 10};
  H5Pset_chunk(properties, 2, chunk);
  H5Pset_shuffle(properties);
  H5Pset_deflate(properties, 4);
  H5Pset_fletcher32(properties);
  responses(file, H5T_IEEE_F64LE, properties);
  H5Pclose(properties);
}

void by_trial(Hdf5Writer& file) {
  responses(file, H5T_STD_U8LE);
  file.raw("responses_by_trial_test", {4, neurons, test_frames}, H5T_STD_U8LE, H5T_NATIVE_INT8,
           wave(4 * neurons * test_frames, 5).data());
}

void own_stimulus(Hdf5Writer& file) {
  responses(file, H5T_STD_U32LE);
  file.raw("stimulus_train", {1, train_frames, side, side}, H5T_STD_I8LE, H5T_NATIVE_INT8,
           wave(train_frames * side * side, 9).data());
}

void text_info(Hdf5Writer& file) {
  responses(file, H5T_IEEE_F32LE);
  file.group("session_info");
  const hid_t fixed = H5Tcopy(H5T_C_S1), variable = H5Tcopy(H5T_C_S1);
  H5Tset_size(fixed, 4);
  H5Tset_size(variable, H5T_VARIABLE);
  const char* words[] = {"left", "a longer name of an animal", ""};
  file.raw("session_info/animal", {2}, fixed, fixed, "fishfrog");
  file.raw("session_info/names", {3}, variable, variable, words);
  for (int i = 0; i < 20; ++i)
    file.numbers<std::int64_t>(text("session_info/field", i), {neurons}, {i, i + 1, i + 2});
  H5Tclose(fixed), H5Tclose(variable);
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) {
    std::cerr << "usage: hdf5_bases FOLDER\n";
    return 2;
  }
  const std::string folder = words[1];
  write_movie(folder + "/stimuli/train.npy", train_frames);
  write_movie(folder + "/stimuli/test.npy", test_frames);
  constexpr std::pair<const char*, void (*)(Hdf5Writer&)> bases[] = {
      {"contiguous", contiguous}, {"big_endian", big_endian},     {"chunked", chunked},
      {"by_trial", by_trial},     {"own_stimulus", own_stimulus}, {"text_info", text_info},
  };
  for (const bool latest : {false, true})  // the formats of old and of new files differ
    for (const auto& [name, write] : bases) {
      Hdf5Writer file(folder + '/' + name + (latest ? "_latest" : "") + ".h5", latest);
      write(file);
    }
  return 0;
}

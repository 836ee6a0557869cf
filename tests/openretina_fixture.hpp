// Small recordings for the tests of data sets and samplers.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "check.hpp"
#include "data/hdf5_file.hpp"
#include "data/sampler.hpp"
#include "data_files.hpp"
#include "fovea/data.hpp"
#include "fovea/npy.hpp"

namespace openretina_test {

using namespace fovea;
using namespace fovea::test;

constexpr int channels = 2, height = 3, width = 2, neurons = 3;

inline int stimulus_value(int c, int t, int y, int x, int offset) {
  return (t * t * 7 + y * 3 * t + x * 5 + c * 11 + offset) % 13 - 6;
}

inline std::vector<std::int8_t> movie(int frames, int offset = 0) {
  std::vector<std::int8_t> values;
  for (int c = 0; c < channels; ++c)
    for (int t = 0; t < frames; ++t)
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
          values.push_back(static_cast<std::int8_t>(stimulus_value(c, t, y, x, offset)));
  return values;
}

template <class T = std::uint8_t>
std::vector<T> responses(int frames, int offset = 0, int count = neurons) {
  std::vector<T> values;
  for (int n = 0; n < count; ++n)
    for (int t = 0; t < frames; ++t) values.push_back(static_cast<T>((t * (n + 2) + n * 3 + offset) % 7));
  return values;
}

inline std::string npy_movie(int frames, int offset = 0) {
  return npy_bytes(npy_dictionary("|i1", text("(2, ", frames, ", 3, 2)")), bytes_of(movie(frames, offset)));
}

// The directory that openretina was run on: a training movie of two parts (40 + 27 frames) and a test movie.
struct Recording {
  TemporaryFolder folder;
  DataOptions options;

  Recording() {
    write_bytes(folder / "stimuli/a_train.npy", npy_movie(40));
    write_bytes(folder / "stimuli/b_train.npy", npy_movie(27, 4));
    write_bytes(folder / "stimuli/test.npy", npy_movie(9, 5));
    add_session("s.h5");
    options.path = folder.path();
    options.test_names = {"test"};
    options.batch_size = 2, options.train_chunk_size = 4, options.clip_length = 5, options.num_val_clips = 3;
    options.seed = 3;
  }

  void add_session(const std::string& file) const {
    Hdf5Writer writer(folder / file);
    writer.numbers("responses_a_train", {neurons, 40}, responses(40));
    writer.numbers("responses_b_train", {neurons, 27}, responses(27, 1));
    writer.numbers("responses_test", {neurons, 9}, responses(9, 2));
  }
  DataSet load(DataParts parts = DataParts::all) const { return load_openretina(options, parts); }
};

// A session file with one training movie of `frames` frames held in the file.
inline void write_own_session(const std::string& path, int frames, int offset = 0) {
  Hdf5Writer writer(path);
  writer.numbers("stimulus_own", {channels, static_cast<hsize_t>(frames), height, width},
                 movie(frames, offset));
  writer.numbers("responses_own", {neurons, static_cast<hsize_t>(frames)}, responses(frames, offset));
}

inline std::string load_error(const DataOptions& options, DataParts parts = DataParts::all) {
  const std::string format = message_of<FormatError>([&] { load_openretina(options, parts); });
  return format;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace openretina_test

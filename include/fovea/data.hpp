// Recordings: the `data:` section of a run configuration, and openretina's HDF5 directory, several sessions
// with their stimulus movies.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fovea/model.hpp"
#include "fovea/time_series.hpp"

namespace fovea {

/// Where the normalisation of the stimulus comes from.
enum class NormalizeMode {
  training_movie,  ///< `normalize: true`: mean and unbiased standard deviation of the training movie
  none,            ///< `normalize: false`: the stimulus as it is
  given,           ///< `normalize: {mean: m, std: s}`
};

/// Fields of `data:` for `format: openretina_hdf5`, by their names there, with their defaults.
struct DataOptions {
  std::string format = "openretina_hdf5";
  std::string path{};  ///< folder with the session files and `stimuli/`; resolved by the caller
  std::vector<std::string> test_names{};  ///< stimuli that are test movies; the others are the training movie
  NormalizeMode normalize = NormalizeMode::training_movie;
  Normalization given_normalization{};  ///< used where normalize is `given`
  std::int64_t batch_size = 32;         ///< samples a batch
  std::int64_t train_chunk_size = 50;   ///< frames of a training sample
  std::int64_t clip_length = 100;       ///< frames of a validation clip
  std::int64_t num_val_clips = 10;      ///< clips of the training movie kept for validation
  std::uint64_t seed = 42;              ///< of the drawing of validation clips, 0 .. 2^32 - 1
  bool allow_over_boundaries = true;    ///< training samples may reach over the border of two clips
  std::int64_t frames_per_image = 1;    ///< frames of a movie that are one sample of a model of images
};

/// Throws ConfigError naming the first field that is out of range, with its value.
void check(const DataOptions& options);

/// A repeated or held-out stimulus with its responses.
struct TestMovie {
  std::string name;
  TimeSeries stimulus;             ///< [C, T, H, W]
  TimeSeries responses;            ///< [N, T], the mean over repeats where there are any
  StoredArray responses_by_trial;  ///< [R, N, T]; undefined when the file has none
};

/// A field of session_info, kept as provenance: numbers, or text, or neither where the type is not supported.
struct SessionField {
  std::string name;
  StoredArray values;
  std::vector<std::string> text;
};

/// One recording: neurons that saw the same movies.
struct Session {
  std::string key;  ///< stem of the file name
  std::int64_t neurons = 0;
  TimeSeries stimulus;   ///< training movie [C, T, H, W]; no frames when only tests were loaded
  TimeSeries responses;  ///< [N, T] of the training movie
  std::vector<double>
      mean_activity;  ///< per neuron over the whole training movie; empty when only tests were loaded
  std::vector<TestMovie> tests;  ///< by name
  std::vector<SessionField> info;

  const TestMovie* test(const std::string& name) const;  ///< null when the session has none of that name
};

/// Sessions sorted by key. Movies stay in their stored type, mapped or held once for all sessions that show
/// them.
struct DataSet {
  std::vector<Session> sessions;
  /// What `normalize` says; empty when it is the training movie's and only tests were loaded: the caller then
  /// sets the normalisation of the model.
  std::optional<Normalization> normalization;
  std::int64_t channels = 0, height = 0, width = 0;  ///< of every stimulus
  std::string
      content_hash;  ///< 16 hexadecimal digits over names, types, shapes and values of all that was loaded

  std::map<std::string, std::int64_t> neurons() const;  ///< by session key
  /// What a model is told of the sessions: keys, numbers of neurons, mean activities.
  std::vector<SessionOptions> session_options() const;
  /// The stimulus normalisation; Error where there is none yet.
  const Normalization& checked_normalization() const;
};

enum class DataParts {
  all,    ///< every session needs training responses and their stimuli
  tests,  ///< the test movies only: nothing of the training part need be there
};

/// Loads `options.path`. FormatError naming file, field and value for anything malformed: ranks, unequal
/// numbers of frames or neurons, values that are NaN, infinite or beyond f32, damaged files, session keys
/// that are empty, double or hold control characters, test names that no session has. ConfigError where the
/// options are out of range. The normalisation of `normalize: true` is taken over the training movie with its
/// validation clips; where sessions were shown different movies, over each different stimulus once.
DataSet load_openretina(const DataOptions& options, DataParts parts = DataParts::all);

}  // namespace fovea

// openretina's HDF5 directory: recordings of several sessions with their stimulus movies.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/data_config.hpp"
#include "data/hdf5_file.hpp"
#include "data/time_series.hpp"

namespace fovea {

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
/// `read` reads the session files: in a child process, unless a caller that wrote them itself knows better.
DataSet load_openretina(const DataOptions& options, DataParts parts = DataParts::all,
                        const Hdf5Reader& read = read_hdf5);

}  // namespace fovea

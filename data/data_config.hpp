// The `data:` section of a run configuration.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/stored_array.hpp"

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
  std::string path;  ///< folder with the session files and `stimuli/`; resolved by the caller
  std::vector<std::string> test_names;  ///< stimuli that are test movies; the others are the training movie
  NormalizeMode normalize = NormalizeMode::training_movie;
  Normalization given_normalization;   ///< used where normalize is `given`
  std::int64_t batch_size = 32;        ///< samples a batch
  std::int64_t train_chunk_size = 50;  ///< frames of a training sample
  std::int64_t clip_length = 100;      ///< frames of a validation clip
  std::int64_t num_val_clips = 10;     ///< clips of the training movie kept for validation
  std::uint64_t seed = 42;             ///< of the drawing of validation clips, 0 .. 2^32 - 1
  bool allow_over_boundaries = true;   ///< training samples may reach over the border of two clips
};

/// Throws ConfigError naming the first field that is out of range, with its value.
void check(const DataOptions& options);

}  // namespace fovea

// last.ckpt.safetensors: everything a run needs to go on as if it had never stopped.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fovea/safetensors.hpp"
#include "training/metrics.hpp"
#include "training/parameter_arena.hpp"
#include "training/plateau.hpp"

namespace fovea {

/// Where a run stands, without the tensors.
struct TrainingState {
  std::int64_t epoch = 0;  ///< that is under way
  std::int64_t batch = 0;  ///< next batch of it; equal to the batches of an epoch: validation is next
  std::int64_t steps = 0;  ///< optimizer steps so far
  EpochMetrics sums;       ///< of the training columns over the batches of this epoch, weighted by samples
  std::int64_t samples = 0;
  std::vector<EpochMetrics> history;
  BestEpoch best;
  std::optional<ReduceLROnPlateau::State> scheduler;
  std::optional<EarlyStopping::State> stopping;
  bool stopped_early = false;
  double seconds = 0;  ///< spent on this epoch before the checkpoint
  std::uint64_t seed = 0;
  std::string data_hash;
};

struct Checkpoint {
  Safetensors content;
  std::string model_config;
  TrainingState state;
};

std::string checkpoint_path(const std::string& run_folder);  ///< <run folder>/last.ckpt.safetensors

/// Whole or not at all.
void save_checkpoint(const std::string& path, const Model& model, const ParameterArena& arena,
                     const TrainingState& state);
/// FormatError when the file is not a checkpoint or damaged.
Checkpoint read_checkpoint(const std::string& path, const Device& device);
/// A model as the checkpoint has it, values included; the dtype is that of the run.
std::unique_ptr<Model> make_model(const Checkpoint& checkpoint, const Placement& placement);
/// Moments and step counts; the arena's model already has its values.
void restore_moments(const Checkpoint& checkpoint, ParameterArena& arena);

}  // namespace fovea

// Training and validation batches of static images, as neuralpredictors' LongCycler and DataLoaders make
// them.
#pragma once
#include "data/static_reader.hpp"

namespace fovea {

/// Batches of a tier in the order of its trials, the last one shorter where they do not divide.
std::vector<PlannedBatch> batches_of(const StaticDataSet& data, std::size_t session,
                                     const std::vector<std::int64_t>& trials);

/// Epochs over the training tier. Sessions take turns in their order, batch by batch; the one with the most
/// batches says how many turns there are, the others start over. Trials are shuffled anew in every pass
/// through a session, by fovea's own generator.
class StaticTrainingSampler final : public TrainingBatches {
 public:
  /// ConfigError where a session has no training trial.
  StaticTrainingSampler(const StaticDataSet& data, std::uint64_t seed, DType dtype, const Device& device);

  std::int64_t batches_per_epoch() const override;
  void seek(std::int64_t epoch, std::int64_t batch) override;
  const Batch* next() override { return reader_.next(); }

  /// All batches of an epoch.
  std::vector<PlannedBatch> plan(std::int64_t epoch) const;

 private:
  std::vector<PlannedBatch> pass(std::size_t session, std::int64_t epoch, std::int64_t pass) const;

  StaticDataSet data_;
  std::uint64_t seed_;
  StaticReader reader_;
};

}  // namespace fovea

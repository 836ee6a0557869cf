// What training draws its batches from, whatever the format of the data.
#pragma once
#include <cstdint>
#include <string>

#include "fovea/tensor.hpp"

namespace fovea {

/// Samples of one session. The tensors are the source's own and are overwritten by its next batch.
struct Batch {
  std::size_t session_index = 0;  ///< among the sessions of the data
  std::string session;            ///< its key
  Tensor stimulus;                ///< (B, T, H, W, C) or images (B, H, W, C), normalised
  Tensor responses;               ///< (B, T, N) or (B, N)
  Tensor pupil_center;            ///< (B, 2); undefined where the data have none
};

/// Batches of training epochs. Everything is a function of (seed, epoch, batch): a position is restored by
/// `seek`.
class TrainingBatches {
 public:
  virtual ~TrainingBatches() = default;
  virtual std::int64_t batches_per_epoch() const = 0;
  virtual void seek(std::int64_t epoch, std::int64_t batch) = 0;
  /// The next batch, or null at the end of the epoch. Allocates no tensor memory.
  virtual const Batch* next() = 0;
};

}  // namespace fovea

// What a training step, a validation pass and a test see of a data set. Splitting and sampling follow
// openretina 1.1.1 (data_io/base_dataloader.py, MovieSampler and multiple_movies_dataloaders;
// data_io/cyclers.py, LongCycler and ShortCycler): the same clips, the same number of batches, the same
// distribution of samples. The order of training samples comes from fovea's own generator.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/batches.hpp"
#include "data/sample_form.hpp"

namespace fovea {

/// Clips of a training movie by index: clip i is frames [i clip_length, (i + 1) clip_length). The frames
/// after the last whole clip are in neither part.
struct ClipSplit {
  std::vector<std::int64_t>
      validation;  ///< in the order drawn: RandomState(seed).choice(clips, num_val_clips, replace=False)
  std::vector<std::int64_t> training;  ///< the others, ascending
};

/// Throws ConfigError where the movie has too few clips, naming the session.
ClipSplit split_clips(const Session& session, const DataOptions& options);

/// ConfigError where the data do not have the samples that the options ask for: a session with fewer chunks
/// than one batch or too few clips, a chunk longer than the training movie, or (without
/// allow_over_boundaries) than a clip, chunks or clips shorter than an image. Takes no memory.
void check_samples(const DataSet& data, const DataOptions& options);

/// Memory of batches of clips, reused; fills host tensors in place and copies to other devices. A clip is one
/// sample or, as the form says, the images that its frames make.
class BatchBuffer {
 public:
  BatchBuffer(const DataSet& data, std::int64_t clips, std::int64_t frames, DType dtype, const Device& device,
              const SampleForm& form);
  /// Clip `clip` of the batch from frames [begin, begin + length) of the movie that the `clips` of the
  /// session form when put together.
  void fill(std::size_t session, std::int64_t clip, const std::vector<std::int64_t>& clips,
            std::int64_t clip_length, std::int64_t begin);
  /// The samples of the first `clips` clips as a batch.
  const Batch& batch(std::size_t session, std::int64_t clips);

 private:
  template <class T>
  void fill_as(std::size_t session, std::int64_t clip, const std::vector<std::int64_t>& clips,
               std::int64_t clip_length, std::int64_t begin);

  const DataSet& data_;
  std::int64_t clips_, frames_;
  SampleForm form_;
  Tensor frames_of_clip_;          // on the host, where they are not yet the samples
  Tensor stimulus_;                // on the host
  std::vector<Tensor> responses_;  // per session, on the host
  Tensor device_stimulus_;         // the same tensors where the device computes in host memory
  std::vector<Tensor> device_responses_;
  Batch batch_;
};

/// The batches of training epochs. Chunks of train_chunk_size frames start at 0, train_chunk_size, .. of the
/// training clips put together, each moved by a random shift drawn anew every time the session starts over,
/// in random order; a last batch that is not full is left out. With clip_length == train_chunk_size
/// openretina neither shifts nor shuffles, and so does this. Sessions take turns in an order drawn every
/// epoch; the one with the most batches says how many turns there are, the others start over with new shifts
/// and a new order. Everything is a function of (seed, epoch, batch): a position is restored by `seek`.
class TrainingSampler final : public TrainingBatches {
 public:
  /// `data` must outlive the sampler. ConfigError as check_samples.
  TrainingSampler(const DataSet& data, const DataOptions& options, std::uint64_t seed, DType dtype,
                  const Device& device, const SampleForm& form = {});

  std::int64_t batches_per_epoch() const override;
  std::int64_t epoch() const { return epoch_; }
  std::int64_t batch_index() const { return batch_; }  ///< of the batch that `next` gives
  void begin_epoch(std::int64_t epoch) { seek(epoch, 0); }
  void seek(std::int64_t epoch, std::int64_t batch) override;
  const Batch* next() override;

  /// Start frames of the chunks of one pass through a session, in the order of use, whole batches only.
  std::vector<std::int64_t> starts(std::size_t session, std::int64_t epoch, std::int64_t pass) const;

 private:
  struct Pass {
    std::int64_t epoch = -1, pass = -1;
    std::vector<std::int64_t> starts;
  };

  const DataSet& data_;
  DataOptions options_;
  std::uint64_t seed_;
  std::vector<ClipSplit> splits_;
  std::vector<std::int64_t> batches_;  // per pass of a session
  std::vector<Pass> passes_;           // the current pass of every session
  std::vector<std::int64_t> order_;    // of the sessions in this epoch
  std::int64_t epoch_ = 0, batch_ = 0;
  BatchBuffer buffer_;
};

/// The validation clips: sessions in order, clips in the order drawn, batch_size at a time, the last batch
/// kept.
class ValidationClips {
 public:
  ValidationClips(const DataSet& data, const DataOptions& options, DType dtype, const Device& device,
                  const SampleForm& form = {});

  std::int64_t batches() const;  ///< of one pass through all sessions
  void rewind() { session_ = 0, clip_ = 0; }
  const Batch* next();  ///< null after the last

 private:
  DataOptions options_;
  std::vector<ClipSplit> splits_;
  std::size_t session_ = 0;
  std::int64_t clip_ = 0;
  BatchBuffer buffer_;
};

}  // namespace fovea

#include "data/sampler.hpp"

#include <algorithm>
#include <limits>

#include "data/legacy_random.hpp"
#include "engine/philox.hpp"
#include "fovea/random.hpp"

namespace fovea {

namespace {

// Streams of the counter-based generator; the passes through the sessions of an epoch count up from theirs.
constexpr std::uint32_t session_order_stream = 0x40000000u, chunk_order_stream = 0x50000000u,
                        chunk_shift_stream = 0x60000000u;

// Uniform in 0 .. bound - 1; the excess of some values is below bound / 2^32.
std::vector<std::int64_t> random_shifts(const RandomKey& key, std::size_t count, std::int64_t bound) {
  std::vector<std::int64_t> shifts(count);
  for (std::size_t i = 0; i < count; ++i) {
    const Philox4 block = philox_block(key, static_cast<std::uint32_t>(i / 4));
    const std::uint32_t words[] = {block.x, block.y, block.z, block.w};
    shifts[i] = static_cast<std::int64_t>(words[i % 4] * static_cast<std::uint64_t>(bound) >> 32);
  }
  return shifts;
}

// openretina's gen_shifts_with_boundaries for one chunk of a movie of whole clips.
std::int64_t shifted_within_clip(std::int64_t start, std::int64_t shift, std::int64_t chunk,
                                 std::int64_t clip_length) {
  const std::int64_t next_border = (start / clip_length + 1) * clip_length;
  if (start + shift + chunk < next_border) return start + shift;
  return std::min(start, next_border - chunk);
}

std::int64_t training_frames(const ClipSplit& split, const DataOptions& options) {
  return static_cast<std::int64_t>(split.training.size()) * options.clip_length;
}

std::int64_t chunk_count(const ClipSplit& split, const DataOptions& options) {
  return (training_frames(split, options) + options.train_chunk_size - 1) / options.train_chunk_size;
}

void check_lengths(const DataOptions& options) {
  for (const auto& [field, frames] : {std::pair{"train_chunk_size", options.train_chunk_size},
                                      std::pair{"clip_length", options.clip_length}})
    if (frames < options.frames_per_image)
      throw ConfigError("data", text(field, ": must be at least frames_per_image ", options.frames_per_image,
                                     ": ", frames));
}

}  // namespace

ClipSplit split_clips(const Session& session, const DataOptions& options) {
  const std::int64_t clips = session.stimulus.frames() / options.clip_length;
  if (clips <= options.num_val_clips)
    throw ConfigError("data",
                      text("num_val_clips: session ", session.key, " has ", clips, " clips of clip_length ",
                           options.clip_length, ", which leaves none for training: ", options.num_val_clips));
  ClipSplit split;
  split.validation =
      LegacyRandom(static_cast<std::uint32_t>(options.seed)).choice(clips, options.num_val_clips, false);
  std::vector<bool> taken(static_cast<std::size_t>(clips), false);
  for (const std::int64_t clip : split.validation) taken[static_cast<std::size_t>(clip)] = true;
  for (std::int64_t clip = 0; clip < clips; ++clip)
    if (!taken[static_cast<std::size_t>(clip)]) split.training.push_back(clip);
  return split;
}

void check_samples(const DataSet& data, const DataOptions& options) {
  check(options);
  check_lengths(options);
  data.checked_normalization();
  if (data.sessions.empty()) throw ConfigError("data", "no session to train on");
  const std::int64_t chunk = options.train_chunk_size;
  if (!options.allow_over_boundaries && chunk > options.clip_length)
    throw ConfigError("data", text("train_chunk_size: without allow_over_boundaries at most clip_length ",
                                   options.clip_length, ": ", chunk));
  for (const Session& session : data.sessions) {
    const ClipSplit split = split_clips(session, options);
    const std::int64_t frames = training_frames(split, options), chunks = chunk_count(split, options);
    if (chunk > frames)
      throw ConfigError("data", text("train_chunk_size: session ", session.key, " has only ", frames,
                                     " training frames: ", chunk));
    if (chunks < options.batch_size)
      throw ConfigError("data", text("batch_size: session ", session.key, " has only ", chunks,
                                     " chunks of train_chunk_size ", chunk, ": ", options.batch_size));
  }
}

// ---- BatchBuffer

BatchBuffer::BatchBuffer(const DataSet& data, std::int64_t clips, std::int64_t frames, DType dtype,
                         const Device& device, const SampleForm& form)
    : data_(data), clips_(clips), frames_(frames), form_(form) {
  if (dtype != DType::f32 && dtype != DType::f64)
    throw ShapeError("BatchBuffer", text("f32 or f64 expected: ", dtype));
  const bool host = device.on_host();
  const Device memory = host ? device : cpu_device(1);
  const Shape shape = form.stimulus(clips, frames, data.height, data.width, data.channels);
  stimulus_ = Tensor(shape, dtype, memory);
  device_stimulus_ = host ? stimulus_ : Tensor(shape, dtype, device);
  if (!form.as_stored())
    frames_of_clip_ = Tensor({frames, data.height, data.width, data.channels}, dtype, memory);
  for (const Session& session : data.sessions) {
    const Shape response_shape = form.responses(clips, frames, session.neurons);
    responses_.emplace_back(response_shape, dtype, memory);
    device_responses_.push_back(host ? responses_.back() : Tensor(response_shape, dtype, device));
  }
}

void BatchBuffer::fill(std::size_t session, std::int64_t clip, const std::vector<std::int64_t>& clips,
                       std::int64_t clip_length, std::int64_t begin) {
  if (stimulus_.dtype() == DType::f32)
    fill_as<float>(session, clip, clips, clip_length, begin);
  else
    fill_as<double>(session, clip, clips, clip_length, begin);
}

template <class T>
void BatchBuffer::fill_as(std::size_t session, std::int64_t clip, const std::vector<std::int64_t>& clips,
                          std::int64_t clip_length, std::int64_t begin) {
  const Session& source = data_.sessions[session];
  const std::int64_t values = source.stimulus.values_per_frame(), neurons = source.neurons;
  const std::int64_t used = frames_ - form_.lead();  // those that have a response
  T* const samples = stimulus_.data<T>() + clip * used * values * form_.frames_per_image;
  T* const stimulus = form_.as_stored() ? samples : frames_of_clip_.data<T>();
  T* const responses = responses_[session].data<T>() + clip * used * neurons;
  for (std::int64_t done = 0; done < frames_;) {
    const std::int64_t at = begin + done, inside = at % clip_length;
    const std::int64_t count = std::min(frames_ - done, clip_length - inside);
    const std::int64_t frame = clips.at(static_cast<std::size_t>(at / clip_length)) * clip_length + inside;
    source.stimulus.read(frame, frame + count, stimulus + done * values, data_.checked_normalization());
    const std::int64_t left_out = std::clamp<std::int64_t>(form_.lead() - done, 0, count);
    if (left_out < count)
      source.responses.read(frame + left_out, frame + count,
                            responses + (done + left_out - form_.lead()) * neurons);
    done += count;
  }
  if (!form_.as_stored())
    stack_frames(stimulus, frames_, data_.height * data_.width, data_.channels, form_.frames_per_image,
                 samples);
}

const Batch& BatchBuffer::batch(std::size_t session, std::int64_t clips) {
  const auto part = [&](const Tensor& tensor) {
    return clips == clips_ ? tensor : tensor.rows(0, form_.samples(clips, frames_));
  };
  batch_.session_index = session;
  batch_.session = data_.sessions[session].key;
  batch_.stimulus = part(device_stimulus_);
  batch_.responses = part(device_responses_[session]);
  if (!device_stimulus_.same(stimulus_)) {
    batch_.stimulus.copy_from(part(stimulus_));
    batch_.responses.copy_from(part(responses_[session]));
  }
  return batch_;
}

// ---- TrainingSampler

TrainingSampler::TrainingSampler(const DataSet& data, const DataOptions& options, std::uint64_t seed,
                                 DType dtype, const Device& device, const SampleForm& form)
    : data_(data),
      options_((check_samples(data, options), options)),
      seed_(seed),
      passes_(data.sessions.size()),
      buffer_(data, options.batch_size, options.train_chunk_size, dtype, device, form) {
  for (const Session& session : data.sessions) {
    splits_.push_back(split_clips(session, options));
    batches_.push_back(chunk_count(splits_.back(), options) / options.batch_size);
  }
  seek(0, 0);
}

std::int64_t TrainingSampler::batches_per_epoch() const {
  return static_cast<std::int64_t>(batches_.size()) * *std::max_element(batches_.begin(), batches_.end());
}

void TrainingSampler::seek(std::int64_t epoch, std::int64_t batch) {
  if (epoch < 0 || epoch > std::numeric_limits<std::uint32_t>::max() || batch < 0 ||
      batch > batches_per_epoch())
    throw Error("TrainingSampler", text("no such position: epoch ", epoch, ", batch ", batch));
  epoch_ = epoch, batch_ = batch;
  order_ = Random(seed_, session_order_stream, static_cast<std::uint32_t>(epoch))
               .permutation(static_cast<std::int64_t>(data_.sessions.size()));
}

std::vector<std::int64_t> TrainingSampler::starts(std::size_t session, std::int64_t epoch,
                                                  std::int64_t pass) const {
  const std::int64_t chunk = options_.train_chunk_size, frames = training_frames(splits_[session], options_);
  std::vector<std::int64_t> result;
  for (std::int64_t start = 0; start < frames; start += chunk) result.push_back(start);
  if (options_.clip_length != chunk) {
    const auto visit = static_cast<std::uint32_t>(pass * static_cast<std::int64_t>(data_.sessions.size())) +
                       static_cast<std::uint32_t>(session);
    const auto step = static_cast<std::uint32_t>(epoch);
    const bool over = options_.allow_over_boundaries;
    const std::int64_t bound = over ? chunk : std::max(chunk / 2, std::int64_t{1});
    const std::vector<std::int64_t> shifts =
        random_shifts({seed_, chunk_shift_stream + visit, step, 0}, result.size(), bound);
    for (std::size_t i = 0; i < result.size(); ++i)
      result[i] = over ? std::min(result[i] + shifts[i], frames - chunk)
                       : shifted_within_clip(result[i], shifts[i], chunk, options_.clip_length);
    const std::vector<std::int64_t> order =
        Random(seed_, chunk_order_stream + visit, step).permutation(static_cast<std::int64_t>(result.size()));
    std::vector<std::int64_t> shuffled;
    shuffled.reserve(order.size());
    for (const std::int64_t i : order) shuffled.push_back(result[static_cast<std::size_t>(i)]);
    result.swap(shuffled);
  }
  result.resize(static_cast<std::size_t>(batches_[session] * options_.batch_size));
  return result;
}

const Batch* TrainingSampler::next() {
  if (batch_ == batches_per_epoch()) return nullptr;
  const auto sessions = static_cast<std::int64_t>(order_.size());
  const auto session = static_cast<std::size_t>(order_[static_cast<std::size_t>(batch_ % sessions)]);
  const std::int64_t visit = batch_ / sessions, pass = visit / batches_[session];
  Pass& current = passes_[session];
  if (current.epoch != epoch_ || current.pass != pass)
    current = {epoch_, pass, starts(session, epoch_, pass)};
  const std::int64_t first = visit % batches_[session] * options_.batch_size;
  for (std::int64_t sample = 0; sample < options_.batch_size; ++sample)
    buffer_.fill(session, sample, splits_[session].training, options_.clip_length,
                 current.starts[static_cast<std::size_t>(first + sample)]);
  ++batch_;
  return &buffer_.batch(session, options_.batch_size);
}

// ---- ValidationClips

ValidationClips::ValidationClips(const DataSet& data, const DataOptions& options, DType dtype,
                                 const Device& device, const SampleForm& form)
    : options_((check(options), check_lengths(options), options)),
      buffer_(data, std::min(options.batch_size, options.num_val_clips), options.clip_length, dtype, device,
              form) {
  data.checked_normalization();
  for (const Session& session : data.sessions) splits_.push_back(split_clips(session, options));
}

std::int64_t ValidationClips::batches() const {
  return static_cast<std::int64_t>(splits_.size()) *
         ((options_.num_val_clips + options_.batch_size - 1) / options_.batch_size);
}

const Batch* ValidationClips::next() {
  if (session_ == splits_.size()) return nullptr;
  const std::size_t session = session_;
  const std::int64_t samples = std::min(options_.batch_size, options_.num_val_clips - clip_);
  for (std::int64_t sample = 0; sample < samples; ++sample)
    buffer_.fill(session, sample, splits_[session].validation, options_.clip_length,
                 (clip_ + sample) * options_.clip_length);
  clip_ += samples;
  if (clip_ == options_.num_val_clips) clip_ = 0, ++session_;
  return &buffer_.batch(session, samples);
}

}  // namespace fovea

// Static images from movies: which frames are the channels of an image, and which response is its.
#include "openretina_fixture.hpp"

using namespace openretina_test;

namespace {

constexpr std::int64_t frames_in_all = 83, pixels = 2;

/// What channel c of pixel p is in frame t, and what neuron n answers to it.
float value_of(std::int64_t c, std::int64_t t, std::int64_t p) {
  return static_cast<float>(c * 1000 + t * 10 + p);
}
float response_of(std::int64_t n, std::int64_t t) { return static_cast<float>(n * 500 + t); }

/// Two channels of 1 x 2 pixels, three neurons; every value says what it is of.
struct Numbered {
  TemporaryFolder folder;
  DataOptions options;

  Numbered() {
    std::vector<float> stimulus, counts;
    for (std::int64_t c = 0; c < 2; ++c)
      for (std::int64_t t = 0; t < frames_in_all; ++t)
        for (std::int64_t p = 0; p < pixels; ++p) stimulus.push_back(value_of(c, t, p));
    for (std::int64_t n = 0; n < 3; ++n)
      for (std::int64_t t = 0; t < frames_in_all; ++t) counts.push_back(response_of(n, t));
    Hdf5Writer writer(folder / "s.h5");
    writer.numbers("stimulus_m", {2, frames_in_all, 1, pixels}, stimulus);
    writer.numbers("responses_m", {3, frames_in_all}, counts);
    options.path = folder.path();
    options.normalize = NormalizeMode::none;
    options.batch_size = 2, options.train_chunk_size = 7, options.clip_length = 10, options.num_val_clips = 3;
    options.frames_per_image = 3;
  }
  DataSet load() const { return load_openretina(options); }
};

/// Frames of a movie that clips form when put together.
std::vector<std::int64_t> frames_of(const std::vector<std::int64_t>& clips, std::int64_t clip_length) {
  std::vector<std::int64_t> frames;
  for (const std::int64_t clip : clips)
    for (std::int64_t i = 0; i < clip_length; ++i) frames.push_back(clip * clip_length + i);
  return frames;
}

/// The images of `count` frames from `begin` on, as the contract says, (image, pixel, channel c k + j).
std::vector<float> expected_images(const std::vector<std::int64_t>& frames, std::int64_t begin,
                                   std::int64_t count, std::int64_t k) {
  std::vector<float> values;
  for (std::int64_t last = begin + k - 1; last < begin + count; ++last)
    for (std::int64_t p = 0; p < pixels; ++p)
      for (std::int64_t c = 0; c < 2; ++c)
        for (std::int64_t j = 0; j < k; ++j)
          values.push_back(value_of(c, frames.at(static_cast<std::size_t>(last - k + 1 + j)), p));
  return values;
}

std::vector<float> expected_responses(const std::vector<std::int64_t>& frames, std::int64_t begin,
                                      std::int64_t count, std::int64_t k) {
  std::vector<float> values;
  for (std::int64_t last = begin + k - 1; last < begin + count; ++last)
    for (std::int64_t n = 0; n < 3; ++n)
      values.push_back(response_of(n, frames.at(static_cast<std::size_t>(last))));
  return values;
}

void append(std::vector<float>& to, const std::vector<float>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

TEST_CASE("the frames of a movie that are the channels of an image, number by number") {
  // Frames of two pixels with two channels each: pixel 0 channels 0 and 1, then pixel 1.
  const std::vector<float> frames{1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24, 31, 32, 33, 34};
  std::vector<float> images(2 * 2 * 6);
  stack_frames(frames.data(), 4, 2, 2, 3, images.data());
  CHECK(images == std::vector<float>{1,  11, 21, 2,  12, 22, 3,  13, 23, 4,  14, 24,  //
                                     11, 21, 31, 12, 22, 32, 13, 23, 33, 14, 24, 34});
  const Tensor clip = Tensor::from(frames, {1, 4, 1, 2, 2}, cpu_device(1));
  CHECK(samples_of(clip, {true, 3}).shape() == Shape{2, 1, 2, 6});
  CHECK(samples_of(clip, {true, 3}).to_vector<float>() == images);
  CHECK(samples_of(clip.to(DType::f64), {true, 3}).to_vector<double>() ==
        std::vector<double>(images.begin(), images.end()));
  CHECK(samples_of(clip, {true, 1}).shape() == Shape{4, 1, 2, 2});
  CHECK(samples_of(clip, {true, 1}).to_vector<float>() == frames);
  CHECK(samples_of(clip, {true, 4}).shape() == Shape{1, 1, 2, 8});
  CHECK(samples_of(clip, {}).same(clip));
}

TEST_CASE("images of neither shifted nor shuffled chunks, number by number") {
  Numbered recording;
  recording.options.train_chunk_size = recording.options.clip_length = 4;
  const DataSet data = recording.load();
  const ClipSplit split = split_clips(data.sessions[0], recording.options);
  TrainingSampler sampler(data, recording.options, 42, DType::f32, cpu_device(1), {true, 3});
  sampler.begin_epoch(0);
  const Batch* batch = sampler.next();
  REQUIRE(batch);
  REQUIRE(batch->stimulus.shape() == Shape{4, 1, 2, 6});
  REQUIRE(batch->responses.shape() == Shape{4, 3});
  REQUIRE(split.training[0] == 1);  // frames 4 .. 7
  const std::vector<float> x = batch->stimulus.to_vector<float>(), y = batch->responses.to_vector<float>();
  CHECK(std::vector<float>(x.begin(), x.begin() + 24) ==
        std::vector<float>{40, 50, 60, 1040, 1050, 1060, 41, 51, 61, 1041, 1051, 1061,  //
                           50, 60, 70, 1050, 1060, 1070, 51, 61, 71, 1051, 1061, 1071});
  CHECK(std::vector<float>(y.begin(), y.begin() + 6) == std::vector<float>{6, 506, 1006, 7, 507, 1007});
  const std::vector<std::int64_t> frames = frames_of(split.training, 4);
  CHECK(std::vector<float>(x.begin() + 24, x.end()) == expected_images(frames, 4, 4, 3));
  CHECK(std::vector<float>(y.begin() + 6, y.end()) == expected_responses(frames, 4, 4, 3));
}

TEST_CASE("training images are those of the chunks that a model of movies would see, in the same order") {
  for (const bool over : {true, false}) {
    for (const std::int64_t k : {1, 2, 3, 7}) {
      CAPTURE(over);
      CAPTURE(k);
      Numbered recording;
      recording.options.allow_over_boundaries = over;
      recording.options.frames_per_image = k;
      const DataSet data = recording.load();
      const std::int64_t batch_size = 2, chunk = 7, clip_length = 10;
      const ClipSplit split = split_clips(data.sessions[0], recording.options);
      const std::vector<std::int64_t> frames = frames_of(split.training, clip_length);
      TrainingSampler sampler(data, recording.options, 42, DType::f32, cpu_device(1), {true, k});
      DataOptions of_movies = recording.options;
      of_movies.frames_per_image = 1;
      const TrainingSampler movies(data, of_movies, 42, DType::f32, cpu_device(1));
      CHECK(sampler.batches_per_epoch() == movies.batches_per_epoch());
      bool crossed = false;
      for (std::int64_t epoch = 0; epoch < 5; ++epoch) {
        sampler.begin_epoch(epoch);
        const std::vector<std::int64_t> starts = movies.starts(0, epoch, 0);
        std::size_t next = 0;
        while (const Batch* batch = sampler.next()) {
          std::vector<float> x, y;
          for (std::int64_t i = 0; i < batch_size; ++i) {
            const std::int64_t start = starts.at(next++);
            append(x, expected_images(frames, start, chunk, k));
            append(y, expected_responses(frames, start, chunk, k));
            crossed = crossed || start / clip_length != (start + chunk - 1) / clip_length;
          }
          REQUIRE(batch->stimulus.shape() == Shape{batch_size * (chunk - k + 1), 1, 2, 2 * k});
          REQUIRE(batch->responses.shape() == Shape{batch_size * (chunk - k + 1), 3});
          CHECK(batch->stimulus.to_vector<float>() == x);
          CHECK(batch->responses.to_vector<float>() == y);
        }
        CHECK(next == starts.size());
      }
      CHECK(crossed == over);
    }
  }
}

TEST_CASE("validation images are those of the clips, the last batch short") {
  for (const std::int64_t k : {1, 4, 10}) {
    CAPTURE(k);
    Numbered recording;
    recording.options.frames_per_image = k;
    recording.options.train_chunk_size = 10;
    const DataSet data = recording.load();
    const ClipSplit split = split_clips(data.sessions[0], recording.options);
    REQUIRE(split.validation.size() == 3);
    ValidationClips clips(data, recording.options, DType::f64, cpu_device(1), {true, k});
    for (int round = 0; round < 2; ++round) {
      std::size_t next = 0;
      while (const Batch* batch = clips.next()) {
        const std::size_t count = next == 0 ? 2 : 1;
        std::vector<float> x, y;
        for (std::size_t i = 0; i < count; ++i) {
          const std::vector<std::int64_t> frames = frames_of({split.validation.at(next++)}, 10);
          append(x, expected_images(frames, 0, 10, k));
          append(y, expected_responses(frames, 0, 10, k));
        }
        const auto images = static_cast<std::int64_t>(count) * (10 - k + 1);
        REQUIRE(batch->stimulus.shape() == Shape{images, 1, 2, 2 * k});
        REQUIRE(batch->responses.shape() == Shape{images, 3});
        CHECK(batch->stimulus.to_vector<double>() == std::vector<double>(x.begin(), x.end()));
        CHECK(batch->responses.to_vector<double>() == std::vector<double>(y.begin(), y.end()));
      }
      CHECK(next == 3);
      clips.rewind();
    }
  }
}

TEST_CASE("images are normalised like movies, and batches of them reuse their memory") {
  Numbered recording;
  recording.options.normalize = NormalizeMode::given;
  recording.options.given_normalization = {100, 8};
  const DataSet data = recording.load();
  const Device device = cpu_device(1);
  TrainingSampler sampler(data, recording.options, 42, DType::f32, device, {true, 3});
  ValidationClips clips(data, recording.options, DType::f32, device, {true, 3});
  const std::uint64_t before = device.memory().allocations;
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    sampler.begin_epoch(epoch);
    while (sampler.next()) continue;
    clips.rewind();
    while (clips.next()) continue;
  }
  CHECK(device.memory().allocations == before);
  clips.rewind();
  const std::vector<float> x = clips.next()->stimulus.to_vector<float>();
  const std::vector<std::int64_t> frames =
      frames_of({split_clips(data.sessions[0], recording.options).validation[0]}, 10);
  CHECK(x[0] == (value_of(0, frames[0], 0) - 100) / 8);
  CHECK(x[5] == (value_of(1, frames[2], 0) - 100) / 8);
}

TEST_CASE("chunks, clips and counts that no image fits are refused") {
  const Numbered recording;
  const DataSet data = recording.load();
  const auto error = [&](auto change) {
    DataOptions options = recording.options;
    change(options);
    const std::string training = message_of<ConfigError>([&] {
      TrainingSampler(data, options, 1, DType::f32, cpu_device(1), {true, options.frames_per_image});
    });
    CHECK(message_of<ConfigError>([&] {
            ValidationClips(data, options, DType::f32, cpu_device(1), {true, options.frames_per_image});
          }) == training);
    return training;
  };
  CHECK(contains(error([](DataOptions& o) { o.frames_per_image = 8; }),
                 "[data] train_chunk_size: must be at least frames_per_image 8: 7"));
  CHECK(contains(error([](DataOptions& o) { o.frames_per_image = 11, o.train_chunk_size = 20; }),
                 "[data] clip_length: must be at least frames_per_image 11: 10"));
  CHECK(contains(error([](DataOptions& o) { o.frames_per_image = 0; }),
                 "[data] frames_per_image: must lie in 1 .. 2147483647: 0"));
  CHECK(contains(error([](DataOptions& o) { o.frames_per_image = -3; }), "frames_per_image"));
}

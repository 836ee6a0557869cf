// Data options, splitting into clips, sampling: held against openretina.
#include "openretina_fixture.hpp"

using namespace openretina_test;

TEST_CASE("options out of range are named") {
  const Recording recording;
  const auto error = [&](auto change) {
    DataOptions options = recording.options;
    change(options);
    return message_of<ConfigError>([&] { load_openretina(options); });
  };
  CHECK(contains(error([](DataOptions& o) { o.batch_size = 0; }), "[data] batch_size: must lie in 1"));
  CHECK(contains(error([](DataOptions& o) { o.train_chunk_size = -1; }),
                 "train_chunk_size: must lie in 1 .. 2147483647: -1"));
  CHECK(contains(error([](DataOptions& o) { o.clip_length = std::int64_t{1} << 40; }), "clip_length"));
  CHECK(contains(error([](DataOptions& o) { o.num_val_clips = 0; }), "num_val_clips"));
  CHECK(contains(error([](DataOptions& o) { o.seed = std::uint64_t{1} << 32; }), "seed"));
  CHECK(contains(error([](DataOptions& o) { o.format = "csv"; }), "format: must be openretina_hdf5: csv"));
  CHECK(contains(error([](DataOptions& o) { o.path = ""; }), "path"));
  CHECK(contains(error([](DataOptions& o) {
                   o.test_names = {"test", "test"};
                 }),
                 "test_names: name twice: test"));
  CHECK(contains(error([](DataOptions& o) { o.test_names = {""}; }), "test_names"));
  const auto normalize = [](double mean, double deviation) {
    return [=](DataOptions& o) {
      o.normalize = NormalizeMode::given, o.given_normalization = {mean, deviation};
    };
  };
  CHECK(contains(error(normalize(std::nan(""), 1)), "normalize.mean"));
  CHECK(contains(error(normalize(0, 0)), "normalize.std: must be finite and above 0: 0"));
}

// ---- samples

TEST_CASE("validation clips equal openretina's") {
  const Recording recording;
  const DataSet data = recording.load();
  const ClipSplit split = split_clips(data.sessions[0], recording.options);
  CHECK(split.validation == std::vector<std::int64_t>{6, 4, 1});
  CHECK(split.training == std::vector<std::int64_t>{0, 2, 3, 5, 7, 8, 9, 10, 11, 12});
  ValidationClips clips(data, recording.options, DType::f32, cpu_device(1));
  CHECK(clips.batches() == 2);
  for (int round = 0; round < 2; ++round) {
    const Batch* first = clips.next();
    REQUIRE(first);
    REQUIRE(first->stimulus.shape() == Shape{2, 5, 3, 2, 2});
    CHECK(first->session == "s");
    // [sample 0, channel 1, frame 2, y 2, x 1] in openretina's order
    CHECK(first->stimulus.to_vector<float>()[2 * 12 + 11] == -0.25043487548828125f);
    CHECK(first->responses.to_vector<float>() == std::vector<float>{4, 2, 0, 6, 5, 4, 1, 1, 1, 3,
                                                                    4, 5, 5, 0, 2, 5, 0, 2, 0, 3,
                                                                    6, 2, 6, 3, 4, 2, 0, 6, 5, 4});
    const Batch* last = clips.next();
    REQUIRE(last);
    REQUIRE(last->stimulus.shape() == Shape{1, 5, 3, 2, 2});
    CHECK(last->stimulus.to_vector<float>()[2 * 12 + 11] == 1.3454673290252686f);
    CHECK(last->responses.to_vector<float>() ==
          std::vector<float>{3, 4, 5, 5, 0, 2, 0, 3, 6, 2, 6, 3, 4, 2, 0});
    CHECK_FALSE(clips.next());
    CHECK_FALSE(clips.next());
    clips.rewind();
  }
}

TEST_CASE("chunks as long as clips are neither shifted nor shuffled, as in openretina") {
  Recording recording;
  recording.options.train_chunk_size = 5;
  const DataSet data = recording.load();
  TrainingSampler sampler(data, recording.options, 42, DType::f32, cpu_device(1));
  CHECK(sampler.batches_per_epoch() == 5);
  sampler.begin_epoch(0);
  const Batch* first = sampler.next();
  REQUIRE(first);
  CHECK(first->responses.to_vector<float>() == std::vector<float>{0, 3, 6, 2, 6, 3, 4, 2, 0, 6,
                                                                  5, 4, 1, 1, 1, 6, 5, 4, 1, 1,
                                                                  1, 3, 4, 5, 5, 0, 2, 0, 3, 6});
  CHECK(first->stimulus.to_vector<float>()[60 + 3 * 12 + 4] == -1.5803532600402832f);  // [1, 0, 3, 1, 0]
  sampler.seek(0, 4);
  const Batch* last = sampler.next();
  REQUIRE(last);
  CHECK(last->responses.to_vector<float>() == std::vector<float>{3, 0, 4, 5, 3, 1, 0, 6, 5, 2,
                                                                 2, 2, 4, 5, 6, 6, 1, 3, 1, 4,
                                                                 0, 3, 0, 4, 5, 3, 1, 0, 6, 5});
  CHECK(last->stimulus.to_vector<float>()[60 + 3 * 12 + 4] == 0.015548797324299812f);
  CHECK_FALSE(sampler.next());
}

TEST_CASE("chunk starts reach what openretina's sampler reaches, and nothing else") {
  struct Case {
    std::int64_t chunk;
    bool over;
    std::vector<std::int64_t> lowest, highest;  // of the i-th start over all of openretina's shifts
    std::size_t reached;                        // different starts
  };
  // MovieSampler on 50 frames in clips of 10
  const std::vector<Case> cases = {
      {4,
       true,
       {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 46},
       {3, 7, 11, 15, 19, 23, 27, 31, 35, 39, 43, 46, 46},
       47},
      {4,
       false,
       {0, 4, 6, 12, 16, 20, 24, 26, 32, 36, 40, 44, 46},
       {1, 5, 6, 13, 16, 21, 25, 26, 33, 36, 41, 45, 46},
       21},
      {6, false, {0, 4, 12, 14, 24, 30, 34, 42, 44}, {2, 4, 13, 14, 24, 32, 34, 43, 44}, 15},
  };
  const TemporaryFolder folder;
  write_own_session(folder / "a.h5", 63);
  DataOptions options;
  options.path = folder.path();
  options.batch_size = 1, options.clip_length = 10, options.num_val_clips = 1;
  const DataSet data = load_openretina(options);
  for (const Case& one : cases) {
    CAPTURE(one.chunk);
    CAPTURE(one.over);
    options.train_chunk_size = one.chunk, options.allow_over_boundaries = one.over;
    const TrainingSampler sampler(data, options, 7, DType::f32, cpu_device(1));
    CHECK(sampler.batches_per_epoch() == static_cast<std::int64_t>(one.lowest.size()));
    std::set<std::int64_t> reached;
    std::set<std::vector<std::int64_t>> orders;
    for (std::int64_t epoch = 0; epoch < 200; ++epoch) {
      std::vector<std::int64_t> starts = sampler.starts(0, epoch, 0);
      orders.insert(starts);
      reached.insert(starts.begin(), starts.end());
      std::sort(starts.begin(), starts.end());
      REQUIRE(starts.size() == one.lowest.size());
      for (std::size_t i = 0; i < starts.size(); ++i) {
        CHECK(starts[i] >= one.lowest[i]);
        CHECK(starts[i] <= one.highest[i]);
      }
    }
    CHECK(reached.size() == one.reached);
    CHECK(orders.size() == 200);  // shuffled anew every epoch
  }
}

TEST_CASE("sessions take turns, short ones start over, and any position can be restored") {
  const TemporaryFolder folder;
  write_own_session(folder / "long.h5", 103);
  write_own_session(folder / "short.h5", 60, 2);
  DataOptions options;
  options.path = folder.path();
  options.batch_size = 2, options.train_chunk_size = 4, options.clip_length = 10, options.num_val_clips = 2;
  const DataSet data = load_openretina(options);
  // long: 8 clips, 20 chunks, 10 batches; short: 4 clips, 10 chunks, 5 batches
  TrainingSampler sampler(data, options, 42, DType::f64, cpu_device(1));
  CHECK(sampler.batches_per_epoch() == 20);
  CHECK(sampler.starts(1, 0, 0) != sampler.starts(1, 0, 1));
  CHECK(sampler.starts(1, 0, 0) != sampler.starts(1, 1, 0));
  CHECK(sampler.starts(1, 0, 1) == sampler.starts(1, 0, 1));
  CHECK(TrainingSampler(data, options, 43, DType::f64, cpu_device(1)).starts(1, 0, 0) !=
        sampler.starts(1, 0, 0));
  std::set<std::size_t> leaders;
  for (std::int64_t epoch = 0; epoch < 8; ++epoch) {
    sampler.begin_epoch(epoch);
    std::size_t leader = 0;
    for (std::int64_t index = 0; index < 20; ++index) {
      CHECK(sampler.batch_index() == index);
      const Batch* batch = sampler.next();
      REQUIRE(batch);
      if (index == 0) leaders.insert(leader = batch->session_index);
      CHECK(batch->session_index == (leader + static_cast<std::size_t>(index)) % 2);
      CHECK(batch->session == data.sessions[batch->session_index].key);
      REQUIRE(batch->stimulus.shape() == Shape{2, 4, 3, 2, 2});
      REQUIRE(batch->responses.shape() == Shape{2, 4, 3});
      const std::vector<double> stimulus = batch->stimulus.to_vector<double>();
      const std::vector<double> values = batch->responses.to_vector<double>();
      TrainingSampler other(data, options, 42, DType::f64, cpu_device(1));
      other.seek(epoch, index);
      const Batch* again = other.next();
      REQUIRE(again);
      CHECK(again->session == batch->session);
      CHECK(again->stimulus.to_vector<double>() == stimulus);
      CHECK(again->responses.to_vector<double>() == values);
    }
    CHECK_FALSE(sampler.next());
  }
  CHECK(leaders.size() == 2);  // the order of the sessions is drawn every epoch
  CHECK_THROWS_AS(sampler.seek(0, 21), Error);
  CHECK_THROWS_AS(sampler.seek(-1, 0), Error);
}

TEST_CASE("stimulus and responses of a sample belong to the same frames, outside the validation clips") {
  const TemporaryFolder folder;
  std::vector<float> frames(200), counts(2 * 200);  // values that say which frame they are of
  for (std::size_t t = 0; t < 200; ++t)
    frames[t] = static_cast<float>(t), counts[t] = static_cast<float>(t),
    counts[200 + t] = static_cast<float>(1000 + t);
  {
    Hdf5Writer writer(folder / "s.h5");
    writer.numbers("stimulus_m", {1, 200, 1, 1}, frames);
    writer.numbers("responses_m", {2, 200}, counts);
  }
  DataOptions options;
  options.path = folder.path();
  options.normalize = NormalizeMode::none;
  options.batch_size = 3, options.train_chunk_size = 7, options.clip_length = 10, options.num_val_clips = 5;
  const DataSet data = load_openretina(options);
  const ClipSplit split = split_clips(data.sessions[0], options);
  const std::set<std::int64_t> training(split.training.begin(), split.training.end());
  TrainingSampler sampler(data, options, 1, DType::f32, cpu_device(1));
  std::set<int> seen;
  for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
    sampler.begin_epoch(epoch);
    while (const Batch* batch = sampler.next()) {
      const std::vector<float> x = batch->stimulus.to_vector<float>(),
                               y = batch->responses.to_vector<float>();
      for (std::size_t i = 0; i < x.size(); ++i) {
        CHECK(y[2 * i] == x[i]);
        CHECK(y[2 * i + 1] == x[i] + 1000);
        CHECK(training.contains(static_cast<std::int64_t>(x[i]) / 10));
        seen.insert(static_cast<int>(x[i]));
      }
    }
  }
  CHECK(seen.size() == 150);
}

TEST_CASE("batches reuse their memory") {
  const Recording recording;
  const DataSet data = recording.load();
  const Device device = cpu_device(1);
  TrainingSampler sampler(data, recording.options, 42, DType::f32, device);
  ValidationClips clips(data, recording.options, DType::f32, device);
  const std::uint64_t before = device.memory().allocations;
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    sampler.begin_epoch(epoch);
    int batches = 0;
    while (sampler.next()) ++batches;
    CHECK(batches == 6);
    clips.rewind();
    while (clips.next()) ++batches;
    CHECK(batches == 8);
  }
  CHECK(device.memory().allocations == before);
}

TEST_CASE("impossible samplings are refused") {
  const Recording recording;
  const DataSet data = recording.load();
  const auto error = [&](auto change) {
    DataOptions options = recording.options;
    change(options);
    return message_of<ConfigError>([&] { TrainingSampler(data, options, 1, DType::f32, cpu_device(1)); });
  };
  CHECK(
      contains(error([](DataOptions& o) { o.num_val_clips = 13; }), "num_val_clips: session s has 13 clips"));
  CHECK(contains(error([](DataOptions& o) { o.train_chunk_size = 51; }), "has only 50 training frames: 51"));
  CHECK(contains(error([](DataOptions& o) { o.batch_size = 14; }),
                 "has only 13 chunks of train_chunk_size 4: 14"));
  CHECK(contains(error([](DataOptions& o) { o.train_chunk_size = 6, o.allow_over_boundaries = false; }),
                 "at most clip_length 5: 6"));
  CHECK_THROWS_AS(TrainingSampler(data, recording.options, 1, DType::i64, cpu_device(1)), ShapeError);
}

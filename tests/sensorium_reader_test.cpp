// Batches of static images: who reads them, where they begin, in which order they come.
#include <chrono>
#include <set>
#include <thread>

#include "data/static_sampler.hpp"
#include "sensorium_fixture.hpp"

using namespace sensorium_test;

namespace {

std::vector<std::string> tiers(std::size_t train, std::size_t validation) {
  std::vector<std::string> all(train, "train");
  all.resize(train + validation, "validation");
  return all;
}

/// A folder of 13 training trials and a zip of 5, in batches of 4.
struct TwoSessions {
  TemporaryFolder folder;
  StaticDataOptions options;

  TwoSessions() {
    options.paths = {folder / "long", folder / "short.zip"};
    options.batch_size = 4;
    TinyForm form;
    form.tiers = tiers(13, 6);
    write_folder(options.paths[0], TinySession(form).files);
    form.tiers = tiers(5, 3);
    form.neurons = 3;
    form.seed = 2;
    write_zip(options.paths[1], TinySession(form).files);
  }
  StaticDataSet open(std::int64_t readers = 1) const {
    StaticDataOptions changed = options;
    changed.readers = readers;
    return open_sensorium(changed);
  }
};

/// A batch, kept.
struct Kept {
  std::string session;
  Tensor stimulus, responses, pupil;

  explicit Kept(const Batch& batch)
      : session(batch.session), stimulus(batch.stimulus.clone()), responses(batch.responses.clone()) {
    if (batch.pupil_center) pupil = batch.pupil_center.clone();
  }
  bool same_as(const Kept& other) const {
    return session == other.session && exact(stimulus, other.stimulus) && exact(responses, other.responses) &&
           pupil.operator bool() == other.pupil.operator bool() && (!pupil || exact(pupil, other.pupil));
  }
};

std::vector<Kept> rest_of(TrainingBatches& batches) {
  std::vector<Kept> kept;
  while (const Batch* batch = batches.next()) kept.emplace_back(*batch);
  return kept;
}

bool same(const std::vector<Kept>& a, const std::vector<Kept>& b) {
  return !a.empty() && a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](const Kept& x, const Kept& y) { return x.same_as(y); });
}

/// The planned trials, read one by one, as a batch of f32 must hold them.
void check_batch(const StaticDataSet& data, const PlannedBatch& planned, const Kept& batch) {
  const StaticSession& session = data.sessions[planned.session];
  CHECK(batch.session == session.key());
  std::vector<double> images, responses, pupil;
  for (const std::int64_t number : planned.trials) {
    const StaticTrial trial = trial_of(session, number);
    images.insert(images.end(), trial.image.begin(), trial.image.end());
    responses.insert(responses.end(), trial.responses.begin(), trial.responses.end());
    pupil.insert(pupil.end(), trial.pupil_center.begin(), trial.pupil_center.end());
  }
  const auto rows = static_cast<std::int64_t>(planned.trials.size());
  const Shape image = session.image_shape();
  const Device cpu = cpu_device(1);
  CHECK(
      exact(Tensor::from(images, {rows, image[1], image[2], image[0]}, cpu).to(DType::f32), batch.stimulus));
  CHECK(exact(Tensor::from(responses, {rows, session.n_neurons()}, cpu).to(DType::f32), batch.responses));
  CHECK(exact(Tensor::from(pupil, {rows, 2}, cpu).to(DType::f32), batch.pupil));
}

std::multiset<std::int64_t> trials_in(const std::vector<PlannedBatch>& batches, std::size_t first,
                                      std::size_t last) {
  std::multiset<std::int64_t> trials;
  for (std::size_t i = first; i < last; ++i)
    trials.insert(batches[i].trials.begin(), batches[i].trials.end());
  return trials;
}

std::multiset<std::int64_t> up_to(std::int64_t count) {
  std::multiset<std::int64_t> all;
  for (std::int64_t i = 0; i < count; ++i) all.insert(i);
  return all;
}

}  // namespace

TEST_CASE("the same bits for every number of readers, and those of the files") {
  const TwoSessions two;
  const StaticDataSet data = two.open();
  StaticTrainingSampler alone(data, 42, DType::f32, cpu_device(1));
  std::vector<std::vector<Kept>> expected;
  for (const std::int64_t epoch : {0, 1}) {
    alone.seek(epoch, 0);
    expected.push_back(rest_of(alone));
    const std::vector<PlannedBatch> plan = alone.plan(epoch);
    REQUIRE(plan.size() == expected.back().size());
    REQUIRE(plan.size() == 8);
    for (std::size_t i = 0; i < plan.size(); ++i) check_batch(data, plan[i], expected.back()[i]);
    CHECK_FALSE(alone.next());
    CHECK_FALSE(alone.next());
  }
  CHECK_FALSE(same(expected[0], expected[1]));
  for (const std::int64_t readers : {2, 3, 7}) {
    CAPTURE(readers);
    StaticTrainingSampler several(two.open(readers), 42, DType::f32, cpu_device(1));
    for (const std::int64_t epoch : {0, 1}) {
      several.seek(epoch, 0);
      CHECK(same(expected[static_cast<std::size_t>(epoch)], rest_of(several)));
    }
  }
}

TEST_CASE("a position in the middle gives the batches that come after it from the start") {
  const TwoSessions two;
  for (const std::int64_t readers : {1, 3}) {
    StaticTrainingSampler sampler(two.open(readers), 7, DType::f64, cpu_device(1));
    sampler.seek(2, 0);
    const std::vector<Kept> whole = rest_of(sampler);
    REQUIRE(whole.size() == 8);
    for (std::int64_t batch = 0; batch < 8; ++batch) {
      StaticTrainingSampler another(two.open(readers), 7, DType::f64, cpu_device(1));
      another.seek(2, batch);
      CHECK(same({whole.begin() + batch, whole.end()}, rest_of(another)));
      // Also where batches of another position are under way.
      sampler.seek(5, 0);
      for (std::int64_t i = 0; i < batch % 3; ++i) CHECK(sampler.next());
      sampler.seek(2, batch);
      CHECK(same({whole.begin() + batch, whole.end()}, rest_of(sampler)));
    }
    sampler.seek(2, 8);
    CHECK_FALSE(sampler.next());
    CHECK(error_of([&] { sampler.seek(2, 9); }) != "no error");
    CHECK(error_of([&] { sampler.seek(-1, 0); }) != "no error");
  }
}

TEST_CASE("sessions alternate, the shorter one starts over in another order, short batches are kept") {
  const TwoSessions two;
  StaticTrainingSampler sampler(two.open(), 42, DType::f32, cpu_device(1));
  CHECK(sampler.batches_per_epoch() == 8);
  std::set<std::vector<std::int64_t>> orders;
  for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
    std::vector<PlannedBatch> of_long, of_short;
    const std::vector<PlannedBatch> plan = sampler.plan(epoch);
    REQUIRE(plan.size() == 8);
    for (std::size_t i = 0; i < 8; ++i) {
      CHECK(plan[i].session == i % 2);
      (i % 2 ? of_short : of_long).push_back(plan[i]);
    }
    const auto sizes = [](const std::vector<PlannedBatch>& batches) {
      std::vector<std::size_t> all;
      for (const PlannedBatch& batch : batches) all.push_back(batch.trials.size());
      return all;
    };
    CHECK(sizes(of_long) == std::vector<std::size_t>{4, 4, 4, 1});
    CHECK(sizes(of_short) == std::vector<std::size_t>{4, 1, 4, 1});
    // Every trial once in a pass.
    CHECK(trials_in(of_long, 0, 4) == up_to(13));
    CHECK(trials_in(of_short, 0, 2) == up_to(5));
    CHECK(trials_in(of_short, 2, 4) == up_to(5));
    CHECK(of_short[0].trials != of_short[2].trials);
    std::vector<std::int64_t> order;
    for (const PlannedBatch& batch : of_long)
      order.insert(order.end(), batch.trials.begin(), batch.trials.end());
    CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
    orders.insert(order);
  }
  CHECK(orders.size() == 4);  // another order every epoch
  StaticTrainingSampler another(two.open(), 43, DType::f32, cpu_device(1));
  CHECK(another.plan(0)[0].trials != sampler.plan(0)[0].trials);
  CHECK(StaticTrainingSampler(two.open(), 42, DType::f32, cpu_device(1)).plan(0)[0].trials ==
        sampler.plan(0)[0].trials);
}

TEST_CASE("other tiers keep their order") {
  const TwoSessions two;
  const StaticDataSet data = two.open();
  const auto batches = batches_of(data, 0, data.sessions[0].trials(Tier::validation));
  REQUIRE(batches.size() == 2);
  CHECK(batches[0].trials == std::vector<std::int64_t>{13, 14, 15, 16});
  CHECK(batches[1].trials == std::vector<std::int64_t>{17, 18});
  CHECK(batches_of(data, 0, data.sessions[0].trials(Tier::test)).empty());
}

TEST_CASE("a batch stays as it is until the next one is asked for") {
  const TwoSessions two;
  StaticTrainingSampler sampler(two.open(7), 42, DType::f32, cpu_device(1));
  sampler.seek(0, 0);
  int batches = 0;
  while (const Batch* batch = sampler.next()) {
    const Kept kept(*batch);
    std::this_thread::sleep_for(std::chrono::milliseconds(3));  // for the readers to go on
    CHECK(kept.same_as(Kept(*batch)));
    ++batches;
  }
  CHECK(batches == 8);
}

TEST_CASE("an error in a trial is thrown at its batch, and reading starts again") {
  TwoSessions two;
  TinyForm form;
  form.tiers = tiers(13, 6);
  TinySession damaged(form);
  damaged.set("responses", 6, std::vector<double>(5, not_a_number), {5});
  write_folder(two.options.paths[0], damaged.files);
  for (const std::int64_t readers : {1, 2, 7}) {
    CAPTURE(readers);
    StaticTrainingSampler sampler(two.open(readers), 42, DType::f32, cpu_device(1));
    for (const std::int64_t epoch : {0, 1, 2}) {
      const std::vector<PlannedBatch> plan = sampler.plan(epoch);
      sampler.seek(epoch, 0);
      int thrown = 0;
      for (const PlannedBatch& planned : plan) {
        const bool bad = planned.session == 0 &&
                         std::count(planned.trials.begin(), planned.trials.end(), std::int64_t{6}) > 0;
        thrown += bad;
        bool there = false;
        const std::string message = error_of([&] { there = sampler.next() != nullptr; });
        CHECK(there == !bad);
        if (!bad) {
          CHECK(message == "no error");
          continue;
        }
        CHECK(mentions(message, "session long, trial 6: "));
        CHECK(mentions(message, "data/responses/6.npy"));
        break;
      }
      CHECK(thrown == 1);
    }
    // Destroyed here with an error taken and batches under way.
  }
}

TEST_CASE("a reader that nobody takes a batch from can be destroyed and started again") {
  const TwoSessions two;
  for (const std::int64_t readers : {1, 7}) {
    for (int i = 0; i < 5; ++i) {
      StaticTrainingSampler sampler(two.open(readers), 1, DType::f32, cpu_device(1));
      if (i) sampler.seek(0, i);
      if (i > 2) sampler.seek(1, 0);
      if (i > 3) CHECK(sampler.next() != nullptr);
    }
    StaticReader reader(two.open(readers), DType::f32, cpu_device(1));
    CHECK_FALSE(reader.next());
    reader.start({});
    CHECK_FALSE(reader.next());
    reader.start({{1, {4}}, {0, {12, 0}}});
    const Batch* batch = reader.next();
    REQUIRE(batch);
    CHECK(batch->session == "short");
    CHECK(batch->session_index == 1);
    CHECK(batch->responses.shape() == Shape{1, 3});
    batch = reader.next();
    REQUIRE(batch);
    CHECK(batch->stimulus.shape() == Shape{2, 3, 4, 1});
    CHECK_FALSE(reader.next());
  }
}

TEST_CASE("a session without training trials cannot be trained on") {
  const TwoSessions two;
  TinyForm form;
  form.tiers = {"validation", "test"};
  const std::string path = two.folder / "none";
  write_folder(path, TinySession(form).files);
  StaticDataOptions options = two.options;
  options.paths[1] = path;
  const StaticDataSet data = open_sensorium(options);
  const std::string message = error_of([&] { StaticTrainingSampler(data, 1, DType::f32, cpu_device(1)); });
  CHECK(mentions(message, "session none has no trial of the tier train"));
  CHECK(mentions(message, path));
}

TEST_CASE("without pupil centres batches have none") {
  TwoSessions two;
  two.options.include_eye_position = false;
  StaticTrainingSampler sampler(two.open(2), 42, DType::f32, cpu_device(1));
  sampler.seek(0, 0);
  const Batch* batch = sampler.next();
  REQUIRE(batch);
  CHECK_FALSE(batch->pupil_center);
}

// Training, checkpoints, evaluation and prediction in memory that the host cannot reach, as that of a GPU:
// the same kernels in host memory give the same bits.
#include "completed_tables.hpp"
#include "fovea/evaluation.hpp"
#include "models/json.hpp"
#include "sensorium_fixture.hpp"
#include "training_fixture.hpp"

using namespace training_test;

namespace {

struct Reference;

Placement on_host() { return {cpu_device(1, Isa::reference), DType::f32}; }
Placement guarded() {
  return {device_with_tables(guarded_emulator_device(), wrapped_tables<Completed<Reference>>({})),
          DType::f32};
}

void check_same(const std::vector<SessionScores>& a, const std::vector<SessionScores>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t s = 0; s < a.size(); ++s) {
    REQUIRE(a[s].neurons.size() == b[s].neurons.size());
    for (std::size_t n = 0; n < a[s].neurons.size(); ++n)
      CHECK(a[s].neurons[n].correlation == b[s].neurons[n].correlation);
  }
}

std::unique_ptr<Model> images(const Placement& placement) {
  return make_model(Json{{"class", "KlindtCoreReadout2D"},
                         {"image_size", {6, 7}},
                         {"image_channels", 2},
                         {"kernel_sizes", {3}},
                         {"num_kernels", {3}},
                         {"act_fns", {"softplus"}},
                         {"weights_constraint", "abs"},
                         {"mask_constraint", "abs"},
                         {"reg", {1e-3, 1e-3, 1e-3, 0.2}},
                         {"init_scales", {{0.0, 0.2}, {0.1, 0.1}, {0.1, 0.1}}},
                         {"sessions", {{"c", {{"n_neurons", 4}}}}}}
                        .dump(),
                    placement, 5);
}

/// Trained, resumed from its checkpoint, written and read again.
std::unique_ptr<Model> trained(std::unique_ptr<Model> model, const DataSet& data, RunOptions options) {
  const Placement placement = model->placement();
  const training_test::TemporaryFolder folder;
  options.folder = folder.path();
  {
    std::atomic<bool> stop{false};
    TrainingHooks hooks;
    hooks.on_batch = [&](std::int64_t epoch, std::int64_t, std::int64_t, const StepLosses&) {
      stop = epoch == 1;
    };
    Trainer trainer(*model, data, options, hooks);
    REQUIRE(trainer.run(&stop).end == TrainingEnd::interrupted);
  }
  const Checkpoint checkpoint = read_checkpoint(checkpoint_path(folder.path()), placement.device);
  model = make_model(checkpoint, placement);
  Trainer trainer(*model, data, options);
  trainer.resume(checkpoint);
  REQUIRE(trainer.run(nullptr).epochs == 3);
  return load_model(folder.path("model.safetensors"), placement).model;
}

}  // namespace

TEST_CASE("training on movies in guarded memory") {
  const DataSet data = two_sessions();
  const auto train_in = [&](const Placement& placement) {
    return trained(tiny_model(placement), data, run_options("", 3));
  };
  const auto host = train_in(on_host()), model = train_in(guarded());
  CHECK(same_bits(*host, *model));
  check_same(evaluate_tests(*host, data), evaluate_tests(*model, data));
}

TEST_CASE("training on images cut from movies in guarded memory") {
  DataSet data = two_sessions();
  data.sessions.erase(data.sessions.begin());
  RunOptions options = run_options("", 3);
  options.data.frames_per_image = 2;
  const auto host = trained(images(on_host()), data, options),
             model = trained(images(guarded()), data, options);
  CHECK(same_bits(*host, *model));
  check_same(evaluate_tests(*host, data), evaluate_tests(*model, data));
}

TEST_CASE("training on static images with a shifter in guarded memory") {
  sensorium_test::TinyForm form;
  form.tiers = {"train", "train", "validation", "test", "train", "train", "validation", "test"};
  form.image = {1, 8, 9};
  const sensorium_test::Written files(sensorium_test::TinySession(form).files);
  StaticDataOptions data_options = files.options;
  data_options.batch_size = 2;
  data_options.include_eye_position = true;
  const StaticDataSet data = open_sensorium(data_options);
  const auto train_in = [&](const Placement& placement) {
    const Json config{{"class", "FiringRateEncoder"},
                      {"in_shape", {1, 8, 9}},
                      {"core",
                       {{"class", "Stacked2dCore"},
                        {"input_channels", 1},
                        {"hidden_channels", 4},
                        {"input_kern", 3},
                        {"hidden_kern", 3},
                        {"layers", 2}}},
                      {"readout", {{"class", "FullGaussian2d"}, {"bias", true}}},
                      {"shifter",
                       {{"class", "MLPShifter"},
                        {"input_channels", 2},
                        {"hidden_channels_shifter", 3},
                        {"shift_layers", 2}}},
                      {"sessions", {{data.sessions[0].key(), {{"n_neurons", form.neurons}}}}}};
    auto model = make_model(config.dump(), placement, 5);
    RunOptions options = run_options("", 2);
    train(*model, data, options);
    return model;
  };
  const auto host = train_in(on_host()), model = train_in(guarded());
  CHECK(same_bits(*host, *model));
  check_same(evaluate_tests(*host, data, Tier::test), evaluate_tests(*model, data, Tier::test));
}

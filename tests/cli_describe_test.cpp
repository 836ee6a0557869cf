// What describe says of a model file and of a configuration, with data and before there are any.
#include "cli_lab.hpp"
#include "fovea/model.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

/// The lab's configuration without its data section.
void write_config_without_data() {
  const std::string config = config_text;
  const std::size_t data = config.find("data:"), training = config.find("training:");
  write_bytes(Lab::get() / "nodata.yaml", config.substr(0, data) + config.substr(training));
}

}  // namespace

TEST_CASE("describe shows layers, parameters and the receptive field of a file and a configuration") {
  const Lab& lab = Lab::get();
  std::int64_t parameters = 0;
  const LoadedModel loaded = load_model(lab.model(), {cpu(), DType::f32});
  for (const NamedTensor& one : loaded.model->tensors())
    if (one.role == Role::parameter) parameters += one.tensor.elements();
  const std::vector<std::vector<std::string>> commands{
      {"describe", lab.model()},
      {"describe", "tiny.yaml"},
      {"describe", "tiny.yaml", "model.hidden_channels=[3, 2]", "model.temporal_kernel_sizes=[6, 3]",
       "model.spatial_kernel_sizes=[5, 3]"}};
  for (const auto& arguments : commands) {
    const CommandResult result = lab.done(arguments);
    CAPTURE(result.out);
    const bool two = arguments.size() > 2;
    for (const char* part : {"CoreReadout", "core.features.layer0", "readout.simulated_retina",
                             "(1, 30, 16, 16)", "(3, 25, 12, 12)", "(25, 6)", "MB"})
      CHECK(contains(result.out, part));
    CHECK(contains(result.out, two ? "(2, 25, 12, 12)" : text("parameters: ", parameters)));
    CHECK(contains(result.out,
                   two ? "receptive field: 8 frames x 7 x 7" : "receptive field: 6 frames x 5 x 5"));
  }
}

TEST_CASE("describe tells of a prediction that padding makes longer than the stimulus, which train refuses") {
  const Lab& lab = Lab::get();
  const CommandResult longer = lab.done({"describe", "tiny.yaml", "model.core_input_padding=10"});
  CAPTURE(longer.out);
  CHECK(contains(longer.out, "(45, 6)"));
  CHECK(contains(longer.out, "lag: -15 frames; padding in time makes the prediction 15 frames longer"));
  CHECK(contains(longer.out,
                 "training step, batch 8 x 30 frames: not measured, the model cannot be trained: "
                 "padding in time makes predictions longer than responses"));
  check_refused({"train", "tiny.yaml", "model.core_input_padding=10"},
                "[train] padding in time makes predictions longer than responses, which are as long as the "
                "stimulus: 45 frames for train_chunk_size of 30");
  CHECK(contains(lab.done({"describe", "tiny.yaml", "data.clip_length=5"}).out,
                 "not measured, the model cannot be trained: clip_length of 5 frames is too short"));
  CHECK(
      contains(lab.done({"describe", "tiny.yaml", "model.loss={class: PoissonLoss3d, per_neuron: true}"}).out,
               "the model cannot be trained: training minimises one number"));
  CHECK(contains(lab.done({"describe", "tiny.yaml"}).out,
                 "lag: 5 frames; the first prediction is for frame 5"));
}

TEST_CASE("describe needs no data where n_neurons_dict says what they will have, and believes the data") {
  const Lab& lab = Lab::get();
  write_config_without_data();
  const std::string seven = "model.n_neurons_dict={simulated_retina: 7}";
  const std::string bare = lab.done({"describe", "nodata.yaml", seven}).out;
  CHECK(contains(bare, "(45, 7)"));
  CHECK(contains(bare, "training step, batch 32 x 50 frames: "));
  CHECK(
      contains(lab.done({"describe", "nodata.yaml", seven, "data.batch_size=4"}).out, "batch 4 x 50 frames"));
  CHECK(contains(lab.done({"describe", "tiny.yaml", seven, "data.path=nowhere"}).out, "(25, 7)"));
  const std::string six =
      lab.done({"describe", "tiny.yaml", "model.n_neurons_dict={simulated_retina: 6}"}).out;
  CHECK(contains(six, "(25, 6)"));
  check_refused(
      {"describe", "tiny.yaml", seven},
      R"(n_neurons_dict must agree with the sessions {"simulated_retina":6}: {"simulated_retina":7})");
  check_refused({"describe", "nodata.yaml"}, "sessions are needed: data.path, or model.n_neurons_dict");
  check_refused({"describe", "tiny.yaml", "data.path=nowhere"}, "nowhere");
  check_refused({"train", "nodata.yaml", seven}, "[data] the section is missing");
}

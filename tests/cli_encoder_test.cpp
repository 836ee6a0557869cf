// Encoders of images from the command line: pupil centres, noise, training on movies.
#include "cli_lab.hpp"
#include "fixture.hpp"
#include "fovea/model.hpp"
#include "fovea/npy.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

std::string model_file(const std::string& name) {
  return fixture_folder() + "/" + name + ".model.safetensors";
}

/// A golden case with its inputs as files: x.npy, r.npy, p.npy, e.npy.
struct Case {
  explicit Case(const std::string& name) : io(load_fixture(name + ".io", cpu())), model(model_file(name)) {
    const Lab& lab = Lab::get();
    write_npy(lab / "x.npy", tensor_of(io, "stimulus"));
    write_npy(lab / "r.npy", tensor_of(io, "responses"));
    if (const Tensor* pupil = io.find("pupil")) write_npy(lab / "p.npy", *pupil);
    if (const Tensor* noise = io.find("noise")) write_npy(lab / "e.npy", *noise);
  }
  std::vector<std::string> gradients(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"gradients",    model,         "--session", io.metadata.at("session"),
                                       "--raw",        "--dtype",     "f64",       "--stimulus",
                                       "x.npy",        "--responses", "r.npy",     "--out",
                                       "g.safetensors"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  /// With everything that the case has.
  std::vector<std::string> whole() const {
    std::vector<std::string> more;
    if (io.find("pupil")) more.insert(more.end(), {"--pupil", "p.npy"});
    if (io.metadata.at("mode") == "train") more.push_back("--train");
    if (io.find("noise")) more.insert(more.end(), {"--noise", "e.npy"});
    return gradients(more);
  }
  std::vector<std::string> predict(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"predict", model,        "--session", io.metadata.at("session"),
                                       "--raw",   "--stimulus", "x.npy",     "--out",
                                       "y.npy"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  Safetensors io;
  std::string model;
};

constexpr auto encoder_text = R"(experiment: encoder
seed: 7
output: runs
model:
  class: FiringRateEncoder
  in_shape: (2, 16, 16)
  core: {class: Stacked2dCore, input_channels: 2, hidden_channels: 4, input_kern: 5, hidden_kern: 3, layers: 2}
  readout: {class: FullGaussian2d, bias: True, gauss_type: full}
  learning_rate: 0.01
data: {path: retina, test_names: [wn_test], batch_size: 8, train_chunk_size: 30, clip_length: 60, num_val_clips: 2,
       frames_per_image: 2}
training: {max_epochs: 2}
)";

}  // namespace

TEST_CASE("gradients with pupil centres and noise are PyTorch's") {
  const Lab& lab = Lab::get();
  int with_pupil = 0, with_noise = 0;
  for (const char* name :
       {"shifter_three_layers_eval", "shifter_three_layers_train", "shifter_trial_index_no_bias_train",
        "shifter_trial_index_no_bias_eval", "gaussian_one_sample_per_batch_train",
        "gaussian_full_border_train", "gaussian_isotropic_train", "factorized_constrain_pos_train",
        "encoder_defaults_eval"}) {
    CAPTURE(name);
    const Case golden(name);
    with_pupil += golden.io.find("pupil") != nullptr;
    with_noise += golden.io.find("noise") != nullptr;
    CHECK(lab.done(golden.whole()).out == "");
    const Safetensors result = read_safetensors(lab / "g.safetensors", cpu());
    CHECK(compared_gradients(golden.io, result) > 10);
    CHECK((result.find("grad.pupil") != nullptr) == (golden.io.find("pupil") != nullptr));
  }
  CHECK(with_pupil >= 4);
  CHECK(with_noise >= 4);
}

TEST_CASE("pupil centres keep their precision, and noise that is not given is drawn from the seed") {
  const Lab& lab = Lab::get();
  const Case golden("shifter_three_layers_train");
  const auto output = [&](const std::vector<std::string>& arguments) {
    lab.done(arguments);
    return tensor_of(read_safetensors(lab / "g.safetensors", cpu()), "output");
  };
  const Tensor expected = output(golden.whole());
  write_npy(lab / "p.npy", tensor_of(golden.io, "pupil").to(DType::f32));
  CHECK_FALSE(exact(expected, output(golden.whole())));
  CHECK(relative_l2(expected, output(golden.whole()), 1e-5));
  const auto drawn = [&](const std::string& seed) {
    return output(golden.gradients({"--pupil", "p.npy", "--train", "--seed", seed}));
  };
  CHECK(exact(drawn("1"), drawn("1")));
  CHECK_FALSE(exact(drawn("1"), drawn("2")));
}

TEST_CASE("predictions read images and pupil centres in step") {
  const Lab& lab = Lab::get();
  for (const char* name : {"shifter_three_layers_eval", "shifter_trial_index_no_bias_eval"}) {
    CAPTURE(name);
    const Case golden(name);
    const Tensor images = tensor_of(golden.io, "stimulus"), pupil = tensor_of(golden.io, "pupil");
    lab.done(golden.predict({"--pupil", "p.npy"}));
    const Tensor rates = read_npy(lab / "y.npy", DType::f32, cpu());
    CHECK(relative_l2(tensor_of(golden.io, "output"), rates, 2e-5));
    // Many times over, so that there are several batches, and one by one.
    const std::int64_t b = images.shape()[0], times = 60;
    const auto repeated = [&](const Tensor& tensor) {
      std::vector<std::int64_t> extents = tensor.shape().vector();
      extents[0] *= times;
      const Tensor all(Shape(extents), tensor.dtype(), cpu());
      for (std::int64_t i = 0; i < times; ++i) all.rows(i * b, (i + 1) * b).copy_from(tensor);
      return all;
    };
    write_npy(lab / "x.npy", repeated(images));
    write_npy(lab / "p.npy", repeated(pupil));
    lab.done(golden.predict({"--pupil", "p.npy"}));
    CHECK(exact(repeated(rates), read_npy(lab / "y.npy", DType::f32, cpu())));
    const Shape& s = images.shape();
    for (std::int64_t i = 0; i < b; ++i) {
      write_npy(lab / "x.npy", images.rows(i, i + 1).reshape({s[1], s[2], s[3]}));
      write_npy(lab / "p.npy", pupil.rows(i, i + 1));
      lab.done(golden.predict({"--pupil", "p.npy"}));
      CHECK(exact(rates.rows(i, i + 1).reshape({rates.shape()[1]}),
                  read_npy(lab / "y.npy", DType::f32, cpu())));
    }
  }
}

TEST_CASE("pupil centres and noise that do not fit are refused, and nothing is written") {
  const Lab& lab = Lab::get();
  const Case golden("shifter_trial_index_no_bias_train");
  const auto of = [](std::vector<std::string> arguments) {
    *std::find_if(arguments.begin(), arguments.end(),
                  [](const std::string& word) { return word == "g.safetensors" || word == "y.npy"; }) = "no";
    return arguments;
  };
  const std::string required =
      "[--pupil] a pupil centre is required by the shifter of FiringRateEncoder: [B,3] with B = 3";
  check_refused(of(golden.predict()), required);
  check_refused(of(golden.gradients()), required);
  write_npy(lab / "two.npy", Tensor::zeros({3, 2}, DType::f32, cpu()));
  check_refused(of(golden.predict({"--pupil", "two.npy"})),
                "[two.npy] pupil centres must be [B,3] with B = 3: (3, 2)");
  check_refused(of(golden.gradients({"--pupil", "two.npy"})),
                "[two.npy] pupil centres must be [B,3] with B = 3: (3, 2)");
  check_refused(of(golden.predict({"--pupil", "none.npy"})), "none.npy");
  const std::vector<std::string> pupil{"--pupil", "p.npy"};
  check_refused(of(golden.gradients({"--pupil", "p.npy", "--noise", "e.npy"})),
                "[--noise] only a training pass samples, --train is missing: e.npy");
  check_refused(of(golden.gradients({"--pupil", "p.npy", "--train", "--noise", "p.npy"})),
                "[p.npy] noise must be (3, 7, 2) for 3 samples: (3, 3)");
  const Case fixed("encoder_defaults_eval");
  const CommandResult ignored = Lab::get().done(fixed.predict({"--pupil", "p.npy"}));
  CHECK(contains(ignored.err, "the model has no shifter, p.npy is ignored"));
  const Case factorized("factorized_constrain_pos_train");
  check_refused(of(factorized.gradients({"--train", "--noise", "e.npy"})),
                "[--noise] FiringRateEncoder has no readout that samples: e.npy");
}

TEST_CASE("an encoder without a shifter trains on movies, one with a shifter has no pupil centres there") {
  const Lab& lab = Lab::get();
  write_bytes(lab / "encoder.yaml", encoder_text);
  for (const char* readout :
       {"{class: FullGaussian2d, bias: True, gauss_type: full}",
        "{class: FullGaussian2d, bias: True, batch_sample: False, gauss_type: isotropic}",
        "{class: FullFactorized2d, bias: True}"}) {
    CAPTURE(readout);
    const std::string change = text("model.readout=", readout);
    const CommandResult trained = lab.done({"train", "encoder.yaml", change, "--threads", "1"});
    const std::string run = lab.newest_run("encoder"), model = run + "/model.safetensors";
    const std::string last = last_line(trained.out);
    CHECK(std::regex_match(last, std::regex(R"(test correlation -?[0-9.]+ over 6 neurons)")));
    CHECK(last_line(lab.done({"eval", model, "--data", "encoder.yaml"}).out) == last);
    for (const std::string& out :
         {lab.done({"describe", model}).out, lab.done({"describe", "encoder.yaml", change}).out}) {
      CHECK(contains(out, "(2, 16, 16)"));
      CHECK(contains(out, " images: "));
      CHECK_FALSE(contains(out, "lag"));
    }
    lab.done({"train", "encoder.yaml", change, "experiment=threads", "--threads", "2"});
    check_same_results(run, lab.newest_run("threads"));
    fs::remove_all(lab / "runs/encoder");
    fs::remove_all(lab / "runs/threads");
  }
  const std::string shifter =
      "model.shifter={class: MLPShifter, input_channels: 2, hidden_channels_shifter: 5}";
  const std::string missing =
      "[data] the shifter of FiringRateEncoder needs a pupil centre, which the format has none of: "
      "openretina_hdf5";
  check_refused({"train", "encoder.yaml", shifter}, missing);
  check_refused({"describe", "encoder.yaml", shifter}, missing);
  check_refused({"train", "encoder.yaml", "data.frames_per_image=1"}, "1 x 1 = 1 channels");
  const std::string alone =
      lab.done({"describe", "encoder.yaml", shifter, "data.path=nowhere", "model.n_neurons_dict={s: 4}"}).out;
  CHECK(contains(alone, "shifter.s"));
  CHECK(contains(alone, "batch 232 images: "));
  CHECK_FALSE(contains(alone, "not measured"));
}

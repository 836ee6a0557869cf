// What the commands refuse: usage, configurations, data, files, with exit status and message.
#include <cmath>

#include "cli_lab.hpp"
#include "fovea/npy.hpp"

using namespace fovea;
using namespace fovea::test;

TEST_CASE("every command has help with an example") {
  const TemporaryFolder folder;
  const auto whole = run_command(folder.path(), {"--help"});
  CHECK(whole.status == 0);
  for (const char* command :
       {"train", "eval", "predict", "gradients", "describe", "data", "simulate", "version"}) {
    CAPTURE(command);
    CHECK(contains(whole.out, command));
    const auto help = run_command(folder.path(), {command, "--help"});
    CHECK(help.status == 0);
    CHECK(contains(help.out, std::string("Example: fovea ") + command));
    CHECK(help.err == "");
  }
  const auto version = run_command(folder.path(), {"version"});
  CHECK(version.status == 0);
  CHECK(version.out.rfind("fovea ", 0) == 0);
}

TEST_CASE("without a GPU the program runs on the CPU, says why, and refuses --device cuda") {
  const TemporaryFolder folder;
  const auto version = run_command(folder.path(), {"version"});
  CAPTURE(version.out);
  CHECK(version.status == 0);
  const std::string label = "\ncuda: ";
  const std::size_t at = version.out.find(label);
  if (at == std::string::npos) {  // there is one
    CHECK(contains(version.out, "\nruns on: cuda\n"));
    CHECK(contains(version.out, "\ncuda kernels\n"));
    CHECK(run_command(folder.path(), {"version", "--device", "cuda"}).status == 0);
    return;
  }
  CHECK(contains(version.out, "\nruns on: cpu\n"));
  const std::size_t begin = at + label.size();
  const std::string why = version.out.substr(begin, version.out.find('\n', begin) - begin);
  CHECK(why.rfind(FOVEA_CUDA ? "[cuda] no CUDA device: " : "[device] this build has no CUDA: ", 0) == 0);
  const auto refused = run_command(folder.path(), {"version", "--device", "cuda"});
  CHECK(refused.status == 1);
  CHECK(refused.err == "fovea: " + why + "\n");
}

TEST_CASE("unknown commands and options and missing arguments exit with 2") {
  const TemporaryFolder folder;
  const std::vector<std::vector<std::string>> wrong{
      {},
      {"frobnicate"},
      {"--frobnicate"},
      {"train"},
      {"train", "x.yaml", "--frob"},
      {"train", "x.yaml", "--from"},
      {"eval"},
      {"eval", "model.safetensors"},
      {"predict", "model.safetensors"},
      {"predict", "model.safetensors", "--stimulus", "x.npy"},
      {"predict", "--stimulus", "x.npy", "--out", "y.npy"},
      {"gradients", "model.safetensors", "--stimulus", "x.npy", "--out", "y"},
      {"describe"},
      {"data"},
      {"simulate"},
      {"simulate", "folder", "--size", "16"},
      {"version", "--x"},
      {"predict", "model.safetensors", "--stimulus", "x.npy", "--out", "y.npy", "--session=", "--raw"},
  };
  for (const auto& arguments : wrong) {
    const auto result = run_command(folder.path(), arguments);
    CAPTURE(result.err);
    CHECK(result.status == 2);
    CHECK(result.out == "");
    CHECK(result.err.rfind("fovea: ", 0) == 0);
  }
  CHECK(contains(run_command(folder.path(), {"frobnicate"}).err, "frobnicate"));
  CHECK(
      contains(run_command(folder.path(), {"eval", "m", "--data=", "x.yaml"}).err, "a value after --data="));
  CHECK(listing(folder.path()).empty());
}

TEST_CASE("wrong values exit with 1, say where, and leave no file") {
  const Lab& lab = Lab::get();
  const Tensor movie = frames(read_npy(lab / "retina/stimuli/wn_test.npy", DType::f32, cpu()), 0, 40);
  const auto npy = [&](const std::string& name, const Tensor& tensor) { write_npy(lab / name, tensor); };
  npy("movie.npy", movie);
  npy("plane.npy", movie.reshape({40, 16, 16}));
  npy("short.npy", frames(movie, 0, 5));
  npy("narrow.npy", movie.reshape({1, 80, 16, 8}));
  npy("color.npy", movie.reshape({2, 20, 16, 16}));
  Tensor bad = movie.clone();
  bad.data<float>()[300] = NAN;
  npy("nan.npy", bad);
  npy("responses.npy", Tensor::zeros({40, 6}, DType::f32, cpu()));
  npy("few.npy", Tensor::zeros({10, 6}, DType::f32, cpu()));
  npy("others.npy", Tensor::zeros({40, 7}, DType::f32, cpu()));
  write_bytes(lab / "text.npy", "this is no array");
  write_bytes(lab / "cut.safetensors", read_bytes(lab.model()).substr(0, 3000));
  write_bytes(lab / "broken.yaml", "model: [1\n");
  write_bytes(lab / "twice.yaml", std::string(config_text) + "seed: 8\n");
  fs::create_directories(lab / "empty");

  // Configurations.
  check_refused({"train", "none.yaml"}, "none.yaml");
  check_refused({"train", "empty"}, "empty");
  check_refused({"train", "broken.yaml"}, "line");
  check_refused({"train", "twice.yaml"}, "duplicate key 'seed'");
  check_refused({"train", "tiny.yaml", "nothing"}, "nothing");
  check_refused({"train", "tiny.yaml", "training.max_epoch=3"}, "'max_epochs'");
  check_refused({"train", "tiny.yaml", "trainings.max_epochs=3"}, "'training'");
  check_refused({"train", "tiny.yaml", "model.core_gama_input=3"}, "'core_gamma_input'");
  check_refused({"train", "tiny.yaml", "data.batch_size=0"}, "batch_size");
  check_refused({"train", "tiny.yaml", "data.batch_size=[8"}, "data.batch_size");
  check_refused({"train", "tiny.yaml", "model.learning_rate=fast"}, "learning_rate");
  check_refused({"train", "tiny.yaml", "model.class=CoreReadot"}, "'CoreReadout'");
  check_refused({"train", "tiny.yaml", "model=null"}, "model");
  check_refused({"train", "tiny.yaml", "experiment=../up"}, "experiment");
  check_refused({"train", "tiny.yaml", "device=tpu"}, "device");
  check_refused({"train", "tiny.yaml", "--device", "tpu"}, "tpu");
  check_refused({"train", "tiny.yaml", "--device", "emulater"}, "did you mean 'emulator'");
  check_refused({"train", "tiny.yaml", "--threads", "many"}, "many");
  check_refused({"train", "tiny.yaml", "--threads", "-1"}, "-1");
  // Data that do not fit.
  check_refused({"train", "tiny.yaml", "data.path=nowhere"}, "nowhere");
  check_refused({"train", "tiny.yaml", "data.path=empty"}, "empty");
  check_refused({"train", "tiny.yaml", "data.test_names=[other]"}, "other");
  check_refused({"train", "tiny.yaml", "model.in_shape=[1, 30, 16, 17]"}, "in_shape");
  check_refused({"train", "tiny.yaml", "model.n_neurons_dict={simulated_retina: 7}"}, "n_neurons_dict");
  check_refused({"train", "tiny.yaml", "model.spatial_kernel_sizes=[17]"}, "spatial_kernel_sizes[0]: 17");
  check_refused({"train", "tiny.yaml", "model.loss={class: CorrelationLoss2D}"}, "[CoreReadout.loss] class");
  check_refused({"train", "tiny.yaml", "model.metric={class: CorrelationLoss2D}"}, "'CorrelationLoss3d'");
  check_refused({"train", "tiny.yaml", "model.loss={class: PoissonLoss, per_neuron: true}"},
                "loss.per_neuron");
  check_refused({"train", "tiny.yaml", "data.train_chunk_size=5"}, "train_chunk_size");
  check_refused({"train", "tiny.yaml", "data.clip_length=5"}, "clip_length");
  check_refused({"train", "tiny.yaml", "data.clip_length=100000"}, "clip_length");
  check_refused({"train", "tiny.yaml", "data.num_val_clips=1000"}, "num_val_clips");
  check_refused({"train", "tiny.yaml", "training.freeze=[cor]"}, "'core'");
  check_refused({"train", "tiny.yaml", "--from", "none.safetensors"}, "none.safetensors");
  check_refused({"train", "--resume", "nowhere"}, "nowhere");
  check_refused({"train", "--resume", "empty"}, "empty");
  check_refused({"data", "tiny.yaml", "data.path=nowhere", "--dump", "no"}, "nowhere");
  // Models and stimuli.
  const auto predict = [&](const std::string& model, const std::string& stimulus, const std::string& part,
                           const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"predict", model, "--stimulus", stimulus, "--out", "no.npy"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    check_refused(arguments, part);
  };
  predict("none.safetensors", "movie.npy", "none.safetensors");
  predict("cut.safetensors", "movie.npy", "cut.safetensors");
  predict("tiny.yaml", "movie.npy", "tiny.yaml");
  predict(lab.model(), "none.npy", "none.npy");
  predict(lab.model(), "text.npy", "text.npy");
  predict(lab.model(), "plane.npy",
          "[plane.npy] stimulus must be [B,C,T,H,W] or [C,T,H,W] with C = 1, H = 16, W = 16: (40, 16, 16)");
  predict(lab.model(), "short.npy", "[short.npy] stimulus (1, 5, 16, 16) is too short");
  predict(lab.model(), "narrow.npy", "[narrow.npy]");
  predict(lab.model(), "color.npy", "(2, 20, 16, 16)");
  predict(lab.model(), "nan.npy", "nan.npy");
  predict(lab.model(), "movie.npy", "'nobody'", {"--session", "nobody"});
  predict(lab.model(), "movie.npy", "pupil", {"--pupil", "movie.npy"});
  predict(lab.model(), "movie.npy", "many", {"--threads", "many"});
  check_refused({"predict", lab.model(), "--stimulus", "movie.npy", "--out", "nowhere/no.npy"}, "nowhere");
  const auto gradients = [&](const std::string& responses, const std::string& part,
                             const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"gradients",   lab.model(), "--stimulus", "movie.npy",
                                       "--responses", responses,   "--out",      "no.safetensors"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    check_refused(arguments, part);
  };
  gradients("none.npy", "none.npy");
  gradients("few.npy",
            "[few.npy] responses must be [B,T,N] or [T,N] with B = 1, T at least 35, N = 6: (10, 6)");
  gradients("others.npy", "(40, 7)");
  gradients("movie.npy", "(1, 40, 16, 16)");
  gradients("responses.npy", "f16", {"--dtype", "f16"});
  gradients("responses.npy", "maybe", {"--dropout", "maybe"});
  gradients("responses.npy", "minus", {"--seed", "minus"});
  gradients("responses.npy", "--seed: must be a whole number from 0 to 2^64 - 1: -1", {"--seed", "-1"});
  gradients("responses.npy", "did you mean 'f32'", {"--dtype", "f3"});
  gradients("responses.npy", "noise", {"--noise", "movie.npy"});
  check_refused({"eval", "none.safetensors", "--data", "tiny.yaml"}, "none.safetensors");
  check_refused({"eval", lab.model(), "--data", "none.yaml", "--csv", "no.csv"}, "none.yaml");
  check_refused({"eval", lab.model(), "--data", "tiny.yaml", "data.test_names=[other]", "--csv", "no.csv"},
                "other");
  check_refused({"eval", lab.model(), "--data", "tiny.yaml", "--csv", "nowhere/no.csv"}, "nowhere");
  check_refused({"describe", "none.safetensors"}, "none.safetensors");
  check_refused({"describe", "none.yaml"}, "none.yaml");
  check_refused({"describe", "cut.safetensors"}, "cut.safetensors");
  // A simulated retina.
  const auto simulate = [&](const std::vector<std::string>& more, const std::string& part) {
    std::vector<std::string> arguments{"simulate", "no"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    check_refused(arguments, part);
  };
  simulate({"--neurons", "0"}, "neurons");
  simulate({"--neurons", "few"}, "few");
  simulate({"--frames", "-3"}, "frames");
  simulate({"--size", "4", "4"}, "4");
  simulate({"--size", "16", "x"}, "x");
  simulate({"--seed", "-1"}, "-1");
  simulate({"--format", "csv"}, "csv");
  simulate({"--format", "sensorum"}, "one of 'openretina' 'sensorium'; did you mean 'sensorium'?");
  simulate({"--format", "sensorium", "--frames", "9"}, "frames must be at least 10: 9");
  simulate({"--format", "sensorium", "--size", "15", "64"}, "height must be at least 16: 15");
  check_refused({"simulate", "retina"}, "empty");
}

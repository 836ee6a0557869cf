// The commands from end to end on a small simulated retina.
#include <chrono>
#include <cmath>
#include <thread>

#include "check.hpp"
#include "cli_lab.hpp"
#include "fixture.hpp"
#include "fovea/core_readout.hpp"
#include "fovea/npy.hpp"
#include "training/yaml.hpp"

using namespace fovea;
using namespace fovea::test;

TEST_CASE("a run folder has all its files") {
  const Lab& lab = Lab::get();
  CHECK(std::regex_match(fs::path(lab.run_folder()).filename().string(),
                         std::regex(R"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)")));
  for (const char* name :
       {"config.yaml", "metrics.csv", "model.safetensors", "last.ckpt.safetensors", "test.csv", "log.txt"}) {
    CAPTURE(name);
    CHECK(fs::file_size(lab.run_folder() + "/" + name) > 0);
  }
  CHECK(listing(lab.run_folder()).size() == 6);  // no temporary file stays

  const auto metrics = lines_of(read_bytes(lab.run_folder() + "/metrics.csv"));
  REQUIRE(metrics.size() == 4);
  CHECK(metrics[0] ==
        "epoch,step,lr,train_loss,train_total_loss,regularization_loss_core,regularization_loss_readout,"
        "train_evaluation_loss,val_loss,val_evaluation_loss,seconds");
  for (std::size_t epoch = 0; epoch < 3; ++epoch) {
    const auto cells = split(metrics[epoch + 1]);
    REQUIRE(cells.size() == 11);
    for (const std::string& cell : cells) CHECK(std::isfinite(std::stod(cell)));
    CHECK(cells[0] == std::to_string(epoch));
    const auto number = [&](std::size_t column) { return std::stod(cells[column]); };
    CHECK(number(4) == doctest::Approx(number(3) + number(5) + number(6)));
    CHECK(number(5) > 0);
    CHECK(number(6) > 0);
  }
  CHECK(std::stod(split(metrics[3])[3]) < std::stod(split(metrics[1])[3]));  // it learns

  // The configuration is complete: reading it gives the same run.
  const Json config = read_yaml_file(lab.run_folder() + "/config.yaml");
  CHECK(config["model"]["readout_gaussian_mean_scale"] == Json(6.0));
  CHECK(config["model"]["maxpool_every_n_layers"].is_null());
  CHECK(config["training"]["scheduler"]["min_lr"].is_null());
  CHECK(config["data"]["path"] == Json(lab / "retina"));
  CHECK(config["seed"] == Json(7));
}

TEST_CASE("train and eval end with the same scores") {
  const Lab& lab = Lab::get();
  const std::string line = last_line(lab.training().out);
  std::smatch match;
  REQUIRE(std::regex_match(line, match, std::regex(R"(test correlation (-?\d\.\d+) over 6 neurons)")));
  const CommandResult eval = lab.done({"eval", lab.model(), "--data", "tiny.yaml", "--csv", "scores.csv"});
  CHECK(last_line(eval.out) == line);
  CHECK(read_bytes(lab / "scores.csv") == read_bytes(lab.run_folder() + "/test.csv"));
  const auto rows = lines_of(read_bytes(lab / "scores.csv"));
  REQUIRE(rows.size() == 7);
  CHECK(rows[0] == "session,neuron,correlation,single_trial_correlation,feve");
  double sum = 0;
  for (std::size_t neuron = 0; neuron < 6; ++neuron) {
    const auto cells = split(rows[neuron + 1]);
    REQUIRE(cells.size() == 5);
    CHECK(cells[0] == "simulated_retina");
    CHECK(cells[1] == std::to_string(neuron));
    sum += std::stod(cells[2]);
    CHECK(std::stod(cells[2]) >= -1);
    CHECK(std::stod(cells[2]) <= 1);
    CHECK(std::abs(std::stod(cells[3])) <= std::abs(std::stod(cells[2])) + 1e-9);
  }
  CHECK(std::stod(match[1]) == doctest::Approx(sum / 6).epsilon(0.02));
  // A model knows its own normalisation: the configuration's does not matter.
  CHECK(last_line(lab.done({"eval", lab.model(), "--data", "tiny.yaml", "data.normalize=false"}).out) ==
        line);
}

TEST_CASE("eval and predict need only the test part") {
  const Lab& lab = Lab::get();
  const TemporaryFolder folder;
  const Safetensors test = [&] {
    lab.done({"data", "tiny.yaml", "--dump", folder / "dump"});
    return read_safetensors(folder / "dump/simulated_retina_test.safetensors", cpu());
  }();
  fs::create_directories(folder / "retina/stimuli");
  fs::copy_file(lab / "retina/stimuli/wn_test.npy", folder / "retina/stimuli/wn_test.npy");
  const Tensor responses = tensor_of(test, "responses");
  Hdf5Writer(folder / "retina/simulated_retina.h5")
      .numbers<float>("responses_wn_test", {6, static_cast<hsize_t>(responses.shape()[1])}, [&] {
        const auto by_time = responses.to_vector<float>();
        const std::size_t length = by_time.size() / 6;
        std::vector<float> by_neuron(by_time.size());
        for (std::size_t t = 0; t < length; ++t)
          for (std::size_t n = 0; n < 6; ++n) by_neuron[n * length + t] = by_time[t * 6 + n];
        return by_neuron;
      }());
  const CommandResult eval = lab.done(
      {"eval", lab.model(), "--data", "tiny.yaml", "data.path=" + (folder / "retina"), "--csv", "short.csv"});
  CHECK(last_line(eval.out) == last_line(lab.training().out));
  // Without repeats there are no single trials.
  const auto cells = split(lines_of(read_bytes(lab / "short.csv")).at(1));
  REQUIRE(cells.size() == 5);
  CHECK(cells[4] == "");
  check_refused({"train", "tiny.yaml", "data.path=" + (folder / "retina")}, "train");
}

TEST_CASE("data --dump writes what the model sees") {
  const Lab& lab = Lab::get();
  const CommandResult shown = lab.done({"data", "tiny.yaml", "--dump", "dump"});
  CHECK(contains(shown.out, "simulated_retina"));
  CHECK(contains(shown.out, "6 neurons"));
  for (const char* tier : {"train", "validation", "test"}) {
    CAPTURE(tier);
    CHECK(contains(shown.out, tier));
    const Safetensors file = read_safetensors(lab / "dump/simulated_retina_" + tier + ".safetensors", cpu());
    const Shape x = tensor_of(file, "stimulus").shape(), y = tensor_of(file, "responses").shape();
    CHECK(x.rank() == 5);
    CHECK(y.rank() == 3);
    CHECK(x[0] == y[0]);
    CHECK(x[2] == y[1]);
    CHECK(y[2] == 6);
  }
  // Test: the movie as it is stored, shifted and scaled by the training movie's statistics.
  const Safetensors test = read_safetensors(lab / "dump/simulated_retina_test.safetensors", cpu());
  const std::vector<double> raw = values(read_npy(lab / "retina/stimuli/wn_test.npy", DType::f64, cpu()));
  const std::vector<double> movie = values(read_npy(lab / "retina/stimuli/wn_train.npy", DType::f64, cpu()));
  const auto count = static_cast<double>(movie.size());
  const double mean = std::accumulate(movie.begin(), movie.end(), 0.0) / count;
  double squares = 0;
  for (const double value : movie) squares += (value - mean) * (value - mean);
  const double deviation = std::sqrt(squares / (count - 1));
  std::vector<double> expected;
  for (const double value : raw) expected.push_back((value - mean) / deviation);
  const Tensor dumped = tensor_of(test, "stimulus");
  CHECK(within(Tensor::from(expected, dumped.shape(), cpu()), dumped, 1e-6));
  CHECK(lab.done({"data", "tiny.yaml"}).out == shown.out);
}

TEST_CASE("predictions are those that eval scores") {
  const Lab& lab = Lab::get();
  lab.done({"predict", lab.model(), "--stimulus", "retina/stimuli/wn_test.npy", "--out", "rates.npy"});
  lab.done({"data", "tiny.yaml", "--dump", "dump"});
  const Safetensors test = read_safetensors(lab / "dump/simulated_retina_test.safetensors", cpu());
  const Tensor responses = tensor_of(test, "responses");
  const std::int64_t total = responses.shape()[1], reached = total - 5;  // a kernel of 6 frames
  CHECK(open_npy(lab / "rates.npy").shape() == std::vector<std::int64_t>{reached, 6});
  CHECK(contains(read_bytes(lab / "rates.npy").substr(0, 128), "'<f4'"));
  const std::vector<double> rates = values(read_npy(lab / "rates.npy", DType::f32, cpu()));
  const std::vector<double> truth = values(responses);
  const auto rows = lines_of(read_bytes(lab.run_folder() + "/test.csv"));
  for (std::size_t neuron = 0; neuron < 6; ++neuron) {
    std::vector<double> predicted, recorded;
    for (std::int64_t t = 0; t < reached; ++t) {
      predicted.push_back(rates[static_cast<std::size_t>(t) * 6 + neuron]);
      recorded.push_back(truth[static_cast<std::size_t>(t + 5) * 6 + neuron]);
    }
    // The table is made in double from single-precision rates.
    CHECK(std::stod(split(rows.at(neuron + 1)).at(2)) ==
          doctest::Approx(pearson(predicted, recorded)).epsilon(1e-5));
  }
  // The dumped stimulus is normalised already.
  write_npy(lab / "normal.npy", tensor_of(test, "stimulus"));
  lab.done({"predict", lab.model(), "--stimulus", "normal.npy", "--out", "raw.npy", "--raw"});
  CHECK(open_npy(lab / "raw.npy").shape() == std::vector<std::int64_t>{1, reached, 6});
  const Tensor expected = read_npy(lab / "rates.npy", DType::f32, cpu());
  CHECK(relative_l2(expected, read_npy(lab / "raw.npy", DType::f32, cpu()).reshape(expected.shape()), 1e-6));
}

TEST_CASE("a prediction does not depend on how the movie is cut, batched or stored") {
  const Lab& lab = Lab::get();
  const Tensor movie = read_npy(lab / "retina/stimuli/wn_test.npy", DType::f32, cpu());
  const auto rates = [&](const Tensor& stimulus, const std::string& threads = "1") {
    write_npy(lab / "x.npy", stimulus);
    lab.done({"predict", lab.model(), "--stimulus", "x.npy", "--out", "y.npy", "--threads", threads});
    return read_npy(lab / "y.npy", DType::f32, cpu());
  };
  const Tensor whole = rates(frames(movie, 0, 200));
  REQUIRE(whole.shape() == Shape{195, 6});
  CHECK(exact(whole, rates(frames(movie, 0, 200), "2")));
  CHECK(exact(whole, rates(frames(movie, 0, 200).to(DType::f64))));
  for (const auto& [begin, end] :
       {std::pair<std::int64_t, std::int64_t>{0, 6}, {0, 100}, {37, 143}, {190, 200}}) {
    const auto& shown_begin = begin;
    CAPTURE(shown_begin);
    const Tensor part = rates(frames(movie, begin, end));
    CHECK(relative_l2(whole.rows(begin, end - 5), part, 1e-6));
  }
  const Shape& s = movie.shape();
  const Tensor batch({3, 1, 40, s[2], s[3]}, DType::f32, cpu());
  for (std::int64_t b = 0; b < 3; ++b)
    batch.rows(b, b + 1).copy_from(frames(movie, 30 * b, 30 * b + 40).reshape({1, 1, 40, s[2], s[3]}));
  const Tensor together = rates(batch);
  REQUIRE(together.shape() == Shape{3, 35, 6});
  for (std::int64_t b = 0; b < 3; ++b)
    CHECK(relative_l2(whole.rows(30 * b, 30 * b + 35), together.rows(b, b + 1).reshape({35, 6}), 1e-6));
}

TEST_CASE("predict gives the output of gradients for short clips, also where padding makes them longer") {
  const TemporaryFolder folder;
  const std::string model = folder / "m.safetensors", x = folder / "x.npy", r = folder / "r.npy";
  for (const char* type : {"custom_separable", "separable", "full", "time_independent"}) {
    CoreReadoutOptions options;
    options.in_shape = {1, 2, 6, 6};
    options.hidden_channels = {2};
    options.temporal_kernel_sizes = {3};
    options.spatial_kernel_sizes = {3};
    options.core_gamma_temporal = 0;
    options.core_input_padding = std::int64_t{2};
    options.convolution_type = type;
    const auto built = make_core_readout(options, {{"s", 2, {}}}, {cpu(), DType::f32}, 5);
    save_model(model, *built);
    for (std::int64_t frames = 1; frames <= 6; ++frames) {
      CAPTURE(type);
      CAPTURE(frames);
      const std::int64_t out = built->output_shape({1, frames, 6, 6}, "s")[0];
      CHECK(out >= frames);
      const Tensor clip({1, frames, 6, 6}, DType::f32, cpu());
      Random(3).normal(clip);
      write_npy(x, clip);
      write_npy(r, Tensor::zeros({out, 2}, DType::f32, cpu()));
      const std::vector<std::string> predict{"predict", model,   "--stimulus",    x,
                                             "--raw",   "--out", folder / "y.npy"};
      const std::vector<std::string> gradients{"gradients", model,        "--stimulus",  x, "--raw",
                                               "--out",     folder / "g", "--responses", r};
      REQUIRE(run_command(folder.path(), predict).status == 0);
      REQUIRE(run_command(folder.path(), gradients).status == 0);
      const Tensor output = tensor_of(read_safetensors(folder / "g", cpu()), "output");
      const Tensor rates = read_npy(folder / "y.npy", DType::f32, cpu());
      REQUIRE(rates.shape() == Shape{out, 2});
      CHECK(exact(output.reshape(rates.shape()), rates));
    }
  }
}

TEST_CASE("gradients of PyTorch's model files equal PyTorch's") {
  const Lab& lab = Lab::get();
  for (const char* name :
       {"core_default_eval", "core_default_train", "core_downsample_train", "core_cut_frames_train",
        "core_maxpool_every_layer_train", "core_free_masks_train", "core_list_padding_eval",
        "core_two_sessions_second_train", "core_no_bias_train", "core_dropout_eval_eval"}) {
    CAPTURE(name);
    const Safetensors io = load_fixture(std::string(name) + ".io", cpu());
    write_npy(lab / "x.npy", tensor_of(io, "stimulus"));
    write_npy(lab / "r.npy", tensor_of(io, "responses"));
    std::vector<std::string> arguments{"gradients",
                                       fixture_folder() + "/" + name + ".model.safetensors",
                                       "--stimulus",
                                       "x.npy",
                                       "--responses",
                                       "r.npy",
                                       "--out",
                                       "g.safetensors",
                                       "--dtype",
                                       "f64",
                                       "--raw",
                                       "--session",
                                       io.metadata.at("session")};
    if (io.metadata.at("mode") == "train") arguments.push_back("--train");
    CHECK(lab.done(arguments).out == "");
    CHECK(compared_gradients(io, read_safetensors(lab / "g.safetensors", cpu())) > 15);
  }
  const std::string two = fixture_folder() + "/core_two_sessions_second_train.model.safetensors";
  check_refused(
      {"gradients", two, "--stimulus", "x.npy", "--responses", "r.npy", "--out", "no.safetensors", "--raw"},
      "a-b.c");
  check_refused({"gradients", two, "--stimulus", "x.npy", "--responses", "r.npy", "--out", "no.safetensors",
                 "--raw", "--session", "a-b"},
                "a-b.c");
}

TEST_CASE("gradients in single precision, of one clip, with dropout") {
  const Lab& lab = Lab::get();
  const Safetensors io = load_fixture("core_dropout_eval_eval.io", cpu());
  const Tensor x = tensor_of(io, "stimulus").rows(0, 1), r = tensor_of(io, "responses").rows(0, 1);
  const Shape &xs = x.shape(), &rs = r.shape();
  write_npy(lab / "x.npy", x.reshape({xs[1], xs[2], xs[3], xs[4]}));
  write_npy(lab / "r.npy", r.reshape({rs[1], rs[2]}).to(DType::f32));
  const auto result = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{
        "gradients",   fixture_folder() + "/core_dropout_eval_eval.model.safetensors",
        "--stimulus",  "x.npy",
        "--responses", "r.npy",
        "--out",       "g.safetensors",
        "--raw"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    lab.done(arguments);
    return read_safetensors(lab / "g.safetensors", cpu());
  };
  const Safetensors plain = result({});
  CHECK(tensor_of(plain, "output").dtype() == DType::f32);
  CHECK(relative_l2(tensor_of(io, "output").rows(0, 1), tensor_of(plain, "output"), 2e-5));
  const auto output = [&](const std::vector<std::string>& more) { return tensor_of(result(more), "output"); };
  const Tensor off = output({"--train", "--dropout", "off"}), on = output({"--train", "--seed", "1"});
  CHECK_FALSE(exact(off, on));
  CHECK(exact(on, output({"--train", "--seed", "1"})));
  CHECK_FALSE(exact(on, output({"--train", "--seed", "2"})));
  CHECK(exact(output({"--train", "--seed", "0"}), output({"--train"})));
}

TEST_CASE("an interrupted run goes on to the same bits") {
  const Lab& lab = Lab::get();
  // Without a scheduler's and early stopping's say it runs all epochs.
  const std::vector<std::string> common{"train", "tiny.yaml", "training.max_epochs=25",
                                        "training.early_stopping=null", "training.scheduler.patience=1"};
  const auto started = [&](const std::string& experiment) {
    std::vector<std::string> arguments = common;
    arguments.push_back("experiment=" + experiment);
    return arguments;
  };
  lab.done(started("whole"));
  const std::string whole = lab.newest_run("whole");
  CHECK(metrics_without_seconds(whole).size() == 26);

  for (const int number : {SIGTERM, SIGINT, SIGKILL})
    for (const std::size_t epochs : {1, 4}) {
      CAPTURE(number);
      CAPTURE(epochs);
      const std::string experiment = text("stopped", number, "-", epochs);
      std::string run;
      {
        RunningCommand command(lab.path(), started(experiment));
        const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (std::chrono::steady_clock::now() < limit) {
          if (fs::exists(lab / "runs/" + experiment)) run = lab.newest_run(experiment);
          if (!run.empty() && lines_of(read_bytes(run + "/metrics.csv")).size() > epochs) break;
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        command.signal(number);
        const CommandResult stopped = command.wait();
        CAPTURE(stopped.err);
        REQUIRE(stopped.status == 128 + number);
        CHECK(stopped.out == "");
        if (number != SIGKILL) CHECK(contains(stopped.err, "--resume"));
      }
      CHECK(lines_of(read_bytes(run + "/metrics.csv")).size() < 26);
      CHECK_FALSE(fs::exists(run + "/test.csv"));
      const CommandResult resumed = lab.done({"train", "--resume", run, "--threads", "1"});
      CHECK(contains(last_line(resumed.out), "over 6 neurons"));
      check_same_results(whole, run);
      if (number != SIGKILL) CHECK(listing(run).size() == 6);  // what is killed cannot clean up
    }
  // A finished run has nothing left to do and ends with the same line.
  const std::string model = read_bytes(whole + "/model.safetensors");
  const CommandResult again = lab.done({"train", "--resume", whole});
  CHECK(contains(last_line(again.out), "over 6 neurons"));
  CHECK(read_bytes(whole + "/model.safetensors") == model);
}

TEST_CASE("the number of threads changes no bit, the seed does") {
  const Lab& lab = Lab::get();
  lab.done({"train", "tiny.yaml", "experiment=two", "--threads", "2"});
  lab.done({"train", "tiny.yaml", "experiment=three", "threads=3"});
  lab.done({"train", "tiny.yaml", "experiment=seed", "seed=8"});
  check_same_results(lab.run_folder(), lab.newest_run("two"));
  check_same_results(lab.run_folder(), lab.newest_run("three"));
  CHECK(read_bytes(lab.newest_run("seed") + "/model.safetensors") != read_bytes(lab.model()));
}

TEST_CASE("--from starts at the values of another model") {
  const Lab& lab = Lab::get();
  // A learning rate below the resolution of the values: only the statistics move.
  lab.done({"train", "tiny.yaml", "experiment=from", "--from", lab.model(), "training.max_epochs=1",
            "model.learning_rate=1e-30"});
  const Safetensors before = read_safetensors(lab.model(), cpu());
  const Safetensors after = read_safetensors(lab.newest_run("from") + "/model.safetensors", cpu());
  REQUIRE(before.tensors.size() == after.tensors.size());
  int same = 0;
  for (const auto& [name, tensor] : before.tensors) {
    const auto& shown_name = name;
    CAPTURE(shown_name);
    const bool statistic = contains(name, "running_") || contains(name, "num_batches");
    CHECK(static_cast<bool>(exact(tensor, tensor_of(after, name))) == !statistic);
    same += !statistic;
  }
  CHECK(same > 5);
  check_refused({"train", "tiny.yaml", "--from", lab.model(), "model.hidden_channels=[4]"},
                "core.features.layer0");
}

TEST_CASE("frozen tensors stay, also from the command line") {
  const Lab& lab = Lab::get();
  lab.done({"train", "tiny.yaml", "experiment=frozen", "--from", lab.model(), "training.max_epochs=1",
            "training.freeze=[core]"});
  const Safetensors before = read_safetensors(lab.model(), cpu());
  const Safetensors after = read_safetensors(lab.newest_run("frozen") + "/model.safetensors", cpu());
  for (const auto& [name, tensor] : before.tensors) {
    const auto& shown_name = name;
    CAPTURE(shown_name);
    const bool stays = name.rfind("core.", 0) == 0 || contains(name, ".grid");
    CHECK(static_cast<bool>(exact(tensor, tensor_of(after, name))) == stays);
  }
}

TEST_CASE("a retina smaller than the number of cell types is simulated, the same one for the same seed") {
  const TemporaryFolder folder;
  const auto simulate = [&](const std::string& name, const std::string& seed) {
    const auto result = run_command(folder.path(), {"simulate", name, "--neurons", "1", "--frames", "1000",
                                                    "--size", "16", "18", "--seed", seed});
    CAPTURE(result.err);
    CHECK(result.status == 0);
    return read_bytes(folder / name + "/ground_truth.safetensors");
  };
  const std::string first = simulate("a", "1");
  CHECK_FALSE(first.empty());
  CHECK(first == simulate("b", "1"));
  CHECK(first != simulate("c", "2"));
  CHECK(open_npy(folder / "a/stimuli/wn_train.npy").shape() == std::vector<std::int64_t>{1, 1000, 16, 18});
}

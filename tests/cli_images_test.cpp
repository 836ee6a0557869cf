// Models of images on a small simulated retina, from the configuration to predictions.
#include <chrono>
#include <thread>

#include "cli_lab.hpp"
#include "fixture.hpp"
#include "fovea/model.hpp"
#include "fovea/npy.hpp"
#include "training/yaml.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

// The example column of the parameter table as it stands, but for the sizes.
constexpr auto klindt_text = R"(experiment: klindt
seed: 7
output: runs
model:
  class: KlindtCoreReadout2D
  image_size: (16, 16)
  image_channels: 3
  kernel_sizes: [[7,7]]
  num_kernels: [4]
  act_fns: ['relu']
  reg: [1e-4,1e-4,1e-4,0.2]
  init_scales: [[0.0, 0.1], [0.0, 0.05], [0.0, 0.05]]
  kernel_constraint: "norm"
  batch_norm: True
  bn_cent: False
  seed: 42
  num_neurons: 6
  final_relu: False
  weights_constraint: "abs"
  mask_constraint: "abs"
  init_mask: None
  init_weights: None
  loss: nn.PoissonNLLLoss(log_input = False)
  correlation_loss: CorrelationLoss2D()
  learning_rate: 0.01
  data_info: None
data:
  path: retina
  test_names: [wn_test]
  batch_size: 8
  train_chunk_size: 30
  clip_length: 60
  num_val_clips: 2
  frames_per_image: 3
training:
  max_epochs: 3
)";

/// The lab with a trained model of images beside that of movies.
struct Images {
  const Lab& lab = Lab::get();
  CommandResult training;
  std::string run, model;

  static const Images& get() {
    static const Images images;
    return images;
  }

 private:
  Images() {
    write_bytes(lab / "klindt.yaml", klindt_text);
    training = lab.done({"train", "klindt.yaml", "--threads", "1"});
    run = lab.newest_run("klindt");
    model = run + "/model.safetensors";
  }
};

/// Images (T - 2, 3, H, W) of a movie (1,T,H,W) of one channel, the oldest frame first.
Tensor images_of(const Tensor& movie) {
  const Shape& s = movie.shape();
  const std::int64_t count = s[1] - 2;
  const Tensor images({count, 3, s[2], s[3]}, movie.dtype(), cpu());
  for (std::int64_t i = 0; i < count; ++i)
    images.rows(i, i + 1).copy_from(frames(movie, i, i + 3).reshape({1, 3, s[2], s[3]}));
  return images;
}

Tensor test_images() {
  return images_of(read_npy(Lab::get() / "retina/stimuli/wn_test.npy", DType::f32, cpu()));
}

Tensor predicted(const Tensor& stimulus, const std::vector<std::string>& more = {}) {
  const Images& images = Images::get();
  write_npy(images.lab / "x.npy", stimulus);
  std::vector<std::string> arguments{"predict", images.model, "--stimulus", "x.npy", "--out", "y.npy"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  images.lab.done(arguments);
  return read_npy(images.lab / "y.npy", DType::f32, cpu());
}

}  // namespace

TEST_CASE("a model of images trains on movies, and eval gives the scores of the training") {
  const Images& images = Images::get();
  const Lab& lab = images.lab;
  for (const char* name :
       {"config.yaml", "metrics.csv", "model.safetensors", "last.ckpt.safetensors", "test.csv", "log.txt"})
    CHECK(fs::exists(images.run + "/" + name));
  const Json config = read_yaml_file(images.run + "/config.yaml");
  CHECK(config["data"]["frames_per_image"] == Json(3));
  CHECK(config["model"]["image_size"] == Json::parse("[16, 16]"));
  const auto metrics = lines_of(read_bytes(images.run + "/metrics.csv"));
  REQUIRE(metrics.size() == 4);
  // It learns something: the total loss of the first and of the last epoch.
  CHECK(std::stod(split(metrics[3]).at(4)) < std::stod(split(metrics[1]).at(4)));
  const std::string last = last_line(images.training.out);
  CHECK(std::regex_match(last, std::regex(R"(test correlation -?[0-9.]+ over 6 neurons)")));
  const CommandResult scores = lab.done({"eval", images.model, "--data", "klindt.yaml", "--csv", "e.csv"});
  CHECK(last_line(scores.out) == last);
  CHECK(read_bytes(lab / "e.csv") == read_bytes(images.run + "/test.csv"));
  CHECK(last_line(lab.done({"eval", images.model, "--data", images.run + "/config.yaml"}).out) == last);
}

TEST_CASE("predictions of images are those that eval scores, the same bits however they are cut") {
  const Images& images = Images::get();
  const Lab& lab = images.lab;
  const Tensor stimulus = test_images();
  const std::int64_t count = stimulus.shape()[0];
  const Tensor rates = predicted(stimulus);
  REQUIRE(rates.shape() == Shape{count, 6});
  lab.done({"data", "tiny.yaml", "--dump", "dump"});
  const Safetensors test = read_safetensors(lab / "dump/simulated_retina_test.safetensors", cpu());
  const std::vector<double> truth = values(tensor_of(test, "responses")), all = values(rates);
  const auto rows = lines_of(read_bytes(images.run + "/test.csv"));
  for (std::size_t neuron = 0; neuron < 6; ++neuron) {
    std::vector<double> of_neuron, recorded;
    for (std::size_t t = 0; t < static_cast<std::size_t>(count); ++t) {
      of_neuron.push_back(all[t * 6 + neuron]);
      recorded.push_back(truth[(t + 2) * 6 + neuron]);  // of the last of the three frames
    }
    // The table is made in double from single-precision rates.
    CHECK(std::stod(split(rows.at(neuron + 1)).at(2)) ==
          doctest::Approx(pearson(of_neuron, recorded)).epsilon(1e-5));
  }
  for (const auto& [begin, end] :
       {std::pair<std::int64_t, std::int64_t>{0, 1}, {3, 70}, {count - 64, count}}) {
    const auto& shown_begin = begin;
    CAPTURE(shown_begin);
    CHECK(exact(rates.rows(begin, end), predicted(stimulus.rows(begin, end))));
  }
  const Shape& s = stimulus.shape();
  const Tensor single = stimulus.rows(7, 8).reshape({s[1], s[2], s[3]});
  REQUIRE(predicted(single).shape() == Shape{6});
  CHECK(exact(rates.rows(7, 8).reshape({6}), predicted(single)));
  CHECK(exact(rates, predicted(stimulus.to(DType::f64), {"--threads", "2"})));
  // The dumped stimulus is normalised already.
  const Tensor normal = tensor_of(test, "stimulus");
  const Shape& n = normal.shape();
  CHECK(relative_l2(rates, predicted(images_of(normal.reshape({1, n[2], n[3], n[4]})), {"--raw"}), 1e-6));
}

TEST_CASE("gradients of images are PyTorch's, and their output is the prediction") {
  const Lab& lab = Lab::get();
  for (const char* name : {"klindt2d_seed_example_eval", "klindt2d_seed_example_train",
                           "klindt2d_final_relu_train", "klindt2d_two_layers_eval"}) {
    CAPTURE(name);
    const Safetensors io = load_fixture(std::string(name) + ".io", cpu());
    write_npy(lab / "x.npy", tensor_of(io, "stimulus"));
    write_npy(lab / "r.npy", tensor_of(io, "responses"));
    std::vector<std::string> arguments{"gradients",   fixture_folder() + "/" + name + ".model.safetensors",
                                       "--stimulus",  "x.npy",
                                       "--responses", "r.npy",
                                       "--out",       "g.safetensors",
                                       "--dtype",     "f64",
                                       "--raw"};
    if (io.metadata.at("mode") == "train") {
      arguments.push_back("--train");
      arguments.insert(arguments.end(), {"--dropout", "off"});
    }
    CHECK(lab.done(arguments).out == "");
    CHECK(compared_gradients(io, read_safetensors(lab / "g.safetensors", cpu())) > 8);
  }
  const Images& images = Images::get();
  const Tensor stimulus = test_images().rows(0, 5);
  const Tensor rates = predicted(stimulus);
  const auto output = [&](const Tensor& x, const Tensor& r) {
    write_npy(lab / "x.npy", x);
    write_npy(lab / "r.npy", r);
    lab.done({"gradients", images.model, "--stimulus", "x.npy", "--responses", "r.npy", "--out", "g"});
    return tensor_of(read_safetensors(lab / "g", cpu()), "output");
  };
  CHECK(relative_l2(rates, output(stimulus, Tensor::full({5, 6}, 1, DType::f32, cpu())), 1e-6));
  const Tensor single = stimulus.rows(2, 3);
  CHECK(relative_l2(rates.rows(2, 3),
                    output(single.reshape({3, 16, 16}), Tensor::full({6}, 1, DType::f32, cpu())), 1e-6));
}

TEST_CASE("describe tells of images what there is to tell") {
  const Images& images = Images::get();
  const std::string file = images.lab.done({"describe", images.model}).out;
  const std::string configured = images.lab.done({"describe", "klindt.yaml"}).out;
  for (const std::string& out : {file, configured}) {
    CAPTURE(out);
    for (const char* part : {"KlindtCoreReadout2D", "(3, 16, 16)", "(channels, height, width)", "(4, 10, 10)",
                             "receptive field: 7 x 7 pixels\n"})
      CHECK(contains(out, part));
    CHECK_FALSE(contains(out, "lag"));
    CHECK_FALSE(contains(out, "time"));
  }
  CHECK(contains(file, "training step, batch 1 images: "));
  CHECK(contains(configured, "training step, batch 224 images: "));  // 8 x (30 - 3 + 1)
  CHECK(contains(configured, "training with validation clips of 60 frames: "));
  CHECK(
      contains(images.lab.done({"describe", "klindt.yaml", "data.clip_length=2"}).out,
               "batch 224 images: not measured, the model cannot be trained: clip_length of 2 frames is too "
               "short: an image takes frames_per_image 3"));
  CHECK(contains(images.lab
                     .done({"describe", "klindt.yaml", "data.path=nowhere", "model.num_neurons=9",
                            "model.n_neurons_dict={s: 9}"})
                     .out,
                 "4 x 10 x 10 -> 9"));
}

TEST_CASE("an interrupted training on images goes on to the same bits") {
  const Images& images = Images::get();
  const Lab& lab = images.lab;
  const auto started = [&](const std::string& experiment) {
    return std::vector<std::string>{"train", "klindt.yaml", "training.max_epochs=25",
                                    "training.early_stopping=null", "experiment=" + experiment};
  };
  lab.done(started("whole_images"));
  const std::string whole = lab.newest_run("whole_images");
  for (const int number : {SIGTERM, SIGKILL}) {
    CAPTURE(number);
    const std::string experiment = text("stopped_images", number);
    std::string run;
    {
      RunningCommand command(lab.path(), started(experiment));
      const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
      while (std::chrono::steady_clock::now() < limit) {
        if (fs::exists(lab / "runs/" + experiment)) run = lab.newest_run(experiment);
        if (!run.empty() && lines_of(read_bytes(run + "/metrics.csv")).size() > 2) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      command.signal(number);
      REQUIRE(command.wait().status == 128 + number);
    }
    CHECK_FALSE(fs::exists(run + "/test.csv"));
    lab.done({"train", "--resume", run, "--threads", "1"});
    check_same_results(whole, run);
  }
}

TEST_CASE("initial masks and weights come from files, relative to the configuration") {
  const Images& images = Images::get();
  const Lab& lab = images.lab;
  fs::create_directories(lab / "below");
  const Tensor mask({100, 6}, DType::f64, cpu()), weights({4, 6}, DType::f32, cpu());
  Random(5).normal(mask);
  Random(6).normal(weights);
  write_npy(lab / "below/mask.npy", mask);
  write_npy(lab / "below/weights.npy", weights);
  std::string config = klindt_text;
  config.replace(config.find("init_mask: None"), 15, "init_mask: mask.npy");
  config.replace(config.find("init_weights: None"), 18, "init_weights: weights.npy");
  config.replace(config.find("path: retina"), 12, "path: ../retina");
  write_bytes(lab / "below/init.yaml", config);
  // A learning rate that moves nothing far.
  const std::vector<std::string> slow{"train",
                                      "below/init.yaml",
                                      "model.learning_rate=1e-12",
                                      "output=runs",
                                      "experiment=init",
                                      "training.max_epochs=1",
                                      "--threads",
                                      "1"};
  lab.done(slow);
  const LoadedModel loaded = load_model(lab.newest_run("init") + "/model.safetensors", {cpu(), DType::f32});
  int compared = 0;
  for (const NamedTensor& one : loaded.model->tensors())
    for (const auto& [name, given] :
         {std::pair{"readout.mask_weights", mask}, std::pair{"readout.readout_weights", weights}})
      if (one.name == name) {
        std::vector<double> expected = values(given);
        for (double& value : expected) value = std::abs(value);
        CHECK(relative_l2(Tensor::from(expected, given.shape(), cpu()), one.tensor, 1e-6));
        ++compared;
      }
  CHECK(compared == 2);
  CHECK(read_yaml_file(lab.newest_run("init") + "/config.yaml")["model"]["init_mask"].is_null());
  lab.done({"describe", "below/init.yaml"});
  lab.done({"describe", "klindt.yaml", "model.init_mask=below/mask.npy"});
  check_refused({"train", "klindt.yaml", "model.init_mask=none.npy"}, "none.npy");
  check_refused({"train", "klindt.yaml", "model.init_mask=below/weights.npy"},
                "[below/weights.npy] [init_mask] must be (100, 6): (4, 6)");
  check_refused({"train", "klindt.yaml", "model.init_weights=5"}, "init_weights must be null here");
  check_refused({"train", "tiny.yaml", "model.init_mask=below/mask.npy"}, "init_mask");
}

TEST_CASE("what does not fit images is refused, with the numbers") {
  const Images& images = Images::get();
  const Lab& lab = images.lab;
  const auto refused = [&](const std::string& override, const std::string& part) {
    check_refused({"train", "klindt.yaml", override}, part);
  };
  refused("data.frames_per_image=2",
          "[model] images must have the 1 x 2 = 2 channels (of the stimulus x frames_per_image) and 16 x 16 "
          "pixels of the data: (3, 16, 16)");
  refused("model.image_size=15", "1 x 3 = 3 channels");
  refused("data.train_chunk_size=2", "[data] train_chunk_size: must be at least frames_per_image 3: 2");
  refused("data.clip_length=2", "[data] clip_length: must be at least frames_per_image 3: 2");
  refused("data.frames_per_image=0", "[data] frames_per_image must be at least 1: 0");
  refused("model.num_neurons=7", "num_neurons");
  check_refused({"train", "tiny.yaml", "data.frames_per_image=3"},
                "[data] frames_per_image: must be 1 where the model takes movies, as CoreReadout does: 3");
  check_refused({"describe", "tiny.yaml", "data.frames_per_image=3"}, "frames_per_image: must be 1");
  check_refused({"eval", images.model, "--data", "klindt.yaml", "data.frames_per_image=1"},
                "1 x 1 = 1 channels");
  check_refused({"eval", images.model, "--data", "tiny.yaml"}, "1 x 1 = 1 channels");
  check_refused({"eval", lab.model(), "--data", "klindt.yaml", "--csv", "no.csv"},
                "frames_per_image: must be 1");

  const Tensor stimulus = test_images();
  const Shape& s = stimulus.shape();
  write_npy(lab / "images.npy", stimulus.rows(0, 4));
  write_npy(lab / "gray.npy", stimulus.rows(0, 3).reshape({9, 1, 16, 16}));
  write_npy(lab / "movie5.npy", stimulus.rows(0, 3).reshape({1, 3, 3, 16, 16}));
  const Tensor bad = stimulus.rows(0, 4).clone();
  bad.data<float>()[2 * s[1] * s[2] * s[3] + 5] = NAN;
  write_npy(lab / "bad.npy", bad);
  const auto predict = [&](const std::string& x, const std::string& part,
                           const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"predict", images.model, "--stimulus", x, "--out", "no.npy"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    check_refused(arguments, part);
  };
  predict("gray.npy",
          "[gray.npy] stimulus must be [B,C,H,W] or [C,H,W] with C = 3, H = 16, W = 16: (9, 1, 16, 16)");
  predict("movie5.npy", "(1, 3, 3, 16, 16)");
  predict("bad.npy", "[bad.npy] value [2, 0, 0, 5] is not finite");
  predict("images.npy", "[--pupil] KlindtCoreReadout2D has no shifter", {"--pupil", "images.npy"});
  const auto gradients = [&](const std::string& r, const std::string& part,
                             const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{
        "gradients", images.model, "--stimulus", "images.npy", "--responses", r, "--out", "no.safetensors"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    check_refused(arguments, part);
  };
  write_npy(lab / "three.npy", Tensor::zeros({3, 6}, DType::f32, cpu()));
  write_npy(lab / "four.npy", Tensor::zeros({4, 6}, DType::f32, cpu()));
  gradients("three.npy", "[three.npy] responses must be [B,N] with B = 4, N = 6: (3, 6)");
  gradients("four.npy", "[--pupil] KlindtCoreReadout2D has no shifter", {"--pupil", "four.npy"});
  gradients("four.npy", "[--noise] KlindtCoreReadout2D has no readout that samples",
            {"--noise", "four.npy", "--train"});
}

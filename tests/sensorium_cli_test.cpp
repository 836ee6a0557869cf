// The program on the two golden sessions of static images, from training to a submission.
#include <chrono>
#include <thread>

#include "cli_lab.hpp"
#include "fovea/model.hpp"
#include "fovea/npy.hpp"
#include "models/json.hpp"
#include "sensorium_fixture.hpp"

using namespace sensorium_test;

namespace {

constexpr auto gaussian_text = R"(experiment: gaussian
seed: 7
output: runs
model:
  class: FiringRateEncoder
  in_shape: [1, 9, 14]
  core: {class: Stacked2dCore, input_channels: 1, hidden_channels: 3, input_kern: 3, hidden_kern: 3, layers: 2}
  readout: {class: FullGaussian2d, bias: true, gauss_type: full, init_sigma: 0.1,
            grid_mean_predictor: {hidden_layers: 1, hidden_features: 4, final_tanh: true}}
  shifter: {class: MLPShifter, input_channels: 2, hidden_channels_shifter: 3, shift_layers: 2}
  loss: {class: PoissonLoss}
  learning_rate: 0.01
data:
  format: sensorium_static
  paths: [FIRST, SECOND]
  batch_size: 4
training: {max_epochs: 2}
)";

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const std::size_t at = text.find(what);
  if (at == std::string::npos) throw Error("test", "no " + what);
  return text.replace(at, what.size(), by);
}

/// A folder with configurations of the golden zips, and the model of one, made once.
class Visual {
 public:
  static const Visual& get() {
    static const Visual visual;
    return visual;
  }
  CommandResult run(const std::vector<std::string>& arguments) const {
    return run_command(folder_.path(), arguments);
  }
  CommandResult done(const std::vector<std::string>& arguments) const {
    const CommandResult result = run(arguments);
    INFO(result.err);
    CHECK(result.status == 0);
    return result;
  }
  std::string operator/(const std::string& name) const { return folder_ / name; }
  const std::string& path() const { return folder_.path(); }
  const std::string& model() const { return model_; }
  const std::string& run_folder() const { return run_; }
  const CommandResult& training() const { return training_; }

  std::string newest_run(const std::string& experiment) const {
    std::string newest;
    for (const auto& entry : fs::directory_iterator(folder_ / "runs/" + experiment))
      newest = std::max(newest, entry.path().string());
    return newest;
  }
  /// The run folder of a training.
  std::string trained(const std::string& experiment, std::vector<std::string> more) const {
    more.insert(more.begin(), "train");
    more.push_back("experiment=" + experiment);
    done(more);
    return newest_run(experiment);
  }
  /// Exit 1 with `[where] rule: values` on stderr and no file made; stdout stays empty.
  void refused(const std::vector<std::string>& arguments, const std::vector<std::string>& parts) const {
    const auto before = listing(path());
    const CommandResult result = run(arguments);
    CAPTURE(result.err);
    CHECK(result.status == 1);
    CHECK(result.out == "");
    CHECK(std::regex_match(last_line(result.err), std::regex(R"(fovea: \[[^\]]+\] .+)")));
    for (const std::string& part : parts) CHECK(mentions(result.err, part));
    CHECK(listing(path()) == before);
  }

 private:
  Visual() {
    std::string config = replaced(gaussian_text, "FIRST", golden_zip(golden_keys[0]));
    config = replaced(config, "SECOND", golden_zip(golden_keys[1]));
    write_bytes(folder_ / "gaussian.yaml", config);
    config = replaced(
        config, config.substr(config.find("  readout:"), config.find("  loss:") - config.find("  readout:")),
        "  readout: {class: FullFactorized2d, bias: true}\n");
    write_bytes(folder_ / "factorized.yaml",
                replaced(config, "experiment: gaussian", "experiment: factorized"));
    training_ = done({"train", "gaussian.yaml", "--threads", "1"});
    run_ = newest_run("gaussian");
    model_ = run_ + "/model.safetensors";
  }

  TemporaryFolder folder_;
  std::string run_, model_;
  CommandResult training_;
};

/// The tensors of the last checkpoints of two runs.
void check_same_checkpoints(const std::string& expected, const std::string& actual) {
  const Safetensors a = read_safetensors(expected + "/last.ckpt.safetensors", cpu()),
                    b = read_safetensors(actual + "/last.ckpt.safetensors", cpu());
  REQUIRE(a.tensors.size() == b.tensors.size());
  REQUIRE(a.tensors.size() > 20);
  for (const auto& [name, tensor] : a.tensors) {
    CAPTURE(name);
    CHECK(exact(tensor, tensor_of(b, name)));
  }
}

/// All but the bytes of the model file.
void check_same_training(const std::string& expected, const std::string& actual) {
  CHECK(metrics_without_seconds(expected) == metrics_without_seconds(actual));
  CHECK_FALSE(read_bytes(expected + "/test.csv").empty());
  CHECK(read_bytes(expected + "/test.csv") == read_bytes(actual + "/test.csv"));
  check_same_checkpoints(expected, actual);
}

void check_same_runs(const std::string& expected, const std::string& actual) {
  check_same_results(expected, actual);
  check_same_checkpoints(expected, actual);
}

/// Fields of a line with quotes.
std::vector<std::string> csv_cells(const std::string& line) {
  std::vector<std::string> cells{""};
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"') {
      cells.back() += line[++i];
    } else if (line[i] == '"') {
      quoted = !quoted;
    } else if (line[i] == ',' && !quoted) {
      cells.emplace_back();
    } else {
      cells.back() += line[i];
    }
  }
  return cells;
}

const std::vector<int> neurons_of_key{12, 9};

}  // namespace

TEST_CASE("an encoder with shifter and predicted positions trains on two zips, and eval gives its scores") {
  const Visual& visual = Visual::get();
  for (const char* name :
       {"config.yaml", "metrics.csv", "model.safetensors", "last.ckpt.safetensors", "test.csv", "log.txt"})
    CHECK(fs::exists(visual.run_folder() + "/" + name));
  CHECK(lines_of(read_bytes(visual.run_folder() + "/metrics.csv")).size() == 3);
  const std::string last = last_line(visual.training().out);
  CHECK(std::regex_match(last, std::regex(R"(test correlation -?[0-9.]+ over 21 neurons)")));
  const CommandResult scores =
      visual.done({"eval", visual.model(), "--data", "gaussian.yaml", "--csv", "e.csv"});
  CHECK(last_line(scores.out) == last);
  CHECK(read_bytes(visual / "e.csv") == read_bytes(visual.run_folder() + "/test.csv"));
  CHECK(
      last_line(visual.done({"eval", visual.model(), "--data", visual.run_folder() + "/config.yaml"}).out) ==
      last);
  const auto table = lines_of(read_bytes(visual / "e.csv"));
  REQUIRE(table.size() == 22);
  CHECK(table[0] == "session,neuron,correlation,single_trial_correlation,feve");
  for (std::size_t i = 0; i < 21; ++i)
    CHECK(table[i + 1].rfind(i < 12 ? text("21067-10-18,", i, ',') : text("22846-10-16,", i - 12, ','), 0) ==
          0);
  const LoadedModel loaded = load_model(visual.model(), {cpu(), DType::f32});
  CHECK(loaded.model->sessions() == golden_keys);
  CHECK(loaded.model->pupil_columns() == 2);
  const Json provenance = Json::parse(loaded.provenance);
  CHECK(mentions(provenance.at("normalization").dump(), "115.57473544973546"));
  // Nothing was written beside the data.
  CHECK(std::distance(fs::directory_iterator(fixture_folder() + "/sensorium"), {}) == 3);
}

TEST_CASE("the same bits for every number of threads and readers") {
  const Visual& visual = Visual::get();
  CHECK(visual.trained("again", {"gaussian.yaml", "--threads", "1"}) != visual.run_folder());
  check_same_runs(visual.run_folder(), visual.newest_run("again"));
  check_same_runs(visual.run_folder(), visual.trained("threads", {"gaussian.yaml", "--threads", "2"}));
  // The model file keeps the options of the data, readers among them.
  for (const char* readers : {"data.readers=2", "data.readers=7"})
    check_same_training(visual.run_folder(),
                        visual.trained(text("readers", readers[13]), {"gaussian.yaml", readers}));
  // The comparison can fail.
  const std::string other = visual.trained("other", {"gaussian.yaml", "seed=8"});
  CHECK(read_bytes(other + "/model.safetensors") != read_bytes(visual.model()));
}

TEST_CASE("FullFactorized2d on the same zips, without pupil centres or with ones that it ignores") {
  const Visual& visual = Visual::get();
  const std::string run = visual.trained("factorized", {"factorized.yaml", "--threads", "1"});
  check_same_training(run,
                      visual.trained("factorized2", {"factorized.yaml", "--threads", "2", "data.readers=3"}));
  const std::string blind = visual.trained("blind", {"factorized.yaml", "data.include_eye_position=false"});
  CHECK(metrics_without_seconds(run) == metrics_without_seconds(blind));
  CHECK(read_bytes(run + "/test.csv") == read_bytes(blind + "/test.csv"));
  // With behaviour as planes, and reduced.
  const std::string planes =
      visual.trained("planes", {"factorized.yaml", "data.include_behavior=true", "data.scale=0.5",
                                "model.in_shape=[4, 4, 7]", "model.core.input_channels=4"});
  CHECK(fs::exists(planes + "/test.csv"));
  const auto evaluated =
      visual.done({"eval", planes + "/model.safetensors", "--data", planes + "/config.yaml"});
  CHECK(mentions(last_line(evaluated.out), "over 21 neurons"));
}

TEST_CASE("an interrupted training goes on to the same bits") {
  const Visual& visual = Visual::get();
  for (const char* config : {"gaussian", "factorized"}) {
    CAPTURE(config);
    const auto started = [&](const std::string& experiment) {
      return std::vector<std::string>{"train",
                                      text(config, ".yaml"),
                                      "training.max_epochs=40",
                                      "training.early_stopping=null",
                                      "data.readers=2",
                                      "experiment=" + experiment};
    };
    visual.done(started(text("whole_", config)));
    const std::string whole = visual.newest_run(text("whole_", config));
    for (const int number : {SIGTERM, SIGKILL}) {
      CAPTURE(number);
      const std::string experiment = text("stopped_", config, number);
      std::string run;
      {
        RunningCommand command(visual.path(), started(experiment));
        const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (std::chrono::steady_clock::now() < limit) {
          if (fs::exists(visual / "runs/" + experiment)) run = visual.newest_run(experiment);
          if (!run.empty() && lines_of(read_bytes(run + "/metrics.csv")).size() > 2) break;
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        command.signal(number);
        REQUIRE(command.wait().status == 128 + number);
      }
      CHECK_FALSE(fs::exists(run + "/test.csv"));
      CHECK(lines_of(read_bytes(run + "/metrics.csv")).size() < 41);
      visual.done({"train", "--resume", run, "--threads", "1"});
      check_same_runs(whole, run);
    }
  }
}

TEST_CASE("data shows sessions and tiers, and dumps what the reference loader yields") {
  const Visual& visual = Visual::get();
  const std::vector<std::string> behavior{"data.include_behavior=true",
                                          "data.add_behavior_as_channels=false"};
  const CommandResult shown =
      visual.done({"data", "gaussian.yaml", behavior[0], behavior[1], "--dump", "dumped/deep"});
  for (const char* part :
       {"21067-10-18", "22846-10-16", "12 neurons", "9 neurons", "(1, 9, 14)", "train: 12 trials",
        "validation: 1 trials", "final_test: 2 trials", "final_test: empty", "(12, 1, 9, 14)", "115.57474"})
    CHECK(mentions(shown.out, part));
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(visual / "dumped/deep"))
    names.insert(entry.path().filename());
  CHECK(names == std::set<std::string>{"21067-10-18_train.safetensors", "21067-10-18_validation.safetensors",
                                       "21067-10-18_test.safetensors", "22846-10-16_train.safetensors",
                                       "22846-10-16_validation.safetensors", "22846-10-16_test.safetensors",
                                       "22846-10-16_final_test.safetensors"});
  const Safetensors golden = load_fixture("sensorium/expected", cpu());
  for (const std::string& name : names) {
    const std::string stem = name.substr(0, name.find(".safetensors"));
    CAPTURE(stem);
    const Safetensors dumped = read_safetensors(visual / "dumped/deep/" + name, cpu());
    CHECK(dumped.tensors.size() == 4);
    for (const char* field : {"stimulus", "responses", "pupil_center", "behavior"}) {
      const Tensor expected = tensor_of(
          golden, stem + "_behavior_apart/" + (std::string(field) == "stimulus" ? "images" : field));
      const Tensor actual = tensor_of(dumped, field);
      CHECK(actual.dtype() == DType::f32);
      REQUIRE(actual.shape()[0] >= expected.shape()[0]);
      CHECK(close(test::values(expected), test::values(actual.rows(0, expected.shape()[0])), 1e-6));
    }
  }
  const CommandResult plain = visual.done({"data", "gaussian.yaml", "data.include_eye_position=false"});
  CHECK(mentions(plain.out, "22846-10-16"));
}

TEST_CASE("describe, of the model and of the configuration") {
  const Visual& visual = Visual::get();
  for (const std::string& what : {visual.model(), std::string("gaussian.yaml")}) {
    const CommandResult result = visual.done({"describe", what});
    CAPTURE(result.out);
    for (const char* part : {"FiringRateEncoder", "(1, 9, 14)", "21067-10-18", "22846-10-16", "-> 12)",
                             "-> 9)", "full FullGaussian2d", "with predicted grid", "MB"})
      CHECK(mentions(result.out, part));
  }
  const CommandResult factorized = visual.done({"describe", "factorized.yaml"});
  CHECK(mentions(factorized.out, "-> 12) with bias, normalized"));
}

// ---- submissions

namespace {

struct Row {
  std::string trial, image;
  std::vector<double> prediction;
  std::vector<std::int64_t> neurons;
};

std::vector<Row> submission(const std::string& path) {
  const auto lines = lines_of(read_bytes(path));
  REQUIRE(lines.size() > 1);
  CHECK(lines[0] == "trial_indices,image_ids,prediction,neuron_ids");
  std::vector<Row> rows;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const auto cells = csv_cells(lines[i]);
    REQUIRE(cells.size() == 4);
    rows.push_back({cells[0], cells[1], Json::parse(cells[2]).get<std::vector<double>>(),
                    Json::parse(cells[3]).get<std::vector<std::int64_t>>()});
  }
  return rows;
}

/// `predict` of the images that `data --dump` wrote for a session and tier.
Tensor predicted(const std::string& key, const std::string& tier) {
  const Visual& visual = Visual::get();
  visual.done({"data", "gaussian.yaml", "--dump", "images"});
  const Safetensors dumped = read_safetensors(visual / "images/" + key + "_" + tier + ".safetensors", cpu());
  write_npy(visual / "x.npy", tensor_of(dumped, "stimulus"));
  write_npy(visual / "p.npy", tensor_of(dumped, "pupil_center"));
  visual.done({"predict", visual.model(), "--session", key, "--raw", "--stimulus", "x.npy", "--pupil",
               "p.npy", "--out", "y.npy"});
  return read_npy(visual / "y.npy", DType::f32, cpu());
}

}  // namespace

TEST_CASE("a submission has a row per trial, in order, with the values of predict") {
  const Visual& visual = Visual::get();
  CHECK(visual
            .done({"predict", visual.model(), "--data", "gaussian.yaml", "--tier", "test", "--submission",
                   "out.csv"})
            .out == "");
  const auto rows = submission(visual / "out.csv");
  REQUIRE(rows.size() == 8);
  const std::vector<std::string> trials{"24", "0", "19", "27", "24", "5", "27", "6"},
      images{"404", "536", "536", "404", "536", "404", "404", "536"};
  const std::vector<std::vector<std::int64_t>> units{{16, 19, 23, 27, 30, 32, 40, 42, 44, 50, 55, 74},
                                                     {4, 10, 18, 20, 31, 42, 46, 47, 62}};
  std::size_t row = 0;
  for (std::size_t key = 0; key < 2; ++key) {
    const Tensor expected = predicted(golden_keys[key], "test");
    CHECK(expected.shape() == Shape{4, neurons_of_key[key]});
    for (std::int64_t i = 0; i < 4; ++i, ++row) {
      CAPTURE(row);
      CHECK(rows[row].trial == trials[row]);
      CHECK(rows[row].image == images[row]);
      CHECK(rows[row].neurons == units[key]);
      const Tensor actual =
          Tensor::from(rows[row].prediction, {1, neurons_of_key[key]}, cpu()).to(DType::f32);
      CHECK(exact(expected.rows(i, i + 1), actual));
    }
  }
}

TEST_CASE("a submission of one session, of another tier, of neurons without unit ids") {
  const Visual& visual = Visual::get();
  const auto written = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"predict",       visual.model(), "--data",
                                       "gaussian.yaml", "--submission", "o.csv"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    visual.done(arguments);
    return submission(visual / "o.csv");
  };
  CHECK(written({}).size() == 8);  // the tier test
  CHECK(written({"--tier", "train"}).size() == 22);
  const auto final_test = written({"--tier", "final_test"});
  REQUIRE(final_test.size() == 2);
  CHECK(final_test[0].trial == "9");
  CHECK(final_test[1].trial == "32");
  CHECK(final_test[0].neurons.size() == 9);
  const auto one = written({"--session", golden_keys[1]});
  REQUIRE(one.size() == 4);
  CHECK(one[0].image == "536");
  // Without unit ids, trial_idx and normalisation of what is not there.
  Files files = unpacked(golden_zip(golden_keys[0]));
  files.erase("meta/neurons/unit_ids.npy");
  files["meta/trials/trial_idx.npy"] = npy_words(std::vector<std::string>(17, "a,\"b\""));
  write_folder(visual / golden_name(golden_keys[0]), files);
  const auto bare = written({"data.paths=[" + golden_name(golden_keys[0]) + "]"});
  REQUIRE(bare.size() == 4);
  CHECK(bare[0].trial == "a,\"b\"");
  CHECK(bare[0].neurons == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  fs::remove_all(visual / golden_name(golden_keys[0]));
}

TEST_CASE("a submission as Python's csv and json read it") {
  const Visual& visual = Visual::get();
  if (std::system("python3 -c 'import csv, json' > /dev/null 2>&1") != 0) {
    MESSAGE("skipped: there is no python3");
    return;
  }
  visual.done({"predict", visual.model(), "--data", "gaussian.yaml", "--submission", "py.csv"});
  write_bytes(visual / "check.py", R"(import csv, json, math, sys
rows = list(csv.DictReader(open(sys.argv[1], newline="")))
assert list(rows[0]) == ["trial_indices", "image_ids", "prediction", "neuron_ids"], rows[0]
assert [int(r["trial_indices"]) for r in rows] == [24, 0, 19, 27, 24, 5, 27, 6]
assert [int(r["image_ids"]) for r in rows] == [404, 536, 536, 404, 536, 404, 404, 536]
for i, row in enumerate(rows):
    prediction, neurons = json.loads(row["prediction"]), json.loads(row["neuron_ids"])
    assert len(prediction) == len(neurons) == (12 if i < 4 else 9)
    assert all(isinstance(p, float) and math.isfinite(p) for p in prediction)
    assert all(isinstance(n, int) for n in neurons)
)");
  const auto python = [&](const std::string& file) {
    return std::system(
        ("python3 '" + (visual / "check.py") + "' '" + (visual / file) + "' > /dev/null 2>&1").c_str());
  };
  CHECK(python("py.csv") == 0);
  write_bytes(visual / "broken.csv", replaced(read_bytes(visual / "py.csv"), "[16, 19,", "[16,"));
  CHECK(python("broken.csv") != 0);
}

TEST_CASE("eval and predict need only the test part") {
  const Visual& visual = Visual::get();
  for (const std::string& key : golden_keys) {
    Files files = unpacked(golden_zip(key)), tests;
    // Trials of the tier test alone, renumbered.
    std::vector<int> kept =
        key == golden_keys[0] ? std::vector<int>{5, 7, 12, 16} : std::vector<int>{0, 2, 10, 13};
    for (std::size_t i = 0; i < kept.size(); ++i)
      for (const char* field : {"images", "responses", "behavior", "pupil_center"})
        tests[text("data/", field, '/', i, ".npy")] = files.at(text("data/", field, '/', kept[i], ".npy"));
    for (const auto& [name, bytes] : files)
      if (mentions(name, "meta/statistics") || mentions(name, "meta/neurons")) tests[name] = bytes;
    tests["meta/trials/tiers.npy"] = npy_words({"test", "test", "test", "test"});
    tests["meta/trials/image_id.npy"] =
        npy_list<std::int32_t>(key == golden_keys[0] ? std::vector<double>{404, 536, 536, 404}
                                                     : std::vector<double>{536, 404, 404, 536});
    write_zip(visual / "tests/" + golden_name(key) + ".zip", tests);
  }
  const std::string paths = "data.paths=[tests/" + golden_name(golden_keys[0]) + ".zip, tests/" +
                            golden_name(golden_keys[1]) + ".zip]";
  const CommandResult scores =
      visual.done({"eval", visual.model(), "--data", "gaussian.yaml", paths, "--csv", "t.csv"});
  CHECK(last_line(scores.out) == last_line(visual.training().out));
  CHECK(read_bytes(visual / "t.csv") == read_bytes(visual.run_folder() + "/test.csv"));
  visual.done({"predict", visual.model(), "--data", "gaussian.yaml", paths, "--submission", "t2.csv"});
  const auto rows = submission(visual / "t2.csv");
  REQUIRE(rows.size() == 8);
  CHECK(rows[7].trial == "3");  // no trial_idx: the number of its files
  visual.refused({"train", "gaussian.yaml", paths}, {"session 21067-10-18 has no trial of the tier train"});
  fs::remove_all(visual / "tests");
}

// ---- transfer

TEST_CASE("a frozen core on one more session: bits of the core stay, the known readout is copied") {
  const Visual& visual = Visual::get();
  const std::string only = "data.paths=[" + golden_zip(golden_keys[0]) + "]";
  const std::string first = visual.trained("first", {"gaussian.yaml", only}) + "/model.safetensors";
  const auto transferred = [&](const std::string& experiment, const std::string& freeze) {
    const CommandResult result =
        visual.done({"train", "gaussian.yaml", "--from", first, "training.freeze=" + freeze,
                     "experiment=" + experiment, "training.max_epochs=3"});
    CHECK(mentions(result.err, "started from " + first));
    CHECK(mentions(result.err, "fresh: readout.22846-10-16."));
    CHECK_FALSE(mentions(result.err, "readout.21067-10-18._features"));
    return visual.newest_run(experiment) + "/last.ckpt.safetensors";
  };
  const auto tensors = [](const std::string& path) {
    std::map<std::string, Tensor> all;
    for (const auto& [name, tensor] : read_safetensors(path, cpu()).tensors) {
      const std::size_t at =
          name.find("core.") < name.find("readout.") ? name.find("core.") : name.find("readout.");
      const std::size_t shifter = name.find("shifter.");
      if (std::min(at, shifter) != std::string::npos) all.emplace(name, tensor);
    }
    return all;
  };
  const auto before = tensors(first);
  const auto compare = [&](const std::string& path, const std::string& prefix) {
    const auto after = tensors(path);
    int same = 0, different = 0;
    for (const auto& [name, tensor] : before) {
      if (name.rfind(prefix, 0) != 0) continue;
      // In a checkpoint a parameter may stand below a heading of its own.
      const auto found = std::find_if(after.begin(), after.end(), [&, wanted = name](const auto& one) {
        return one.first == wanted || one.first == "model." + wanted;
      });
      REQUIRE(found != after.end());
      (exact(tensor, found->second) ? same : different) += 1;
    }
    return std::pair{same, different};
  };
  const int core = static_cast<int>(std::count_if(
      before.begin(), before.end(), [](const auto& one) { return one.first.rfind("core.", 0) == 0; }));
  CHECK(core >= 10);
  CHECK(before.count("core.features.layer0.norm.running_mean") == 1);
  CHECK(before.count("core.features.layer0.norm.num_batches_tracked") == 1);
  const std::string frozen = transferred("frozen", "[core]");
  CHECK(compare(frozen, "core.") == std::pair{core, 0});
  CHECK(compare(frozen, "readout.21067-10-18.").second >= 3);  // goes on learning
  const std::string both = transferred("frozen_both", "[core, readout.21067-10-18, shifter.21067-10-18]");
  CHECK(compare(both, "core.") == std::pair{core, 0});
  CHECK(compare(both, "readout.21067-10-18.").first >= 5);  // as it was copied
  CHECK(compare(both, "readout.21067-10-18.").second == 0);
  CHECK(compare(both, "shifter.21067-10-18.").second == 0);
  // The check can fail: a core that learns.
  CHECK(compare(transferred("free", "[]"), "core.").second >= core - 1);
  visual.refused({"train", "gaussian.yaml", "training.freeze=[cores]"}, {"cores", "'core'"});
  visual.refused({"train", "gaussian.yaml", "--from", first, "model.core.hidden_channels=4"},
                 {"core.features.layer0"});
}

// ---- errors

TEST_CASE("what is wrong is said, and no file is left behind") {
  const Visual& visual = Visual::get();
  const std::string zip = golden_zip(golden_keys[0]);
  write_bytes(visual / "cut.zip", read_bytes(zip).substr(0, 30000));
  Files files = unpacked(zip);
  files.erase("data/pupil_center/9.npy");
  write_folder(visual / "incomplete", files);
  const std::vector<std::pair<std::string, std::vector<std::string>>> table{
      {"data.batchsize=3", {"batchsize", "'batch_size'"}},
      {"data.batch_size=0", {"batch_size", "0"}},
      {"data.neuron_n=3", {"neuron_base_seed", "neuron_n"}},
      {"data.paths=[nowhere.zip]", {"nowhere.zip"}},
      {"data.paths=[cut.zip]", {"cut.zip"}},
      {"data.paths=[incomplete]", {"session incomplete", "trial 9", "data/pupil_center/9.npy is missing"}},
      {"data.exclude=pupil", {"exclude", "pupil_center"}},
      {"data.path=x", {"path", "paths"}},
      {"data.format=sensorium", {"format", "sensorium"}},
  };
  for (const auto& [change, parts] : table) {
    CAPTURE(change);
    visual.refused({"train", "gaussian.yaml", change}, parts);
    visual.refused({"data", "gaussian.yaml", change, "--dump", "no"}, parts);
    visual.refused({"eval", visual.model(), "--data", "gaussian.yaml", change, "--csv", "no.csv"}, parts);
    visual.refused({"predict", visual.model(), "--data", "gaussian.yaml", change, "--submission", "no.csv"},
                   parts);
  }
  visual.refused({"train", "gaussian.yaml", "model.in_shape=[1, 9, 15]"},
                 {"in_shape", "(1, 9, 14)", "(1, 9, 15)"});
  visual.refused({"train", "gaussian.yaml", "data.include_behavior=true"}, {"in_shape", "(4, 9, 14)"});
  visual.refused({"train", "gaussian.yaml", "data.include_eye_position=false"},
                 {"include_eye_position", "pupil"});
  visual.refused({"eval", visual.model(), "--data", "gaussian.yaml", "data.scale=0.5"},
                 {"(1, 9, 14)", "(1, 4, 7)"});
  visual.refused({"eval", visual.model(), "--data", "gaussian.yaml", "data.areas=V1"},
                 {"21067-10-18", "11", "12"});
  const std::vector<std::string> submit{"predict",       visual.model(), "--data",
                                        "gaussian.yaml", "--submission", "no.csv"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = submit;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  visual.refused(with({"--tier", "tests"}), {"tests", "'test'"});
  visual.refused(with({"--session", "nobody"}), {"nobody"});
  visual.refused(with({"--tier", "final_test", "--session", golden_keys[0]}), {"final_test", golden_keys[0]});
  CHECK(visual.run({"predict", visual.model(), "--data", "gaussian.yaml"}).status == 2);
  CHECK(visual.run({"predict", visual.model(), "--submission", "no.csv"}).status == 2);
  CHECK(visual.run(with({"--stimulus", "x.npy"})).status == 2);
  fs::remove_all(visual / "incomplete");
}

TEST_CASE("a trial that cannot be used leaves neither half a dump nor half a table") {
  const Visual& visual = Visual::get();
  Files files = unpacked(golden_zip(golden_keys[1]));
  // The last trial of the last tier of the last session.
  files["data/responses/16.npy"] = npy(std::vector<double>(9, not_a_number), {9});
  write_folder(visual / golden_name(golden_keys[1]), files);
  const std::string paths =
      "data.paths=[" + golden_zip(golden_keys[0]) + ", " + golden_name(golden_keys[1]) + "]";
  const std::vector<std::string> parts{"session 22846-10-16", "trial 16", "data/responses/16.npy"};
  visual.refused({"data", "gaussian.yaml", paths}, parts);
  visual.refused({"data", "gaussian.yaml", paths, "--dump", "no"}, parts);
  visual.refused({"predict", visual.model(), "--data", "gaussian.yaml", paths, "--tier", "final_test",
                  "--submission", "no.csv"},
                 parts);
  // Where it is not used it does not matter.
  CHECK(last_line(visual.done({"eval", visual.model(), "--data", "gaussian.yaml", paths}).out) ==
        last_line(visual.training().out));
  fs::remove_all(visual / golden_name(golden_keys[1]));
}

TEST_CASE("deviations that count as 1 are noted") {
  const Visual& visual = Visual::get();
  Files files = unpacked(golden_zip(golden_keys[1]));
  files["meta/statistics/pupil_center/all/std.npy"] = npy_list({0, 4});
  write_folder(visual / "still", files);
  const CommandResult shown = visual.done({"data", "gaussian.yaml", "data.paths=[still]"});
  CHECK(mentions(shown.err, "fovea: note: session still: the deviation 0 of pupil_center"));
  fs::remove_all(visual / "still");
}

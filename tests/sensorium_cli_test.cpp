// Training on static images by the program: bits, interruptions, transfer.
#include <chrono>
#include <thread>

#include "fovea/model.hpp"
#include "sensorium_visual.hpp"

using namespace sensorium_test;

namespace {

/// The tensors of the last checkpoints of two runs.
void check_same_checkpoints(const std::string& expected, const std::string& actual) {
  const Safetensors a = read_safetensors(expected + "/last.ckpt.safetensors", cpu()),
                    b = read_safetensors(actual + "/last.ckpt.safetensors", cpu());
  REQUIRE(a.tensors.size() == b.tensors.size());
  REQUIRE(a.tensors.size() > 20);
  for (const auto& [name, tensor] : a.tensors) {
    const auto& shown_name = name;
    CAPTURE(shown_name);
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
  for (const char* readers : {"data.readers=2", "data.readers=7"})
    check_same_runs(visual.run_folder(),
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

// ---- transfer

TEST_CASE("positions start where neurons respond when the configuration says so") {
  const Visual& visual = Visual::get();
  const std::string free = "model.readout.grid_mean_predictor=null",
                    from_responses = "model.init_positions=responses";
  const CommandResult result = visual.done(
      {"train", "gaussian.yaml", free, from_responses, "experiment=placed", "training.max_epochs=1"});
  CHECK(mentions(result.err, "neurons start where they respond"));
  const std::string run = visual.newest_run("placed");
  CHECK(mentions(read_bytes(run + "/config.yaml"), "init_positions: responses"));
  CHECK(mentions(visual.done({"describe", run + "/config.yaml"}).out, "FullGaussian2d"));
  CHECK_FALSE(
      mentions(visual.done({"train", "gaussian.yaml", free, "experiment=drawn", "training.max_epochs=1"}).err,
               "where they respond"));
  visual.refused({"train", "gaussian.yaml", from_responses, "experiment=refused"}, {"predicted"});
  visual.refused({"describe", "gaussian.yaml", from_responses}, {"predicted"});
  const CommandResult masks =
      visual.done({"train", "factorized.yaml", from_responses, "experiment=masks", "training.max_epochs=1"});
  CHECK(mentions(masks.err, "neurons start where they respond"));
  const std::string placed = run + "/model.safetensors";
  const CommandResult onward = visual.done({"train", "gaussian.yaml", free, from_responses, "--from", placed,
                                            "experiment=onward", "training.max_epochs=1"});
  CHECK(mentions(onward.err, "readouts of 0 neurons start"));  // both sessions keep those of the model
  CHECK_FALSE(fs::exists(visual / "runs/refused"));
}

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
  // describe says so, of the trained model and of the configuration.
  const std::string run = frozen.substr(0, frozen.rfind('/'));
  std::int64_t in_core = 0, elsewhere = 0;
  const LoadedModel transferred_model = load_model(run + "/model.safetensors", {cpu(), DType::f32});
  for (const NamedTensor& one : transferred_model.model->tensors())
    if (one.role == Role::parameter)
      (one.name.rfind("core.", 0) == 0 ? in_core : elsewhere) += one.tensor.elements();
  REQUIRE(in_core > 0);
  for (const std::string& what : {run + "/model.safetensors", run + "/config.yaml"}) {
    const std::string shown = visual.done({"describe", what}).out;
    CHECK(mentions(shown, text("frozen: core (", in_core, " parameters, ")));
    CHECK(mentions(shown, text("trained: ", elsewhere, " of ", in_core + elsewhere, " parameters\n")));
  }
  CHECK_FALSE(mentions(visual.done({"describe", first}).out, "frozen"));
  CHECK(mentions(visual.done({"describe", "gaussian.yaml", "training.freeze=[core., core]"}).out,
                 text("frozen: core (", in_core, " parameters, ")));
  CHECK(mentions(visual.done({"describe", "gaussian.yaml", "training.freeze=[core, readout, shifter]"}).out,
                 "nothing to learn"));
  // What a file says of it may be anything.
  const auto with_frozen = [&](const std::string& frozen_json) {
    Safetensors file = read_safetensors(run + "/model.safetensors", cpu());
    Json provenance = Json::parse(file.metadata.at("provenance"));
    provenance["frozen"] = Json::parse(frozen_json);
    file.metadata["provenance"] = provenance.dump();
    write_safetensors(visual / "claims.safetensors", file);
  };
  for (const char* claim : {R"("core")", "[3]", R"([""])", "{}"}) {
    CAPTURE(claim);
    with_frozen(claim);
    visual.refused({"describe", "claims.safetensors"}, {"frozen needs a list"});
  }
  with_frozen(R"(["core", "nobody", "core"])");
  const CommandResult claimed = visual.done({"describe", "claims.safetensors"});
  CHECK(mentions(claimed.err, "'nobody' was frozen, which names no tensors"));
  CHECK(mentions(claimed.out, text("trained: ", elsewhere, " of ", in_core + elsewhere, " parameters\n")));
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

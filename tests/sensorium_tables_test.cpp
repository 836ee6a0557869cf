// What the program shows, dumps and predicts of static images, and what it refuses.
#include "fovea/npy.hpp"
#include "sensorium_visual.hpp"

using namespace sensorium_test;

namespace {

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

TEST_CASE("images as they are stored are normalised by predict with the statistics of their session") {
  const Visual& visual = Visual::get();
  for (const std::string& key : golden_keys) {
    const Tensor expected = predicted(key, "test");
    visual.done({"data", "gaussian.yaml", "data.normalize=false", "--dump", "raw"});
    const Safetensors raw = read_safetensors(visual / "raw/" + key + "_test.safetensors", cpu());
    write_npy(visual / "x.npy", tensor_of(raw, "stimulus"));
    visual.done({"predict", visual.model(), "--session", key, "--stimulus", "x.npy", "--pupil", "p.npy",
                 "--out", "y.npy"});
    const Tensor actual = read_npy(visual / "y.npy", DType::f32, cpu());
    CHECK(close(test::values(expected), test::values(actual), 1e-5));
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
    const auto& shown_change = change;
    CAPTURE(shown_change);
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

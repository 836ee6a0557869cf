// Configurations: YAML by its scalar rules, every key of the run configuration with wrong values, overrides.
#include <doctest/doctest.h>

#include <cmath>

#include "data_files.hpp"
#include "models/parameters.hpp"
#include "training/run_config.hpp"
#include "training/yaml.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

bool contains(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

Json yaml(const std::string& text) { return parse_yaml("test", text); }

std::string refusal(const std::string& text) {
  return message_of<FormatError>([&] { yaml(text); });
}

/// The least that a run configuration may say.
Json least() { return yaml("{model: {class: CoreReadout}, data: {path: folder}}"); }

std::string refusal_of_override(const std::string& assignment) {
  return message_of<ConfigError>([&] {
    Json document = least();
    apply_override(document, assignment);
    parse_run_config(document);
  });
}

}  // namespace

TEST_CASE("plain scalars have the type that they look like, quoted ones are text") {
  for (const char* null : {"", "~", "null", "Null", "NULL", "None"}) {
    CAPTURE(null);
    CHECK(yaml("a: " + std::string(null))["a"].is_null());
  }
  for (const char* word : {"true", "True", "TRUE"}) CHECK(yaml(word) == Json(true));
  for (const char* word : {"false", "False", "FALSE"}) CHECK(yaml(word) == Json(false));
  for (const auto& [word, number] :
       {std::pair{"0", 0}, std::pair{"-3", -3}, std::pair{"+7", 7}, std::pair{"2147483647", 2147483647}}) {
    const auto& shown_word = word;
    CAPTURE(shown_word);
    CHECK(yaml(word).is_number_integer());
    CHECK(yaml(word) == Json(number));
  }
  CHECK(yaml("9223372036854775807") == Json(std::int64_t{9223372036854775807}));
  for (const auto& [word, number] :
       {std::pair{"1e-4", 1e-4}, std::pair{"1.0e-4", 1e-4}, std::pair{"1E+3", 1e3}, std::pair{"-2.5", -2.5},
        std::pair{".5", 0.5}, std::pair{"5.", 5.0}, std::pair{"1.0", 1.0}, std::pair{"+0.1", 0.1}}) {
    const auto& shown_word = word;
    CAPTURE(shown_word);
    CHECK(yaml(word).is_number_float());
    CHECK(yaml(word).get<double>() == number);
  }
  CHECK(yaml(".inf").get<double>() == INFINITY);
  CHECK(yaml("-.inf").get<double>() == -INFINITY);
  CHECK(std::isnan(yaml(".nan").get<double>()));
  // "none" and "same" name activations, "nan" and "inf" are words.
  for (const char* word : {"none", "same", "nan", "inf", "infinity", "yes", "off", "1.2.3", "1e",
                           "2020.06-26.left", "0x1g", "1 2", "a b", "null values", "trueish", "é"}) {
    CAPTURE(word);
    CHECK(yaml(word) == Json(word));
  }
  for (const char* word : {"1", "1e-4", "true", "null", "None", "", "~", ".nan"}) {
    CAPTURE(word);
    CHECK(yaml('"' + std::string(word) + '"') == Json(word));
    CHECK(yaml('\'' + std::string(word) + '\'') == Json(word));
  }
  CHECK(yaml("") == Json());
  CHECK(yaml("# only a comment\n") == Json());
}

TEST_CASE("maps keep their order, lists nest, aliases stand for their value") {
  const Json document = yaml("z: 1\na: [1, [2, x]]\nm:\n  - {k: v}\n  - null\n");
  CHECK(document.dump() == R"({"z":1,"a":[1,[2,"x"]],"m":[{"k":"v"},null]})");
  CHECK(yaml("a: &kernel [3, 3]\nb: *kernel\n")["b"] == Json::parse("[3, 3]"));
}

TEST_CASE("documents that are damaged, ambiguous or explode are refused with their line") {
  const std::string duplicate = refusal("a: 1\nb: 2\na: 3\n");
  CHECK(contains(duplicate, "[test]"));
  CHECK(contains(duplicate, "line 3"));
  CHECK(contains(duplicate, "duplicate key 'a'"));
  CHECK(contains(refusal("a:\n  b: 1\n  'b': 2\n"), "duplicate key 'b'"));
  // Control characters grow when they are written; what is read must come back.
  const std::string longest = "k" + std::string(199, '\x01');
  const Json written = Json::object({{longest, 1}});
  CHECK(parse_yaml("again", write_yaml(written)) == written);
  CHECK(contains(message_of<FormatError>([&] {
                   parse_yaml("long", write_yaml(Json::object({{std::string(201, 'k'), 1}})));
                 }),
                 "a key has at most 200 bytes: kkkk"));
  CHECK(contains(refusal("{a: 1, a: 1}"), "duplicate"));
  CHECK(contains(refusal("a: 1\nb: [\"x\\_\"]\n"), "line 2: a text with the escape"));
  CHECK(contains(refusal("\"\\N\": 1\n"), "escape"));
  CHECK(yaml(R"(["\x85\u00a0\L"])")[0] == Json("\u0085\u00a0\u2028"));
  CHECK(contains(refusal("? [1, 2]\n: 3\n"), "key"));
  CHECK(contains(refusal("a: [1, 2\nb: 3\n"), "line"));
  CHECK(contains(refusal("a: *nobody\n"), "line 1"));
  CHECK(contains(refusal("a: 1\n---\nb: 2\n"), "document"));
  CHECK(contains(refusal("\ta: 1\n  b: 2\n"), "line"));

  const auto nested = [](int depth) { return std::string(depth, '[') + "1" + std::string(depth, ']'); };
  CHECK_NOTHROW(yaml(nested(32)));
  CHECK(contains(refusal(nested(33)), "32"));
  CHECK_FALSE(refusal(nested(5000)).empty());
  CHECK_FALSE(refusal(std::string(100000, '[')).empty());
  std::string braces;
  for (int i = 0; i < 40; ++i) braces += "{a: ";
  CHECK_FALSE(refusal(braces + "1" + std::string(40, '}')).empty());

  // Nine levels of ten aliases each: a thousand million values in 500 bytes.
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    bomb += text("a", i, ": &a", i, " [");
    for (int k = 0; k < 10; ++k) bomb += text(k ? ", " : "", "*a", i - 1);
    bomb += "]\n";
  }
  CHECK(contains(refusal(bomb), "100000 values"));
  CHECK_FALSE(refusal("a: &a [*a]\n").empty());  // contains itself
}

TEST_CASE("files that cannot be read are named") {
  const TemporaryFolder folder;
  CHECK(
      contains(message_of<FormatError>([&] { read_yaml_file(folder / "none.yaml"); }), folder / "none.yaml"));
  CHECK(contains(message_of<FormatError>([&] { read_yaml_file(folder.path()); }), folder.path()));
  write_bytes(folder / "list.yaml", "[1, 2]");
  CHECK(contains(message_of<FormatError>([&] { read_run_config(folder / "list.yaml", {}); }), "map"));
}

TEST_CASE("what is written is read back unchanged") {
  const Json tricky = Json::parse(R"({
    "words": ["true", "null", "None", "~", "", "1", "1e5", "-.inf", ".nan", "0x10", "1_000", "- a", "a: b", "#no",
              " lead", "trail ", "two\nlines", "tab\t", "\r ", "a\rb", "q\"uote", "it's", "é日本", "[1", "{a", "&a", "*a", "!tag", "%x",
              "@x", "`x", "a #b", "? k", "|", ">", "=", "<<", "yes", "\u0001", "\u007f", "---", "..."],
    "numbers": [0, -1, 9223372036854775807, 1.0, 0.1, 1e-16, 1e22, -2.5e-300, 3.0000000000000004],
    "maps": {"": 1, "null": 2, "true": 3, "1": 4, "a.b-c": 5, "with space": 6, "colon: x": 7, "~": 8, "é": 9, "- k": 10,
             "--- a": 11, "...": 12, "a\tb": 13, "%k": 14},
    "empty": [{}, [], null], "nested": [[1, [2, {"k": [true, false]}]]], "nothing": null})");
  CHECK(yaml(write_yaml(tricky)) == tricky);
  CHECK(yaml(write_yaml(tricky))["numbers"].dump() == tricky["numbers"].dump());  // whole ones stay whole
  for (const char* json : {"{}", "[]", "null", "3", "\"null\"", "\"\"", "[[], {}]", "\"--- A\"", "\"... A\"",
                           R"({"--- A": 1})", R"({"...": {"---": ["--- x"]}})"}) {
    CAPTURE(json);
    CHECK(yaml(write_yaml(Json::parse(json))) == Json::parse(json));
  }
  const Json infinite = yaml(write_yaml(Json{{"a", INFINITY}, {"b", -INFINITY}, {"c", NAN}}));
  CHECK(infinite["a"].get<double>() == INFINITY);
  CHECK(infinite["b"].get<double>() == -INFINITY);
  CHECK(std::isnan(infinite["c"].get<double>()));
}

TEST_CASE("overrides set one value by YAML's rules, making sections on the way") {
  Json document = yaml("a: {b: 1, c: null}\nd: 2\n");
  apply_override(document, "a.b=1e-4");
  CHECK(document["a"]["b"] == Json(1e-4));
  apply_override(document, "a.c.x.y=[1, two]");
  CHECK(document["a"]["c"]["x"]["y"] == Json::parse(R"([1, "two"])"));
  apply_override(document, "new={k: 'v=w', n: null}");
  CHECK(document["new"] == Json::parse(R"({"k": "v=w", "n": null})"));
  apply_override(document, "d=a=b");
  CHECK(document["d"] == Json("a=b"));
  apply_override(document, "d=");
  CHECK(document["d"].is_null());
  apply_override(document, "a.b='1'");
  CHECK(document["a"]["b"] == Json("1"));

  for (const char* wrong : {"nothing", "", "=1", ".=1", "a.=1", ".a=1", "a..b=1"}) {
    CAPTURE(wrong);
    CHECK(contains(message_of<ConfigError>([&] { apply_override(document, wrong); }), "section.key=value"));
  }
  CHECK(contains(message_of<ConfigError>([&] { apply_override(document, "a.b.c=1"); }), "a.b"));
  CHECK_FALSE(message_of<FormatError>([&] { apply_override(document, "a.b=[1"); }).empty());
  CHECK_FALSE(message_of<FormatError>([&] { apply_override(document, "a.b={k: 1, k: 2}"); }).empty());
}

TEST_CASE("the nearest name is the one with the fewest edits") {
  CHECK(nearest_name("patience", {"patience", "factor"}) == "patience");
  CHECK(nearest_name("patients", {"monitor", "patience", "factor"}) == "patience");
  CHECK(nearest_name("core_gama_input", {"core_gamma_hidden", "core_gamma_input"}) == "core_gamma_input");
  const std::string message = message_of<ConfigError>([] {
    refuse_key("where", "colour", {"color", "size"});
  });
  CHECK(contains(message, "[where]"));
  CHECK(contains(message, "'colour'"));
  CHECK(contains(message, "did you mean 'color'"));
  CHECK(contains(message, "size"));
}

TEST_CASE("defaults of the run configuration") {
  const Json written = write_run_config(parse_run_config(least()));
  CHECK(written["seed"] == Json(42));
  CHECK(written["device"] == Json("auto"));
  CHECK(written["threads"] == Json(0));
  CHECK(written["output"] == Json("runs"));
  CHECK(
      written["data"].dump() ==
      R"({"format":"openretina_hdf5","path":"folder","test_names":[],"normalize":true,"batch_size":32,)"
      R"("train_chunk_size":50,"clip_length":100,"num_val_clips":10,"seed":42,"allow_over_boundaries":true,)"
      R"("frames_per_image":1})");
  CHECK(
      written["training"].dump() ==
      R"({"max_epochs":100,"gradient_clip":null,"accumulate_grad_batches":1,)"
      R"("optimizer":{"class":"AdamW","betas":[0.9,0.999],"eps":1e-08,"weight_decay":0.01},)"
      R"("scheduler":{"class":"ReduceLROnPlateau","monitor":"val_evaluation_loss","mode":"max","factor":0.3,)"
      R"("patience":5,"threshold":0.0005,"threshold_mode":"abs","min_lr":null},"freeze":[],)"
      R"("early_stopping":{"monitor":"val_evaluation_loss","mode":"max","patience":10,"min_delta":0.001}})");
}

TEST_CASE("every value can be given, and the completed configuration is a fixed point") {
  const std::string all = R"(
experiment: other.name
seed: 7
device: cpu
threads: 3
output: elsewhere/runs
model: {class: CoreReadout, in_shape: [1, 50, 8, 8], learning_rate: 1e-3, maxpool_every_n_layers: None}
data: {format: openretina_hdf5, path: some/folder, test_names: [a b, 'null'], normalize: {mean: 0.5, std: 2}, batch_size: 3,
       train_chunk_size: 40, clip_length: 90, num_val_clips: 4, seed: 4294967295, allow_over_boundaries: false,
       frames_per_image: 5}
training:
  max_epochs: 3
  gradient_clip: 1.5
  accumulate_grad_batches: 2
  optimizer: {class: AdamW, betas: [0.8, 0.99], eps: 1.0e-6, weight_decay: 0}
  scheduler: {class: ReduceLROnPlateau, monitor: val_loss, mode: min, factor: 0.5, patience: 0, threshold: 0,
              threshold_mode: rel, min_lr: 1e-5}
  freeze: [core, readout.21067-10-18]
  early_stopping: null
)";
  const RunConfig config = parse_run_config(yaml(all));
  CHECK(config.experiment == "other.name");
  CHECK(config.seed == 7);
  CHECK(config.device == "cpu");
  CHECK(config.threads == 3);
  CHECK(config.output == "elsewhere/runs");
  CHECK(config.model["maxpool_every_n_layers"].is_null());
  CHECK(config.data.path == "some/folder");
  CHECK(config.data.test_names == std::vector<std::string>{"a b", "null"});
  CHECK(config.data.normalize == NormalizeMode::given);
  CHECK(config.data.given_normalization.mean == 0.5);
  CHECK(config.data.given_normalization.deviation == 2);
  CHECK(config.data.seed == 4294967295u);
  CHECK_FALSE(config.data.allow_over_boundaries);
  CHECK(config.data.frames_per_image == 5);
  CHECK(config.training.freeze == std::vector<std::string>{"core", "readout.21067-10-18"});
  CHECK_FALSE(config.training.early_stopping.has_value());
  for (const Json& document : {yaml(all), least()}) {
    const Json written = write_run_config(parse_run_config(document));
    CHECK(yaml(write_yaml(written)) == written);
    CHECK(write_run_config(parse_run_config(yaml(write_yaml(written)))) == written);
  }
  for (const bool normalize : {true, false}) {
    Json document = least();
    document["data"]["normalize"] = normalize;
    CHECK(write_run_config(parse_run_config(document))["data"]["normalize"] == Json(normalize));
  }
}

TEST_CASE("a wrong type or an impossible value of any key is an error that names the key") {
  struct Wrong {
    const char* key;
    std::vector<const char*> values;
  };
  // Word, number, list and map where they do not belong, then values that no run could have.
  const std::vector<Wrong> table{
      {"experiment", {"3", "[a]", "{a: 1}", "null", "true", "''", "a/b", "..", "."}},
      {"seed", {"x", "'1'", "1.5", "[1]", "null", "true", "-1", ".nan", "99999999999999999999"}},
      {"device", {"3", "[cpu]", "null", "tpu", "CPU", "''"}},
      {"threads", {"x", "1.5", "[1]", "null", "true", "-1", "1000000"}},
      {"output", {"3", "[a]", "null", "{a: 1}"}},
      {"model", {"3", "[a]", "text"}},
      {"data", {"3", "[a]", "text", "null"}},
      {"training", {"3", "[a]", "text"}},
      {"data.format", {"3", "null", "csv", "[openretina_hdf5]"}},
      {"data.path", {"3", "null", "[a]", "{a: 1}", "''"}},
      {"data.test_names", {"wn_test", "3", "[1]", "[[a]]", "{a: 1}", "null", "[a, a]", "['']"}},
      {"data.normalize",
       {"3", "'yes'", "null", "[0, 1]", "{mean: 0}", "{std: 1}", "{mean: 0, std: 0}", "{mean: 0, std: -1}",
        "{mean: .nan, std: 1}", "{mean: 0, std: .inf}", "{mean: a, std: 1}", "{mean: 0, std: 1, x: 2}"}},
      {"data.batch_size", {"x", "1.5", "[1]", "null", "true", "0", "-1", "4294967296", "1e30"}},
      {"data.train_chunk_size", {"x", "1.5", "[1]", "null", "0", "-1", "4294967296"}},
      {"data.frames_per_image", {"x", "1.5", "[1]", "null", "true", "0", "-1", "4294967296"}},
      {"data.clip_length", {"x", "1.5", "[1]", "null", "0", "-1", "4294967296"}},
      {"data.num_val_clips", {"x", "1.5", "[1]", "null", "0", "-1", "4294967296"}},
      {"data.seed", {"x", "1.5", "[1]", "null", "-1", "4294967296"}},
      {"data.allow_over_boundaries", {"1", "'true'", "null", "[true]", "yes"}},
      {"training.max_epochs", {"x", "1.5", "null", "[1]", "true", "0", "-1"}},
      {"training.gradient_clip", {"x", "[1]", "true", "0", "-1", ".nan", ".inf"}},
      {"training.accumulate_grad_batches", {"x", "1.5", "null", "[1]", "0", "-2"}},
      {"training.optimizer", {"3", "AdamW", "[a]", "null"}},
      {"training.optimizer.class", {"3", "null", "SGD"}},
      {"training.optimizer.betas",
       {"3", "x", "null", "[0.9]", "[0.9, 0.9, 0.9]", "[0.9, 1]", "[-0.1, 0.9]", "[a, b]", "[.nan, 0.9]"}},
      {"training.optimizer.eps", {"x", "null", "[1]", "0", "-1e-8", ".nan", ".inf"}},
      {"training.optimizer.weight_decay", {"x", "null", "[1]", "-0.1", ".nan", ".inf"}},
      {"training.scheduler", {"3", "ReduceLROnPlateau", "[a]"}},
      {"training.scheduler.class", {"3", "null", "StepLR"}},
      {"training.scheduler.monitor", {"3", "null", "val_los", "epoch"}},
      {"training.scheduler.mode", {"3", "null", "maximum"}},
      {"training.scheduler.factor", {"x", "null", "0", "1", "-0.3", ".nan"}},
      {"training.scheduler.patience", {"x", "1.5", "null", "-1"}},
      {"training.scheduler.threshold", {"x", "null", "-1", ".nan", ".inf"}},
      {"training.scheduler.threshold_mode", {"3", "null", "absolute"}},
      {"training.scheduler.min_lr", {"x", "[1]", "-1", ".nan", ".inf"}},
      {"training.freeze", {"core", "3", "null", "[1]", "{a: 1}"}},
      {"training.early_stopping", {"3", "word", "[a]"}},
      {"training.early_stopping.monitor", {"3", "null", "val_los"}},
      {"training.early_stopping.mode", {"3", "null", "maximum"}},
      {"training.early_stopping.patience", {"x", "1.5", "null", "0", "-1"}},
      {"training.early_stopping.min_delta", {"x", "null", "-1", ".nan", ".inf"}},
  };
  for (const Wrong& wrong : table) {
    const std::string key = wrong.key;
    const std::string last = key.substr(key.rfind('.') + 1);
    for (const char* value : wrong.values) {
      CAPTURE(key);
      CAPTURE(value);
      const std::string message = refusal_of_override(key + "=" + value);
      CHECK_MESSAGE(contains(message, last), message);
      CHECK(message.rfind("[", 0) == 0);
    }
  }
}

TEST_CASE("messages name the whole path, the element, the nearest name and numbers that are not finite") {
  struct Refused {
    const char *assignment, *message;
  };
  for (const auto& [assignment, message] : {
           Refused{"device=cpuu",
                   "[config] device must be one of 'auto' 'cpu' 'cuda' 'emulator'; did you mean 'cpu'?: "
                   "\"cpuu\""},
           Refused{"data.format=openretina_hdf",
                   "[data] format must be one of 'openretina_hdf5' 'sensorium_static'; did you mean "
                   "'openretina_hdf5'?: "
                   "\"openretina_hdf\""},
           Refused{
               "data.normalize=ture",
               "[data] normalize must be true, false or {mean: m, std: s}; did you mean 'true'?: \"ture\""},
           Refused{"data.normalize={mean: x, std: 1}", "[data.normalize] mean must be a number: \"x\""},
           Refused{"data.normalize={mean: 0, std: .inf}",
                   "[data.normalize] std must be a finite number above 0: inf"},
           Refused{"data.normalize={mean: 0, sdt: 1}",
                   "[data.normalize] unknown parameter 'sdt', did you mean 'std'? Known: mean, std"},
           Refused{"data.normalize={mean: 0}", "[data.normalize] missing parameter 'std' (float)"},
           Refused{"data.batch_size=.nan", "[data] batch_size must be a whole number: nan"},
           Refused{"data.batch_size=[-.inf, {a: .nan, b: x}]",
                   "[data] batch_size must be a whole number: [-inf,{\"a\":nan,\"b\":\"x\"}]"},
           Refused{"data.test_names=[a, 3]", "[data] test_names[1] must be a text: 3"},
           Refused{"training.gradient_clip=.nan",
                   "[training] gradient_clip must be a finite number above 0: nan"},
           Refused{"training.freeze=[core, [1]]", "[training] freeze[1] must be a text: [1]"},
           Refused{"training.optimizer.betas=[0.9, .inf]",
                   "[training.optimizer] betas[1] must be at least 0 and below 1: inf"},
           Refused{"training.optimizer.betas=[a, 0.9]",
                   "[training.optimizer] betas[0] must be a number: \"a\""},
           Refused{"training.optimizer.betas=[0.9]", "[training.optimizer] betas must be a list of 2: [0.9]"},
           Refused{"training.scheduler.mode=mx",
                   "[training.scheduler] mode must be one of 'max' 'min'; did you mean 'max'?: \"mx\""},
           Refused{"training.scheduler.min_lr=-1",
                   "[training.scheduler] min_lr must be a finite number of at least 0: -1.0"},
           Refused{"model.in_shape=[1, .nan]", "[config] model.in_shape[1] must be finite: nan"},
       }) {
    const auto& shown_assignment = assignment;
    CAPTURE(shown_assignment);
    CHECK(refusal_of_override(assignment) == message);
  }
}

TEST_CASE("where data are optional their section may be missing or lack its path") {
  const auto parsed = [](const char* document) {
    return parse_run_config(yaml(document), DataSection::optional).data;
  };
  CHECK(parsed("{model: {}}").path.empty());
  CHECK(parsed("{model: {}, data: null}").batch_size == 32);
  CHECK(parsed("{model: {}, data: {batch_size: 3}}").batch_size == 3);
  CHECK(parsed("{model: {}, data: {path: folder}}").path == "folder");
  CHECK_THROWS_AS(parsed("{model: {}, data: [1]}"), ConfigError);
  CHECK_THROWS_AS(parsed("{model: {}, data: {path: ''}}"), ConfigError);
  CHECK_THROWS_AS(parsed("{model: {}, data: {batch_size: 0}}"), ConfigError);
}

TEST_CASE("an unknown key is an error with the nearest name and the known ones") {
  struct Misspelt {
    const char *assignment, *nearest;
  };
  for (const auto& [assignment, nearest] :
       {Misspelt{"experimnt=a", "experiment"}, Misspelt{"sead=1", "seed"},
        Misspelt{"trainings={}", "training"}, Misspelt{"Data={}", "data"}, Misspelt{"data.paths=[a]", "path"},
        Misspelt{"data.batchsize=3", "batch_size"}, Misspelt{"data.normalise=true", "normalize"},
        Misspelt{"data.test_name=[a]", "test_names"}, Misspelt{"training.max_epoch=3", "max_epochs"},
        Misspelt{"training.optimiser={}", "optimizer"},
        Misspelt{"training.optimizer.weight_decai=0", "weight_decay"},
        Misspelt{"training.scheduler.patients=3", "patience"},
        Misspelt{"training.early_stopping.min_delt=3", "min_delta"}}) {
    const auto& shown_assignment = assignment;
    CAPTURE(shown_assignment);
    const std::string message = refusal_of_override(assignment);
    CHECK_MESSAGE(contains(message, text("'", nearest, "'")), message);
    const std::string key = std::string(assignment).substr(0, std::string(assignment).find('='));
    CHECK_MESSAGE(contains(message, text("'", key.substr(key.rfind('.') + 1), "'")), message);
  }
  CHECK(contains(
      message_of<ConfigError>([] { parse_run_config(yaml("{model: {}, data: {format: openretina_hdf5}}")); }),
      "path"));
  CHECK(contains(message_of<ConfigError>([] { parse_run_config(yaml("{model: {}}")); }), "data"));
}

TEST_CASE("paths in a file are relative to it, those of overrides to the current folder") {
  const TemporaryFolder folder;
  const std::string path = folder / "sub/run.yaml";
  write_bytes(path, "model: {class: CoreReadout}\noutput: ../runs\ndata: {path: recording}\n");
  RunConfig config = read_run_config(path, {});
  CHECK(std::filesystem::path(config.data.path) == std::filesystem::path(folder / "sub/recording"));
  CHECK(std::filesystem::path(config.output).lexically_normal() == std::filesystem::path(folder / "runs"));
  config = read_run_config(path, {"data.path=other", "output=here", "training.max_epochs=3"});
  CHECK(config.data.path == "other");
  CHECK(config.output == "here");
  CHECK(config.training.max_epochs == 3);
  config = read_run_config(path, {"data={path: third}"});
  CHECK(config.data.path == "third");
  write_bytes(path, "model: {class: CoreReadout}\noutput: /absolute/runs\ndata: {path: /absolute/data}\n");
  config = read_run_config(path, {});
  CHECK(config.data.path == "/absolute/data");
  CHECK(config.output == "/absolute/runs");
}

TEST_CASE("of two overrides of a key the last counts") {
  const TemporaryFolder folder;
  write_bytes(folder / "run.yaml", "model: {class: CoreReadout}\ndata: {path: x}\n");
  CHECK(read_run_config(folder / "run.yaml", {"seed=1", "seed=2"}).seed == 2);
}

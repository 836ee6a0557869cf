// Run configurations: YAML that is damaged, explodes, or asks for what cannot be.
#include "hostile_files.hpp"

namespace fovea::test {
namespace {

const std::vector<Words>& readers() {
  static const std::vector<Words> commands{
      {"train", "run.yaml"},
      {"data", "run.yaml", "--dump", "no"},
      {"describe", "run.yaml"},
      {"eval", Lab::get().model(), "--data", "run.yaml", "--csv", "no.csv"},
  };
  return commands;
}

HostileCase yaml(const std::string& name, const std::string& content, const std::string& part,
                 const std::vector<Words>& commands = readers()) {
  return {"configuration: " + name,
          [=](const std::string& folder) { write_bytes(folder + "/run.yaml", content); }, commands, part};
}

/// The lab's configuration with a line of it replaced.
HostileCase line(const std::string& from, const std::string& to, const std::string& part,
                 const std::vector<Words>& commands = readers()) {
  return yaml(to.substr(0, 60), replaced(config_for(Lab::get() / "retina"), from, to), part, commands);
}

/// What only the commands that make a model of it can refuse.
HostileCase model(const std::string& from, const std::string& to, const std::string& part) {
  return line(from, to, part, {{"train", "run.yaml"}, {"describe", "run.yaml"}});
}

/// A model of which n_neurons_dict says all, because its data are not there.
HostileCase before_data(const std::string& counts, const std::string& part) {
  return yaml("n_neurons_dict " + counts,
              replaced(config_for("nowhere"), "  dropout_rate: 0.1", "  n_neurons_dict: " + counts), part,
              {{"describe", "run.yaml"}});
}

HostileCase data(const std::string& from, const std::string& to, const std::string& part) {
  return line(from, to, part, {{"train", "run.yaml"}, {"data", "run.yaml", "--dump", "no"}});
}

HostileCase training(const std::string& from, const std::string& to, const std::string& part) {
  return line(from, to, part, {{"train", "run.yaml"}});
}

/// Each anchor holds the one before ten times.
std::string bomb(int levels) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < levels; ++i) {
    const std::string previous = "*a" + std::to_string(i - 1);
    text += fovea::text("a", i, ": &a", i, " [");
    for (int k = 0; k < 10; ++k) text += (k ? ", " : "") + previous;
    text += "]\n";
  }
  return text;
}

std::string repeated(const std::string& part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

std::string numbered_keys(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "k" + std::to_string(i) + ": 1\n";
  return text;
}

std::vector<HostileCase> damaged() {
  const std::string good = config_for(Lab::get() / "retina");
  return {
      yaml("empty", "", "a configuration is a map"),
      yaml("a comment", "# nothing\n", "a configuration is a map"),
      yaml("a word", "word", "a configuration is a map"),
      yaml("a list", "[1, 2]", "a configuration is a map"),
      yaml("a list left open", "model: [1\n", "line"),
      yaml("a map left open", "model: {a: 1\n", "line"),
      yaml("a quote left open", good + "device: 'cpu", "a quote is left open"),
      yaml("a double quote left open", good + "device: \"cpu\n", "a quote is left open"),
      yaml("a tab for indentation", "model:\n\ta: 1\n", "line 2"),
      yaml("two documents", good + "---\n" + good, "more than one YAML document"),
      yaml("an alias of nothing", "a: *nobody\n", "line 1"),
      yaml("an alias in its own value", "a: &a [*a]\n", "its own value"),
      yaml("not UTF-8", good + "device: \xff\n", "not UTF-8"),
      yaml("a zero byte", good + std::string("device: c\0pu\n", 13), "a control character: 0"),
      yaml("an end of transmission", good + "\x04 training: lost", "a control character: 4"),
      yaml("UTF-16", "\xff\xfe" + std::string("a\0:\0 \0001\0", 8), "not UTF-8"),
      yaml("a key that is a list", "? [1, 2]\n: 3\n", "a key must be a word"),
      yaml("a key twice", good + "seed: 8\n", "duplicate key 'seed'"),
      yaml("a key twice, once quoted", good + "'seed': 8\n", "duplicate key 'seed'"),
      yaml("a key twice in a section", replaced(good, "  batch_size: 8", "  batch_size: 8\n  batch_size: 9"),
           "duplicate key 'batch_size'"),
      yaml("a key of two lines twice", good + "\"a\\nb\": 1\n\"a\\nb\": 2\n", "duplicate key 'a?b'"),
      yaml("anchors that explode", bomb(9), "more than 100000 values"),
      yaml(
          "anchors that explode in depth",
          [] {
            std::string text = "a0: &a0 [x]\n";
            for (int i = 1; i < 40; ++i) text += fovea::text("a", i, ": &a", i, " [*a", i - 1, "]\n");
            return text;
          }(),
          "nested deeper than 32"),
      yaml("deep lists", std::string(100000, '['), "line 1"),
      yaml("deep maps", repeated("{a: ", 50000), "line 1"),
      yaml("deep blocks", repeated("- ", 50000) + "x", "nested deeper than 32"),
      yaml("a hundred thousand keys", numbered_keys(60000), "more than 4096 keys"),
      yaml("half a million values", "a: [" + repeated("1,", 500000) + "]", "more than 100000 values"),
      yaml("a tuple left open", "a: (1, 2\n", "line 1: a tuple is left open"),
      yaml("a tuple left open in a list", "a: 1\nb: [(1, 2]\n", "line 2: a tuple is left open"),
      yaml("a tuple left open in a map", "a: {b: (1, 2, c: 3}\n", "line 1: a tuple is left open"),
      yaml("deep tuples", repeated("(", 300000) + repeated(",)", 300000), "nested deeper than 32"),
      yaml("deep tuples in a list", "[" + repeated("((1,),", 100000) + repeated(")", 100000) + "]",
           "nested deeper than 32"),
      yaml("half a million values in a tuple", "a: (" + repeated("1,", 500000) + ")",
           "more than 100000 values"),
      yaml("half a million values in tuples", "a: [" + repeated("(1,),", 200000) + "]",
           "more than 100000 values"),
      yaml("two megabytes", std::string(2 << 20, 'x'), "larger than"),
  };
}

std::vector<HostileCase> unknown() {
  return {
      line("experiment: tiny", "experimnt: tiny", "did you mean 'experiment'"),
      line("training:", "trainings:", "did you mean 'training'"),
      line("  batch_size: 8", "  batchsize: 8", "did you mean 'batch_size'"),
      line("  max_epochs: 3", "  max_epoch: 3", "did you mean 'max_epochs'"),
      line("  max_epochs: 3", "  optimizer: {class: AdamW, beta: [0, 0]}", "did you mean 'betas'"),
      model("  dropout_rate: 0.1", "  dropout: 0.1", "unknown parameter 'dropout'"),
      model("  class: CoreReadout", "  class: CoreReadot", "did you mean 'CoreReadout'"),
      yaml("a key that clears the terminal", config_text + std::string("\"\\e[2J\\a\": 1\n"),
           "unknown parameter '?[2J?'"),
  };
}

std::vector<HostileCase> impossible_models() {
  constexpr auto shape = "  in_shape: [1, 30, 16, 16]";
  constexpr auto channels = "  hidden_channels: [3]";
  constexpr auto counts = "  dropout_rate: 0.1\n  n_neurons_dict: ";
  return {
      model(shape, "  in_shape: []", "a list of 4"),
      model(shape, "  in_shape: [1, 30, 16, 16, 1]", "a list of 4"),
      model(shape, "  in_shape: [0, 30, 16, 16]", "at least 1"),
      model(shape, "  in_shape: [1, 30, -16, 16]", "at least 1"),
      model(shape, "  in_shape: [1, 30, 1.5, 16]", "a whole number"),
      model(shape, "  in_shape: [1, 30, 4611686018427387904, 16]", "in_shape must be at most"),
      model(shape, "  in_shape: [1, 30, 99999999999999999999, 16]", "a whole number"),
      model(shape, "  in_shape: [2, 30, 16, 16]", "in_shape must fit"),
      model(shape, "  in_shape: (2, 30, 16, 16)", "in_shape must fit"),
      model(shape, "  in_shape: (1, 30, 16)", "a list of 4"),
      model(channels, "  hidden_channels: []", "at least one number"),
      model(channels, "  hidden_channels: [0]", "at least 1"),
      model(channels, "  hidden_channels: 3", "a list"),
      model(channels, "  hidden_channels: [3, 3]", "equal lengths"),
      model(channels, "  hidden_channels: [4611686018427387904]", "at most 1e+09 weights"),
      model("  spatial_kernel_sizes: [5]", "  spatial_kernel_sizes: [17]", "too small"),
      model("  temporal_kernel_sizes: [6]", "  temporal_kernel_sizes: [-6]", "at least 1"),
      model("  dropout_rate: 0.1", "  dropout_rate: .nan", "model.dropout_rate must be finite: nan"),
      model("  dropout_rate: 0.1", "  learning_rate: .inf", "model.learning_rate must be finite: inf"),
      model("  dropout_rate: 0.1", "  core_gamma_input: -1", "core_gamma_input must be"),
      model("  dropout_rate: 0.1", "  core_input_padding: [9999999999, 0, 0]",
            "core_input_padding[0] must be"),
      model("  dropout_rate: 0.1", "  maxpool_every_n_layers: .nan", "maxpool_every_n_layers must be finite"),
      model("  dropout_rate: 0.1", std::string(counts) + "{simulated_retina: 7}", "must agree with"),
      model("  dropout_rate: 0.1", std::string(counts) + "{simulated_retina: -6}", "6"),
      model("  dropout_rate: 0.1", std::string(counts) + "{a/b: 6}", "a/b"),
      model("  dropout_rate: 0.1", std::string(counts) + "{a: 6, a: 6}", "duplicate key 'a'"),
      before_data("{a: 10000000}", "at most 1e+09 weights"),
      before_data("{'': 6}", "named without"),
      before_data("{\"a\\tb\": 6}", "control characters"),
  };
}

std::vector<HostileCase> impossible_runs() {
  constexpr auto batch = "  batch_size: 8", names = "  test_names: [wn_test]";
  return {
      line("seed: 7", "seed: -1", "seed must be"),
      line("seed: 7", "seed: .nan", "a whole number"),
      line("seed: 7", "device: tpu", "device must be"),
      line("seed: 7", "threads: 100000", "threads must be"),
      line("experiment: tiny", "experiment: ../up", "experiment must be"),
      line("experiment: tiny", "experiment: [tiny]", "a text"),
      line(batch, "  batch_size: 0", "batch_size must be at least 1"),
      line(batch, "  batch_size: -8", "batch_size must be at least 1"),
      line(batch, "  batch_size: 8.5", "a whole number"),
      line(batch, "  batch_size: eight", "a whole number"),
      line(batch, "  batch_size: [8]", "a whole number"),
      line(batch, "  batch_size: 9223372036854775807", "must lie in 1"),
      line(batch, "  normalize: {mean: .nan, std: 1}", "[data.normalize] mean must be a finite number: nan"),
      line(batch, "  normalize: {mean: 0, std: 0}", "[data.normalize] std must be a finite number above 0"),
      line(names, "  test_names: wn_test", "a list"),
      line(names, "  test_names: [wn_test, wn_test]", "twice"),
      line(names, "  test_names: [other]", "no session has responses_other"),
      line("  max_epochs: 3", "  max_epochs: 0", "max_epochs must be"),
      line("  max_epochs: 3", "  gradient_clip: .nan", "gradient_clip must be"),
      line("  max_epochs: 3", "  scheduler: {factor: 1}", "factor must be"),
      training(batch, "  batch_size: 2147483647", "batch_size: session"),
      training("  train_chunk_size: 30", "  train_chunk_size: 2147483647", "train_chunk_size"),
      data("  clip_length: 60", "  clip_length: 2147483647", "num_val_clips"),
      data("  num_val_clips: 2", "  num_val_clips: 2147483647", "num_val_clips"),
      training("  max_epochs: 3", "  freeze: [cor]", "did you mean 'core'"),
      training("experiment: tiny", "experiment: " + std::string(300, 'x'), "at most 200 bytes"),
  };
}

HostileCase right(const std::string& name, const std::string& content, const std::string& out) {
  HostileCase one = yaml(name, content, out, {{"describe", "run.yaml"}, {"data", "run.yaml"}});
  one.accepted = true;
  return one;
}

std::vector<HostileCase> right_configs() {
  const std::string good = config_for(Lab::get() / "retina");
  return {
      right("as it is", good, ""),
      right("an end of its own", good + "...\n", ""),
      right("an anchor and its alias",
            replaced(replaced(good, "[6]", "&size [6]"), "spatial_kernel_sizes: [5]",
                     "spatial_kernel_sizes: *size"),
            ""),
      right("a quote that ends with the file", good + "device: 'cpu'", ""),
  };
}

}  // namespace

std::vector<HostileCase> config_cases() {
  std::vector<HostileCase> cases;
  for (const auto& table : {damaged(), unknown(), impossible_models(), impossible_runs(), right_configs()})
    cases.insert(cases.end(), table.begin(), table.end());
  return cases;
}

}  // namespace fovea::test

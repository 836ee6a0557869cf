#include "training/run_config.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "training/yaml.hpp"

namespace fovea {

namespace {

const ParameterTable<Normalization>& normalization_table() {
  using O = Normalization;
  static const ParameterTable<O> table =
      ParameterTable<O>("data.normalize")
          .require("mean", &O::mean, "float", "subtracted from the stimulus", finite())
          .require("std", &O::deviation, "float", "that the stimulus is divided by", finite_above(0));
  return table;
}

void read_normalize(const std::string& where, const Json& value, DataOptions& options) {
  if (value.is_boolean()) {
    options.normalize = value.get<bool>() ? NormalizeMode::training_movie : NormalizeMode::none;
  } else if (value.is_object()) {
    options.normalize = NormalizeMode::given;
    options.given_normalization = normalization_table().parse(value);
  } else {
    refuse_value(where, "normalize",
                 "true, false or {mean: m, std: s}" + nearest_hint(value, {"true", "false"}), value);
  }
}

Json write_normalize(const DataOptions& options) {
  if (options.normalize == NormalizeMode::given)
    return normalization_table().write(options.given_normalization);
  return options.normalize == NormalizeMode::training_movie;
}

const Check<std::int64_t> seed_check = must_be<std::int64_t>(
    "0 to 2^32 - 1", [](std::int64_t seed) { return seed >= 0 && seed < (std::int64_t{1} << 32); });

const Check<std::string> format_check = one_of({"openretina_hdf5", static_format});

void read_data_seed(const std::string& where, const Json& value, DataOptions& options) {
  std::int64_t seed = 0;
  read_json(where, "seed", value, seed);
  seed_check(where, "seed", seed);
  options.seed = static_cast<std::uint64_t>(seed);
}

bool is_folder_name(const std::string& name) {
  return !name.empty() && name.size() <= 200 && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(),
                      [](unsigned char c) { return c == '/' || c < 0x20 || c == 0x7f; });
}

/// Models take their section as JSON, which has no such numbers and would turn them into null.
void check_finite(const std::string& key, const Json& value) {
  if (value.is_number_float() && !std::isfinite(value.get<double>()))
    throw ConfigError("config", text(key, " must be finite: ", value.get<double>()));
  if (value.is_array())
    for (std::size_t i = 0; i < value.size(); ++i) check_finite(element_key(key, i), value[i]);
  if (value.is_object())
    for (const auto& [name, element] : value.items()) check_finite(text(key, '.', name), element);
}

ParameterTable<RunConfig> top_table() {
  using O = RunConfig;
  return ParameterTable<O>("config")
      .add("experiment", &O::experiment, "str", "names the folder of the runs",
           must_be<std::string>("a folder name of at most 200 bytes, without control characters",
                                is_folder_name))
      .add("seed", &O::seed, "int", "of the fresh parameters and of training", seed_check)
      .add("device", &O::device, "str", "where kernels run", one_of({"auto", "cpu", "cuda", "emulator"}))
      .add("threads", &O::threads, "int", "CPU threads; 0: all",
           must_be<std::int64_t>("0 to 1024", [](std::int64_t count) { return count >= 0 && count <= 1024; }))
      .add("output", &O::output, "path", "folder of all runs");
}

const std::vector<std::string> sections{"model", "data", "training"};

void resolve(std::string& path, const std::filesystem::path& folder) {
  if (!path.empty() && std::filesystem::path(path).is_relative() && !folder.empty())
    path = (folder / path).string();
}

/// The key of an override, "data.path" of "data.path=x".
std::string key_of(const std::string& assignment) { return assignment.substr(0, assignment.find('=')); }

bool overrides_key(const std::vector<std::string>& overrides, const std::string& key) {
  for (const std::string& one : overrides)
    if (key_of(one) == key || key.compare(0, key_of(one).size() + 1, key_of(one) + ".") == 0) return true;
  return false;
}

}  // namespace

const ParameterTable<DataOptions>& data_table() {
  using O = DataOptions;
  const auto positive = at_least<std::int64_t>(1);
  static const ParameterTable<O> table =
      ParameterTable<O>("data")
          .add("format", &O::format, "str", "layout of the recording", format_check)
          .require("path", &O::path, "path", "folder with the session files and stimuli/")
          .add("test_names", &O::test_names, "list of str",
               "stimuli that are test movies; the others are for training")
          .add_custom("normalize", "bool or {mean, std}",
                      "z-score the stimulus with mean and unbiased deviation of the training movie, or with "
                      "given ones",
                      read_normalize, write_normalize)
          .add("batch_size", &O::batch_size, "int", "samples of a batch", positive)
          .add("train_chunk_size", &O::train_chunk_size, "int", "frames of a training sample", positive)
          .add("clip_length", &O::clip_length, "int", "frames of a validation clip", positive)
          .add("num_val_clips", &O::num_val_clips, "int", "validation clips", positive)
          .add_custom("seed", "int", "of the draw of validation clips", read_data_seed,
                      [](const O& options) { return Json(options.seed); })
          .add("allow_over_boundaries", &O::allow_over_boundaries, "bool",
               "whether training samples may reach over the border of two clips")
          .add("frames_per_image", &O::frames_per_image, "int",
               "for models of images: how many frames in a row are the channels of one", positive);
  return table;
}

DataOptions parse_data_options(const Json& section) {
  if (section.is_null()) throw ConfigError("data", "the section is missing");
  DataOptions options = data_table().parse(section);
  check(options);
  return options;
}

static DataOptions parse_optional_data(Json section) {
  if (section.is_null()) section = Json::object();
  if (!section.is_object() || section.contains("path")) return parse_data_options(section);
  section["path"] = "none yet";  // the table and the check require one
  DataOptions options = parse_data_options(section);
  options.path.clear();
  return options;
}

/// The options of whatever format the section says, in their field of the configuration.
static void parse_data(Json section, DataSection needed, RunConfig& config) {
  // First of all: a wrong format would be told as unknown keys of another one.
  if (section.is_object() && section.value("format", Json()).is_string())
    format_check("data", "format", section["format"]);
  if (!section.is_object() || section.value("format", Json()) != Json(static_format)) {
    config.data = needed == DataSection::required ? parse_data_options(section)
                                                  : parse_optional_data(std::move(section));
    return;
  }
  config.data.format = static_format;
  const bool given = needed == DataSection::required || section.contains("paths");
  if (!given) section["paths"] = Json::array({"none yet"});  // the table and the check require one
  config.static_data = parse_static_data_options(section);
  if (!given) config.static_data->paths.clear();
}

Json write_data_options(const DataOptions& options) { return data_table().write(options); }

/// Of the `model:` section, but about the data: the model does not know it.
static void take_init_positions(RunConfig& config) {
  constexpr auto key = "init_positions";
  if (!config.model.is_object() || !config.model.contains(key)) return;
  const Json given = config.model[key];
  config.model.erase(key);
  if (given.is_null()) return;
  if (!given.is_string() || given != "responses")
    refuse_value("model", key, "responses or null" + nearest_hint(given, {"responses", "null"}), given);
  if (!config.static_data)
    throw ConfigError("model",
                      text(key, ": responses needs data.format ", static_format, ": ", config.data.format));
  config.init_at_receptive_fields = true;
}

RunConfig parse_run_config(const Json& document, DataSection data) {
  RunConfig config = top_table().parse(document, sections);
  const auto section = [&](const char* name) { return document.contains(name) ? document[name] : Json(); };
  config.model = section("model");
  if (!config.model.is_object() && !config.model.is_null())
    refuse_value("config", "model", "a section", config.model);
  check_finite("model", config.model);
  parse_data(section("data"), data, config);
  take_init_positions(config);
  config.training = parse_training_options(section("training"));
  return config;
}

RunConfig read_run_config(const std::string& path, const std::vector<std::string>& overrides,
                          DataSection data) {
  Json document = read_yaml_file(path);
  if (!document.is_object()) throw FormatError(path, "a configuration is a map of sections");
  for (const std::string& one : overrides) apply_override(document, one);
  RunConfig config = parse_run_config(document, data);
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!overrides_key(overrides, "data.path")) resolve(config.data.path, folder);
  if (config.static_data && !overrides_key(overrides, "data.paths"))
    for (std::string& one : config.static_data->paths) resolve(one, folder);
  for (const char* key : {"init_mask", "init_weights"}) {
    if (!config.model.is_object() || !config.model.contains(key) || !config.model[key].is_string()) continue;
    std::string file = config.model[key].get<std::string>();
    if (!overrides_key(overrides, text("model.", key))) resolve(file, folder);
    config.model[key] = file;
  }
  if (document.contains("output") && !overrides_key(overrides, "output")) resolve(config.output, folder);
  return config;
}

Json write_run_config(const RunConfig& config) {
  Json document = top_table().write(config);
  document["model"] = config.model;
  if (config.init_at_receptive_fields) document["model"]["init_positions"] = "responses";
  document["data"] =
      config.static_data ? write_static_data_options(*config.static_data) : write_data_options(config.data);
  document["training"] = write_training_options(config.training);
  return document;
}

}  // namespace fovea

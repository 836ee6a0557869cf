#include "training/checkpoint.hpp"

#include "models/parameters.hpp"
#include "models/registry.hpp"

namespace fovea {
namespace {

constexpr auto format = "fovea.checkpoint";
constexpr auto version = "1";
constexpr std::string_view model_prefix = "model.", avg_prefix = "exp_avg.", avg_sq_prefix = "exp_avg_sq.",
                           steps_prefix = "steps.";

bool starts_with(const std::string& text, std::string_view prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

Json write_state(const TrainingState& state) {
  Json history = Json::array();
  for (const EpochMetrics& epoch : state.history) history.push_back(write_metrics(epoch));
  Json scheduler, stopping;
  if (state.scheduler)
    scheduler = {{"learning_rate", write_number(state.scheduler->learning_rate)},
                 {"best", write_number(state.scheduler->best)},
                 {"bad_epochs", state.scheduler->bad_epochs}};
  if (state.stopping)
    stopping = {{"best", write_number(state.stopping->best)}, {"wait_count", state.stopping->wait_count}};
  return {{"epoch", state.epoch},
          {"batch", state.batch},
          {"steps", state.steps},
          {"sums", write_metrics(state.sums)},
          {"samples", state.samples},
          {"history", history},
          {"best_metric", write_number(state.best.metric)},
          {"best_epoch", state.best.epoch},
          {"scheduler", scheduler},
          {"early_stopping", stopping},
          {"stopped_early", state.stopped_early},
          {"seconds", write_number(state.seconds)},
          {"seed", state.seed},
          {"data_hash", state.data_hash}};
}

std::int64_t read_count(const Json& from, const char* key, std::int64_t least = 0) {
  constexpr std::int64_t most = std::int64_t{1} << 53;  // whole numbers in f64 too
  std::int64_t value = 0;
  read_json("state", key, from.at(key), value);
  if (value < least || value > most) refuse_value("state", key, text(least, " to 2^53"), from.at(key));
  return value;
}

TrainingState read_state(const Json& object) {
  TrainingState state;
  state.epoch = read_count(object, "epoch");
  state.batch = read_count(object, "batch");
  state.steps = read_count(object, "steps");
  state.sums = read_metrics(object.at("sums"));
  state.samples = read_count(object, "samples");
  for (const Json& epoch : object.at("history")) state.history.push_back(read_metrics(epoch));
  state.best = {read_number(object.at("best_metric")), read_count(object, "best_epoch", -1)};
  if (const Json& one = object.at("scheduler"); !one.is_null())
    state.scheduler = {read_number(one.at("learning_rate")), read_number(one.at("best")),
                       read_count(one, "bad_epochs")};
  if (const Json& one = object.at("early_stopping"); !one.is_null())
    state.stopping = {read_number(one.at("best")), read_count(one, "wait_count")};
  state.stopped_early = object.at("stopped_early").get<bool>();
  state.seconds = read_number(object.at("seconds"));
  state.seed = static_cast<std::uint64_t>(read_count(object, "seed"));
  state.data_hash = object.at("data_hash").get<std::string>();
  return state;
}

const Tensor& required(const Checkpoint& checkpoint, std::string_view prefix, const std::string& name,
                       const Shape& shape, DType dtype) {
  const std::string full = std::string(prefix) + name;
  const Tensor* found = checkpoint.content.find(full);
  if (!found) throw FormatError("checkpoint", text("missing tensor ", full));
  if (found->shape() != shape || found->dtype() != dtype)
    throw FormatError("checkpoint",
                      text(full, " must be ", dtype, ' ', shape, ": ", found->dtype(), ' ', found->shape()));
  return *found;
}

}  // namespace

std::string checkpoint_path(const std::string& run_folder) { return run_folder + "/last.ckpt.safetensors"; }

void save_checkpoint(const std::string& path, const Model& model, const ParameterArena& arena,
                     const TrainingState& state) {
  Safetensors content;
  const auto add = [&](std::string_view prefix, const std::string& name, const Tensor& tensor) {
    content.tensors.emplace_back(std::string(prefix) + name, tensor);
  };
  for (const NamedTensor& one : model.tensors()) add(model_prefix, one.name, one.tensor);
  for (const ParameterArena::Parameter& parameter : arena.parameters()) {
    add(avg_prefix, parameter.name, arena.exp_avg(parameter));
    add(avg_sq_prefix, parameter.name, arena.exp_avg_sq(parameter));
    add(steps_prefix, parameter.name,
        Tensor::from(std::vector<std::int64_t>{parameter.steps}, {}, parameter.tensor.device()));
  }
  content.metadata = {{"format", format},
                      {"version", version},
                      {"config", model.config()},
                      {"state", write_state(state).dump()}};
  write_safetensors(path, content);
}

Checkpoint read_checkpoint(const std::string& path, const Device& device) {
  Checkpoint checkpoint;
  checkpoint.content = read_safetensors(path, device);
  const auto field = [&](const char* key) -> const std::string& {
    const auto found = checkpoint.content.metadata.find(key);
    if (found == checkpoint.content.metadata.end())
      throw FormatError(path, text("a checkpoint needs metadata '", key, "'"));
    return found->second;
  };
  if (field("format") != format)
    throw FormatError(path, text("format must be '", format, "': '", field("format"), "'"));
  if (field("version") != version)
    throw FormatError(path, text("version must be '", version, "': '", field("version"), "'"));
  checkpoint.model_config = field("config");
  try {
    checkpoint.state = read_state(parse_json(path, field("state")));
  } catch (const Json::exception& error) {
    throw FormatError(path, text("state: ", error.what()));
  } catch (const Error& error) {
    throw FormatError(path, text("state: ", error.what()));
  }
  return checkpoint;
}

std::unique_ptr<Model> make_model(const Checkpoint& checkpoint, const Placement& placement) {
  check_claim(checkpoint.model_config, checkpoint.content.tensors);
  std::unique_ptr<Model> model = make_model(checkpoint.model_config, placement);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, tensor] : checkpoint.content.tensors)
    if (starts_with(name, model_prefix)) tensors.emplace_back(name.substr(model_prefix.size()), tensor);
  for (const auto& [name, tensor] : tensors)
    if (tensor.dtype() != DType::i64 && tensor.dtype() != placement.dtype)
      throw FormatError("checkpoint",
                        text("was written with ", tensor.dtype(), ", not ", placement.dtype, ": ", name));
  load_tensors(*model, tensors, "checkpoint");
  return model;
}

void restore_moments(const Checkpoint& checkpoint, ParameterArena& arena) {
  for (std::size_t i = 0; i < arena.parameters().size(); ++i) {
    const ParameterArena::Parameter& parameter = arena.parameters()[i];
    const Shape& shape = parameter.tensor.shape();
    const DType dtype = parameter.tensor.dtype();
    arena.exp_avg(parameter).copy_from(required(checkpoint, avg_prefix, parameter.name, shape, dtype));
    arena.exp_avg_sq(parameter).copy_from(required(checkpoint, avg_sq_prefix, parameter.name, shape, dtype));
    const auto steps =
        required(checkpoint, steps_prefix, parameter.name, {}, DType::i64).to_vector<std::int64_t>()[0];
    if (steps < 0)
      throw FormatError("checkpoint", text("steps.", parameter.name, " must be at least 0: ", steps));
    arena.set_steps(i, steps);
  }
}

}  // namespace fovea

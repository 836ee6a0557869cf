#include "training/trainer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>

#include "engine/atomic_file.hpp"
#include "fovea/version.hpp"
#include "models/registry.hpp"
#include "training/run_config.hpp"
#include "training/trainability.hpp"

namespace fovea {
namespace {

// Stream of the generator that dropout draws from; its step is the number of batches since the run began.
constexpr std::uint32_t dropout_stream = 0x64726f70;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool raised(const std::atomic<bool>* stop) { return stop && stop->load(); }

}  // namespace

std::string create_run_folder(const std::string& output, const std::string& experiment) {
  namespace fs = std::filesystem;
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y-%m-%d_%H-%M-%S", &local);
  const fs::path parent = fs::path(output) / experiment;
  std::error_code error;
  const bool made = fs::create_directories(parent, error);
  if (error) throw Error("train", text("cannot create ", parent.string(), ": ", error.message()));
  if (made) sync_folder(parent.parent_path().string());
  for (int attempt = 1;; ++attempt) {
    const fs::path folder = parent / (attempt == 1 ? std::string(stamp) : text(stamp, '_', attempt));
    if (fs::create_directory(folder, error)) {
      sync_folder(parent.string());
      return folder.string();
    }
    if (error) throw Error("train", text("cannot create ", folder.string(), ": ", error.message()));
  }
}

Trainer::Trainer(Model& model, const TrainingData& data, const RunOptions& options, TrainingHooks hooks)
    : model_(freeze(model, options.training.freeze)),
      data_(data),
      options_(options),
      hooks_(std::move(hooks)),
      step_(model, options.training) {
  data.check_trainable(model);
  batches_ = data.training_batches(model, options.seed);
  validation_ = data.validation(model);
  if (options.training.scheduler) scheduler_.emplace(*options.training.scheduler, model.learning_rate());
  if (options.training.early_stopping) stopping_.emplace(*options.training.early_stopping);
  if (const std::string bad = step_.first_bad_tensor(); !bad.empty())
    throw ConfigError("train", text("the model starts with a value that is not finite, first in ", bad));
  state_.seed = options.seed;
  state_.data_hash = data.content_hash();
}

Trainer::Trainer(Model& model, std::unique_ptr<TrainingData> data, const RunOptions& options,
                 TrainingHooks hooks)
    : Trainer(model, *data, options, std::move(hooks)) {
  own_data_ = std::move(data);
}

Trainer::Trainer(Model& model, const DataSet& data, const RunOptions& options, TrainingHooks hooks)
    : Trainer(model, training_data(data, options.data), options, std::move(hooks)) {}

void Trainer::begin(const std::string& folder) {
  options_.folder = folder;
  save();
}

void Trainer::resume(const Checkpoint& checkpoint) {
  const TrainingState& state = checkpoint.state;
  if (state.seed != options_.seed)
    throw ConfigError("train",
                      text("the checkpoint was trained with seed ", state.seed, ", not ", options_.seed));
  if (state.data_hash != state_.data_hash)
    throw ConfigError("train", text("the data changed since the checkpoint: hash ", state.data_hash,
                                    " then, ", state_.data_hash, " now"));
  if (state.scheduler.has_value() != scheduler_.has_value() ||
      state.stopping.has_value() != stopping_.has_value())
    throw ConfigError("train", "scheduler and early stopping of the checkpoint are not those of this run");
  if (state.batch > batches_->batches_per_epoch())
    throw FormatError(
        "train", text("the checkpoint stands at batch ", state.batch, " of ", batches_->batches_per_epoch()));
  restore_moments(checkpoint, step_.arena());
  state_ = state;
  saved_ = true;
  if (scheduler_) scheduler_->restore(*state.scheduler);
  if (stopping_) stopping_->restore(*state.stopping);
}

double Trainer::learning_rate() const {
  return scheduler_ ? scheduler_->state().learning_rate : model_.learning_rate();
}

void Trainer::log(const std::string& line) const {
  if (hooks_.log) hooks_.log(line);
}

std::string Trainer::place() const {
  return text("epoch ", state_.epoch, ", step ", state_.steps,
              session_.empty() ? "" : ", session " + session_);
}

/// A checkpoint with such a value would replace one that can be resumed by one that cannot.
void Trainer::check_finite() const {
  const std::string bad = step_.first_bad_tensor();
  if (!bad.empty())
    throw Error("train", text(place(), ": a value is not finite after the step, first in ", bad));
}

void Trainer::save() {
  check_finite();
  if (scheduler_) state_.scheduler = scheduler_->state();
  if (stopping_) state_.stopping = stopping_->state();
  if (options_.folder.empty()) return;
  save_checkpoint(checkpoint_path(options_.folder), model_, step_.arena(), state_);
  saved_ = true;
}

void Trainer::save_best() const {
  if (!options_.folder.empty()) save_model(options_.folder + "/model.safetensors", model_, provenance());
}

TrainingResult Trainer::run(const std::atomic<bool>* stop) {
  if (!saved_) save();
  TrainingEnd end = TrainingEnd::max_epochs;
  while (!state_.stopped_early && state_.epoch < options_.training.max_epochs) {
    if (raised(stop) || run_epoch(stop) == EpochEnd::interrupted) {
      log(text("interrupted in epoch ", state_.epoch, " after batch ", state_.batch));
      return {TrainingEnd::interrupted, state_.epoch, state_.best};
    }
  }
  if (state_.stopped_early) end = TrainingEnd::early_stopping;
  // Without a single comparable epoch the last one is all there is.
  if (state_.best.epoch < 0) save_best();
  return {end, state_.epoch, state_.best};
}

Trainer::EpochEnd Trainer::run_epoch(const std::atomic<bool>* stop) {
  const Clock::time_point start = Clock::now();
  const double before = state_.seconds;
  const auto interrupted = [&] {
    state_.seconds = before + seconds_since(start);
    save();
    return EpochEnd::interrupted;
  };
  if (!train_batches(stop)) return interrupted();
  if (raised(stop)) return interrupted();
  const ValidationScores scores = validation_->run(model_, step_.memory());
  state_.seconds = before + seconds_since(start);
  finish_epoch(scores);
  return EpochEnd::done;
}

/// False when `stop` was raised; then the state stands between two optimizer steps.
bool Trainer::train_batches(const std::atomic<bool>* stop) {
  const std::int64_t batches = batches_->batches_per_epoch();
  batches_->seek(state_.epoch, state_.batch);
  while (state_.batch < batches) {
    if (raised(stop) && !step_.accumulating()) return false;
    const Batch& batch = *batches_->next();
    session_ = batch.session;
    Random random(options_.seed, dropout_stream,
                  static_cast<std::uint32_t>(state_.epoch * batches + state_.batch));
    StepLosses losses;
    try {
      losses = step_.run({batch.session, batch.stimulus, batch.pupil_center, {}}, batch.responses,
                         {learning_rate(), &random, state_.batch + 1 == batches});
    } catch (const NonFiniteError& error) {
      throw Error("train", text(place(), ": ", error.what()));
    }
    state_.steps += losses.updated;
    ++state_.batch;
    count(losses, batch.stimulus.shape()[0]);
    if (hooks_.on_batch) hooks_.on_batch(state_.epoch, state_.batch, batches, losses);
  }
  return true;
}

void Trainer::count(const StepLosses& losses, std::int64_t samples) {
  const double weight = static_cast<double>(samples);
  state_.samples += samples;
  state_.sums.train_loss += weight * losses.loss;
  state_.sums.train_total_loss += weight * losses.total;
  state_.sums.regularization_loss_core += weight * losses.core_regularizer;
  state_.sums.regularization_loss_readout += weight * losses.readout_regularizer;
  state_.sums.train_evaluation_loss += weight * losses.metric;
}

void Trainer::finish_epoch(const ValidationScores& scores) {
  check_finite();  // before the first file
  EpochMetrics metrics = state_.sums;
  for (double EpochMetrics::*column :
       {&EpochMetrics::train_loss, &EpochMetrics::train_total_loss, &EpochMetrics::regularization_loss_core,
        &EpochMetrics::regularization_loss_readout, &EpochMetrics::train_evaluation_loss})
    metrics.*column /= static_cast<double>(state_.samples);
  metrics.epoch = state_.epoch;
  metrics.step = state_.steps;
  metrics.lr = learning_rate();
  metrics.val_loss = scores.loss;
  metrics.val_evaluation_loss = scores.metric;
  metrics.seconds = state_.seconds;

  const bool best = state_.best.step(state_.epoch, metrics.val_evaluation_loss);
  if (scheduler_) scheduler_->step(metrics.value(options_.training.scheduler->monitor));
  if (stopping_)
    state_.stopped_early = stopping_->step(metrics.value(options_.training.early_stopping->monitor));
  state_.history.push_back(metrics);
  ++state_.epoch;
  state_.batch = 0;
  state_.samples = 0;
  state_.sums = {};
  state_.seconds = 0;

  // The checkpoint comes last: a run killed before it repeats the epoch and writes the other files again.
  if (best) save_best();
  if (!options_.folder.empty())
    write_file_atomically(options_.folder + "/metrics.csv", metrics_csv(state_.history));
  save();

  if (hooks_.on_epoch) hooks_.on_epoch(metrics, best);
  if (learning_rate() != metrics.lr) log(text("learning rate ", metrics.lr, " -> ", learning_rate()));
  if (state_.stopped_early)
    log(text("early stopping after epoch ", metrics.epoch, ", best epoch ", state_.best.epoch));
}

std::string Trainer::provenance() const {
  Json object{{"fovea", version()}, {"seed", options_.seed}};
  object.update(data_.provenance());
  object["best_epoch"] = state_.best.epoch;
  object["val_evaluation_loss"] = write_number(state_.best.metric);
  if (!options_.training.freeze.empty()) object["frozen"] = options_.training.freeze;
  return object.dump();
}

namespace {

/// Trains and leaves the best values in the model.
TrainingResult train_to_best(Model& model, const TrainingData& data, const RunOptions& options,
                             const TrainingHooks& hooks, const std::atomic<bool>* stop) {
  std::vector<Tensor> best;
  TrainingHooks watching = hooks;
  watching.on_epoch = [&](const EpochMetrics& metrics, bool is_best) {
    if (is_best) {
      best.clear();
      for (const NamedTensor& one : model.tensors()) best.push_back(one.tensor.clone());
    }
    if (hooks.on_epoch) hooks.on_epoch(metrics, is_best);
  };
  const TrainingResult result = Trainer(model, data, options, watching).run(stop);
  const std::vector<NamedTensor> tensors = model.tensors();
  for (std::size_t i = 0; i < best.size(); ++i) tensors[i].tensor.copy_from(best[i]);
  return result;
}

}  // namespace

TrainingResult train(Model& model, const DataSet& data, const RunOptions& options, const TrainingHooks& hooks,
                     const std::atomic<bool>* stop) {
  return train_to_best(model, *training_data(data, options.data), options, hooks, stop);
}

TrainingResult train(Model& model, const StaticDataSet& data, const RunOptions& options,
                     const TrainingHooks& hooks, const std::atomic<bool>* stop) {
  return train_to_best(model, *training_data(data), options, hooks, stop);
}

void record_scores(const std::string& model_path, const std::vector<SessionScores>& scores) {
  Safetensors file = read_safetensors(model_path, cpu_device(1));
  Json provenance = parse_json(model_path, file.metadata.at("provenance"));
  Json& table = provenance["scores"] = Json::object();
  const auto number = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
  for (const SessionScores& session : scores) {
    Json& one = table[session.session] = {
        {"correlation", Json::array()}, {"single_trial_correlation", Json::array()}, {"feve", Json::array()}};
    for (const NeuronScore& neuron : session.neurons) {
      one["correlation"].push_back(number(neuron.correlation));
      one["single_trial_correlation"].push_back(number(neuron.single_trial_correlation));
      one["feve"].push_back(number(neuron.feve));
    }
  }
  file.metadata["provenance"] = provenance.dump();
  write_safetensors(model_path, file);
}

std::vector<std::string> frozen_of(const std::string& provenance) {
  const Json object = parse_json("provenance", provenance);
  const auto found = object.is_object() ? object.find("frozen") : object.end();
  if (!object.is_object() || found == object.end() || found->is_null()) return {};
  constexpr std::size_t most_names = 4096, longest_name = 512;
  const auto is_name = [](const Json& one) {
    return one.is_string() && !one.get_ref<const std::string&>().empty() &&
           one.get_ref<const std::string&>().size() <= longest_name;
  };
  if (!found->is_array() || found->size() > most_names || !std::all_of(found->begin(), found->end(), is_name))
    throw FormatError("provenance",
                      text("frozen needs a list of at most ", most_names, " names: ", shown(*found)));
  return found->get<std::vector<std::string>>();
}

std::optional<Normalization> normalization_of(const std::string& provenance, const std::string& session) {
  const Json object = parse_json("provenance", provenance);
  const auto found = object.is_object() ? object.find("normalization") : object.end();
  if (!object.is_object() || found == object.end() || found->is_null()) return std::nullopt;
  const bool by_session = found->is_object() && found->contains(session);
  const Json& entry = by_session ? (*found)[session] : *found;
  const auto number = [&](const char* key) {
    if (!entry.is_object() || !entry.contains(key) || !entry[key].is_number())
      throw FormatError("provenance", text("normalization needs numbers mean and std: ", entry.dump()));
    return entry[key].get<double>();
  };
  const Normalization normalization{number("mean"), number("std")};
  if (!std::isfinite(normalization.mean) || !std::isfinite(normalization.deviation) ||
      normalization.deviation <= 0)
    throw FormatError("provenance",
                      text("normalization needs a finite mean and a positive std: ", entry.dump()));
  return normalization;
}

}  // namespace fovea

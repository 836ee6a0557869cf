#include "training/options.hpp"

namespace fovea {

// Nested sections of the training table; found by argument-dependent lookup from ParameterTable.
static void read_json(const std::string& where, const std::string& key, const Json& value,
                      OptimizerOptions& into);
static void read_json(const std::string& where, const std::string& key, const Json& value,
                      SchedulerOptions& into);
static void read_json(const std::string& where, const std::string& key, const Json& value,
                      EarlyStoppingOptions& into);
static Json write_json(const OptimizerOptions& options) { return optimizer_table().write(options); }
static Json write_json(const SchedulerOptions& options) { return scheduler_table().write(options); }
static Json write_json(const EarlyStoppingOptions& options) { return early_stopping_table().write(options); }

namespace {

/// What epochs can be judged by: columns of metrics.csv.
const Check<std::string> monitored =
    one_of({"val_evaluation_loss", "val_loss", "train_loss", "train_total_loss", "train_evaluation_loss",
            "regularization_loss_core", "regularization_loss_readout"});
const Check<std::string> max_or_min = one_of({"max", "min"});

}  // namespace

const ParameterTable<OptimizerOptions>& optimizer_table() {
  using O = OptimizerOptions;
  const auto decay_rates = each<std::array<double, 2>>(
      must_be<double>("at least 0 and below 1", [](double value) { return value >= 0 && value < 1; }));
  static const ParameterTable<O> table =
      ParameterTable<O>("training.optimizer")
          .add("class", &O::class_name, "string", "the optimizer", one_of({"AdamW"}))
          .add("betas", &O::betas, "[float, float]", "decay rates of the first and second moment",
               decay_rates)
          .add("eps", &O::eps, "float", "added to the root of the second moment", finite_above(0))
          .add("weight_decay", &O::weight_decay, "float", "decoupled weight decay", finite_at_least(0));
  return table;
}

const ParameterTable<SchedulerOptions>& scheduler_table() {
  using O = SchedulerOptions;
  const auto below_one =
      must_be<double>("a number above 0 and below 1", [](double value) { return value > 0 && value < 1; });
  static const ParameterTable<O> table =
      ParameterTable<O>("training.scheduler")
          .add("class", &O::class_name, "string", "the learning rate schedule", one_of({"ReduceLROnPlateau"}))
          .add("monitor", &O::monitor, "string", "column of metrics.csv that is watched", monitored)
          .add("mode", &O::mode, "string", "whether larger (max) or smaller (min) is better", max_or_min)
          .add("factor", &O::factor, "float", "factor of a reduction", below_one)
          .add("patience", &O::patience, "int", "epochs without improvement before a reduction",
               at_least<std::int64_t>(0))
          .add("threshold", &O::threshold, "float", "least improvement that counts", finite_at_least(0))
          .add("threshold_mode", &O::threshold_mode, "string",
               "whether the threshold is absolute or relative", one_of({"abs", "rel"}))
          .add("min_lr", &O::min_lr, "float or null", "lower bound; null: learning_rate * factor^3",
               when_given(finite_at_least(0)));
  return table;
}

const ParameterTable<EarlyStoppingOptions>& early_stopping_table() {
  using O = EarlyStoppingOptions;
  static const ParameterTable<O> table =
      ParameterTable<O>("training.early_stopping")
          .add("monitor", &O::monitor, "string", "column of metrics.csv that is watched", monitored)
          .add("mode", &O::mode, "string", "whether larger (max) or smaller (min) is better", max_or_min)
          .add("patience", &O::patience, "int", "epochs in a row without improvement that end training",
               at_least<std::int64_t>(1))
          .add("min_delta", &O::min_delta, "float", "least improvement that counts", finite_at_least(0));
  return table;
}

const ParameterTable<TrainingOptions>& training_table() {
  using O = TrainingOptions;
  static const ParameterTable<O> table =
      ParameterTable<O>("training")
          .add("max_epochs", &O::max_epochs, "int", "epochs at most", at_least<std::int64_t>(1))
          .add("gradient_clip", &O::gradient_clip, "float or null", "largest global L2 norm of the gradient",
               when_given(finite_above(0)))
          .add("accumulate_grad_batches", &O::accumulate_grad_batches, "int",
               "batches whose mean gradient makes one optimizer step", at_least<std::int64_t>(1))
          .add("optimizer", &O::optimizer, "map", "see training.optimizer")
          .add("scheduler", &O::scheduler, "map or null",
               "see training.scheduler; null: constant learning rate")
          .add("freeze", &O::freeze, "list of strings",
               "names of tensors, or the parts of them before a dot (core, readout.KEY): no gradient, no "
               "decay, batch norm in evaluation mode")
          .add("early_stopping", &O::early_stopping, "map or null",
               "see training.early_stopping; null: all epochs are run");
  return table;
}

static void read_json(const std::string&, const std::string&, const Json& value, OptimizerOptions& into) {
  into = optimizer_table().parse(value);
}
static void read_json(const std::string&, const std::string&, const Json& value, SchedulerOptions& into) {
  into = scheduler_table().parse(value);
}
static void read_json(const std::string&, const std::string&, const Json& value, EarlyStoppingOptions& into) {
  into = early_stopping_table().parse(value);
}

TrainingOptions parse_training_options(const Json& section) {
  return section.is_null() ? TrainingOptions{} : training_table().parse(section);
}

Json write_training_options(const TrainingOptions& options) { return training_table().write(options); }

}  // namespace fovea

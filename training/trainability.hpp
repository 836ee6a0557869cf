// Whether a model can be trained, before it is.
#pragma once
#include <string>

#include "fovea/data.hpp"
#include "fovea/static_data.hpp"

namespace fovea {

/// ConfigError where the stimulus of the data, with its frames_per_image, is not what the model takes, or
/// where the data lack what it needs beside that.
void check_fits(const Model& model, const DataSet& data, const DataOptions& options);

/// The same for static images.
void check_fits(const Model& model, const StaticDataSet& data);

/// ShapeError where the model has another number of neurons for a session of the data; ConfigError where it
/// does not know it.
void check_neurons(const Model& model, const std::string& session, std::int64_t neurons);

/// Applies training.freeze; ConfigError for a prefix that names nothing. Returns the model.
Model& freeze(Model& model, const std::vector<std::string>& prefixes);

/// Why a model cannot be trained whatever the data, as `rule: values`; empty where it can.
std::string why_untrainable(const Model& model);
/// Why a model cannot be trained with these samples and validation clips, as `rule: values`; empty where it
/// can.
std::string why_untrainable(const Model& model, const DataOptions& options);

/// ConfigError where it does not fit these data or cannot be trained or, afterwards, tested on them.
void check_trainable(const Model& model, const DataSet& data, const DataOptions& options);

}  // namespace fovea

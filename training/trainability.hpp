// Whether a model can be trained, before it is.
#pragma once
#include <string>

#include "fovea/data.hpp"

namespace fovea {

/// Why a model cannot be trained with these samples and validation clips, as `rule: values`; empty where it
/// can.
std::string why_untrainable(const Model& model, const DataOptions& options);

/// ConfigError where it cannot be trained or, afterwards, tested on these data.
void check_trainable(const Model& model, const DataSet& data, const DataOptions& options);

}  // namespace fovea

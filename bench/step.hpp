// One step of a workload, for programs that watch its kernels.
#pragma once
#include "bench/workloads.hpp"

namespace fovea::bench {

ModelInput moved(const ModelInput& input, const Device& device);

/// The model with the values that it has on the CPU.
std::unique_ptr<Model> model_on(const Device& device, const Workload& workload, const Model& initial);

/// A prediction.
void run_inference(const Model& model, const ModelInput& input);

/// A training step, every tensor in memory of its own, AdamW over all parameters as one.
void run_step(const Model& model, const ModelInput& input, const Tensor& responses);

}  // namespace fovea::bench

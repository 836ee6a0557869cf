// The workloads of the PyTorch peer bench, by its names: whole models on random inputs of real shapes.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "fovea/model.hpp"

namespace fovea::bench {

struct Workload {
  std::string name;    ///< W1, W1n, W1s, W2, W2v, W3, W3f, W4
  std::string config;  ///< `model:` section
  std::int64_t batch = 0;
  std::int64_t frames = 1;  ///< of a movie
  std::string session = "s";
};

std::vector<Workload> workloads();
/// One new frame of W1s: the whole window of 31 frames is recomputed, batch 1.
Workload one_frame();

/// Input and responses of one batch, random but the same every time.
struct WorkloadBatch {
  ModelInput input;
  Tensor responses;
};
WorkloadBatch make_batch(const Workload& workload, const Model& model, std::int64_t batch);

/// Compares output, loss and all gradients of the model on `device` with the reference kernels in f64 on the
/// same weights, for a batch of one sample; Error naming the tensor that differs by more than f32 rounding
/// explains.
void check_against_reference(const Workload& workload, const Device& device);

}  // namespace fovea::bench

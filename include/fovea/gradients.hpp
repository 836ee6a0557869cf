// Output, loss and every gradient of one forward and backward pass: the `gradients` command.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "fovea/model.hpp"

namespace fovea {

struct GradientsInput {
  std::string session;
  Tensor stimulus;      ///< PyTorch's order: (B,C,T,H,W) or (B,C,H,W)
  Tensor responses;     ///< (B,T,N) with at least T_out frames, or (B,N)
  Tensor pupil_center;  ///< (B,2) or (B,3) for models with a shifter, else undefined
  Tensor noise;         ///< standard normal draws of a Gaussian readout in training, else undefined
};

struct Gradients {
  Tensor output;
  Tensor loss, core_regularizer, readout_regularizer, total;  ///< scalars
  std::vector<std::pair<std::string, Tensor>>
      parameters;       ///< d total, by state_dict name; zeros where unreached
  Tensor stimulus;      ///< d total, PyTorch's order
  Tensor pupil_center;  ///< d total; undefined without a pupil centre
  std::vector<std::pair<std::string, Tensor>> statistics;  ///< after a training pass, else empty
};

/// Works on a private copy of the model; in-place constraints act before the forward pass.
Gradients gradients(const Model& model, const GradientsInput& input, const Pass& pass);

}  // namespace fovea

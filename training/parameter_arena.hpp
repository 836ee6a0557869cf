// All learnable parameters of a model in one arena, and the AdamW steps over it.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "fovea/model.hpp"
#include "training/options.hpp"

namespace fovea {

/// Holds values, gradients and both AdamW moments of all learnable parameters that are not frozen in one
/// block of memory each. The model's own tensors are moved into it and stay valid; the arena must not outlive
/// the model, and a model has one arena at a time. Every parameter starts at a 64-byte boundary; the gaps are
/// zero and stay zero.
class ParameterArena {
 public:
  struct Parameter {
    std::string name;     ///< state_dict name
    std::string segment;  ///< "core", "readout.<session>", "shifter.<session>"
    Tensor tensor;
    std::int64_t begin = 0;  ///< first element in the arena
    std::int64_t count = 0;  ///< elements
    std::int64_t steps = 0;  ///< AdamW steps taken so far
  };

  explicit ParameterArena(const Model& model);
  ParameterArena(const ParameterArena&) = delete;
  ParameterArena& operator=(const ParameterArena&) = delete;

  const std::vector<Parameter>& parameters() const { return parameters_; }
  const Tensor& values() const { return values_; }  ///< (elements), gaps included
  /// Moments of one parameter, in its shape, sharing the arena's memory.
  Tensor exp_avg(const Parameter& parameter) const { return part(exp_avg_, parameter); }
  Tensor exp_avg_sq(const Parameter& parameter) const { return part(exp_avg_sq_, parameter); }
  Tensor gradient(const Parameter& parameter) const { return part(gradients_, parameter); }
  void set_steps(std::size_t index, std::int64_t steps) { parameters_.at(index).steps = steps; }

  /// Forgets all gradients: the next backward pass overwrites.
  void clear_gradients() const;

  struct Step {
    double learning_rate = 0;
    double gradient_scale = 1;  ///< 1 / accumulated batches
    std::optional<double>
        gradient_clip;  ///< largest L2 norm of the scaled gradient over all reached parameters
  };
  /// One AdamW step on every parameter that a backward pass has reached since clear_gradients; the others
  /// keep values, moments and step counts. Clipping is torch.nn.utils.clip_grad_norm_. Returns the norm of
  /// the scaled gradient before clipping; when that is not finite nothing is changed.
  double step(const OptimizerOptions& optimizer, const Step& step);

  /// Global L2 norm of the gradients that a backward pass has reached since clear_gradients.
  double gradient_norm() const { return gradient_norm(reached_runs()); }

  /// Name of the parameter whose gradient went bad first (the one closest to the loss), empty when all that
  /// were reached are finite.
  std::string first_bad_gradient() const;

 private:
  // Neighbours that were reached and have taken equally many steps: one call of the kernels.
  struct Run {
    std::int64_t begin, end, steps;
  };
  Tensor part(const Tensor& arena, const Parameter& parameter) const;
  std::vector<Run> reached_runs() const;
  double gradient_norm(const std::vector<Run>& runs) const;

  Placement placement_;
  std::vector<Parameter> parameters_;
  Tensor values_, gradients_, exp_avg_, exp_avg_sq_;
};

}  // namespace fovea

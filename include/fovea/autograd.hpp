// Reverse-mode automatic differentiation.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "fovea/tensor.hpp"

namespace fovea {

/// Accumulates d loss / d leaf into the gradient of every leaf that asks for one. The first pass that reaches
/// a leaf after clear_grad overwrites, later ones add. The history of `loss` is consumed: saved tensors are
/// freed as their node runs. `seed` is the upstream gradient, 1 by default; without it the loss must be a
/// scalar (ShapeError).
void backward(const Tensor& loss, const Tensor& seed = {});

/// While one lives, ops of this thread record no history. Nests.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};

/// Whether ops of this thread record history (the default).
bool grad_enabled();

/// An op of one's own. `forward` computes the output from the inputs (its own tensor ops are not recorded);
/// `backward` gets the upstream gradient, the inputs and the output and returns d loss / d input in the order
/// of the inputs, an undefined tensor where there is none. Both run on the device the inputs are on. A
/// gradient of the wrong shape is a ShapeError that names the op.
using CustomForward = std::function<Tensor(std::span<const Tensor> inputs)>;
using CustomBackward = std::function<std::vector<Tensor>(
    const Tensor& d_output, std::span<const Tensor> inputs, const Tensor& output)>;
Tensor custom_op(const std::string& name, const std::vector<Tensor>& inputs, CustomForward forward,
                 CustomBackward backward);

struct GradcheckOptions {
  double step = 1e-6;             ///< of the central differences, times max(1, |x|)
  double tolerance = 1e-6;        ///< largest |difference| / max(1, largest |gradient| of the input)
  std::int64_t most_entries = 0;  ///< entries tried per input, spread evenly; 0: all
  std::uint64_t seed = 1;         ///< of the random upstream gradient
};

struct GradcheckReport {
  bool passed = false;
  std::int64_t compared = 0;  ///< entries compared; a check that compared nothing has not passed
  double worst = 0;           ///< largest scaled difference
  std::string where;          ///< input and entry of the worst difference, with both values
};

/// Compares the gradients of `function` with central differences, weighted by a random upstream gradient.
/// Inputs are f64 leaves that ask for gradients (ShapeError otherwise); the function must be deterministic.
GradcheckReport gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& function,
                          const std::vector<Tensor>& inputs, const GradcheckOptions& options = {});

}  // namespace fovea

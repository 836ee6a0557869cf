// The readout of CoreReadout: one spatial mask and one feature vector per neuron.
#pragma once
#include "fovea/autograd.hpp"
#include "fovea/core_readout.hpp"

namespace fovea {

/// Readout of one session on core outputs (B,T,H,W,C). Masks are normalised Gaussians or free.
class CoreMaskReadout : public Module {
 public:
  struct Geometry {
    std::int64_t channels, height, width, neurons;
  };
  CoreMaskReadout(const Geometry& geometry, const SessionOptions& session, const CoreReadoutOptions& options,
                  const Placement& placement, Random& random);

  Tensor forward(const Tensor& x) const;  // (B,T,N)
  void apply_constraints() const;
  /// Undefined when every factor is zero.
  Tensor regularizer() const;
  const Geometry& geometry() const { return geometry_; }

 private:
  Geometry geometry_;
  CoreReadoutOptions options_;
  Tensor mask_mean_, mask_log_var_, grid_;  // Gaussian masks
  Tensor masks_;                            // free masks (H,W,N)
  Tensor features_, scale_, bias_;
};

}  // namespace fovea

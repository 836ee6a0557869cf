// MultiReadoutBase of neuralpredictors: a readout per session.
#pragma once
#include "models/image_readout.hpp"

namespace fovea {

class MultiReadout : public Module {
 public:
  /// The maps that the core gives.
  struct Geometry {
    std::int64_t channels, height, width;
  };
  /// `section` is the general one; each session's own overrides it. With `clone` every later session is
  /// alpha * first(x) + beta.
  MultiReadout(const Geometry& geometry, const std::vector<SessionOptions>& sessions, const Json& section,
               bool clone, const Placement& placement, Random& random);

  Tensor forward(std::size_t session, const Tensor& x, const ReadoutInput& input) const;
  void apply_constraints(std::size_t session) const { source(session).apply_constraints(); }
  /// Clones have none of their own.
  Tensor regularizer(std::size_t session) const;
  Shape noise_shape(std::size_t session, std::int64_t batch) const {
    return source(session).noise_shape(batch);
  }
  /// The readout of a session that is no clone.
  const ImageReadout& own(std::size_t session) const {
    if (clone_of(session))
      throw ConfigError("readout", "a cloned readout has neither weight nor positions of its own");
    return source(session);
  }
  std::string line(std::size_t session) const;
  std::int64_t parameters_of(std::size_t session) const { return module_of(session).parameter_count(); }
  std::vector<NamedTensor> tensors_of(std::size_t session) const { return module_of(session).tensors(); }

 private:
  struct Clone : Module {
    Tensor alpha, beta;  // (N)
    using Module::add_tensor;
  };

  /// What a session has of its own.
  const Module& module_of(std::size_t session) const {
    if (const Clone* clone = clone_of(session)) return *clone;
    return source(session);
  }
  /// The readout that computes for a session.
  const ImageReadout& source(std::size_t session) const { return *readouts_[clones_.empty() ? session : 0]; }
  const Clone* clone_of(std::size_t session) const {
    return clones_.empty() || session == 0 ? nullptr : clones_[session - 1].get();
  }

  std::vector<std::unique_ptr<ImageReadout>> readouts_;
  std::vector<std::unique_ptr<Clone>> clones_;  // of the sessions from the second on
};

}  // namespace fovea

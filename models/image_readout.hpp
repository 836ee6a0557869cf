// The readouts of images: one interface, its classes by name, and what they share.
#pragma once
#include <memory>

#include "fovea/model.hpp"
#include "fovea/readouts.hpp"
#include "models/registry.hpp"

namespace fovea {

/// What a readout sees besides the maps.
struct ReadoutInput {
  const Pass& pass;
  Tensor noise;  // standard normal draws; undefined: the readout's own
  Tensor shift;  // (B,2); undefined: none
};

/// Readout of one session on core outputs (B,H,W,C).
class ImageReadout : public Module {
 public:
  struct Geometry {
    std::int64_t channels, height, width, neurons;
  };
  explicit ImageReadout(const Geometry& geometry) : geometry_(geometry) {}

  virtual Tensor forward(const Tensor& x, const ReadoutInput& input) const = 0;  // (B,N)
  virtual void apply_constraints() const = 0;
  /// Undefined when its factor is zero.
  virtual Tensor regularizer() const = 0;
  /// The line that the reference prints: "full FullGaussian2d (64 x 144 x 256 -> 8372) with bias".
  virtual std::string line() const = 0;
  /// Weights (count,C,H,W) of the neurons from `first` on as one linear map; ConfigError where the class has
  /// none.
  virtual Tensor weight(std::int64_t first, std::int64_t count) const;
  /// Positions (1,N,1,2), x first; ConfigError where the class has none.
  virtual Tensor positions() const;
  /// Starts each neuron at its own place of the map: indices (N,2), x first, 0 the centre of the first pixel;
  /// rows that are not finite stay.
  virtual void start_at(const std::vector<double>& indices) const = 0;
  /// ConfigError where start_at has no places to set that are the neuron's own.
  virtual void check_startable() const {}
  /// Shape of the draws of a training pass; rank 0 where nothing is drawn.
  virtual Shape noise_shape(std::int64_t) const { return {}; }
  const Geometry& geometry() const { return geometry_; }

 protected:
  /// "(64 x 144 x 256 -> 8372) with bias"
  std::string shape_text(bool bias) const;
  /// A bias that starts at the mean activity, else 0.
  Tensor add_bias(const SessionOptions& session, const Placement& placement);
  /// The index (N) of every neuron's match id among the sorted unique ones.
  Tensor add_sharing_index(const std::string& name, const SharedByMatch& shared, const Placement& placement);

 private:
  Geometry geometry_;
};

// Found by the tables through argument-dependent lookup.
void read_json(const std::string& at, const std::string& key, const Json& value, SharedByMatch& into);
Json write_json(const SharedByMatch& shared);

std::int64_t unique_count(const SharedByMatch& shared);

/// A class of readouts.
struct ImageReadoutClass {
  const char* name;
  bool shifts;  // takes the shift of a shifter
  /// From a section with the overrides of a session in it; ConfigError names the session.
  std::unique_ptr<ImageReadout> (*make)(const ImageReadout::Geometry&, const SessionOptions&,
                                        const Json& section, const Placement&, Random&);
  /// The section with every default.
  Json (*complete)(const Json& section);
  std::vector<ParameterDocumentation> (*document)();
};
const std::vector<const ImageReadoutClass*>& image_readout_classes();
/// By the `class` of a section; ConfigError with the known names where there is none.
const ImageReadoutClass& image_readout_class(const Json& section);
Json write_readout(const FullGaussian2dOptions& options);
Json write_readout(const FullFactorized2dOptions& options);
/// The key that a session's `readout` has besides the parameters: match ids of whatever is shared.
constexpr auto match_ids_key = "match_ids";

}  // namespace fovea

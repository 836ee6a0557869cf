// Loaders of static images by tier and session, as the tutorial of the readouts uses them. Source:
// `static_loaders` of sinzlab/sensorium, nnfabrik.utility.nn_helpers.
#pragma once
#include "fovea/device.hpp"
#include "fovea/random.hpp"
#include "fovea/session_dict.hpp"
#include "fovea/static_data.hpp"

namespace fovea {

/// The batches of one tier of one session, in the order of its trials; without any where it has none.
class StaticLoader {
 public:
  StaticLoader(StaticSession session, Tier tier, std::int64_t batch_size);

  const StaticSession& session() const { return session_; }
  std::int64_t trials() const { return static_cast<std::int64_t>(session_.trials(tier_).size()); }
  std::int64_t size() const { return (trials() + batch_size_ - 1) / batch_size_; }  ///< in batches
  /// "images", "responses" and what the options include besides, in the order of the reference.
  std::vector<std::string> fields() const;
  /// Shape of every field in the first batch, in PyTorch's order, without reading data.
  SessionDict<Shape> dims() const;
  /// Reads batch `index`; the last one may have fewer trials. Errors as StaticSession::read.
  StaticBatch batch(std::int64_t index, const Placement& placement = {cpu_device(), DType::f32}) const;

 private:
  StaticSession session_;
  Tier tier_;
  std::int64_t batch_size_;
};

using LoaderDict = SessionDict<StaticLoader>;

struct StaticLoaders {
  StaticDataSet data;
  LoaderDict train, validation, test, final_test;
};

/// Errors as open_sensorium.
StaticLoaders static_loaders(const StaticDataOptions& options);

/// Shapes of the first batch of every session that has one, by session and field.
SessionDict<SessionDict<Shape>> get_dims_for_loader_dict(const LoaderDict& loaders);

/// Where all that is drawn afterwards comes from: there is no global generator.
inline Random set_random_seed(std::uint64_t seed) { return Random(seed); }

}  // namespace fovea

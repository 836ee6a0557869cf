#include "models/image_readout.hpp"

#include <algorithm>

namespace fovea {
namespace {

std::vector<std::int64_t> sorted_unique(std::vector<std::int64_t> ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace

std::string ImageReadout::shape_text(bool bias) const {
  const Geometry& g = geometry_;
  return text('(', g.channels, " x ", g.height, " x ", g.width, " -> ", g.neurons, ')',
              bias ? " with bias" : "");
}

Tensor ImageReadout::weight(std::int64_t, std::int64_t) const {
  throw ConfigError("readout", text("has positions instead of masks, so no weight: ", line()));
}

Tensor ImageReadout::positions() const {
  throw ConfigError("readout", text("has masks instead of positions: ", line()));
}

Tensor ImageReadout::add_bias(const SessionOptions& session, const Placement& p) {
  const std::int64_t neurons = geometry_.neurons;
  Tensor bias = add_tensor("bias", Role::parameter, Tensor::zeros({neurons}, p.dtype, p.device));
  if (session.mean_activity)
    bias.copy_from(Tensor::from(*session.mean_activity, {neurons}, p.device).to(p.dtype));
  return bias;
}

Tensor ImageReadout::add_sharing_index(const std::string& name, const SharedByMatch& shared,
                                       const Placement& p) {
  const std::vector<std::int64_t> ids = sorted_unique(shared.match_ids);
  std::vector<std::int64_t> index;
  for (const std::int64_t id : shared.match_ids)
    index.push_back(std::lower_bound(ids.begin(), ids.end(), id) - ids.begin());
  return add_tensor(name, Role::constant, Tensor::from(index, {geometry_.neurons}, p.device));
}

std::int64_t unique_count(const SharedByMatch& shared) {
  return static_cast<std::int64_t>(sorted_unique(shared.match_ids).size());
}

extern const ImageReadoutClass full_factorized_2d_class;  // full_factorized2d.cpp
extern const ImageReadoutClass full_gaussian_2d_class;    // full_gaussian2d.cpp

const std::vector<const ImageReadoutClass*>& image_readout_classes() {
  static const std::vector<const ImageReadoutClass*> classes{&full_gaussian_2d_class,
                                                             &full_factorized_2d_class};
  return classes;
}

const ImageReadoutClass& image_readout_class(const Json& section) {
  if (!section.is_object() || !section.contains("class"))
    refuse_value("FiringRateEncoder", "readout", "a map such as {class: FullGaussian2d, bias: true}",
                 section);
  std::vector<std::string> known;
  for (const ImageReadoutClass* one : image_readout_classes()) {
    if (section["class"] == Json(one->name)) return *one;
    known.emplace_back(one->name);
  }
  refuse_name("FiringRateEncoder", "readout.class", section["class"], known);
}

void read_json(const std::string& at, const std::string& key, const Json& value, SharedByMatch& into) {
  static const ParameterTable<SharedByMatch> table = ParameterTable<SharedByMatch>("").require(
      "match_ids", &SharedByMatch::match_ids, "[int]", "one per neuron; equal ids share");
  into = table.parse(text(at, '.', key), value, {});
}
Json write_json(const SharedByMatch& shared) { return {{"match_ids", shared.match_ids}}; }

}  // namespace fovea

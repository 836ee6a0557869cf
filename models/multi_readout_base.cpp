#include <algorithm>

#include "fovea/multi_readout.hpp"
#include "models/multi_readout.hpp"

namespace fovea {
namespace {

constexpr auto where = "MultiReadoutBase";

std::vector<SessionOptions> sessions_of(const MultiReadoutOptions& options) {
  std::vector<SessionOptions> sessions;
  const std::vector<std::string> known = options.mean_activity_dict.keys();
  for (const auto& [key, neurons] : options.n_neurons_dict) {
    sessions.push_back({key, neurons, {}, {}});
    if (neurons < 1)
      throw ConfigError(where, text("n_neurons_dict[", key, "] must be at least 1: ", neurons));
    if (std::find(known.begin(), known.end(), key) == known.end()) continue;
    const std::vector<double>& mean = options.mean_activity_dict[key];
    if (static_cast<std::int64_t>(mean.size()) != neurons)
      throw ConfigError(where,
                        text("mean_activity_dict[", key, "] must have ", neurons, " values: ", mean.size()));
    sessions.back().mean_activity = mean;
  }
  for (const std::string& key : known) (void)options.n_neurons_dict[key];
  return sessions;
}

MultiReadout::Geometry geometry_of(const MultiReadoutOptions& options) {
  if (options.in_shape_dict.keys() != options.n_neurons_dict.keys() || options.in_shape_dict.empty())
    throw ConfigError(where, text("in_shape_dict and n_neurons_dict must have the same keys, at least one: ",
                                  options.in_shape_dict.size(), " and ", options.n_neurons_dict.size()));
  const Shape first = options.in_shape_dict.begin()->second;
  for (const auto& [key, shape] : options.in_shape_dict)
    if (shape.rank() != 3 || shape != first || shape.elements() < 1)
      throw ConfigError(where,
                        text("in_shape_dict must have one shape (C,H,W): ", first, ", ", shape, " in ", key));
  return {first[0], first[1], first[2]};
}

}  // namespace

const ImageReadout& SessionReadout::own() const { return all_->own(index_); }
std::string SessionReadout::line() const { return all_->line(index_); }
std::vector<NamedTensor> SessionReadout::tensors() const { return all_->tensors_of(index_); }
std::int64_t SessionReadout::parameter_count() const { return all_->parameters_of(index_); }
Tensor SessionReadout::positions() const { return own().positions(); }

Shape SessionReadout::weight_shape() const {
  const ImageReadout::Geometry& g = own().geometry();
  return {g.neurons, g.channels, g.height, g.width};
}

std::size_t SessionReadout::weight_bytes() const {
  return static_cast<std::size_t>(weight_shape().elements()) * size_of(tensors().front().tensor.dtype());
}

Tensor SessionReadout::weight(std::int64_t first, std::optional<std::int64_t> count) const {
  const std::int64_t neurons = own().geometry().neurons, wanted = count.value_or(neurons - first);
  if (first < 0 || wanted < 1 || first + wanted > neurons)
    throw ShapeError("weight",
                     text("neurons ", first, " to ", first + wanted, " of ", neurons, " are asked for"));
  return own().weight(first, wanted);
}

MultiReadoutBase::MultiReadoutBase(const MultiReadoutOptions& options, Random& random,
                                   const Placement& placement)
    : keys_(options.n_neurons_dict.keys()) {
  const Json section =
      std::visit([](const auto& readout) { return write_readout(readout); }, options.base_readout);
  shifts_ = image_readout_class(section).shifts;
  readouts_ = std::make_unique<MultiReadout>(geometry_of(options), sessions_of(options), section,
                                             options.clone_readout, placement, random);
}

MultiReadoutBase::~MultiReadoutBase() = default;

std::size_t MultiReadoutBase::index_of(const std::string& data_key) const {
  if (data_key.empty() && keys_.size() == 1) return 0;
  const auto found = std::find(keys_.begin(), keys_.end(), data_key);
  if (found != keys_.end()) return static_cast<std::size_t>(found - keys_.begin());
  std::string known;
  for (const std::string& key : keys_) known += (known.empty() ? "" : ", ") + key;
  throw ConfigError(
      where, fovea::text(data_key.empty() ? "a data_key is needed" : "unknown data_key '" + data_key + "'",
                         ". Known: ", known));
}

SessionReadout MultiReadoutBase::operator[](const std::string& data_key) const {
  return {*readouts_, index_of(data_key)};
}

std::vector<NamedTensor> MultiReadoutBase::tensors() const { return readouts_->tensors(); }
std::int64_t MultiReadoutBase::parameter_count() const { return readouts_->parameter_count(); }

Tensor MultiReadoutBase::forward(const Tensor& maps, const std::string& data_key, const Pass& pass,
                                 const Tensor& shift) const {
  const std::size_t index = index_of(data_key);
  if (shift && !shifts_)
    throw ConfigError(where, "readouts with masks have no positions that a shift could move");
  readouts_->apply_constraints(index);
  return readouts_->forward(index, maps, {pass, {}, shift});
}

Tensor MultiReadoutBase::regularizer(const std::string& data_key) const {
  return readouts_->regularizer(index_of(data_key));
}

std::string MultiReadoutBase::text() const {
  std::string lines = fovea::text(where, "(\n");
  for (std::size_t i = 0; i < keys_.size(); ++i)
    lines += fovea::text("  (", keys_[i], "): ", readouts_->line(i), '\n');
  return lines + ")";
}

std::ostream& operator<<(std::ostream& out, const SessionReadout& readout) { return out << readout.line(); }
std::ostream& operator<<(std::ostream& out, const MultiReadoutBase& readouts) {
  return out << readouts.text();
}

}  // namespace fovea

#include <algorithm>
#include <cmath>

#include "engine/system_memory.hpp"
#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"
#include "models/image_readout.hpp"
#include "models/readout_sections.hpp"

namespace fovea {
namespace {

constexpr auto name = "FullFactorized2d";
/// Standard deviation, in pixels of the map, of masks that start at a place.
constexpr double start_width = 2;
using O = FullFactorized2dOptions;

class FullFactorized2d : public ImageReadout {
 public:
  FullFactorized2d(const Geometry& g, const SessionOptions& session, const O& options, const Placement& p,
                   Random& random)
      : ImageReadout(g), options_(options) {
    const auto noise = [&](const char* tensor, const Shape& shape) {
      Tensor values = add_tensor(tensor, Role::parameter, Tensor(shape, p.dtype, p.device));
      random.normal(values, 0.0, options.init_noise);
      return values;
    };
    const auto& shared = options.shared_features;
    features_ = noise("_features", {shared ? unique_count(*shared) : g.neurons, g.channels});
    if (shared)
      scales_ = add_tensor("scales", Role::parameter, Tensor::full({g.neurons, 1}, 1.0, p.dtype, p.device));
    spatial_ = noise("spatial", {g.neurons, g.height, g.width});
    if (options.bias) bias_ = add_bias(session, p);
    if (shared) sharing_index_ = add_sharing_index("feature_sharing_index", *shared, p);
  }

  Tensor forward(const Tensor& x, const ReadoutInput& input) const override {
    if (input.shift) throw ConfigError(name, "has no positions that a shifter could move");
    const Tensor features = neuron_features();
    const Shape& s = features.shape();
    return factorized_readout(x, masks(spatial_), to_channels_last(features.reshape({1, s[0], s[1]})), bias_);
  }

  void apply_constraints() const override {
    if (!options_.constrain_pos) return;
    const NoGrad guard;
    if (!options_.normalize) clamp_min_(spatial_, 0.0);
    if (!options_.shared_features) clamp_min_(features_, 0.0);
  }

  /// Adds to the initial noise of the mask a Gaussian there, of norm 1: far above the noise, so that the
  /// first steps of the optimizer do not level it.
  void start_at(const std::vector<double>& indices) const override {
    const Geometry& g = geometry();
    std::vector<double> values = spatial_.to(DType::f64).to_vector<double>();
    for (std::int64_t n = 0; n < g.neurons; ++n) {
      const double x = indices[static_cast<std::size_t>(2 * n)],
                   y = indices[static_cast<std::size_t>(2 * n + 1)];
      if (!std::isfinite(x) || !std::isfinite(y)) continue;
      const double at_x = std::clamp(x, 0.0, static_cast<double>(g.width - 1)),
                   at_y = std::clamp(y, 0.0, static_cast<double>(g.height - 1));
      const auto bump = [&](std::int64_t i, std::int64_t j) {
        const double across = static_cast<double>(j) - at_x, down = static_cast<double>(i) - at_y;
        return std::exp(-0.5 * (across * across + down * down) / (start_width * start_width));
      };
      double square = 0;
      for (std::int64_t i = 0; i < g.height; ++i)
        for (std::int64_t j = 0; j < g.width; ++j) square += bump(i, j) * bump(i, j);
      double* mask = values.data() + n * g.height * g.width;
      for (std::int64_t i = 0; i < g.height; ++i)
        for (std::int64_t j = 0; j < g.width; ++j) mask[i * g.width + j] += bump(i, j) / std::sqrt(square);
    }
    spatial_.copy_from(Tensor::from(values, spatial_.shape(), cpu_device(1)).to(spatial_.dtype()));
  }

  /// The product of the two totals: what the reference's broadcast computes.
  Tensor regularizer() const override {
    if (options_.spatial_and_feature_reg_weight == 0) return {};
    return scale(multiply(absolute_sum(masks(spatial_)), absolute_sum(neuron_features())),
                 options_.spatial_and_feature_reg_weight);
  }

  Tensor weight(std::int64_t first, std::int64_t count) const override {
    const Geometry& g = geometry();
    const Shape shape{count, g.channels, g.height, g.width};
    const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(spatial_.dtype()),
                      available = available_memory();
    if (bytes > available)
      throw DeviceError(name, text("weight ", shape, " takes ", bytes, " bytes, the machine has ", available,
                                   "; ask for fewer neurons"));
    const NoGrad guard;
    if (options_.positive_weights && !options_.shared_features) clamp_min_(features_, 0.0);
    const auto rows = [&](const Tensor& tensor) { return tensor.rows(first, first + count); };
    const Tensor all = masks(rows(spatial_)).to(cpu_device(1)),
                 features = rows(neuron_features()).to(cpu_device(1));
    const Tensor weight(shape, spatial_.dtype(), cpu_device(1));
    const auto fill = [&]<class T>() {
      const std::int64_t pixels = g.height * g.width;
      for (std::int64_t i = 0; i < count * g.channels; ++i)
        for (std::int64_t p = 0; p < pixels; ++p)
          weight.data<T>()[i * pixels + p] =
              features.data<T>()[i] * all.data<T>()[i / g.channels * pixels + p];
    };
    if (weight.dtype() == DType::f64)
      fill.template operator()<double>();
    else
      fill.template operator()<float>();
    return weight.to(spatial_.device());
  }

  std::string line() const override {
    return text(name, ' ', shape_text(options_.bias),
                options_.shared_features ? ", with original features" : "",
                options_.normalize ? ", normalized" : ", unnormalized");
  }

 private:
  /// Masks as the forward pass uses them, of `spatial_` or some rows of it.
  Tensor masks(const Tensor& spatial) const {
    Tensor masks = options_.normalize ? normalize_rows(spatial) : spatial;
    if (options_.constrain_pos) {
      // Outside differentiation: the gradient goes on as if the masks were not clamped.
      if (options_.normalize) clamp_min_(masks, 0.0);
      return masks;
    }
    return options_.positive_spatial ? activate(masks, {ActivationKind::absolute}) : masks;
  }

  Tensor neuron_features() const {  // (N,C)
    return options_.shared_features ? gather(features_, sharing_index_, 0, scales_) : features_;
  }

  O options_;
  Tensor features_, scales_, spatial_, bias_, sharing_index_;
};

const ParameterTable<O>& table() {
  static const ParameterTable<O> table =
      ParameterTable<O>(name)
          .require("bias", &O::bias, "bool", "a learnt bias per neuron")
          .add("normalize", &O::normalize, "bool", "masks are divided by their norm + 1e-6")
          .add("init_noise", &O::init_noise, "float", "deviation of the initial masks and features",
               finite_at_least(0))
          .add("constrain_pos", &O::constrain_pos, "bool",
               "masks and features are kept at or above 0, outside differentiation")
          .add("positive_weights", &O::positive_weights, "bool",
               "features are clamped where the product `weight` is read; not in the forward pass")
          .add("positive_spatial", &O::positive_spatial, "bool",
               "absolute values of the masks, unless constrain_pos")
          .add("shared_features", &O::shared_features, "{match_ids: [int]} | null",
               "neurons with equal ids share a feature vector, each with a scale of its own")
          .add("spatial_and_feature_reg_weight", &O::spatial_and_feature_reg_weight, "float",
               "factor of sum |masks| times sum |features|", finite_at_least(0));
  return table;
}

std::unique_ptr<ImageReadout> make(const ImageReadout::Geometry& g, const SessionOptions& session,
                                   const Json& section, const Placement& placement, Random& random) {
  const std::string where = readout_place(name, session.key);
  const O options = table().parse(where, section, {"class"});
  if (options.shared_features) check_match_ids(where, "shared_features", *options.shared_features, g.neurons);
  check_readout_weights(where, static_cast<double>(g.neurons) * (static_cast<double>(g.height * g.width) +
                                                                 static_cast<double>(g.channels)));
  return std::make_unique<FullFactorized2d>(g, session, options, placement, random);
}

Json complete(const Json& section) { return table().write_section(table().parse(section, {"class"})); }

}  // namespace

Json write_readout(const FullFactorized2dOptions& options) { return table().write_section(options); }

extern const ImageReadoutClass full_factorized_2d_class;
const ImageReadoutClass full_factorized_2d_class{name, false, make, complete,
                                                 [] { return document_table(table()); }};

}  // namespace fovea

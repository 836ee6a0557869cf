#include <algorithm>
#include <cmath>

#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"
#include "models/image_readout.hpp"
#include "models/mlp.hpp"
#include "models/readout_sections.hpp"

namespace fovea {
namespace {

constexpr auto name = "FullGaussian2d";
using O = FullGaussian2dOptions;

GaussType gauss_type(const O& options) {
  return options.gauss_type == "full"           ? GaussType::full
         : options.gauss_type == "uncorrelated" ? GaussType::uncorrelated
                                                : GaussType::isotropic;
}

/// Positions (N,d) centred per column and divided by the one largest absolute value.
std::vector<double> normalised_source_grid(const std::vector<std::vector<double>>& rows) {
  std::vector<double> flat;
  const std::size_t columns = rows.front().size();
  double largest = 0;
  for (const std::vector<double>& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  for (std::size_t column = 0; column < columns; ++column) {
    double mean = 0;
    for (std::size_t i = column; i < flat.size(); i += columns) mean += flat[i];
    mean /= static_cast<double>(rows.size());
    for (std::size_t i = column; i < flat.size(); i += columns) {
      flat[i] -= mean;
      largest = std::max(largest, std::abs(flat[i]));
    }
  }
  for (double& value : flat) value /= largest;
  return flat;
}

class FullGaussian2d : public ImageReadout {
 public:
  FullGaussian2d(const Geometry& g, const SessionOptions& session, const O& options, const Placement& p,
                 Random& random)
      : ImageReadout(g), options_(options) {
    add_positions(p, random);
    const auto &shared = options.shared_features, &grid = options.shared_grid;
    const std::int64_t vectors = shared ? unique_count(*shared) : g.neurons;
    features_ = add_tensor(
        "_features", Role::parameter,
        Tensor::full({1, g.channels, 1, vectors}, 1.0 / static_cast<double>(g.channels), p.dtype, p.device));
    if (shared)
      scales_ =
          add_tensor("scales", Role::parameter, Tensor::full({1, 1, 1, g.neurons}, 1.0, p.dtype, p.device));
    if (options.bias) bias_ = add_bias(session, p);
    if (shared) feature_index_ = add_sharing_index("feature_sharing_index", *shared, p);
    if (grid) grid_index_ = add_sharing_index("grid_sharing_index", *grid, p);
    if (predictor_) add_child("mu_transform", *predictor_);
  }

  Tensor forward(const Tensor& x, const ReadoutInput& input) const override {
    const Tensor grid =
        gaussian_grid(positions(), sigma_, noise(x.shape()[0], input), input.shift, gauss_type(options_));
    return point_readout(x, grid, neuron_features(), bias_, options_.align_corners);
  }

  /// Positions that are predicted or shared are clamped with the samples only.
  void apply_constraints() const override {
    const NoGrad guard;
    if (mu_ && !grid_index_) clamp_(mu_, -1.0, 1.0);
  }

  Tensor regularizer() const override {
    if (options_.feature_reg_weight == 0) return {};
    return scale(absolute_sum(neuron_features()), options_.feature_reg_weight);
  }

  std::string line() const override {
    return text(options_.gauss_type, ' ', name, ' ', shape_text(options_.bias),
                options_.shared_features ? ", with original features" : "",
                predictor_             ? ", with predicted grid"
                : options_.shared_grid ? ", with original grid"
                                       : "");
  }

  Tensor positions() const override {
    if (predictor_) return predictor_->forward(source_grid_).reshape({1, geometry().neurons, 1, 2});
    return grid_index_ ? gather(mu_, grid_index_, 1) : mu_;
  }

  void check_startable() const override {
    if (!mu_ || grid_index_)
      throw ConfigError(name, text("positions of the neurons' own are needed: they are ",
                                   predictor_ ? "predicted (grid_mean_predictor)" : "shared (shared_grid)"));
  }

  /// Positions of the map, its border where the indices are outside.
  void start_at(const std::vector<double>& indices) const override {
    check_startable();
    std::vector<double> values = mu_.to(DType::f64).to_vector<double>();
    const double sizes[2] = {static_cast<double>(geometry().width), static_cast<double>(geometry().height)};
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(indices[i - i % 2]) || !std::isfinite(indices[i - i % 2 + 1])) continue;
      const double size = sizes[i % 2], index = indices[i];
      const double at =
          options_.align_corners ? (size > 1 ? 2 * index / (size - 1) - 1 : 0) : (2 * index + 1) / size - 1;
      values[i] = std::clamp(at, -1.0, 1.0);
    }
    mu_.copy_from(Tensor::from(values, mu_.shape(), cpu_device(1)).to(mu_.dtype()));
  }

  Shape noise_shape(std::int64_t batch) const override {
    return {options_.batch_sample ? batch : 1, geometry().neurons, 2};
  }

 private:
  void add_positions(const Placement& p, Random& random) {
    const Geometry& g = geometry();
    const auto add = [&](const char* tensor, const Shape& shape) {
      return add_tensor(tensor, Role::parameter, Tensor(shape, p.dtype, p.device));
    };
    if (const auto& predictor = options_.grid_mean_predictor) {
      const auto& rows = *options_.source_grid;
      const auto columns = static_cast<std::int64_t>(rows.front().size());
      const Tensor grid = Tensor::from(normalised_source_grid(rows), {g.neurons, columns}, p.device);
      source_grid_ = add_tensor("source_grid", Role::constant, grid.to(p.dtype));
      Mlp::Options mlp{{columns}, ActivationKind::elu, ActivationKind::identity};
      if (predictor->final_tanh) mlp.last = ActivationKind::tanh;
      mlp.sizes.insert(mlp.sizes.end(), static_cast<std::size_t>(predictor->hidden_layers),
                       predictor->hidden_features);
      mlp.sizes.push_back(2);
      predictor_ = std::make_unique<Mlp>(mlp, p, random);
    } else {
      const auto& shared = options_.shared_grid;
      mu_ = add("_mu", {1, shared ? unique_count(*shared) : g.neurons, 1, 2});
      random.uniform(mu_, -options_.init_mu_range, options_.init_mu_range);
    }
    const GaussType type = gauss_type(options_);
    if (type == GaussType::full) {
      sigma_ = add("sigma", {1, g.neurons, 2, 2});
      random.uniform(sigma_, -options_.init_sigma, options_.init_sigma);
    } else {
      sigma_ = add("sigma", {1, g.neurons, 1, type == GaussType::uncorrelated ? 2 : 1});
      sigma_.fill(options_.init_sigma);
    }
  }

  Tensor neuron_features() const {  // (1,C,1,N)
    return feature_index_ ? gather(features_, feature_index_, 3, scales_) : features_;
  }

  /// The draws of a training pass, undefined in evaluation.
  Tensor noise(std::int64_t batch, const ReadoutInput& input) const {
    if (!input.pass.training) return {};
    const Shape shape = noise_shape(batch);
    if (input.noise) {
      if (input.noise.shape() != shape)
        throw ShapeError(name, text("noise must be ", shape, ": ", input.noise.shape()));
      return input.noise;
    }
    if (!input.pass.random) return {};
    Tensor drawn(shape, sigma_.dtype(), sigma_.device());
    input.pass.random->normal(drawn);
    return drawn;
  }

  O options_;
  Tensor mu_, source_grid_, sigma_, features_, scales_, bias_, feature_index_, grid_index_;
  std::unique_ptr<Mlp> predictor_;
};

}  // namespace

// Found by the table through argument-dependent lookup.
void read_json(const std::string& at, const std::string& key, const Json& value, GridMeanPredictor& into) {
  using P = GridMeanPredictor;
  static const ParameterTable<P> table =
      ParameterTable<P>("")
          .add("hidden_layers", &P::hidden_layers, "int", "of the perceptron",
               must_be<std::int64_t>("0 to 100", [](std::int64_t n) { return n >= 0 && n <= 100; }))
          .add("hidden_features", &P::hidden_features, "int", "width of a hidden layer",
               must_be<std::int64_t>("1 to 65536", [](std::int64_t n) { return n >= 1 && n <= 65536; }))
          .add("final_tanh", &P::final_tanh, "bool", "tanh of the predicted position");
  into = table.parse(text(at, '.', key), value, {});
}
Json write_json(const GridMeanPredictor& p) {
  return {{"hidden_layers", p.hidden_layers},
          {"hidden_features", p.hidden_features},
          {"final_tanh", p.final_tanh}};
}

namespace {

const ParameterTable<O>& table() {
  static const ParameterTable<O> table =
      ParameterTable<O>(name)
          .require("bias", &O::bias, "bool", "a learnt bias per neuron")
          .add("init_mu_range", &O::init_mu_range, "float", "initial positions are uniform within it",
               must_be<double>("above 0 and at most 1", [](double v) { return v > 0 && v <= 1; }))
          .add("init_sigma", &O::init_sigma, "float",
               "initial deviation; full: entries are uniform within it", finite_above(0))
          .add("batch_sample", &O::batch_sample, "bool", "a draw for each image of a batch, not one for all")
          .add("align_corners", &O::align_corners, "bool",
               "-1 and 1 are the centres of the outer pixels, not their edges")
          .add("gauss_type", &O::gauss_type, "str", "full, uncorrelated or isotropic covariance",
               one_of({"full", "uncorrelated", "isotropic"}))
          .add("grid_mean_predictor", &O::grid_mean_predictor,
               "{hidden_layers: int, hidden_features: int, final_tanh: bool} | null",
               "a perceptron predicts positions from source_grid")
          .add("shared_features", &O::shared_features, "{match_ids: [int]} | null",
               "neurons with equal ids share a feature vector, each with a scale of its own")
          .add("shared_grid", &O::shared_grid, "{match_ids: [int]} | null",
               "neurons with equal ids share a position")
          .add("source_grid", &O::source_grid, "[[float]] | null",
               "positions of the neurons in cortex, one row each")
          .add("feature_reg_weight", &O::feature_reg_weight, "float", "factor of sum |features|",
               finite_at_least(0));
  return table;
}

void check_source_grid(const std::string& where, const O& o, std::int64_t neurons) {
  if (o.grid_mean_predictor && o.shared_grid)
    throw ConfigError(where, "grid_mean_predictor and shared_grid exclude each other: both are given");
  if (o.grid_mean_predictor.has_value() != o.source_grid.has_value())
    throw ConfigError(where, text("grid_mean_predictor and source_grid need each other: only ",
                                  o.source_grid ? "source_grid" : "grid_mean_predictor", " is given"));
  if (!o.source_grid) return;
  const auto& rows = *o.source_grid;
  if (static_cast<std::int64_t>(rows.size()) != neurons)
    refuse_value(where, "source_grid", text("a list of ", neurons, " positions"), Json(rows.size()));
  double least = INFINITY, most = -INFINITY;
  for (std::size_t n = 0; n < rows.size(); ++n) {
    if (rows[n].empty() || rows[n].size() != rows.front().size())
      refuse_value(where, element_key("source_grid", n),
                   text("a position of ", rows.front().size(), " numbers, at least one"), Json(rows[n]));
    each<std::vector<double>>(finite())(where, element_key("source_grid", n), rows[n]);
  }
  for (std::size_t column = 0; column < rows.front().size() && !(least < most); ++column) {
    least = most = rows.front()[column];
    for (const auto& row : rows) least = std::min(least, row[column]), most = std::max(most, row[column]);
  }
  if (!(least < most)) refuse_value(where, "source_grid", "positions that differ", Json(rows.front()));
}

std::unique_ptr<ImageReadout> make(const ImageReadout::Geometry& g, const SessionOptions& session,
                                   const Json& section, const Placement& placement, Random& random) {
  const std::string where = readout_place(name, session.key);
  const O options = table().parse(where, section, {"class"});
  check_source_grid(where, options, g.neurons);
  if (options.shared_features) check_match_ids(where, "shared_features", *options.shared_features, g.neurons);
  if (options.shared_grid) check_match_ids(where, "shared_grid", *options.shared_grid, g.neurons);
  check_readout_weights(where, static_cast<double>(g.neurons) * static_cast<double>(g.channels + 7));
  return std::make_unique<FullGaussian2d>(g, session, options, placement, random);
}

Json complete(const Json& section) { return table().write_section(table().parse(section, {"class"})); }

}  // namespace

Json write_readout(const FullGaussian2dOptions& options) { return table().write_section(options); }

extern const ImageReadoutClass full_gaussian_2d_class;
const ImageReadoutClass full_gaussian_2d_class{name, true, make, complete,
                                               [] { return document_table(table()); }};

}  // namespace fovea

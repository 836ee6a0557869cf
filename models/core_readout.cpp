#include "fovea/core_readout.hpp"

#include "models/conv_core.hpp"
#include "models/mask_readouts.hpp"
#include "models/parameters.hpp"
#include "models/registry.hpp"
#include "models/session_model.hpp"

namespace fovea {
namespace {

constexpr auto where = "CoreReadout";

void check_padding(const std::string& at, const std::string& key, const PaddingOption& option) {
  using Axes = std::array<std::int64_t, 3>;
  constexpr std::int64_t most = 1 << 12;
  const auto zeros = must_be<std::int64_t>(text("0 to ", most),
                                           [](std::int64_t count) { return count >= 0 && count <= most; });
  if (const auto* all = std::get_if<std::int64_t>(&option)) zeros(at, key, *all);
  if (const auto* axes = std::get_if<Axes>(&option)) each<Axes>(zeros)(at, key, *axes);
}

}  // namespace

// Found by the table through argument-dependent lookup.
void read_json(const std::string& at, const std::string& key, const Json& value, PaddingOption& into) {
  if (value.is_boolean()) {
    into = value.get<bool>();
  } else if (value.is_number_integer()) {
    into = value.get<std::int64_t>();
  } else if (value.is_array() && value.size() == 3) {
    std::array<std::int64_t, 3> axes{};
    read_json(at, key, value, axes);
    into = axes;
  } else {
    refuse_value(at, key, "true, false, a number of zeros or three of them (t, h, w)", value);
  }
}

Json write_json(const PaddingOption& option) {
  using Variant = std::variant<bool, std::int64_t, std::array<std::int64_t, 3>>;
  return std::visit([](const auto& value) { return Json(value); }, static_cast<const Variant&>(option));
}

namespace {

ParameterTable<CoreReadoutOptions> parameter_table() {
  using O = CoreReadoutOptions;
  const auto gamma = finite_at_least(0);
  const Check<std::int64_t> count = at_least<std::int64_t>(0), size = at_least<std::int64_t>(1);
  const auto pool = when_given(each<std::array<std::int64_t, 3>>(size));
  const auto shape = each<std::array<std::int64_t, 4>>(size);
  const auto rate = must_be<double>("in [0, 1)", [](double value) { return value >= 0 && value < 1; });
  const auto sizes = at_least_one(size);
  const Check<PaddingOption> padding = check_padding;
  std::vector<std::string> type_names;
  for (const CoreConvolutionType& type : core_convolution_types()) type_names.push_back(type.name);
  return ParameterTable<O>(where)
      .require("in_shape", &O::in_shape, "[int, int, int, int]",
               "stimulus shape (channels, time, height, width)", shape)
      .require("hidden_channels", &O::hidden_channels, "[int]", "output channels of every layer", sizes)
      .require("temporal_kernel_sizes", &O::temporal_kernel_sizes, "[int]",
               "temporal kernel of every layer, frames; time_independent convolutions have none", sizes)
      .require("spatial_kernel_sizes", &O::spatial_kernel_sizes, "[int]",
               "spatial kernel of every layer, pixels", sizes)
      .add("core_gamma_input", &O::core_gamma_input, "float",
           "smoothness of the first spatial kernels; must be 0 with separable and full", gamma)
      .add("core_gamma_hidden", &O::core_gamma_hidden, "float",
           "group sparsity of the later spatial kernels; must be 0 with separable and full", gamma)
      .add("core_gamma_in_sparse", &O::core_gamma_in_sparse, "float",
           "group sparsity of all spatial kernels; must be 0 with separable and full", gamma)
      .add("core_gamma_temporal", &O::core_gamma_temporal, "float",
           "smoothness of the temporal kernels; must be 0 with full and time_independent", gamma)
      .add("core_input_padding", &O::core_input_padding, "bool | int | [t, h, w]",
           "zeros around the first layer's input", padding)
      .add("core_hidden_padding", &O::core_hidden_padding, "bool | int | [t, h, w]",
           "zeros around later layers' inputs", padding)
      .add("convolution_type", &O::convolution_type, "str",
           "kind of convolution: custom_separable (temporal harmonics times space, per pair of channels), "
           "separable (space, then time), full, time_independent (space only)",
           one_of(type_names))
      .add("readout_scale", &O::readout_scale, "bool", "a learnt scale per neuron")
      .add("readout_bias", &O::readout_bias, "bool", "a learnt bias per neuron")
      .add("readout_gaussian_masks", &O::readout_gaussian_masks, "bool",
           "Gaussian masks instead of free ones")
      .add("readout_gaussian_mean_scale", &O::readout_gaussian_mean_scale, "float", "factor on mask_mean",
           finite())
      .add("readout_gaussian_var_scale", &O::readout_gaussian_var_scale, "float", "factor on mask_log_var",
           finite())
      .add("readout_positive", &O::readout_positive, "bool", "features are kept at or above 0")
      .add("readout_gamma", &O::readout_gamma, "float", "L1 on the features", gamma)
      .add("readout_gamma_masks", &O::readout_gamma_masks, "float", "penalty on the masks", gamma)
      .add("readout_reg_avg", &O::readout_reg_avg, "bool", "regularizers average instead of sum")
      .add("learning_rate", &O::learning_rate, "float", "of the optimizer", finite_above(0))
      .add("cut_first_n_frames_in_core", &O::cut_first_n_frames_in_core, "int",
           "frames dropped after the core", count)
      .add("dropout_rate", &O::dropout_rate, "float",
           "probability that a channel is dropped after each layer", rate)
      .add("maxpool_every_n_layers", &O::maxpool_every_n_layers, "int | null",
           "2x2 max pooling after every n-th layer", when_given(size))
      .add("downsample_input_kernel_size", &O::downsample_input_kernel_size, "[t, h, w] | null",
           "average pooling of the stimulus", pool);
}

/// A factor on what the type of convolution does not have would change nothing.
void check_regularizers(const CoreReadoutOptions& o) {
  const CoreConvolutionType& type = core_convolution_type(o.convolution_type);
  const auto must_be_zero = [&](const char* key, double factor, const char* why) {
    if (factor != 0)
      refuse_value(where, key, text("0 with convolution_type '", type.name, "' (", why, ")"), Json(factor));
  };
  if (!type.spatial_regularizers) {
    constexpr auto why = "its spatial kernels are not regularized";
    must_be_zero("core_gamma_input", o.core_gamma_input, why);
    must_be_zero("core_gamma_hidden", o.core_gamma_hidden, why);
    must_be_zero("core_gamma_in_sparse", o.core_gamma_in_sparse, why);
  }
  if (!type.temporal_regularizer)
    must_be_zero("core_gamma_temporal", o.core_gamma_temporal, "the parameter's default is 40");
  if (o.convolution_type == "separable" && o.core_gamma_temporal != 0 && o.temporal_kernel_sizes[0] < 3)
    refuse_value(where, "temporal_kernel_sizes[0]", "at least 3 with core_gamma_temporal",
                 Json(o.temporal_kernel_sizes[0]));
}

// Sizes that no machine or recording has are typing errors or lies; they are refused before memory is taken.
constexpr double most_weights = 1e9;  // of the core, and of one readout

void check_sizes(const CoreReadoutOptions& o) {
  constexpr double most_values = 1e12;  // of one stimulus
  double values = 1;
  for (const std::int64_t extent : o.in_shape) values *= static_cast<double>(extent);
  if (values > most_values)
    refuse_value(where, "in_shape", text("at most ", most_values, " values"), Json(o.in_shape));
  double weights = 0;
  for (std::size_t l = 0; l < o.hidden_channels.size(); ++l) {
    const double in = static_cast<double>(l ? o.hidden_channels[l - 1] : o.in_shape[0]);
    const double space = static_cast<double>(o.spatial_kernel_sizes[l]),
                 time = static_cast<double>(o.temporal_kernel_sizes[l]);
    weights += in * static_cast<double>(o.hidden_channels[l]) * (space * space + 1) * (time + 1);
    if (weights > most_weights)
      throw ConfigError(where,
                        text("the core must have at most ", most_weights, " weights, layer ", l,
                             " exceeds them: channels ", in, " -> ", o.hidden_channels[l], ", kernels ",
                             o.temporal_kernel_sizes[l], " and ", o.spatial_kernel_sizes[l]));
  }
}

void check_size(const CoreMaskReadout::Geometry& g, const std::string& session) {
  const double weights =
      static_cast<double>(g.neurons) *
      (static_cast<double>(g.height) * static_cast<double>(g.width) + static_cast<double>(g.channels));
  if (weights > most_weights)
    throw ConfigError(where, text("a readout must have at most ", most_weights, " weights, session ", session,
                                  ": ", g.neurons, " neurons, ", g.channels, " channels of ", g.height, " x ",
                                  g.width, " pixels"));
}

void check(const CoreReadoutOptions& o) {
  const std::size_t layers = o.hidden_channels.size();
  if (o.temporal_kernel_sizes.size() != layers || o.spatial_kernel_sizes.size() != layers)
    throw ConfigError(
        where, text("hidden_channels, temporal_kernel_sizes and spatial_kernel_sizes need equal lengths: ",
                    layers, ", ", o.temporal_kernel_sizes.size(), ", ", o.spatial_kernel_sizes.size()));
  check_sizes(o);
  check_regularizers(o);
  if (o.core_gamma_input != 0 && o.spatial_kernel_sizes[0] < 3)
    refuse_value(where, "spatial_kernel_sizes[0]", "at least 3 with core_gamma_input",
                 Json(o.spatial_kernel_sizes[0]));
}

class CoreReadout : public SessionModel {
 public:
  CoreReadout(const CoreReadoutOptions& options, Common common, const Placement& placement,
              std::uint64_t seed)
      : SessionModel(std::move(common), placement),
        options_(options),
        random_(seed),
        core_(options, placement, random_) {
    add_child("core", core_);
    const CoreSizes sizes = core_.sizes({options.in_shape[1], options.in_shape[2], options.in_shape[3]});
    for (const SessionOptions& session : session_options()) {
      const CoreMaskReadout::Geometry geometry{core_.out_channels(), sizes.output[1], sizes.output[2],
                                               session.n_neurons};
      check_size(geometry, session.key);
      readouts_.push_back(std::make_unique<CoreMaskReadout>(geometry, session, options, placement, random_));
      readout_group_.add_child(session.key, *readouts_.back());
    }
    add_child("readout", readout_group_);
  }

  Shape output_shape(const Shape& sample, const std::string& session) const override {
    return {core_.sizes(checked_size(sample)).output[0], n_neurons(session)};
  }

  Tensor forward(const ModelInput& input, const Pass& pass) const override {
    const CoreMaskReadout& readout_of_session = readout(input.session);
    core_.sizes(checked_size(sample_of(input.stimulus)));
    return readout_of_session.forward(core_.forward(input.stimulus, pass));
  }

  void apply_constraints(const std::string& session) const override { readout(session).apply_constraints(); }
  Tensor core_regularizer() const override { return core_.regularizer(); }
  Tensor readout_regularizer(const std::string& session) const override {
    return readout(session).regularizer();
  }

  ModelDescription describe(const Shape& sample) const override;

 private:
  const CoreMaskReadout& readout(const std::string& session) const { return *readouts_[index_of(session)]; }

  /// (T,H,W) of a sample (C,T,H,W) whose channels and map fit the model.
  std::array<std::int64_t, 3> checked_size(const Shape& sample) const {
    check_sample(sample);
    return {sample[1], sample[2], sample[3]};
  }

  CoreReadoutOptions options_;
  Random random_;
  ConvCore core_;
  Group readout_group_;
  std::vector<std::unique_ptr<CoreMaskReadout>> readouts_;
};

ModelDescription CoreReadout::describe(const Shape& sample) const {
  ModelDescription result;
  const CoreSizes sizes = core_.sizes(checked_size(sample));
  const auto movie = [](std::int64_t channels, std::array<std::int64_t, 3> size) {
    return Shape{channels, size[0], size[1], size[2]};
  };
  std::string tree = text(where, "(\n  (core): ConvCore(\n");
  std::int64_t height = 1, width = 1, jump = 1;
  if (const auto& kernel = options_.downsample_input_kernel_size) {
    result.layers.push_back({"core.downsample",
                             text("average pooling ", Shape{(*kernel)[0], (*kernel)[1], (*kernel)[2]}),
                             movie(options_.in_shape[0], sizes.input), 0});
  }
  for (std::size_t l = 0; l < core_.layers().size(); ++l) {
    const ConvLayer& layer = *core_.layers()[l];
    const auto& g = layer.convolution().geometry();
    std::string what = text(options_.convolution_type, ' ', g.in_channels, " -> ", g.out_channels);
    for (const auto& [kernel, p] : layer.convolution().stages()) {
      what +=
          text(", kernel ", kernel[0], " x ", kernel[1], " x ", kernel[2], ", padding (", p.before[0], '+',
               p.after[0], ", ", p.before[1], '+', p.after[1], ", ", p.before[2], '+', p.after[2], ")");
      result.receptive_field_frames += kernel[0] - 1;
      height += (kernel[1] - 1) * jump;
      width += (kernel[2] - 1) * jump;
    }
    const auto& [pool, dropout] = layer.options();
    what += text(", batch norm, bias, ELU", dropout > 0 ? text(", channel dropout ", dropout) : "",
                 pool ? ", max pool 1 x 2 x 2" : "");
    result.layers.push_back({"core.features.layer" + std::to_string(l), what,
                             movie(g.out_channels, sizes.layers[l]), layer.parameter_count()});
    tree += text("    (layer", l, "): ", what, '\n');
    if (pool) {
      height += jump;
      width += jump;
      jump *= 2;
    }
  }
  if (options_.cut_first_n_frames_in_core)
    result.layers.push_back({"core.cut",
                             text("without the first ", options_.cut_first_n_frames_in_core, " frames"),
                             movie(core_.out_channels(), sizes.output), 0});
  if (const auto& kernel = options_.downsample_input_kernel_size) {
    result.receptive_field_frames *= (*kernel)[0];
    height *= (*kernel)[1];
    width *= (*kernel)[2];
  }
  result.receptive_field_height = height;
  result.receptive_field_width = width;
  tree += "  )\n  (readout): MultiReadout(\n";
  for (std::size_t i = 0; i < readouts_.size(); ++i) {
    const auto& g = readouts_[i]->geometry();
    const std::string what = text(
        options_.readout_gaussian_masks ? "GaussianMaskReadout" : "FreeMaskReadout", " (", g.channels, " x ",
        g.height, " x ", g.width, " -> ", g.neurons, ")", options_.readout_scale ? " with scale" : "",
        options_.readout_bias ? options_.readout_scale ? " and bias" : " with bias" : "",
        options_.readout_positive ? ", positive" : "");
    result.layers.push_back({"readout." + session_options()[i].key,
                             what,
                             {sizes.output[0], g.neurons},
                             readouts_[i]->parameter_count()});
    tree += text("    (", session_options()[i].key, "): ", what, '\n');
  }
  result.tree = tree + "  )\n)";
  return result;
}

std::unique_ptr<Model> make(const Json& section, const Placement& placement, std::uint64_t seed) {
  const ParameterTable<CoreReadoutOptions> table = parameter_table();
  const CoreReadoutOptions o = table.parse(section, common_keys());
  const std::vector<SessionOptions> sessions = read_sessions(where, section);
  check(o);
  auto [loss, metric] = read_losses(where, section, true, {{"class", "PoissonLoss3d"}},
                                    {{"class", "CorrelationLoss3d"}, {"avg", true}});
  return std::make_unique<CoreReadout>(
      o,
      SessionModel::Common{where, table.write(o), sessions, std::move(loss), std::move(metric),
                           Shape{o.in_shape[0], o.in_shape[1], o.in_shape[2], o.in_shape[3]},
                           o.learning_rate},
      placement, seed);
}

}  // namespace

std::unique_ptr<Model> make_core_readout(const CoreReadoutOptions& options,
                                         const std::vector<SessionOptions>& sessions,
                                         const Placement& placement, std::uint64_t seed) {
  // By way of the section, so that the same checks hold.
  Json section = parameter_table().write(options);
  section["sessions"] = write_sessions(sessions);
  return make(section, placement, seed);
}

static ClassPage page() {
  return {
      "Open Retina's default model: a space-time separable convolutional core that all sessions share "
      "(convolution, "
      "batch norm, bias, ELU, dropout of channels, max pooling) and, per session, a Gaussian or free spatial "
      "mask and "
      "a feature vector per neuron; movies (B,C,T,H,W) -> (B,T_out,N). Source: openretina, "
      "models/core_readout.py "
      "(Hoefling et al. 2024, Klindt et al. 2017).",
      {},
      "{class: PoissonLoss3d}",
      "{class: CorrelationLoss3d, avg: true}",
      R"(- `readout_gaussian_masks: false` gives free, non-negative masks. openretina ignores the option; this is the readout it came
  from.
- `readout_gamma` weighs the features and `readout_gamma_masks` the masks, as the parameter table says; openretina 1.1's
  ExampleCoreReadout hands them over in swapped order.
- The default of `cut_first_n_frames_in_core` is 0, as in the parameter table (30 in the package).
- A factor of a regularizer that the `convolution_type` does not have is refused instead of being ignored; the default of
  `core_gamma_temporal` then has to be set to 0.
- A fresh model has running mean 0, variance 1 and count 0: no image of zeros is pushed through at construction.
- A mask whose norm is not a number is 0, norms have gradient 0 at 0, and a correlation with a constant is 0 with a finite
  gradient: nothing that training can reach is NaN.
)"};
}

extern const ModelClass core_readout_class;
const ModelClass core_readout_class{where, make, [] { return document_table(parameter_table()); }, page};

}  // namespace fovea

#include "fovea/klindt_core_readout.hpp"

#include "models/klindt_parts.hpp"
#include "models/parameters.hpp"
#include "models/registry.hpp"
#include "models/session_model.hpp"

namespace fovea {
namespace {

/// What tells the two classes apart.
struct Variant {
  const char* name;
  bool movies;
  const char *default_loss, *default_metric;
};
constexpr Variant klindt_2d{"KlindtCoreReadout2D", false, "PoissonNLLLoss", "CorrelationLoss2D"};
constexpr Variant klindt_3d{"KlindtCoreReadout3D", true, "PoissonLoss3d", "CorrelationLoss3d"};

template <std::size_t axes, class Option>
void read_axes(const std::string& at, const std::string& key, const Json& value, Option& into) {
  std::array<std::int64_t, axes> sizes{};
  read_json(at, key, value, sizes);
  into = sizes;
}

}  // namespace

// Found by the table through argument-dependent lookup.
void read_json(const std::string& at, const std::string& key, const Json& value, ImageSize& into) {
  if (value.is_number_integer()) {
    into = value.get<std::int64_t>();
  } else if (value.is_array() && value.size() == 2) {
    read_axes<2>(at, key, value, into);
  } else {
    refuse_value(at, key, "a number of pixels or [height, width]", value);
  }
}

void read_json(const std::string& at, const std::string& key, const Json& value, KernelSize& into) {
  if (value.is_number_integer()) {
    into = value.get<std::int64_t>();
  } else if (value.is_array() && value.size() == 2) {
    read_axes<2>(at, key, value, into);
  } else if (value.is_array() && value.size() == 3) {
    read_axes<3>(at, key, value, into);
  } else {
    refuse_value(at, key, "a number of pixels, [height, width] or [time, height, width]", value);
  }
}

Json write_json(const ImageSize& size) {
  using Variant = std::variant<std::int64_t, std::array<std::int64_t, 2>>;
  return std::visit([](const auto& value) { return Json(value); }, static_cast<const Variant&>(size));
}

Json write_json(const std::vector<KernelSize>& sizes) {
  using Variant = std::variant<std::int64_t, std::array<std::int64_t, 2>, std::array<std::int64_t, 3>>;
  Json list = Json::array();
  for (const KernelSize& size : sizes)
    list.push_back(
        std::visit([](const auto& value) { return Json(value); }, static_cast<const Variant&>(size)));
  return list;
}

namespace {

using O = KlindtCoreReadoutOptions;

constexpr std::int64_t most_pixels = 1 << 16;  // of a side of an image or a kernel
constexpr double most_weights = 1e9;           // of the core, and of the readout

const Check<std::int64_t> side = must_be<std::int64_t>(
    text("1 to ", most_pixels), [](std::int64_t size) { return size >= 1 && size <= most_pixels; });

void check_sides(const std::string& at, const std::string& key, const KlindtSize& size) {
  for (const std::int64_t extent : size) side(at, key, extent);
}

/// An initial value that a configuration gives as a file is no parameter of the model's own.
std::function<void(const std::string& at, const Json&, O&)> without_file(const std::string& key) {
  return [=](const std::string& at, const Json& value, O&) {
    if (!value.is_null())
      refuse_value(at, key, text("null here: `fovea train` reads the file, set_", key, " takes a tensor"),
                   value);
  };
}

ParameterTable<O> parameter_table(const Variant& variant) {
  const auto rate = must_be<double>("in [0, 1)", [](double value) { return value >= 0 && value < 1; });
  const Check<std::array<double, 4>> reg = [=](const std::string& at, const std::string& key,
                                               const std::array<double, 4>& values) {
    for (std::size_t i = 0; i < 3; ++i) finite_at_least(0)(at, element_key(key, i), values[i]);
    rate(at, element_key(key, 3), values[3]);
  };
  const Check<std::array<std::array<double, 2>, 3>> scales =
      [](const std::string& at, const std::string& key, const std::array<std::array<double, 2>, 3>& rows) {
        for (std::size_t i = 0; i < rows.size(); ++i) {
          finite()(at, element_key(element_key(key, i), 0), rows[i][0]);
          finite_at_least(0)(at, element_key(element_key(key, i), 1), rows[i][1]);
        }
      };
  const Check<ImageSize> image = [](const std::string& at, const std::string& key, const ImageSize& size) {
    check_sides(at, key, size_of_image(size));
  };
  const Check<KernelSize> kernel = [&variant](const std::string& at, const std::string& key,
                                              const KernelSize& size) {
    if (!variant.movies && size.index() == 2)
      refuse_value(at, key, "a number of pixels or [height, width]", write_json(std::vector{size})[0]);
    check_sides(at, key, size_of_kernel(size));
  };
  const Check<std::string> act_fn = [](const std::string& at, const std::string& key,
                                       const std::string& spec) { parse_activation(at, key, spec); };
  const auto file = [](const O&) { return Json(); };
  return ParameterTable<O>(variant.name)
      .require("image_size", &O::image_size, "int | [int, int]",
               "pixels of a square image, or height and width", image)
      .require("image_channels", &O::image_channels, "int", "channels of the stimulus", side)
      .require("kernel_sizes", &O::kernel_sizes,
               variant.movies ? "[int | [int, int] | [int, int, int]]" : "[int | [int, int]]",
               variant.movies ? "kernel of every layer: pixels, (height, width) or (time, height, width)"
                              : "kernel of every layer: pixels, or (height, width)",
               at_least_one(kernel))
      .require("num_kernels", &O::num_kernels, "[int]", "output channels of every layer", at_least_one(side))
      .require("act_fns", &O::act_fns, "[str]",
               "activation of every layer: relu, elu, softplus, requ, same (also none or empty), "
               "parametric_relu:neg=0.1,pos=1 (slopes that are named are learnt), parametric_softplus:min=0",
               at_least_one(act_fn))
      .require("reg", &O::reg, "[float, float, float, float]",
               "penalties on kernels (squared), masks and readout weights (absolute), and dropout of the "
               "stimulus",
               reg)
      .require("init_scales", &O::init_scales, "[[float, float]] x 3",
               "mean and deviation of the initial kernels, masks and readout weights", scales)
      .add("kernel_constraint", &O::kernel_constraint, "str | null",
           "norm: every kernel is divided by its norm at each forward pass", when_given(one_of({"norm"})))
      .add("batch_norm", &O::batch_norm, "bool", "batch norm after each convolution, which then has no bias")
      .add("bn_cent", &O::bn_cent, "bool", "batch norm, if there is any, with learnt weight and bias")
      .add("seed", &O::seed, "int | null", "of the initial values; null: the seed of the run",
           when_given(at_least<std::int64_t>(0)))
      .add("num_neurons", &O::num_neurons, "int", "neurons of the session, must agree with the data",
           at_least<std::int64_t>(1))
      .add("final_relu", &O::final_relu, "bool", "relu(output + bias) instead of a linear output")
      .add("weights_constraint", &O::weights_constraint, "str | null",
           "abs, norm or absnorm of the readout weights at each forward pass",
           when_given(one_of({"abs", "norm", "absnorm"})))
      .add("mask_constraint", &O::mask_constraint, "str | null", "abs of the masks at each forward pass",
           when_given(one_of({"abs"})))
      .add_custom("init_mask", "path of .npy | null",
                  "initial masks (h*w, N), or (N,1,H,W) of which the centre is taken",
                  without_file("init_mask"), file)
      .add_custom("init_weights", "path of .npy | null", "initial readout weights (C,N)",
                  without_file("init_weights"), file)
      .add("learning_rate", &O::learning_rate, "float", "of the optimizer", finite_above(0));
}

void check(const Variant& variant, const O& o) {
  const std::size_t layers = o.kernel_sizes.size();
  if (o.num_kernels.size() != layers || o.act_fns.size() != layers)
    throw ConfigError(variant.name, text("kernel_sizes, num_kernels and act_fns need equal lengths: ", layers,
                                         ", ", o.num_kernels.size(), ", ", o.act_fns.size()));
  double weights = 0;
  for (std::size_t l = 0; l < layers; ++l) {
    double taps = static_cast<double>(l ? o.num_kernels[l - 1] : o.image_channels);
    for (const std::int64_t extent : size_of_kernel(o.kernel_sizes[l])) taps *= static_cast<double>(extent);
    weights += taps * static_cast<double>(o.num_kernels[l]);
    if (weights > most_weights)
      throw ConfigError(
          variant.name,
          text("the core must have at most ", most_weights, " weights, layer ", l, " exceeds them: channels ",
               l ? o.num_kernels[l - 1] : o.image_channels, " -> ", o.num_kernels[l]));
  }
}

void check_size(const Variant& variant, const KlindtReadout::Geometry& g) {
  const double weights = static_cast<double>(g.neurons) *
                         (static_cast<double>(g.height * g.width) + static_cast<double>(g.channels));
  if (weights > most_weights)
    throw ConfigError(variant.name,
                      text("a readout must have at most ", most_weights, " weights: ", g.neurons,
                           " neurons, ", g.channels, " channels of ", g.height, " x ", g.width, " pixels"));
}

class KlindtCoreReadout : public SessionModel {
 public:
  KlindtCoreReadout(const Variant& variant, const O& options, Common common, const Placement& placement,
                    std::uint64_t seed)
      : SessionModel(std::move(common), placement),
        variant_(variant),
        options_(options),
        random_(options.seed ? static_cast<std::uint64_t>(*options.seed) : seed),
        core_(options, variant.movies, placement, random_) {
    add_child("core", core_);
    KlindtSize size = size_of_image(options.image_size);
    for (const KernelSize& kernel : options.kernel_sizes) size[0] += size_of_kernel(kernel)[0] - 1;
    size = core_.sizes(size).back();
    const KlindtReadout::Geometry geometry{options.num_kernels.back(), size[1], size[2], options.num_neurons};
    check_size(variant, geometry);
    readout_ = std::make_unique<KlindtReadout>(geometry, options, placement, random_);
    add_child("readout", *readout_);
  }

  Shape output_shape(const Shape& sample, const std::string& session) const override {
    const std::int64_t frames = core_.sizes(checked_size(sample)).back()[0], neurons = n_neurons(session);
    return variant_.movies ? Shape{frames, neurons} : Shape{neurons};
  }

  Tensor forward(const ModelInput& input, const Pass& pass) const override {
    index_of(input.session);
    core_.sizes(checked_size(sample_of(input.stimulus)));
    return readout_->forward(core_.forward(input.stimulus, pass));
  }

  void apply_constraints(const std::string& session) const override {
    index_of(session);
    core_.apply_constraints();
    readout_->apply_constraints();
  }
  Tensor core_regularizer() const override { return core_.regularizer(); }
  Tensor readout_regularizer(const std::string& session) const override {
    index_of(session);
    return readout_->regularizer();
  }

  ModelDescription describe(const Shape& sample) const override;
  const KlindtReadout& readout() const { return *readout_; }

 private:
  /// (T,H,W) of a sample whose channels and map fit the model.
  KlindtSize checked_size(const Shape& sample) const {
    check_sample(sample);
    return {variant_.movies ? sample[1] : 1, sample[-2], sample[-1]};
  }

  Variant variant_;
  O options_;
  Random random_;
  KlindtCore core_;
  std::unique_ptr<KlindtReadout> readout_;
};

ModelDescription KlindtCoreReadout::describe(const Shape& sample) const {
  ModelDescription result;
  const bool movies = variant_.movies;
  const std::vector<KlindtSize> sizes = core_.sizes(checked_size(sample));
  const auto size_text = [&](const KlindtSize& s) {
    return movies ? text(s[0], " x ", s[1], " x ", s[2]) : text(s[1], " x ", s[2]);
  };
  std::string tree = text(variant_.name, "(\n  (core): KlindtCore(\n");
  if (options_.reg[3] > 0)
    tree += text("    (dropout): ", movies ? "channel dropout " : "dropout ", options_.reg[3], '\n');
  std::int64_t channels = options_.image_channels;
  for (std::size_t l = 0; l < core_.layers(); ++l) {
    const KlindtSize& kernel = core_.kernel(l);
    const std::int64_t out = options_.num_kernels[l];
    const std::string& act = options_.act_fns[l];
    const std::string what =
        text(movies ? "conv3d " : "conv2d ", channels, " -> ", out, ", kernel ", size_text(kernel),
             options_.kernel_constraint ? " of norm 1" : "",
             options_.batch_norm ? options_.bn_cent ? ", affine batch norm" : ", batch norm" : ", bias",
             act.empty() ? "" : ", " + act);
    const auto& [t, h, w] = sizes[l];
    result.layers.push_back({text("core.conv_layers.", l), what,
                             movies ? Shape{out, t, h, w} : Shape{out, h, w}, core_.parameters_of(l)});
    tree += text("    (", l, "): ", what, '\n');
    result.receptive_field_frames += kernel[0] - 1;
    result.receptive_field_height += kernel[1] - 1;
    result.receptive_field_width += kernel[2] - 1;
    channels = out;
  }
  const KlindtReadout::Geometry& g = readout_->geometry();
  const std::string what = text("KlindtReadout (", g.channels, " x ", g.height, " x ", g.width, " -> ",
                                g.neurons, ")", options_.final_relu ? " with bias, relu" : "");
  const std::int64_t frames = sizes.back()[0];
  result.layers.push_back(
      {"readout", what, movies ? Shape{frames, g.neurons} : Shape{g.neurons}, readout_->parameter_count()});
  result.tree = tree + text("  )\n  (readout): ", what, "\n)");
  return result;
}

/// The section as `read_sessions` knows it: with the in_shape that data_info may repeat, which has any number
/// of frames, and with the sessions that only data_info names.
Json with_data_info(const Variant& variant, const Json& section, const O& o) {
  Json result = section;
  const Json info = section.value("data_info", Json());
  if (info.is_null()) return result;
  if (!info.is_object()) refuse_value(variant.name, "data_info", "a map", info);
  const KlindtSize image = size_of_image(o.image_size);
  const Json shape = info.value("input_shape", Json());
  result["in_shape"] = variant.movies && shape.is_array() && shape.size() == 4
                           ? Json{o.image_channels, shape[1], image[1], image[2]}
                           : Json{o.image_channels, image[1], image[2]};
  if (section.value("sessions", Json()).is_null() && section.value("n_neurons_dict", Json()).is_null())
    result["n_neurons_dict"] = info.value("n_neurons_dict", Json{{"session", o.num_neurons}});
  if (const Json counts = info.value("n_neurons_dict", Json()); !counts.is_null() && !counts.is_object())
    refuse_value(variant.name, "data_info.n_neurons_dict", "a map of session to number of neurons", counts);
  return result;
}

/// One session of num_neurons; its count is that of the sessions where those are given and it is not.
SessionOptions read_session(const Variant& variant, const Json& section, O& options) {
  const bool counted = !section.value("num_neurons", Json()).is_null();
  const Json known = with_data_info(variant, section, options);
  if (known.value("sessions", Json()).is_null() && known.value("n_neurons_dict", Json()).is_null())
    return {"session", options.num_neurons, {}};
  std::vector<SessionOptions> sessions = read_sessions(variant.name, known);
  if (sessions.size() != 1)
    throw ConfigError(variant.name, text("has one session, not ", sessions.size(), ": ", sessions[0].key,
                                         ", ", sessions[1].key, sessions.size() > 2 ? ", .." : ""));
  SessionOptions& session = sessions.front();
  if (counted && session.n_neurons != options.num_neurons)
    throw ConfigError(variant.name, text("num_neurons must agree with session ", session.key, " of ",
                                         session.n_neurons, " neurons: ", options.num_neurons));
  options.num_neurons = session.n_neurons;
  session.mean_activity.reset();  // the readout's bias starts at zero
  return session;
}

std::unique_ptr<Model> make(const Variant& variant, const Json& section, const Placement& placement,
                            std::uint64_t seed) {
  const ParameterTable<O> table = parameter_table(variant);
  O o = table.parse(section, common_keys());
  const SessionOptions session = read_session(variant, section, o);
  check(variant, o);
  auto [loss, metric] = read_losses(variant.name, section, variant.movies, {{"class", variant.default_loss}},
                                    {{"class", variant.default_metric}});
  const KlindtSize image = size_of_image(o.image_size);
  std::int64_t frames = 1;  // that give one prediction
  for (const KernelSize& kernel : o.kernel_sizes) frames += size_of_kernel(kernel)[0] - 1;
  const Shape in_shape = variant.movies ? Shape{o.image_channels, frames, image[1], image[2]}
                                        : Shape{o.image_channels, image[1], image[2]};
  return std::make_unique<KlindtCoreReadout>(variant, o,
                                             SessionModel::Common{variant.name,
                                                                  table.write(o),
                                                                  {session},
                                                                  std::move(loss),
                                                                  std::move(metric),
                                                                  in_shape,
                                                                  o.learning_rate},
                                             placement, seed);
}

template <const Variant& variant>
std::unique_ptr<Model> make(const Json& section, const Placement& placement, std::uint64_t seed) {
  return make(variant, section, placement, seed);
}

const KlindtReadout& readout_of(Model& model, const char* key) {
  const auto* klindt = dynamic_cast<const KlindtCoreReadout*>(&model);
  if (!klindt) throw ConfigError(model.class_name(), text("has no ", key));
  return klindt->readout();
}

void copy_initial(const std::string& key, const Tensor& from, const Tensor& to) {
  if (from.shape() != to.shape()) throw ShapeError(key, text("must be ", to.shape(), ": ", from.shape()));
  to.copy_from(from.to(to.device()).to(to.dtype()));
}

/// The centre (h,w) of images (N,1,H,W) as masks (h*w,N).
Tensor centre_cropped(const Tensor& images, const KlindtReadout::Geometry& g) {
  const Shape& s = images.shape();
  if (s[0] != g.neurons || s[1] != 1 || s[2] < g.height || s[3] < g.width)
    throw ShapeError("init_mask", text("images must be (", g.neurons, ", 1, H, W) with at least ", g.height,
                                       " x ", g.width, " pixels: ", s));
  const std::int64_t top = (s[2] - g.height) / 2, left = (s[3] - g.width) / 2;
  const std::vector<double> all = images.to(DType::f64).to_vector<double>();
  std::vector<double> masks;
  masks.reserve(static_cast<std::size_t>(g.height * g.width * g.neurons));
  for (std::int64_t y = 0; y < g.height; ++y)
    for (std::int64_t x = 0; x < g.width; ++x)
      for (std::int64_t n = 0; n < g.neurons; ++n)
        masks.push_back(all[static_cast<std::size_t>((n * s[2] + top + y) * s[3] + left + x)]);
  return Tensor::from(masks, {g.height * g.width, g.neurons}, images.device());
}

std::unique_ptr<Model> make_in_code(const Variant& variant, const O& options, const Placement& placement,
                                    std::uint64_t seed) {
  // By way of the section, so that the same checks hold.
  return make(variant, parameter_table(variant).write(options), placement, seed);
}

}  // namespace

std::unique_ptr<Model> make_klindt_core_readout_2d(const O& options, const Placement& placement,
                                                   std::uint64_t seed) {
  return make_in_code(klindt_2d, options, placement, seed);
}

std::unique_ptr<Model> make_klindt_core_readout_3d(const O& options, const Placement& placement,
                                                   std::uint64_t seed) {
  return make_in_code(klindt_3d, options, placement, seed);
}

void set_init_mask(Model& model, const Tensor& init_mask) {
  const KlindtReadout& readout = readout_of(model, "init_mask");
  const bool images = init_mask.shape().rank() == 4;
  copy_initial("init_mask", images ? centre_cropped(init_mask, readout.geometry()) : init_mask,
               readout.mask_weights());
}

void set_init_weights(Model& model, const Tensor& init_weights) {
  copy_initial("init_weights", init_weights, readout_of(model, "init_weights").readout_weights());
}

static ClassPage page(const Variant& variant) {
  const char* shapes = variant.movies
                           ? "movies (B,C,T,H,W) -> (B,T_out,N), T_out = T - sum(kt - 1)."
                           : "images (B,C,H,W) -> (B,N). A movie becomes images by `data.frames_per_image`.";
  constexpr auto of_3d =
      R"(- `kernel_sizes`: `k` is (1,k,k) and a pair (1,kh,kw), as the reference computes and then forgets: it built k x k x k
  kernels and failed with pairs.
- `reg[1]` and `reg[2]` weigh the readout's terms, as the parameter table says; every snapshot of the reference returned the
  unweighted sum.
)";
  constexpr auto of_2d =
      R"(- The later 2D class of the same name (no `reg`, batch norm after the activation, softplus output) is another model; its
  files do not load here.
- `PoissonNLLLoss` has `log_input: false` by default here, as the parameter table says; PyTorch's own default is true.
)";
  constexpr auto of_both =
      R"(- Unknown activations, constraints and arguments are refused; the first snapshot of the reference took every activation
  but relu for the identity. `softplus` and `none` are additions.
- `init_mask` and `init_weights` are paths of .npy files (tensors in C++), used once and not stored.
- A fresh model has running mean 0, variance 1 and count 0: no image of zeros is pushed through at construction.
- A model without `seed` starts from the seed of the run; PyTorch's random numbers are not reproduced.
)";
  return {text("A core of valid convolutions (each: convolution, batch norm, activation) and a spatial mask "
               "and a feature "
               "vector per neuron: ",
               shapes,
               " Source: Klindt et al. 2017, \"Neural system identification for large populations separating "
               "what and "
               "where\"; the class whose parameters are the table's. One session; its number of neurons is "
               "`num_neurons` where that is given."),
          {},
          text("{class: ", variant.default_loss, "}"),
          text("{class: ", variant.default_metric, "}"),
          text(variant.movies ? of_3d : of_2d, of_both)};
}

extern const ModelClass klindt_core_readout_2d_class, klindt_core_readout_3d_class;
const ModelClass klindt_core_readout_2d_class{klindt_2d.name, make<klindt_2d>,
                                              [] { return document_table(parameter_table(klindt_2d)); },
                                              [] { return page(klindt_2d); }};
const ModelClass klindt_core_readout_3d_class{klindt_3d.name, make<klindt_3d>,
                                              [] { return document_table(parameter_table(klindt_3d)); },
                                              [] { return page(klindt_3d); }};

}  // namespace fovea

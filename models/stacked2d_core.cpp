#include "models/stacked2d_core.hpp"

#include <cmath>

namespace fovea {
namespace {

constexpr auto where = "Stacked2dCore";

/// A number for every layer.
std::vector<std::int64_t> per_layer(const OneOrMany& option, std::int64_t layers) {
  if (const auto* one = std::get_if<std::int64_t>(&option))
    return std::vector<std::int64_t>(static_cast<std::size_t>(layers), *one);
  return std::get<std::vector<std::int64_t>>(option);
}

/// Layers by Python's rules: none: all, s: range(layers)[s:], or a list whose negatives count from the end.
std::vector<std::size_t> stacked_layers(const std::optional<OneOrMany>& stack, std::int64_t layers) {
  std::vector<std::size_t> result;
  const auto* list = stack ? std::get_if<std::vector<std::int64_t>>(&*stack) : nullptr;
  if (list) {
    for (const std::int64_t layer : *list)
      result.push_back(static_cast<std::size_t>(layer < 0 ? layers + layer : layer));
    return result;
  }
  std::int64_t first = stack ? std::get<std::int64_t>(*stack) : 0;
  if (first < 0) first = std::max<std::int64_t>(0, layers + first);
  for (; first < layers; ++first) result.push_back(static_cast<std::size_t>(first));
  return result;
}

InputRegularizerOptions input_regularizer_options(const Stacked2dCoreOptions& o) {
  InputRegularizerOptions options;
  options.padding = o.laplace_padding.value_or(1);
  options.mean = o.use_avg_reg;
  options.kind = o.input_regularizer == "LaplaceL2"       ? InputRegularizer::laplace_l2
                 : o.input_regularizer == "LaplaceL2norm" ? InputRegularizer::laplace_l2_norm
                 : o.input_regularizer == "LaplaceL1"     ? InputRegularizer::laplace_l1
                                                          : InputRegularizer::gaussian_laplace_l2;
  return options;
}

AxisSizes<2> hidden_padding(const Stacked2dCoreOptions& o, std::int64_t kernel) {
  AxisSizes<2> given{};
  if (o.hidden_padding) {
    if (const auto* one = std::get_if<std::int64_t>(&*o.hidden_padding)) {
      given = {*one, *one};
      if (*one != 0) return given;
    } else {
      return std::get<1>(*o.hidden_padding);
    }
  }
  return every_axis<2>(((kernel - 1) * o.hidden_dilation + 1) / 2);
}

}  // namespace

Conv2dLayer::Conv2dLayer(const Geometry& g, const Placement& p, Random& random) : geometry_(g) {
  options_.stride = every_axis<2>(g.stride);
  options_.padding = Padding2d::symmetric(g.padding);
  options_.dilation = every_axis<2>(g.dilation);
  options_.groups = g.groups;
  const Shape shape{g.out_channels, g.in_channels / g.groups, g.kernel, g.kernel};
  weight_ = add_tensor("weight", Role::parameter, Tensor(shape, p.dtype, p.device));
  const double taps = static_cast<double>(g.kernel * g.kernel);
  const std::int64_t of_group = g.in_channels / g.groups;
  const double fans = static_cast<double>(of_group + g.out_channels) * taps;
  random.normal(weight_, 0.0, std::sqrt(2.0 / fans));
  if (g.bias) bias_ = add_tensor("bias", Role::parameter, Tensor::zeros({g.out_channels}, p.dtype, p.device));
}

AxisSizes<2> Conv2dLayer::output_size(const AxisSizes<2>& size) const {
  AxisSizes<2> out{};
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const std::int64_t room =
        size[axis] + 2 * geometry_.padding[axis] - geometry_.dilation * (geometry_.kernel - 1) - 1;
    out[axis] = room < 0 ? 0 : room / geometry_.stride + 1;
  }
  return out;
}

std::string Conv2dLayer::text() const {
  const Geometry& g = geometry_;
  return fovea::text(g.in_channels, " -> ", g.out_channels, ", kernel ", g.kernel, " x ", g.kernel,
                     ", padding ", g.padding[0], " x ", g.padding[1],
                     g.stride > 1 ? fovea::text(", stride ", g.stride) : "",
                     g.dilation > 1 ? fovea::text(", dilation ", g.dilation) : "");
}

StackedLayer::StackedLayer(const Conv2dLayer::Geometry& conv, bool depth_separable, const Options& options,
                           const Placement& p, Random& random)
    : options_(options) {
  const auto add = [&](Group& group, const char* name, const Conv2dLayer::Geometry& geometry) {
    convs_.push_back(std::make_unique<Conv2dLayer>(geometry, p, random));
    group.add_child(name, *convs_.back());
  };
  const std::int64_t out = conv.out_channels;
  if (depth_separable) {
    Conv2dLayer::Geometry depthwise = conv;
    depthwise.in_channels = depthwise.groups = out;
    add(separable_, "in_depth_conv", {.in_channels = conv.in_channels, .out_channels = out, .kernel = 1});
    add(separable_, "spatial_conv", depthwise);
    add(separable_, "out_depth_conv", {.in_channels = out, .out_channels = out, .kernel = 1});
    add_child("ds_conv", separable_);
  } else {
    convs_.push_back(std::make_unique<Conv2dLayer>(conv, p, random));
    add_child("conv", *convs_.back());
  }
  if (!options.batch_norm) return;
  norm_ = std::make_unique<BatchNormLayer>(
      out, BatchNormLayer::Options{where, options.scale && options.bias, options.momentum}, p);
  add_child("norm", *norm_);
  const Shape one_per_channel{1, out, 1, 1};
  if (options.bias && !options.scale) {
    bias_ =
        bias_group_.add_tensor("bias", Role::parameter, Tensor::zeros(one_per_channel, p.dtype, p.device));
    add_child("bias", bias_group_);
  }
  if (options.scale && !options.bias) {
    scale_ = scale_group_.add_tensor("scale", Role::parameter,
                                     Tensor::full(one_per_channel, 1.0, p.dtype, p.device));
    add_child("scale", scale_group_);
  }
}

Tensor StackedLayer::forward(const Tensor& x, const Pass& pass) const {
  Tensor y = x;
  for (const auto& conv : convs_) y = conv->forward(y);
  return norm_ ? norm_->forward(y, pass, options_.activation, {scale_, bias_})
               : activate(y, options_.activation);
}

AxisSizes<2> StackedLayer::output_size(AxisSizes<2> size) const {
  for (const auto& conv : convs_) size = conv->output_size(size);
  return size;
}

std::string StackedLayer::text() const {
  const bool separable = convs_.size() > 1;
  std::string what = separable ? fovea::text("depth-separable conv2d ", convs_[0]->geometry().in_channels,
                                             " -> ", convs_[1]->text())
                               : fovea::text("conv2d ", convs_[0]->text());
  if (norm_) what += ", batch norm";
  if (scale_) what += ", scale";
  if (bias_) what += ", bias";
  return what + (options_.activation.kind == ActivationKind::elu ? ", ELU" : "");
}

/// Through the table, so that the same checks hold for options of a program and of a configuration.
static Stacked2dCoreOptions checked(const Stacked2dCoreOptions& options) {
  Stacked2dCoreOptions same = stacked2d_core_table().parse(stacked2d_core_table().write(options));
  check(same);
  return same;
}

Stacked2dCore::~Stacked2dCore() = default;

Stacked2dCore::Stacked2dCore(const Stacked2dCoreOptions& given, Random& random, const Placement& p)
    : options_(checked(given)), stack_(stacked_layers(options_.stack, options_.layers)) {
  const Stacked2dCoreOptions& o = options_;
  const std::vector<std::int64_t> channels = per_layer(o.hidden_channels, o.layers),
                                  kernels = per_layer(o.hidden_kern, o.layers - 1);
  for (std::int64_t l = 0; l < o.layers; ++l) {
    const auto index = static_cast<std::size_t>(l);
    const bool last = l + 1 == o.layers;
    StackedLayer::Options options{o.batch_norm,
                                  last ? o.final_batchnorm_scale : o.batch_norm_scale,
                                  o.bias,
                                  o.momentum,
                                  {ActivationKind::elu, o.elu_shift[0], o.elu_shift[1]}};
    if (o.linear || (last && !o.final_nonlinearity)) options.activation = {};
    Conv2dLayer::Geometry conv{.in_channels = o.input_channels,
                               .out_channels = channels[index],
                               .kernel = o.input_kern,
                               .stride = o.input_stride,
                               .padding = every_axis<2>(o.pad_input ? o.input_kern / 2 : 0),
                               .bias = false};
    if (l > 0) {
      const std::int64_t kernel = kernels[index - 1];
      conv = {.in_channels = o.skip > 1 ? std::min(o.skip, l) * channels[0] : channels[index - 1],
              .out_channels = channels[index],
              .kernel = kernel,
              .stride = o.stride,
              .padding = hidden_padding(o, kernel),
              .dilation = o.hidden_dilation};
    }
    layers_.push_back(std::make_unique<StackedLayer>(conv, l > 0 && o.depth_separable, options, p, random));
    features_.add_child(text("layer", l), *layers_.back());
  }
  add_child("features", features_);
}

/// A training pass runs every layer, also for the statistics of those that nobody stacks.
Tensor Stacked2dCore::forward(const Tensor& x, const Pass& pass) const {
  const std::size_t needed =
      pass.training ? layers_.size() : *std::max_element(stack_.begin(), stack_.end()) + 1;
  std::vector<Tensor> outputs;
  for (std::size_t l = 0; l < needed; ++l) {
    Tensor input = l ? outputs.back() : x;
    if (l && options_.skip > 1) {
      const auto seen = static_cast<std::ptrdiff_t>(std::min(static_cast<std::size_t>(options_.skip), l));
      input = concatenate_channels({outputs.end() - seen, outputs.end()});
    }
    outputs.push_back(layers_[l]->forward(input, pass));
  }
  std::vector<Tensor> stacked;
  for (const std::size_t layer : stack_) stacked.push_back(outputs[layer]);
  return concatenate_channels(stacked);
}

Tensor Stacked2dCore::regularizer() const {
  std::vector<Tensor> terms;
  std::vector<double> factors;
  if (options_.gamma_input != 0) {
    terms.push_back(input_regularizer(layers_[0]->weight(), input_regularizer_options(options_)));
    factors.push_back(options_.gamma_input);
  }
  if (options_.gamma_hidden != 0 && !options_.depth_separable)
    for (std::size_t l = 1; l < layers_.size(); ++l) {
      terms.push_back(mean_filter_norm(layers_[l]->weight()));
      factors.push_back(options_.gamma_hidden / static_cast<double>(layers_.size() - 1));
    }
  return terms.empty() ? Tensor() : weighted_sum(terms, factors);
}

std::vector<AxisSizes<2>> Stacked2dCore::sizes(const AxisSizes<2>& input) const {
  std::vector<AxisSizes<2>> sizes;
  const auto by = [](const AxisSizes<2>& size) { return text(size[0], " x ", size[1]); };
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const std::size_t skip = options_.skip > 1 ? std::min(static_cast<std::size_t>(options_.skip), l) : 1;
    for (std::size_t back = 2; l && back <= skip; ++back)
      if (sizes[l - back] != sizes[l - 1])
        throw ShapeError(where, text("skip: layer ", l, " sees maps of different sizes: ",
                                     by(sizes[l - back]), " and ", by(sizes[l - 1])));
    const AxisSizes<2> size = layers_[l]->output_size(l ? sizes[l - 1] : input);
    if (size[0] < 1 || size[1] < 1)
      throw ShapeError(where, text("layer ", l, " leaves nothing of its input ", by(l ? sizes[l - 1] : input),
                                   ": ", layers_[l]->text()));
    sizes.push_back(size);
  }
  for (const std::size_t layer : stack_)
    if (sizes[layer] != sizes[stack_.front()])
      throw ShapeError(where, text("stack: maps of different sizes: layer ", stack_.front(), ' ',
                                   by(sizes[stack_.front()]), ", layer ", layer, ' ', by(sizes[layer])));
  return sizes;
}

std::int64_t Stacked2dCore::out_channels() const {
  std::int64_t channels = 0;
  for (const std::size_t layer : stack_) channels += layers_[layer]->out_channels();
  return channels;
}

// Found by the table through argument-dependent lookup.
void read_json(const std::string& at, const std::string& key, const Json& value, OneOrMany& into) {
  if (value.is_array()) {
    std::vector<std::int64_t> list;
    read_json(at, key, value, list);
    into = list;
  } else if (value.is_number_integer()) {
    into = value.get<std::int64_t>();
  } else {
    refuse_value(at, key, "a whole number or a list of them", value);
  }
}
void read_json(const std::string& at, const std::string& key, const Json& value, MapPadding& into) {
  if (value.is_array() && value.size() == 2) {
    std::array<std::int64_t, 2> axes{};
    read_json(at, key, value, axes);
    into = axes;
  } else if (value.is_number_integer()) {
    into = value.get<std::int64_t>();
  } else {
    refuse_value(at, key, "a number of zeros or [height, width]", value);
  }
}
Json write_json(const OneOrMany& option) {
  using Variant = std::variant<std::int64_t, std::vector<std::int64_t>>;
  return std::visit([](const auto& value) { return Json(value); }, static_cast<const Variant&>(option));
}
Json write_json(const MapPadding& option) {
  using Variant = std::variant<std::int64_t, std::array<std::int64_t, 2>>;
  return std::visit([](const auto& value) { return Json(value); }, static_cast<const Variant&>(option));
}

const ParameterTable<Stacked2dCoreOptions>& stacked2d_core_table() {
  using O = Stacked2dCoreOptions;
  constexpr std::int64_t most = 1 << 16;
  const auto size = must_be<std::int64_t>(text("1 to ", most),
                                          [](std::int64_t value) { return value >= 1 && value <= most; });
  const auto count = must_be<std::int64_t>(text("0 to ", most),
                                           [](std::int64_t value) { return value >= 0 && value <= most; });
  const Check<OneOrMany> sizes = [=](const std::string& at, const std::string& key, const OneOrMany& option) {
    if (const auto* one = std::get_if<std::int64_t>(&option)) return size(at, key, *one);
    each<std::vector<std::int64_t>>(size)(at, key, std::get<std::vector<std::int64_t>>(option));
  };
  const Check<MapPadding> padding = [=](const std::string& at, const std::string& key,
                                        const MapPadding& option) {
    if (const auto* one = std::get_if<std::int64_t>(&option)) return count(at, key, *one);
    each<std::array<std::int64_t, 2>>(count)(at, key, std::get<1>(option));
  };
  const auto rate = must_be<double>("in [0, 1]", [](double value) { return value >= 0 && value <= 1; });
  static const ParameterTable<O> table =
      ParameterTable<O>(where)
          .require("input_channels", &O::input_channels, "int", "channels of the stimulus", size)
          .require("hidden_channels", &O::hidden_channels, "int | [int]",
                   "output channels of all layers, or of each", sizes)
          .require("input_kern", &O::input_kern, "int", "kernel of the first layer, pixels, square", size)
          .require("hidden_kern", &O::hidden_kern, "int | [int]", "kernel of all later layers, or of each",
                   sizes)
          .add("layers", &O::layers, "int", "number of layers",
               must_be<std::int64_t>("1 to 1000", [](std::int64_t n) { return n >= 1 && n <= 1000; }))
          .add("gamma_hidden", &O::gamma_hidden, "float",
               "group sparsity of the later kernels; depth-separable ones have none", finite_at_least(0))
          .add("gamma_input", &O::gamma_input, "float", "smoothness of the first kernels", finite_at_least(0))
          .add("skip", &O::skip, "int", "above 1: a later layer sees the last `skip` outputs side by side",
               count)
          .add("stride", &O::stride, "int", "of the later layers", size)
          .add("input_stride", &O::input_stride, "int", "of the first layer", size)
          .add("final_nonlinearity", &O::final_nonlinearity, "bool", "whether the last layer has one")
          .add("elu_shift", &O::elu_shift, "[float, float]", "elu(x - elu_shift[0]) + elu_shift[1]",
               each<std::array<double, 2>>(finite()))
          .add("bias", &O::bias, "bool", "a learnt bias per channel after the batch norm")
          .add("momentum", &O::momentum, "float", "of the running statistics of the batch norm", rate)
          .add("pad_input", &O::pad_input, "bool", "input_kern / 2 zeros around the stimulus, else none")
          .add("hidden_padding", &O::hidden_padding, "int | [int, int] | null",
               "zeros around the input of the later layers; null and 0: ((kernel - 1) dilation + 1) / 2",
               when_given(padding))
          .add("batch_norm", &O::batch_norm, "bool", "batch norm after each convolution")
          .add("batch_norm_scale", &O::batch_norm_scale, "bool", "a learnt scale per channel after it")
          .add("final_batchnorm_scale", &O::final_batchnorm_scale, "bool", "the same of the last layer")
          .add("hidden_dilation", &O::hidden_dilation, "int", "dilation of the later kernels", size)
          .add("laplace_padding", &O::laplace_padding, "int | null",
               "zeros around a first kernel in the input regularizer; null: 1", when_given(count))
          .add("input_regularizer", &O::input_regularizer, "str",
               "LaplaceL2, LaplaceL2norm, LaplaceL1 or GaussianLaplaceL2",
               one_of({"LaplaceL2", "LaplaceL2norm", "LaplaceL1", "GaussianLaplaceL2"}))
          .add("stack", &O::stack, "int | [int] | null",
               "layers whose outputs are stacked: null: all, s: from s on, or a list")
          .add("use_avg_reg", &O::use_avg_reg, "bool", "the input regularizer averages instead of summing")
          .add("depth_separable", &O::depth_separable, "bool",
               "later layers are a 1x1, a depthwise and a 1x1 convolution")
          .add("linear", &O::linear, "bool", "no nonlinearity at all")
          .add("nonlinearity_type", &O::nonlinearity_type, "str", "AdaptiveELU", one_of({"AdaptiveELU"}));
  return table;
}

namespace {

void check_lengths(const Stacked2dCoreOptions& o) {
  const auto check_list = [&](const char* key, const OneOrMany& option, std::int64_t length) {
    const auto* list = std::get_if<std::vector<std::int64_t>>(&option);
    if (list && static_cast<std::int64_t>(list->size()) != length)
      refuse_value(where, key, text("a list of ", length, " numbers with layers = ", o.layers),
                   write_json(option));
  };
  check_list("hidden_channels", o.hidden_channels, o.layers);
  check_list("hidden_kern", o.hidden_kern, o.layers - 1);
  if (o.skip > 1 && o.hidden_channels.index() == 1)
    refuse_value(where, "hidden_channels", "one number with skip above 1", write_json(o.hidden_channels));
}

void check_stack(const Stacked2dCoreOptions& o) {
  const auto refuse = [&] {
    refuse_value(where, "stack",
                 text("null, a first layer or a list of layers -", o.layers, " to ", o.layers - 1,
                      ", and not be empty"),
                 write_json(o.stack));
  };
  if (o.stack)
    if (const auto* list = std::get_if<std::vector<std::int64_t>>(&*o.stack))
      for (const std::int64_t layer : *list)
        if (layer < -o.layers || layer >= o.layers) refuse();
  if (stacked_layers(o.stack, o.layers).empty()) refuse();
}

void check_weights(const Stacked2dCoreOptions& o) {
  constexpr double most = 1e9;
  const std::vector<std::int64_t> channels = per_layer(o.hidden_channels, o.layers),
                                  kernels = per_layer(o.hidden_kern, o.layers - 1);
  double weights = 0;
  for (std::size_t l = 0; l < channels.size(); ++l) {
    const double out = static_cast<double>(channels[l]),
                 kernel = static_cast<double>(l ? kernels[l - 1] : o.input_kern),
                 in = static_cast<double>(l ? channels[l - 1] : o.input_channels) *
                      static_cast<double>(l && o.skip > 1 ? o.skip : 1);
    weights += l && o.depth_separable ? out * (in + kernel * kernel + out) : in * out * kernel * kernel;
    if (weights > most)
      throw ConfigError(where, text("the core must have at most ", most, " weights, layer ", l,
                                    " exceeds them: channels ", in, " -> ", out, ", kernel ", kernel));
  }
}

}  // namespace

void check(const Stacked2dCoreOptions& o) {
  check_lengths(o);
  check_stack(o);
  check_weights(o);
  if (o.gamma_input == 0) return;
  const InputRegularizerOptions regularizer = input_regularizer_options(o);
  const bool gaussian = regularizer.kind == InputRegularizer::gaussian_laplace_l2;
  if (gaussian && regularizer.padding != 1)
    refuse_value(where, "laplace_padding", "1 or null with GaussianLaplaceL2", write_json(o.laplace_padding));
  const std::int64_t least = gaussian ? 3 : 3 - 2 * regularizer.padding;
  if (o.input_kern < least)
    refuse_value(where, "input_kern",
                 text("at least ", least, " with gamma_input and laplace_padding ", regularizer.padding),
                 Json(o.input_kern));
}

Shape get_module_output(const Stacked2dCore& core, const Shape& images) {
  if (images.rank() != 4 || images[1] != core.in_channels())
    throw ShapeError("get_module_output", text("images (B,", core.in_channels(), ",H,W) expected: ", images));
  const AxisSizes<2> map = core.sizes({images[2], images[3]})[core.stack().front()];
  return {images[0], core.out_channels(), map[0], map[1]};
}

}  // namespace fovea

// The convolution types of CoreReadout beyond the golden cases: their tensors, sizes, initial values, speed
// factor, regularizers and errors.
#include <doctest/doctest.h>

#include <cmath>

#include "check.hpp"
#include "fovea/autograd.hpp"
#include "fovea/core_readout.hpp"
#include "models/conv_core.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

const Placement& placement() {
  static const Placement one{cpu_device(1, Isa::reference), DType::f64};
  return one;
}

CoreReadoutOptions options_of(const std::string& type) {
  CoreReadoutOptions options;
  options.in_shape = {2, 20, 12, 11};
  options.hidden_channels = {3, 4};
  options.temporal_kernel_sizes = {7, 4};
  options.spatial_kernel_sizes = {5, 3};
  options.core_gamma_temporal = 0;
  options.convolution_type = type;
  return options;
}

std::unique_ptr<Model> make(const CoreReadoutOptions& options) {
  return make_core_readout(options, {{"one", 5, {}}}, placement(), 3);
}

std::string refusal(const CoreReadoutOptions& options) {
  try {
    make(options);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

std::vector<std::string> conv_tensors(const Model& model) {
  const std::string start = "core.features.layer1.conv.";
  std::vector<std::string> names;
  for (const NamedTensor& one : model.tensors())
    if (one.name.rfind(start, 0) == 0)
      names.push_back(one.name.substr(start.size()) + (one.role == Role::constant ? " (constant)" : ""));
  return names;
}

Tensor tensor_of(const Module& module, const std::string& name) {
  for (const NamedTensor& one : module.tensors())
    if (one.name == name) return one.tensor;
  FAIL("no tensor ", name);
  return {};
}

Tensor movie(std::uint64_t seed) {
  const Tensor x({2, 20, 12, 11, 2}, DType::f64, placement().device);
  Random(seed).normal(x);
  return x;
}

std::unique_ptr<CoreConvolution> convolution(const std::string& type, const PaddingOption& padding) {
  Random random(5);
  return core_convolution_type(type).make({2, 3, 7, 5, padding}, placement(), random);
}

}  // namespace

TEST_CASE("each type of convolution has PyTorch's tensors in PyTorch's order") {
  using Names = std::vector<std::string>;
  CHECK(conv_tensors(*make(options_of("custom_separable"))) ==
        Names{"sin_weights", "cos_weights", "weight_spatial", "_log_speed_default (constant)"});
  CHECK(conv_tensors(*make(options_of("separable"))) ==
        Names{"_log_speed_default (constant)", "space_conv.weight", "time_conv.weight"});
  CHECK(conv_tensors(*make(options_of("full"))) == Names{"_log_speed_default (constant)", "conv.weight"});
  CHECK(conv_tensors(*make(options_of("time_independent"))) == Names{"conv.weight"});
}

TEST_CASE("output sizes are what the convolutions give, for every form of padding") {
  const PaddingOption same = true, none = false, all = std::int64_t{1}, each = AxisSizes<3>{0, 1, 2};
  const auto size = [&](const char* type, const PaddingOption& padding) {
    const auto conv = convolution(type, padding);
    const AxisSizes<3> out = conv->output_size({20, 12, 11});
    CHECK(conv->forward(movie(1)).shape() == Shape{2, out[0], out[1], out[2], 3});
    return out;
  };
  for (const CoreConvolutionType& type : core_convolution_types())
    CHECK(size(type.name, same) == AxisSizes<3>{20, 12, 11});
  CHECK(size("full", none) == AxisSizes<3>{14, 8, 7});
  CHECK(size("full", each) == AxisSizes<3>{14, 10, 11});
  // Both convolutions of a separable one have the whole padding.
  CHECK(size("separable", none) == AxisSizes<3>{14, 8, 7});
  CHECK(size("separable", all) == AxisSizes<3>{18, 12, 11});
  CHECK(size("separable", each) == AxisSizes<3>{14, 12, 15});
  CHECK(size("time_independent", none) == AxisSizes<3>{20, 8, 7});
  CHECK(size("time_independent", all) == AxisSizes<3>{22, 10, 9});
  CHECK_THROWS_WITH_AS(convolution("separable", none)->output_size({6, 12, 11}),
                       "[CoreReadout] layer 0: its input (6, 8, 7), padding included, is too small for "
                       "temporal_kernel_sizes[0]: 7",
                       ShapeError);
  CHECK_THROWS_WITH_AS(convolution("full", none)->output_size({20, 4, 11}),
                       "[CoreReadout] layer 0: its input (20, 4, 11), padding included, is too small for "
                       "spatial_kernel_sizes[0]: 5",
                       ShapeError);
}

TEST_CASE("weights begin uniform within one over the root of the fan in") {
  const auto model = make(options_of("separable"));
  const auto check_range = [&](const char* name, double fan_in) {
    const std::vector<double> w = values(tensor_of(*model, std::string("core.features.layer0.conv.") + name));
    const double bound = 1 / std::sqrt(fan_in), count = static_cast<double>(w.size());
    double sum = 0, squares = 0, largest = 0;
    for (const double value : w) {
      sum += value;
      squares += value * value;
      largest = std::max(largest, std::abs(value));
    }
    CHECK(largest <= bound);
    CHECK(largest > 0.8 * bound);
    // Of a uniform distribution the variance is bound^2 / 3; five standard deviations of its mean and square.
    CHECK(std::abs(sum / count) < 5 * bound / std::sqrt(3 * count));
    CHECK(std::abs(squares / count - bound * bound / 3) < 5 * bound * bound * std::sqrt(4.0 / 45 / count));
  };
  check_range("space_conv.weight", 2 * 25);
  check_range("time_conv.weight", 3 * 7);
}

TEST_CASE("exp(log_speed) multiplies a separable convolution's output and no full one's") {
  const Tensor x = movie(2);
  const auto separable = convolution("separable", false), full = convolution("full", false);
  const Tensor before = separable->forward(x), plain = full->forward(x);
  tensor_of(*separable, "_log_speed_default").fill(0.4);
  tensor_of(*full, "_log_speed_default").fill(0.4);
  CHECK(relative_l2(scale(before, std::exp(0.4)), separable->forward(x), 1e-14));
  CHECK(exact(plain, full->forward(x)));
}

TEST_CASE("regularizers of a time independent core have values but no gradient") {
  CoreReadoutOptions options = options_of("time_independent");
  options.core_gamma_input = 0.3;
  options.core_gamma_in_sparse = 0.2;
  options.core_gamma_hidden = 0.1;
  const auto model = make(options);
  const Tensor first = tensor_of(*model, "core.features.layer0.conv.conv.weight"),
               second = tensor_of(*model, "core.features.layer1.conv.conv.weight");
  const Tensor value = model->core_regularizer();
  CHECK(!value.requires_grad());
  CHECK(value.item() ==
        doctest::Approx(0.3 * laplace_ratio(first).item() + 0.2 * group_sparsity(first).item() +
                        0.3 * group_sparsity(second).item())
            .epsilon(1e-14));
}

TEST_CASE("the temporal regularizer of a separable core is that of its first layer") {
  CoreReadoutOptions options = options_of("separable");
  options.core_gamma_temporal = 2;
  const auto model = make(options);
  const Tensor time = tensor_of(*model, "core.features.layer0.conv.time_conv.weight");
  CHECK(model->core_regularizer().item() ==
        doctest::Approx(2 * laplace_ratio_time(time).item()).epsilon(1e-14));
  options.core_gamma_temporal = 0;
  CHECK(!make(options)->core_regularizer().defined());
}

TEST_CASE("a factor on what a type of convolution does not have is an error") {
  using Change = void (*)(CoreReadoutOptions&);
  const auto refused = [](const char* type, Change change) {
    CoreReadoutOptions options = options_of(type);
    CHECK(refusal(options) == "");
    change(options);
    return refusal(options);
  };
  const Change temporal = [](CoreReadoutOptions& o) { o.core_gamma_temporal = 40; };
  for (const char* type : {"full", "time_independent"})
    CHECK(refused(type, temporal) ==
          text("[CoreReadout] core_gamma_temporal must be 0 with convolution_type '", type,
               "' (the parameter's default is 40): 40.0"));
  CHECK(refused("separable", temporal) == "");
  const Change input = [](CoreReadoutOptions& o) { o.core_gamma_input = 0.5; };
  const Change hidden = [](CoreReadoutOptions& o) { o.core_gamma_hidden = 0.5; };
  const Change sparse = [](CoreReadoutOptions& o) { o.core_gamma_in_sparse = 0.5; };
  for (const char* type : {"separable", "full"}) {
    const auto message = [&](const char* key) {
      return text("[CoreReadout] ", key, " must be 0 with convolution_type '", type,
                  "' (its spatial kernels are not regularized): 0.5");
    };
    CHECK(refused(type, input) == message("core_gamma_input"));
    CHECK(refused(type, hidden) == message("core_gamma_hidden"));
    CHECK(refused(type, sparse) == message("core_gamma_in_sparse"));
  }
  for (const Change change : {input, hidden, sparse}) CHECK(refused("time_independent", change) == "");
  CHECK(refused("separable", [](CoreReadoutOptions& o) {
          o.core_gamma_temporal = 1;
          o.temporal_kernel_sizes[0] = 2;
        }) == "[CoreReadout] temporal_kernel_sizes[0] must be at least 3 with core_gamma_temporal: 2");
  CHECK(refused("time_independent", [](CoreReadoutOptions& o) {
          o.core_gamma_input = 1;
          o.spatial_kernel_sizes[0] = 2;
        }) == "[CoreReadout] spatial_kernel_sizes[0] must be at least 3 with core_gamma_input: 2");
  CHECK(refused("custom_separable", [](CoreReadoutOptions& o) { o.temporal_kernel_sizes[1] = 2; }) ==
        "[CoreReadout] temporal_kernel_sizes[1] must be at least 3 with custom_separable: 2");
}

TEST_CASE("describe says the kernels of every type") {
  const Shape sample{2, 20, 12, 11};
  const auto described = [&](const char* type) { return make(options_of(type))->describe(sample); };
  const ModelDescription separable = described("separable"), space = described("time_independent");
  CHECK(separable.layers[0].what ==
        "separable 2 -> 3, kernel 1 x 5 x 5, padding (0+0, 0+0, 0+0), kernel 7 x 1 x 1, padding "
        "(0+0, 0+0, 0+0), batch norm, bias, ELU");
  CHECK(separable.receptive_field_frames == 10);
  CHECK(separable.receptive_field_height == 7);
  CHECK(space.layers[1].what ==
        "time_independent 3 -> 4, kernel 1 x 3 x 3, padding (0+0, 1+1, 1+1), batch norm, bias, ELU");
  CHECK(space.receptive_field_frames == 1);
  CHECK(described("full").receptive_field_frames == separable.receptive_field_frames);
}

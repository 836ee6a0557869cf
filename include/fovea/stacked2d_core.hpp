// Stacked2dCore: 2-D convolutions, each with batch norm and a shifted ELU, whose outputs are stacked.
// Source: neuralpredictors, layers/cores/conv2d.py (Lurz et al. 2021, Willeke et al. 2022).
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "fovea/device.hpp"
#include "fovea/module.hpp"
#include "fovea/random.hpp"

namespace fovea {

/// One number, or one per layer.
struct OneOrMany : std::variant<std::int64_t, std::vector<std::int64_t>> {
  using variant::variant;
};
/// Zeros on both sides of both axes, or of (height, width).
struct MapPadding : std::variant<std::int64_t, std::array<std::int64_t, 2>> {
  using variant::variant;
};

/// Parameters by the names of neuralpredictors.
struct Stacked2dCoreOptions {
  std::int64_t input_channels = 0;
  OneOrMany hidden_channels{};  ///< of all layers, or per layer
  std::int64_t input_kern = 0;  ///< pixels, square
  OneOrMany hidden_kern{};      ///< of all later layers, or per later layer
  std::int64_t layers = 3;
  double gamma_hidden = 0.0;  ///< group sparsity of the later kernels; they have none when depth-separable
  double gamma_input = 0.0;   ///< smoothness of the first kernels
  std::int64_t skip = 0;      ///< above 1: a layer sees the last `skip` outputs
  std::int64_t stride = 1;    ///< of the later layers
  std::int64_t input_stride = 1;
  bool final_nonlinearity = true;
  std::array<double, 2> elu_shift{0, 0};  ///< (x, y)
  bool bias = true;                       ///< of the batch norms
  double momentum = 0.1;
  bool pad_input = true;                       ///< input_kern / 2 zeros around the input
  std::optional<MapPadding> hidden_padding{};  ///< none and 0: ((k - 1) dilation + 1) / 2
  bool batch_norm = true;
  bool batch_norm_scale = true;
  bool final_batchnorm_scale = true;  ///< of the last layer
  std::int64_t hidden_dilation = 1;
  std::optional<std::int64_t> laplace_padding = 0;  ///< zeros around a first kernel; none: 1
  std::string input_regularizer = "LaplaceL2";      ///< LaplaceL2norm, LaplaceL1, GaussianLaplaceL2
  std::optional<OneOrMany> stack{};  ///< layers of the output: none: all, s: from s on, or a list
  bool use_avg_reg = true;           ///< the input regularizer averages instead of summing
  bool depth_separable = false;      ///< later layers: 1x1, depthwise, 1x1
  bool linear = false;               ///< no nonlinearity at all
  std::string nonlinearity_type = "AdaptiveELU";
};

class StackedLayer;

/// The core by itself; FiringRateEncoder has one of its own.
class Stacked2dCore : public Module {
 public:
  /// Xavier normal weights from `random`. ConfigError where parameters are out of range or do not go
  /// together.
  Stacked2dCore(const Stacked2dCoreOptions& options, Random& random,
                const Placement& placement = {cpu_device(), DType::f32});
  ~Stacked2dCore() override;

  /// x (B,H,W,C) -> (B,H',W',C').
  Tensor forward(const Tensor& x, const Pass& pass) const;
  /// Undefined when every factor is zero.
  Tensor regularizer() const;
  /// (H,W) after every layer; ShapeError where nothing is left or stacked maps differ in size.
  std::vector<std::array<std::int64_t, 2>> sizes(const std::array<std::int64_t, 2>& input) const;
  std::int64_t in_channels() const { return options_.input_channels; }
  std::int64_t out_channels() const;
  const std::vector<std::size_t>& stack() const { return stack_; }
  const std::vector<std::unique_ptr<StackedLayer>>& layers() const { return layers_; }

 private:
  struct Group : Module {
    using Module::add_child;
  };

  Stacked2dCoreOptions options_;
  std::vector<std::size_t> stack_;  // layers of the output
  std::vector<std::unique_ptr<StackedLayer>> layers_;
  Group features_;
};

/// Shape of what a core makes of images (B,C,H,W), in the same order, without running data. ShapeError for
/// another number of channels and where nothing is left.
Shape get_module_output(const Stacked2dCore& core, const Shape& images);

}  // namespace fovea

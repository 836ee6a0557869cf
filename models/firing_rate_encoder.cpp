#include "fovea/firing_rate_encoder.hpp"

#include <algorithm>
#include <cmath>

#include "models/mlp.hpp"
#include "models/multi_readout.hpp"
#include "models/parameters.hpp"
#include "models/registry.hpp"
#include "models/session_model.hpp"
#include "models/stacked2d_core.hpp"

namespace fovea {
namespace {

constexpr auto where = "FiringRateEncoder";

/// The section as it is written: parts with a class of their own stay JSON.
struct Section {  // NOLINT(bugprone-exception-escape): JSON that moves does not throw
  std::array<std::int64_t, 3> in_shape{};
  Json core, readout, shifter;
  double elu_offset = 0.0;
  double learning_rate = 0.01;
};

const ParameterTable<Section>& parameter_table() {
  using O = Section;
  static const ParameterTable<O> table =
      ParameterTable<O>(where)
          .require("in_shape", &O::in_shape, "[int, int, int]", "stimulus shape (channels, height, width)",
                   each<std::array<std::int64_t, 3>>(must_be<std::int64_t>(
                       "1 to 65536", [](std::int64_t n) { return n >= 1 && n <= 65536; })))
          .require("core", &O::core, "{class: Stacked2dCore, ..}", "see Stacked2dCore")
          .require("readout", &O::readout,
                   "{class: FullGaussian2d | FullFactorized2d, clone_readout: bool, ..}",
                   "see the class; clone_readout: later sessions are alpha * first + beta")
          .add("shifter", &O::shifter, "{class: MLPShifter, ..} | null", "see MLPShifter")
          .add("elu_offset", &O::elu_offset, "float", "elu(x + elu_offset) + 1 is the prediction", finite())
          .add("learning_rate", &O::learning_rate, "float", "of the optimizer", finite_above(0));
  return table;
}

const ParameterTable<MLPShifterOptions>& shifter_table() {
  using O = MLPShifterOptions;
  const auto count = [](std::int64_t least, std::int64_t most) {
    return must_be<std::int64_t>(text(least, " to ", most),
                                 [=](std::int64_t n) { return n >= least && n <= most; });
  };
  static const ParameterTable<O> table =
      ParameterTable<O>("MLPShifter")
          .add("input_channels", &O::input_channels, "int",
               "2: the pupil centre; 3: and the index of the trial", count(1, 1024))
          .add("hidden_channels_shifter", &O::hidden_channels_shifter, "int", "width of a hidden layer",
               count(1, 65536))
          .add("shift_layers", &O::shift_layers, "int", "linear layers, each with a tanh", count(1, 100))
          .add("gamma_shifter", &O::gamma_shifter, "float",
               "kept for the reference's configurations: its shifter has no regularizer", finite_at_least(0))
          .add("bias", &O::bias, "bool", "a learnt bias per layer");
  return table;
}

/// A part of the section: a map with the class that it must have.
template <class Options>
Options read_part(const char* key, const Json& part, const ParameterTable<Options>& table) {
  const std::string& name = table.class_name();
  if (!part.is_object()) refuse_value(where, key, text("a map such as {class: ", name, ", ..}"), part);
  if (part.value("class", Json()) != Json(name))
    refuse_name(where, text(key, ".class"), part.value("class", Json()), {name});
  return table.parse(part, {"class"});
}

/// What a section says, checked.
struct Parts {
  Stacked2dCoreOptions core;
  Json readout;  // general, without clone_readout
  bool clone = false;
  std::optional<MLPShifterOptions> shifter;
};

Parts read_parts(const Section& section) {
  Parts parts;
  parts.core = read_part("core", section.core, stacked2d_core_table());
  if (parts.core.input_channels != section.in_shape[0])
    refuse_value(where, "core.input_channels", text("in_shape[0] = ", section.in_shape[0]),
                 Json(parts.core.input_channels));
  parts.readout = section.readout;
  const ImageReadoutClass& readout = image_readout_class(parts.readout);
  if (const auto clone = parts.readout.find("clone_readout"); clone != parts.readout.end()) {
    read_json(where, "readout.clone_readout", *clone, parts.clone);
    parts.readout.erase("clone_readout");
  }
  if (section.shifter.is_null()) return parts;
  parts.shifter = read_part("shifter", section.shifter, shifter_table());
  if (!readout.shifts)
    throw ConfigError(
        where, text("a shifter needs readouts with positions to move: readout.class is ", readout.name));
  return parts;
}

class Encoder : public SessionModel {
 public:
  Encoder(const Section& section, const Parts& parts, Common common, const Placement& placement,
          std::uint64_t seed)
      : SessionModel(std::move(common), placement),
        section_(section),
        parts_(parts),
        random_(seed),
        core_(parts.core, random_, placement) {
    add_child("core", core_);
    const AxisSizes<2> map = map_size(in_shape());
    readouts_ =
        std::make_unique<MultiReadout>(MultiReadout::Geometry{core_.out_channels(), map[0], map[1]},
                                       session_options(), parts.readout, parts.clone, placement, random_);
    add_child("readout", *readouts_);
    if (!parts.shifter) return;
    const MLPShifterOptions& o = *parts.shifter;
    Mlp::Options mlp{{o.input_channels}, ActivationKind::tanh, ActivationKind::tanh, o.bias};
    mlp.sizes.insert(mlp.sizes.end(), static_cast<std::size_t>(o.shift_layers - 1),
                     o.hidden_channels_shifter);
    mlp.sizes.push_back(2);
    for (const SessionOptions& session : session_options()) {
      shifters_.push_back(std::make_unique<Shifter>(mlp, placement, random_));
      shifter_group_.add_child(session.key, *shifters_.back());
    }
    add_child("shifter", shifter_group_);
  }

  Shape output_shape(const Shape& sample, const std::string& session) const override {
    check_sample(sample);
    return {n_neurons(session)};
  }
  bool may_shift() const override { return true; }
  std::int64_t pupil_columns() const override { return parts_.shifter ? parts_.shifter->input_channels : 0; }
  Shape noise_shape(std::int64_t batch, const std::string& session) const override {
    return readouts_->noise_shape(index_of(session), batch);
  }

  Tensor forward(const ModelInput& input, const Pass& pass) const override {
    const std::size_t session = index_of(input.session);
    sample_of(input.stimulus);
    const Tensor shift = shift_of(session, input);
    const Tensor maps = core_.forward(input.stimulus, pass);
    const Tensor y = readouts_->forward(session, maps, {pass, input.noise, shift});
    return activate(y, {ActivationKind::elu, -section_.elu_offset, 1.0});
  }

  void apply_constraints(const std::string& session) const override {
    readouts_->apply_constraints(index_of(session));
  }
  Tensor core_regularizer() const override { return core_.regularizer(); }
  Tensor readout_regularizer(const std::string& session) const override {
    return readouts_->regularizer(index_of(session));
  }

  ModelDescription describe(const Shape& sample) const override;
  const ImageReadout& readout(const std::string& session) const { return readouts_->own(index_of(session)); }
  /// Pixel of the image (x, y) that the first pixel of the readout's map is centred on, and pixels between
  /// two.
  struct MapPlace {
    double first[2], step;
  };
  MapPlace map_place() const;

 private:
  struct Shifter : Module {
    Shifter(const Mlp::Options& options, const Placement& placement, Random& random)
        : mlp(options, placement, random) {
      add_child("mlp", mlp);
    }
    Mlp mlp;
  };

  AxisSizes<2> map_size(const Shape& sample) const {
    check_sample(sample);
    return core_.sizes({sample[1], sample[2]})[core_.stack().front()];
  }

  /// (B,2), undefined without a shifter.
  Tensor shift_of(std::size_t session, const ModelInput& input) const {
    if (shifters_.empty()) return {};
    const Tensor& pupil = input.pupil_center;
    const Shape expected{input.stimulus.shape()[0], pupil_columns()};
    if (!pupil)
      throw ConfigError(where, text("the shifter needs a pupil centre ", expected, ": none is given"));
    if (pupil.shape() != expected)
      throw ShapeError(where, text("the pupil centre must be ", expected, ": ", pupil.shape()));
    return shifters_[session]->mlp.forward(pupil);
  }

  Section section_;
  Parts parts_;
  Random random_;
  Stacked2dCore core_;
  std::unique_ptr<MultiReadout> readouts_;
  std::vector<std::unique_ptr<Shifter>> shifters_;
  Group shifter_group_;
};

ModelDescription Encoder::describe(const Shape& sample) const {
  ModelDescription result;
  check_sample(sample);
  const std::vector<AxisSizes<2>> sizes = core_.sizes({sample[1], sample[2]});
  std::string tree = text(where, "(\n  (core): Stacked2dCore(\n");
  std::int64_t jump = 1;
  for (std::size_t l = 0; l < core_.layers().size(); ++l) {
    const StackedLayer& layer = *core_.layers()[l];
    result.layers.push_back({text("core.features.layer", l), layer.text(),
                             Shape{layer.out_channels(), sizes[l][0], sizes[l][1]}, layer.parameter_count()});
    tree += text("    (layer", l, "): ", layer.text(), '\n');
    for (const auto& conv : layer.convs()) {
      const Conv2dLayer::Geometry& g = conv->geometry();
      result.receptive_field_height += (g.kernel - 1) * g.dilation * jump;
      result.receptive_field_width += (g.kernel - 1) * g.dilation * jump;
      jump *= g.stride;
    }
  }
  const AxisSizes<2> map = map_size(sample);
  std::string stacked;
  for (const std::size_t layer : core_.stack()) stacked += text(stacked.empty() ? "" : ", ", layer);
  result.layers.push_back(
      {"core", text("stack of layers ", stacked), Shape{core_.out_channels(), map[0], map[1]}, 0});
  tree += text("    (stack): ", stacked, "\n  )\n  (readout): MultiReadoutBase(\n");
  const std::vector<std::string> keys = sessions();
  for (std::size_t i = 0; i < keys.size(); ++i) {
    result.layers.push_back(
        {"readout." + keys[i], readouts_->line(i), {n_neurons(keys[i])}, readouts_->parameters_of(i)});
    tree += text("    (", keys[i], "): ", readouts_->line(i), '\n');
  }
  tree += "  )\n";
  if (parts_.shifter) {
    const MLPShifterOptions& o = *parts_.shifter;
    const std::string what = text("MLPShifter (", o.input_channels, " -> 2), ", o.shift_layers,
                                  o.shift_layers > 1 ? " layers" : " layer", o.bias ? " with bias" : "");
    tree += "  (shifter): MLP(\n";
    for (std::size_t i = 0; i < keys.size(); ++i) {
      result.layers.push_back({"shifter." + keys[i], what, {2}, shifters_[i]->parameter_count()});
      tree += text("    (", keys[i], "): ", what, '\n');
    }
    tree += "  )\n";
  }
  result.tree = tree + text("  (nonlinearity): elu(x + ", section_.elu_offset, ") + 1\n)");
  return result;
}

Encoder::MapPlace Encoder::map_place() const {
  MapPlace place{{0, 0}, 1};
  for (std::size_t l = 0; l <= core_.stack().front(); ++l)
    for (const auto& conv : core_.layers()[l]->convs()) {
      const Conv2dLayer::Geometry& g = conv->geometry();
      const double reach = static_cast<double>((g.kernel - 1) * g.dilation) / 2;
      place.first[0] += place.step * (reach - static_cast<double>(g.padding[1]));
      place.first[1] += place.step * (reach - static_cast<double>(g.padding[0]));
      place.step *= static_cast<double>(g.stride);
    }
  return place;
}

std::unique_ptr<Model> make(const Json& json, const Placement& placement, std::uint64_t seed) {
  const Section section = parameter_table().parse(json, common_keys());
  const Parts parts = read_parts(section);
  const std::vector<SessionOptions> sessions = read_sessions(where, json, SessionReadouts::overriding);
  auto [loss, metric] = read_losses(where, json, false, {{"class", "PoissonLoss"}},
                                    {{"class", "CorrelationLoss2D"}, {"avg", true}});
  Section complete = section;
  complete.core = stacked2d_core_table().write_section(parts.core);
  complete.readout = image_readout_class(parts.readout).complete(parts.readout);
  complete.readout["clone_readout"] = parts.clone;
  complete.shifter = parts.shifter ? shifter_table().write_section(*parts.shifter) : Json();
  return std::make_unique<Encoder>(
      section, parts,
      SessionModel::Common{
          where, parameter_table().write(complete), sessions, std::move(loss), std::move(metric),
          Shape{section.in_shape[0], section.in_shape[1], section.in_shape[2]}, section.learning_rate},
      placement, seed);
}

}  // namespace

FiringRateEncoder::FiringRateEncoder(const FiringRateEncoderOptions& options,
                                     const std::vector<SessionOptions>& sessions, std::uint64_t seed,
                                     const Placement& placement)
    : model_(make_firing_rate_encoder(options, sessions, placement, seed)) {}

std::unique_ptr<Model> make_firing_rate_encoder(const FiringRateEncoderOptions& options,
                                                const std::vector<SessionOptions>& sessions,
                                                const Placement& placement, std::uint64_t seed) {
  // By way of the section, so that the same checks hold.
  Section section;
  section.in_shape = options.in_shape;
  section.core = stacked2d_core_table().write_section(options.core);
  section.readout = std::visit([](const auto& readout) { return write_readout(readout); }, options.readout);
  section.readout["clone_readout"] = options.clone_readout;
  if (options.shifter) section.shifter = shifter_table().write_section(*options.shifter);
  section.elu_offset = options.elu_offset;
  section.learning_rate = options.learning_rate;
  Json json = parameter_table().write(section);
  json["sessions"] = write_sessions(sessions);
  return make(json, placement, seed);
}

static const Encoder& encoder_of(const Model& model) {
  const auto* encoder = dynamic_cast<const Encoder*>(&model);
  if (!encoder) throw ConfigError("readout", text("a FiringRateEncoder is needed: ", model.class_name()));
  return *encoder;
}

static const ImageReadout& readout_of(const Model& model, const std::string& session) {
  return encoder_of(model).readout(session);
}

Shape factorized_weight_shape(const Model& model, const std::string& session) {
  const ImageReadout::Geometry& g = readout_of(model, session).geometry();
  return {g.neurons, g.channels, g.height, g.width};
}

Tensor readout_positions(const Model& model, const std::string& session) {
  return readout_of(model, session).positions();
}

void check_startable(const Model& model, const std::string& session) {
  readout_of(model, session).check_startable();
}

std::int64_t start_readout_at(Model& model, const std::string& session, const Tensor& pixels) {
  const Encoder& encoder = encoder_of(model);
  const ImageReadout& readout = encoder.readout(session);
  readout.check_startable();
  const ImageReadout::Geometry& g = readout.geometry();
  if (pixels.shape() != Shape{g.neurons, 2})
    throw ShapeError("start_readout_at", text("pixels must be ", Shape{g.neurons, 2}, " for session ",
                                              session, ": ", pixels.shape()));
  const Encoder::MapPlace place = encoder.map_place();
  std::vector<double> indices = pixels.to(DType::f64).to_vector<double>();
  std::int64_t placed = 0;
  for (std::size_t n = 0; n < indices.size(); n += 2) {
    placed += std::isfinite(indices[n]) && std::isfinite(indices[n + 1]);
    for (std::size_t axis = 0; axis < 2; ++axis)
      indices[n + axis] = (indices[n + axis] - place.first[axis]) / place.step;
  }
  readout.start_at(indices);
  return placed;
}

Tensor factorized_weight(const Model& model, const std::string& session, std::int64_t first,
                         std::optional<std::int64_t> count) {
  const ImageReadout& readout = readout_of(model, session);
  const std::int64_t neurons = readout.geometry().neurons, wanted = count.value_or(neurons - first);
  if (first < 0 || wanted < 1 || first + wanted > neurons)
    throw ShapeError("factorized_weight",
                     text("neurons ", first, " to ", first + wanted, " of ", neurons, " are asked for"));
  return readout.weight(first, wanted);
}

static ClassPage page() {
  ClassPage page{
      "A Stacked2dCore that all sessions share, a FullGaussian2d or FullFactorized2d readout per session and "
      "optionally "
      "an MLPShifter per session, which moves the positions of Gaussian readouts with the pupil; the "
      "prediction is "
      "elu(x + elu_offset) + 1: images (B,C,H,W) -> (B,N). A session of the configuration may have a "
      "`readout` of its "
      "own, a map that overrides the general one (`source_grid`, `match_ids`, initial ranges). Source: "
      "neuralpredictors, layers/encoders/firing_rate.py (Lurz et al. 2021, Willeke et al. 2022).",
      {},
      "{class: PoissonLoss}",
      "{class: CorrelationLoss2D, avg: true}",
      R"(- Unknown arguments are refused; the package swallows them (`init_sigma_range` among them).
- FullFactorized2d prints channels x height x width; the package's head swaps height and width in the text.
- A feature map of another shape than the readout's is an error; FullGaussian2d of the package only warns.
- The regularizer of FullFactorized2d is the product of the two sums, because that is what the package's broadcast computes.
- Layers from the second on always have a bias, also with `bias: false`, and the first never has one.
- `clone_readout` works, without a regularizer of its own for the clones; the package raises an error.
- `gamma_hidden` has no effect with `depth_separable`, nor has `gamma_shifter`, as in the reference, whose configurations can so
  be used as they are. `positive_weights` acts where the product `weight` is read.
- `grid_mean_predictor` and `shared_grid` exclude each other; `source_grid` is kept in the model's precision.
- Draws of the readout come from the counter-based generator, or are given; PyTorch's are not reproduced.
)"};
  page.parts.push_back({"core: Stacked2dCore", document_table(stacked2d_core_table())});
  for (const ImageReadoutClass* readout : image_readout_classes())
    page.parts.push_back({text("readout: ", readout->name), readout->document()});
  page.parts.push_back({"shifter: MLPShifter", document_table(shifter_table())});
  return page;
}

extern const ModelClass firing_rate_encoder_class;
const ModelClass firing_rate_encoder_class{where, make, [] { return document_table(parameter_table()); },
                                           page};

}  // namespace fovea

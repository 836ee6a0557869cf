// FiringRateEncoder and its Stacked2dCore as classes: parameters, defaults, errors, tensors, shapes.
#include "image_model_fixture.hpp"

using namespace fovea;
using namespace fovea::test;
using namespace model_test;

namespace {

std::string core_message(const Json& changes) {
  return message_of<Error>([&] { make(with_core(changes)); });
}

TensorTable core_table(const Json& changes) { return under("core.", tensor_table(with_core(changes))); }

/// A table of core tensors, names without "core.features.".
TensorTable named(const std::vector<std::pair<std::string, std::string>>& rows) {
  TensorTable table;
  for (const auto& [name, what] : rows) table["core.features." + name] = what;
  return table;
}

void add_norm(TensorTable& table, int layer, const std::string& channels, bool affine) {
  const std::string norm = "core.features.layer" + std::to_string(layer) + ".norm.";
  table[norm + "running_mean"] = table[norm + "running_var"] = channels + " statistic";
  table[norm + "num_batches_tracked"] = "() statistic";
  if (affine) table[norm + "weight"] = table[norm + "bias"] = channels + " parameter";
}

}  // namespace

TEST_CASE("encoder: defaults of the core, the readouts and the shifter; loss and metric of the class") {
  const Json config = Json::parse(make(with_part(encoder(), "shifter", {{"class", "MLPShifter"}}))->config());
  const auto check_part = [](const Json& part, const char* expected) {
    const Json rows = Json::parse(expected);
    for (const auto& [key, value] : rows.items()) {
      const std::string shown_key = key;
      CAPTURE(shown_key);
      REQUIRE(part.contains(key));
      CHECK(part[key] == value);
    }
  };
  Json bare = encoder();
  bare["core"].erase("gamma_input");
  bare["core"].erase("gamma_hidden");
  check_part(Json::parse(make(bare)->config())["core"],
             R"({"layers": 3, "gamma_hidden": 0.0, "gamma_input": 0.0, "skip": 0,
    "stride": 1, "input_stride": 1, "final_nonlinearity": true, "elu_shift": [0.0, 0.0], "bias": true, "momentum": 0.1,
    "pad_input": true, "hidden_padding": null, "batch_norm": true, "batch_norm_scale": true,
    "final_batchnorm_scale": true, "hidden_dilation": 1, "laplace_padding": 0, "input_regularizer": "LaplaceL2",
    "stack": null, "use_avg_reg": true, "depth_separable": false, "linear": false, "nonlinearity_type": "AdaptiveELU",
    "class": "Stacked2dCore"})");
  check_part(config["readout"], R"({"class": "FullGaussian2d", "init_mu_range": 0.1, "init_sigma": 1.0,
    "batch_sample": true, "align_corners": true, "gauss_type": "full", "grid_mean_predictor": null,
    "shared_features": null, "shared_grid": null, "source_grid": null, "feature_reg_weight": 1.0})");
  check_part(config["shifter"], R"({"class": "MLPShifter", "input_channels": 2, "hidden_channels_shifter": 2,
    "shift_layers": 1, "gamma_shifter": 0.0, "bias": true})");
  check_part(Json::parse(make(factorized())->config())["readout"], R"({"class": "FullFactorized2d",
    "normalize": true, "init_noise": 0.001, "constrain_pos": false, "positive_weights": false,
    "positive_spatial": false, "shared_features": null, "spatial_and_feature_reg_weight": 1.0})");
  check_part(config, R"({"elu_offset": 0.0, "learning_rate": 0.01})");
  CHECK(config["loss"]["class"] == Json("PoissonLoss"));
  CHECK(config["metric"]["class"] == Json("CorrelationLoss2D"));
  CHECK(config["metric"]["avg"] == Json(true));
  const auto model = make(encoder());
  const Tensor y = random_tensor({6, 5}, 1), target = random_tensor({6, 5}, 2);
  abs_(y);
  abs_(target);
  CHECK(exact(poisson_loss(y, target), model->loss(y, target)));
  CHECK(model->metric(y, target).item() ==
        doctest::Approx(-correlation_loss2d(y, target, {.avg = true}).item()).epsilon(1e-12));
  CHECK_FALSE(model->takes_movies());
  CHECK(model->in_shape() == Shape{2, 7, 9});
  CHECK(model->sessions() == std::vector<std::string>{"one", "two"});
}

TEST_CASE("encoder: the completed section builds the same model") {
  const Json changed =
      with_part(with_core(Json::parse(R"({"hidden_kern": [3, 5], "hidden_channels": [2, 3, 4],
    "hidden_padding": [1, 2], "stack": [-1], "laplace_padding": null, "elu_shift": [0.5, -0.25]})")),
                "shifter", Json::parse(R"({"class": "MLPShifter", "shift_layers": 2, "bias": false})"));
  const auto model = make(with(changed, {{"learning_rate", 0.5}, {"elu_offset", -1.0}}), 3);
  const auto again = make_model(model->config(), f64(), 3);
  CHECK(again->config() == model->config());
  CHECK(all_values(*again) == all_values(*model));
  CHECK(all_values(*make(changed, 4)) != all_values(*model));
}

TEST_CASE("encoder: a wrong type or an impossible value is an error that names the class and the parameter") {
  struct Wrong {
    const char *key, *values;  // a list
  };
  const std::vector<Wrong> core{
      {"input_channels", R"([null, "2", 0, -1, 1.5, [2], 3])"},
      {"hidden_channels",
       R"([null, "3", 0, -1, 1.5, [], [3], [3, 3], [3, 3, 3, 3], [3, 0, 3], [3, "3", 3]])"},
      {"input_kern", R"([null, "5", 0, -1, 1.5, [5]])"},
      {"hidden_kern", R"([null, "3", 0, -1, 1.5, [], [3], [3, 3, 3], [3, 0], [3, "3"]])"},
      {"layers", R"([null, "3", 0, -1, 1.5, [3]])"},
      {"gamma_hidden", R"(["x", null, true, [0.1], -0.1])"},
      {"gamma_input", R"(["x", null, true, [0.1], -0.1])"},
      {"skip", R"(["x", null, true, 1.5, -1])"},
      {"stride", R"(["x", null, true, 1.5, 0, -1, [1]])"},
      {"input_stride", R"(["x", null, true, 1.5, 0, -1, [1]])"},
      {"final_nonlinearity", R"([1, 0, "true", null, []])"},
      {"elu_shift", R"([1, null, "x", [], [0], [0, 0, 0], [0, "x"], [null, 0]])"},
      {"bias", R"([1, 0, "true", null, []])"},
      {"momentum", R"(["x", null, true, [0.1], -0.1, 1.5])"},
      {"pad_input", R"([1, 0, "true", null, []])"},
      {"hidden_padding", R"(["same", true, 1.5, -1, [1], [1, 1, 1], [1, -1], [1, 0.5]])"},
      {"batch_norm", R"([1, 0, "true", null, []])"},
      {"batch_norm_scale", R"([1, 0, "true", null, []])"},
      {"final_batchnorm_scale", R"([1, 0, "true", null, []])"},
      {"hidden_dilation", R"(["x", null, true, 1.5, 0, -1, [1]])"},
      {"laplace_padding", R"(["x", true, 1.5, -1, [1]])"},
      {"input_regularizer", R"([3, null, "LaplaceL3", "", "laplacel2", ["LaplaceL2"]])"},
      {"stack", R"(["x", true, 1.5, 3, [], [3], [-4], [0, "x"], [0.5]])"},
      {"use_avg_reg", R"([1, 0, "true", null, []])"},
      {"depth_separable", R"([1, 0, "true", null, []])"},
      {"linear", R"([1, 0, "true", null, []])"},
      {"nonlinearity_type", R"([3, null, "ELU", "ReLU", "", ["AdaptiveELU"]])"},
  };
  std::set<std::string> covered;
  for (const Wrong& wrong : core) {
    covered.insert(wrong.key);
    for (const Json& value : Json::parse(wrong.values)) {
      const std::string shown = value.dump(), key = wrong.key;
      CAPTURE(key);
      CAPTURE(shown);
      const std::string message = core_message({{key, value}});
      CHECK_MESSAGE(contains(message, key), message);
      CHECK_MESSAGE((contains(message, "Stacked2dCore") || contains(message, "FiringRateEncoder")), message);
    }
  }
  const std::vector<Wrong> general{
      {"class", R"([3, null, "FiringRateEncoders"])"},
      {"in_shape",
       R"([3, "x", null, [2, 7], [2, 7, 9, 9], [0, 7, 9], [2, -7, 9], [2, 7, 1.5], [2, 7, "9"], [3, 7, 9]])"},
      {"core", R"([3, null, "x", [], {}, {"class": "Stacked2d"}, {"class": 3}])"},
      {"readout", R"([3, null, "x", [], {"class": "FullGaussian"}, {"class": 3}])"},
      {"shifter", R"([3, "x", [], {"class": "MLP"}, {"class": 3}])"},
      {"elu_offset", R"(["x", null, true, [0.1]])"},
      {"learning_rate", R"(["x", null, true, [0.01], 0, -0.01])"},
      {"n_neurons_dict",
       R"([5, "one", [5], {}, {"one": 0}, {"one": -1}, {"one": 1.5}, {"one": "5"}, {"one": null}])"},
      {"data_info", R"([3, "x", [1], {"n_neurons_dict": {"one": 6}}, {"input_shape": [2, 7, 8]}])"},
      {"loss", R"([3, "PoissonLos", [], {"class": "Poisson"}, {"class": 3}])"},
      {"metric", R"([3, "CorrelationLos", [], {"class": "Correlation"}, {"class": null}])"},
      {"correlation_loss", R"([{"class": "Correlation"}])"},
      {"sessions",
       R"([3, "one", [5], {"one": 5}, {"one": {}}, {"one": {"n_neurons": 5}}, {"one": {"n_neurons": 5, "readout": 3}}])"},
  };
  for (const Wrong& wrong : general) {
    for (const Json& value : Json::parse(wrong.values)) {
      const std::string shown = value.dump(), key = wrong.key;
      CAPTURE(key);
      CAPTURE(shown);
      const std::string message = message_of<Error>([&] { make(with(encoder(), {{key, value}})); });
      CHECK_MESSAGE(contains(message, key), message);
    }
  }
  for (const ModelClass& one : model_classes())
    if (one.name == "FiringRateEncoder")
      for (const ParameterDocumentation& row : one.document()) {
        const std::size_t dot = row.name.rfind('.');
        const bool in_core = row.name.rfind("core.", 0) == 0;
        if (in_core) CHECK_MESSAGE(covered.count(row.name.substr(dot + 1)) == 1, row.name);
      }
}

TEST_CASE("encoder: missing and misspelt parameters of the core") {
  for (const char* key : {"input_channels", "hidden_channels", "input_kern", "hidden_kern"}) {
    Json section = encoder();
    section["core"].erase(key);
    CHECK_MESSAGE(contains(refusal(section), "'" + std::string(key) + "'"), key);
  }
  for (const char* key : {"in_shape", "core", "readout"}) {
    Json section = encoder();
    section.erase(key);
    CHECK_MESSAGE(contains(refusal(section), key), key);
  }
  Json nobody = encoder();
  nobody.erase("n_neurons_dict");
  CHECK(contains(refusal(nobody), "n_neurons_dict"));
  for (const auto& [wrong, right] :
       std::map<std::string, std::string>{{"hidden_chanels", "hidden_channels"},
                                          {"input_kernel", "input_kern"},
                                          {"gamma_inputs", "gamma_input"},
                                          {"layer", "layers"},
                                          {"depth_seperable", "depth_separable"},
                                          {"final_nonlinearty", "final_nonlinearity"}}) {
    const std::string message = core_message({{wrong, 1}});
    CHECK_MESSAGE(contains(message, "'" + wrong + "'"), message);
    CHECK_MESSAGE(contains(message, "did you mean '" + right + "'"), message);
  }
  CHECK(contains(refusal(with(encoder(), {{"elu_offsets", 1}})), "did you mean 'elu_offset'"));
  CHECK(contains(refusal(with(encoder(), {{"modulator", 1}})), "'modulator'"));
  const std::string regularizer = core_message({{"input_regularizer", "LaplaceL2nrom"}});
  for (const char* known : {"LaplaceL2", "LaplaceL2norm", "LaplaceL1", "GaussianLaplaceL2"})
    CHECK_MESSAGE(contains(regularizer, known), regularizer);
}

TEST_CASE("encoder: combinations that the core refuses") {
  CHECK(contains(core_message(Json::parse(R"({"skip": 2, "hidden_channels": [3, 3, 3]})")), "skip"));
  CHECK(core_message(Json::parse(R"({"skip": 1, "hidden_channels": [3, 3, 3]})")) == "");
  CHECK(core_message(Json::parse(R"({"skip": 2})")) == "");
  // Even kernels make the map grow by one, so that stacked maps differ.
  CHECK_FALSE(core_message(Json::parse(R"({"hidden_kern": 4})")).empty());
  CHECK(core_message(Json::parse(R"({"hidden_kern": 4, "stack": -1})")) == "");
  CHECK_FALSE(core_message(Json::parse(R"({"stride": 2})")).empty());
  CHECK(core_message(Json::parse(R"({"stride": 2, "stack": [2]})")) == "");
  CHECK_FALSE(core_message(Json::parse(R"({"skip": 2, "hidden_kern": 4, "stack": -1})")).empty());
  // Kernels that the Laplacian does not fit.
  for (const char* kind : {"LaplaceL2", "LaplaceL2norm", "LaplaceL1"}) {
    const auto message = [&](std::int64_t kernel, const char* padding) {
      return core_message(
          {{"input_regularizer", kind}, {"input_kern", kernel}, {"laplace_padding", Json::parse(padding)}});
    };
    CHECK(contains(message(2, "0"), "input_kern"));
    CHECK(contains(message(1, "0"), "input_kern"));
    CHECK(message(1, "1") == "");
    CHECK(message(1, "null") == "");
    CHECK(message(3, "0") == "");
    CHECK(message(2, "2") == "");
  }
  const auto gaussian = [&](std::int64_t kernel, const char* padding) {
    return core_message({{"input_regularizer", "GaussianLaplaceL2"},
                         {"input_kern", kernel},
                         {"laplace_padding", Json::parse(padding)}});
  };
  CHECK(contains(gaussian(5, "0"), "laplace_padding"));
  CHECK(contains(gaussian(5, "2"), "laplace_padding"));
  CHECK(gaussian(5, "1") == "");
  CHECK(gaussian(5, "null") == "");
  CHECK(contains(gaussian(1, "1"), "input_kern"));
  CHECK(contains(gaussian(2, "1"), "input_kern"));
  // Nothing left of the map.
  CHECK_FALSE(core_message(Json::parse(R"({"input_kern": 8, "pad_input": false})")).empty());
  CHECK(core_message(Json::parse(R"({"input_kern": 7, "pad_input": false})")) == "");
  CHECK_FALSE(core_message(Json::parse(R"({"hidden_kern": 15, "hidden_padding": 1})")).empty());
}

// ---- tensors of the core

TEST_CASE("encoder: core tensors by name, shape and role for every option that changes them") {
  const std::string p = " parameter";
  for (const bool batch_norm : {true, false})
    for (const bool bias : {true, false})
      for (const bool scale : {true, false})
        for (const bool final_scale : {true, false}) {
          CAPTURE(batch_norm);
          CAPTURE(bias);
          CAPTURE(scale);
          CAPTURE(final_scale);
          TensorTable expected = named({{"layer0.conv.weight", "(3, 2, 5, 5)" + p},
                                        {"layer1.conv.weight", "(3, 3, 3, 3)" + p},
                                        {"layer1.conv.bias", "(3)" + p},
                                        {"layer2.conv.weight", "(3, 3, 3, 3)" + p},
                                        {"layer2.conv.bias", "(3)" + p}});
          for (int layer = 0; batch_norm && layer < 3; ++layer) {
            const bool scaled = layer == 2 ? final_scale : scale;
            const std::string name = "core.features.layer" + std::to_string(layer);
            add_norm(expected, layer, "(3)", bias && scaled);
            if (bias && !scaled) expected[name + ".bias.bias"] = "(1, 3, 1, 1)" + p;
            if (!bias && scaled) expected[name + ".scale.scale"] = "(1, 3, 1, 1)" + p;
          }
          CHECK(core_table({{"batch_norm", batch_norm},
                            {"bias", bias},
                            {"batch_norm_scale", scale},
                            {"final_batchnorm_scale", final_scale}}) == expected);
        }
  // A single layer is the last one.
  TensorTable single =
      named({{"layer0.conv.weight", "(3, 2, 5, 5)" + p}, {"layer0.bias.bias", "(1, 3, 1, 1)" + p}});
  add_norm(single, 0, "(3)", false);
  CHECK(core_table({{"layers", 1}, {"final_batchnorm_scale", false}, {"gamma_hidden", 0}}) == single);
}

TEST_CASE("encoder: core tensors of lists, skips and depth-separable layers") {
  const auto convolutions = [](const Json& changes) {
    TensorTable table;
    for (const auto& [name, what] : core_table(changes))
      if (name.find("conv") != std::string::npos) table[name] = what;
    return table;
  };
  const std::string p = " parameter";
  CHECK(convolutions(Json::parse(R"({"hidden_channels": [4, 2, 5], "hidden_kern": [1, 5]})")) ==
        named({{"layer0.conv.weight", "(4, 2, 5, 5)" + p},
               {"layer1.conv.weight", "(2, 4, 1, 1)" + p},
               {"layer1.conv.bias", "(2)" + p},
               {"layer2.conv.weight", "(5, 2, 5, 5)" + p},
               {"layer2.conv.bias", "(5)" + p}}));
  CHECK(convolutions(Json::parse(R"({"layers": 4, "skip": 2})")) ==
        named({{"layer0.conv.weight", "(3, 2, 5, 5)" + p},
               {"layer1.conv.weight", "(3, 3, 3, 3)" + p},
               {"layer1.conv.bias", "(3)" + p},
               {"layer2.conv.weight", "(3, 6, 3, 3)" + p},
               {"layer2.conv.bias", "(3)" + p},
               {"layer3.conv.weight", "(3, 6, 3, 3)" + p},
               {"layer3.conv.bias", "(3)" + p}}));
  CHECK(convolutions(Json::parse(R"({"hidden_channels": [4, 2, 5], "depth_separable": true})")) ==
        named({{"layer0.conv.weight", "(4, 2, 5, 5)" + p},
               {"layer1.ds_conv.in_depth_conv.weight", "(2, 4, 1, 1)" + p},
               {"layer1.ds_conv.in_depth_conv.bias", "(2)" + p},
               {"layer1.ds_conv.spatial_conv.weight", "(2, 1, 3, 3)" + p},
               {"layer1.ds_conv.spatial_conv.bias", "(2)" + p},
               {"layer1.ds_conv.out_depth_conv.weight", "(2, 2, 1, 1)" + p},
               {"layer1.ds_conv.out_depth_conv.bias", "(2)" + p},
               {"layer2.ds_conv.in_depth_conv.weight", "(5, 2, 1, 1)" + p},
               {"layer2.ds_conv.in_depth_conv.bias", "(5)" + p},
               {"layer2.ds_conv.spatial_conv.weight", "(5, 1, 3, 3)" + p},
               {"layer2.ds_conv.spatial_conv.bias", "(5)" + p},
               {"layer2.ds_conv.out_depth_conv.weight", "(5, 5, 1, 1)" + p},
               {"layer2.ds_conv.out_depth_conv.bias", "(5)" + p}}));
}

// ---- shapes

TEST_CASE("encoder: the map of the core is what its readout has, output_shape what forward gives") {
  struct Case {
    std::string changes;
    std::int64_t channels, height, width;
  };
  const std::vector<Case> cases{
      {"{}", 9, 7, 9},
      {R"({"stack": -1})", 3, 7, 9},
      {R"({"stack": 1})", 6, 7, 9},
      {R"({"stack": -4})", 9, 7, 9},  // as layers[-4:] of Python
      {R"({"stack": [0, -1]})", 6, 7, 9},
      {R"({"stack": [2, 2, 0, 1]})", 12, 7, 9},
      {R"({"hidden_channels": [2, 3, 5], "stack": [2, 0]})", 7, 7, 9},
      {R"({"pad_input": false})", 9, 3, 5},
      {R"({"input_kern": 4})", 9, 8, 10},
      {R"({"input_stride": 2})", 9, 4, 5},
      {R"({"input_stride": 2, "pad_input": false, "input_kern": 3})", 9, 3, 4},
      {R"({"stride": 2, "stack": -1})", 3, 2, 3},
      {R"({"hidden_kern": 4, "stack": -1})", 3, 9, 11},
      {R"({"hidden_kern": [3, 4], "stack": [2]})", 3, 8, 10},
      {R"({"hidden_dilation": 2})", 9, 7, 9},
      {R"({"hidden_padding": 0})", 9, 7, 9},
      {R"({"hidden_padding": 2, "stack": -1})", 3, 11, 13},
      {R"({"hidden_padding": [0, 1], "stack": -1})", 3, 3, 9},
      {R"({"hidden_padding": [2, 0], "stack": -1})", 3, 11, 5},
      {R"({"hidden_kern": [1, 5], "hidden_padding": 1, "stack": -1})", 3, 7, 9},
      {R"({"layers": 1})", 3, 7, 9},
      {R"({"layers": 5, "skip": 3})", 15, 7, 9},
      {R"({"depth_separable": true, "hidden_padding": [1, 2], "stack": -1})", 3, 7, 13},
      {R"({"depth_separable": true, "stride": 2, "stack": -1})", 3, 2, 3},
      {R"({"depth_separable": true, "hidden_dilation": 3, "hidden_kern": 2, "stack": -1})", 3, 9, 11},
  };
  for (const Case& one : cases) {
    CAPTURE(one.changes);
    Json section = with_core(Json::parse(one.changes), factorized());
    section["core"]["gamma_input"] = 0;
    const auto model = make(section);
    CHECK(tensor_named(*model, "readout.one.spatial").shape() == Shape{5, one.height, one.width});
    CHECK(tensor_named(*model, "readout.two._features").shape() == Shape{4, one.channels});
    for (const char* session : {"one", "two"}) {
      const std::int64_t neurons = model->n_neurons(session);
      CHECK(model->output_shape(model->in_shape(), session) == Shape{neurons});
      CHECK(evaluate(*model, input_of(*model, session, 2)).shape() == Shape{2, neurons});
    }
    const ModelDescription description = model->describe(model->in_shape());
    std::int64_t parameters = 0;
    for (const LayerDescription& layer : description.layers) parameters += layer.parameters;
    CHECK(parameters == model->parameter_count());
    CHECK(contains(description.tree,
                   text("(", one.channels, " x ", one.height, " x ", one.width, " -> 5) with bias")));
  }
}

TEST_CASE("encoder: what does not fit is refused") {
  const auto model = make(encoder());
  const auto forward = [&](const Shape& shape) {
    return message_of<ShapeError>([&] { predict(*model, random_tensor(shape, 1), "one"); });
  };
  CHECK(contains(forward({1, 7, 9, 3}), "(3, 7, 9)"));
  CHECK(contains(forward({1, 9, 7, 2}), "(2, 9, 7)"));
  CHECK_FALSE(forward({1, 3, 7, 9, 2}).empty());
  CHECK(contains(message_of<ShapeError>([&] { (void)model->output_shape({2, 7, 8}, "one"); }), "(2, 7, 8)"));
  const std::string message =
      message_of<ConfigError>([&] { predict(*model, stimulus(1, model->in_shape()), "thre"); });
  for (const char* part : {"'thre'", "one", "two"}) CHECK_MESSAGE(contains(message, part), message);
  CHECK_FALSE(message_of<ConfigError>([&] { (void)model->n_neurons("three"); }).empty());
  CHECK_FALSE(message_of<ConfigError>([&] { model->apply_constraints("three"); }).empty());
  CHECK_FALSE(message_of<ConfigError>([&] { (void)model->readout_regularizer("three"); }).empty());
}

// CoreReadout as a class: its parameters, their defaults and errors, its shapes.
#include "model_fixture.hpp"

using namespace fovea;
using namespace fovea::test;
using namespace model_test;

// ---- parameters

TEST_CASE("defaults are those of the parameter table") {
  const Json config = Json::parse(make(small())->config());
  const Json expected = Json::parse(R"({"core_gamma_input": 0.0, "core_gamma_hidden": 0.0,
    "core_gamma_in_sparse": 0.0, "core_gamma_temporal": 40.0, "core_input_padding": false, "core_hidden_padding": true,
    "convolution_type": "custom_separable", "readout_scale": true, "readout_bias": true, "readout_gaussian_masks": true,
    "readout_gaussian_mean_scale": 6.0, "readout_gaussian_var_scale": 4.0, "readout_positive": true,
    "readout_gamma": 0.4, "readout_gamma_masks": 0.0, "readout_reg_avg": false, "learning_rate": 0.01,
    "cut_first_n_frames_in_core": 0, "dropout_rate": 0.0, "maxpool_every_n_layers": null,
    "downsample_input_kernel_size": null})");
  for (const auto& [key, value] : expected.items()) {
    const auto& shown_key = key;
    CAPTURE(shown_key);
    REQUIRE(config.contains(key));
    CHECK(config[key] == value);
  }
  CHECK(config["loss"]["class"] == Json("PoissonLoss3d"));
  CHECK(config["metric"]["class"] == Json("CorrelationLoss3d"));
  CHECK(config["metric"]["avg"] == Json(true));
  CHECK(config["sessions"] == Json::parse(R"({"one": {"n_neurons": 5}})"));
  CHECK(make(small())->learning_rate() == 0.01);
}

TEST_CASE("the completed section builds the same model") {
  const Json changed =
      with(small(), Json::parse(R"({"core_gamma_input": 0.1, "core_hidden_padding": [1, 2, 0],
    "core_input_padding": 1, "readout_positive": false, "learning_rate": 0.5, "cut_first_n_frames_in_core": 2,
    "dropout_rate": 0.25, "maxpool_every_n_layers": 2, "downsample_input_kernel_size": [1, 1, 1],
    "loss": {"class": "PoissonNLLLoss"}, "correlation_loss": {"class": "CorrelationLoss3d", "avg": false}})"));
  const auto model = make(changed, 3);
  const auto again = make_model(model->config(), f64(), 3);
  CHECK(again->config() == model->config());
  CHECK(all_values(*again) == all_values(*model));
  CHECK(Json::parse(model->config())["metric"]["avg"] == Json(false));
  CHECK(all_values(*make(changed, 4)) != all_values(*model));
}

TEST_CASE("a wrong type or an impossible value of any parameter is an error that names it") {
  struct Wrong {
    const char *key, *values;  // a list
  };
  const std::vector<Wrong> table{
      {"class", R"([3, null, "CoreReadOut", "KlindtCoreReadout4D"])"},
      {"in_shape",
       R"([3, "x", null, [1, 2, 3], [1, 2, 3, 4, 5], [0, 20, 12, 11], [1, 20, -1, 11], [1, 20, 12, 1.5],
                       [1, 20, 12, "11"]])"},
      {"hidden_channels",
       R"([3, "x", null, [], [0, 4], [-3, 4], [1.5, 4], ["3", 4], [[3], 4], [3], [3, 4, 5]])"},
      {"temporal_kernel_sizes",
       R"([6, "x", null, [], [0, 3], [2, 3], [6, 2], [-6, 3], [6.5, 3], [6], [6, 3, 3]])"},
      {"spatial_kernel_sizes",
       R"([4, "x", null, [], [0, 3], [-4, 3], [4.5, 3], [[4, 4], 3], [4], [4, 3, 3]])"},
      {"n_neurons_dict",
       R"([5, "one", [5], {}, {"one": 0}, {"one": -1}, {"one": 1.5}, {"one": "5"}, {"one": null}])"},
      {"core_gamma_input", R"(["x", null, true, [0.1], -0.1])"},
      {"core_gamma_hidden", R"(["x", null, true, [0.1], -0.1])"},
      {"core_gamma_in_sparse", R"(["x", null, true, [0.1], -0.1])"},
      {"core_gamma_temporal", R"(["x", null, true, [0.1], -40])"},
      {"core_input_padding",
       R"(["same", null, 1.5, -1, [1, 1], [1, 1, 1, 1], [1, -1, 1], [1, 1, 0.5], {"t": 1}])"},
      {"core_hidden_padding",
       R"(["same", null, 1.5, -1, [1, 1], [1, 1, 1, 1], [1, -1, 1], [true, true, true]])"},
      {"convolution_type", R"([3, null, "custom_seperable", "", ["full"]])"},
      {"readout_scale", R"([1, 0, "true", null, []])"},
      {"readout_bias", R"([1, 0, "true", null, []])"},
      {"readout_gaussian_masks", R"([1, 0, "true", null, []])"},
      {"readout_gaussian_mean_scale", R"(["x", null, true, [6.0]])"},
      {"readout_gaussian_var_scale", R"(["x", null, true, [4.0]])"},
      {"readout_positive", R"([1, 0, "true", null, []])"},
      {"readout_gamma", R"(["x", null, true, [0.4], -0.4])"},
      {"readout_gamma_masks", R"(["x", null, true, [0.4], -0.4])"},
      {"readout_reg_avg", R"([1, 0, "true", null, []])"},
      {"learning_rate", R"(["x", null, true, [0.01], 0, -0.01])"},
      {"cut_first_n_frames_in_core", R"(["x", null, true, 1.5, -1])"},
      {"dropout_rate", R"(["x", null, true, [0.5], -0.1, 1, 1.5])"},
      {"maxpool_every_n_layers", R"(["x", true, 1.5, 0, -1, [1]])"},
      {"downsample_input_kernel_size",
       R"(["x", 2, true, [2, 2], [0, 1, 1], [1, -1, 1], [1, 1, 1.5], [1, 1, 1, 1]])"},
      {"data_info", R"([3, "x", [1], {"n_neurons_dict": {"one": 6}}, {"n_neurons_dict": 3}])"},
      {"loss", R"([3, "Poisson", [], {"class": "Poisson"}, {"class": 3}, {"bias": 0.1}])"},
      {"metric", R"([3, "Correlation(", [], {"class": "Correlation"}, {"class": null}])"},
      {"correlation_loss", R"([{"class": "Correlation"}])"},
      {"sessions",
       R"([3, "one", [5], {"one": 5}, {"one": {}}, {"one": {"n_neurons": 0}}, {"one": {"n_neurons": 6}},
                       {"one": {"n_neurons": 5}, "two": {"n_neurons": 5}}, {"one": {"n_neurons": 5, "mean": [1]}},
                       {"one": {"n_neurons": 5, "mean_activity": [1, 2]}}, {"one": {"n_neurons": 5, "mean_activity": 1}}])"},
  };
  std::set<std::string> covered;
  for (const Wrong& wrong : table) {
    covered.insert(wrong.key);
    for (const Json& value : Json::parse(wrong.values)) {
      const std::string shown = value.dump(), key = wrong.key;
      CAPTURE(key);
      CAPTURE(shown);
      const std::string message = refusal(with(small(), {{key, value}}));
      CHECK_MESSAGE(contains(message, key), message);
    }
  }
  // JSON has no NaN, code has.
  const auto in_code = [&](auto change) {
    CoreReadoutOptions options;
    options.in_shape = {1, 10, 8, 8};
    options.hidden_channels = {2};
    options.temporal_kernel_sizes = {3};
    options.spatial_kernel_sizes = {3};
    change(options);
    return message_of<ConfigError>([&] { make_core_readout(options, {{"one", 2, {}}}, f64()); });
  };
  CHECK(in_code([](CoreReadoutOptions&) {}) == "");
  CHECK(contains(in_code([](CoreReadoutOptions& o) { o.core_gamma_temporal = NAN; }), "core_gamma_temporal"));
  CHECK(contains(in_code([](CoreReadoutOptions& o) { o.readout_gamma = INFINITY; }), "readout_gamma"));
  CHECK(contains(in_code([](CoreReadoutOptions& o) { o.learning_rate = NAN; }), "learning_rate"));
  CHECK(contains(in_code([](CoreReadoutOptions& o) { o.dropout_rate = NAN; }), "dropout_rate"));
  CHECK(contains(in_code([](CoreReadoutOptions& o) { o.readout_gaussian_mean_scale = INFINITY; }),
                 "readout_gaussian_mean_scale"));

  // The table above forgets none.
  for (const ModelClass& one : model_classes())
    if (one.name == "CoreReadout")
      for (const ParameterDocumentation& row : one.document())
        CHECK_MESSAGE(covered.count(row.name) == 1, row.name);
}

TEST_CASE("a missing or misspelt parameter is an error with its name and the nearest known one") {
  for (const char* key :
       {"in_shape", "hidden_channels", "temporal_kernel_sizes", "spatial_kernel_sizes", "class"}) {
    CAPTURE(key);
    Json section = small();
    section.erase(key);
    CHECK(contains(refusal(section), key));
  }
  Json nobody = small();
  nobody.erase("n_neurons_dict");
  CHECK(contains(refusal(nobody), "n_neurons_dict"));
  for (const ModelClass& one : model_classes()) {
    if (one.name != "CoreReadout") continue;
    CHECK(one.document().size() == 25);
    for (const ParameterDocumentation& row : one.document()) {
      CAPTURE(row.name);
      std::string misspelt = row.name;
      misspelt.erase(misspelt.size() / 2, 1);
      const std::string message = refusal(with(small(), {{misspelt, 1}}));
      CHECK_MESSAGE(contains(message, "'" + misspelt + "'"), message);
      CHECK_MESSAGE(contains(message, "did you mean '" + row.name + "'"), message);
    }
  }
  CHECK(contains(refusal(with(small(), {{"class", "CoreReadou"}})), "'CoreReadout'"));
  CHECK(contains(refusal(with(small(), {{"loss", {{"class", "PoissonLoss3d"}, {"biass", 1}}}})), "'bias'"));
  CHECK(contains(refusal(with(small(), {{"loss", {{"class", "PoissonLoss3D"}}}})), "'PoissonLoss3d'"));
}

TEST_CASE("a name that is none of a parameter's is refused with all of them and the nearest") {
  CHECK(refusal(with(small(), {{"convolution_type", "custom_seperable"}})) ==
        "[CoreReadout] convolution_type must be one of 'custom_separable' 'separable' 'full' "
        "'time_independent'; did you mean 'custom_separable'?: \"custom_seperable\"");
  CHECK(contains(refusal(with(small(), {{"class", 3}})),
                 "class must be one of 'KlindtCoreReadout2D' 'KlindtCoreReadout3D' 'CoreReadout' "
                 "'FiringRateEncoder': 3"));
}

TEST_CASE("the wrong element of a list is named") {
  const auto message = [](const char* key, const char* value) {
    return refusal(with(small(), {{key, Json::parse(value)}}));
  };
  CHECK(message("hidden_channels", "[3, 2.5]") ==
        "[CoreReadout] hidden_channels[1] must be a whole number: 2.5");
  CHECK(message("spatial_kernel_sizes", "[4, 0]") ==
        "[CoreReadout] spatial_kernel_sizes[1] must be at least 1: 0");
  CHECK(message("temporal_kernel_sizes", "[6, 2]") ==
        "[CoreReadout] temporal_kernel_sizes[1] must be at least 3 with custom_separable: 2");
  CHECK(message("in_shape", "[2, 20, -12, 11]") == "[CoreReadout] in_shape[2] must be at least 1: -12");
  CHECK(message("downsample_input_kernel_size", "[1, 2, 0]") ==
        "[CoreReadout] downsample_input_kernel_size[2] must be at least 1: 0");
  CHECK(message("core_input_padding", "-1") == "[CoreReadout] core_input_padding must be 0 to 4096: -1");
  CHECK(message("core_hidden_padding", "[0, 5000, 0]") ==
        "[CoreReadout] core_hidden_padding[1] must be 0 to 4096: 5000");
  CHECK(contains(message("sessions", R"({"one": {"n_neurons": 2, "mean_activity": [1, "x"]}})"),
                 "sessions.one.mean_activity[1] must be a number: \"x\""));
  CHECK(
      contains(message("sessions", R"({"one": {"n_neurons": 2, "mean": 1}})"), "[CoreReadout.sessions.one]"));
}

TEST_CASE("losses are those of movies, and their parameters are named with their place") {
  for (const char* key : {"loss", "metric", "correlation_loss"}) {
    CAPTURE(key);
    const auto message = [&](const char* value) {
      return refusal(with(small(), {{key, Json::parse(value)}}));
    };
    const std::string images = message(R"({"class": "CorrelationLoss2D"})");
    CHECK_MESSAGE(contains(images, text("[CoreReadout.", key, "] class, for movies, must be one of")),
                  images);
    CHECK(contains(images, "did you mean 'CorrelationLoss3d'?"));
    CHECK(contains(message(R"({"class": "CorrelationLoss3d", "bias": 0})"),
                   text("[CoreReadout.", key, "] bias must be a finite number above 0")));
  }
  const Json loss{{"class", "CorrelationLoss3d"}};
  CHECK(contains(refusal(with(small(), {{"metric", loss}, {"correlation_loss", loss}})),
                 "metric and correlation_loss are two names"));
  CHECK_NOTHROW(make(with(small(), {{"metric", nullptr}, {"correlation_loss", loss}})));
}

TEST_CASE("a metric per neuron has the sign and the mean of the one over all") {
  const Tensor output = random_tensor({2, 9, 5}, 3), responses = random_tensor({2, 12, 5}, 4);
  for (const bool negate : {true, false}) {
    const Json average{{"class", "CorrelationLoss3d"}, {"avg", true}, {"negate", negate}};
    const Json single{{"class", "CorrelationLoss3d"}, {"per_neuron", true}, {"negate", negate}};
    const auto metric = [&](const Json& loss) {
      return make(with(small(), {{"metric", loss}}))->metric(output, responses);
    };
    const std::vector<double> each = values(metric(single));
    REQUIRE(each.size() == 5);
    double mean = 0;
    for (const double value : each) mean += value / 5;
    CHECK(mean == doctest::Approx(metric(average).item()).epsilon(1e-12));
    CHECK(values(correlation_loss3d(output, responses, {1e-16, true, false, false})) == each);
  }
}

TEST_CASE("null means the default that means none") {
  CHECK_NOTHROW(make(with(small(), Json::parse(R"({"maxpool_every_n_layers": null,
    "downsample_input_kernel_size": null, "data_info": null, "loss": null, "metric": null})"))));
}

TEST_CASE("shapes that leave nothing, and regularizers that do not fit, are errors") {
  const auto message = [](const Json& changes) {
    return message_of<Error>([&] { make(with(small(), changes)); });
  };
  CHECK(contains(
      message({{"spatial_kernel_sizes", {13, 3}}}),
      "layer 0: its input (20, 12, 11), padding included, is too small for spatial_kernel_sizes[0]: 13"));
  CHECK(
      contains(message({{"temporal_kernel_sizes", {21, 3}}}), "too small for temporal_kernel_sizes[0]: 21"));
  CHECK(contains(
      message({{"temporal_kernel_sizes", {6, 16}}, {"core_hidden_padding", 0}}),
      "layer 1: its input (15, 9, 8), padding included, is too small for temporal_kernel_sizes[1]: 16"));
  CHECK(contains(
      message({{"spatial_kernel_sizes", {4, 11}}, {"core_hidden_padding", 1}}),
      "layer 1: its input (17, 11, 10), padding included, is too small for spatial_kernel_sizes[1]: 11"));
  CHECK(contains(message({{"spatial_kernel_sizes", {11, 3}}, {"maxpool_every_n_layers", 1}}),
                 "layer 0: the output (15, 2, 1) of its convolution is too small for 2 x 2 pooling"));
  const auto frames = [](const Json& changes, std::int64_t count) {
    const auto model = make(with(small(), changes));
    return message_of<ShapeError>([&] { (void)model->output_shape({2, count, 12, 11}, "one"); });
  };
  CHECK(frames({}, 0) == "[CoreReadout] a stimulus needs at least one frame: 0");
  CHECK(contains(frames({}, 5), "too small for temporal_kernel_sizes[0]: 6"));
  CHECK(contains(frames({{"downsample_input_kernel_size", {2, 1, 1}}}, 1),
                 "downsample_input_kernel_size (2, 1, 1) leaves nothing of the input: (1, 12, 11)"));
  CHECK_FALSE(message({{"cut_first_n_frames_in_core", 15}}).empty());
  CHECK(message({{"cut_first_n_frames_in_core", 14}}).empty());
  CHECK_FALSE(message({{"downsample_input_kernel_size", {1, 13, 1}}}).empty());
  CHECK(contains(message({{"core_gamma_input", 0.1}, {"spatial_kernel_sizes", {2, 3}}}), "core_gamma_input"));
  CHECK(message({{"core_gamma_input", 0.1}, {"spatial_kernel_sizes", {3, 1}}}).empty());
  constexpr std::int64_t huge = std::int64_t{1} << 62;
  CHECK_FALSE(message({{"downsample_input_kernel_size", {1, huge, 1}}}).empty());
  CHECK_FALSE(message({{"cut_first_n_frames_in_core", huge}}).empty());
}

// ---- shapes

TEST_CASE("output_shape is the shape of a prediction") {
  struct Case {
    const char* changes;
    Shape output;  // (T_out, N)
  };
  const std::vector<Case> cases{
      {"{}", {15, 5}},
      {R"({"core_hidden_padding": false})", {13, 5}},
      {R"({"core_input_padding": true})", {20, 5}},
      {R"({"core_input_padding": 1})", {17, 5}},
      {R"({"core_input_padding": [2, 0, 1], "core_hidden_padding": [0, 1, 1]})", {17, 5}},
      {R"({"core_hidden_padding": [3, 0, 2]})", {19, 5}},
      {R"({"cut_first_n_frames_in_core": 4})", {11, 5}},
      {R"({"maxpool_every_n_layers": 1})", {15, 5}},
      {R"({"maxpool_every_n_layers": 2, "core_hidden_padding": false})", {13, 5}},
      {R"({"downsample_input_kernel_size": [2, 2, 1]})", {5, 5}},
      {R"({"downsample_input_kernel_size": [3, 1, 2], "core_hidden_padding": 1})", {1, 5}},
      {R"({"readout_gaussian_masks": false})", {15, 5}},
  };
  for (const Case& one : cases) {
    const std::string changes = one.changes;
    CAPTURE(changes);
    const auto model = make(with(small(), Json::parse(changes)));
    CHECK(model->output_shape(model->in_shape(), "one") == one.output);
    CHECK(predict(*model, stimulus(2, model->in_shape()), "one").shape() ==
          Shape{2, one.output[0], one.output[1]});
    const Shape longer{2, 33, 12, 11};
    const Shape expected = model->output_shape(longer, "one");
    CHECK(predict(*model, stimulus(1, longer), "one").shape() == Shape{1, expected[0], expected[1]});
    const ModelDescription description = model->describe(model->in_shape());
    REQUIRE_FALSE(description.layers.empty());
    CHECK(description.layers.back().output == one.output);
    std::int64_t parameters = 0;
    for (const LayerDescription& layer : description.layers) parameters += layer.parameters;
    CHECK(parameters == model->parameter_count());
  }
}

TEST_CASE("maps after padding, pooling, downsampling and cutting") {
  const auto sizes = [](const Json& changes) {
    const auto model = make(with(small(), changes));
    std::vector<Shape> result;
    for (const LayerDescription& layer : model->describe(model->in_shape()).layers)
      if (layer.name.rfind("core.", 0) == 0) result.push_back(layer.output);
    return result;
  };
  using Shapes = std::vector<Shape>;
  CHECK(sizes({}) == Shapes{{3, 15, 9, 8}, {4, 15, 9, 8}});
  CHECK(sizes({{"core_input_padding", true}}) == Shapes{{3, 20, 12, 11}, {4, 20, 12, 11}});
  CHECK(sizes({{"core_input_padding", {0, 1, 2}}, {"core_hidden_padding", 0}}) ==
        Shapes{{3, 15, 11, 12}, {4, 13, 9, 10}});
  // 9 x 8 -> 4 x 4, the odd row is dropped; the second layer pools only every layer.
  CHECK(sizes({{"maxpool_every_n_layers", 1}}) == Shapes{{3, 15, 4, 4}, {4, 15, 2, 2}});
  CHECK(sizes({{"maxpool_every_n_layers", 2}}) == Shapes{{3, 15, 4, 4}, {4, 15, 4, 4}});
  // 20 / 2, 12 / 2 and 11 / 2 with the incomplete window dropped, then the valid convolution.
  CHECK(sizes({{"downsample_input_kernel_size", {2, 2, 2}}}) ==
        Shapes{{2, 10, 6, 5}, {3, 5, 3, 2}, {4, 5, 3, 2}});
  CHECK(sizes({{"cut_first_n_frames_in_core", 6}}) == Shapes{{3, 15, 9, 8}, {4, 15, 9, 8}, {4, 9, 9, 8}});
}

TEST_CASE("cutting drops the first frames of the same prediction") {
  const auto whole = make(small(), 8), cut = make(with(small(), {{"cut_first_n_frames_in_core", 4}}), 8);
  const Tensor x = stimulus(1, whole->in_shape());
  const std::vector<double> all = values(predict(*whole, x, "one"));
  const Tensor expected =
      Tensor::from(std::vector<double>(all.begin() + 4 * 5, all.end()), {1, 11, 5}, f64().device);
  CHECK(exact(expected, predict(*cut, x, "one")));
}

TEST_CASE("what does not fit a model is refused with both shapes") {
  const auto model = make(small());
  const auto forward = [&](const Shape& shape) {
    return message_of<ShapeError>([&] { predict(*model, random_tensor(shape, 1), "one"); });
  };
  CHECK(contains(forward({1, 20, 12, 11, 3}), "(3, 20, 12, 11)"));
  CHECK(contains(forward({1, 20, 11, 12, 2}), "12"));
  CHECK(contains(forward({20, 12, 11, 2}), "stimulus"));
  CHECK_FALSE(forward({1, 5, 12, 11, 2}).empty());
  const std::string session =
      message_of<ConfigError>([&] { predict(*model, stimulus(1, model->in_shape()), "on"); });
  CHECK(contains(session, "'on'"));
  CHECK(contains(session, "one"));
}

// The readouts and the shifter of FiringRateEncoder as classes: tensors, initial values, errors, and what
// every parameter of the model changes.
#include "image_model_fixture.hpp"

using namespace fovea;
using namespace fovea::test;
using namespace model_test;

namespace {

TensorTable readout_table(const Json& section) { return under("readout.one.", tensor_table(section)); }

TensorTable named(const std::vector<std::pair<std::string, std::string>>& rows) {
  TensorTable table;
  for (const auto& [name, what] : rows) table["readout.one." + name] = what;
  return table;
}

const char* const match_ids = R"({"match_ids": [30, -2, 30, 7, -2]})";
const char* const cortex = "[[0, 10], [4, 10], [0, 30], [8, 30], [3, 20]]";

/// One session, so that one list of ids or positions fits.
Json alone(Json section) {
  section["n_neurons_dict"] = {{"one", 5}};
  return section;
}

Json predicted(const std::string& options = "{}") {
  return with_readout(part("source_grid", cortex),
                      with_readout(part("grid_mean_predictor", options), alone(encoder())));
}

}  // namespace

// ---- tensors

TEST_CASE("encoder: tensors of the Gaussian readout for every option that changes them") {
  const std::string p = " parameter", c = " constant";
  const auto table = [](const Json& changes) {
    return readout_table(with_readout(changes, alone(encoder())));
  };
  const auto plain = named({{"_mu", "(1, 5, 1, 2)" + p},
                            {"sigma", "(1, 5, 2, 2)" + p},
                            {"_features", "(1, 9, 1, 5)" + p},
                            {"bias", "(5)" + p}});
  const auto changed = [&](const std::vector<std::pair<std::string, std::string>>& rows,
                           const std::vector<std::string>& without = {}) {
    TensorTable result = plain;
    for (const auto& [name, what] : named(rows)) result[name] = what;
    for (const std::string& name : without) result.erase("readout.one." + name);
    return result;
  };
  CHECK(table(Json::object()) == plain);
  CHECK(table({{"bias", false}}) == changed({}, {"bias"}));
  CHECK(table({{"gauss_type", "uncorrelated"}}) == changed({{"sigma", "(1, 5, 1, 2)" + p}}));
  CHECK(table({{"gauss_type", "isotropic"}}) == changed({{"sigma", "(1, 5, 1, 1)" + p}}));
  CHECK(table(part("shared_features", match_ids)) == changed({{"_features", "(1, 9, 1, 3)" + p},
                                                              {"scales", "(1, 1, 1, 5)" + p},
                                                              {"feature_sharing_index", "(5)" + c}}));
  CHECK(table(part("shared_grid", match_ids)) ==
        changed({{"_mu", "(1, 3, 1, 2)" + p}, {"grid_sharing_index", "(5)" + c}}));
  // The MLP: d -> hidden_features, hidden_layers times -> 2.
  CHECK(under("readout.one.mu_transform", readout_table(predicted(R"({"hidden_layers": 0})"))) ==
        named({{"mu_transform.0.weight", "(2, 2)" + p}, {"mu_transform.0.bias", "(2)" + p}}));
  CHECK(under("readout.one.mu_transform",
              readout_table(predicted(R"({"hidden_layers": 2, "hidden_features": 7})"))) ==
        named({{"mu_transform.0.weight", "(7, 2)" + p},
               {"mu_transform.0.bias", "(7)" + p},
               {"mu_transform.2.weight", "(7, 7)" + p},
               {"mu_transform.2.bias", "(7)" + p},
               {"mu_transform.4.weight", "(2, 7)" + p},
               {"mu_transform.4.bias", "(2)" + p}}));
  CHECK(readout_table(predicted(R"({"final_tanh": true})")) == readout_table(predicted()));
  CHECK(readout_table(predicted()).count("readout.one._mu") == 0);
  CHECK(readout_table(predicted()).at("readout.one.source_grid") == "(5, 2)" + c);
}

TEST_CASE("encoder: tensors of the factorized readout for every option that changes them") {
  const std::string p = " parameter";
  const auto table = [](const Json& changes) { return readout_table(alone(factorized(changes))); };
  const TensorTable plain =
      named({{"spatial", "(5, 7, 9)" + p}, {"_features", "(5, 9)" + p}, {"bias", "(5)" + p}});
  CHECK(table(Json::object()) == plain);
  for (const char* same : {"normalize", "constrain_pos", "positive_weights", "positive_spatial"})
    CHECK(table({{same, std::string(same) != "normalize"}}) == plain);
  CHECK(table({{"bias", false}}) == named({{"spatial", "(5, 7, 9)" + p}, {"_features", "(5, 9)" + p}}));
  CHECK(table(part("shared_features", match_ids)) == named({{"spatial", "(5, 7, 9)" + p},
                                                            {"_features", "(3, 9)" + p},
                                                            {"bias", "(5)" + p},
                                                            {"scales", "(5, 1)" + p},
                                                            {"feature_sharing_index", "(5) constant"}}));
}

TEST_CASE("encoder: tensors of the shifter, one per session") {
  const auto table = [](const Json& changes) {
    return under("shifter.two.", tensor_table(shifted(changes)));
  };
  const auto mlp = [](const std::vector<std::pair<int, int>>& layers, bool bias) {
    TensorTable result;
    int index = 0;
    for (const auto& [in, out] : layers) {
      const std::string name = "shifter.two.mlp." + std::to_string(index);
      result[name + ".weight"] = text('(', out, ", ", in, ") parameter");
      if (bias) result[name + ".bias"] = text('(', out, ") parameter");
      index += 2;
    }
    return result;
  };
  CHECK(table(Json::object()) == mlp({{2, 2}}, true));
  CHECK(table({{"shift_layers", 3}, {"hidden_channels_shifter", 5}}) == mlp({{2, 5}, {5, 5}, {5, 2}}, true));
  CHECK(table({{"shift_layers", 2}, {"bias", false}, {"input_channels", 3}}) == mlp({{3, 2}, {2, 2}}, false));
  const auto whole = tensor_table(shifted());
  CHECK(under("shifter.one.", whole).size() == 2);
  CHECK(under("shifter.", tensor_table(encoder())).empty());
}

// ---- initial values

namespace {

/// Many values of everything random.
Json large(Json section) {
  section["core"]["hidden_channels"] = 24;
  section["n_neurons_dict"] = {{"one", 400}};
  return section;
}

}  // namespace

TEST_CASE("encoder: initial values of the core: xavier normal, zero biases, fresh statistics") {
  for (const bool depth_separable : {false, true}) {
    CAPTURE(depth_separable);
    const Json changes{{"depth_separable", depth_separable}, {"final_batchnorm_scale", false}};
    const auto model = make(with_core(changes, large(encoder())), 3);
    for (const NamedTensor& one : model->tensors()) {
      if (one.name.rfind("core.", 0) != 0) continue;
      CAPTURE(one.name);
      const Shape shape = one.tensor.shape();
      const bool conv = one.name.find("conv") != std::string::npos;
      if (conv && contains(one.name, ".weight")) {
        const double taps = static_cast<double>(shape.elements() / shape[0] / shape[1]);
        const double fans = taps * static_cast<double>(shape[0] + shape[1]);
        CHECK(looks_normal(values(one.tensor), 0, std::sqrt(2 / fans)));
        continue;
      }
      const bool unit = contains(one.name, "running_var") || contains(one.name, "norm.weight") ||
                        contains(one.name, "scale");
      CHECK(values(one.tensor) ==
            std::vector<double>(static_cast<std::size_t>(one.tensor.elements()), unit ? 1 : 0));
    }
  }
}

TEST_CASE("encoder: initial values of the Gaussian readout") {
  const auto model = make(with_readout({{"init_mu_range", 0.4}, {"init_sigma", 0.7}}, large(encoder())), 3);
  CHECK(looks_uniform(values(tensor_named(*model, "readout.one._mu")), 0.4));
  CHECK(looks_uniform(values(tensor_named(*model, "readout.one.sigma")), 0.7));
  const std::vector<double> features = values(tensor_named(*model, "readout.one._features"));
  for (const double one : features) CHECK(one == 1.0 / 72);
  CHECK(values(tensor_named(*model, "readout.one.bias")) == std::vector<double>(400, 0.0));
  for (const char* type : {"uncorrelated", "isotropic"}) {
    const auto other = make(with_readout({{"gauss_type", type}, {"init_sigma", 0.75}}));
    for (const double one : values(tensor_named(*other, "readout.one.sigma"))) CHECK(one == 0.75);
  }
  // Parameters of the one are not those of the other.
  const auto two = make(encoder(), 3);
  CHECK(values(tensor_named(*two, "readout.one.sigma"))[0] !=
        values(tensor_named(*two, "readout.two.sigma"))[0]);
}

TEST_CASE("encoder: initial values of the factorized readout") {
  const auto model = make(large(factorized({{"init_noise", 0.25}})), 3);
  CHECK(looks_normal(values(tensor_named(*model, "readout.one.spatial")), 0, 0.25));
  CHECK(looks_normal(values(tensor_named(*model, "readout.one._features")), 0, 0.25));
  CHECK(values(tensor_named(*model, "readout.one.bias")) == std::vector<double>(400, 0.0));
  const auto shared = make(alone(factorized(part("shared_features", match_ids))), 3);
  CHECK(values(tensor_named(*shared, "readout.one.scales")) == std::vector<double>(5, 1.0));
}

TEST_CASE("encoder: initial values of the MLPs are PyTorch's") {
  const auto model =
      make(with_part(shifted({{"hidden_channels_shifter", 60}, {"shift_layers", 3}}), "readout",
                     Json{{"grid_mean_predictor", {{"hidden_layers", 2}, {"hidden_features", 50}}},
                          {"source_grid", Json::parse(cortex)}})
               .patch(Json::parse(R"([{"op": "replace", "path": "/n_neurons_dict", "value": {"one": 5}}])")),
           3);
  for (const char* mlp : {"shifter.one.mlp.", "readout.one.mu_transform."}) {
    CAPTURE(mlp);
    const std::string prefix = mlp;
    const Shape middle = tensor_named(*model, prefix + "2.weight").shape();
    const double width = static_cast<double>(middle[1]);
    CHECK(looks_uniform(values(tensor_named(*model, prefix + "2.weight")), 1 / std::sqrt(width)));
    CHECK(looks_uniform(values(tensor_named(*model, prefix + "4.weight")), 1 / std::sqrt(width)));
    CHECK(looks_uniform(values(tensor_named(*model, prefix + "2.bias")), 1 / std::sqrt(width)));
    CHECK(looks_uniform(values(tensor_named(*model, prefix + "0.weight")), 1 / std::sqrt(2)));
  }
}

TEST_CASE("encoder: mean activities are the first biases, overrides those of one session") {
  for (const Json& section : {encoder(), factorized()}) {
    Json with_sessions = section;
    with_sessions.erase("n_neurons_dict");
    with_sessions["sessions"] =
        Json::parse(R"({"one": {"n_neurons": 3, "mean_activity": [0.5, 0.25, 2]}, "two": {"n_neurons": 2}})");
    const auto model = make(with_sessions);
    CHECK(values(tensor_named(*model, "readout.one.bias")) == std::vector<double>{0.5, 0.25, 2});
    CHECK(values(tensor_named(*model, "readout.two.bias")) == std::vector<double>{0, 0});
  }
}

TEST_CASE("encoder: match ids share by their sorted unique values") {
  // -2, 7, 30
  const std::vector<double> index{2, 0, 2, 1, 0};
  const auto features = make(with_readout(part("shared_features", match_ids), alone(encoder())));
  CHECK(values(tensor_named(*features, "readout.one.feature_sharing_index")) == index);
  CHECK(values(tensor_named(*features, "readout.one.scales")) == std::vector<double>(5, 1.0));
  CHECK(tensor_named(*features, "readout.one.feature_sharing_index").dtype() == DType::i64);
  const auto grid = make(with_readout(part("shared_grid", match_ids), alone(encoder())));
  CHECK(values(tensor_named(*grid, "readout.one.grid_sharing_index")) == index);
  const auto other = make(alone(factorized(part("shared_features", match_ids))));
  CHECK(values(tensor_named(*other, "readout.one.feature_sharing_index")) == index);
  // Neurons that share everything but their bias and scale predict alike.
  const auto both = make(with_readout(part("shared_grid", match_ids),
                                      with_readout(part("shared_features", match_ids), alone(encoder()))));
  const std::vector<double> y = values(evaluate(*both, input_of(*both, "one", 1)));
  CHECK(y[0] == y[2]);
  CHECK(y[1] == y[4]);
  CHECK(y[0] != y[1]);
}

TEST_CASE("encoder: the source grid is stored centred and divided by its one largest magnitude") {
  const auto model = make(predicted());
  // Means 3 and 20: rows (-3, -10), (1, -10), (-3, 10), (5, 10), (0, 0), over 10.
  const std::vector<double> expected{-0.3, -1, 0.1, -1, -0.3, 1, 0.5, 1, 0, 0};
  CHECK(within(Tensor::from(expected, {5, 2}, f64().device), tensor_named(*model, "readout.one.source_grid"),
               1e-15));
  const auto three = make(with_readout(
      part("source_grid", "[[1, 2, 3], [1, 2, 3], [1, 2, 7], [1, 2, 3], [1, 2, 3]]"), predicted()));
  CHECK(tensor_named(*three, "readout.one.mu_transform.0.weight").shape()[1] == 3);
}

// ---- overrides of a session

TEST_CASE("encoder: a session's own readout section overrides the general one") {
  Json section = encoder();
  section.erase("n_neurons_dict");
  section["sessions"] = Json::parse(R"({"one": {"n_neurons": 5}, "two": {"n_neurons": 5, "readout":
    {"init_mu_range": 1.0, "bias": false, "gauss_type": "isotropic", "init_sigma": 0.5}}})");
  const auto model = make(section);
  const TensorTable table = tensor_table(*model);
  CHECK(table.at("readout.one.sigma") == "(1, 5, 2, 2) parameter");
  CHECK(table.at("readout.two.sigma") == "(1, 5, 1, 1) parameter");
  CHECK(table.count("readout.one.bias") == 1);
  CHECK(table.count("readout.two.bias") == 0);
  const auto again = make_model(model->config(), f64(), 1);
  CHECK(again->config() == model->config());
  CHECK(all_values(*again) == all_values(*model));
  CHECK(contains(model->describe(model->in_shape()).tree, "isotropic FullGaussian2d"));

  // Every session its own positions and ids.
  Json own = with_readout(part("grid_mean_predictor", "{}"), encoder());
  own.erase("n_neurons_dict");
  own["sessions"] = Json::parse(R"({"one": {"n_neurons": 2, "readout": {"source_grid": [[0, 0], [1, 1]]}},
    "two": {"n_neurons": 3, "readout": {"source_grid": [[0, 0], [1, 1], [5, 2]]}}})");
  CHECK(tensor_table(own).at("readout.two.source_grid") == "(3, 2) constant");
  Json ids = with_readout(part("shared_features", R"({"match_ids": [1, 1]})"), encoder());
  ids.erase("n_neurons_dict");
  ids["sessions"] = Json::parse(R"({"one": {"n_neurons": 2}, "two": {"n_neurons": 3, "readout":
    {"shared_features": {"match_ids": [4, 2, 4]}}}})");
  CHECK(tensor_table(ids).at("readout.one._features") == "(1, 9, 1, 1) parameter");
  CHECK(tensor_table(ids).at("readout.two._features") == "(1, 9, 1, 2) parameter");
  ids["sessions"]["two"]["readout"] = Json::parse(R"({"match_ids": [4, 2, 4]})");
  CHECK(tensor_table(ids).at("readout.two._features") == "(1, 9, 1, 2) parameter");

  const auto message = [&](const char* override_text) {
    Json wrong = section;
    wrong["sessions"]["two"]["readout"] = Json::parse(override_text);
    return message_of<ConfigError>([&] { make(wrong); });
  };
  CHECK(contains(message(R"({"init_mu_rang": 0.5})"), "did you mean 'init_mu_range'"));
  CHECK(contains(message(R"({"init_mu_range": 2})"), "init_mu_range"));
  CHECK(contains(message(R"({"init_mu_range": 2})"), "two"));
  CHECK(contains(message(R"({"shared_grid": {"match_ids": [1]}})"), "match_ids"));
}

// ---- errors

TEST_CASE("encoder: wrong values of the readouts and the shifter are errors that name them") {
  struct Wrong {
    const char *key, *values;  // a list
  };
  const auto refused = [](const std::vector<Wrong>& table, const char* class_name, auto section_of) {
    for (const Wrong& wrong : table)
      for (const Json& value : Json::parse(wrong.values)) {
        const std::string shown = value.dump(), key = wrong.key;
        CAPTURE(key);
        CAPTURE(shown);
        const std::string message = message_of<ConfigError>([&] { make(section_of(Json{{key, value}})); });
        CHECK_MESSAGE(contains(message, key), message);
        CHECK_MESSAGE(contains(message, class_name), message);
      }
  };
  const char *flags = R"([1, 0, "true", null, []])",
             *ids = R"([3, [1], {}, {"match_ids": 3}, {"match_ids": [1, 2]},
    {"match_ids": [1, 2, 3, 4, 5, 6]}, {"match_ids": [1, 2, 3, 4, 1.5]}, {"match_ids": [1, 2, 3, 4, "5"]}, {"match_id": [1, 2, 3, 4, 5]}])";
  refused({{"bias", flags},
           {"init_mu_range", R"([0, -0.1, 1.5, "x", null, true, [0.1]])"},
           {"init_sigma", R"([0, -1, "x", null, true, [1]])"},
           {"batch_sample", flags},
           {"align_corners", flags},
           {"gauss_type", R"(["Full", "", "diagonal", 3, null, ["full"]])"},
           {"shared_features", ids},
           {"shared_grid", ids},
           {"feature_reg_weight", R"(["x", null, true, -1, [1]])"},
           {"init_sigma_range", "[0.1]"},
           {"init_noise", "[0.1]"}},
          "FullGaussian2d", [](const Json& c) { return with_readout(c, alone(encoder())); });
  refused(
      {{"grid_mean_predictor",
        R"([3, [1], {"hidden_layer": 1}, {"hidden_layers": -1}, {"hidden_layers": 1.5}, {"hidden_features": 0},
             {"final_tanh": 1}])"},
       {"source_grid",
        R"([3, "x", [], [[0, 1]], [0, 1, 2, 3, 4], [[0], [1], [2], [3], [4, 5]], [[], [], [], [], []],
             [[0, "x"], [1, 2], [2, 3], [3, 4], [4, 5]]])"}},
      "FullGaussian2d", [](const Json& c) { return with_readout(c, predicted()); });
  refused({{"bias", flags},
           {"normalize", flags},
           {"init_noise", R"(["x", null, true, -1, [1]])"},
           {"constrain_pos", flags},
           {"positive_weights", flags},
           {"positive_spatial", flags},
           {"shared_features", ids},
           {"spatial_and_feature_reg_weight", R"(["x", null, true, -1, [1]])"},
           {"feature_reg_weight", "[1]"}},
          "FullFactorized2d", [](const Json& c) { return alone(factorized(c)); });
  refused({{"input_channels", R"([0, -2, 1.5, "2", null, [2]])"},
           {"hidden_channels_shifter", R"([0, -2, 1.5, "2", null, [2]])"},
           {"shift_layers", R"([0, -2, 1.5, "2", null, [2]])"},
           {"gamma_shifter", R"(["x", null, true, [1]])"},
           {"bias", flags},
           {"hidden_channels", "[2]"}},
          "MLPShifter", [](const Json& c) { return shifted(c); });
}

TEST_CASE("encoder: combinations of readouts and shifters that are refused") {
  // Both a predictor and a shared grid; a predictor without positions; a shifter that nothing can shift.
  const std::string both = refusal(with_readout(part("shared_grid", match_ids), predicted()));
  CHECK_MESSAGE((contains(both, "grid_mean_predictor") && contains(both, "shared_grid")), both);
  CHECK(contains(refusal(with_readout(part("grid_mean_predictor", "{}"))), "source_grid"));
  const std::string shifter = refusal(with_part(factorized(), "shifter", {{"class", "MLPShifter"}}));
  CHECK_MESSAGE((contains(shifter, "shifter") && contains(shifter, "FullFactorized2d")), shifter);
  const auto readout_class = [&](const char* name) { return refusal(with_readout({{"class", name}})); };
  for (const char* known : {"FullGaussian2d", "FullFactorized2d"})
    CHECK(contains(readout_class("FullGausian2d"), known));
  // bias has no default.
  for (Json section : {encoder(), factorized()}) {
    section["readout"].erase("bias");
    const std::string message = refusal(section);
    CHECK_MESSAGE((message.empty() || contains(message, "bias")), message);
  }
  // A source grid that says nothing.
  CHECK_FALSE(
      refusal(with_readout(part("source_grid", "[[1, 1], [1, 1], [1, 1], [1, 1], [1, 1]]"), predicted()))
          .empty());
  for (const char* value : {"1", "null", R"("true")"})
    CHECK(contains(refusal(with_readout(part("clone_readout", value))), "readout.clone_readout"));
  // Cloned readouts need equal numbers of neurons.
  const std::string clone = refusal(with_readout({{"clone_readout", true}}));
  CHECK_MESSAGE((contains(clone, "clone_readout") && contains(clone, "two") && contains(clone, "4") &&
                 contains(clone, "5")),
                clone);
}

// ---- the pupil

TEST_CASE("encoder: a shifter needs the pupil centre in its width, without one it is ignored") {
  for (const std::int64_t columns : {2, 3}) {
    const auto model = make(shifted({{"input_channels", columns}}));
    CHECK(model->pupil_columns() == columns);
    const Tensor x = stimulus(2, model->in_shape());
    const auto message = [&](const Tensor& pupil) {
      return message_of<Error>([&] { model->forward({"one", x, pupil, {}}, {}); });
    };
    CHECK(message(random_tensor({2, columns}, 1)) == "");
    CHECK(contains(message({}), "pupil"));
    CHECK(contains(message(random_tensor({2, 5 - columns}, 1)), text("(2, ", 5 - columns, ')')));
    CHECK(contains(message(random_tensor({3, columns}, 1)), text("(3, ", columns, ')')));
    CHECK_FALSE(message(random_tensor({2 * columns}, 1)).empty());
  }
  const auto plain = make(encoder());
  CHECK(plain->pupil_columns() == 0);
  ModelInput input = input_of(*plain, "one");
  const Tensor y = evaluate(*plain, input);
  input.pupil_center = random_tensor({3, 2}, 1);
  CHECK(exact(y, evaluate(*plain, input)));
}

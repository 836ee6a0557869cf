// KlindtCoreReadout2D and 3D as classes: parameters, defaults, errors, tensors, shapes.
#include "image_model_fixture.hpp"

using namespace fovea;
using namespace fovea::test;
using namespace model_test;

namespace {

const std::vector<Json>& both() {
  static const std::vector<Json> sections{klindt2d(), klindt3d()};
  return sections;
}

std::string class_of(const Json& section) { return section["class"].get<std::string>(); }

bool is_3d(const Json& section) { return class_of(section) == "KlindtCoreReadout3D"; }

}  // namespace

TEST_CASE("Klindt: defaults are those of the parameter table, losses those of the class") {
  for (const Json& section : both()) {
    const std::string name = class_of(section);
    CAPTURE(name);
    Json bare = section;
    bare.erase("num_neurons");
    const auto model = make(bare);
    const Json config = Json::parse(model->config());
    const Json expected = Json::parse(R"({"kernel_constraint": null, "batch_norm": true, "bn_cent": false,
      "seed": null, "num_neurons": 1, "final_relu": false, "weights_constraint": null, "mask_constraint": null,
      "init_mask": null, "init_weights": null, "learning_rate": 0.01})");
    for (const auto& [key, value] : expected.items()) {
      const std::string shown_key = key;
      CAPTURE(shown_key);
      REQUIRE(config.contains(key));
      CHECK(config[key] == value);
    }
    CHECK(model->learning_rate() == 0.01);
    CHECK(model->class_name() == name);
    CHECK(model->sessions().size() == 1);
    CHECK(model->n_neurons(model->sessions().front()) == 1);
    CHECK(model->takes_movies() == is_3d(section));
    CHECK(model->pupil_columns() == 0);
    CHECK(model->noise_shape(3, model->sessions().front()).rank() == 0);
    const Shape shape = is_3d(section) ? Shape{2, 3, 4} : Shape{6, 4};
    const Tensor y = random_tensor(shape, 1), target = random_tensor(shape, 2);
    abs_(y);
    abs_(target);
    if (is_3d(section)) {
      CHECK(config["loss"]["class"] == Json("PoissonLoss3d"));
      CHECK(config["metric"]["class"] == Json("CorrelationLoss3d"));
      CHECK(exact(poisson_loss3d(y, target), model->loss(y, target)));
      CHECK(model->metric(y, target).item() ==
            doctest::Approx(-correlation_loss3d(y, target).item()).epsilon(1e-12));
    } else {
      CHECK(config["loss"]["class"] == Json("PoissonNLLLoss"));
      CHECK(config["loss"]["log_input"] == Json(false));
      CHECK(config["metric"]["class"] == Json("CorrelationLoss2D"));
      CHECK(exact(poisson_nll_loss(y, target), model->loss(y, target)));
      CHECK(model->metric(y, target).item() ==
            doctest::Approx(-correlation_loss2d(y, target).item()).epsilon(1e-12));
    }
  }
}

TEST_CASE("Klindt: the completed section builds the same model, other seeds other values") {
  for (const Json& section : both()) {
    const Json changed = with(section, Json::parse(R"({"kernel_constraint": "norm", "bn_cent": true,
      "final_relu": true, "weights_constraint": "absnorm", "mask_constraint": "abs", "learning_rate": 0.5,
      "act_fns": ["parametric_relu:neg=0.1", "parametric_softplus:min=0.5"]})"));
    const auto model = make(changed, 3);
    const auto again = make_model(model->config(), f64(), 3);
    CHECK(again->config() == model->config());
    CHECK(all_values(*again) == all_values(*model));
    CHECK(all_values(*make(changed, 4)) != all_values(*model));
    // A seed of its own wins over that of the run.
    const Json seeded = with(changed, {{"seed", 3}});
    CHECK(all_values(*make(seeded, 9)) == all_values(*model));
    CHECK(all_values(*make(with(changed, {{"seed", 5}}), 3)) != all_values(*model));
  }
}

TEST_CASE("Klindt: a wrong type or an impossible value of any parameter is an error that names it") {
  struct Wrong {
    const char *key, *values;  // a list
  };
  const std::vector<Wrong> table{
      {"image_size", R"([null, "9", 0, -9, 9.5, [9], [9, 8, 7], [9, 0], [9, "8"], [2, 8], [9, 3], 4])"},
      {"image_channels", R"([null, "2", 0, -1, 1.5, [2]])"},
      {"kernel_sizes",
       R"([null, 3, [], "3", [3], [3, 3, 3], [3, 0], [3, -1], [3, 1.5], [3, "3"], [3, [3]], [3, [1, 2, 3, 4]],
           [3, [2, 0]], [10, 3], [3, [2, 7]], [3, null]])"},
      {"num_kernels", R"([null, 3, [], [3], [3, 4, 5], [3, 0], [3, -4], [3, 1.5], [3, "4"], [3, [4]]])"},
      {"act_fns",
       R"([null, "elu", [], ["elu"], ["elu", "elu", "elu"], ["elu", 3], ["elu", null], ["elu", "swish"],
           ["elu", "RELU"], ["elu", "relu "], ["elu", "relu:neg=1"], ["elu", "parametric_relu:alpha=1"],
           ["elu", "parametric_relu:neg=x"], ["elu", "parametric_relu:neg"], ["elu", "parametric_relu:neg="],
           ["elu", "parametric_relu:neg=nan"],
           ["elu", "parametric_softplus:max=1"], ["elu", "parametric_softplus:min="], ["elu", "parametric_softplus:neg=1"]])"},
      {"reg", R"([null, 0.1, [], [0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, -0.1], [0, 0, 0, 1.5],
                  [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], ["0", 0, 0, 0], [null, 0, 0, 0]])"},
      {"init_scales",
       R"([null, 1, [], [[0, 1], [0, 1]], [[0, 1], [0, 1], [0, 1], [0, 1]], [[0, 1], [0, 1], [0]],
                  [[0, 1], [0, 1], 1], [[0, 1], [0, 1], [0, -1]], [[0, 1], [0, 1], ["0", 1]], [[0, 1], [0, 1], [0, 1, 2]]])"},
      {"kernel_constraint", R"(["abs", "Norm", "", 1, true, ["norm"], "absnorm"])"},
      {"batch_norm", R"([1, 0, "true", null, []])"},
      {"bn_cent", R"([1, 0, "true", null, []])"},
      {"seed", R"(["x", 1.5, true, [1]])"},
      {"num_neurons", R"([null, "5", 0, -1, 1.5, [5]])"},
      {"final_relu", R"([1, 0, "true", null, []])"},
      {"weights_constraint", R"(["Abs", "", 1, true, ["abs"], "normabs"])"},
      {"mask_constraint", R"(["norm", "absnorm", "Abs", "", 1, true])"},
      {"init_mask", R"([3, [[1]], true])"},
      {"init_weights", R"([3, [[1]], true])"},
      {"learning_rate", R"(["x", null, true, [0.01], 0, -0.01])"},
      {"data_info",
       R"([3, "x", [1], {"n_neurons_dict": {"one": 6}}, {"n_neurons_dict": 3}, {"input_shape": [2, 9, 9]}])"},
      {"loss", R"([3, "PoissonLos", [], {"class": "Poisson"}, {"class": 3}])"},
      {"metric", R"([3, "CorrelationLos", [], {"class": "Correlation"}, {"class": null}])"},
      {"correlation_loss", R"([{"class": "Correlation"}])"},
      {"sessions",
       R"([3, "one", [5], {"one": 5}, {"one": {"n_neurons": 4}}, {"one": {"n_neurons": 5}, "two": {"n_neurons": 5}},
           {"one": {"n_neurons": 5, "readout": {}}}])"},
      {"n_neurons_dict", R"([3, {"one": 4}, {"one": 5, "two": 5}])"},
  };
  for (const Json& section : both()) {
    std::set<std::string> covered;
    const std::string name = class_of(section);
    CAPTURE(name);
    for (const Wrong& wrong : table) {
      covered.insert(wrong.key);
      for (const Json& value : Json::parse(wrong.values)) {
        const std::string shown = value.dump(), key = wrong.key;
        CAPTURE(key);
        CAPTURE(shown);
        const std::string message = message_of<Error>([&] { make(with(section, {{key, value}})); });
        // Kernels and images that leave nothing are told apart by the kernel; two sessions by their number.
        const bool named = contains(message, key) ||
                           (key == "image_size" && contains(message, "kernel_sizes")) ||
                           contains(message, "has one session") || contains(message, "agree with session");
        CHECK_MESSAGE(named, message);
        CHECK_MESSAGE(contains(message, name), message);
      }
    }
    for (const ModelClass& one : model_classes())
      if (one.name == name)
        for (const ParameterDocumentation& row : one.document())
          CHECK_MESSAGE(covered.count(row.name) == 1, row.name);
  }
}

TEST_CASE("Klindt: a kernel over time is for movies") {
  CHECK(contains(refusal(with(klindt2d(), {{"kernel_sizes", {3, {1, 2, 3}}}})), "kernel_sizes[1]"));
  CHECK(refusal(with(klindt3d(), {{"kernel_sizes", {3, {1, 2, 3}}}})) == "");
}

TEST_CASE("Klindt: a missing or misspelt parameter is an error with its name and the nearest known one") {
  for (const Json& section : both()) {
    for (const char* key :
         {"image_size", "image_channels", "kernel_sizes", "num_kernels", "act_fns", "reg", "init_scales"}) {
      CAPTURE(key);
      Json without = section;
      without.erase(key);
      CHECK(contains(refusal(without), "'" + std::string(key) + "'"));
    }
    int rows = 0;
    for (const ModelClass& one : model_classes()) {
      if (one.name != class_of(section)) continue;
      for (const ParameterDocumentation& row : one.document()) {
        ++rows;
        CAPTURE(row.name);
        CHECK_FALSE(row.documentation.empty());
        std::string misspelt = row.name;
        misspelt.erase(misspelt.size() / 2, 1);
        const std::string message = refusal(with(section, {{misspelt, 1}}));
        CHECK_MESSAGE(contains(message, "'" + misspelt + "'"), message);
        CHECK_MESSAGE(contains(message, "did you mean '" + row.name + "'"), message);
      }
    }
    CHECK(rows == 18);
    for (const char* later : {"gamma", "positive", "hidden_channels"})
      CHECK(contains(refusal(with(section, {{later, 1}})), "'" + std::string(later) + "'"));
  }
}

TEST_CASE("Klindt: names that are none are refused with the known ones") {
  const auto message = [](const char* key, const char* value) {
    return refusal(with(klindt2d(), {{key, Json::parse(value)}}));
  };
  for (const char* known :
       {"relu", "elu", "softplus", "requ", "same", "none", "parametric_relu", "parametric_softplus"})
    CHECK_MESSAGE(contains(message("act_fns", R"(["elu", "swish"])"), known), known);
  CHECK(contains(message("act_fns", R"(["elu", "swish"])"), "act_fns[1]"));
  CHECK(contains(message("act_fns", R"(["elu", "swish"])"), "swish"));
  CHECK(contains(message("act_fns", R"(["parametric_relu:alpha=1", "elu"])"), "alpha"));
  CHECK(contains(message("act_fns", R"(["parametric_softplus:neg=1", "elu"])"), "neg"));
  for (const char* known : {"'abs'", "'norm'", "'absnorm'"})
    CHECK(contains(message("weights_constraint", R"("squared")"), known));
  CHECK(contains(message("kernel_constraint", R"("nrom")"), "'norm'"));
  CHECK(contains(message("mask_constraint", R"("ab")"), "'abs'"));
}

TEST_CASE("Klindt: every parameter changes something") {
  // With values that depend on names alone, so that initial values do not show in outputs.
  const std::vector<Effect> table{
      {"image_size", "10", "TIEOGR"},
      {"image_channels", "3", "TIEOGC"},
      {"kernel_sizes", "[3, [3, 3]]", "TIEOGCR"},
      {"num_kernels", "[2, 4]", "TIEOGC"},
      {"act_fns", R"(["elu", "elu"])", "EOG"},
      {"act_fns", R"(["parametric_relu", "softplus"])", "TIEOG"},
      {"act_fns", R"(["parametric_relu:neg=0.2", "softplus"])", "TIEOG",
       R"({"act_fns": ["parametric_relu", "softplus"]})"},
      {"act_fns", R"(["elu", "parametric_softplus"])", "TI"},
      {"act_fns", R"(["elu", "parametric_softplus:min=0.7"])", "EOG",
       R"({"act_fns": ["elu", "parametric_softplus"]})"},
      {"reg", "[0.5, 0.02, 0.03, 0]", "C"},
      {"reg", "[0.01, 0.5, 0.03, 0]", "R"},
      {"reg", "[0.01, 0.02, 0.5, 0]", "R"},
      {"reg", "[0.01, 0.02, 0.03, 0.5]", "OG"},
      {"init_scales", "[[0.1, 0.1], [0.1, 0.05], [0.2, 0.05]]", "I"},
      {"init_scales", "[[0, 0.1], [0.1, 0.07], [0.2, 0.05]]", "I"},
      {"init_scales", "[[0, 0.1], [0.1, 0.05], [0.2, 0]]", "I"},
      {"kernel_constraint", R"("norm")", "IEOGC"},
      {"batch_norm", "false", "TIEOG"},
      {"bn_cent", "true", "TIEOG"},
      {"seed", "11", "I"},
      {"num_neurons", "4", "TIEOGRLM"},
      {"final_relu", "true", "TIEOG"},
      {"weights_constraint", R"("abs")", "EOG"},
      {"weights_constraint", R"("norm")", "EOGR"},
      {"weights_constraint", R"("absnorm")", "EOG", R"({"weights_constraint": "norm"})"},
      {"weights_constraint", R"("absnorm")", "EOGR", R"({"weights_constraint": "abs"})"},
      {"mask_constraint", R"("abs")", "EOG"},
      {"learning_rate", "0.5", "A"},
      {"loss", R"({"class": "PoissonNLLLoss", "full": true})", "L"},
      {"correlation_loss", R"({"class": "CorrelationLoss2D", "avg": true})", "M"},
  };
  for (const Json& section : both())
    for (const Effect& one : table) {
      const std::string key = one.key;
      const Json base = with(section, Json::parse(one.base));
      Json value = Json::parse(one.value);
      if (is_3d(section) && key == "correlation_loss") value["class"] = "CorrelationLoss3d";
      if (is_3d(section) && key == "kernel_sizes") value = Json::parse("[3, [3, 3, 3]]");
      const Json changed = with(base, {{key, value}});
      const std::string name = class_of(section), shown = value.dump();
      CAPTURE(name);
      CAPTURE(key);
      CAPTURE(shown);
      CHECK(differences(outcome_of(base), outcome_of(changed)) == one.letters);
      CHECK(differences(outcome_of(base), outcome_of(base)) == "");
    }
}

// ---- tensors

TEST_CASE("Klindt: tensors by name, shape and role for every option that changes them") {
  for (const Json& section : both()) {
    const bool movies = is_3d(section);
    const std::string name = class_of(section);
    CAPTURE(name);
    const std::string first = movies ? "(3, 2, 1, 3, 3)" : "(3, 2, 3, 3)",
                      second = movies ? "(4, 3, 3, 2, 3)" : "(4, 3, 2, 3)";
    for (const bool batch_norm : {false, true})
      for (const bool bn_cent : {false, true})
        for (const bool final_relu : {false, true}) {
          CAPTURE(batch_norm);
          CAPTURE(bn_cent);
          CAPTURE(final_relu);
          TensorTable expected{{"core.conv_layers.0.weight", first + " parameter"},
                               {"core.conv_layers.1.weight", second + " parameter"},
                               {"readout.mask_weights", "(24, 5) parameter"},
                               {"readout.readout_weights", "(4, 5) parameter"}};
          for (const std::string& layer : {std::string("0"), std::string("1")}) {
            const std::string channels = layer == "0" ? "(3)" : "(4)", norm = "core.bn_layers." + layer;
            if (!batch_norm) {
              expected["core.conv_layers." + layer + ".bias"] = channels + " parameter";
              continue;
            }
            expected[norm + ".running_mean"] = expected[norm + ".running_var"] = channels + " statistic";
            expected[norm + ".num_batches_tracked"] = "() statistic";
            if (bn_cent) expected[norm + ".weight"] = expected[norm + ".bias"] = channels + " parameter";
          }
          if (final_relu) expected["readout.bias"] = "(5) parameter";
          const Json changed =
              with(section, {{"batch_norm", batch_norm}, {"bn_cent", bn_cent}, {"final_relu", final_relu}});
          CHECK(tensor_table(changed) == expected);
          std::int64_t count = 0;
          const auto model = make(changed);
          for (const NamedTensor& one : model->tensors())
            if (one.role == Role::parameter) count += one.tensor.elements();
          CHECK(model->parameter_count() == count);
        }
  }
}

TEST_CASE("Klindt: tensors of the activations, learnable where the text names them") {
  struct Case {
    const char* text;
    TensorTable expected;
    std::map<std::string, double> start;
  };
  const auto relu = [](const char* neg, const char* pos) {
    return TensorTable{{"thresh", "(1) constant"}, {"neg_slope", neg}, {"pos_slope", pos}};
  };
  const char *constant = "(1) constant", *parameter = "(1) parameter";
  const TensorTable softplus{{"alpha", constant}, {"beta", constant}, {"gamma", constant}};
  const std::vector<Case> cases{
      {"relu", {}, {}},
      {"elu", {}, {}},
      {"softplus", {}, {}},
      {"requ", {}, {}},
      {"", {}, {}},
      {"same", {}, {}},
      {"none", {}, {}},
      {"parametric_relu", relu(constant, constant), {{"thresh", 0}, {"neg_slope", 0}, {"pos_slope", 1}}},
      {"parametric_relu:neg=0.25",
       relu(parameter, constant),
       {{"thresh", 0}, {"neg_slope", 0.25}, {"pos_slope", 1}}},
      {"parametric_relu:pos=2",
       relu(constant, parameter),
       {{"thresh", 0}, {"neg_slope", 0}, {"pos_slope", 2}}},
      {"parametric_relu:neg=-0.5,pos=1e-1",
       relu(parameter, parameter),
       {{"thresh", 0}, {"neg_slope", -0.5}, {"pos_slope", 0.1}}},
      {"parametric_relu:pos=3,neg=0",
       relu(parameter, parameter),
       {{"thresh", 0}, {"neg_slope", 0}, {"pos_slope", 3}}},
      {"parametric_softplus", softplus, {{"alpha", 1}, {"beta", 1}, {"gamma", 0}}},
      {"parametric_softplus:min=0.5", softplus, {{"alpha", 1}, {"beta", 1}, {"gamma", 0}}},
  };
  for (const Json& section : both())
    for (const Case& one : cases) {
      const std::string text = one.text, prefix = "core.activation_layers.1.";
      CAPTURE(text);
      const auto model = make(with(section, {{"act_fns", {"elu", text}}}));
      TensorTable expected;
      for (const auto& [name, what] : one.expected) expected[prefix + name] = what;
      CHECK(under("core.activation_layers", tensor_table(*model)) == expected);
      for (const auto& [name, value] : one.start)
        CHECK(values(tensor_named(*model, prefix + name)) == std::vector<double>{value});
    }
}

TEST_CASE("Klindt: activations do what they are named for, stored slopes are used") {
  // One pixel, one channel, one neuron with weight 1: the output is act(x).
  const auto output = [](const char* act, double x, const std::map<std::string, double>& stored = {}) {
    const auto model = make(with(Json::parse(R"({"class": "KlindtCoreReadout2D", "image_size": 1,
      "image_channels": 1, "kernel_sizes": [1], "num_kernels": [1], "reg": [0, 0, 0, 0],
      "init_scales": [[1, 0], [1, 0], [1, 0]], "batch_norm": false})"),
                                 {{"act_fns", {act}}}));
    tensor_named(*model, "core.conv_layers.0.bias").fill(0);
    for (const auto& [name, value] : stored)
      tensor_named(*model, "core.activation_layers.0." + name).fill(value);
    return predict(*model, Tensor::full({1, 1, 1, 1}, x, DType::f64, f64().device), "session").item();
  };
  CHECK(output("relu", -2) == 0);
  CHECK(output("relu", 3) == 3);
  CHECK(output("elu", -2) == std::expm1(-2.0));
  CHECK(output("softplus", 0.5) == doctest::Approx(std::log1p(std::exp(0.5))).epsilon(1e-14));
  CHECK(output("softplus", 20.5) == 20.5);
  CHECK(output("requ", 3) == 9);
  CHECK(output("requ", -3) == 0);
  for (const char* identity : {"", "same", "none"}) CHECK(output(identity, -1.5) == -1.5);
  CHECK(output("parametric_relu", -2) == 0);
  CHECK(output("parametric_relu:neg=0.5,pos=3", -2) == -1);
  CHECK(output("parametric_relu:neg=0.5,pos=3", 2) == 6);
  CHECK(output("parametric_relu", -2, {{"neg_slope", 4}}) == -8);
  CHECK(output("parametric_relu", 2, {{"pos_slope", 4}, {"thresh", 1}}) == 4);
  CHECK(output("parametric_softplus:min=2", -1) == 2);
  CHECK(output("parametric_softplus", 1, {{"alpha", 2}, {"beta", 3}, {"gamma", -3}}) ==
        doctest::Approx(2 * std::log(2.0)).epsilon(1e-14));
}

// ---- shapes

TEST_CASE("Klindt: output_shape is the shape of a prediction") {
  struct Case {
    bool movies;
    const char* changes;
    Shape sample, output;
    const char* mask;  // shape of the masks
  };
  const std::vector<Case> cases{
      {false, "{}", {2, 9, 8}, {5}, "(24, 5) parameter"},
      {false, R"({"image_size": 7})", {2, 7, 7}, {5}, "(12, 5) parameter"},
      {false, R"({"kernel_sizes": [1, [9, 8]], "num_neurons": 3})", {2, 9, 8}, {3}, "(1, 3) parameter"},
      {false,
       R"({"kernel_sizes": [[1, 3], [4, 1]], "image_channels": 1})",
       {1, 9, 8},
       {5},
       "(36, 5) parameter"},
      {true, "{}", {2, 10, 9, 8}, {8, 5}, "(24, 5) parameter"},
      {true, R"({"kernel_sizes": [3, [2, 3]]})", {2, 4, 9, 8}, {4, 5}, "(24, 5) parameter"},
      {true, R"({"kernel_sizes": [[4, 1, 1], [3, 2, 3]]})", {2, 6, 9, 8}, {1, 5}, "(48, 5) parameter"},
      {true,
       R"({"kernel_sizes": [[2, 3, 3], [2, 3, 3]], "image_size": [5, 6]})",
       {2, 7, 5, 6},
       {5, 5},
       "(2, 5) parameter"},
  };
  for (const Case& one : cases) {
    const std::string changes = one.changes;
    CAPTURE(changes);
    const auto model = make(with(one.movies ? klindt3d() : klindt2d(), Json::parse(changes)));
    const std::string session = model->sessions().front();
    CHECK(tensor_table(*model).at("readout.mask_weights") == one.mask);
    CHECK(model->output_shape(one.sample, session) == one.output);
    CHECK(model->in_shape().rank() == one.sample.rank());
    std::vector<std::int64_t> batched{2};
    for (const std::int64_t extent : one.output) batched.push_back(extent);
    CHECK(predict(*model, stimulus(2, one.sample), session).shape() == Shape(batched));
    const ModelDescription description = model->describe(one.sample);
    REQUIRE(description.layers.size() == 3);
    CHECK(description.layers.back().output == one.output);
    std::int64_t parameters = 0;
    for (const LayerDescription& layer : description.layers) parameters += layer.parameters;
    CHECK(parameters == model->parameter_count());
  }
}

TEST_CASE("Klindt: what does not fit is refused with both shapes") {
  const auto images = make(klindt2d()), movies = make(klindt3d());
  const auto forward = [](const Model& model, const Shape& shape) {
    return message_of<ShapeError>([&] { predict(model, random_tensor(shape, 1), "session"); });
  };
  CHECK(contains(forward(*images, {1, 9, 8, 3}), "(3, 9, 8)"));
  CHECK(contains(forward(*images, {1, 8, 9, 2}), "(2, 8, 9)"));
  CHECK_FALSE(forward(*images, {1, 4, 9, 8, 2}).empty());
  CHECK(contains(forward(*movies, {1, 5, 8, 9, 2}), "(2, 5, 8, 9)"));
  CHECK_FALSE(forward(*movies, {1, 9, 8, 2}).empty());
  CHECK(contains(forward(*movies, {1, 2, 9, 8, 2}), "kernel_sizes[1]"));  // three frames for one prediction
  CHECK(contains(message_of<ShapeError>([&] {
                   (void)images->output_shape({2, 9, 9}, "session");
                 }),
                 "(2, 9, 9)"));
  const std::string session =
      message_of<ConfigError>([&] { predict(*images, stimulus(1, images->in_shape()), "on"); });
  CHECK(contains(session, "'on'"));
  CHECK(contains(session, "session"));
  // Batch statistics of a single value have no variance; one image of several pixels has.
  const auto pixel = make(with(klindt2d(), Json::parse(R"({"kernel_sizes": [3, [7, 6]]})")));
  CHECK(contains(message_of<ShapeError>([&] {
                   pixel->forward({"session", stimulus(1, pixel->in_shape()), {}, {}}, {true, nullptr});
                 }),
                 "more than one value per channel"));
  CHECK_NOTHROW(pixel->forward({"session", stimulus(2, pixel->in_shape()), {}, {}}, {true, nullptr}));
  CHECK_NOTHROW(images->forward({"session", stimulus(1, images->in_shape()), {}, {}}, {true, nullptr}));
}

TEST_CASE("Klindt: one session under any key, whose neurons agree") {
  for (const Json& section : both()) {
    Json free = section;
    free.erase("num_neurons");
    for (const char* where : {"sessions", "n_neurons_dict"}) {
      CAPTURE(where);
      const Json sessions = std::string(where) == "sessions"
                                ? Json::parse(R"({"2020.06-26 left": {"n_neurons": 5}})")
                                : Json::parse(R"({"2020.06-26 left": 5})");
      for (const Json& base : {section, free}) {
        const auto model = make(with(base, {{where, sessions}}));
        CHECK(model->sessions() == std::vector<std::string>{"2020.06-26 left"});
        CHECK(model->n_neurons("2020.06-26 left") == 5);
        CHECK(Json::parse(model->config())["num_neurons"] == Json(5));
        CHECK(tensor_table(*model) == tensor_table(section));
      }
    }
    const Json info = Json::parse(R"({"input_shape": [2, 9, 8], "n_neurons_dict": {"one": 5}})");
    CHECK(make(with(free, {{"data_info", info}}))->sessions() == std::vector<std::string>{"one"});
    CHECK(make(with(section, {{"data_info", {{"input_shape", {2, 9, 8}}}}}))->n_neurons("session") == 5);
    CHECK(contains(refusal(with(section, Json::parse(R"({"n_neurons_dict": {"one": 6}})"))), "6"));
    CHECK(
        contains(refusal(with(section, Json::parse(R"({"n_neurons_dict": {"one": 5, "two": 5}})"))), "two"));
  }
}

// FiringRateEncoder in use: statistics, outputs, constraints, files, copies, the C++ API.
#include "image_model_fixture.hpp"

using namespace fovea;
using namespace fovea::test;
using namespace model_test;

namespace {

std::vector<double> positive(std::vector<double> x) {
  for (double& value : x) value = std::max(value, 0.0);
  return x;
}

}  // namespace

TEST_CASE("encoder: momentum weighs the batch in the statistics, the variance unbiased") {
  for (const double momentum : {0.1, 0.5, 1.0}) {
    const auto model = make(with_core({{"momentum", momentum}, {"layers", 1}, {"gamma_hidden", 0}}));
    const auto plain =
        make(with_core({{"layers", 1}, {"gamma_hidden", 0}, {"batch_norm", false}, {"linear", true}}));
    const ModelInput input = input_of(*model, "one");
    model->forward(input, {true, nullptr});
    model->forward(input, {true, nullptr});
    const double kept = (1 - momentum) * (1 - momentum);
    // The convolution's moments by hand, of the first channel.
    const Tensor w = tensor_named(*model, "core.features.layer0.conv.weight");
    const std::vector<double> y =
        column(values(conv2d(input.stimulus, w, {}, {.padding = Padding2d::same({5, 5})})), 3, 0);
    const double count = static_cast<double>(y.size());
    const Moments m = moments(y);
    const std::string norm = "core.features.layer0.norm.";
    CHECK(values(tensor_named(*model, norm + "running_mean"))[0] ==
          doctest::Approx((1 - kept) * m.mean).epsilon(1e-12));
    CHECK(
        values(tensor_named(*model, norm + "running_var"))[0] ==
        doctest::Approx(kept + (1 - kept) * m.deviation * m.deviation * count / (count - 1)).epsilon(1e-12));
    CHECK(values(tensor_named(*model, norm + "num_batches_tracked"))[0] == 2);
  }
}

TEST_CASE("encoder: no regularizers without their factors; layers that nothing reads get no gradient") {
  const auto regularizer = [](const Json& section) {
    return values_or_none(make(section)->core_regularizer());
  };
  const std::vector<double> none = regularizer(with_core({{"gamma_input", 0}, {"gamma_hidden", 0}}));
  CHECK((none.empty() || none == std::vector<double>{0}));
  const auto model = make(with_core({{"stack", {0}}, {"gamma_hidden", 0}}));
  require_gradients(*model);
  const Tensor y = model->forward(input_of(*model, "one"), {true, nullptr});
  for (const auto& [name, gradient] : gradients_of(*model, y)) {
    CHECK(name.find("layer1") == std::string::npos);
    CHECK(name.find("layer2") == std::string::npos);
    CHECK(name.rfind("readout.two", 0) != 0);
  }
}

TEST_CASE("encoder: the output is elu(x + elu_offset) + 1") {
  const auto output = [](double offset, const char* bias) {
    const auto model = make(with(with_readout(part("bias", bias)), {{"elu_offset", offset}}), 5);
    return values(evaluate(*model, input_of(*model, "one")));
  };
  const std::vector<double> plain = before_elu(output(0, "true"));
  for (const double offset : {-2.0, 0.75}) {
    std::vector<double> expected;
    for (const double x : plain)
      expected.push_back((x + offset > 0 ? x + offset : std::expm1(x + offset)) + 1);
    CHECK(close(expected, output(offset, "true")));
  }
}

// ---- constraints

TEST_CASE("encoder: constraints are in place, on the session that runs") {
  const auto changes_of = [](const Json& section, auto expected) {
    const auto model = make(section);
    fill_by_name(*model);
    for (const NamedTensor& one : model->tensors()) {  // some positions far out
      if (!contains(one.name, "_mu")) continue;
      std::vector<double> far = values(one.tensor);
      for (double& value : far) value *= 10;
      one.tensor.copy_from(Tensor::from(far, one.tensor.shape(), one.tensor.device()));
    }
    auto before = all_values(*model);
    model->apply_constraints("one");
    const auto after = all_values(*model);
    expected(before);
    for (const auto& one : after) {
      CAPTURE(one.first);
      CHECK(one.second == before.at(one.first));
    }
    model->apply_constraints("one");
    CHECK(all_values(*model) == after);
  };
  using Values = std::map<std::string, std::vector<double>>;
  const auto same = [](Values&) {};
  const auto features = [](Values& all) {
    all["readout.one._features"] = positive(all["readout.one._features"]);
  };
  Json wide = encoder();
  changes_of(wide, [](Values& all) {
    for (double& one : all["readout.one._mu"]) one = std::clamp(one, -1.0, 1.0);
  });
  changes_of(factorized(), same);
  changes_of(factorized({{"constrain_pos", true}}), features);
  changes_of(factorized({{"positive_spatial", true}}), same);
  changes_of(factorized({{"positive_weights", true}}), same);
  changes_of(factorized({{"constrain_pos", true}, {"normalize", false}}), [&](Values& all) {
    features(all);
    all["readout.one.spatial"] = positive(all["readout.one.spatial"]);
  });
  // Shared features are not clamped; a shared or predicted position is not either.
  Json alone = factorized(
      Json::parse(R"({"constrain_pos": true, "shared_features": {"match_ids": [1, 2, 1, 2, 3]}})"));
  alone["n_neurons_dict"] = {{"one", 5}};
  changes_of(alone, same);
  Json grid = with_readout(part("shared_grid", R"({"match_ids": [1, 2, 1, 2, 3]})"));
  grid["n_neurons_dict"] = {{"one", 5}};
  changes_of(grid, same);

  // A position far out is clamped, and the forward pass alone writes nothing else.
  const auto model = make(encoder());
  tensor_named(*model, "readout.one._mu").fill(3);
  tensor_named(*model, "readout.two._mu").fill(-3);
  model->apply_constraints("two");
  for (const double one : values(tensor_named(*model, "readout.one._mu"))) CHECK(one == 3);
  for (const double one : values(tensor_named(*model, "readout.two._mu"))) CHECK(one == -1);
}

TEST_CASE("encoder: the factorized readout is its formula with every option") {
  for (const bool normalize : {true, false})
    for (const bool constrain_pos : {true, false})
      for (const bool positive_spatial : {true, false})
        for (const bool shared : {true, false}) {
          CAPTURE(normalize);
          CAPTURE(constrain_pos);
          CAPTURE(positive_spatial);
          CAPTURE(shared);
          // A core that hands its input on: one channel, one pixel kernel.
          Json section = factorized({{"normalize", normalize},
                                     {"constrain_pos", constrain_pos},
                                     {"positive_spatial", positive_spatial}});
          if (shared) section["readout"]["shared_features"] = Json::parse(R"({"match_ids": [1, 2, 1]})");
          section["n_neurons_dict"] = {{"one", 3}};
          section["in_shape"] = {1, 2, 3};
          section["core"] = Json::parse(
              R"({"class": "Stacked2dCore", "input_channels": 1, "hidden_channels": 1, "input_kern": 1,
            "hidden_kern": 1, "layers": 1, "batch_norm": false, "linear": true})");
          const auto model = make(section);
          fill_by_name(*model);
          tensor_named(*model, "core.features.layer0.conv.weight").fill(1);
          model->apply_constraints("one");
          const auto all = all_values(*model);
          const Tensor x = stimulus(2, model->in_shape());
          const std::vector<double> in = values(x), spatial = all.at("readout.one.spatial"),
                                    bias = all.at("readout.one.bias");
          std::vector<double> ns = spatial, features = all.at("readout.one._features"), expected;
          if (shared) {
            const std::vector<double> scales = all.at("readout.one.scales");
            features = {features[0] * scales[0], features[1] * scales[1], features[0] * scales[2]};
          }
          double spatial_sum = 0, feature_sum = 0;
          for (std::size_t n = 0; n < 3; ++n) {
            double norm = 0;
            for (std::size_t p = 0; p < 6; ++p) norm += spatial[n * 6 + p] * spatial[n * 6 + p];
            for (std::size_t p = 0; p < 6; ++p) {
              double& one = ns[n * 6 + p];
              if (normalize) one /= std::sqrt(norm) + 1e-6;
              if (constrain_pos)
                one = std::max(one, 0.0);
              else if (positive_spatial)
                one = std::abs(one);
              spatial_sum += std::abs(one);
            }
            feature_sum += std::abs(features[n]);
          }
          for (std::size_t b = 0; b < 2; ++b)
            for (std::size_t n = 0; n < 3; ++n) {
              double sum = bias[n];
              for (std::size_t p = 0; p < 6; ++p) sum += features[n] * in[b * 6 + p] * ns[n * 6 + p];
              expected.push_back((sum > 0 ? sum : std::expm1(sum)) + 1);
            }
          CHECK(close(expected, values(evaluate(*model, {"one", x, {}, {}}))));
          CHECK(model->readout_regularizer("one").item() ==
                doctest::Approx(spatial_sum * feature_sum).epsilon(1e-13));
        }
}

// ---- files, copies, the C++ API

namespace {

/// Everything that is stored: sharing, a predictor, a shifter, own sections of sessions, plain norms.
Json everything() {
  Json section =
      with_part(with_core({{"batch_norm_scale", false}, {"depth_separable", true}, {"momentum", 0.5}}),
                "shifter", {{"class", "MLPShifter"}, {"shift_layers", 2}, {"input_channels", 3}});
  section.erase("n_neurons_dict");
  section["sessions"] =
      Json::parse(R"({"2020.06-26 left": {"n_neurons": 3, "mean_activity": [0.5, 1, 2], "readout":
    {"shared_features": {"match_ids": [4, 2, 4]}, "grid_mean_predictor": {"hidden_layers": 1}, "source_grid": [[0, 1], [1, 3], [2, 2]]}},
    "a.b": {"n_neurons": 2, "readout": {"gauss_type": "isotropic", "shared_grid": {"match_ids": [1, 1]}}}})");
  return section;
}

}  // namespace

TEST_CASE("encoder: a model file gives the same bits back, a clone has its own memory") {
  const TemporaryFolder folder;
  const Placement placement{cpu_device(1), DType::f32};
  Json clones = factorized({{"clone_readout", true}, {"normalize", false}});
  clones["n_neurons_dict"] = {{"one", 4}, {"two", 4}};
  for (const Json& section : {everything(), clones}) {
    const auto model = make_model(section.dump(), placement, 11);
    for (const std::string& session : model->sessions()) {
      Random random(3);
      model->forward(input_of(*model, session), {true, &random});
    }
    save_model(folder / "a.safetensors", *model, R"({"fovea": "0"})");
    const LoadedModel loaded = load_model(folder / "a.safetensors", placement);
    CHECK(loaded.model->config() == model->config());
    CHECK(all_values(*loaded.model) == all_values(*model));
    CHECK(tensor_table(*loaded.model) == tensor_table(*model));
    CHECK(values(tensor_named(*loaded.model, "core.features.layer2.norm.num_batches_tracked")) ==
          std::vector<double>{2});
    for (const std::string& session : model->sessions())
      CHECK(exact(evaluate(*model, input_of(*model, session)),
                  evaluate(*loaded.model, input_of(*model, session))));
    save_model(folder / "b.safetensors", *loaded.model, loaded.provenance);
    CHECK(read_bytes(folder / "a.safetensors") == read_bytes(folder / "b.safetensors"));
    CHECK_FALSE(read_bytes(folder / "a.safetensors").empty());
    CHECK(all_values(*load_model(folder / "a.safetensors", f64()).model) == all_values(*model));

    const auto copy = model->clone();
    const auto before = all_values(*model);
    CHECK(copy->config() == model->config());
    CHECK(all_values(*copy) == before);
    for (const NamedTensor& one : copy->tensors()) one.tensor.fill(7);
    CHECK(all_values(*model) == before);
  }
}

TEST_CASE("encoder: tensors that do not fit are listed, the references' filters are skipped") {
  const TemporaryFolder folder;
  save_model(folder / "good.safetensors", *make(everything()));
  const Safetensors good = read_safetensors(folder / "good.safetensors", cpu_device(1));
  const auto refusal_of = [&](const Safetensors& content) {
    write_safetensors(folder / "bad.safetensors", content);
    return message_of<FormatError>([&] { load_model(folder / "bad.safetensors", f64()); });
  };
  Safetensors bad = good, filtered = good;
  for (auto& [name, tensor] : bad.tensors) {
    if (name == "readout.a.b.sigma") name = "readout.a.sigma";
    if (name == "shifter.a.b.mlp.0.weight") tensor = tensor.reshape({6});
  }
  const std::string message = refusal_of(bad);
  for (const char* part :
       {"missing: readout.a.b.sigma", "extra: readout.a.sigma", "misshapen: shifter.a.b.mlp.0.weight"})
    CHECK_MESSAGE(contains(message, part), message);
  filtered.tensors.emplace_back("core._input_weights_regularizer.laplace.filter",
                                Tensor::zeros({1, 1, 3, 3}, DType::f32, cpu_device(1)));
  CHECK(refusal_of(filtered) == "");
  // An index that points nowhere.
  Safetensors lying = good;
  for (auto& [name, tensor] : lying.tensors)
    if (name == "readout.a.b.grid_sharing_index")
      tensor = Tensor::from(std::vector<std::int64_t>{0, 7}, {2}, cpu_device(1));
  CHECK_FALSE(message_of<Error>([&] {
                write_safetensors(folder / "bad.safetensors", lying);
                const LoadedModel loaded = load_model(folder / "bad.safetensors", f64());
                evaluate(*loaded.model, input_of(*loaded.model, "a.b"));
              }).empty());
}

TEST_CASE("encoder: the C++ API is make_model with the same section") {
  FiringRateEncoderOptions options;
  options.in_shape = {2, 7, 9};
  options.core.input_channels = 2;
  options.core.hidden_channels = std::int64_t{3};
  options.core.input_kern = 5;
  options.core.hidden_kern = std::int64_t{3};
  options.core.gamma_input = 0.5;
  options.core.gamma_hidden = 0.25;
  const std::vector<SessionOptions> sessions{{"one", 5, {}}, {"two", 4, {}}};
  const auto same = [&](const Json& section) {
    const auto a = make_firing_rate_encoder(options, sessions, f64(), 6), b = make(section, 6);
    CHECK(a->config() == b->config());
    CHECK(all_values(*a) == all_values(*b));
  };
  same(encoder());
  options.shifter = MLPShifterOptions{3, 4, 2, 0.5, false};
  options.core.stack = std::vector<std::int64_t>{0, -1};
  options.core.hidden_channels = std::vector<std::int64_t>{3, 4, 5};
  options.core.hidden_padding = std::array<std::int64_t, 2>{1, 1};
  options.core.laplace_padding.reset();
  options.core.elu_shift = {0.5, 0.25};
  options.elu_offset = -0.5;
  options.learning_rate = 0.25;
  FullGaussian2dOptions gaussian;
  gaussian.gauss_type = "isotropic";
  gaussian.init_mu_range = 0.5;
  gaussian.batch_sample = false;
  options.readout = gaussian;
  const Json changed = with(
      with_part(with_readout({{"gauss_type", "isotropic"}, {"init_mu_range", 0.5}, {"batch_sample", false}},
                             with_core(Json::parse(
                                 R"({"stack": [0, -1], "hidden_channels": [3, 4, 5], "hidden_padding": [1, 1],
                               "laplace_padding": null, "elu_shift": [0.5, 0.25]})"))),
                "shifter",
                Json::parse(R"({"class": "MLPShifter", "input_channels": 3, "hidden_channels_shifter": 4,
                  "shift_layers": 2, "gamma_shifter": 0.5, "bias": false})")),
      {{"elu_offset", -0.5}, {"learning_rate", 0.25}});
  same(changed);
  FullFactorized2dOptions full;
  full.bias = false;
  full.constrain_pos = true;
  options.readout = full;
  CHECK(contains(message_of<ConfigError>([&] { make_firing_rate_encoder(options, sessions, f64()); }),
                 "shifter"));
  options.shifter.reset();
  Json section = changed;
  section.erase("shifter");
  section["readout"] = {{"class", "FullFactorized2d"}, {"bias", false}, {"constrain_pos", true}};
  same(section);
  options.clone_readout = true;
  CHECK(contains(message_of<ConfigError>([&] { make_firing_rate_encoder(options, sessions, f64()); }),
                 "clone_readout"));
  options.clone_readout = false;
  options.elu_offset = NAN;
  CHECK(contains(message_of<ConfigError>([&] { make_firing_rate_encoder(options, sessions, f64()); }),
                 "elu_offset"));
  options.elu_offset = 0;
  options.core.gamma_input = INFINITY;
  CHECK(contains(message_of<ConfigError>([&] { make_firing_rate_encoder(options, sessions, f64()); }),
                 "gamma_input"));
}

// CoreReadout in use: session names, files, freezing, copies, constraints, dropout.
#include "model_fixture.hpp"

using namespace fovea;
using namespace fovea::test;
using namespace model_test;

// ---- sessions

TEST_CASE("session names may hold dots, dashes, spaces and UTF-8") {
  const TemporaryFolder folder;
  const std::vector<std::string> names{
      "2020.06-26.left", "a",    "a.b",  "a.features", "a.b.bias", "my session",
      "séance 日本",     "core", "null", "-",          "..."};
  Json section = small();
  section.erase("n_neurons_dict");
  std::int64_t neurons = 1;
  for (const std::string& name : names) section["sessions"][name] = {{"n_neurons", neurons++}};
  const auto model = make(section);
  CHECK(model->sessions() == names);
  save_model(folder / "model.safetensors", *model);
  const LoadedModel loaded = load_model(folder / "model.safetensors", f64());
  CHECK(loaded.model->sessions() == names);
  const Tensor x = stimulus(1, model->in_shape());
  for (const std::string& name : names) {
    CAPTURE(name);
    const Tensor y = predict(*loaded.model, x, name);
    CHECK(y.shape() == Shape{1, 15, loaded.model->n_neurons(name)});
    CHECK(tensor_named(*loaded.model, "readout." + name + ".bias").elements() == model->n_neurons(name));
  }
}

TEST_CASE("session names that cannot be files, or are no names, are refused") {
  for (const char* name : {"", "a/b", "/", "a\nb", "\t", "\x01", "\x7f", "nul\x1f"}) {
    CAPTURE(name);
    Json section = small();
    section["n_neurons_dict"] = {{name, 3}};
    CHECK_FALSE(refusal(section).empty());
    section.erase("n_neurons_dict");
    section["sessions"] = {{name, {{"n_neurons", 3}}}};
    CHECK_FALSE(refusal(section).empty());
  }
  const std::string twice = R"({"class": "CoreReadout", "in_shape": [2, 20, 12, 11], "hidden_channels": [3],
    "temporal_kernel_sizes": [6], "spatial_kernel_sizes": [4], "n_neurons_dict": {"one": 5, "one": 5}})";
  CHECK(contains(message_of<FormatError>([&] { make_model(twice, f64()); }), "duplicate key 'one'"));
}

TEST_CASE("a session's mean activity is its first bias") {
  Json section = small();
  section["sessions"] = Json::parse(R"({"one": {"n_neurons": 5, "mean_activity": [0.5, 0.25, 0, 2, 1]}})");
  const auto model = make(section);
  CHECK(values(tensor_named(*model, "readout.one.bias")) == std::vector<double>{0.5, 0.25, 0, 2, 1});
  CHECK(values(tensor_named(*make(small()), "readout.one.bias")) == std::vector<double>(5, 0.0));
}

// ---- files

TEST_CASE("a model file gives the same bits back") {
  const TemporaryFolder folder;
  const Placement placement{cpu_device(1), DType::f32};
  const auto model = make_model(with(small(), {{"dropout_rate", 0.2}}).dump(), placement, 11);
  Random random(3);  // statistics that differ from fresh ones
  model->forward({"one", stimulus(2, model->in_shape(), placement), {}, {}}, {true, &random});
  save_model(folder / "a.safetensors", *model, R"({"fovea": "0", "best epoch": 3})");
  const LoadedModel loaded = load_model(folder / "a.safetensors", placement);
  CHECK(Json::parse(loaded.provenance) == Json::parse(R"({"fovea": "0", "best epoch": 3})"));
  CHECK(loaded.model->config() == model->config());
  const auto before = model->tensors(), after = loaded.model->tensors();
  REQUIRE(before.size() == after.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    CAPTURE(before[i].name);
    CHECK(before[i].name == after[i].name);
    CHECK(exact(before[i].tensor, after[i].tensor));
  }
  CHECK(values(tensor_named(*loaded.model, "core.features.layer0.norm.num_batches_tracked")) ==
        std::vector<double>{1});
  const Tensor x = stimulus(1, model->in_shape(), placement);
  CHECK(exact(predict(*model, x, "one"), predict(*loaded.model, x, "one")));
  save_model(folder / "b.safetensors", *loaded.model, loaded.provenance);
  CHECK(read_bytes(folder / "a.safetensors") == read_bytes(folder / "b.safetensors"));
  CHECK_FALSE(read_bytes(folder / "a.safetensors").empty());
}

TEST_CASE("tensors that do not fit are listed all in one error") {
  const TemporaryFolder folder;
  const auto model = make(small());
  save_model(folder / "good.safetensors", *model);
  const Safetensors good = read_safetensors(folder / "good.safetensors", cpu_device(1));
  const auto refusal_of = [&](const Safetensors& content) {
    write_safetensors(folder / "bad.safetensors", content);
    return message_of<FormatError>([&] { load_model(folder / "bad.safetensors", f64()); });
  };
  CHECK(refusal_of(good) == "");

  Safetensors bad = good;
  bad.tensors.clear();
  for (const auto& [name, tensor] : good.tensors) {
    if (name == "readout.one.features" || name == "core.features.layer1.norm.weight") continue;
    if (name == "readout.one.bias") {
      bad.tensors.emplace_back(name, Tensor::zeros({6}, DType::f32, cpu_device(1)));
    } else if (name == "core.features.layer0.conv.sin_weights") {
      bad.tensors.emplace_back(name, tensor.reshape({tensor.elements()}));
    } else {
      bad.tensors.emplace_back(name, tensor);
    }
  }
  bad.tensors.emplace_back("readout.two.bias", Tensor::zeros({6}, DType::f32, cpu_device(1)));
  bad.tensors.emplace_back("core.other", Tensor::zeros({}, DType::f32, cpu_device(1)));
  const std::string message = refusal_of(bad);
  for (const char* part :
       {"bad.safetensors", "missing: readout.one.features", "missing: core.features.layer1.norm.weight",
        "misshapen: readout.one.bias", "(6)", "(5)", "misshapen: core.features.layer0.conv.sin_weights",
        "extra: readout.two.bias", "extra: core.other"})
    CHECK_MESSAGE(contains(message, part), message);

  Safetensors integer = good;
  for (auto& [name, tensor] : integer.tensors)
    if (name == "readout.one.bias") tensor = Tensor::zeros({5}, DType::i64, cpu_device(1));
  CHECK(contains(refusal_of(integer), "readout.one.bias"));

  // The references' constant buffers are skipped, older names understood, double precision converted.
  Safetensors legacy = good;
  for (auto& [name, tensor] : legacy.tensors) {
    if (name == "readout.one.bias") name = "readout.one.bias_param";
    if (tensor.dtype() == DType::f32) tensor = tensor.to(DType::f64);
  }
  legacy.tensors.emplace_back("core._input_weights_regularizer_spatial.laplace.filter",
                              Tensor::zeros({1, 1, 3, 3}, DType::f32, cpu_device(1)));
  CHECK(refusal_of(legacy) == "");
}

TEST_CASE("metadata of a model file is checked") {
  const TemporaryFolder folder;
  save_model(folder / "good.safetensors", *make(small()));
  const Safetensors good = read_safetensors(folder / "good.safetensors", cpu_device(1));
  const auto refusal_of = [&](auto change) {
    Safetensors content = good;
    change(content.metadata);
    write_safetensors(folder / "bad.safetensors", content);
    return message_of<FormatError>([&] { load_model(folder / "bad.safetensors", f64()); });
  };
  using Metadata = std::map<std::string, std::string>;
  CHECK(refusal_of([](Metadata&) {}) == "");
  CHECK(contains(refusal_of([](Metadata& m) { m.erase("format"); }), "format"));
  CHECK(contains(refusal_of([](Metadata& m) { m["format"] = "other"; }), "'other'"));
  CHECK(contains(refusal_of([](Metadata& m) { m["version"] = "2"; }), "'2'"));
  CHECK(contains(refusal_of([](Metadata& m) { m.erase("config"); }), "config"));
  CHECK(contains(refusal_of([](Metadata& m) { m["config"] = "{"; }), "JSON"));
  CHECK(contains(refusal_of([](Metadata& m) { m["config"] = "[]"; }), "class"));
  CHECK(contains(refusal_of([](Metadata& m) { m["config"].insert(1, "\"hidden\": 1, "); }), "'hidden'"));
  CHECK_FALSE(refusal_of([](Metadata& m) { m["config"] = std::string(200000, '['); }).empty());
  CHECK_FALSE(refusal_of([](Metadata& m) { m["provenance"] = "{"; }).empty());
  CHECK(refusal_of([](Metadata& m) { m.erase("provenance"); }) == "");
}

// ---- training state

TEST_CASE("freezing covers names that end at a dot, their gradients and statistics") {
  Json section = small();
  section["n_neurons_dict"] = {{"a.b", 2}, {"a.c", 3}};
  const auto model = make(section);
  for (const NamedTensor& one : model->tensors())
    if (one.role == Role::parameter) Tensor(one.tensor).set_requires_grad();
  CHECK_FALSE(model->freeze("cor"));
  CHECK_FALSE(model->freeze("readout.a"));
  CHECK_FALSE(model->freeze("readout.a.d"));
  for (const NamedTensor& one : model->tensors()) CHECK_FALSE(one.frozen);
  CHECK(model->freeze("readout.a.b"));
  for (const NamedTensor& one : model->tensors()) {
    CAPTURE(one.name);
    CHECK(one.frozen == (one.name.rfind("readout.a.b.", 0) == 0));
  }
  CHECK(model->freeze("core.features.layer0"));
  const auto before = all_values(*model);
  const Tensor x = stimulus(2, model->in_shape());
  for (const char* session : {"a.b", "a.c"}) {
    const Tensor y = model->forward({session, x, {}, {}}, {true, nullptr});
    backward(y, Tensor::full(y.shape(), 1.0, y.dtype(), y.device()));
  }
  const auto after = all_values(*model);
  for (const NamedTensor& one : model->tensors()) {
    CAPTURE(one.name);
    CHECK(one.frozen ==
          (one.name.rfind("readout.a.b.", 0) == 0 || one.name.rfind("core.features.layer0.", 0) == 0));
    if (one.role == Role::parameter) CHECK(one.tensor.grad().defined() == !one.frozen);
    if (one.role == Role::statistic) CHECK((after.at(one.name) == before.at(one.name)) == one.frozen);
  }
}

TEST_CASE("a clone has the same values in its own memory") {
  const auto model = make(small(), 5);
  const auto copy = model->clone();
  CHECK(copy->config() == model->config());
  const auto before = all_values(*model);
  CHECK(all_values(*copy) == before);
  for (const NamedTensor& one : copy->tensors()) one.tensor.fill(7);
  CHECK(all_values(*model) == before);
  for (const NamedTensor& one : model->tensors()) one.tensor.fill(3);
  for (const auto& [name, content] : all_values(*copy))
    for (const double value : content) CHECK(value == 7);
}

TEST_CASE("constraints act on the session that runs, and only where they are asked for") {
  Json section = small();
  section["n_neurons_dict"] = {{"one", 2}, {"two", 3}};
  const auto prepared = [&](const Json& changes) {
    auto model = make(with(section, changes));
    for (const NamedTensor& one : model->tensors())
      if (one.role == Role::parameter) one.tensor.copy_from(random_tensor(one.tensor.shape(), 2));
    return model;
  };
  const auto changed = [](const Model& model) {
    const auto before = all_values(model);
    model.apply_constraints("one");
    std::set<std::string> names;
    for (const auto& [name, content] : all_values(model))
      if (content != before.at(name)) names.insert(name);
    const auto once = all_values(model);
    model.apply_constraints("one");
    CHECK(all_values(model) == once);
    return names;
  };
  const auto positive = prepared({});
  const std::vector<double> features = values(tensor_named(*positive, "readout.one.features"));
  CHECK(changed(*positive) == std::set<std::string>{"readout.one.features"});
  const std::vector<double> clamped = values(tensor_named(*positive, "readout.one.features"));
  for (std::size_t i = 0; i < features.size(); ++i) CHECK(clamped[i] == std::max(features[i], 0.0));

  CHECK(changed(*prepared({{"readout_positive", false}})).empty());
  const auto free = prepared({{"readout_positive", false}, {"readout_gaussian_masks", false}});
  const std::vector<double> masks = values(tensor_named(*free, "readout.one.masks"));
  CHECK(changed(*free) == std::set<std::string>{"readout.one.masks"});
  const std::vector<double> made = values(tensor_named(*free, "readout.one.masks"));
  for (std::size_t i = 0; i < masks.size(); ++i) CHECK(made[i] == std::abs(masks[i]));
}

TEST_CASE("tensors that are stored but not learnt") {
  const auto roles = [](const Json& changes) {
    std::map<std::string, Role> result;
    const auto model = make(with(small(), changes));
    for (const NamedTensor& one : model->tensors()) result[one.name] = one.role;
    return result;
  };
  auto table = roles({});
  CHECK(table.at("core.features.layer0.conv._log_speed_default") == Role::constant);
  CHECK(table.at("readout.one.grid") == Role::constant);
  CHECK(table.at("core.features.layer1.norm.running_var") == Role::statistic);
  CHECK(table.at("readout.one.scale_param") == Role::parameter);
  CHECK(table.at("readout.one.bias") == Role::parameter);
  const auto bare = make(with(small(), {{"readout_scale", false}, {"readout_bias", false}}));
  table = roles({{"readout_scale", false}, {"readout_bias", false}});
  CHECK(table.at("readout.one.scale_param") == Role::constant);
  CHECK(table.at("readout.one.bias") == Role::constant);
  CHECK(values(tensor_named(*bare, "readout.one.scale_param")) == std::vector<double>(5, 1.0));
  CHECK(values(tensor_named(*bare, "readout.one.bias")) == std::vector<double>(5, 0.0));
  CHECK(bare->parameter_count() == make(small())->parameter_count() - 10);
  table = roles({{"readout_gaussian_masks", false}});
  CHECK(table.at("readout.one.masks") == Role::parameter);
  CHECK(table.count("readout.one.mask_mean") == 0);
  CHECK(table.count("readout.one.grid") == 0);
}

// ---- dropout

TEST_CASE("dropout drops whole channels of a sample, scales the others; the gradient uses the same mask") {
  // Neuron n reads channel n alone, over all pixels, so that a prediction is softplus(channel sum).
  constexpr std::int64_t channels = 40, batch = 50, times = 3;
  const Json section =
      Json::parse(R"({"class": "CoreReadout", "in_shape": [1, 8, 4, 5], "hidden_channels": [40],
    "temporal_kernel_sizes": [6], "spatial_kernel_sizes": [3], "n_neurons_dict": {"one": 40}, "dropout_rate": 0.3,
    "readout_gaussian_masks": false})");
  const auto model = make(section, 4);
  tensor_named(*model, "readout.one.masks").fill(0.5);
  tensor_named(*model, "readout.one.scale_param").fill(1);
  std::vector<double> identity(channels * channels, 0.0);
  for (std::size_t c = 0; c < channels; ++c) identity[c * channels + c] = 1;
  const Tensor features = tensor_named(*model, "readout.one.features");
  features.copy_from(Tensor::from(identity, features.shape(), features.device()));
  const Tensor x = stimulus(batch, model->in_shape());
  std::vector<Tensor> parameters;
  for (const NamedTensor& one : model->tensors())
    if (one.role == Role::parameter && one.name.rfind("core.", 0) == 0)
      parameters.push_back(Tensor(one.tensor).set_requires_grad());
  Random draws(21);
  const Tensor dropped = model->forward({"one", x, {}, {}}, {true, &draws});
  const Tensor plain = model->forward({"one", x, {}, {}}, {true, nullptr});
  REQUIRE(dropped.shape() == Shape{batch, times, channels});

  const auto before_softplus = [](double y) { return std::log(std::expm1(y)); };
  const auto slope = [](double y) { return -std::expm1(-y); };  // of softplus, where it is y
  const std::vector<double> y = values(dropped), u = values(plain);
  const std::vector<double> upstream = values(random_tensor(dropped.shape(), 13));
  std::vector<double> masked(y.size());  // the upstream gradient that undoes softplus and has the mask
  int zeros = 0;
  bool whole = true;
  for (std::size_t b = 0; b < batch; ++b)
    for (std::size_t c = 0; c < channels; ++c) {
      const auto at = [&](std::size_t t) { return (b * times + t) * channels + c; };
      const bool zero = std::abs(before_softplus(y[at(0)])) < 1e-12;
      zeros += zero;
      const double factor = zero ? 0 : 1 / (1 - 0.3);
      for (std::size_t t = 0; t < times; ++t) {
        const double expected = factor * before_softplus(u[at(t)]);
        whole = whole && std::abs(before_softplus(y[at(t)]) - expected) <= 1e-6 * (std::abs(expected) + 1e-6);
        masked[at(t)] = upstream[at(t)] * factor * slope(y[at(t)]) / slope(u[at(t)]);
      }
    }
  CHECK(whole);
  // 2000 draws: five standard deviations are 5 sqrt(0.3 0.7 / 2000) = 0.051.
  CHECK(std::abs(zeros / 2000.0 - 0.3) < 0.051);

  const auto gradients = [&](const Tensor& output, const std::vector<double>& seed) {
    for (const Tensor& parameter : parameters) parameter.clear_grad();
    backward(output, Tensor::from(seed, output.shape(), output.device()));
    std::vector<Tensor> result;
    for (const Tensor& parameter : parameters) result.push_back(parameter.grad().clone());
    return result;
  };
  const std::vector<Tensor> through = gradients(dropped, upstream), expected = gradients(plain, masked);
  const std::vector<Tensor> without =
      gradients(model->forward({"one", x, {}, {}}, {true, nullptr}), upstream);
  REQUIRE(through.size() == 6);
  for (std::size_t i = 0; i < through.size(); ++i) {
    CHECK(relative_l2(expected[i], through[i], 1e-6));
    CHECK_FALSE(relative_l2(without[i], through[i], 1e-2));
  }
}

TEST_CASE("dropout needs training, draws and a rate; the same draws give the same mask") {
  const auto model = make(with(small(), {{"dropout_rate", 0.5}}), 6);
  const auto none = make(with(small(), {{"dropout_rate", 0.0}}), 6);
  const Tensor x = stimulus(2, model->in_shape());
  const auto output = [&](const Model& m, const Pass& pass) { return m.forward({"one", x, {}, {}}, pass); };
  Random a(1), b(1), c(2), d(1), e(1);
  const Tensor first = output(*model, {true, &a});
  CHECK(exact(first, output(*model, {true, &b})));
  CHECK_FALSE(exact(first, output(*model, {true, &c})));
  CHECK_FALSE(exact(first, output(*model, {true, &b})));  // the next draws
  CHECK(exact(output(*none, {true, nullptr}), output(*model, {true, nullptr})));
  CHECK(exact(output(*none, {true, nullptr}), output(*none, {true, &d})));
  const auto fresh = make(with(small(), {{"dropout_rate", 0.5}}), 6);
  CHECK(exact(output(*fresh, {false, nullptr}), output(*fresh, {false, &e})));
}

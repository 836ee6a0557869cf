// KlindtCoreReadout2D and 3D in use: initial values, constraints, dropout, files, copies, the C++ API, the
// same bits.
#include "image_model_fixture.hpp"

using namespace fovea;
using namespace fovea::test;
using namespace model_test;

namespace {

const std::vector<Json>& both() {
  static const std::vector<Json> sections{klindt2d(), klindt3d()};
  return sections;
}

/// Many values of everything random.
Json large(Json section) {
  section["image_size"] = {12, 11};
  section["num_kernels"] = {40, 30};
  section["num_neurons"] = 60;
  section["init_scales"] = Json::parse("[[0.3, 0.1], [-0.2, 0.05], [1, 0.5]]");
  return section;
}

/// x / sqrt(sum over groups of `size` consecutive values + 1e-5).
std::vector<double> normed_rows(std::vector<double> x, std::size_t size) {
  for (std::size_t i = 0; i < x.size(); i += size) {
    double sum = 1e-5;
    for (std::size_t k = 0; k < size; ++k) sum += x[i + k] * x[i + k];
    for (std::size_t k = 0; k < size; ++k) x[i + k] /= std::sqrt(sum);
  }
  return x;
}

/// The same over columns of a table.
std::vector<double> normed_columns(std::vector<double> x, std::size_t columns) {
  for (std::size_t n = 0; n < columns; ++n) {
    double sum = 1e-5;
    for (std::size_t i = n; i < x.size(); i += columns) sum += x[i] * x[i];
    for (std::size_t i = n; i < x.size(); i += columns) x[i] /= std::sqrt(sum);
  }
  return x;
}

}  // namespace

// ---- initial values

TEST_CASE(
    "Klindt: initial values are normal with init_scales, biases as PyTorch's or zero, statistics fresh") {
  for (const Json& section : both()) {
    const Json many = large(section);
    const auto model = make(with(many, {{"batch_norm", false}, {"final_relu", true}}), 3);
    const auto all = all_values(*model);
    for (const char* layer : {"0", "1"}) {
      CAPTURE(layer);
      const std::string conv = std::string("core.conv_layers.") + layer;
      CHECK(looks_normal(all.at(conv + ".weight"), 0.3, 0.1));
      const Shape shape = tensor_named(*model, conv + ".weight").shape();
      const double fan_in = static_cast<double>(shape.elements() / shape[0]);
      CHECK(looks_uniform(all.at(conv + ".bias"), 1 / std::sqrt(fan_in)));
    }
    CHECK(looks_normal(all.at("readout.mask_weights"), -0.2, 0.05));
    CHECK(looks_normal(all.at("readout.readout_weights"), 1, 0.5));
    CHECK(all.at("readout.bias") == std::vector<double>(60, 0.0));

    const auto normed = make(with(many, {{"bn_cent", true}}), 3);
    const auto statistics = all_values(*normed);
    for (const auto& [name, start] :
         std::map<std::string, double>{{"running_mean", 0}, {"running_var", 1}, {"weight", 1}, {"bias", 0}})
      CHECK(statistics.at("core.bn_layers.1." + name) == std::vector<double>(30, start));
    CHECK(statistics.at("core.bn_layers.0.num_batches_tracked") == std::vector<double>{0});

    // Deviation 0 leaves the mean.
    const auto flat = make(with(section, {{"init_scales", {{0.5, 0}, {-1, 0}, {2, 0}}}}));
    for (const auto& [name, value] : std::map<std::string, double>{{"core.conv_layers.1.weight", 0.5},
                                                                   {"readout.mask_weights", -1},
                                                                   {"readout.readout_weights", 2}})
      for (const double one : values(tensor_named(*flat, name))) CHECK(one == value);
  }
}

TEST_CASE("Klindt: a mean activity does not change the bias, which starts at 0") {
  Json section = with(klindt2d(), {{"final_relu", true}});
  section["sessions"] = Json::parse(R"({"one": {"n_neurons": 5, "mean_activity": [1, 2, 3, 4, 5]}})");
  CHECK(values(tensor_named(*make(section), "readout.bias")) == std::vector<double>(5, 0.0));
}

// ---- constraints

TEST_CASE("Klindt: the norm of the kernels is applied once at construction and divides again at every pass") {
  for (const Json& section : both()) {
    const auto plain = make(section, 3), normed = make(with(section, {{"kernel_constraint", "norm"}}), 3);
    for (const char* layer : {"0", "1"}) {
      const std::string name = std::string("core.conv_layers.") + layer + ".weight";
      const Shape shape = tensor_named(*plain, name).shape();
      const std::size_t taps = static_cast<std::size_t>(shape.elements() / shape[0] / shape[1]);
      const std::vector<double> once = normed_rows(values(tensor_named(*plain, name)), taps);
      CHECK(close(once, values(tensor_named(*normed, name))));
    }
    const auto before = all_values(*normed);
    normed->apply_constraints("session");
    const std::string first = "core.conv_layers.0.weight";
    CHECK(close(normed_rows(before.at(first), 9), values(tensor_named(*normed, first))));
    CHECK_FALSE(before.at(first) == values(tensor_named(*normed, first)));
    // Everything else is as it was.
    for (const auto& [name, content] : all_values(*normed))
      if (name.find("conv_layers") == std::string::npos) CHECK(content == before.at(name));
  }
}

TEST_CASE("Klindt: constraints of the readout are applied in place, not at construction") {
  for (const Json& section : both())
    for (const char* mask : {"", "abs"})
      for (const char* weights : {"", "abs", "norm", "absnorm"}) {
        CAPTURE(mask);
        CAPTURE(weights);
        Json changed = section;
        if (*mask) changed["mask_constraint"] = mask;
        if (*weights) changed["weights_constraint"] = weights;
        const auto model = make(changed, 3);
        const auto before = all_values(*model);
        CHECK(before == all_values(*make(section, 3)));
        model->apply_constraints("session");
        auto expected = before;
        const std::string kind = weights;
        auto& w = expected.at("readout.readout_weights");
        auto& m = expected.at("readout.mask_weights");
        if (*mask) m = magnitudes(m);
        if (contains(kind, "abs")) w = magnitudes(w);
        if (contains(kind, "norm")) w = normed_columns(w, 5);
        for (const auto& [name, content] : all_values(*model)) CHECK(close(expected.at(name), content));
      }
}

TEST_CASE("Klindt: the output and the regularizers are those of the formulas") {
  const auto model = make(with(klindt2d(), Json::parse(R"({"kernel_sizes": [1], "num_kernels": [2],
    "act_fns": ["none"], "batch_norm": false, "image_size": [3, 2], "final_relu": true, "num_neurons": 3})")));
  fill_by_name(*model);
  const auto all = all_values(*model);
  const Tensor x = stimulus(2, model->in_shape());
  const std::vector<double> in = values(x), kernel = all.at("core.conv_layers.0.weight"),
                            conv_bias = all.at("core.conv_layers.0.bias"),
                            mask = all.at("readout.mask_weights"), w = all.at("readout.readout_weights"),
                            bias = all.at("readout.bias");
  std::vector<double> expected;
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t n = 0; n < 3; ++n) {
      double sum = bias[n];
      for (std::size_t p = 0; p < 6; ++p)
        for (std::size_t c = 0; c < 2; ++c) {
          const double* pixel = &in[(b * 6 + p) * 2];
          sum += (kernel[2 * c] * pixel[0] + kernel[2 * c + 1] * pixel[1] + conv_bias[c]) * mask[p * 3 + n] *
                 w[c * 3 + n];
        }
      expected.push_back(std::max(sum, 0.0));
    }
  CHECK(close(expected, values(predict(*model, x, "session"))));
  double squares = 0, masks = 0, weights = 0;
  for (const double one : kernel) squares += one * one;
  for (const double one : mask) masks += std::abs(one) / 3;
  for (const double one : w) weights += std::abs(one) / 3;
  CHECK(model->core_regularizer().item() == doctest::Approx(0.01 * squares).epsilon(1e-13));
  CHECK(model->readout_regularizer("session").item() ==
        doctest::Approx(0.02 * masks + 0.03 * weights).epsilon(1e-13));
}

// ---- dropout of the stimulus

namespace {

/// The core hands its input on and neuron n reads pixel n / C of channel n % C, so that a prediction is the
/// stimulus.
std::unique_ptr<Model> window(bool movies, double rate) {
  Json section =
      Json::parse(R"({"image_size": [2, 3], "image_channels": 4, "kernel_sizes": [1], "num_kernels": [4],
    "act_fns": ["none"], "batch_norm": false, "init_scales": [[0, 0], [0, 0], [0, 0]], "num_neurons": 24})");
  section["class"] = movies ? "KlindtCoreReadout3D" : "KlindtCoreReadout2D";
  section["reg"] = {0, 0, 0, rate};
  auto model = make(section);
  const auto set = [&](const char* name, auto value) {
    const Tensor tensor = tensor_named(*model, name);
    std::vector<double> content(static_cast<std::size_t>(tensor.elements()));
    const std::size_t columns = static_cast<std::size_t>(tensor.shape()[1]);
    for (std::size_t i = 0; i < content.size(); ++i) content[i] = value(i / columns, i % columns) ? 1 : 0;
    tensor.copy_from(Tensor::from(content, tensor.shape(), tensor.device()));
  };
  tensor_named(*model, "core.conv_layers.0.bias").fill(0);
  set("core.conv_layers.0.weight", [](std::size_t o, std::size_t i) { return o == i; });
  set("readout.mask_weights", [](std::size_t p, std::size_t n) { return p == n / 4; });
  set("readout.readout_weights", [](std::size_t c, std::size_t n) { return c == n % 4; });
  return model;
}

}  // namespace

TEST_CASE(
    "Klindt: dropout takes single values of images and whole channels of movies, scaled by 1 / (1 - p)") {
  for (const bool movies : {false, true}) {
    CAPTURE(movies);
    constexpr std::int64_t batch = 100, frames = 3;
    const auto model = window(movies, 0.3);
    const Shape shape = movies ? Shape{batch, frames, 2, 3, 4} : Shape{batch, 2, 3, 4};
    Tensor x = Tensor::full(shape, 2, DType::f64, f64().device);
    x.set_requires_grad();
    Random random(5), again(5), other(6);
    const Tensor y = model->forward({"session", x, {}, {}}, {true, &random});
    const std::vector<double> dropped = values(y);
    std::map<double, int> levels;
    for (const double one : dropped) ++levels[one];
    REQUIRE(levels.size() == 2);
    CHECK(levels.count(0.0) == 1);
    CHECK(levels.rbegin()->first == doctest::Approx(2 / 0.7).epsilon(1e-6));
    // Entry (b, t, p, c): whole channels agree over t and p.
    const std::size_t per_sample = static_cast<std::size_t>(y.elements() / batch);
    int differing = 0;
    for (std::size_t i = 0; i < dropped.size(); ++i)
      differing += dropped[i] != dropped[i / per_sample * per_sample + i % 4];
    CHECK((differing == 0) == movies);
    const double draws = movies ? batch * 4 : batch * 24;
    const double rate = static_cast<double>(levels.at(0.0)) / static_cast<double>(dropped.size());
    CHECK(std::abs(rate - 0.3) < 5 * std::sqrt(0.21 / draws));
    // The gradient has the same mask: y = mask x.
    backward(y, Tensor::full(y.shape(), 1, DType::f64, y.device()));
    CHECK(close(values(x.grad()), [&] {
      std::vector<double> slopes = dropped;
      for (double& one : slopes) one /= 2;
      return slopes;
    }()));
    // The same draws, the same mask; others, another; none, no dropout; none in evaluation.
    const auto output = [&](const Pass& pass) {
      return values(model->forward({"session", x.detach(), {}, {}}, pass));
    };
    CHECK(output({true, &again}) == dropped);
    CHECK(output({true, &again}) != dropped);
    CHECK(output({true, &other}) != dropped);
    CHECK(output({true, nullptr}) == std::vector<double>(dropped.size(), 2.0));
    CHECK(output({false, &other}) == std::vector<double>(dropped.size(), 2.0));
    Random unused(1);
    CHECK(values(window(movies, 0)->forward({"session", x.detach(), {}, {}}, {true, &unused})) ==
          std::vector<double>(dropped.size(), 2.0));
  }
}

// ---- statistics

TEST_CASE("Klindt: a training pass updates the statistics with momentum 0.002 and the unbiased variance") {
  const auto model =
      make(with(klindt2d(), Json::parse(R"({"kernel_sizes": [1], "num_kernels": [1], "act_fns": ["none"],
    "image_channels": 1, "image_size": [1, 2], "init_scales": [[2, 0], [0, 1], [0, 1]]})")));
  const Tensor x =
      Tensor::from(std::vector<double>{1, 3, 5, 7}, {2, 1, 2, 1}, f64().device);  // conv: 2 6 10 14
  model->forward({"session", x, {}, {}}, {true, nullptr});
  const auto statistic = [&](const char* name) {
    return values(tensor_named(*model, std::string("core.bn_layers.0.") + name))[0];
  };
  CHECK(statistic("running_mean") == doctest::Approx(0.002 * 8).epsilon(1e-14));
  CHECK(statistic("running_var") == doctest::Approx(0.998 + 0.002 * (80.0 / 3)).epsilon(1e-14));
  CHECK(statistic("num_batches_tracked") == 1);
  predict(*model, x, "session");
  CHECK(statistic("num_batches_tracked") == 1);
}

// ---- files, copies, the C++ API

TEST_CASE("Klindt: a model file gives the same bits back, a clone has its own memory") {
  const TemporaryFolder folder;
  const Placement placement{cpu_device(1), DType::f32};
  for (const Json& section : both()) {
    const Json changed = with(section, Json::parse(R"({"bn_cent": true, "final_relu": true, "seed": 4,
      "act_fns": ["parametric_relu:neg=0.1", "parametric_softplus:min=0.5"], "reg": [0.01, 0.02, 0.03, 0.25],
      "n_neurons_dict": {"2020.06-26 left": 5}, "kernel_constraint": "norm"})"));
    const auto model = make_model(changed.dump(), placement, 11);
    const std::string session = "2020.06-26 left";
    const ModelInput input = input_of(*model, session);
    Random random(3);
    model->forward(input, {true, &random});
    save_model(folder / "a.safetensors", *model, R"({"fovea": "0"})");
    const LoadedModel loaded = load_model(folder / "a.safetensors", placement);
    CHECK(loaded.model->config() == model->config());
    CHECK(all_values(*loaded.model) == all_values(*model));
    CHECK(tensor_table(*loaded.model) == tensor_table(*model));
    CHECK(exact(evaluate(*model, input), evaluate(*loaded.model, input)));
    save_model(folder / "b.safetensors", *loaded.model, loaded.provenance);
    CHECK(read_bytes(folder / "a.safetensors") == read_bytes(folder / "b.safetensors"));
    CHECK_FALSE(read_bytes(folder / "a.safetensors").empty());
    // Double precision keeps the values.
    CHECK(all_values(*load_model(folder / "a.safetensors", f64()).model) == all_values(*model));

    const auto copy = model->clone();
    const auto before = all_values(*model);
    CHECK(copy->config() == model->config());
    CHECK(all_values(*copy) == before);
    for (const NamedTensor& one : copy->tensors()) one.tensor.fill(7);
    CHECK(all_values(*model) == before);
  }
}

TEST_CASE("Klindt: tensors that do not fit are listed all in one error") {
  const TemporaryFolder folder;
  save_model(folder / "good.safetensors", *make(klindt2d()));
  Safetensors bad = read_safetensors(folder / "good.safetensors", cpu_device(1));
  for (auto& [name, tensor] : bad.tensors) {
    if (name == "core.bn_layers.1.running_var") name = "core.bn_layers.2.running_var";
    if (name == "readout.mask_weights") tensor = tensor.reshape({5, 24});
  }
  write_safetensors(folder / "bad.safetensors", bad);
  const std::string message = message_of<FormatError>([&] { load_model(folder / "bad.safetensors", f64()); });
  for (const char* part : {"missing: core.bn_layers.1.running_var", "extra: core.bn_layers.2.running_var",
                           "misshapen: readout.mask_weights", "(5, 24)", "(24, 5)"})
    CHECK_MESSAGE(contains(message, part), message);
}

TEST_CASE("Klindt: the C++ API is make_model with the same section") {
  KlindtCoreReadoutOptions options;
  options.image_size = std::array<std::int64_t, 2>{9, 8};
  options.image_channels = 2;
  options.kernel_sizes = {std::int64_t{3}, std::array<std::int64_t, 2>{2, 3}};
  options.num_kernels = {3, 4};
  options.act_fns = {"elu", "softplus"};
  options.reg = {0.01, 0.02, 0.03, 0};
  options.init_scales = {{{0, 0.1}, {0.1, 0.05}, {0.2, 0.05}}};
  options.num_neurons = 5;
  const auto same = [](const Model& a, const Json& section) {
    const auto b = make(section, 6);
    CHECK(a.config() == b->config());
    CHECK(all_values(a) == all_values(*b));
  };
  same(*make_klindt_core_readout_2d(options, f64(), 6), klindt2d());
  options.kernel_sizes = {std::int64_t{3}, std::array<std::int64_t, 3>{3, 2, 3}};
  CHECK(contains(message_of<ConfigError>([&] { make_klindt_core_readout_2d(options, f64()); }),
                 "kernel_sizes[1]"));
  same(*make_klindt_core_readout_3d(options, f64(), 6), klindt3d());
  options.image_size = std::int64_t{9};
  options.kernel_constraint = "norm";
  options.batch_norm = false;
  options.bn_cent = true;
  options.seed = 2;
  options.final_relu = true;
  options.weights_constraint = "absnorm";
  options.mask_constraint = "abs";
  options.learning_rate = 0.5;
  same(
      *make_klindt_core_readout_3d(options, f64(), 6),
      with(klindt3d(),
           Json::parse(R"({"image_size": 9, "kernel_constraint": "norm", "batch_norm": false, "bn_cent": true,
         "seed": 2, "final_relu": true, "weights_constraint": "absnorm", "mask_constraint": "abs", "learning_rate": 0.5})")));
  options.reg[1] = NAN;
  CHECK(contains(message_of<ConfigError>([&] { make_klindt_core_readout_3d(options, f64()); }), "reg[1]"));
  options.reg[1] = 0;
  options.init_scales[2][1] = INFINITY;
  CHECK(contains(message_of<ConfigError>([&] { make_klindt_core_readout_3d(options, f64()); }),
                 "init_scales[2]"));
}

TEST_CASE("Klindt: initial masks as they are or cropped from images, initial weights") {
  for (const Json& section : both()) {
    const auto model = make(section, 3);
    const auto before = all_values(*model);
    const std::string config = model->config();
    const Tensor masks = random_tensor({24, 5}, 1), weights = random_tensor({4, 5}, 2);
    set_init_mask(*model, masks);
    set_init_weights(*model, weights.to(DType::f32));
    CHECK(exact(masks, tensor_named(*model, "readout.mask_weights")));
    CHECK(exact(weights.to(DType::f32).to(DType::f64), tensor_named(*model, "readout.readout_weights")));
    CHECK(model->config() == config);
    for (const auto& [name, content] : all_values(*model))
      if (name.rfind("readout.", 0) != 0) CHECK(content == before.at(name));

    // The map is 6 x 4: even and odd differences, offsets rounded down.
    for (const auto& size : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {6, 4}, {8, 6}, {9, 7}, {9, 6}, {7, 5}, {20, 4}}) {
      const std::int64_t height = size.first, width = size.second;
      CAPTURE(height);
      CAPTURE(width);
      const Tensor images = random_tensor({5, 1, height, width}, 3);
      const std::vector<double> pixels = values(images);
      set_init_mask(*model, images);
      std::vector<double> expected;
      const std::int64_t top = (height - 6) / 2, left = (width - 4) / 2;
      for (std::int64_t p = 0; p < 24; ++p)
        for (std::int64_t n = 0; n < 5; ++n)
          expected.push_back(
              pixels[static_cast<std::size_t>((n * height + top + p / 4) * width + left + p % 4)]);
      CHECK(values(tensor_named(*model, "readout.mask_weights")) == expected);
    }
    for (const Shape& wrong : {Shape{5, 24}, Shape{24, 4}, Shape{25, 5}, Shape{5, 1, 5, 4}, Shape{5, 1, 6, 3},
                               Shape{4, 1, 6, 4}, Shape{5, 2, 6, 4}, Shape{5, 6, 4}, Shape{120}})
      CHECK(contains(message_of<ShapeError>([&] { set_init_mask(*model, random_tensor(wrong, 1)); }),
                     to_string(wrong)));
    for (const Shape& wrong : {Shape{5, 4}, Shape{4, 6}, Shape{20}, Shape{1, 4, 1, 5}})
      CHECK(contains(message_of<ShapeError>([&] { set_init_weights(*model, random_tensor(wrong, 1)); }),
                     to_string(wrong)));
  }
  const auto other = make(small());
  CHECK(contains(message_of<ConfigError>([&] {
                   set_init_mask(*other, random_tensor({24, 5}, 1));
                 }),
                 "init_mask"));
  CHECK(contains(message_of<ConfigError>([&] {
                   set_init_weights(*other, random_tensor({4, 5}, 1));
                 }),
                 "init_weights"));
}

// The parts that the readouts tutorial uses by themselves: core, MultiReadoutBase, loaders.
#include <sstream>

#include "fovea/multi_readout.hpp"
#include "fovea/ops.hpp"
#include "fovea/stacked2d_core.hpp"
#include "fovea/static_loaders.hpp"
#include "model_fixture.hpp"
#include "sensorium_fixture.hpp"

using namespace sensorium_test;
using model_test::random_tensor;

namespace {

const Placement f64{cpu_device(1), DType::f64};

Stacked2dCoreOptions small_core() {
  return {.input_channels = 2,
          .hidden_channels = 3,
          .input_kern = 5,
          .hidden_kern = 3,
          .layers = 2,
          .pad_input = false};
}

MultiReadoutOptions two_sessions() {
  return {.in_shape_dict = {{"one", {3, 5, 4}}, {"two", {3, 5, 4}}},
          .n_neurons_dict = {{"one", 6}, {"two", 2}}};
}

Tensor tensor_of(const SessionReadout& readout, const std::string& name) {
  for (const NamedTensor& one : readout.tensors())
    if (one.name == name) return one.tensor;
  throw Error("test", "no tensor " + name);
}

template <class Call>
std::string config_error(const Call& call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no ConfigError";
}

}  // namespace

TEST_CASE("get_module_output is the shape that the core gives") {
  Random random = set_random_seed(3);
  const Stacked2dCore core(small_core(), random, f64);
  const Tensor maps = core.forward(random_tensor({2, 9, 12, 2}, 1, f64), {});
  const Shape expected = get_module_output(core, {2, 2, 9, 12});
  CHECK(maps.shape() == Shape{expected[0], expected[2], expected[3], expected[1]});
  CHECK(expected == Shape{2, 6, 5, 8});  // both layers are stacked
  CHECK_THROWS_AS(get_module_output(core, {2, 1, 9, 12}), ShapeError);
  CHECK_THROWS_AS(get_module_output(core, {2, 2, 4, 12}), ShapeError);
  Stacked2dCoreOptions bad = small_core();
  bad.layers = 0;
  CHECK_THROWS_AS(Stacked2dCore(bad, random, f64), ConfigError);
}

TEST_CASE("a factorized readout of MultiReadoutBase is its weight as a linear map") {
  MultiReadoutOptions options = two_sessions();
  options.base_readout = FullFactorized2dOptions{.init_noise = 0.5};
  options.mean_activity_dict = {{"two", {0.25, -4}}};
  Random random(5);
  const MultiReadoutBase readouts(options, random, f64);
  const Tensor maps = random_tensor({3, 5, 4, 3}, 2, f64);
  for (const auto& [key, neurons] : options.n_neurons_dict) {
    const SessionReadout readout = readouts[key];
    const Tensor weight = readout.weight(), y = readouts.forward(maps, key);
    CHECK(weight.shape() == Shape{neurons, 3, 5, 4});
    CHECK(weight.shape() == readout.weight_shape());
    CHECK(readout.weight_bytes() == static_cast<std::size_t>(neurons) * 60 * 8);
    const std::vector<double> w = weight.to_vector<double>(), x = to_channels_first(maps).to_vector<double>(),
                              bias = tensor_of(readout, "bias").to_vector<double>(),
                              got = y.to_vector<double>();
    REQUIRE(got.size() == static_cast<std::size_t>(3 * neurons));
    for (std::size_t i = 0; i < got.size(); ++i) {
      const std::size_t n = i % static_cast<std::size_t>(neurons), b = i / static_cast<std::size_t>(neurons);
      double sum = bias[n], size = std::abs(bias[n]);
      for (std::size_t k = 0; k < 60; ++k) {
        sum += w[n * 60 + k] * x[b * 60 + k];
        size += std::abs(w[n * 60 + k] * x[b * 60 + k]);
      }
      CHECK(std::abs(sum - got[i]) <= 64 * std::numeric_limits<double>::epsilon() * size);
    }
  }
  CHECK(tensor_of(readouts["two"], "bias").to_vector<double>() == std::vector<double>{0.25, -4});
  CHECK(tensor_of(readouts["one"], "bias").to_vector<double>() == std::vector<double>(6, 0.0));
  CHECK(exact(readouts["one"].weight().rows(2, 4), readouts["one"].weight(2, 2)));
  CHECK_THROWS_AS(readouts["one"].weight(5, 2), ShapeError);
  CHECK_THROWS_AS(readouts["one"].positions(), ConfigError);
  CHECK(readouts.parameter_count() == readouts["one"].parameter_count() + readouts["two"].parameter_count());
  CHECK(readouts.regularizer("one").item() > 0);
  std::ostringstream printed;
  printed << readouts;
  CHECK(printed.str() ==
        "MultiReadoutBase(\n  (one): FullFactorized2d (3 x 5 x 4 -> 6) with bias, normalized\n"
        "  (two): FullFactorized2d (3 x 5 x 4 -> 2) with bias, normalized\n)");
  // Mistakes say what is known.
  CHECK(mentions(config_error([&] { readouts.forward(maps); }), "one, two"));
  CHECK(
      mentions(config_error([&] { readouts.forward(maps, "x"); }), "unknown data_key 'x'. Known: one, two"));
  CHECK(mentions(config_error([&] { (void)readouts["x"]; }), "one, two"));
  CHECK(mentions(config_error([&] {
                   readouts.forward(maps, "one", {}, random_tensor({3, 2}, 4, f64));
                 }),
                 "shift"));
  CHECK_THROWS_AS(readouts.forward(random_tensor({3, 4, 4, 3}, 2, f64), "one"), ShapeError);
}

TEST_CASE(
    "a Gaussian readout of MultiReadoutBase looks at its positions, a shift moves them, a clone follows") {
  MultiReadoutOptions options = two_sessions();
  options.base_readout = FullGaussian2dOptions{.init_mu_range = 1.0};
  Random random(6);
  const MultiReadoutBase readouts(options, random, f64);
  const SessionReadout one = readouts["one"];
  CHECK(one.positions().shape() == Shape{1, 6, 1, 2});
  CHECK_THROWS_AS(one.weight(), ConfigError);
  CHECK(readouts.regularizer("one").item() == doctest::Approx(6));  // every feature is 1/3
  // On maps that are their own column, from -1 to 1, a readout gives x, and a shift adds to it.
  Tensor maps({1, 5, 4, 3}, DType::f64, f64.device);
  for (std::int64_t i = 0; i < maps.elements(); ++i)
    maps.data<double>()[i] = static_cast<double>(i / 3 % 4) / 1.5 - 1;
  tensor_of(one, "_mu").copy_from(scale(tensor_of(one, "_mu"), 0.5));
  const std::vector<double> places = one.positions().to_vector<double>(),
                            y = readouts.forward(maps, "one").to_vector<double>();
  const Tensor shift = Tensor::from(std::vector<double>{0.125, -0.0625}, {1, 2}, f64.device);
  const std::vector<double> moved = readouts.forward(maps, "one", {}, shift).to_vector<double>();
  REQUIRE(y.size() == 6);
  for (std::size_t n = 0; n < 6; ++n) {
    CHECK(std::abs(y[n] - places[2 * n]) < 1e-14);
    CHECK(std::abs(moved[n] - y[n] - 0.125) < 1e-14);
  }

  options.clone_readout = true;
  options.n_neurons_dict = {{"one", 6}, {"two", 6}};
  const MultiReadoutBase clones(options, random, f64);
  CHECK(clones["two"].parameter_count() == 12);
  CHECK(exact(clones.forward(maps, "one"), clones.forward(maps, "two")));
  CHECK_FALSE(clones.regularizer("two").defined());
}

TEST_CASE("options of MultiReadoutBase that do not go together are refused") {
  Random random(1);
  const auto refused = [&](auto change) {
    MultiReadoutOptions options = two_sessions();
    change(options);
    return config_error([&] { MultiReadoutBase(options, random, f64); });
  };
  using O = MultiReadoutOptions;
  CHECK(mentions(refused([](O& o) { o.n_neurons_dict = {{"one", 6}}; }), "same keys"));
  CHECK(mentions(refused([](O& o) {
                   o.n_neurons_dict = {{"one", 6}, {"two", 0}};
                 }),
                 "n_neurons_dict[two] must be at least 1: 0"));
  CHECK(mentions(refused([](O& o) {
                   o.in_shape_dict = {{"one", {3, 5, 4}}, {"two", {3, 5, 5}}};
                 }),
                 "in two"));
  CHECK(mentions(refused([](O& o) { o.mean_activity_dict = {{"one", {1, 2}}}; }), "must have 6 values: 2"));
  CHECK(mentions(refused([](O& o) { o.mean_activity_dict = {{"three", {1}}}; }), "'three'"));
  CHECK(mentions(refused([](O& o) { o.clone_readout = true; }), "equal numbers of neurons"));
  CHECK(
      mentions(refused([](O& o) { o.base_readout = FullGaussian2dOptions{.init_sigma = 0}; }), "init_sigma"));
}

TEST_CASE("loaders of the golden sessions give the trials of their tiers, the last batch shorter") {
  StaticDataOptions data{.paths = {golden_zip(golden_keys[0]), golden_zip(golden_keys[1])}, .batch_size = 5};
  const StaticLoaders loaders = static_loaders(data);
  CHECK(loaders.train.keys() == std::vector<std::string>{golden_keys[0], golden_keys[1]});
  CHECK(loaders.final_test[golden_keys[0]].size() == 0);
  const auto dims = get_dims_for_loader_dict(loaders.final_test);
  CHECK(dims.keys() == std::vector<std::string>{golden_keys[1]});
  const StaticLoader& train = loaders.train[golden_keys[0]];
  CHECK(train.fields() == std::vector<std::string>{"images", "responses", "pupil_center"});
  REQUIRE(train.trials() == 12);
  REQUIRE(train.size() == 3);
  for (std::int64_t i = 0; i < train.size(); ++i) {
    const StaticBatch batch = train.batch(i, f64);
    CHECK(batch.images.shape() == Shape{i < 2 ? 5 : 2, 9, 14, 1});
    CHECK_FALSE(batch.behavior.defined());
    StaticTrial trial;
    for (std::int64_t row = 0; row < batch.images.shape()[0]; ++row) {
      train.session().read(train.session().trials(Tier::train)[static_cast<std::size_t>(5 * i + row)], trial);
      CHECK(batch.images.rows(row, row + 1).to_vector<double>() == trial.image);
      CHECK(batch.responses.rows(row, row + 1).to_vector<double>() == trial.responses);
      CHECK(batch.pupil_center.rows(row, row + 1).to_vector<double>() == trial.pupil_center);
    }
  }
  CHECK(train.dims()["images"] == Shape{5, 1, 9, 14});
  CHECK_THROWS_AS(train.batch(3), ShapeError);
  CHECK_THROWS_AS((void)loaders.train["nobody"], ConfigError);
}

// The weight of a factorized readout as one linear map (neuralpredictors, FullFactorized2d.weight).
#include "fovea/firing_rate_encoder.hpp"
#include "model_fixture.hpp"

using namespace model_test;

namespace {

FiringRateEncoderOptions small_encoder(const FullFactorized2dOptions& readout) {
  FiringRateEncoderOptions options;
  options.in_shape = {1, 6, 5};
  options.core.input_channels = 1;
  options.core.hidden_channels = 3;
  options.core.input_kern = 3;
  options.core.hidden_kern = 3;
  options.core.layers = 1;
  options.readout = readout;
  return options;
}

Tensor find(const Model& model, const std::string& name) {
  for (const NamedTensor& one : model.tensors())
    if (one.name == name) return one.tensor;
  throw Error("test", "no tensor " + name);
}

}  // namespace

TEST_CASE("the weight of a factorized readout is its normalised masks times its features") {
  FullFactorized2dOptions readout;
  readout.bias = false;
  readout.init_noise = 0.5;
  const auto model = make_firing_rate_encoder(small_encoder(readout), {{"a", 4, {}, {}}}, f64(), 3);
  CHECK(factorized_weight_shape(*model, "a") == Shape{4, 3, 6, 5});
  const Tensor weight = factorized_weight(*model, "a");
  REQUIRE(weight.shape() == Shape{4, 3, 6, 5});
  const Tensor spatial = find(*model, "readout.a.spatial"), features = find(*model, "readout.a._features");
  for (std::int64_t n = 0; n < 4; ++n) {
    double norm = 0;
    for (std::int64_t p = 0; p < 30; ++p) norm = std::hypot(norm, spatial.data<double>()[n * 30 + p]);
    for (std::int64_t c = 0; c < 3; ++c)
      for (std::int64_t p = 0; p < 30; ++p) {
        const double expected =
            features.data<double>()[n * 3 + c] * spatial.data<double>()[n * 30 + p] / (norm + 1e-6);
        CHECK(std::abs(weight.data<double>()[(n * 3 + c) * 30 + p] - expected) <= 1e-14);
      }
  }
  const Tensor some = factorized_weight(*model, "a", 1, 2);
  CHECK(exact(weight.rows(1, 3), some));
}

TEST_CASE("positive_weights clamps the features where the weight is read, not before") {
  FullFactorized2dOptions readout;
  readout.bias = false;
  readout.init_noise = 0.5;
  readout.positive_weights = true;
  const auto model = make_firing_rate_encoder(small_encoder(readout), {{"a", 4, {}, {}}}, f64(), 3);
  const Tensor features = find(*model, "readout.a._features");
  const auto least = [&] {
    const std::vector<double> values = features.to_vector<double>();
    return *std::min_element(values.begin(), values.end());
  };
  model->apply_constraints("a");
  predict(*model, random_tensor({2, 6, 5, 1}, 1), "a");
  CHECK(least() < 0);
  factorized_weight(*model, "a");
  CHECK(least() == 0);
}

TEST_CASE("a weight that does not fit in memory is an error with its size; so is one that does not exist") {
  FiringRateEncoderOptions options = small_encoder({});
  options.in_shape = {1, 1000, 1000};
  options.core.hidden_channels = 65536;
  const auto large = make_firing_rate_encoder(options, {{"a", 4, {}, {}}}, {cpu_device(1), DType::f32}, 3);
  CHECK(contains(message_of<DeviceError>([&] { factorized_weight(*large, "a"); }),
                 "weight (4, 65536, 1000, 1000) takes 1048576000000 bytes"));
  CHECK(contains(message_of<ShapeError>([&] { factorized_weight(*large, "a", 3, 2); }), "3 to 5 of 4"));

  options = small_encoder({});
  options.readout = FullGaussian2dOptions{};
  const auto gaussian = make_firing_rate_encoder(options, {{"a", 2, {}, {}}}, f64());
  CHECK(contains(message_of<ConfigError>([&] { factorized_weight(*gaussian, "a"); }), "FullGaussian2d"));
  CHECK(contains(message_of<ConfigError>([&] { factorized_weight(*make(small()), "one"); }), "CoreReadout"));
  options = small_encoder({});
  options.clone_readout = true;
  const auto clones = make_firing_rate_encoder(options, {{"a", 2, {}, {}}, {"b", 2, {}, {}}}, f64());
  CHECK_NOTHROW(factorized_weight(*clones, "a"));
  CHECK(contains(message_of<ConfigError>([&] { factorized_weight(*clones, "b"); }), "cloned"));
}

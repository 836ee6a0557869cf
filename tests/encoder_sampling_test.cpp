// Sampling of positions and cloned readouts of FiringRateEncoder.
#include "image_model_fixture.hpp"

using namespace fovea;
using namespace fovea::test;
using namespace model_test;

// ---- sampling

namespace {

/// A core that hands its two channels on and a readout of which neuron 2 n + i shows coordinate i of its
/// position: the channels are ramps along the width and the height from -1 to 1, so positions are outputs.
std::unique_ptr<Model> position_window(const Json& readout, std::int64_t neurons) {
  Json section = with_readout(readout);
  section["n_neurons_dict"] = {{"one", neurons}};
  section["in_shape"] = {2, 9, 17};
  section["core"] =
      Json::parse(R"({"class": "Stacked2dCore", "input_channels": 2, "hidden_channels": 2, "input_kern": 1,
    "hidden_kern": 1, "layers": 1, "batch_norm": false, "linear": true})");
  section["elu_offset"] = 2;  // elu is the identity
  auto model = make(section);
  const Tensor kernel = tensor_named(*model, "core.features.layer0.conv.weight");
  kernel.copy_from(Tensor::from(std::vector<double>{1, 0, 0, 1}, kernel.shape(), kernel.device()));
  const Tensor features = tensor_named(*model, "readout.one._features");
  std::vector<double> picks;
  for (std::int64_t c = 0; c < 2; ++c)
    for (std::int64_t n = 0; n < neurons; ++n) picks.push_back(n % 2 == c);
  features.copy_from(Tensor::from(picks, features.shape(), features.device()));
  return model;
}

Tensor ramps(std::int64_t batch) {
  std::vector<double> pixels;
  for (std::int64_t b = 0; b < batch; ++b)
    for (int h = 0; h < 9; ++h)
      for (int w = 0; w < 17; ++w) pixels.insert(pixels.end(), {-1 + w / 8.0, -1 + h / 4.0});
  return Tensor::from(pixels, {batch, 9, 17, 2}, f64().device);
}

/// elu(x + 2) + 1 = x + 3.
std::vector<double> positions(const Tensor& output) {
  std::vector<double> result = values(output);
  for (double& one : result) one -= 3;
  return result;
}

}  // namespace

TEST_CASE(
    "encoder: training draws positions with mean mu and covariance sigma sigma^T, every image its own") {
  constexpr std::int64_t batch = 4000;
  const std::vector<double> mu{0.1, -0.2, 0.1, -0.2};
  struct Case {
    const char* type;
    std::vector<double> sigma;         // of both neurons
    double along, across, covariance;  // expected: variances and covariance
  };
  const std::vector<Case> cases{
      {"full", {0.1, 0.05, -0.08, 0.12, 0.1, 0.05, -0.08, 0.12}, 0.0125, 0.0208, -0.002},
      {"uncorrelated", {0.1, 0.15, 0.1, 0.15}, 0.01, 0.0225, 0},
      {"isotropic", {0.12, 0.12}, 0.0144, 0.0144, 0},
  };
  for (const Case& one : cases) {
    const std::string type = one.type;
    CAPTURE(type);
    const auto model = position_window({{"gauss_type", one.type}, {"bias", false}}, 2);
    const auto set = [&](const char* name, const std::vector<double>& content) {
      const Tensor tensor = tensor_named(*model, name);
      tensor.copy_from(Tensor::from(content, tensor.shape(), tensor.device()));
    };
    set("readout.one._mu", mu);
    set("readout.one.sigma", one.sigma);
    const Tensor x = ramps(batch);
    const auto run = [&](const Pass& pass, const Tensor& noise = {}) {
      return positions(model->forward({"one", x, {}, noise}, pass));
    };
    // Evaluation, and training without draws: the mean.
    Random unused(1);
    for (const Pass& pass : {Pass{false, nullptr}, Pass{false, &unused}, Pass{true, nullptr}}) {
      const std::vector<double> still = run(pass);
      CHECK(std::abs(column(still, 2, 0)[7] - 0.1) < 1e-14);
      CHECK(std::abs(column(still, 2, 1)[7] + 0.2) < 1e-14);
      CHECK(moments(column(still, 2, 0)).deviation < 1e-14);
    }
    // Neuron 0 shows its position along the width, neuron 1 along the height; they draw apart.
    Random random(2), again(2), other(3);
    const std::vector<double> drawn = run({true, &random});
    const double root = std::sqrt(static_cast<double>(batch));
    const Moments along = moments(column(drawn, 2, 0)), across = moments(column(drawn, 2, 1));
    CHECK(std::abs(along.mean - 0.1) < 5 * std::sqrt(one.along) / root);
    CHECK(std::abs(across.mean + 0.2) < 5 * std::sqrt(one.across) / root);
    CHECK(std::abs(along.deviation * along.deviation - one.along) < 5 * one.along * std::sqrt(2.0) / root);
    CHECK(std::abs(across.deviation * across.deviation - one.across) <
          5 * one.across * std::sqrt(2.0) / root);
    CHECK(run({true, &again}) == drawn);
    CHECK(run({true, &again}) != drawn);
    CHECK(run({true, &other}) != drawn);
    // With given noise the same for both neurons the covariance shows.
    CHECK(model->noise_shape(batch, "one") == Shape{batch, 2, 2});
    const Tensor noise({batch, 2, 2}, DType::f64, f64().device);
    const std::vector<double> eps = values(random_tensor({batch, 2}, 9));
    std::vector<double> shared;
    for (std::size_t b = 0; b < static_cast<std::size_t>(batch); ++b)
      for (int n = 0; n < 2; ++n) shared.insert(shared.end(), {eps[2 * b], eps[2 * b + 1]});
    noise.copy_from(Tensor::from(shared, noise.shape(), noise.device()));
    const std::vector<double> given = run({true, nullptr}, noise);
    double covariance = 0;
    for (std::size_t b = 0; b < given.size(); b += 2)
      covariance += (given[b] - 0.1) * (given[b + 1] + 0.2) / static_cast<double>(batch);
    CHECK(std::abs(covariance - one.covariance) < 5 * std::sqrt(one.along * one.across) / root);
  }
}

TEST_CASE("encoder: without batch_sample the batch shares one draw, positions are clamped, a shift is not") {
  const auto model =
      position_window({{"batch_sample", false}, {"bias", false}, {"gauss_type", "isotropic"}}, 2);
  CHECK(model->noise_shape(50, "one") == Shape{1, 2, 2});
  Random random(2);
  const std::vector<double> drawn = positions(model->forward({"one", ramps(50), {}, {}}, {true, &random}));
  CHECK(moments(column(drawn, 2, 0)).deviation < 1e-12);
  CHECK(moments(column(drawn, 2, 1)).deviation < 1e-12);
  const Tensor far = Tensor::from(std::vector<double>{50, 50, -50, -50}, {1, 2, 2}, f64().device);
  const std::vector<double> clamped = positions(model->forward({"one", ramps(1), {}, far}, {true, nullptr}));
  CHECK(close(clamped, {1, -1}));
  for (const Shape& wrong : {Shape{50, 2, 2}, Shape{1, 3, 2}, Shape{1, 2}})
    CHECK_FALSE(message_of<ShapeError>([&] {
                  model->forward({"one", ramps(3), {}, random_tensor(wrong, 1)}, {true, nullptr});
                }).empty());
}

// ---- clones

TEST_CASE("encoder: a cloned readout is alpha * first(x) + beta, its gradients reach first and core") {
  Json section = with_readout({{"clone_readout", true}});
  section["n_neurons_dict"] = {{"one", 3}, {"two", 3}, {"three", 3}};
  const auto model = make(section);
  const TensorTable table = tensor_table(*model);
  CHECK(under("readout.two.", table) ==
        TensorTable{{"readout.two.alpha", "(3) parameter"}, {"readout.two.beta", "(3) parameter"}});
  CHECK(under("readout.three.", table).size() == 2);
  CHECK(values(tensor_named(*model, "readout.two.alpha")) == std::vector<double>(3, 1.0));
  CHECK(values(tensor_named(*model, "readout.two.beta")) == std::vector<double>(3, 0.0));
  const ModelInput first = input_of(*model, "one");
  ModelInput second = first;
  second.session = "two";
  CHECK(exact(evaluate(*model, first), evaluate(*model, second)));
  const std::vector<double> alpha{2, -1, 0.5}, beta{0.25, 0.5, -1};
  tensor_named(*model, "readout.two.alpha").copy_from(Tensor::from(alpha, {3}, f64().device));
  tensor_named(*model, "readout.two.beta").copy_from(Tensor::from(beta, {3}, f64().device));
  const std::vector<double> x = before_elu(values(evaluate(*model, first)));
  std::vector<double> expected;
  for (std::size_t i = 0; i < x.size(); ++i) expected.push_back(alpha[i % 3] * x[i] + beta[i % 3]);
  CHECK(close(expected, before_elu(values(evaluate(*model, second))), 1e-12));
  CHECK(model->readout_regularizer("one").item() > 0);
  const std::vector<double> none = values_or_none(model->readout_regularizer("two"));
  CHECK((none.empty() || none == std::vector<double>{0}));

  require_gradients(*model);
  const auto gradients = gradients_of(*model, model->forward(second, {true, nullptr}));
  for (const char* name : {"readout.two.alpha", "readout.two.beta", "readout.one._mu",
                           "readout.one._features", "readout.one.bias", "core.features.layer0.conv.weight"}) {
    CAPTURE(name);
    REQUIRE(gradients.count(name) == 1);
    CHECK(moments(magnitudes(gradients.at(name))).most > 0);
  }
  CHECK(gradients.count("readout.three.alpha") == 0);
  CHECK(contains(model->describe(model->in_shape()).tree, "FullGaussian2d"));
  // The same for factorized readouts, whose first constraints act when a clone runs.
  Json positive_section = factorized({{"clone_readout", true}, {"constrain_pos", true}});
  positive_section["n_neurons_dict"] = {{"one", 3}, {"two", 3}};
  const auto clamped = make(positive_section);
  fill_by_name(*clamped);
  clamped->apply_constraints("two");
  for (const double one : values(tensor_named(*clamped, "readout.one._features"))) CHECK(one >= 0);
}

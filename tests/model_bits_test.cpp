// One training step of every model class gives the same bits for any number of threads, and on AVX2 and
// AVX-512.
#include "image_model_fixture.hpp"
#include "training/train_step.hpp"

using namespace fovea;
using namespace fovea::test;
using namespace model_test;

namespace {

struct Case {
  const char* name;
  Json section;
};

/// Large enough that kernels divide their work: some chunks of every op, tails in every vector.
std::vector<Case> cases() {
  const Json klindt = Json::parse(R"({"image_size": [33, 29], "image_channels": 3, "kernel_sizes": [7, 3],
    "num_kernels": [13, 18], "act_fns": ["parametric_relu:neg=0.1", "elu"], "reg": [0.01, 0.02, 0.03, 0.2],
    "init_scales": [[0, 0.1], [0.1, 0.05], [0.2, 0.05]], "num_neurons": 37, "bn_cent": true, "final_relu": true,
    "kernel_constraint": "norm", "weights_constraint": "absnorm", "mask_constraint": "abs"})");
  const Json core =
      Json::parse(R"({"class": "Stacked2dCore", "input_channels": 3, "hidden_channels": 13, "input_kern": 7,
    "hidden_kern": 3, "layers": 3, "gamma_input": 0.5, "gamma_hidden": 0.25})");
  const Json base{{"class", "FiringRateEncoder"},
                  {"in_shape", {3, 33, 29}},
                  {"core", core},
                  {"n_neurons_dict", {{"session", 37}}}};
  Json ids = Json::array();
  for (int n = 0; n < 37; ++n) ids.push_back(n * n % 11);
  Json gaussian = base, separable = base, factorized = base, softplus = klindt;
  gaussian["readout"] = {
      {"class", "FullGaussian2d"}, {"bias", true}, {"shared_features", {{"match_ids", ids}}}};
  gaussian["shifter"] = {{"class", "MLPShifter"}, {"shift_layers", 3}, {"hidden_channels_shifter", 5}};
  separable["core"] =
      with(core, Json::parse(R"({"depth_separable": true, "stack": -1, "bias": false, "skip": 2})"));
  separable["readout"] = {
      {"class", "FullGaussian2d"}, {"bias", false}, {"gauss_type", "isotropic"}, {"batch_sample", false}};
  factorized["core"] =
      with(core, Json::parse(R"({"batch_norm_scale": false, "input_regularizer": "LaplaceL1"})"));
  factorized["readout"] = {
      {"class", "FullFactorized2d"}, {"bias", true}, {"init_noise", 0.1}, {"constrain_pos", true}};
  softplus["act_fns"] = {"requ", "parametric_softplus:min=0.1"};
  softplus["batch_norm"] = false;
  return {{"KlindtCoreReadout2D", with(klindt, {{"class", "KlindtCoreReadout2D"}})},
          {"KlindtCoreReadout2D without batch norm", with(softplus, {{"class", "KlindtCoreReadout2D"}})},
          {"KlindtCoreReadout3D",
           with(klindt,
                Json::parse(R"({"class": "KlindtCoreReadout3D", "kernel_sizes": [[3, 5, 5], [2, 3, 3]]})"))},
          {"encoder, Gaussian, shifter", gaussian},
          {"encoder, depth-separable", separable},
          {"encoder, factorized", factorized}};
}

/// Loss, output and every tensor after one step.
std::vector<std::vector<float>> step(const Json& section, const Device& device, std::uint64_t seed = 5) {
  const Placement placement{device, DType::f32};
  const auto model = make_model(section.dump(), placement, seed);
  ModelInput input = input_of(*model, "session", 5);
  Tensor responses = random_tensor({5, 37}, 9, placement);
  if (model->takes_movies()) responses = random_tensor({5, input.stimulus.shape()[1], 37}, 9, placement);
  abs_(responses);
  Random random(3);
  TrainingStep training(*model, {});
  training.run(input, responses, {0.01, &random, true});
  std::vector<std::vector<float>> bits{evaluate(*model, input).to_vector<float>()};
  for (const NamedTensor& one : model->tensors())
    if (one.tensor.dtype() == DType::f32) bits.push_back(one.tensor.to_vector<float>());
  return bits;
}

bool same_bits(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  bool same = a.size() == b.size() && !a.empty();
  for (std::size_t i = 0; same && i < a.size(); ++i)
    same =
        a[i].size() == b[i].size() && std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)) == 0;
  return same;
}

}  // namespace

TEST_CASE(
    "a training step of the new classes gives the same bits for any number of threads and vector length") {
  for (const Case& one : cases()) {
    const std::string name = one.name;
    CAPTURE(name);
    Json section = one.section;
    if (!section.contains("n_neurons_dict")) section["n_neurons_dict"] = {{"session", 37}};
    std::vector<std::vector<float>> vector_bits;  // what AVX2 gave
    int wide = 0;
    for (const Isa isa : available_isas()) {
      if (isa == Isa::reference) continue;
      CAPTURE(to_string(isa));
      const auto first = step(section, cpu_device(1, isa));
      bool finite = true;
      for (const float value : first[0]) finite = finite && std::isfinite(value);
      CHECK(finite);
      for (const int threads : {2, 3, 7}) {
        CAPTURE(threads);
        CHECK(same_bits(first, step(section, cpu_device(threads, isa))));
      }
      wide += isa == Isa::avx2 || isa == Isa::avx512;
      if (isa == Isa::avx512 && !vector_bits.empty()) CHECK(same_bits(vector_bits, first));
      if (isa == Isa::avx2) vector_bits = first;
    }
    if (wide < 2) MESSAGE("1 skipped: this machine or build has " << wide << " of AVX2 and AVX-512");
    CHECK_FALSE(same_bits(step(section, cpu_device(1)), step(section, cpu_device(1), 6)));
  }
}

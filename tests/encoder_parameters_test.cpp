// What every parameter of FiringRateEncoder changes.
#include "image_model_fixture.hpp"

using namespace fovea;
using namespace fovea::test;
using namespace model_test;

TEST_CASE("encoder: every parameter changes something") {
  const std::string
      grid = "[[0, 10], [4, 10], [0, 30], [8, 30], [3, 20]]",
      predictor =
          R"({"readout": {"class": "FullGaussian2d", "bias": true, "grid_mean_predictor": {"hidden_layers": 1},
                       "source_grid": )" +
          grid + R"(}, "n_neurons_dict": {"one": 5}})",
      alone = R"({"n_neurons_dict": {"one": 5}})";
  const std::string
      full = R"({"readout": {"class": "FullFactorized2d", "bias": true}})",
      full_alone =
          R"({"readout": {"class": "FullFactorized2d", "bias": true}, "n_neurons_dict": {"one": 5}})";
  struct PartEffect {
    const char* part;  // "": the model itself
    Effect effect;
  };
  const std::vector<PartEffect> table{
      {"core", {"hidden_channels", "4", "TIEOGCR"}},
      {"core", {"input_kern", "3", "TIEOGC"}},
      {"core", {"hidden_kern", "5", "TIEOGC"}},
      {"core", {"layers", "2", "TIEOGCR"}},
      {"core", {"gamma_hidden", "0.5", "C"}},
      {"core", {"gamma_input", "0.25", "C"}},
      {"core", {"skip", "2", "TIEOGC"}},
      {"core", {"stride", "2", "EOG", R"({"core": {"stack": -1}})"}},
      {"core", {"input_stride", "2", "EOG"}},
      {"core", {"final_nonlinearity", "false", "EOG"}},
      {"core", {"elu_shift", "[0.5, 0]", "EOG"}},
      {"core", {"elu_shift", "[0, 0.5]", "EOG"}},
      {"core", {"bias", "false", "TIEOG"}},
      {"core", {"momentum", "0.5", ""}},  // of the statistics, below
      {"core", {"pad_input", "false", "EOG"}},
      {"core", {"hidden_padding", "2", "EOG", R"({"core": {"stack": -1}})"}},
      {"core", {"batch_norm", "false", "TIEOG"}},
      {"core", {"batch_norm_scale", "false", "TIEOG"}},
      {"core", {"final_batchnorm_scale", "false", "TIEOG"}},
      {"core", {"hidden_dilation", "2", "EOG"}},
      {"core", {"laplace_padding", "1", "C"}},
      {"core", {"laplace_padding", "null", "C"}},
      {"core", {"input_regularizer", R"("LaplaceL2norm")", "C"}},
      {"core", {"input_regularizer", R"("LaplaceL1")", "C"}},
      {"core", {"input_regularizer", R"("GaussianLaplaceL2")", "C", R"({"core": {"laplace_padding": 1}})"}},
      {"core", {"stack", "1", "TIEOGR"}},
      {"core", {"stack", "[1, 0, 2]", "EOG"}},
      {"core", {"use_avg_reg", "false", "C"}},
      {"core", {"depth_separable", "true", "TIEOGC"}},
      {"core", {"gamma_hidden", "0.5", "", R"({"core": {"depth_separable": true}})"}},  // has none to weigh
      {"core", {"linear", "true", "EOG"}},
      {"readout", {"bias", "false", "TIEOG"}},
      {"readout", {"init_mu_range", "0.5", "I"}},
      {"readout", {"init_sigma", "0.5", "I"}},
      {"readout", {"batch_sample", "false", "OG"}},
      {"readout", {"align_corners", "false", "EOG"}},
      {"readout", {"gauss_type", R"("uncorrelated")", "TIOG"}},
      {"readout", {"gauss_type", R"("isotropic")", "TIOG"}},
      {"readout", {"feature_reg_weight", "0.5", "R"}},
      {"readout", {"shared_features", R"({"match_ids": [1, 2, 1, 2, 3]})", "TIEOGR", alone}},
      {"readout", {"shared_grid", R"({"match_ids": [1, 2, 1, 2, 3]})", "TIEOG", alone}},
      {"readout", {"grid_mean_predictor", R"({"hidden_layers": 2})", "TIEOG", predictor}},
      {"readout",
       {"grid_mean_predictor", R"({"hidden_layers": 1, "hidden_features": 3})", "TIEOG", predictor}},
      {"readout", {"grid_mean_predictor", R"({"hidden_layers": 1, "final_tanh": true})", "EOG", predictor}},
      {"readout", {"source_grid", "[[0, 10], [4, 10], [0, 30], [8, 30], [9, 9]]", "IEOG", predictor}},
      {"readout", {"bias", "false", "TIEOG", full}},
      {"readout", {"normalize", "false", "EOGR", full}},
      {"readout", {"init_noise", "0.1", "I", full}},
      {"readout", {"constrain_pos", "true", "EOGR", full}},
      {"readout", {"positive_spatial", "true", "EOG", full}},
      {"readout", {"positive_weights", "true", "", full}},  // only `weight`, which no model reads
      {"readout", {"spatial_and_feature_reg_weight", "0.5", "R", full}},
      {"readout", {"shared_features", R"({"match_ids": [1, 2, 1, 2, 3]})", "TIEOGR", full_alone}},
      {"shifter", {"input_channels", "3", "TIEOG", R"({"shifter": {"class": "MLPShifter"}})"}},
      {"shifter",
       {"hidden_channels_shifter", "3", "TIEOG",
        R"({"shifter": {"class": "MLPShifter", "shift_layers": 2}})"}},
      {"shifter", {"shift_layers", "2", "TIEOG", R"({"shifter": {"class": "MLPShifter"}})"}},
      {"shifter", {"bias", "false", "TIEOG", R"({"shifter": {"class": "MLPShifter"}})"}},
      {"shifter",
       {"gamma_shifter", "0.5", "", R"({"shifter": {"class": "MLPShifter"}})"}},  // as in the reference
      {"", {"shifter", R"({"class": "MLPShifter"})", "TIEOG"}},
      {"", {"elu_offset", "0.5", "EOG"}},
      {"", {"learning_rate", "0.5", "A"}},
      {"", {"loss", R"({"class": "PoissonLoss", "avg": false})", "L"}},
      {"", {"metric", R"({"class": "CorrelationLoss2D", "avg": false})", "M"}},
  };
  for (const PartEffect& one : table) {
    Json base = encoder();
    const Json base_changes = Json::parse(one.effect.base);
    for (const auto& [key, value] : base_changes.items()) {
      if (key == "core")
        base = with_core(value, base);
      else
        base[key] = value;
    }
    const Json change{{one.effect.key, Json::parse(one.effect.value)}};
    const std::string part_name = one.part;
    const Json changed = part_name.empty() ? with(base, change) : with_part(base, part_name, change);
    const std::string key = one.effect.key, shown = one.effect.value;
    CAPTURE(part_name);
    CAPTURE(key);
    CAPTURE(shown);
    CHECK(differences(outcome_of(base), outcome_of(changed)) == one.effect.letters);
  }
}

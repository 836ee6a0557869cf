// The end of tools/demo: how close a trained model came to the simulated retina it was trained on.
//   demo_report MODEL CONFIG.yaml RETINA_FOLDER PICTURE.svg [key=value ..]
// Prints the mean test correlation beside the noise ceiling and the correlation of recovered with true
// receptive fields; exits 1 when either is below what the demo promises.
#include <fmt/core.h>

#include "data/receptive_field_picture.hpp"
#include "fovea/receptive_fields.hpp"
#include "training/run_config.hpp"
#include "training/trainer.hpp"

using namespace fovea;

namespace {

constexpr double least_of_ceiling = 0.7;
constexpr double least_field_correlation = 0.7;

int report(const std::string& model_path, const std::string& config_path, const std::string& retina,
           const std::string& picture, const std::vector<std::string>& overrides) {
  const Device device = cpu_device();
  const LoadedModel loaded = load_model(model_path, {device, DType::f32});
  const RunConfig config = read_run_config(config_path, overrides);
  const DataSet data = load_openretina(config.data, DataParts::tests);
  const Normalization normalization = normalization_of(loaded.provenance).value_or(Normalization{});
  const RetinaGroundTruth truth = read_ground_truth(retina + "/ground_truth.safetensors");

  const ScoreSummary score = summarize(evaluate_tests(*loaded.model, data, normalization));
  double ceiling = 0;
  for (const double one : truth.noise_ceiling)
    ceiling += one / static_cast<double>(truth.noise_ceiling.size());

  const Session& session = data.sessions.at(0);
  const TimeSeries& movie = session.tests.at(0).stimulus;
  const Tensor fields =
      receptive_fields(*loaded.model, session.key, movie.frames(), [&](std::int64_t begin, std::int64_t end) {
        return movie.read(begin, end, DType::f32, device, normalization);
      });
  const ReceptiveFieldComparison comparison = compare_receptive_fields(fields, truth);
  write_receptive_field_picture(picture, fields, truth);

  fmt::print("test correlation          {:.3f}\n", score.mean_correlation);
  fmt::print("noise ceiling             {:.3f}   (the true rate with the same mean over repeats)\n", ceiling);
  fmt::print("share of the ceiling      {:.3f}   (at least {})\n", score.mean_correlation / ceiling,
             least_of_ceiling);
  fmt::print(
      "receptive fields          {:.3f}   (recovered with true, {} cells of the model class, at least {})\n",
      comparison.in_class_mean, comparison.in_class_count, least_field_correlation);
  fmt::print("  outside the class       {:.3f}   ({} cells: rectified subunits, contrast gain control)\n",
             comparison.outside_mean, comparison.outside_count);
  for (std::size_t type = 0; type < truth.cell_types.size(); ++type)
    fmt::print("  {:<22}  {:.3f}\n", truth.cell_types[type], comparison.type_mean[type]);
  fmt::print("picture: {}\n", picture);
  const bool good = score.mean_correlation >= least_of_ceiling * ceiling &&
                    comparison.in_class_mean >= least_field_correlation;
  if (!good) fmt::print("below what the demo promises\n");
  return good ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 5) {
    fmt::print(stderr, "usage: demo_report MODEL CONFIG.yaml RETINA_FOLDER PICTURE.svg [key=value ..]\n");
    return 2;
  }
  try {
    return report(arguments[1], arguments[2], arguments[3], arguments[4], {arguments + 5, arguments + count});
  } catch (const std::exception& error) {
    fmt::print(stderr, "demo_report: {}\n", error.what());
    return 1;
  }
}

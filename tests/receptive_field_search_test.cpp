// Receptive fields found in the responses, and readouts that start there.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "data/simulated_cortex.hpp"
#include "data_files.hpp"
#include "fovea/firing_rate_encoder.hpp"
#include "fovea/receptive_fields.hpp"
#include "fovea/safetensors.hpp"
#include "tests/check.hpp"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

const std::string suffix = "-GrayImageNet-94c6ff995dac583098847cfecd43e7b6";
const std::string key = "21067-10-18";

/// A simulated cortex of images of some size, on disk.
std::string cortex(const TemporaryFolder& folder, std::int64_t height, std::int64_t width) {
  SimulatedCortexOptions options;
  options.neurons = 24;
  options.frames = 500;
  options.test_images = 2;
  options.repeats = 2;
  options.height = height;
  options.width = width;
  options.seed = 3;
  simulate_cortex(options, folder / "cortex");
  return folder / "cortex";
}

/// Images of 36 x 64, made once.
const std::string& common_cortex() {
  static const TemporaryFolder folder;
  static const std::string directory = cortex(folder, 36, 64);
  return directory;
}

StaticDataSet opened(const std::string& directory) {
  StaticDataOptions options;
  options.paths = {directory + "/static" + key + suffix};
  return open_sensorium(options);
}

/// Distances in pixels to where they are in truth, infinite where nothing was found.
std::vector<double> distances(const std::string& directory, const Tensor& found) {
  const std::vector<double> at = found.to_vector<double>();
  for (const auto& [name, tensor] :
       read_safetensors(directory + "/ground_truth.safetensors", cpu_device(1)).tensors) {
    if (name != key + ".position_px") continue;
    const std::vector<double> truth = tensor.to_vector<double>();  // row, column
    REQUIRE(truth.size() == at.size());
    std::vector<double> result;
    for (std::size_t n = 0; n + 1 < at.size(); n += 2) {
      const double distance = std::hypot(at[n] - truth[n + 1], at[n + 1] - truth[n]);
      result.push_back(std::isfinite(distance) ? distance : INFINITY);
    }
    std::sort(result.begin(), result.end());
    return result;
  }
  FAIL("no ground truth");
  return {};
}

FiringRateEncoderOptions encoder_options(std::int64_t height, std::int64_t width) {
  FiringRateEncoderOptions options;
  options.in_shape = {1, height, width};
  options.core.input_channels = 1;
  options.core.hidden_channels = 2;
  options.core.input_kern = 5;
  options.core.hidden_kern = 3;
  options.core.layers = 2;
  options.core.stack = -1;
  options.readout = FullGaussian2dOptions{.bias = true};
  return options;
}

std::vector<double> positions_of(const Model& model) {
  return readout_positions(model, key).to(DType::f64).to_vector<double>();
}

}  // namespace

TEST_CASE(
    "receptive fields are found where the simulation has them, the same bits for any number of threads") {
  const StaticDataSet data = opened(common_cortex());
  const Tensor found = locate_receptive_fields(data.sessions[0], cpu_device(1));
  CHECK(found.shape() == Shape{24, 2});
  CHECK(found.dtype() == DType::f64);
  const std::vector<double> errors = distances(common_cortex(), found);
  CHECK(errors[12] < 1.5);
  CHECK(errors[21] < 4);
  const std::vector<double> a = found.to_vector<double>(),
                            b = locate_receptive_fields(data.sessions[0], cpu_device(3)).to_vector<double>();
  CHECK(std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

TEST_CASE("receptive fields are found nowhere where responses belong to other images") {
  const TemporaryFolder folder;
  const std::string session = "/static" + key + suffix;
  fs::copy(common_cortex() + session, folder / session, fs::copy_options::recursive);
  const StaticDataSet data = opened(folder / "");
  const std::string responses = data.sessions[0].path() + "/data/responses/";
  const std::vector<std::int64_t>& trials = data.sessions[0].trials(Tier::train);
  const auto file = [&](std::size_t i) { return responses + std::to_string(trials[i]) + ".npy"; };
  fs::rename(file(0), responses + "kept");
  for (std::size_t i = 1; i < trials.size(); ++i) fs::rename(file(i), file(i - 1));
  fs::rename(responses + "kept", file(trials.size() - 1));
  const std::vector<double> by_chance =
      distances(common_cortex(), locate_receptive_fields(opened(folder / "").sessions[0], cpu_device(1)));
  CHECK(std::count(by_chance.begin(), by_chance.end(), INFINITY) >= 22);
}

TEST_CASE("large images are averaged down, positions are of their pixels") {
  const TemporaryFolder folder;
  const std::string directory = cortex(folder, 72, 130);  // three pixels are one, and a column remains
  const Tensor found = locate_receptive_fields(opened(directory).sessions[0], cpu_device(1));
  const std::vector<double> errors = distances(directory, found);
  CHECK(errors[12] < 4.5);
  CHECK(errors[20] < 12);
}

TEST_CASE("positions are set by pixels of the image, whatever the core does to its size") {
  SessionOptions session;
  session.key = key;
  session.n_neurons = 4;
  const auto placed = [&](const FiringRateEncoderOptions& options, const std::vector<double>& pixels) {
    const auto model = make_firing_rate_encoder(options, {session}, {cpu_device(1), DType::f64});
    CHECK(start_readout_at(*model, key, Tensor::from(pixels, {4, 2}, cpu_device(1))) == 3);
    return positions_of(*model);
  };
  const std::vector<double> pixels{0, 0, 15.5, 8.5, NAN, 3, 31, 17};
  FiringRateEncoderOptions options = encoder_options(18, 32);
  std::vector<double> at = placed(options, pixels);  // a map of the image's size
  CHECK(at[0] == doctest::Approx(-1));
  CHECK(at[1] == doctest::Approx(-1));
  CHECK(at[2] == doctest::Approx(0));
  CHECK(at[3] == doctest::Approx(0));
  CHECK(std::abs(at[4]) <= 0.3);  // as it was drawn
  CHECK(at[6] == doctest::Approx(1));
  CHECK(at[7] == doctest::Approx(1));
  options.core.pad_input = false;  // two pixels fewer on every side
  at = placed(options, {2, 2, 15.5, 8.5, NAN, NAN, 0, 10});
  CHECK(at[0] == doctest::Approx(-1));
  CHECK(at[1] == doctest::Approx(-1));
  CHECK(at[2] == doctest::Approx(0));
  CHECK(at[6] == -1);  // outside of the map
  CHECK(at[7] == doctest::Approx(2 * 8 / 13.0 - 1));
  options.core.input_stride = 2;  // 28 x 14 -> pixels 2, 4 .. 28 and 2, 4 .. 14
  at = placed(options, {2, 2, 28, 14, NAN, NAN, 15, 8});
  CHECK(at[0] == doctest::Approx(-1));
  CHECK(at[2] == doctest::Approx(1));
  CHECK(at[3] == doctest::Approx(1));
  CHECK(at[6] == doctest::Approx(0));
  CHECK(at[7] == doctest::Approx(0));
  std::get<FullGaussian2dOptions>(options.readout).align_corners = false;
  at = placed(options, {2, 2, 28, 14, NAN, NAN, 15, 8});
  CHECK(at[0] == doctest::Approx(1 / 14.0 - 1));
  CHECK(at[3] == doctest::Approx(1 - 1 / 7.0));
  CHECK(at[6] == doctest::Approx(0));
}

TEST_CASE("readouts start where neurons respond; shared, predicted and no positions are refused") {
  const StaticDataSet data = opened(common_cortex());
  FiringRateEncoderOptions options = encoder_options(36, 64);
  const Placement placement{cpu_device(1), DType::f32};
  const auto model = make_firing_rate_encoder(options, data.session_options(), placement);
  const std::vector<double> drawn = positions_of(*model);
  const std::int64_t moved = start_at_receptive_fields(*model, data);
  CHECK(moved >= 21);
  const std::vector<double> pixels = locate_receptive_fields(data.sessions[0]).to_vector<double>();
  const std::vector<double> started = positions_of(*model);
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    const double extent = i % 2 ? 35 : 63;
    CHECK(started[i] == doctest::Approx(std::isnan(pixels[i]) ? drawn[i] : 2 * pixels[i] / extent - 1));
  }
  std::get<FullGaussian2dOptions>(options.readout).shared_grid =
      SharedByMatch{std::vector<std::int64_t>(24, 1)};
  const auto shared = make_firing_rate_encoder(options, data.session_options(), placement);
  CHECK_THROWS_WITH_AS(start_at_receptive_fields(*shared, data), doctest::Contains("shared"), ConfigError);
  options.readout = FullGaussian2dOptions{.bias = true, .grid_mean_predictor = GridMeanPredictor{}};
  const auto predicted = make_firing_rate_encoder(options, data.session_options(true), placement);
  CHECK_THROWS_WITH_AS(start_at_receptive_fields(*predicted, data), doctest::Contains("predicted"),
                       ConfigError);
  CHECK(start_at_receptive_fields(*model, data, std::vector<std::string>{"another"}) == 0);
  const auto other_shape =
      make_firing_rate_encoder(encoder_options(18, 32), data.session_options(), placement);
  const std::vector<double> untouched = positions_of(*other_shape);
  CHECK_THROWS_AS(start_at_receptive_fields(*other_shape, data), ConfigError);
  CHECK(positions_of(*other_shape) == untouched);
  CHECK_THROWS_AS(start_readout_at(*model, key, Tensor::zeros({23, 2}, DType::f64, cpu_device(1))),
                  ShapeError);
}

TEST_CASE("masks start as a Gaussian of norm 1 on top of their noise; neurons without a place keep theirs") {
  SessionOptions session;
  session.key = key;
  session.n_neurons = 3;
  FiringRateEncoderOptions options = encoder_options(18, 32);
  options.core.pad_input = false;  // a map of 14 x 28 that begins at pixel (2,2)
  options.readout = FullFactorized2dOptions{.bias = true, .init_noise = 1e-3};
  for (const DType dtype : {DType::f32, DType::f64}) {
    const auto model = make_firing_rate_encoder(options, {session}, {cpu_device(1), dtype});
    const auto masks = [&] {
      for (const NamedTensor& tensor : model->tensors())
        if (tensor.name.ends_with("spatial")) return tensor.tensor.to(DType::f64).to_vector<double>();
      return std::vector<double>{};
    };
    const std::vector<double> before = masks();
    REQUIRE(before.size() == 3 * 14 * 28);
    const std::vector<double> pixels{10, 7, NAN, 3, 40, 1};
    CHECK(start_readout_at(*model, key, Tensor::from(pixels, {3, 2}, cpu_device(1))) == 2);
    const std::vector<double> after = masks();
    const double places[3][2] = {{8, 5}, {0, 0}, {27, 0}};  // the last one outside of the map: its corner
    for (std::size_t n = 0; n < 3; ++n) {
      std::vector<double> expected(14 * 28);
      double square = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const std::size_t row = i / 28, column = i % 28;
        const double down = static_cast<double>(row) - places[n][1],
                     across = static_cast<double>(column) - places[n][0];
        expected[i] = n == 1 ? 0 : std::exp(-(down * down + across * across) / 8);
        square += expected[i] * expected[i];
      }
      double worst = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const std::size_t at = n * expected.size() + i;
        const double added = n == 1 ? 0 : expected[i] / std::sqrt(square);
        worst = std::max(worst, std::abs(after[at] - before[at] - added));
      }
      // One rounding of a value below 1.1, and of the noise that it contains.
      CHECK(worst <= (n == 1 ? 0 : 2 * (dtype == DType::f32 ? 0x1p-24 : 0x1p-53) * 1.1));
    }
  }
  const auto cloned = [&] {
    SessionOptions second = session;
    second.key = key + "-2";
    options.clone_readout = true;
    return make_firing_rate_encoder(options, {session, second}, {cpu_device(1), DType::f32});
  }();
  CHECK_NOTHROW(check_startable(*cloned, key));
  CHECK_THROWS_AS(check_startable(*cloned, key + "-2"), ConfigError);
}

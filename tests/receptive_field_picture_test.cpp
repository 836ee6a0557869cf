// Comparing recovered receptive fields with true ones, and the picture of both.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "check.hpp"
#include "data/receptive_field_picture.hpp"
#include "data/simulated_retina.hpp"
#include "fovea/safetensors.hpp"

using namespace fovea;
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t neurons = 9, frames = 6, height = 5, width = 7, field_size = frames * height * width;

/// Smooth fields of alternating sign with a peak of their own; the last two cells are outside the model
/// class.
RetinaGroundTruth sample_truth() {
  std::vector<double> values;
  for (std::int64_t n = 0; n < neurons; ++n)
    for (std::int64_t i = 0; i < field_size; ++i) {
      const auto t = static_cast<double>(i / (height * width)), y = static_cast<double>(i / width % height),
                 x = static_cast<double>(i % width);
      const double d2 =
          (y - 2) * (y - 2) + (x - static_cast<double>(n % 5) - 1) * (x - static_cast<double>(n % 5) - 1);
      values.push_back((n % 2 ? -1 : 1) * std::exp(-d2 / 2) * std::sin(t));
    }
  RetinaGroundTruth truth;
  truth.cell_types = {"ON <small>", "OFF & large", "unused"};
  for (std::int64_t n = 0; n < neurons; ++n) {
    truth.cell_type.push_back(n >= neurons - 2);
    truth.in_model_class.push_back(n < neurons - 2);
    truth.noise_ceiling.push_back(0.9);
  }
  truth.receptive_fields = Tensor::from(values, {neurons, frames, height, width}, cpu_device(1));
  truth.test_rates = Tensor::full({neurons, 3}, 0.5, DType::f64, cpu_device(1));
  return truth;
}

std::string file_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

int occurrences(const std::string& words, const std::string& word) {
  int count = 0;
  for (std::size_t at = words.find(word); at != std::string::npos; at = words.find(word, at + 1)) ++count;
  return count;
}

struct Folder {
  fs::path path = fs::temp_directory_path() / text("fovea-picture-", ::getpid());
  Folder() {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
};

}  // namespace

TEST_CASE("correlation is 1 with the truth, in any unit, and -1 with its negative") {
  const RetinaGroundTruth truth = sample_truth();
  const Tensor recovered = truth.receptive_fields.clone();
  double* values = recovered.data<double>();
  for (std::int64_t i = 0; i < field_size; ++i) values[i] *= 1000;                 // cell 0
  for (std::int64_t i = 0; i < field_size; ++i) values[field_size + i] *= -0.001;  // cell 1
  for (std::int64_t i = 0; i < field_size; ++i) values[2 * field_size + i] = 3.7;  // cell 2: constant
  const ReceptiveFieldComparison comparison = compare_receptive_fields(recovered, truth);
  REQUIRE(comparison.correlation.size() == neurons);
  CHECK(comparison.correlation[0] == doctest::Approx(1).epsilon(1e-12));
  CHECK(comparison.correlation[1] == doctest::Approx(-1).epsilon(1e-12));
  CHECK(comparison.correlation[2] == 0);
  for (std::size_t n = 3; n < neurons; ++n)
    CHECK(comparison.correlation[n] == doctest::Approx(1).epsilon(1e-12));
  CHECK(comparison.in_class_count == 7);
  CHECK(comparison.outside_count == 2);
  CHECK(comparison.in_class_mean == doctest::Approx(4.0 / 7));
  CHECK(comparison.outside_mean == doctest::Approx(1));
  REQUIRE(comparison.type_mean.size() == 3);
  CHECK(comparison.type_mean[0] == doctest::Approx(4.0 / 7));
  CHECK(comparison.type_mean[2] == 0);
}

TEST_CASE("the newest frames are aligned, and frames that one side lacks are zero") {
  const RetinaGroundTruth truth = sample_truth();
  const std::vector<double> values = truth.receptive_fields.to_vector<double>();
  const std::int64_t pixels = height * width;
  std::vector<float> longer, shorter;  // three more zero frames, two fewer
  for (std::int64_t n = 0; n < neurons; ++n) {
    const auto begin = values.begin() + n * field_size;
    longer.insert(longer.end(), static_cast<std::size_t>(3 * pixels), 0.0f);
    longer.insert(longer.end(), begin, begin + field_size);
    shorter.insert(shorter.end(), begin + 2 * pixels, begin + field_size);
  }
  const Device device = cpu_device(1);
  const Tensor aligned =
      align_receptive_fields(Tensor::from(longer, {neurons, frames + 3, height, width}, device), truth);
  CHECK(test::within(truth.receptive_fields, aligned, 1e-7));
  const Tensor padded =
      align_receptive_fields(Tensor::from(shorter, {neurons, frames - 2, height, width}, device), truth);
  for (std::int64_t i = 0; i < field_size; ++i)
    REQUIRE(padded.data<double>()[i] ==
            doctest::Approx(i < 2 * pixels ? 0.0 : values[static_cast<std::size_t>(i)]).epsilon(1e-6));
}

TEST_CASE("fields of another shape or with NaN are refused") {
  const RetinaGroundTruth truth = sample_truth();
  const Device device = cpu_device(1);
  CHECK_THROWS_AS(compare_receptive_fields(Tensor::zeros({8, 6, 5, 7}, DType::f64, device), truth),
                  ShapeError);
  CHECK_THROWS_AS(compare_receptive_fields(Tensor::zeros({9, 6, 7, 5}, DType::f64, device), truth),
                  ShapeError);
  CHECK_THROWS_AS(compare_receptive_fields(Tensor::zeros({9, 6, 35}, DType::f64, device), truth), ShapeError);
  const Tensor bad = truth.receptive_fields.clone();
  bad.data<double>()[100] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(compare_receptive_fields(bad, truth), Error);
}

TEST_CASE("the picture has a panel per cell, its numbers, and the same bytes every time") {
  const Folder folder;
  const RetinaGroundTruth truth = sample_truth();
  const Tensor recovered = truth.receptive_fields.clone();
  for (std::int64_t i = 0; i < field_size; ++i) recovered.data<double>()[i] *= -1;
  const fs::path path = folder.path / "fields.svg";
  write_receptive_field_picture(path.string(), recovered, truth);
  const std::string svg = file_text(path);
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(occurrences(svg, "<polyline ") == 2 * neurons);
  CHECK(occurrences(svg, ">cell ") == neurons);
  CHECK(occurrences(svg, ">r = 1.00<") == neurons - 1);
  CHECK(occurrences(svg, ">r = \u22121.00<") == 1);
  CHECK(svg.find("7 cells of the model class: mean correlation 0.71") != std::string::npos);
  CHECK(svg.find("2 cells outside it: mean correlation 1.00") != std::string::npos);
  CHECK(svg.find("ON &lt;small&gt;") != std::string::npos);
  CHECK(svg.find("OFF &amp; large") != std::string::npos);
  CHECK(svg.find("unused") == std::string::npos);
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(occurrences(svg, "<g ") == occurrences(svg, "</g>"));
  CHECK(occurrences(svg, "<text ") == occurrences(svg, "</text>"));
  write_receptive_field_picture((folder.path / "again.svg").string(), recovered, truth);
  CHECK((svg == file_text(folder.path / "again.svg")));
  write_receptive_field_picture((folder.path / "truth.svg").string(), truth.receptive_fields, truth);
  CHECK((svg != file_text(folder.path / "truth.svg")));
}

TEST_CASE("an unresponsive cell gives an empty map, not a broken picture") {
  const Folder folder;
  RetinaGroundTruth truth = sample_truth();
  truth.receptive_fields = Tensor::zeros(truth.receptive_fields.shape(), DType::f64, cpu_device(1));
  write_receptive_field_picture((folder.path / "zero.svg").string(), truth.receptive_fields, truth);
  const std::string svg = file_text(folder.path / "zero.svg");
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg.find("inf") == std::string::npos);
  CHECK(occurrences(svg, ">r = 0.00<") == neurons);
}

TEST_CASE("the ground truth of a simulated retina is read back, and a damaged one is named") {
  const Folder folder;
  SimulatedRetinaOptions options;
  options.neurons = 12;
  options.frames = 1000;
  options.test_frames = 100;
  options.height = options.width = 16;
  simulate_retina(options, (folder.path / "retina").string());
  const std::string path = (folder.path / "retina" / "ground_truth.safetensors").string();
  const RetinaGroundTruth truth = read_ground_truth(path);
  CHECK(truth.receptive_fields.shape() == Shape{12, 21, 16, 16});
  CHECK(truth.test_rates.shape() == Shape{12, 100});
  CHECK(truth.cell_types == cell_type_names());
  CHECK(compare_receptive_fields(truth.receptive_fields, truth).in_class_count == 8);

  const Safetensors whole = read_safetensors(path, cpu_device(1));
  const auto damaged = [&](auto change) {
    Safetensors content = whole;
    change(content);
    write_safetensors(path, content);
    try {
      read_ground_truth(path);
    } catch (const FormatError& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  const auto replace = [](Safetensors& content, const std::string& name, const Tensor& tensor) {
    for (auto& entry : content.tensors)
      if (entry.first == name) entry.second = tensor;
  };
  CHECK(damaged([](Safetensors& c) { c.tensors.erase(c.tensors.begin()); }).find("receptive_field") !=
        std::string::npos);
  CHECK(damaged([&](Safetensors& c) {
          replace(c, "cell_type", Tensor::full({12}, 8, DType::i64, cpu_device(1)));
        }).find("cell_type must lie below 8: 8") != std::string::npos);
  CHECK(damaged([&](Safetensors& c) {
          replace(c, "noise_ceiling", Tensor::zeros({11}, DType::f64, cpu_device(1)));
        }).find("11") != std::string::npos);
  CHECK(damaged([&](Safetensors& c) {
          replace(c, "test_rate", Tensor::zeros({12}, DType::f64, cpu_device(1)));
        }).find("test_rate") != std::string::npos);
  CHECK(damaged([](Safetensors& c) { c.metadata["format"] = "fovea.model"; }).find("fovea.model") !=
        std::string::npos);
  CHECK(damaged([](Safetensors& c) { c.metadata["cell_types"] = "[1,"; }).find("[1,") != std::string::npos);
}

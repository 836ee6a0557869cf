#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/pearson.hpp"
#include "data/receptive_field_picture.hpp"
#include "fovea/safetensors.hpp"

namespace fovea {
namespace {

const Tensor& field(const Safetensors& file, const std::string& path, const std::string& name, DType dtype,
                    int rank) {
  const Tensor* tensor = file.find(name);
  if (!tensor) throw FormatError(path, text("a ground truth has the tensor ", name, ": it is missing"));
  if (tensor->dtype() != dtype || tensor->shape().rank() != rank)
    throw FormatError(
        path, text(name, " must be ", dtype, " of rank ", rank, ": ", tensor->dtype(), " ", tensor->shape()));
  if (dtype == DType::f64)
    for (const double value : tensor->to_vector<double>())
      if (!std::isfinite(value)) throw FormatError(path, text(name, " must be finite: ", value));
  return *tensor;
}

std::vector<std::string> read_cell_types(const Safetensors& file, const std::string& path) {
  const auto entry = file.metadata.find("cell_types");
  if (entry == file.metadata.end()) throw FormatError(path, "the metadata entry cell_types is missing");
  const auto json = nlohmann::json::parse(entry->second, nullptr, false);
  const auto is_text = [](const auto& value) { return value.is_string(); };
  if (!json.is_array() || !std::all_of(json.begin(), json.end(), is_text))
    throw FormatError(path, text("the metadata entry cell_types must be a list of names: ", entry->second));
  return json.get<std::vector<std::string>>();
}

}  // namespace

RetinaGroundTruth read_ground_truth(const std::string& path) {
  const Safetensors file = read_safetensors(path, cpu_device(1));
  const auto format = file.metadata.find("format");
  if (format == file.metadata.end() || format->second != "fovea.simulated_retina")
    throw FormatError(path, text("format must be fovea.simulated_retina: ",
                                 format == file.metadata.end() ? "none" : format->second));
  RetinaGroundTruth truth;
  truth.cell_types = read_cell_types(file, path);
  truth.receptive_fields = field(file, path, "receptive_field", DType::f64, 4);
  truth.test_rates = field(file, path, "test_rate", DType::f64, 2);
  truth.noise_ceiling = field(file, path, "noise_ceiling", DType::f64, 1).to_vector<double>();
  const auto types = field(file, path, "cell_type", DType::i64, 1).to_vector<std::int64_t>();
  const auto in_class = field(file, path, "in_model_class", DType::i64, 1).to_vector<std::int64_t>();

  const auto neurons = static_cast<std::size_t>(truth.receptive_fields.shape()[0]);
  for (const std::size_t count : {static_cast<std::size_t>(truth.test_rates.shape()[0]),
                                  truth.noise_ceiling.size(), types.size(), in_class.size()})
    if (count != neurons)
      throw FormatError(path,
                        text("all tensors must have the ", neurons, " cells of receptive_field: ", count));
  for (const std::int64_t type : types) {
    if (type < 0 || type >= static_cast<std::int64_t>(truth.cell_types.size()))
      throw FormatError(path, text("cell_type must lie below ", truth.cell_types.size(), ": ", type));
    truth.cell_type.push_back(static_cast<int>(type));
  }
  for (const std::int64_t inside : in_class) truth.in_model_class.push_back(inside != 0);
  return truth;
}

Tensor align_receptive_fields(const Tensor& recovered, const RetinaGroundTruth& truth) {
  const Shape& target = truth.receptive_fields.shape();
  const Shape& shape = recovered.shape();
  if (shape.rank() != 4 || shape[0] != target[0] || shape[2] != target[2] || shape[3] != target[3] ||
      recovered.dtype() == DType::i64)
    throw ShapeError("compare_receptive_fields",
                     text("recovered fields must agree with the true ones ", target,
                          " in all axes but the frames: ", shape, " in ", recovered.dtype()));
  const std::vector<double> values =
      recovered.to(truth.receptive_fields.device()).to(DType::f64).to_vector<double>();
  for (const double value : values)
    if (!std::isfinite(value))
      throw Error("compare_receptive_fields", text("recovered fields must be finite: ", value));

  const Tensor aligned = Tensor::zeros(target, DType::f64, truth.receptive_fields.device());
  const std::int64_t pixels = target[2] * target[3], common = std::min(shape[1], target[1]);
  for (std::int64_t n = 0; n < target[0]; ++n) {
    const auto newest = values.begin() + (n + 1) * shape[1] * pixels;
    std::copy(newest - common * pixels, newest,
              aligned.data<double>() + ((n + 1) * target[1] - common) * pixels);
  }
  return aligned;
}

ReceptiveFieldComparison compare_receptive_fields(const Tensor& recovered, const RetinaGroundTruth& truth) {
  const Tensor aligned = align_receptive_fields(recovered, truth);
  const std::int64_t neurons = aligned.shape()[0];
  ReceptiveFieldComparison comparison;
  comparison.type_mean.assign(truth.cell_types.size(), 0.0);
  std::vector<std::int64_t> type_count(truth.cell_types.size(), 0);
  for (std::int64_t n = 0; n < neurons; ++n) {
    const double r = pearson(aligned.rows(n, n + 1).to_vector<double>(),
                             truth.receptive_fields.rows(n, n + 1).to_vector<double>());
    comparison.correlation.push_back(r);
    const bool inside = truth.in_model_class[static_cast<std::size_t>(n)];
    (inside ? comparison.in_class_mean : comparison.outside_mean) += r;
    ++(inside ? comparison.in_class_count : comparison.outside_count);
    const auto type = static_cast<std::size_t>(truth.cell_type[static_cast<std::size_t>(n)]);
    comparison.type_mean[type] += r;
    ++type_count[type];
  }
  const auto divide = [](double& sum, std::int64_t count) {
    sum = count > 0 ? sum / static_cast<double>(count) : 0;
  };
  divide(comparison.in_class_mean, comparison.in_class_count);
  divide(comparison.outside_mean, comparison.outside_count);
  for (std::size_t type = 0; type < type_count.size(); ++type)
    divide(comparison.type_mean[type], type_count[type]);
  return comparison;
}

}  // namespace fovea

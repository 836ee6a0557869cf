#include "cli/inputs.hpp"

#include <cstdio>

#include "fovea/npy.hpp"

namespace fovea::cli {
namespace {

void check_finite(const StoredArray& array) {
  const auto bad = array.first_not_finite();
  if (bad >= 0)
    throw FormatError(array.origin(), text("value ", index_text(bad, array.shape()), " is not finite"));
}

/// A part of an array with these strides of the tensor.
Tensor converted(const StoredArray& array, const std::vector<std::int64_t>& begin,
                 const std::vector<std::int64_t>& count, const Shape& shape,
                 const std::vector<std::int64_t>& strides, const Placement& placement,
                 const Normalization& normalization) {
  const bool in_place = placement.device.on_host();
  const Tensor host(shape, placement.dtype, in_place ? placement.device : cpu_device(1));
  if (placement.dtype == DType::f64) {
    array.convert(begin, count, host.data<double>(), strides, normalization);
  } else {
    array.convert(begin, count, host.data<float>(), strides, normalization);
  }
  return in_place ? host : host.to(placement.device);
}

std::vector<std::int64_t> row_major(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t axis = strides.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * shape[axis];
  return strides;
}

}  // namespace

Shape check_stimulus(const Model& model, const std::string& session, const StoredArray& stimulus) {
  const Shape in = model.in_shape();
  const std::vector<std::int64_t>& shape = stimulus.shape();
  if (stimulus.elements() == 0)  // before an axis beside an empty one is believed
    throw FormatError(stimulus.origin(), text("stimulus holds no values: ", shape_text(shape)));
  const auto rank = static_cast<std::size_t>(in.rank());
  const bool movies = model.takes_movies();
  bool fits = shape.size() == rank || shape.size() == rank + 1;
  const std::vector<std::int64_t> sample(shape.end() - static_cast<std::ptrdiff_t>(fits ? rank : 0),
                                         shape.end());
  for (std::size_t axis = 0; fits && axis < rank; ++axis)
    if (!movies || axis != 1) fits = sample[axis] == in[static_cast<int>(axis)];
  if (!fits)
    throw FormatError(stimulus.origin(),
                      text("stimulus must be ", movies ? "[B,C,T,H,W] or [C,T,H,W]" : "[B,C,H,W] or [C,H,W]",
                           " with C = ", in[0], ", H = ", in[-2], ", W = ", in[-1], ": ", shape_text(shape)));
  try {
    return model.output_shape(Shape(sample), session);
  } catch (const ShapeError& error) {
    throw FormatError(stimulus.origin(),
                      text("stimulus ", shape_text(shape), " is too short: ", error.what()));
  }
}

void check_responses(const StoredArray& responses, std::int64_t samples, const Shape& prediction) {
  std::vector<std::int64_t> shape = responses.shape();
  if (samples == 1 && responses.rank() == prediction.rank()) shape.insert(shape.begin(), 1);
  const bool movies = prediction.rank() == 2;
  const bool fits = static_cast<int>(shape.size()) == prediction.rank() + 1 && shape.front() == samples &&
                    shape.back() == prediction[-1] && (!movies || shape[1] >= prediction[0]);
  if (fits) return;
  const std::string single = samples == 1 ? movies ? " or [T,N]" : " or [N]" : "";
  throw FormatError(responses.origin(),
                    text("responses must be ", movies ? "[B,T,N]" : "[B,N]", single, " with B = ", samples,
                         movies ? text(", T at least ", prediction[0]) : "", ", N = ", prediction[-1], ": ",
                         shape_text(responses.shape())));
}

StoredArray open_pupil(const Model& model, const std::string& path, std::int64_t samples) {
  const std::int64_t columns = model.pupil_columns();
  if (columns == 0) {
    if (path.empty()) return {};
    if (!model.may_shift()) throw ConfigError("--pupil", text(model.class_name(), " has no shifter: ", path));
    std::fprintf(stderr, "fovea: the model has no shifter, %s is ignored\n", path.c_str());
    return {};
  }
  if (path.empty())
    throw ConfigError("--pupil", text("a pupil centre is required by the shifter of ", model.class_name(),
                                      ": [B,", columns, "] with B = ", samples));
  const StoredArray given = open_npy(path);
  const StoredArray pupil = samples == 1 && given.rank() == 1 ? given.as_batch() : given;
  if (pupil.shape() != std::vector<std::int64_t>{samples, columns})
    throw FormatError(path, text("pupil centres must be [B,", columns, "] with B = ", samples, ": ",
                                 shape_text(given.shape())));
  check_finite(pupil);
  return pupil;
}

StoredArray open_noise(const Model& model, const std::string& session, const std::string& path,
                       std::int64_t samples, bool training) {
  if (path.empty()) return {};
  const Shape shape = model.noise_shape(samples, session);
  if (shape.rank() == 0)
    throw ConfigError("--noise", text(model.class_name(), " has no readout that samples: ", path));
  if (!training)
    throw ConfigError("--noise", text("only a training pass samples, --train is missing: ", path));
  const StoredArray noise = open_npy(path);
  if (noise.shape() != shape.vector())
    throw FormatError(path, text("noise must be ", shape_text(shape.vector()), " for ", samples,
                                 " samples: ", shape_text(noise.shape())));
  check_finite(noise);
  return noise;
}

Tensor read_values(const StoredArray& array, const Placement& placement, const Normalization& normalization) {
  check_finite(array);
  return converted(array, std::vector<std::int64_t>(array.shape().size(), 0), array.shape(),
                   Shape(array.shape()), row_major(array.shape()), placement, normalization);
}

Tensor read_entries(const StoredArray& array, std::int64_t begin, std::int64_t end,
                    const Placement& placement, const Normalization& normalization) {
  std::vector<std::int64_t> from(array.shape().size(), 0), count = array.shape();
  from[0] = begin, count[0] = end - begin;
  for (std::int64_t i = begin; i < end; ++i) {
    const StoredArray entry = array.at(i);
    const auto bad = entry.first_not_finite();
    if (bad >= 0)
      throw FormatError(array.origin(), text("value ", index_text(bad + i * entry.elements(), array.shape()),
                                             " is not finite"));
  }
  if (array.rank() != 4)
    return converted(array, from, count, Shape(count), row_major(count), placement, normalization);
  const std::int64_t channels = count[1], height = count[2], width = count[3];
  return converted(array, from, count, {count[0], height, width, channels},
                   {height * width * channels, 1, width * channels, channels}, placement, normalization);
}

}  // namespace fovea::cli

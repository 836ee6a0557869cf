#include "fovea/receptive_fields.hpp"

#include <algorithm>

#include "fovea/autograd.hpp"
#include "fovea/ops.hpp"

namespace fovea {
namespace {

/// Windows [first + i, first + i + length) of the movie as one batch (count, length, H, W, C).
Tensor windows(const Tensor& movie, std::int64_t first, std::int64_t count, std::int64_t length) {
  const Shape& shape = movie.shape();  // (1,T,H,W,C)
  const Tensor frames = movie.reshape({shape[1], shape[2], shape[3], shape[4]});
  Tensor batch({count, length, shape[2], shape[3], shape[4]}, movie.dtype(), movie.device());
  const Tensor flat = batch.reshape({count * length, shape[2], shape[3], shape[4]});
  for (std::int64_t i = 0; i < count; ++i)
    flat.rows(i * length, (i + 1) * length).copy_from(frames.rows(first + i, first + i + length));
  return batch;
}

/// Adds sum over batch and channels of dx (B,L,H,W,C) to a field (L,H,W).
void add_sum(std::vector<double>& field, const Tensor& dx) {
  const std::vector<double> values = dx.to(DType::f64).to_vector<double>();
  const auto channels = static_cast<std::size_t>(dx.shape()[4]);
  const std::size_t sample = field.size() * channels;
  for (std::size_t i = 0; i < values.size(); ++i) field[i % sample / channels] += values[i];
}

}  // namespace

Tensor receptive_fields(const Model& model, const std::string& session, std::int64_t frames,
                        const FrameReader& read) {
  if (!model.takes_movies())
    throw ConfigError("receptive_fields", text("needs a model that takes movies, ", model.class_name(),
                                               " takes images of shape: ", model.in_shape()));
  constexpr std::int64_t windows_at_once = 128;
  const Placement& placement = model.placement();
  const auto copy = model.clone();
  copy->apply_constraints(session);
  const Shape in = copy->in_shape();
  const std::int64_t length = copy->describe(in).receptive_field_frames, neurons = copy->n_neurons(session);
  const std::int64_t count = frames - length + 1;
  if (count < 1)
    throw ShapeError("receptive_fields", text("the movie of ", frames, " frames is shorter than ", length));
  std::vector<std::vector<double>> fields(
      static_cast<std::size_t>(neurons),
      std::vector<double>(static_cast<std::size_t>(length * in[2] * in[3])));
  for (std::int64_t first = 0; first < count; first += windows_at_once) {
    const std::int64_t now = std::min(windows_at_once, count - first);
    Tensor batch = windows(read(first, first + now + length - 1), 0, now, length);
    batch.set_requires_grad();
    for (std::int64_t n = 0; n < neurons; ++n) {
      batch.clear_grad();
      const Tensor output = copy->forward({session, batch, {}, {}}, {});
      if (output.shape()[1] != 1)
        throw ShapeError("receptive_fields",
                         text("a window of ", length, " frames must give one prediction: ", output.shape()));
      std::vector<double> one_hot(static_cast<std::size_t>(now * neurons), 0.0);
      for (std::int64_t i = 0; i < now; ++i) one_hot[static_cast<std::size_t>(i * neurons + n)] = 1.0;
      backward(output, Tensor::from(one_hot, output.shape(), placement.device).to(placement.dtype));
      add_sum(fields[static_cast<std::size_t>(n)], batch.grad());
    }
  }
  std::vector<double> all;
  for (const auto& field : fields)
    for (const double value : field) all.push_back(value / static_cast<double>(count));
  return Tensor::from(all, {neurons, length, in[2], in[3]}, placement.device).to(placement.dtype);
}

}  // namespace fovea

// Batch norm + activation. Statistics and parameters of the channels are laid out as lanes: whole vectors
// that repeat with the smallest period of the pattern "channel of lane", so that any number of channels uses
// full vectors. Sums run in f32 over chunks that stay in L1 and in f64, in the order of the chunks, over
// those.
#include "kernels/batch_norm.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t chunk_floats = 8192;  // 32 KB

struct Layout {
  std::int64_t channels, period, chunk, count, chunks;
};

Layout layout_of(const BatchNormShape& s) {
  const std::int64_t period = lane_period(s.channels);
  const std::int64_t chunk = period * ((chunk_floats + period - 1) / period), count = s.rows * s.channels;
  return {s.channels, period, chunk, count, (count + chunk - 1) / chunk};
}

/// body(offset in the array, offset in a lane table, Part or First).
template <class Part = Whole, class Body>
FOVEA_INLINE void for_each_lane(const Layout layout, std::int64_t chunk, const Body given) {
  const Layout l = layout;  // copies: stores of vectors may alias whatever lies in memory
  const Body body = given;
  std::int64_t i = chunk * l.chunk;
  const std::int64_t end = i + l.chunk < l.count ? i + l.chunk : l.count;
  for (; i + l.period <= end; i += l.period)
    for (std::int64_t lane = 0; lane < l.period; lane += 16) body(i + lane, lane, Part{});
  for_each_vector(0, end - i, [&](std::int64_t lane, auto part) { body(i + lane, lane, part); });
}

/// The same, stores past the caches where the result does not fit in them.
template <class Body>
FOVEA_INLINE void for_each_result(const Layout& layout, std::int64_t chunk, bool streamed, const Body& body) {
  if (!streamed) return for_each_lane(layout, chunk, body);
  for_each_lane<Streamed>(layout, chunk, body);
  finish_streams();
}

std::int64_t rows_of(const Layout& l, std::int64_t chunk) {
  const std::int64_t left = l.count - chunk * l.chunk;
  return (left < l.chunk ? left : l.chunk) / l.channels;
}

/// lanes[i] <- value(channel of i).
template <class Value>
void spread(float* lanes, const Layout& l, const Value& value) {
  for (std::int64_t c = 0; c < l.channels; ++c) lanes[c] = static_cast<float>(value(c));
  for (std::int64_t i = l.channels; i < l.period; ++i) lanes[i] = lanes[i - l.channels];
}

/// channels[c] <- the sum of its lanes, in order.
void gather(double* channels, const float* lanes, const Layout& l) {
  for (std::int64_t c = 0; c < l.channels; ++c) channels[c] = 0;
  for (std::int64_t i = 0; i < l.period; i += l.channels)
    for (std::int64_t c = 0; c < l.channels; ++c) channels[c] += lanes[i + c];
}

void clear(float* lanes, const Layout& l) {
  for (std::int64_t i = 0; i < l.period; ++i) lanes[i] = 0;
}

double reciprocal_deviation(double variance, const BatchNormShape& s) {
  return 1 / __builtin_sqrt(variance + s.eps);
}

/// z = x * slope + offset, as lanes.
struct Normalisation {
  float *mean, *slope, *offset;

  FOVEA_INLINE F16 z(F16 x, std::int64_t lane) const {
    return madd(x, F16::load(slope + lane), F16::load(offset + lane));
  }
};

Normalisation normalisation(float* tables, const float* mean, const float* inv_std,
                            const BatchNormParameters<float>& p, const Layout& l) {
  const Normalisation n{tables, tables + l.period, tables + 2 * l.period};
  spread(n.mean, l, [&](std::int64_t c) { return mean[c]; });
  spread(n.slope, l, [&](std::int64_t c) { return inv_std[c] * (p.weight ? p.weight[c] : 1.0f); });
  // From the rounded slope, so that a large mean costs no more than the rounding of its product.
  spread(n.offset, l, [&](std::int64_t c) {
    const double bias = p.bias ? p.bias[c] : 0, channel_bias = p.channel_bias ? p.channel_bias[c] : 0;
    return bias + channel_bias - double(mean[c]) * n.slope[c];
  });
  return n;
}

/// `tables`: memory of a Normalisation.
void apply(float* y, float* tables, const float* x, const float* mean, const float* inv_std,
           const BatchNormParameters<float>& parameters, const BatchNormShape& s, const Layout& l,
           const Queue& queue) {
  const Normalisation n = normalisation(tables, mean, inv_std, parameters, l);
  const bool streamed = is_streamed(y, l.count);
  for_each_task(queue, l.chunks, [&](std::int64_t chunk, int) {
    with_activation(s.activation, [&](auto activation) {
      for_each_result(l, chunk, streamed, [=](std::int64_t i, std::int64_t lane, auto part) {
        part.save(y + i, activation.value(n.z(part.load(x + i), lane)));
      });
    });
  });
}

/// Mean and sum of squared deviations of each channel in one chunk, in two passes over it. `lanes`: 3 tables.
void chunk_moments(double* mean, double* squares, const float* x, float* lanes, const Layout& l,
                   std::int64_t chunk) {
  float *centre = lanes, *rest = lanes + l.period, *square = lanes + 2 * l.period;
  const double rows = static_cast<double>(rows_of(l, chunk));
  clear(rest, l);
  for_each_lane(l, chunk, [=](std::int64_t i, std::int64_t lane, auto part) {
    store(rest + lane, add(F16::load(rest + lane), part.load(x + i)));
  });
  gather(mean, rest, l);
  spread(centre, l, [&](std::int64_t c) { return mean[c] / rows; });
  clear(rest, l);
  clear(square, l);
  for_each_lane(l, chunk, [=](std::int64_t i, std::int64_t lane, auto part) {
    const F16 d = sub(part.load(x + i), part.load(centre + lane));
    store(rest + lane, add(F16::load(rest + lane), d));
    store(square + lane, madd(d, d, F16::load(square + lane)));
  });
  // The centre is the mean as rounded sums in f32 gave it; what it missed counts where the mean is large.
  gather(mean, rest, l);
  gather(squares, square, l);
  for (std::int64_t c = 0; c < l.channels; ++c) {
    squares[c] -= mean[c] * mean[c] / rows;
    mean[c] = centre[c] + mean[c] / rows;
  }
}

/// A pair of f64 values per channel and chunk.
struct Partials {
  double* data;
  std::int64_t channels;
  double* first(std::int64_t chunk) const { return data + 2 * chunk * channels; }
  double* second(std::int64_t chunk) const { return first(chunk) + channels; }
};

std::int64_t partial_floats(const Layout& l) { return 4 * l.chunks * l.channels; }
Partials partials_in(float* memory, const Layout& l) {
  return {reinterpret_cast<double*>(memory), l.channels};
}

void forward_training(float* y, float* mean, float* inv_std, float* running_mean, float* running_var,
                      const float* x, const BatchNormParameters<float>& parameters, const BatchNormShape& s,
                      const Queue& queue) {
  const Layout l = layout_of(s);
  const Scratch memory(queue, 3 * l.period * worker_count(queue) + partial_floats(l));
  float* const lanes = memory.data;
  const Partials partial = partials_in(lanes + 3 * l.period * worker_count(queue), l);
  for_each_task(queue, l.chunks, [&](std::int64_t chunk, int worker) {
    chunk_moments(partial.first(chunk), partial.second(chunk), x, lanes + 3 * l.period * worker, l, chunk);
  });
  const double n = static_cast<double>(s.rows);
  for (std::int64_t c = 0; c < s.channels; ++c) {  // Chan, Golub and LeVeque (1979), all chunks at once
    double centre = 0, squares = 0;
    for (std::int64_t chunk = 0; chunk < l.chunks; ++chunk)
      centre += static_cast<double>(rows_of(l, chunk)) * partial.first(chunk)[c];
    centre /= n;
    for (std::int64_t chunk = 0; chunk < l.chunks; ++chunk) {
      const double d = partial.first(chunk)[c] - centre;
      squares += partial.second(chunk)[c] + static_cast<double>(rows_of(l, chunk)) * d * d;
    }
    mean[c] = static_cast<float>(centre);
    inv_std[c] = static_cast<float>(reciprocal_deviation(squares / n, s));
    running_mean[c] = static_cast<float>((1 - s.momentum) * running_mean[c] + s.momentum * centre);
    running_var[c] = static_cast<float>((1 - s.momentum) * running_var[c] + s.momentum * squares / (n - 1));
  }
  apply(y, lanes, x, mean, inv_std, parameters, s, l, queue);
}

/// inv_std of the running variance.
void running_inv_std(float* inv_std, const float* running_var, const BatchNormShape& s) {
  for (std::int64_t c = 0; c < s.channels; ++c)
    inv_std[c] = static_cast<float>(reciprocal_deviation(running_var[c], s));
}

void forward_evaluation(float* y, const float* running_mean, const float* running_var, const float* x,
                        const BatchNormParameters<float>& parameters, const BatchNormShape& s,
                        const Queue& queue) {
  const Layout l = layout_of(s);
  const Scratch memory(queue, 3 * l.period + s.channels);
  float* const inv_std = memory.data + 3 * l.period;
  running_inv_std(inv_std, running_var, s);
  apply(y, memory.data, x, running_mean, inv_std, parameters, s, l, queue);
}

/// Memory of grad_parameters.
std::int64_t gradient_floats(const Layout& l, const Queue& queue) {
  return 2 * l.period * worker_count(queue) + partial_floats(l);
}

/// dbias = sum dz and dweight = sum dz * (x - mean) * inv_std over the rows, dz = dy * slope of the
/// activation.
void grad_parameters(float* dweight, float* dbias, float* memory, const float* dy, const float* x,
                     const Normalisation& n, const float* inv_std, const BatchNormShape& s, const Layout& l,
                     const Queue& queue) {
  const Partials partial = partials_in(memory + 2 * l.period * worker_count(queue), l);
  for_each_task(queue, l.chunks, [&](std::int64_t chunk, int worker) {
    float *bias = memory + 2 * l.period * worker, *weight = bias + l.period;
    clear(bias, l);
    clear(weight, l);
    with_activation(s.activation, [&](auto activation) {
      for_each_lane(l, chunk, [=](std::int64_t i, std::int64_t lane, auto part) {
        const F16 input = part.load(x + i), centred = sub(input, F16::load(n.mean + lane));
        const F16 dz = mul(part.load(dy + i), activation.slope(n.z(input, lane)));
        store(bias + lane, add(F16::load(bias + lane), dz));
        store(weight + lane, madd(dz, centred, F16::load(weight + lane)));
      });
    });
    gather(partial.first(chunk), bias, l);
    gather(partial.second(chunk), weight, l);
  });
  for (std::int64_t c = 0; c < s.channels; ++c) {
    double bias = 0, weight = 0;
    for (std::int64_t chunk = 0; chunk < l.chunks; ++chunk) {
      bias += partial.first(chunk)[c];
      weight += partial.second(chunk)[c];
    }
    dbias[c] = static_cast<float>(bias);
    dweight[c] = static_cast<float>(weight * inv_std[c]);
  }
}

/// dx = or += slope * dz + x * per_input + constant.
void grad_input(float* dx, const float* dy, const float* x, const Normalisation& n, const float* per_input,
                const float* constant, const BatchNormShape& s, const Layout& l, Write mode,
                const Queue& queue) {
  const bool streamed = mode == Write::overwrite && dx != dy && is_streamed(dx, l.count);
  for_each_task(queue, l.chunks, [&](std::int64_t chunk, int) {
    with_activation(s.activation, [&](auto activation) {
      for_each_result(l, chunk, streamed, [=](std::int64_t i, std::int64_t lane, auto part) {
        const F16 input = part.load(x + i);
        const F16 dz = mul(part.load(dy + i), activation.slope(n.z(input, lane)));
        F16 d = madd(input, F16::load(per_input + lane), F16::load(constant + lane));
        d = madd(dz, F16::load(n.slope + lane), d);
        part.save(dx + i, mode == Write::accumulate ? add(part.load(dx + i), d) : d);
      });
    });
  });
}

void grad_training(float* dx, float* dweight, float* dbias, const float* dy, const float* x,
                   const float* mean, const float* inv_std, const BatchNormParameters<float>& parameters,
                   const BatchNormShape& s, Write dx_mode, const Queue& queue) {
  const Layout l = layout_of(s);
  const Scratch tables(queue, 5 * l.period + gradient_floats(l, queue));
  const Normalisation n = normalisation(tables.data, mean, inv_std, parameters, l);
  grad_parameters(dweight, dbias, tables.data + 5 * l.period, dy, x, n, inv_std, s, l, queue);
  if (!dx) return;
  float *per_input = tables.data + 3 * l.period, *constant = tables.data + 4 * l.period;
  const double rows = static_cast<double>(s.rows);
  spread(per_input, l, [&](std::int64_t c) { return -double(n.slope[c]) * inv_std[c] * dweight[c] / rows; });
  spread(constant, l, [&](std::int64_t c) {
    return -double(n.slope[c]) * dbias[c] / rows - double(mean[c]) * per_input[c];
  });
  grad_input(dx, dy, x, n, per_input, constant, s, l, dx_mode, queue);
}

void grad_evaluation(float* dx, float* dweight, float* dbias, const float* dy, const float* x,
                     const float* running_mean, const float* running_var,
                     const BatchNormParameters<float>& parameters, const BatchNormShape& s, Write dx_mode,
                     const Queue& queue) {
  const Layout l = layout_of(s);
  const std::int64_t gradients = gradient_floats(l, queue);
  const Scratch tables(queue, 4 * l.period + gradients + s.channels);
  float *const memory = tables.data + 4 * l.period, *const inv_std = memory + gradients;
  running_inv_std(inv_std, running_var, s);
  const Normalisation n = normalisation(tables.data, running_mean, inv_std, parameters, l);
  grad_parameters(dweight, dbias, memory, dy, x, n, inv_std, s, l, queue);
  if (!dx) return;
  float* none = tables.data + 3 * l.period;
  clear(none, l);
  grad_input(dx, dy, x, n, none, none, s, l, dx_mode, queue);
}

}  // namespace

void fill(BatchNormKernels<float>& table) {
  table = {forward_training, forward_evaluation, grad_training, grad_evaluation};
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE

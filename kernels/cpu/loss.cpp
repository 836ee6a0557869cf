// Losses with their slopes. Neurons are the lanes; sums run in f32 over a few rows and in f64 over those.
#include "kernels/loss.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t block_rows = 32;
constexpr std::int64_t chunk_floats = 16384;

bool per_neuron(const LossShape& s) {
  return s.reduction == Reduction::per_neuron_sum || s.reduction == Reduction::per_neuron_mean;
}

/// 1, or 1 / the number of values of which the loss is a mean, `items` per neuron.
double reduction_factor(const LossShape& s, std::int64_t items) {
  if (s.reduction == Reduction::mean) return 1 / static_cast<double>(items * s.neurons);
  if (s.reduction == Reduction::per_neuron_mean) return 1 / static_cast<double>(items);
  return 1;
}

/// value <- factor * sums over the lines of partial (lines, N), per neuron or over all of them.
void finish(float* value, const float* partial, std::int64_t lines, double factor, const LossShape& s) {
  double total = 0;
  for (std::int64_t n = 0; n < s.neurons; ++n) {
    double sum = 0;
    for (std::int64_t line = 0; line < lines; ++line) sum += partial[line * s.neurons + n];
    if (per_neuron(s)) value[n] = static_cast<float>(factor * sum);
    total += sum;
  }
  if (!per_neuron(s)) *value = static_cast<float>(factor * total);
}

struct TermAndSlope {
  F16 term, slope;
};

template <bool log_input>
FOVEA_INLINE TermAndSlope poisson_term(F16 output, F16 target, F16 eps) {
  if constexpr (log_input) {
    const F16 rate = exp(output);
    return {sub(rate, mul(target, output)), sub(rate, target)};
  }
  const F16 rate = add(output, eps);
  return {sub(output, mul(target, log(rate))), sub(F16::broadcast(1.0f), div(target, rate))};
}

/// target log(target) - target + 0.5 log(2 pi target) where target > 1
FOVEA_INLINE F16 stirling(F16 target) {
  const F16 half = F16::broadcast(0.5f), log_two_pi = F16::broadcast(1.8378770664f), l = log(target);
  const F16 term = madd(half, add(log_two_pi, l), sub(mul(target, l), target));
  return select(less(F16::broadcast(1.0f), target), term, F16::zero());
}

template <bool log_input>
void poisson_rows(float* sums, float* slope, const float* output, const float* target, const LossShape& s,
                  const PoissonOptions& options, float slope_factor, std::int64_t begin, std::int64_t end) {
  const F16 eps = F16::broadcast(static_cast<float>(options.eps)), factor = F16::broadcast(slope_factor);
  const std::int64_t lag = s.target_frames - s.frames;
  for (std::int64_t n = 0; n < s.neurons; ++n) sums[n] = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t target_row = row / s.frames * s.target_frames + lag + row % s.frames;
    for_each_vector(0, s.neurons, [=](std::int64_t n, auto part) {
      const std::int64_t at = row * s.neurons + n;
      const F16 t = part.load(target + target_row * s.neurons + n);
      const TermAndSlope p = poisson_term<log_input>(part.load(output + at), t, eps);
      const F16 term = options.stirling ? add(p.term, stirling(t)) : p.term;
      part.save(sums + n, add(part.load(sums + n), term));
      if (slope) part.save(slope + at, mul(factor, p.slope));
    });
  }
}

void poisson(float* value, float* slope, const float* output, const float* target, const LossShape& s,
             const PoissonOptions& options, const Queue& queue) {
  const std::int64_t rows = s.batch * s.frames, blocks = (rows + block_rows - 1) / block_rows;
  const double factor = reduction_factor(s, rows);
  const Scratch partial(queue, blocks * s.neurons);
  for_each_chunk(queue, rows, block_rows, [&](std::int64_t begin, std::int64_t end, std::int64_t block, int) {
    const auto run = options.log_input ? poisson_rows<true> : poisson_rows<false>;
    run(partial.data + block * s.neurons, slope, output, target, s, options, static_cast<float>(factor),
        begin, end);
  });
  finish(value, partial.data, blocks, factor, s);
}

/// Sums over frames of up to 16 neurons of two series, and of their products about given means.
template <class Part>
struct SeriesPair {
  const float *x, *y;  // at the first frame
  std::int64_t frames, stride;
  Part part;

  FOVEA_INLINE Wide16 at(const float* values, std::int64_t t) const {
    return widened(part.load(values + t * stride));
  }
  /// The sum of a constant has no rounding in double precision, so that its deviations are exactly zero.
  FOVEA_INLINE Wide16 mean(const float* values) const {
    Wide16 sum{};
    for (std::int64_t t = 0; t < frames; ++t) {
      const Wide16 value = at(values, t);
      sum = each_part([&](int i) { return sum.v[i] + value.v[i]; });
    }
    return each_part([&](int i) { return sum.v[i] / static_cast<double>(frames); });
  }
};

/// Correlations over time of up to 16 neurons of one batch item, and their slopes; in double precision,
/// because the slopes are differences of nearly equal numbers where the prediction hardly varies, and every
/// rounding before the last one would be magnified.
template <class Part>
FOVEA_INLINE F16 correlate(float* slope, const SeriesPair<Part>& pair, double eps, double factor) {
  const double frames = static_cast<double>(pair.frames);
  const Wide16 mean_x = pair.mean(pair.x), mean_y = pair.mean(pair.y);
  Wide16 xx{}, yy{}, xy{};
  for (std::int64_t t = 0; t < pair.frames; ++t) {
    const Wide16 x = pair.at(pair.x, t), y = pair.at(pair.y, t);
    FOVEA_UNROLL_PARTS
    for (int i = 0; i < Wide16::parts; ++i) {
      const WideVector dx = x.v[i] - mean_x.v[i], dy = y.v[i] - mean_y.v[i];
      xx.v[i] += dx * dx;
      yy.v[i] += dy * dy;
      xy.v[i] += dx * dy;
    }
  }
  Wide16 r, scale, pull;
  FOVEA_UNROLL_PARTS
  for (int i = 0; i < Wide16::parts; ++i) {
    const WideVector wide_x = xx.v[i] / frames + eps, wide_y = yy.v[i] / frames + eps;
    // A constant has no correlation: 0, also without eps.
    const WideBits undefined = (wide_x == 0.0) | (wide_y == 0.0);
    scale.v[i] = select(undefined, wide(0), 1.0 / sqrt(wide_x) / sqrt(wide_y));
    r.v[i] = xy.v[i] / frames * scale.v[i];
    pull.v[i] = select(undefined, wide(0), r.v[i] / wide_x);
  }
  // What rounding takes from one slope the next one gets: their sum, zero but for that, stays zero.
  Wide16 carry{};
  for (std::int64_t t = 0; slope && t < pair.frames; ++t) {
    const Wide16 x = pair.at(pair.x, t), y = pair.at(pair.y, t);
    const Wide16 exact = each_part([&](int i) {
      const WideVector dx = x.v[i] - mean_x.v[i], dy = y.v[i] - mean_y.v[i];
      return factor / frames * (dy * scale.v[i] - dx * pull.v[i]) + carry.v[i];
    });
    const F16 rounded = narrowed(exact);
    const Wide16 kept = widened(rounded);
    carry = each_part([&](int i) { return exact.v[i] - kept.v[i]; });
    pair.part.save(slope + t * pair.stride, rounded);
  }
  return narrowed(r);
}

void correlation(float* value, float* slope, const float* output, const float* target, const LossShape& s,
                 const CorrelationOptions& options, const Queue& queue) {
  const double factor = options.sign * reduction_factor(s, s.batch);
  const Scratch correlations(queue, s.batch * s.neurons);
  const std::int64_t vectors = (s.neurons + 15) / 16, lag = s.target_frames - s.frames;
  for_each_task(queue, s.batch * vectors, [&](std::int64_t task, int) {
    const std::int64_t b = task / vectors, begin = task % vectors * 16;
    const std::int64_t end = begin + 16 < s.neurons ? begin + 16 : s.neurons;
    for_each_vector(begin, end, [&](std::int64_t n, auto part) {
      const std::int64_t at = b * s.frames * s.neurons + n;
      const float* y = target + (b * s.target_frames + lag) * s.neurons + n;
      const SeriesPair<decltype(part)> pair{output + at, y, s.frames, s.neurons, part};
      part.save(correlations.data + b * s.neurons + n,
                correlate(slope ? slope + at : nullptr, pair, options.eps, factor));
    });
  });
  finish(value, correlations.data, s.batch, factor, s);
}

template <class Part>
FOVEA_INLINE void scale_part(float* dx, const float* slope, F16 upstream, Write mode, Part part) {
  const F16 d = mul(upstream, part.load(slope));
  part.save(dx, mode == Write::accumulate ? add(part.load(dx), d) : d);
}

void scale_slope(float* dx, const float* slope, const float* upstream, std::int64_t count,
                 std::int64_t groups, Write mode, const Queue& queue) {
  if (groups == 1) {
    const F16 factor = F16::broadcast(*upstream);
    for_each_chunk(queue, count, chunk_floats, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
      for_each_vector(begin, end,
                      [&](std::int64_t i, auto part) { scale_part(dx + i, slope + i, factor, mode, part); });
    });
    return;
  }
  for_each_chunk(queue, (count + groups - 1) / groups, block_rows,
                 [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
                   for (std::int64_t row = begin; row < end; ++row) {
                     const std::int64_t at = row * groups, width = at + groups < count ? groups : count - at;
                     for_each_vector(0, width, [&](std::int64_t n, auto part) {
                       scale_part(dx + at + n, slope + at + n, part.load(upstream + n), mode, part);
                     });
                   }
                 });
}

}  // namespace

void fill(LossKernels<float>& table) { table = {poisson, correlation, scale_slope}; }

}  // namespace fovea::FOVEA_ISA_NAMESPACE

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

/// sum over frames of term(frame), blocks of frames first.
template <class Term>
FOVEA_INLINE F16 sum_over_frames(std::int64_t frames, const Term& term) {
  F16 total = F16::zero();
  for (std::int64_t begin = 0; begin < frames; begin += block_rows) {
    F16 block = F16::zero();
    for (std::int64_t t = begin; t < frames && t < begin + block_rows; ++t) block = term(t, block);
    total = add(total, block);
  }
  return total;
}

/// Correlations over time of up to 16 neurons of one batch item (x, y at its first frame), and their slopes.
template <class Part>
FOVEA_INLINE F16 correlate(float* slope, const float* x, const float* y, const LossShape& s, float eps_value,
                           double factor, Part part) {
  const F16 count = F16::broadcast(static_cast<float>(s.frames)), eps = F16::broadcast(eps_value),
            zero = F16::zero();
  const auto frame = [&](const float* values, std::int64_t t) { return part.load(values + t * s.neurons); };
  // The first frame is subtracted before summing: the deviations of a constant are exactly zero.
  const auto mean = [&](const float* values) {
    const F16 first = frame(values, 0);
    const F16 sum =
        sum_over_frames(s.frames, [&](auto t, F16 to) { return add(to, sub(frame(values, t), first)); });
    return add(first, div(sum, count));
  };
  const F16 mean_x = mean(x), mean_y = mean(y);
  // The deviations from a rounded mean add up to rounding errors of the mean's size, large beside the
  // deviations of a prediction that hardly varies; so would their sum in the gradients.
  const auto rest = [&](const float* values, F16 mean_value) {
    return div(
        sum_over_frames(s.frames, [&](auto t, F16 to) { return add(to, sub(frame(values, t), mean_value)); }),
        count);
  };
  const F16 rest_x = rest(x, mean_x), rest_y = rest(y, mean_y);
  const auto dx = [&](std::int64_t t) { return sub(sub(frame(x, t), mean_x), rest_x); };
  const auto dy = [&](std::int64_t t) { return sub(sub(frame(y, t), mean_y), rest_y); };
  const F16 var_x =
      div(sum_over_frames(s.frames, [&](auto t, F16 to) { return madd(dx(t), dx(t), to); }), count);
  const F16 var_y =
      div(sum_over_frames(s.frames, [&](auto t, F16 to) { return madd(dy(t), dy(t), to); }), count);
  const F16 both =
      div(sum_over_frames(s.frames, [&](auto t, F16 to) { return madd(dx(t), dy(t), to); }), count);
  const F16 wide_x = add(var_x, eps), wide_y = add(var_y, eps);
  const auto unless_undefined = [&](F16 value) {  // a constant has no correlation: 0, also without eps
    return select(equal(wide_x, zero), zero, select(equal(wide_y, zero), zero, value));
  };
  const F16 scale = unless_undefined(div(div(F16::broadcast(1.0f), sqrt(wide_x)), sqrt(wide_y)));
  const F16 r = mul(both, scale);
  if (slope) {
    const F16 per_frame = F16::broadcast(static_cast<float>(factor / static_cast<double>(s.frames)));
    const F16 pull = unless_undefined(div(r, wide_x));
    for (std::int64_t t = 0; t < s.frames; ++t)
      part.save(slope + t * s.neurons, mul(per_frame, sub(mul(dy(t), scale), mul(dx(t), pull))));
  }
  return r;
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
      part.save(correlations.data + b * s.neurons + n,
                correlate(slope ? slope + at : nullptr, output + at, y, s, static_cast<float>(options.eps),
                          factor, part));
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

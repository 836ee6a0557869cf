#include "data/simulated_trials.hpp"

#include <algorithm>
#include <cmath>

#include "data/random_draws.hpp"
#include "fovea/random.hpp"

namespace fovea {
namespace {

struct Tier {
  const char* name;
  std::int64_t images, repeats;
};

std::vector<Tier> tiers_of(const SimulatedCortexOptions& options, std::size_t session) {
  std::vector<Tier> tiers{{"test", options.test_images, options.repeats},
                          {"train", options.frames, 1},
                          {"validation", std::max<std::int64_t>(1, options.frames / 10), 1}};
  if (cortex_sessions()[session].has_final_test)
    tiers.push_back({"final_test", options.test_images / 2, options.repeats});
  return tiers;
}

std::int64_t image_count(const SimulatedCortexOptions& options, std::size_t session) {
  std::int64_t count = 0;
  for (const Tier& tier : tiers_of(options, session)) count += tier.images;
  return count;
}

/// Random orders of one session; 0 names what the sessions share.
Random orders(const SimulatedCortexOptions& options, std::size_t number) {
  return Random(options.seed, static_cast<std::uint32_t>(CortexStream::orders),
                static_cast<std::uint32_t>(number));
}

/// Ids are as large and as mixed as those of a data base, and tell images of the sessions apart.
std::vector<std::int64_t> image_ids(const SimulatedCortexOptions& options, std::size_t session,
                                    Random& random) {
  constexpr std::int64_t smallest = 100, spread = 8;
  const std::int64_t tests = options.test_images, images = image_count(options, session);
  const auto kinds = static_cast<std::int64_t>(cortex_sessions().size()) + 1;  // test images, each session
  std::vector<std::int64_t> ids = orders(options, 0).permutation(spread * tests);
  ids.resize(static_cast<std::size_t>(tests));
  for (std::int64_t& id : ids) id = smallest + kinds * id;
  const std::vector<std::int64_t> others = random.permutation(spread * images);
  for (std::int64_t i = tests; i < images; ++i)
    ids.push_back(smallest + kinds * others[static_cast<std::size_t>(i)] +
                  static_cast<std::int64_t>(session) + 1);
  return ids;
}

/// A slow walk of unit variance (an autoregressive sequence of order one).
class Walk {
 public:
  Walk(const RandomKey& key, double memory) : draws_(key), memory_(memory), state_(draws_.normal()) {}
  double next() {
    const double now = state_;
    state_ = memory_ * state_ + std::sqrt(1 - memory_ * memory_) * draws_.normal();
    return now;
  }

 private:
  RandomDraws draws_;
  double memory_, state_;
};

/// To six decimals, so that the last bits of mathematical functions do not show.
double rounded(double value) { return std::round(value * 1e6) / 1e6; }

/// Pupil size drifts, its derivative follows it, the animal runs in bouts, the eye wanders: in the order of
/// the experiment.
Behavior draw_behavior(const SimulatedCortexOptions& options, std::size_t session, std::size_t trials) {
  const auto key = [&](std::uint32_t what) {
    return RandomKey{options.seed, static_cast<std::uint32_t>(CortexStream::behavior),
                     static_cast<std::uint32_t>(session), what};
  };
  Walk pupil(key(0), 0.97), running(key(1), 0.95), horizontal(key(2), 0.9), vertical(key(3), 0.9);
  RandomDraws jitter(key(4));
  std::vector<double> size(trials);
  for (double& value : size) value = 38 + 9 * pupil.next();
  Behavior behavior;
  for (std::size_t i = 0; i < trials; ++i) {
    const std::size_t before = i == 0 ? 0 : i - 1, after = std::min(i + 1, trials - 1);
    const double derivative = (size[after] - size[before]) / static_cast<double>(after - before);
    const double speed =
        9 * std::pow(std::max(running.next() - 0.3, 0.0), 1.5) + 0.05 * std::abs(jitter.normal());
    for (const double value : {size[i], derivative, speed}) behavior.body.push_back(rounded(value));
    behavior.pupil_center.push_back(rounded(205 + 14 * horizontal.next()));
    behavior.pupil_center.push_back(rounded(172 + 8 * vertical.next()));
  }
  return behavior;
}

/// From the order of the experiment to that of the files: time[i] says when the trial of file i was.
std::vector<double> reordered(const std::vector<double>& values, const std::vector<std::size_t>& time) {
  const std::size_t columns = values.size() / time.size();
  std::vector<double> result;
  result.reserve(values.size());
  for (const std::size_t t : time)
    for (std::size_t c = 0; c < columns; ++c) result.push_back(values[t * columns + c]);
  return result;
}

/// For each entry, how many are smaller.
std::vector<std::size_t> ranks(const std::vector<std::int64_t>& values) {
  std::vector<std::int64_t> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::size_t> result;
  result.reserve(values.size());
  for (const std::int64_t value : values)
    result.push_back(
        static_cast<std::size_t>(std::lower_bound(sorted.begin(), sorted.end(), value) - sorted.begin()));
  return result;
}

}  // namespace

std::vector<std::size_t> SimulatedTrials::of_tier(const std::string& tier) const {
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < tiers.size(); ++i)
    if (tiers[i] == tier) result.push_back(i);
  return result;
}

SimulatedTrials draw_trials(const SimulatedCortexOptions& options, std::size_t session) {
  struct Shown {
    const char* tier;
    std::int64_t image;
  };
  std::vector<Shown> shown;
  std::int64_t first = 0;
  for (const Tier& tier : tiers_of(options, session)) {
    for (std::int64_t repeat = 0; repeat < tier.repeats; ++repeat)
      for (std::int64_t i = 0; i < tier.images; ++i) shown.push_back({tier.name, first + i});
    first += tier.images;
  }
  Random random = orders(options, session + 1);
  const auto count = static_cast<std::int64_t>(shown.size());
  const std::vector<std::int64_t> mixed = random.permutation(count);
  SimulatedTrials trials;
  trials.order = random.permutation(2 * count);
  trials.order.resize(shown.size());
  const std::vector<std::int64_t> ids = image_ids(options, session, random);
  for (const std::int64_t i : mixed) {
    const Shown& trial = shown[static_cast<std::size_t>(i)];
    trials.tiers.emplace_back(trial.tier);
    trials.image.push_back(trial.image);
    trials.id.push_back(ids[static_cast<std::size_t>(trial.image)]);
  }
  const Behavior in_time = draw_behavior(options, session, shown.size());
  const std::vector<std::size_t> time = ranks(trials.order);
  trials.behavior = {reordered(in_time.body, time), reordered(in_time.pupil_center, time)};
  return trials;
}

std::vector<std::uint8_t> session_images(const SimulatedCortexOptions& options, std::size_t session) {
  std::vector<std::uint8_t> images =
      natural_textures(options.test_images, options.height, options.width, options.seed, 0);
  const std::vector<std::uint8_t> own =
      natural_textures(image_count(options, session) - options.test_images, options.height, options.width,
                       options.seed, static_cast<std::uint32_t>(session) + 1);
  images.insert(images.end(), own.begin(), own.end());
  return images;
}

}  // namespace fovea

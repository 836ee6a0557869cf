#include "data/static_selection.hpp"

#include <algorithm>

#include "data/legacy_random.hpp"

namespace fovea {
namespace {

bool is_one_of(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// numpy's legacy generator with base seed times count, as the reference seeds it.
std::vector<std::int64_t> drawn(const char* field, std::int64_t base_seed, std::int64_t count,
                                std::int64_t population, std::int64_t size) {
  std::int64_t seed = 0;
  constexpr std::int64_t most = 0xffffffff;
  if (__builtin_mul_overflow(base_seed, count, &seed) || seed < 0 || seed > most)
    throw ConfigError("data", text(field, ": the base seed times the count must lie in 0 .. ", most, ": ",
                                   base_seed, " x ", count));
  return LegacyRandom(static_cast<std::uint32_t>(seed)).choice(population, size, false);
}

/// The id list of a path; null where there is none.
const std::vector<std::int64_t>* list_of(const std::vector<std::optional<std::vector<std::int64_t>>>& lists,
                                         std::size_t path) {
  return path < lists.size() && lists[path] ? &*lists[path] : nullptr;
}

void need(const std::vector<std::string>& values, const std::string& session, const char* option,
          const char* file) {
  if (values.empty())
    throw FormatError("sensorium",
                      text("session ", session, ": ", option, " needs meta/", file, ", which is missing"));
}

std::int64_t position_of(const std::vector<std::string>& ids, const std::string& id) {
  const auto found = std::find(ids.begin(), ids.end(), id);
  return found == ids.end() ? -1 : found - ids.begin();
}

std::vector<std::int64_t> drawn_neurons(const std::string& session, const NeuronMeta& meta,
                                        const StaticDataOptions& options) {
  need(meta.unit_ids, session, "neuron_n", "neurons/unit_ids.npy");
  const std::int64_t size = options.exclude_neuron_n + *options.neuron_n;
  if (size > meta.count)
    throw ConfigError("data", text("neuron_n: session ", session, " has ", meta.count,
                                   " neurons, exclude_neuron_n + neuron_n is ", size));
  const auto order =
      drawn("neuron_base_seed", *options.neuron_base_seed, *options.neuron_n, meta.count, size);
  std::vector<std::int64_t> chosen;
  // The reference draws ids and looks for the first neuron of each.
  for (auto i = static_cast<std::size_t>(options.exclude_neuron_n); i < order.size(); ++i)
    chosen.push_back(position_of(meta.unit_ids, meta.unit_ids[static_cast<std::size_t>(order[i])]));
  return chosen;
}

std::vector<std::int64_t> listed_neurons(const std::string& session, const NeuronMeta& meta,
                                         const std::vector<std::int64_t>& ids) {
  need(meta.unit_ids, session, "neuron_ids", "neurons/unit_ids.npy");
  std::vector<std::int64_t> chosen;
  for (const std::int64_t id : ids) {
    chosen.push_back(position_of(meta.unit_ids, std::to_string(id)));
    if (chosen.back() < 0)
      throw ConfigError("data", text("neuron_ids: session ", session, " has no unit id ", id));
  }
  return chosen;
}

/// The first trial of every listed image, which must be for training.
std::vector<std::int64_t> listed_trials(const std::string& session, const TrialMeta& meta,
                                        const std::vector<std::int64_t>& ids) {
  std::vector<std::int64_t> chosen;
  for (const std::int64_t id : ids) {
    const std::int64_t trial = position_of(meta.image_ids, std::to_string(id));
    if (trial < 0) throw ConfigError("data", text("image_ids: session ", session, " has no image ", id));
    if (const std::string& tier = meta.tiers[static_cast<std::size_t>(trial)]; tier != "train")
      throw ConfigError("data", text("image_ids: image ", id, " of session ", session,
                                     " must be of the tier train: ", tier));
    chosen.push_back(trial);
  }
  return chosen;
}

std::vector<std::int64_t> drawn_trials(const std::string& session, const std::vector<std::int64_t>& training,
                                       const StaticDataOptions& options) {
  const auto count = static_cast<std::int64_t>(training.size());
  if (*options.image_n > count)
    throw ConfigError(
        "data", text("image_n: session ", session, " has ", count, " training images: ", *options.image_n));
  std::vector<std::int64_t> chosen;
  for (const std::int64_t i :
       drawn("image_base_seed", *options.image_base_seed, *options.image_n, count, *options.image_n))
    chosen.push_back(training[static_cast<std::size_t>(i)]);
  return chosen;
}

}  // namespace

std::vector<std::int64_t> choose_neurons(const std::string& session, const NeuronMeta& meta,
                                         const StaticDataOptions& options, std::size_t path) {
  std::vector<std::int64_t> chosen;
  if (options.neuron_n) {
    chosen = drawn_neurons(session, meta, options);
  } else if (const auto* ids = list_of(options.neuron_ids, path)) {
    chosen = listed_neurons(session, meta, *ids);
  } else {
    if (!options.areas.empty()) need(meta.areas, session, "areas", "neurons/area.npy");
    if (!options.layers.empty()) need(meta.layers, session, "layers", "neurons/layer.npy");
    for (std::int64_t n = 0; n < meta.count; ++n) {
      const auto at = static_cast<std::size_t>(n);
      if ((options.areas.empty() || is_one_of(options.areas, meta.areas[at])) &&
          (options.layers.empty() || is_one_of(options.layers, meta.layers[at])))
        chosen.push_back(n);
    }
  }
  if (chosen.empty())
    throw ConfigError("data",
                      text("session ", session, " has ", meta.count, " neurons, of which none is chosen"));
  return chosen;
}

std::array<std::vector<std::int64_t>, all_tiers.size()> choose_trials(const std::string& session,
                                                                      const TrialMeta& meta,
                                                                      const StaticDataOptions& options,
                                                                      std::size_t path) {
  std::array<std::vector<std::int64_t>, all_tiers.size()> trials;
  if (!options.image_condition.empty())
    need(meta.image_classes, session, "image_condition", "trials/*image_class.npy");
  for (std::size_t tier = 0; tier < trials.size(); ++tier)
    for (std::size_t i = 0; i < meta.tiers.size(); ++i)
      if (meta.tiers[i] == to_string(all_tiers[tier]) &&
          (options.image_condition.empty() || is_one_of(options.image_condition, meta.image_classes[i])))
        trials[tier].push_back(static_cast<std::int64_t>(i));
  std::vector<std::int64_t>& training = trials[static_cast<std::size_t>(Tier::train)];
  if (const auto* ids = list_of(options.image_ids, path)) {
    training = listed_trials(session, meta, *ids);
  } else if (options.image_n) {
    training = drawn_trials(session, training, options);
  }
  return trials;
}

}  // namespace fovea

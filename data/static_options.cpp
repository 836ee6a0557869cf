#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "fovea/static_data.hpp"
#include "models/parameters.hpp"

namespace fovea {

std::string to_string(Tier tier) {
  constexpr const char* names[] = {"train", "validation", "test", "final_test"};
  return names[static_cast<std::size_t>(tier)];
}

Tier parse_tier(const std::string& name) {
  std::vector<std::string> known;
  for (const Tier tier : all_tiers) {
    if (to_string(tier) == name) return tier;
    known.push_back(to_string(tier));
  }
  refuse_name("data", "tier", name, known);
}

namespace {

void require(bool holds, const std::string& field, const std::string& rule, const std::string& value) {
  if (!holds) throw ConfigError("data", text(field, ": ", rule, ": ", value));
}

void check_ranges(const StaticDataOptions& options) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  const auto in_range = [&](const char* field, const std::optional<std::int64_t>& value, std::int64_t least) {
    if (value)
      require(*value >= least && *value <= most, field, text("must lie in ", least, " .. ", most),
              text(*value));
  };
  in_range("batch_size", options.batch_size, 1);
  in_range("select_input_channel", options.select_input_channel, 0);
  in_range("neuron_n", options.neuron_n, 1);
  in_range("neuron_base_seed", options.neuron_base_seed, 0);
  in_range("exclude_neuron_n", options.exclude_neuron_n, 0);
  in_range("image_n", options.image_n, 1);
  in_range("image_base_seed", options.image_base_seed, 0);
  constexpr std::int64_t most_readers = 64;
  require(options.readers >= 1 && options.readers <= most_readers, "readers",
          text("must lie in 1 .. ", most_readers), text(options.readers));
  require(std::isfinite(options.scale) && options.scale > 0 && options.scale <= 64, "scale",
          "must be above 0 and at most 64", text(options.scale));
}

void check_names(const StaticDataOptions& options) {
  require(!options.paths.empty(), "paths", "must name a folder or zip per session", "none");
  std::set<std::string> paths;
  for (const std::string& path : options.paths) {
    require(!path.empty(), "paths", "a path must not be empty", "''");
    require(paths.insert(path).second, "paths", "path twice", path);
  }
  const std::vector<std::string> fields{"images", "responses", "behavior", "pupil_center"};
  for (const std::string& field : options.exclude) check_name("data", "exclude", field, fields);
}

/// What `static_loader` refuses as well, and options that would be without effect.
void check_combinations(const StaticDataOptions& options) {
  const auto excludes = [](bool both, const char* field, const char* other) {
    require(!both, field, text("excludes ", other), "both are given");
  };
  const auto lists = [&](const char* field, const auto& given) {
    require(given.empty() || given.size() == options.paths.size(), field,
            text("must have one entry per path, ", options.paths.size()), text(given.size()));
    for (const auto& list : given) require(!list || !list->empty(), field, "a list must not be empty", "[]");
  };
  lists("neuron_ids", options.neuron_ids);
  lists("image_ids", options.image_ids);
  const bool neuron_ids = !options.neuron_ids.empty(), image_ids = !options.image_ids.empty();
  excludes(neuron_ids && options.neuron_n, "neuron_ids", "neuron_n");
  excludes(neuron_ids && options.neuron_base_seed, "neuron_ids", "neuron_base_seed");
  excludes(neuron_ids && options.exclude_neuron_n != 0, "neuron_ids", "exclude_neuron_n");
  excludes(neuron_ids && !options.areas.empty(), "neuron_ids", "areas");
  excludes(neuron_ids && !options.layers.empty(), "neuron_ids", "layers");
  excludes(image_ids && options.image_n, "image_ids", "image_n");
  excludes(image_ids && options.image_base_seed, "image_ids", "image_base_seed");
  excludes(image_ids && !options.image_condition.empty(), "image_ids", "image_condition");
  excludes(options.image_n && !options.image_condition.empty(), "image_n", "image_condition");
  const auto together = [](const auto& count, const auto& seed, const char* count_name,
                           const char* seed_name) {
    require(count.has_value() == seed.has_value(), count ? seed_name : count_name,
            text("is needed by ", count ? count_name : seed_name), "null");
  };
  together(options.neuron_n, options.neuron_base_seed, "neuron_n", "neuron_base_seed");
  together(options.image_n, options.image_base_seed, "image_n", "image_base_seed");
  require(options.exclude_neuron_n == 0 || options.neuron_n, "exclude_neuron_n", "needs neuron_n",
          text(options.exclude_neuron_n));
  excludes(options.include_behavior && options.select_input_channel.value_or(0) != 0, "select_input_channel",
           "include_behavior");
  require(!options.add_eye_pos_as_channels || options.include_eye_position, "add_eye_pos_as_channels",
          "needs include_eye_position", "true");
}

}  // namespace

void check(const StaticDataOptions& options) {
  check_names(options);
  check_ranges(options);
  check_combinations(options);
}

}  // namespace fovea

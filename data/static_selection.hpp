// Which neurons and trials of a session are used: `static_loader`'s subsampling.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/file_tree.hpp"
#include "fovea/static_data.hpp"

namespace fovea {

/// Arrays of meta/neurons as far as options need them.
struct NeuronMeta {
  std::int64_t count = 0;
  std::vector<std::string> unit_ids, areas, layers;  ///< empty where the file is not there
};

/// Positions of the chosen neurons, in the order of the loader. ConfigError where there are not enough, an id
/// is unknown or nothing is left; FormatError where an option needs a file that is not there.
std::vector<std::int64_t> choose_neurons(const std::string& session, const NeuronMeta& meta,
                                         const StaticDataOptions& options, std::size_t path);

/// Arrays of meta/trials.
struct TrialMeta {
  std::vector<std::string> tiers, image_ids;
  std::vector<std::string> image_classes, trial_idx;  ///< empty where the file is not there
};

/// Trials of every tier by position.
std::array<std::vector<std::int64_t>, all_tiers.size()> choose_trials(const std::string& session,
                                                                      const TrialMeta& meta,
                                                                      const StaticDataOptions& options,
                                                                      std::size_t path);

}  // namespace fovea

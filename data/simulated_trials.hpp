// The trials of one session of a simulated cortex: which image is shown when, and what the animal does.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/simulated_cortex.hpp"

namespace fovea {

/// Trials in the order of the files, tiers mixed.
struct SimulatedTrials {
  std::vector<std::string> tiers;   ///< [T] train, validation, test, final_test
  std::vector<std::int64_t> image;  ///< [T] index into the session's images
  std::vector<std::int64_t> id;     ///< [T] of the image
  std::vector<std::int64_t> order;  ///< [T] rises with the time of the trial; with gaps
  Behavior behavior;

  std::size_t size() const { return tiers.size(); }
  /// The trials of a tier.
  std::vector<std::size_t> of_tier(const std::string& tier) const;
};

/// Draws the trials of session `session` of cortex_sessions(). Its images are numbered: test first, then
/// training, validation, final test; test images have the same ids in both sessions, all others their own.
SimulatedTrials draw_trials(const SimulatedCortexOptions& options, std::size_t session);

/// The images [.., H, W] that its trials count; those of the test tier are the same in both sessions.
std::vector<std::uint8_t> session_images(const SimulatedCortexOptions& options, std::size_t session);

}  // namespace fovea

// The cells of a simulated retina as they are drawn from a seed, before their output is calibrated.
#pragma once
#include <cstdint>
#include <vector>

#include "data/simulated_retina.hpp"

namespace fovea {

/// Philox streams of a simulated retina, one for each thing that is drawn.
enum class RetinaStream : std::uint32_t { cells = 201, calibration, training_movie, test_movie, spikes };

/// Draws types, mosaics, filters and gains; mean, deviation and offset of the output are left to be
/// calibrated. The mean rate that each cell is to have under white noise, in spikes per frame, goes to
/// `mean_rates`.
std::vector<SimulatedCell> draw_cells(const SimulatedRetinaOptions& options, std::vector<double>& mean_rates);

}  // namespace fovea

// Recovered receptive fields beside the true ones of a simulated retina: numbers and a picture.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "fovea/tensor.hpp"

namespace fovea {

/// What ground_truth.safetensors of a simulated retina says.
struct RetinaGroundTruth {
  std::vector<std::string> cell_types;  ///< names of the types
  std::vector<int> cell_type;           ///< [N], index into cell_types
  std::vector<bool> in_model_class;     ///< [N]
  std::vector<double> noise_ceiling;    ///< [N], correlation of the true rate with the mean over repeats
  Tensor receptive_fields;              ///< [N, L, H, W] f64, oldest frame first
  Tensor test_rates;                    ///< [N, T] f64, spikes per frame
};

/// Reads the file that simulate_retina wrote; FormatError naming the tensor that is missing or misshapen.
RetinaGroundTruth read_ground_truth(const std::string& path);

struct ReceptiveFieldComparison {
  std::vector<double> correlation;  ///< [N], over frames and pixels; 0 where a field is constant
  double in_class_mean = 0;         ///< mean over the cells of the model class, 0 when there are none
  double outside_mean = 0;          ///< mean over the others, 0 when there are none
  std::int64_t in_class_count = 0, outside_count = 0;
  std::vector<double> type_mean;  ///< mean by cell type, 0 for a type without cells
};

/// Pearson correlation of recovered fields [N, L', H, W] (f32 or f64, oldest frame first) with the true ones.
/// The newest frames are aligned, and frames that either side lacks count as zero. ShapeError when N, H or W
/// disagree; Error when a recovered value is not finite.
ReceptiveFieldComparison compare_receptive_fields(const Tensor& recovered, const RetinaGroundTruth& truth);

/// The recovered fields in the frames of the true ones, [N, L, H, W] in f64; errors as above.
Tensor align_receptive_fields(const Tensor& recovered, const RetinaGroundTruth& truth);

/// Writes one SVG with a panel per cell, a row per cell type: spatial maps, true and recovered, around the
/// true peak at its frame, and the time course of both at its pixel, fields scaled to unit norm. The same
/// input gives the same bytes; the file appears whole or not at all. Errors as above.
void write_receptive_field_picture(const std::string& path, const Tensor& recovered,
                                   const RetinaGroundTruth& truth);

}  // namespace fovea

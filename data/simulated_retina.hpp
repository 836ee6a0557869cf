// A simulated retina with known receptive fields: what `fovea simulate` writes, and the cells behind it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "fovea/tensor.hpp"

namespace fovea {

/// How a cell turns light into a firing rate.
///
/// Every cell starts from space-time separable filters of unit norm, so that its drive has unit variance
/// under binary white noise, and ends in the rate r = softplus(gain * elu(x) + offset), in spikes per frame,
/// that a CoreReadout layer computes. In between:
/// - linear: x = g, one filter with its centre on a pixel: inside the model class of a one-layer CoreReadout.
/// - subunits: x = (sum_j weight_j relu(g_j) - mean) / deviation, rectified subunits as in Y cells
///   (Hochstein & Shapley 1976): outside it.
/// - gain_control: x = g (1 + k) / (1 + k c), where c follows g^2 with a delay of one frame and an
/// exponential
///   memory (contrast gain control, Shapley & Victor 1978): outside it.
enum class CellKind { linear, subunits, gain_control };

struct Subunit {
  double weight = 1;
  std::vector<double> spatial;  ///< [H, W], unit norm
};

struct SimulatedCell {
  CellKind kind = CellKind::linear;
  int type = 0;                                ///< index into cell_type_names()
  int polarity = 1;                            ///< +1 ON, -1 OFF
  double row = 0, column = 0;                  ///< centre in pixels, 0 in the middle of the first pixel
  std::vector<double> temporal;                ///< [L], oldest frame first, unit norm
  std::vector<Subunit> subunits;               ///< one, of weight 1, unless kind is subunits
  double drive_mean = 0, drive_deviation = 1;  ///< of the summed subunits, see CellKind
  double contrast_strength = 0, contrast_memory = 0;  ///< k, and c's decay per frame in [0, 1), see CellKind
  double gain = 1, offset = 0;                        ///< of the output nonlinearity

  bool in_model_class() const { return kind == CellKind::linear; }
};

/// "ON transient", "OFF transient", "ON sustained", "OFF sustained", "ON subunits", "OFF subunits", "ON gain
/// control", "OFF gain control".
const std::vector<std::string>& cell_type_names();

struct SimulatedRetinaOptions {
  std::int64_t neurons = 48;             ///< at least 1; types alternate, two cells in three are linear
  std::int64_t frames = 24000;           ///< of the training movie, at least 1000
  std::int64_t test_frames = 1500;       ///< of the repeated movie, at least 100
  std::int64_t repeats = 20;             ///< at least 2
  std::int64_t height = 24, width = 24;  ///< at least 16 each
  std::uint64_t seed = 42;
};

/// A population of cells and its answers. Movies are [T, H, W] in f32 on the CPU; the frames before the first
/// are grey (0) and the contrast measure starts at its mean under white noise, 1.
class SimulatedRetina {
 public:
  static constexpr std::int64_t kernel_frames = 21;  ///< L, frames of stimulus a filter sees
  static constexpr double frame_rate = 30;           ///< Hz

  /// Draws the cells; ConfigError when an option is out of range.
  explicit SimulatedRetina(const SimulatedRetinaOptions& options);

  const std::vector<SimulatedCell>& cells() const { return cells_; }
  std::int64_t height() const { return height_; }
  std::int64_t width() const { return width_; }

  /// Expected spikes per frame, [N, T] in f64.
  Tensor rates(const Tensor& movie) const;
  /// Gradient of the rate at frame t with respect to pixels of the frames t-L+1 .. t, oldest first, averaged
  /// over the frames t = L-1 .. T-1 whose window lies inside the movie: [N, L, H, W] in f64. Exact for every
  /// kind of cell.
  Tensor receptive_fields(const Tensor& movie) const;

 private:
  std::vector<std::vector<double>> subunit_drives(const SimulatedCell& cell, const Tensor& movie) const;
  void calibrate(SimulatedCell& cell, double mean_rate, const Tensor& movie) const;

  std::int64_t height_, width_;
  std::vector<SimulatedCell> cells_;
};

/// Spatiotemporal binary white noise of -1 and +1, [T, H, W] in f32; `stream` tells movies of one seed apart.
Tensor binary_white_noise(std::int64_t frames, std::int64_t height, std::int64_t width, std::uint64_t seed,
                          std::uint32_t stream);
/// Independent Poisson counts with the given means (any shape, f64), i64; `trial` tells repeats apart.
Tensor poisson_counts(const Tensor& means, std::uint64_t seed, std::uint32_t trial);

/// Writes a recording of a simulated retina as an openretina_hdf5 directory (formats.md, 2.1), the same bytes
/// for the same options:
///   stimuli/wn_train.npy, stimuli/wn_test.npy   [1, T, H, W] int8, binary white noise of -1 and +1
///   simulated_retina.h5                         responses_wn_train [N, T] Poisson counts, uint16;
///   responses_wn_test
///                                               [N, T] mean over repeats, f32; responses_by_trial_wn_test
///                                               [R, N, T] counts, uint16; session_info/{cell_type, polarity,
///                                               in_model_class, center_yx_px, mean_rate_hz, frame_rate_hz}
///   ground_truth.safetensors                    see docs/simulated_retina.md
/// The directory is made if need be and must be empty (Error otherwise); its files appear together at the
/// end. Throws ConfigError when an option is out of range, Error when the system refuses.
void simulate_retina(const SimulatedRetinaOptions& options, const std::string& directory);

}  // namespace fovea

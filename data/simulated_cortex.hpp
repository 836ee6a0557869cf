// A simulated mouse visual cortex with known receptive fields: what `fovea simulate --format sensorium`
// writes, and the cells behind it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace fovea {

struct SimulatedCortexOptions {
  std::int64_t neurons = 40;             ///< of the first session, at least 1; the second has a twelfth less
  std::int64_t frames = 400;             ///< training trials of each session, at least 10
  std::int64_t test_images = 20;         ///< at least 2; the second session's final test has half as many
  std::int64_t repeats = 10;             ///< trials of each test image, at least 1
  std::int64_t height = 36, width = 64;  ///< of the images in pixels, at least 16 each
  std::uint64_t seed = 42;
};

/// ConfigError when an option is out of range.
void check(const SimulatedCortexOptions& options);

/// Philox streams of a simulated cortex, one for each thing that is drawn.
enum class CortexStream : std::uint32_t { cells = 301, textures, orders, behavior, responses, anatomy };

/// One of the two sessions, by the numbers that make its key.
struct CortexSession {
  std::int64_t animal, session, scan;
  bool has_final_test;
  std::string key() const;  ///< "<animal>-<session>-<scan>"
};
const std::vector<CortexSession>& cortex_sessions();

/// Pixels down and right.
struct PixelShift {
  double down = 0, right = 0;
};

/// A V1 cell that sees a pair of Gabor filters in quadrature around its centre.
struct CorticalCell {
  double row = 0,
         column = 0;  ///< centre in pixels where the eye is at its mean, 0 in the middle of the first
  double orientation = 0, wavelength = 1, phase = 0;  ///< of the carrier; radians, pixels, radians
  double spread = 1;                                  ///< standard deviation of the Gaussian window in pixels
  double complexity = 0;               ///< 0: half-rectified simple cell, 1: energy of the pair
  double exponent = 1;                 ///< of the output nonlinearity
  double size_gain = 0, run_gain = 0;  ///< log gain by pupil size and by running
  double base = 0, amplitude = 1;      ///< events a trial without a drive, and their increase by a mean drive
  double scale = 1;                    ///< unit of the response, per event

  std::int64_t top = 0, left = 0, rows = 0, columns = 0;  ///< the part of the image that the filters see
  std::vector<double> even, odd;                          ///< [rows, columns], zero mean, unit norm
};

/// What the animal does in each trial.
struct Behavior {
  std::vector<double> body;          ///< [T, 3] pupil size, its derivative, running speed
  std::vector<double> pupil_center;  ///< [T, 2] horizontal, vertical
};

/// The cells of one session and their answers. With I the image, s the shift of a trial:
///   even, odd = sum over the filters of I(y + s.down, x + s.right), bilinear, edges repeated
///   drive     = (1 - complexity) max(even, 0) + complexity sqrt(even^2 + odd^2)
///   d         = (drive / its mean over the trials)^exponent, divided by its own mean
///   events    = exp(size_gain * z(pupil size) + run_gain * tanh(speed / 9)) (base + amplitude d), at most 60
///   response  = scale * (Gamma-distributed sum of Poisson(events) events of mean 1 + floor * Exp(1))
/// with the eye's position in standard deviations, at most 2.5, times 1.8 px (at a width of 64) right and
/// 1.1 px (at a height of 36) down as the shift.
class SimulatedCortex {
 public:
  static constexpr double floor = 0.02;  ///< mean of what a silent trial shows, in events

  /// Draws the cells of session `session` of cortex_sessions(); ConfigError when an option is out of range.
  SimulatedCortex(const SimulatedCortexOptions& options, std::size_t session);

  const std::vector<CorticalCell>& cells() const { return cells_; }

  /// Where the receptive fields are in each trial, relative to the cells' centres.
  std::vector<PixelShift> shifts(const Behavior& behavior) const;
  /// [N] for one image [H, W].
  std::vector<double> drives(const std::uint8_t* image, const PixelShift& shift) const;
  /// Expected events [T, N]; image_of_trial [T] are indices into images [.., H, W].
  std::vector<double> events(const std::vector<std::uint8_t>& images,
                             const std::vector<std::int64_t>& image_of_trial, const Behavior& behavior) const;
  /// The mean responses [T, N] that go with them.
  std::vector<double> expected_responses(std::vector<double> events) const;
  /// Responses [T, N] drawn for the expected events of all trials.
  std::vector<float> respond(const std::vector<double>& events) const;

 private:
  std::uint64_t seed_;
  std::uint32_t session_;
  std::int64_t height_, width_;
  std::vector<CorticalCell> cells_;
};

/// `count` images [count, H, W] with the statistics of natural scenes: noise with an amplitude of 1 /
/// frequency under a smooth envelope of contrast, of mean 113 and standard deviation about 55. `set` tells
/// images of one seed apart; each image is a draw of its own.
std::vector<std::uint8_t> natural_textures(std::int64_t count, std::int64_t height, std::int64_t width,
                                           std::uint64_t seed, std::uint32_t set);

/// Writes two sessions of one simulated cortex as sensorium_static folders (formats.md, 2.2), the same bytes
/// for the same options, and ground_truth.safetensors; see docs/simulated_cortex.md.
/// The directory is made if need be and must be empty (Error otherwise); its files appear together at the
/// end. Throws ConfigError when an option is out of range, Error when the system refuses.
void simulate_cortex(const SimulatedCortexOptions& options, const std::string& directory);

}  // namespace fovea

// Responses to static images in the layout of the Sensorium 2022 competition, and the loaders of its readers.
// Reference: `static_loaders` of sinzlab/sensorium and the transforms of neuralpredictors 0.3.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fovea/model.hpp"
#include "fovea/stored_array.hpp"

namespace fovea {

enum class Tier { train, validation, test, final_test };
inline constexpr std::array all_tiers{Tier::train, Tier::validation, Tier::test, Tier::final_test};
std::string to_string(Tier tier);  ///< as the files say it: "final_test"
/// ConfigError with the known ones for another name.
Tier parse_tier(const std::string& name);

/// Fields of `data:` for `format: sensorium_static`, by their names there, with their defaults.
struct StaticDataOptions {
  std::vector<std::string> paths{};      ///< a folder or zip per session
  std::int64_t batch_size = 64;          ///< images of a batch; the last one of a tier may have fewer
  bool normalize = true;                 ///< by the statistics of the data set
  std::vector<std::string> exclude{};    ///< images, responses, behavior, pupil_center: not normalised
  bool include_behavior = false;         ///< pupil size, its derivative, running speed
  bool include_eye_position = true;      ///< pupil centres
  bool add_behavior_as_channels = true;  ///< behaviour as constant planes behind the image's channels
  bool add_eye_pos_as_channels = false;  ///< pupil centre as constant planes behind those
  double scale = 1;                      ///< of height and width
  std::optional<std::int64_t> select_input_channel{};  ///< keeps this channel only
  std::optional<std::int64_t> neuron_n{};          ///< this many neurons, drawn; areas and layers are ignored
  std::optional<std::int64_t> neuron_base_seed{};  ///< needed by neuron_n
  std::int64_t exclude_neuron_n = 0;               ///< leaves out this many of those drawn first
  std::vector<std::optional<std::vector<std::int64_t>>> neuron_ids{};  ///< unit ids per path, in this order
  std::vector<std::string> areas{}, layers{};                          ///< empty: all
  std::optional<std::int64_t> image_n{};                               ///< this many training images, drawn
  std::optional<std::int64_t> image_base_seed{};                       ///< needed by image_n
  std::vector<std::optional<std::vector<std::int64_t>>>
      image_ids{};                             ///< training images per path: first trials
  std::vector<std::string> image_condition{};  ///< image classes, in all tiers; empty: all
  std::int64_t readers = 1;                    ///< threads that read ahead
};

/// Throws ConfigError naming the first field that is out of range or excludes another one, with its value.
void check(const StaticDataOptions& options);

/// One trial as a model sees it; only what the options include is filled.
struct StaticTrial {
  std::vector<double> image;         ///< (H,W,C)
  std::vector<double> responses;     ///< (N)
  std::vector<double> behavior;      ///< (3)
  std::vector<double> pupil_center;  ///< (2)
};

/// Trials as tensors; what the options do not include is undefined.
struct StaticBatch {
  Tensor images;        ///< (B,H,W,C)
  Tensor responses;     ///< (B,N)
  Tensor behavior;      ///< (B,3)
  Tensor pupil_center;  ///< (B,2)
};

/// One recording. Copies share its files.
class StaticSession {
 public:
  /// Opens session `index` of options.paths: names, tiers, statistics and the shape of the first trial are
  /// read and every trial file is looked for. Errors name session, trial and file.
  StaticSession(const StaticDataOptions& options, std::size_t index);

  const std::string& key() const;   ///< "21067-10-18"
  const std::string& path() const;  ///< of the folder or zip
  std::int64_t n_neurons() const;   ///< chosen ones
  Shape image_shape() const;        ///< (C,H,W) of what `read` yields
  bool has_behavior() const;
  bool has_pupil_center() const;
  /// Trials of a tier, by the number of their files, in the order of the reference loader (training batches
  /// shuffle them).
  const std::vector<std::int64_t>& trials(Tier tier) const;
  const std::string& image_id(std::int64_t trial) const;
  std::string trial_idx(std::int64_t trial) const;        ///< the number of its files where there are none
  const std::vector<std::int64_t>& neuron_index() const;  ///< of the chosen neurons, in the files
  const std::vector<std::string>& unit_ids() const;  ///< of the chosen neurons; empty where there are none
  /// Mean response over the training tier in the unit of `read`, by the statistics of the data set; empty
  /// without normalisation.
  const std::vector<double>& mean_activity() const;
  /// Of images that are given to a model as they are stored; empty where there are none to be given: channels
  /// that are added, or no normalisation.
  std::optional<Normalization> stimulus_normalization() const;
  /// Columns [0, columns) of cell_motor_coordinates of the chosen neurons, (N, columns) row-major;
  /// FormatError where there are none.
  std::vector<double> cell_motor_coordinates(std::int64_t columns) const;
  const std::vector<std::string>& warnings() const;  ///< deviations of 0 or NaN that count as 1
  /// 16 hexadecimal digits over what was read and over names, sizes and (in a zip) checksums of trial files.
  const std::string& content_hash() const;

  /// Reads one trial; safe to call from several threads. FormatError naming session, trial and file for a
  /// damaged one, another shape than the first trial's, and a value in use that is not finite.
  void read(std::int64_t trial, StaticTrial& into) const;
  /// Some trials into the first rows of f32 or f64 tensors in host memory; fields that are undefined there
  /// are left out. Errors as above.
  void read(const std::vector<std::int64_t>& trials, const StaticBatch& into) const;
  /// The same into new tensors.
  StaticBatch read(const std::vector<std::int64_t>& trials, const Placement& placement) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

/// Sessions in the order of the paths.
struct StaticDataSet {
  StaticDataOptions options;
  std::vector<StaticSession> sessions;

  /// What a model is told of the sessions: no mean activity, because elu(bias) + 1 would be far above it.
  /// With `source_grid` each gets the first two columns of its cell_motor_coordinates as the source grid of a
  /// grid_mean_predictor.
  std::vector<SessionOptions> session_options(bool source_grid = false) const;
  std::string content_hash() const;  ///< over all sessions
};

/// ConfigError where two paths have the same key or images of different shapes.
StaticDataSet open_sensorium(const StaticDataOptions& options);

}  // namespace fovea

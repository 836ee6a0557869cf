// What `fovea simulate` writes: stimuli, a session of spike counts, and the ground truth behind them.
#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/hdf5_writer.hpp"
#include "data/npy_writer.hpp"
#include "data/pearson.hpp"
#include "data/simulated_cells.hpp"
#include "data/simulated_retina.hpp"
#include "data/staged_directory.hpp"
#include "engine/atomic_file.hpp"
#include "fovea/safetensors.hpp"

namespace fovea {
namespace {

struct Recording {
  Tensor training_movie, test_movie;           // [T, H, W] f32
  Tensor test_rates;                           // [N, T] f64
  std::vector<std::uint16_t> training_counts;  // [N, T]
  std::vector<std::uint16_t> trial_counts;     // [R, N, T]
  std::vector<float> mean_counts;              // [N, T]
  std::vector<double> mean_rates_hz;           // [N], of the training counts
};

void append_counts(const Tensor& counts, std::vector<std::uint16_t>& out) {
  for (const std::int64_t count : counts.to_vector<std::int64_t>()) {
    if (count > std::numeric_limits<std::uint16_t>::max())
      throw Error("simulate", text("a spike count must fit 16 bits: ", count));
    out.push_back(static_cast<std::uint16_t>(count));
  }
}

Recording record(const SimulatedRetina& retina, const SimulatedRetinaOptions& options) {
  Recording recording;
  const auto movie = [&](std::int64_t frames, RetinaStream stream) {
    return binary_white_noise(frames, options.height, options.width, options.seed,
                              static_cast<std::uint32_t>(stream));
  };
  recording.training_movie = movie(options.frames, RetinaStream::training_movie);
  recording.test_movie = movie(options.test_frames, RetinaStream::test_movie);
  append_counts(poisson_counts(retina.rates(recording.training_movie), options.seed, 0),
                recording.training_counts);
  recording.test_rates = retina.rates(recording.test_movie);
  const auto size = static_cast<std::size_t>(options.neurons * options.test_frames);
  std::vector<std::int64_t> sums(size, 0);
  for (std::int64_t repeat = 0; repeat < options.repeats; ++repeat) {
    const Tensor counts =
        poisson_counts(recording.test_rates, options.seed, static_cast<std::uint32_t>(repeat + 1));
    append_counts(counts, recording.trial_counts);
    for (std::size_t i = 0; i < size; ++i) sums[i] += counts.data<std::int64_t>()[i];
  }
  for (const std::int64_t sum : sums)
    recording.mean_counts.push_back(
        static_cast<float>(static_cast<double>(sum) / static_cast<double>(options.repeats)));
  for (std::int64_t n = 0; n < options.neurons; ++n) {
    const auto row = recording.training_counts.begin() + n * options.frames;
    double spikes = 0;
    for (auto count = row; count != row + options.frames; ++count) spikes += *count;
    recording.mean_rates_hz.push_back(spikes / static_cast<double>(options.frames) *
                                      SimulatedRetina::frame_rate);
  }
  return recording;
}

/// A movie of small integers [T, H, W] as a .npy file [1, T, H, W] in int8.
void write_movie(const std::string& path, const Tensor& movie) {
  std::vector<std::int8_t> values(static_cast<std::size_t>(movie.elements()));
  std::transform(movie.data<float>(), movie.data<float>() + movie.elements(), values.begin(),
                 [](float value) { return static_cast<std::int8_t>(value); });
  const Shape& shape = movie.shape();
  write_file_atomically(path, npy_file(values, {1, shape[0], shape[1], shape[2]}));
}

/// One number of each cell.
template <class T, class Get>
std::vector<T> of_each(const std::vector<SimulatedCell>& cells, const Get& get) {
  std::vector<T> values;
  values.reserve(cells.size());
  for (const SimulatedCell& cell : cells) values.push_back(static_cast<T>(get(cell)));
  return values;
}

std::vector<double> centers(const std::vector<SimulatedCell>& cells) {
  std::vector<double> values;
  for (const SimulatedCell& cell : cells) values.insert(values.end(), {cell.row, cell.column});
  return values;
}

void write_session(const std::string& path, const SimulatedRetina& retina,
                   const SimulatedRetinaOptions& options, const Recording& recording) {
  const auto& cells = retina.cells();
  const std::int64_t neurons = options.neurons;
  Hdf5Writer file(path);
  file.write("responses_wn_train", {neurons, options.frames}, recording.training_counts);
  file.write("responses_wn_test", {neurons, options.test_frames}, recording.mean_counts);
  file.write("responses_by_trial_wn_test", {options.repeats, neurons, options.test_frames},
             recording.trial_counts);
  file.group("session_info");
  std::vector<std::string> types;
  types.reserve(cells.size());
  for (const SimulatedCell& cell : cells)
    types.push_back(cell_type_names()[static_cast<std::size_t>(cell.type)]);
  file.write("session_info/cell_type", types);
  file.write("session_info/polarity", {neurons},
             of_each<std::int64_t>(cells, [](const SimulatedCell& cell) { return cell.polarity; }));
  file.write("session_info/in_model_class", {neurons},
             of_each<std::uint8_t>(cells, [](const SimulatedCell& cell) { return cell.in_model_class(); }));
  file.write("session_info/center_yx_px", {neurons, 2}, centers(cells));
  file.write("session_info/mean_rate_hz", {neurons}, recording.mean_rates_hz);
  file.write("session_info/frame_rate_hz", {}, std::vector<double>{SimulatedRetina::frame_rate});
  file.save();
}

/// Correlation of the true rate with the mean over repeats, over the frames a valid convolution can reach.
std::vector<double> noise_ceilings(const Recording& recording) {
  const std::int64_t neurons = recording.test_rates.shape()[0], frames = recording.test_rates.shape()[1];
  constexpr std::int64_t first = SimulatedRetina::kernel_frames - 1;
  std::vector<double> ceilings;
  for (std::int64_t n = 0; n < neurons; ++n) {
    const double* rate = recording.test_rates.data<double>() + n * frames;
    const float* mean = recording.mean_counts.data() + n * frames;
    ceilings.push_back(pearson(std::vector<double>(rate + first, rate + frames),
                               std::vector<double>(mean + first, mean + frames)));
  }
  return ceilings;
}

/// Spatial filters [N, H, W] of unit norm; of a cell with subunits, their weighted sum.
std::vector<double> spatial_filters(const std::vector<SimulatedCell>& cells) {
  std::vector<double> filters;
  for (const SimulatedCell& cell : cells) {
    std::vector<double> sum(cell.subunits.front().spatial.size(), 0.0);
    for (const Subunit& subunit : cell.subunits)
      for (std::size_t p = 0; p < sum.size(); ++p) sum[p] += subunit.weight * subunit.spatial[p];
    double energy = 0;
    for (const double value : sum) energy += value * value;
    for (const double value : sum) filters.push_back(value / std::sqrt(energy));
  }
  return filters;
}

Safetensors ground_truth(const SimulatedRetina& retina, const SimulatedRetinaOptions& options,
                         const Recording& recording) {
  const auto& cells = retina.cells();
  const Device device = cpu_device(1);
  const std::int64_t n = options.neurons, h = options.height, w = options.width;
  constexpr std::int64_t length = SimulatedRetina::kernel_frames;
  Safetensors truth;
  const auto add = [&](const char* name, const Shape& shape, const auto& values) {
    truth.tensors.emplace_back(name, Tensor::from(values, shape, device));
  };
  const auto add_number = [&](const char* name, double SimulatedCell::*member) {
    add(name, {n}, of_each<double>(cells, [&](const SimulatedCell& cell) { return cell.*member; }));
  };
  const auto add_integer = [&](const char* name, const auto& get) {
    add(name, {n}, of_each<std::int64_t>(cells, get));
  };

  truth.tensors.emplace_back("receptive_field", retina.receptive_fields(recording.test_movie));
  truth.tensors.emplace_back("test_rate", recording.test_rates);
  add("noise_ceiling", {n}, noise_ceilings(recording));
  add_integer("cell_type", [](const SimulatedCell& cell) { return cell.type; });
  add_integer("in_model_class", [](const SimulatedCell& cell) { return cell.in_model_class(); });
  add_integer("polarity", [](const SimulatedCell& cell) { return cell.polarity; });
  add("center_yx_px", {n, 2}, centers(cells));
  add("spatial_filter", {n, h, w}, spatial_filters(cells));

  std::vector<double> temporal, subunit_spatial, subunit_weight;
  std::vector<std::int64_t> subunit_cell;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    temporal.insert(temporal.end(), cells[i].temporal.begin(), cells[i].temporal.end());
    for (const Subunit& subunit : cells[i].subunits) {
      subunit_cell.push_back(static_cast<std::int64_t>(i));
      subunit_weight.push_back(subunit.weight);
      subunit_spatial.insert(subunit_spatial.end(), subunit.spatial.begin(), subunit.spatial.end());
    }
  }
  const auto subunits = static_cast<std::int64_t>(subunit_cell.size());
  add("temporal_filter", {n, length}, temporal);
  add("subunit_cell", {subunits}, subunit_cell);
  add("subunit_weight", {subunits}, subunit_weight);
  add("subunit_spatial", {subunits, h, w}, subunit_spatial);
  add_number("drive_mean", &SimulatedCell::drive_mean);
  add_number("drive_deviation", &SimulatedCell::drive_deviation);
  add_number("contrast_strength", &SimulatedCell::contrast_strength);
  add_number("contrast_memory", &SimulatedCell::contrast_memory);
  add_number("gain", &SimulatedCell::gain);
  add_number("offset", &SimulatedCell::offset);

  const nlohmann::ordered_json given{{"neurons", n},
                                     {"frames", options.frames},
                                     {"test_frames", options.test_frames},
                                     {"repeats", options.repeats},
                                     {"size", {h, w}},
                                     {"seed", options.seed}};
  truth.metadata = {{"format", "fovea.simulated_retina"},
                    {"version", "1"},
                    {"cell_types", nlohmann::json(cell_type_names()).dump()},
                    {"options", given.dump()},
                    {"frame_rate_hz", text(SimulatedRetina::frame_rate)}};
  return truth;
}

}  // namespace

void simulate_retina(const SimulatedRetinaOptions& options, const std::string& directory) {
  const SimulatedRetina retina(options);
  StagedDirectory staged(directory, "a simulated retina");
  const Recording recording = record(retina, options);
  write_movie(staged.make("stimuli/wn_train.npy"), recording.training_movie);
  write_movie(staged.make("stimuli/wn_test.npy"), recording.test_movie);
  write_safetensors(staged.make("ground_truth.safetensors"), ground_truth(retina, options, recording));
  write_session(staged.make("simulated_retina.h5"), retina, options, recording);
  // The session last: without it the directory is no data set.
  staged.publish({"stimuli", "ground_truth.safetensors", "simulated_retina.h5"});
}

}  // namespace fovea

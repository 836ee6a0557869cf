// What `fovea simulate --format sensorium` writes: the folders of two sessions and the ground truth.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/npy_writer.hpp"
#include "data/pearson.hpp"
#include "data/random_draws.hpp"
#include "data/simulated_trials.hpp"
#include "data/staged_directory.hpp"
#include "fovea/random.hpp"
#include "fovea/safetensors.hpp"

namespace fovea {
namespace {

/// What follows the key in the names of the published recordings, so that configurations fit both.
constexpr const char* folder_suffix = "-GrayImageNet-94c6ff995dac583098847cfecd43e7b6";

struct SimulatedSession {
  std::size_t number;
  SimulatedCortex cortex;
  SimulatedTrials trials;
  std::vector<std::uint8_t> images;  // [.., H, W]
  std::vector<double> rates;         // [T, N], noiseless responses
  std::vector<float> responses;      // [T, N]

  std::size_t neurons() const { return cortex.cells().size(); }
  const CortexSession& name() const { return cortex_sessions()[number]; }
  std::string folder() const { return "static" + name().key() + folder_suffix; }
};

SimulatedSession record(const SimulatedCortexOptions& options, std::size_t number) {
  SimulatedSession session{number,
                           SimulatedCortex(options, number),
                           draw_trials(options, number),
                           session_images(options, number),
                           {},
                           {}};
  const SimulatedTrials& trials = session.trials;
  std::vector<double> events = session.cortex.events(session.images, trials.image, trials.behavior);
  session.responses = session.cortex.respond(events);
  session.rates = session.cortex.expected_responses(std::move(events));
  return session;
}

std::int64_t extent(std::size_t count) { return static_cast<std::int64_t>(count); }

/// Row i of [.., columns].
template <class T>
std::vector<T> row_of(const std::vector<T>& values, std::size_t i, std::size_t columns) {
  const auto first = values.begin() + static_cast<std::ptrdiff_t>(i * columns);
  return std::vector<T>(first, first + static_cast<std::ptrdiff_t>(columns));
}

/// Column c of [.., columns] in the given rows.
template <class T>
std::vector<T> column_of(const std::vector<T>& values, std::size_t c, std::size_t columns,
                         const std::vector<std::size_t>& rows) {
  std::vector<T> result;
  result.reserve(rows.size());
  for (const std::size_t row : rows) result.push_back(values[row * columns + c]);
  return result;
}

/// The statistics of the layout, one number of each for every column added.
struct Statistics {
  std::vector<double> mean, deviation, median, least, most;

  template <class T>
  void add(std::vector<T> values) {
    const auto count = static_cast<double>(values.size());
    double sum = 0, squares = 0;
    for (const T value : values) sum += static_cast<double>(value);
    mean.push_back(sum / count);
    for (const T value : values) {
      const double distance = static_cast<double>(value) - mean.back();
      squares += distance * distance;
    }
    deviation.push_back(std::sqrt(squares / count));
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    const auto upper = static_cast<double>(*middle);
    const bool even = values.size() % 2 == 0;
    median.push_back(even ? 0.5 * (upper + static_cast<double>(*std::max_element(values.begin(), middle)))
                          : upper);
    least.push_back(static_cast<double>(*std::min_element(values.begin(), values.end())));
    most.push_back(static_cast<double>(*std::max_element(values.begin(), values.end())));
  }
};

/// Statistics of the columns of [T, columns] over some trials.
template <class T>
Statistics statistics_of(const std::vector<T>& values, std::size_t columns,
                         const std::vector<std::size_t>& trials) {
  Statistics statistics;
  for (std::size_t c = 0; c < columns; ++c) statistics.add(column_of(values, c, columns, trials));
  return statistics;
}

/// One number for all pixels of some trials' images.
Statistics image_statistics(const SimulatedSession& session, std::size_t pixels,
                            const std::vector<std::size_t>& trials) {
  std::vector<std::uint8_t> values;
  values.reserve(trials.size() * pixels);
  for (const std::size_t t : trials) {
    const auto image = session.images.begin() + session.trials.image[t] * extent(pixels);
    values.insert(values.end(), image, image + extent(pixels));
  }
  Statistics statistics;
  statistics.add(std::move(values));
  return statistics;
}

/// Writes the files of one session below its folder.
class SessionWriter {
 public:
  SessionWriter(StagedDirectory& staged, const SimulatedSession& session,
                const SimulatedCortexOptions& options)
      : staged_(staged), session_(session), options_(options) {}

  void write() const {
    write_data();
    write_statistics();
    write_trials();
    write_neurons();
  }

 private:
  void file(const std::string& name, const std::string& bytes) const {
    staged_.write(session_.folder() + "/" + name + ".npy", bytes);
  }
  template <class T>
  void vector(const std::string& name, const std::vector<T>& values) const {
    file(name, npy_file(values, {extent(values.size())}));
  }

  std::size_t pixels() const { return static_cast<std::size_t>(options_.height * options_.width); }

  void write_data() const {
    const SimulatedTrials& trials = session_.trials;
    for (std::size_t i = 0; i < trials.size(); ++i) {
      file(text("data/images/", i),
           npy_file(row_of(session_.images, static_cast<std::size_t>(trials.image[i]), pixels()),
                    {1, options_.height, options_.width}));
      vector(text("data/responses/", i), row_of(session_.responses, i, session_.neurons()));
      vector(text("data/behavior/", i), row_of(trials.behavior.body, i, 3));
      vector(text("data/pupil_center/", i), row_of(trials.behavior.pupil_center, i, 2));
    }
  }

  void write_statistics() const {
    const Behavior& behavior = session_.trials.behavior;
    const std::vector<std::size_t> training = session_.trials.of_tier("train");
    const auto write = [&](const char* data, const Statistics& statistics,
                           const std::vector<std::int64_t>& shape) {
      const auto one = [&](const char* name, const std::vector<double>& values) {
        file(text("meta/statistics/", data, "/all/", name), npy_file(values, shape));
      };
      one("mean", statistics.mean);
      one("std", statistics.deviation);
      one("median", statistics.median);
      one("min", statistics.least);
      one("max", statistics.most);
    };
    const std::size_t neurons = session_.neurons();
    write("images", image_statistics(session_, pixels(), training), {});
    write("responses", statistics_of(session_.responses, neurons, training), {extent(neurons)});
    write("behavior", statistics_of(behavior.body, 3, training), {3});
    write("pupil_center", statistics_of(behavior.pupil_center, 2, training), {2});
  }

  void write_trials() const {
    const SimulatedTrials& trials = session_.trials;
    constexpr std::size_t longest_tier = 10;  // final_test, also where a session lacks it
    file("meta/trials/tiers", npy_file(trials.tiers, longest_tier));
    file("meta/trials/frame_image_class", npy_file(std::vector<std::string>(trials.size(), "imagenet")));
    vector("meta/trials/frame_image_id", trials.id);
    vector("meta/trials/trial_idx", trials.order);
  }

  /// Cells lie in the cortex as their receptive fields lie in the image, roughly; areas and layers are drawn.
  void write_neurons() const {
    const auto stream = static_cast<std::uint32_t>(CortexStream::anatomy);
    const auto step = static_cast<std::uint32_t>(session_.number);
    const std::size_t neurons = session_.neurons();
    std::vector<std::int64_t> ids = Random(options_.seed, stream, step).permutation(8 * extent(neurons));
    ids.resize(neurons);
    std::sort(ids.begin(), ids.end());
    RandomDraws draws({options_.seed, stream, step, 1});
    std::vector<std::string> area, layer;
    std::vector<double> coordinates;  // micrometres
    for (const CorticalCell& cell : session_.cortex.cells()) {
      constexpr double extent_um = 600, scatter_um = 15, depths[] = {180, 210, 240, 290}, granular_um = 250;
      const auto place = [&](double center, std::int64_t size) {
        return std::round(extent_um * (center / static_cast<double>(size) - 0.5) +
                          scatter_um * draws.normal());
      };
      coordinates.push_back(place(cell.column, options_.width));
      coordinates.push_back(place(cell.row, options_.height));
      coordinates.push_back(depths[static_cast<std::size_t>(draws.uniform(0, 4))]);
      layer.emplace_back(coordinates.back() < granular_um ? "L2/3" : "L4");
      area.emplace_back(draws.uniform() < 0.75 ? "V1" : "LM");
    }
    for (std::int64_t& id : ids) ++id;  // from 1
    vector("meta/neurons/unit_ids", ids);
    vector("meta/neurons/animal_ids", std::vector<std::int64_t>(neurons, session_.name().animal));
    vector("meta/neurons/sessions", std::vector<std::int64_t>(neurons, session_.name().session));
    vector("meta/neurons/scan_idx", std::vector<std::int64_t>(neurons, session_.name().scan));
    file("meta/neurons/area", npy_file(area));
    file("meta/neurons/layer", npy_file(layer));
    file("meta/neurons/cell_motor_coordinates", npy_file(coordinates, {extent(neurons), 3}));
  }

  StagedDirectory& staged_;
  const SimulatedSession& session_;
  const SimulatedCortexOptions& options_;
};

/// Means over the trials of each test image.
std::vector<double> image_means(const std::vector<double>& values, const std::vector<std::int64_t>& image,
                                std::int64_t images) {
  std::vector<double> sums(static_cast<std::size_t>(images), 0.0), counts(sums.size(), 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    sums[static_cast<std::size_t>(image[i])] += values[i];
    counts[static_cast<std::size_t>(image[i])] += 1;
  }
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] /= counts[i];
  return sums;
}

/// What the noiseless rates reach on the test tier, as evaluation counts it.
struct Ceilings {
  std::vector<double> single_trial, to_average;
};

Ceilings ceilings(const SimulatedSession& session, const SimulatedCortexOptions& options) {
  const std::vector<std::size_t> test = session.trials.of_tier("test");
  const std::vector<std::int64_t> image = column_of(session.trials.image, 0, 1, test);
  Ceilings result;
  for (std::size_t n = 0; n < session.neurons(); ++n) {
    const std::vector<double> rates = column_of(session.rates, n, session.neurons(), test);
    const std::vector<float> single = column_of(session.responses, n, session.neurons(), test);
    const std::vector<double> responses(single.begin(), single.end());
    result.single_trial.push_back(pearson(rates, responses));
    result.to_average.push_back(pearson(image_means(rates, image, options.test_images),
                                        image_means(responses, image, options.test_images)));
  }
  return result;
}

Safetensors ground_truth(const std::vector<SimulatedSession>& sessions,
                         const SimulatedCortexOptions& options) {
  Safetensors truth;
  const Device device = cpu_device(1);
  nlohmann::json keys = nlohmann::json::array();
  for (const SimulatedSession& session : sessions) {
    const auto add = [&](const char* name, const Shape& shape, const std::vector<double>& values) {
      truth.tensors.emplace_back(session.name().key() + "." + name, Tensor::from(values, shape, device));
    };
    std::vector<double> shifts, positions;
    for (const PixelShift& shift : session.cortex.shifts(session.trials.behavior))
      shifts.insert(shifts.end(), {shift.down, shift.right});
    for (const CorticalCell& cell : session.cortex.cells())
      positions.insert(positions.end(), {cell.row, cell.column});
    const std::int64_t trials = extent(session.trials.size()), neurons = extent(session.neurons());
    const Ceilings reached = ceilings(session, options);
    add("rates", {trials, neurons}, session.rates);
    add("shift_px", {trials, 2}, shifts);
    add("position_px", {neurons, 2}, positions);
    add("ceiling_single_trial", {neurons}, reached.single_trial);
    add("ceiling_to_average", {neurons}, reached.to_average);
    keys.push_back(session.name().key());
  }
  const nlohmann::ordered_json given{{"neurons", options.neurons},
                                     {"frames", options.frames},
                                     {"test_images", options.test_images},
                                     {"repeats", options.repeats},
                                     {"size", {options.height, options.width}},
                                     {"seed", options.seed}};
  truth.metadata = {{"format", "fovea.simulated_cortex"},
                    {"version", "1"},
                    {"sessions", keys.dump()},
                    {"options", given.dump()}};
  return truth;
}

}  // namespace

void simulate_cortex(const SimulatedCortexOptions& options, const std::string& directory) {
  check(options);
  StagedDirectory staged(directory, "a simulated cortex");
  std::vector<SimulatedSession> sessions;
  for (std::size_t number = 0; number < cortex_sessions().size(); ++number)
    sessions.push_back(record(options, number));
  write_safetensors(staged.make("ground_truth.safetensors"), ground_truth(sessions, options));
  std::vector<std::string> entries{"ground_truth.safetensors"};
  for (const SimulatedSession& session : sessions) {
    SessionWriter(staged, session, options).write();
    entries.push_back(session.folder());
  }
  // The sessions last: without them the directory is no data set.
  staged.publish(entries);
}

}  // namespace fovea

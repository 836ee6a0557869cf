#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <numeric>

#include "data/file_tree.hpp"
#include "data/static_selection.hpp"
#include "data/static_transform.hpp"

namespace fovea {
namespace {

constexpr const char* tiers_file = "meta/trials/tiers.npy";

std::string trial_file(const std::string& field, std::int64_t trial) {
  return text("data/", field, '/', trial, ".npy");
}

/// "21067-10-18" of "static21067-10-18-GrayImageNet-<hash>.zip".
std::string session_key(const std::string& path) {
  const std::filesystem::path given = std::filesystem::path(path).lexically_normal();
  const std::filesystem::path name = given.has_filename() ? given.filename() : given.parent_path().filename();
  std::string base = name.string();
  if (name.extension() == ".zip") base = name.stem().string();
  if (base.rfind("static", 0) != 0) return base;
  for (const char* end : {"-ColorImageNet", "-GrayImageNet", "-preproc"})
    if (const std::size_t at = base.find(end); at != std::string::npos && at > 6)
      return base.substr(6, at - 6);
  return base;
}

std::vector<double> values_of(const StoredArray& array) {
  const StoredArray whole = array.rank() == 0 ? array.with_rank(1) : array;
  const std::vector<std::int64_t>& shape = whole.shape();
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t axis = shape.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * shape[axis];
  std::vector<double> values(static_cast<std::size_t>(whole.elements()));
  whole.convert(std::vector<std::int64_t>(shape.size(), 0), shape, values.data(), strides);
  return values;
}

}  // namespace

/// What a session knows after it was opened. Immutable: trials are read from several threads.
struct StaticSession::State {
  StaticDataOptions options;
  std::string key, path, content_hash;
  std::shared_ptr<const FileTree> files;
  std::vector<std::string> fields;  // that are read
  std::int64_t all_neurons = 0;     // of the files
  Shape stored{1}, shape{1};        // (C,H,W) of an image, in the files and for the model
  std::vector<std::int64_t> neurons;
  std::vector<std::string> unit_ids, warnings;
  TrialMeta meta;
  std::array<std::vector<std::int64_t>, all_tiers.size()> trials;
  TrialNormalization normalization;
  std::vector<double> mean_activity;

  State(const StaticDataOptions& given, std::size_t index)
      : options(given),
        key(session_key(given.paths[index])),
        path(given.paths[index]),
        files(FileTree::open(path, tiers_file)),
        fields{"images", "responses"} {
    if (options.include_behavior) fields.emplace_back("behavior");
    if (options.include_eye_position) fields.emplace_back("pupil_center");
    read_trial_meta();
    check_trial_files();
    trials = choose_trials(key, meta, options, index);
    measure_first_trial();
    choose(index);
    read_statistics();
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw FormatError("sensorium", text("session ", key, ", ", what));
  }

  /// Adds session and trial to what went wrong with a file.
  template <class Read>
  auto in_trial(std::int64_t trial, const Read& read) const {
    try {
      return read();
    } catch (const FormatError& error) {
      fail(text("trial ", trial, ": ", error.what()));
    }
  }

  std::vector<std::string> words(const std::string& file, std::size_t count) const {
    if (!files->contains(file)) return {};
    std::vector<std::string> result = files->read_words(file);
    if (result.size() != count)
      fail(text(files->full_name(file), ": ", result.size(), " entries, expected ", count));
    return result;
  }

  void read_trial_meta() {
    meta.tiers = files->read_words(tiers_file);
    if (meta.tiers.empty()) fail(text(files->full_name(tiers_file), ": no trials"));
    const std::size_t count = meta.tiers.size();
    for (const char* prefix : {"", "colorframeprojector_", "frame_"}) {
      meta.image_ids = words(text("meta/trials/", prefix, "image_id.npy"), count);
      if (meta.image_ids.empty()) continue;
      meta.image_classes = words(text("meta/trials/", prefix, "image_class.npy"), count);
      break;
    }
    if (meta.image_ids.empty())
      fail(text(path, " has no meta/trials/{image_id, colorframeprojector_image_id, frame_image_id}.npy"));
    meta.trial_idx = words("meta/trials/trial_idx.npy", count);
  }

  /// Every trial has its file in every folder that is used, and there are no others.
  void check_trial_files() {
    const auto count = static_cast<std::int64_t>(meta.tiers.size());
    std::uint64_t hash = fnv1a(nullptr, 0);
    for (const std::string& field : fields) {
      std::vector<TreeFile> there = files->list("data/" + field);
      there.erase(std::remove_if(there.begin(), there.end(),
                                 [](const TreeFile& file) {
                                   return file.name.size() < 5 ||
                                          file.name.compare(file.name.size() - 4, 4, ".npy") != 0 ||
                                          file.name.front() == '.';
                                 }),
                  there.end());
      std::map<std::string, const TreeFile*> by_name;
      for (const TreeFile& file : there) by_name.emplace(file.name, &file);
      for (std::int64_t trial = 0; trial < count; ++trial) {
        const auto found = by_name.find(text(trial, ".npy"));
        if (found == by_name.end())
          fail(text("trial ", trial, ": ", files->full_name(trial_file(field, trial)), " is missing; ",
                    tiers_file, " has ", count, " trials, data/", field, " ", there.size(), " files"));
        in_trial(trial, [&] { return files->check(trial_file(field, trial)), 0; });
        const std::uint64_t facts[] = {found->second->bytes, found->second->checksum};
        hash = fnv1a(facts, sizeof facts, hash);
      }
      if (there.size() != static_cast<std::size_t>(count))
        fail(text(files->full_name("data/" + field), ": ", there.size(), " files, ", tiers_file, " has ",
                  count, " trials"));
      hash = fnv1a(field.data(), field.size(), hash);
    }
    for (const auto* list : {&meta.tiers, &meta.image_ids, &meta.image_classes, &meta.trial_idx})
      for (const std::string& word : *list) hash = fnv1a(word.c_str(), word.size() + 1, hash);
    hash_ = hash;
  }

  StoredArray trial_array(const std::string& field, std::int64_t trial) const {
    return files->read_npy(trial_file(field, trial));
  }

  static std::vector<std::int64_t> squeezed(const StoredArray& array, std::size_t rank) {
    std::vector<std::int64_t> shape = array.shape();
    while (shape.size() > rank && shape.front() == 1) shape.erase(shape.begin());
    return shape;
  }

  void measure_first_trial() {
    in_trial(0, [&] {
      const StoredArray image = trial_array("images", 0), responses = trial_array("responses", 0);
      const auto image_extents = squeezed(image, 3);
      if (image_extents.size() != 3 || image.elements() == 0)
        throw FormatError(image.origin(), text("an image [C,H,W] expected: ", shape_text(image.shape())));
      const auto neurons_shape = squeezed(responses, 1);
      if (neurons_shape.size() != 1 || neurons_shape[0] == 0)
        throw FormatError(responses.origin(),
                          text("responses [N] expected: ", shape_text(responses.shape())));
      stored = Shape(image_extents);
      all_neurons = neurons_shape[0];
      return 0;
    });
    shape = transformed_shape(stored, options);
  }

  void choose(std::size_t index) {
    const auto count = static_cast<std::size_t>(all_neurons);
    NeuronMeta neuron_meta{all_neurons, words("meta/neurons/unit_ids.npy", count), {}, {}};
    if (!options.areas.empty()) neuron_meta.areas = words("meta/neurons/area.npy", count);
    if (!options.layers.empty()) neuron_meta.layers = words("meta/neurons/layer.npy", count);
    neurons = choose_neurons(key, neuron_meta, options, index);
    if (neuron_meta.unit_ids.empty()) return;
    for (const std::int64_t n : neurons)
      unit_ids.push_back(neuron_meta.unit_ids[static_cast<std::size_t>(n)]);
  }

  bool normalizes(const std::string& field) const {
    return options.normalize && std::find(fields.begin(), fields.end(), field) != fields.end() &&
           std::find(options.exclude.begin(), options.exclude.end(), field) == options.exclude.end();
  }

  std::vector<double> statistic(const std::string& field, const char* what, std::int64_t values) {
    const std::string file = text("meta/statistics/", field, "/all/", what, ".npy");
    if (!files->contains(file))
      fail(text(files->full_name(file), " is missing, which normalize: true needs"));
    const StoredArray array = files->read_npy(file);
    hash_ = fnv1a(array.bytes(), array.byte_count(), hash_);
    std::vector<double> result = values_of(array);
    if (result.size() != 1 && result.size() != static_cast<std::size_t>(values))
      fail(text(array.origin(), ": one value or ", values, " expected: ", shape_text(array.shape())));
    return result;
  }

  void require_finite(const std::vector<double>& values, const std::string& field, const char* what) const {
    for (const double value : values)
      if (!std::isfinite(value))
        fail(text(files->full_name(text("meta/statistics/", field, "/all/", what, ".npy")),
                  ": must be finite: ", value));
  }

  void read_statistics() {
    if (normalizes("images")) {
      normalization.image = {statistic("images", "mean", 1), statistic("images", "std", 1)};
      require_finite(normalization.image.mean, "images", "mean");
      const double deviation = normalization.image.deviation[0];
      if (!std::isfinite(deviation) || deviation <= 0)
        fail(text(files->full_name("meta/statistics/images/all/std.npy"), ": must be above 0: ", deviation));
    }
    if (normalizes("responses")) {
      std::vector<double> deviations = statistic("responses", "std", all_neurons);
      if (deviations.size() == 1) deviations.resize(static_cast<std::size_t>(all_neurons), deviations[0]);
      normalization.responses.deviation = response_divisors(deviations);
      if (normalization.responses.deviation.empty())
        fail(text(files->full_name("meta/statistics/responses/all/std.npy"),
                  ": the mean deviation must be above 0"));
    }
    if (normalizes("behavior")) normalization.behavior.deviation = usable_deviation("behavior", 3);
    if (normalizes("pupil_center")) {
      normalization.pupil_center = {statistic("pupil_center", "mean", 2),
                                    usable_deviation("pupil_center", 2)};
      require_finite(normalization.pupil_center.mean, "pupil_center", "mean");
    }
    if (options.normalize) set_mean_activity();
    content_hash = hexadecimal(hash_);
  }

  std::vector<double> usable_deviation(const std::string& field, std::int64_t values) {
    std::vector<double> deviation = statistic(field, "std", values);
    for (std::size_t i = 0; i < deviation.size(); ++i) {
      if (std::isfinite(deviation[i]) && deviation[i] > 0) continue;
      warnings.push_back(text("session ", key, ": the deviation ", deviation[i], " of ", field, " value ", i,
                              " counts as 1"));
      deviation[i] = 1;
    }
    return deviation;
  }

  void set_mean_activity() {
    if (!files->contains("meta/statistics/responses/all/mean.npy")) return;
    std::vector<double> means = statistic("responses", "mean", all_neurons);
    for (const std::int64_t n : neurons) {
      const auto at = static_cast<std::size_t>(n);
      mean_activity.push_back(normalization.responses.apply(means[means.size() == 1 ? 0 : at], at));
      if (!std::isfinite(mean_activity.back())) return mean_activity.clear();
    }
  }

  /// Values of a field of a trial, of the shape that the first trial has.
  std::vector<double> field_values(const std::string& field, std::int64_t trial,
                                   const std::vector<std::int64_t>& expected) const {
    const StoredArray array = trial_array(field, trial);
    if (squeezed(array, expected.size()) != expected)
      throw FormatError(array.origin(),
                        text("shape ", shape_text(expected), " expected: ", shape_text(array.shape())));
    return values_of(array);
  }

  void require_usable(double value, const std::string& field, std::int64_t trial, std::size_t at) const {
    constexpr double most = 3.4028234663852886e38;  // of f32
    if (std::abs(value) <= most) return;
    throw FormatError(files->full_name(trial_file(field, trial)),
                      text("value ", at, " must be finite: ", value));
  }

  std::vector<double> normalized(const std::string& field, std::int64_t trial, std::int64_t count,
                                 const FieldNormalization& by) const {
    std::vector<double> values = field_values(field, trial, {count});
    for (std::size_t i = 0; i < values.size(); ++i) {
      require_usable(values[i], field, trial, i);
      values[i] = by.apply(values[i], i);
    }
    return values;
  }

  std::vector<double> read_responses(std::int64_t trial) const {
    const std::vector<double> all = field_values("responses", trial, {all_neurons});
    std::vector<double> chosen;
    chosen.reserve(neurons.size());
    for (const std::int64_t n : neurons) {
      const auto at = static_cast<std::size_t>(n);
      require_usable(all[at], "responses", trial, at);
      chosen.push_back(normalization.responses.apply(all[at], at));
    }
    return chosen;
  }

  std::vector<double> read_image(std::int64_t trial) const {
    std::vector<double> image = field_values("images", trial, stored.vector());
    const auto plane = static_cast<std::size_t>(stored[1] * stored[2]);
    const bool all = !options.select_input_channel;
    const auto first = static_cast<std::size_t>(options.select_input_channel.value_or(0)) * plane;
    const std::size_t end = all ? image.size() : std::min(image.size(), first + plane);
    for (std::size_t i = first; i < end; ++i) require_usable(image[i], "images", trial, i);
    for (double& value : image) value = normalization.image.apply(value, 0);
    return image;
  }

  std::uint64_t hash_ = 0;
};

StaticSession::StaticSession(const StaticDataOptions& options, std::size_t index)
    : state_((fovea::check(options), std::make_shared<const State>(options, index))) {}

const std::string& StaticSession::key() const { return state_->key; }
const std::string& StaticSession::path() const { return state_->path; }
std::int64_t StaticSession::n_neurons() const { return static_cast<std::int64_t>(state_->neurons.size()); }
Shape StaticSession::image_shape() const { return state_->shape; }
bool StaticSession::has_behavior() const { return state_->options.include_behavior; }
bool StaticSession::has_pupil_center() const { return state_->options.include_eye_position; }
const std::vector<std::int64_t>& StaticSession::trials(Tier tier) const {
  return state_->trials[static_cast<std::size_t>(tier)];
}
const std::string& StaticSession::image_id(std::int64_t trial) const {
  return state_->meta.image_ids.at(static_cast<std::size_t>(trial));
}
std::string StaticSession::trial_idx(std::int64_t trial) const {
  const auto& given = state_->meta.trial_idx;
  return given.empty() ? std::to_string(trial) : given.at(static_cast<std::size_t>(trial));
}
const std::vector<std::int64_t>& StaticSession::neuron_index() const { return state_->neurons; }
const std::vector<std::string>& StaticSession::unit_ids() const { return state_->unit_ids; }
const std::vector<double>& StaticSession::mean_activity() const { return state_->mean_activity; }
const std::vector<std::string>& StaticSession::warnings() const { return state_->warnings; }
const std::string& StaticSession::content_hash() const { return state_->content_hash; }

std::optional<Normalization> StaticSession::stimulus_normalization() const {
  const bool planes = (state_->options.include_behavior && state_->options.add_behavior_as_channels) ||
                      state_->options.add_eye_pos_as_channels;
  if (planes || !state_->normalizes("images")) return std::nullopt;
  return Normalization{state_->normalization.image.mean[0], state_->normalization.image.deviation[0]};
}

std::vector<double> StaticSession::cell_motor_coordinates(std::int64_t columns) const {
  const std::string file = "meta/neurons/cell_motor_coordinates.npy";
  if (!state_->files->contains(file))
    state_->fail(text(state_->files->full_name(file),
                      " is missing, which the source grid of a "
                      "grid_mean_predictor comes from"));
  const StoredArray array = state_->files->read_npy(file);
  if (array.rank() != 2 || array.extent(0) != state_->all_neurons || array.extent(1) < columns)
    state_->fail(text(array.origin(), ": [", state_->all_neurons, ", at least ", columns,
                      "] expected: ", shape_text(array.shape())));
  const std::vector<double> all = values_of(array);
  std::vector<double> chosen;
  for (const std::int64_t n : state_->neurons)
    for (std::int64_t column = 0; column < columns; ++column) {
      chosen.push_back(all[static_cast<std::size_t>(n * array.extent(1) + column)]);
      if (!std::isfinite(chosen.back()))
        state_->fail(text(array.origin(), ": value [", n, ", ", column, "] must be finite: ", chosen.back()));
    }
  return chosen;
}

void StaticSession::read(std::int64_t trial, StaticTrial& into) const {
  const State& state = *state_;
  state.in_trial(trial, [&] {
    if (state.options.include_behavior)
      into.behavior = state.normalized("behavior", trial, 3, state.normalization.behavior);
    if (state.options.include_eye_position)
      into.pupil_center = state.normalized("pupil_center", trial, 2, state.normalization.pupil_center);
    into.responses = state.read_responses(trial);
    into.image = transform_image(state.read_image(trial), state.stored, into, state.options, state.shape);
    return 0;
  });
}

std::vector<SessionOptions> StaticDataSet::session_options(bool source_grid) const {
  std::vector<SessionOptions> result;
  for (const StaticSession& session : sessions) {
    SessionOptions one{session.key(), session.n_neurons(), {}, {}};
    if (source_grid) {
      const std::vector<double> places = session.cell_motor_coordinates(2);
      std::string rows;
      for (std::size_t i = 0; i < places.size(); i += 2) {
        char row[80];
        std::snprintf(row, sizeof row, "%s[%.17g,%.17g]", i ? "," : "", places[i], places[i + 1]);
        rows += row;
      }
      one.readout = "{\"source_grid\":[" + rows + "]}";
    }
    result.push_back(std::move(one));
  }
  return result;
}

std::string StaticDataSet::content_hash() const {
  std::uint64_t hash = fnv1a(nullptr, 0);
  for (const StaticSession& session : sessions) {
    hash = fnv1a(session.key().c_str(), session.key().size() + 1, hash);
    hash = fnv1a(session.content_hash().data(), session.content_hash().size(), hash);
  }
  return hexadecimal(hash);
}

StaticDataSet open_sensorium(const StaticDataOptions& options) {
  check(options);
  StaticDataSet data{options, {}};
  for (std::size_t i = 0; i < options.paths.size(); ++i) {
    StaticSession session(options, i);
    for (const StaticSession& other : data.sessions) {
      if (other.key() == session.key())
        throw ConfigError("data", text("paths: two sessions are called ", session.key(), ": ", other.path(),
                                       ", ", session.path()));
      if (other.image_shape() != session.image_shape())
        throw ConfigError("data",
                          text("paths: images must have one shape: ", other.image_shape(), " in session ",
                               other.key(), ", ", session.image_shape(), " in ", session.key()));
    }
    data.sessions.push_back(std::move(session));
  }
  return data;
}

}  // namespace fovea

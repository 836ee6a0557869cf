#include "data/openretina.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "fovea/npy.hpp"

namespace fovea {

namespace {

constexpr std::string_view responses_prefix = "responses_", by_trial_prefix = "responses_by_trial_",
                           stimulus_prefix = "stimulus_", info_prefix = "session_info/";

[[noreturn]] void fail(const std::string& what) { throw FormatError("openretina_hdf5", what); }

// What follows the prefix; empty when the name does not begin with it.
std::string after(const std::string& name, std::string_view prefix) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : std::string();
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t at) {
      return at < text.size() ? static_cast<unsigned>(static_cast<unsigned char>(text[at])) : 0u;
    };
    const unsigned first = byte(i);
    const int more = first < 0x80       ? 0
                     : first >> 5 == 6  ? 1
                     : first >> 4 == 14 ? 2
                     : first >> 3 == 30 ? 3
                                        : -1;
    if (more < 0) return false;
    unsigned code = more == 0 ? first : first & (0x3fu >> more);
    for (int k = 1; k <= more; ++k) {
      if (byte(i + static_cast<std::size_t>(k)) >> 6 != 2) return false;
      code = code << 6 | (byte(i + static_cast<std::size_t>(k)) & 0x3f);
    }
    constexpr unsigned smallest[] = {0, 0x80, 0x800, 0x10000};
    if (code < smallest[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    i += static_cast<std::size_t>(more) + 1;
  }
  return true;
}

// Keys and stimulus names become tensor and file names.
void check_name(const std::string& kind, const std::string& name, const std::string& file) {
  const bool control = std::any_of(name.begin(), name.end(),
                                   [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (name.empty()) fail(text(file, ": ", kind, " is empty"));
  if (control) fail(text(file, ": ", kind, " holds a control character"));
  if (name.find('/') != std::string::npos) fail(text(file, ": ", kind, " holds a '/': ", name));
  if (!is_utf8(name)) fail(text(file, ": ", kind, " is not UTF-8"));
}

void check_extents(const StoredArray& array, int rank, const char* axes) {
  if (array.rank() != rank)
    fail(text(array.origin(), ": axes ", axes, " expected: ", shape_text(array.shape())));
  for (const std::int64_t extent : array.shape())
    if (extent < 1)
      fail(text(array.origin(), ": an axis of ", axes, " is empty: ", shape_text(array.shape())));
}

void check_finite(const StoredArray& array, const std::string& session) {
  const std::int64_t bad = array.first_not_finite();
  if (bad < 0) return;
  const StoredArray rows = array.in_row_major();
  double value = 0;
  std::vector<std::int64_t> begin(array.shape().size()), one(array.shape().size(), 1);
  for (std::size_t axis = begin.size(), rest = static_cast<std::size_t>(bad); axis-- > 0;) {
    begin[axis] = static_cast<std::int64_t>(rest) % array.shape()[axis];
    rest /= static_cast<std::size_t>(array.shape()[axis]);
  }
  rows.convert(begin, one, &value, one);
  fail(text(array.origin(), session.empty() ? "" : ": session ", session, ": value at ",
            index_text(bad, array.shape()), " is not finite in float32: ", value));
}

struct SessionFile {
  std::string key, path;
};

// The session files of a folder, by key.
std::vector<SessionFile> session_files(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(folder, error)) fail(text(folder, ": is not a folder"));
  std::vector<SessionFile> files;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    for (const std::string_view suffix : {".h5", ".hdf5"})
      if (name.ends_with(suffix))
        files.push_back({name.substr(0, name.size() - suffix.size()), entry->path().string()});
  }
  if (error) fail(text(folder, ": cannot be listed: ", error.message()));
  if (files.empty()) fail(text(folder, ": holds no session file (*.h5, *.hdf5)"));
  std::sort(files.begin(), files.end(), [](const SessionFile& a, const SessionFile& b) {
    return std::tie(a.key, a.path) < std::tie(b.key, b.path);
  });
  for (std::size_t i = 0; i < files.size(); ++i) {
    check_name("session key", files[i].key, files[i].path);
    if (i > 0 && files[i].key == files[i - 1].key)
      fail(text("session key twice: ", files[i - 1].path, " and ", files[i].path));
  }
  return files;
}

class Loader {
 public:
  Loader(const DataOptions& options, DataParts parts, const Hdf5Reader& read)
      : options_(options),
        parts_(parts),
        read_(read),
        tests_(options.test_names.begin(), options.test_names.end()) {}

  DataSet load() {
    check(options_);
    if (parts_ == DataParts::tests && tests_.empty())
      throw ConfigError("data", "test_names: is empty, so there is no test movie");
    for (const SessionFile& file : session_files(options_.path)) load_session(file);
    for (const std::string& name : options_.test_names)
      if (!tests_found_.contains(name))
        fail(text(options_.path, ": test_names: no session has ", responses_prefix, name));
    data_.normalization = normalization();
    data_.content_hash = hexadecimal(hash_);
    return std::move(data_);
  }

 private:
  bool is_test(const std::string& name) const { return tests_.contains(name); }

  bool wanted(const std::string& name) const {
    if (name.starts_with(info_prefix)) return true;
    if (name.starts_with(by_trial_prefix)) return is_test(after(name, by_trial_prefix));
    for (const std::string_view prefix : {responses_prefix, stimulus_prefix})
      if (name.starts_with(prefix)) return parts_ == DataParts::all || is_test(after(name, prefix));
    return false;
  }

  void load_session(const SessionFile& file) {
    const std::vector<Hdf5Item> items =
        read_(file.path, [&](const std::string& name) { return wanted(name); });
    Session session;
    session.key = file.key;
    std::map<std::string, StoredArray> responses, by_trial, stimuli;  // by name of the stimulus
    for (const Hdf5Item& item : items) {
      if (item.name.starts_with(info_prefix))
        session.info.push_back({after(item.name, info_prefix), item.values, item.text});
      else if (item.name.starts_with(by_trial_prefix))
        by_trial[after(item.name, by_trial_prefix)] = item.values;
      else if (item.name.starts_with(responses_prefix))
        responses[after(item.name, responses_prefix)] = item.values;
      else
        stimuli[after(item.name, stimulus_prefix)] = item.values;
    }
    hash_text(file.key);
    std::vector<StoredArray> training_stimuli, training_responses;
    for (const auto& [name, values] : responses) {
      check_name("stimulus name", name, file.path);
      check_responses(session, values);
      const StoredArray stimulus = stimulus_of(file, name, stimuli);
      if (stimulus.extent(1) != values.extent(1))
        fail(text(values.origin(), ": ", values.extent(1), " frames, its stimulus ", stimulus.origin(),
                  " has ", stimulus.extent(1)));
      hash_text(name);
      hash_number(values.content_hash());
      hash_number(hash_of(stimulus));
      if (is_test(name)) {
        tests_found_.insert(name);
        session.tests.push_back(
            {name, TimeSeries({stimulus}), TimeSeries({values}), trials_of(session, name, values, by_trial)});
      } else {
        training_stimuli.push_back(stimulus);
        training_responses.push_back(values);
      }
    }
    for (const auto& [name, values] : by_trial)
      if (!responses.contains(name)) fail(text(values.origin(), ": lacks its mean ", responses_prefix, name));
    if (parts_ == DataParts::all) {
      if (responses.empty()) fail(text(file.path, ": holds no ", responses_prefix, "<name>"));
      if (training_responses.empty())
        fail(text(file.path, ": holds no training responses: every ", responses_prefix,
                  "<name> is in test_names"));
      session.stimulus = TimeSeries(training_stimuli);
      session.responses = TimeSeries(training_responses);
      session.mean_activity = session.responses.channel_means();
      training_stimuli_.insert(training_stimuli_.end(), training_stimuli.begin(), training_stimuli.end());
    }
    if (!responses.empty()) data_.sessions.push_back(std::move(session));
  }

  void check_responses(Session& session, const StoredArray& values) {
    check_extents(values, 2, "[N, T]");
    if (session.neurons == 0) session.neurons = values.extent(0);
    if (values.extent(0) != session.neurons)
      fail(text(values.origin(), ": ", values.extent(0), " neurons, other responses of the session have ",
                session.neurons));
    check_finite(values, session.key);
  }

  StoredArray trials_of(const Session& session, const std::string& name, const StoredArray& responses,
                        const std::map<std::string, StoredArray>& by_trial) {
    const auto found = by_trial.find(name);
    if (found == by_trial.end()) return {};
    const StoredArray& trials = found->second;
    check_extents(trials, 3, "[R, N, T]");
    if (trials.extent(1) != responses.extent(0) || trials.extent(2) != responses.extent(1))
      fail(text(trials.origin(), ": ", shape_text(trials.shape()), " does not agree with ",
                responses.origin(), " of ", shape_text(responses.shape())));
    check_finite(trials, session.key);
    hash_number(trials.content_hash());
    return trials;
  }

  // The session's own stimulus, else the shared one.
  StoredArray stimulus_of(const SessionFile& file, const std::string& name,
                          const std::map<std::string, StoredArray>& own) {
    if (const auto found = own.find(name); found != own.end()) return checked_stimulus(found->second);
    if (const auto found = shared_.find(name); found != shared_.end()) return found->second;
    const std::filesystem::path path = std::filesystem::path(options_.path) / "stimuli" / (name + ".npy");
    std::error_code error;
    if (!std::filesystem::exists(path, error))
      fail(text(file.path, ": ", responses_prefix, name, " has no stimulus: neither ", stimulus_prefix, name,
                " in the file nor ", path.string()));
    return shared_[name] = checked_stimulus(open_npy(path.string()));
  }

  StoredArray checked_stimulus(const StoredArray& stimulus) {
    check_extents(stimulus, 4, "[C, T, H, W]");
    const std::int64_t c = stimulus.extent(0), h = stimulus.extent(2), w = stimulus.extent(3);
    if (data_.channels == 0) {
      data_.channels = c, data_.height = h, data_.width = w;
      first_stimulus_ = stimulus.origin();
    }
    if (c != data_.channels || h != data_.height || w != data_.width)
      fail(text(stimulus.origin(), ": channels, height, width ", shape_text({c, h, w}), " differ from ",
                shape_text({data_.channels, data_.height, data_.width}), " of ", first_stimulus_));
    return held_once(stimulus.in_row_major());
  }

  // An array of the same content that is here already, else this one.
  StoredArray held_once(const StoredArray& stimulus) {
    const std::uint64_t hash = stimulus.content_hash();
    std::vector<StoredArray>& same_hash = held_[hash];
    for (const StoredArray& other : same_hash)
      if (other.same_content(stimulus)) return other;
    check_finite(stimulus, "");
    same_hash.push_back(stimulus);
    hashes_[stimulus.bytes()] = hash;
    return stimulus;
  }

  std::uint64_t hash_of(const StoredArray& stimulus) const { return hashes_.at(stimulus.bytes()); }

  std::optional<Normalization> normalization() const {
    if (options_.normalize == NormalizeMode::none) return Normalization{};
    if (options_.normalize == NormalizeMode::given) return options_.given_normalization;
    if (parts_ == DataParts::tests) return std::nullopt;
    std::vector<StoredArray> different;
    for (const StoredArray& stimulus : training_stimuli_)
      if (std::none_of(different.begin(), different.end(),
                       [&](const StoredArray& other) { return other.bytes() == stimulus.bytes(); }))
        different.push_back(stimulus);
    const Normalization result = mean_and_deviation(different);
    if (!(result.deviation > 0) || !std::isfinite(result.deviation) || !std::isfinite(result.mean))
      fail(text(different.front().origin(), ": cannot be normalised: mean ", result.mean,
                ", standard deviation ", result.deviation));
    return result;
  }

  void hash_text(const std::string& value) { hash_ = fnv1a(value.c_str(), value.size() + 1, hash_); }
  void hash_number(std::uint64_t value) { hash_ = fnv1a(&value, sizeof value, hash_); }

  const DataOptions& options_;
  DataParts parts_;
  const Hdf5Reader& read_;
  std::set<std::string> tests_, tests_found_;
  DataSet data_;
  std::string first_stimulus_;
  std::map<std::string, StoredArray> shared_;                         // opened, by name
  std::unordered_map<std::uint64_t, std::vector<StoredArray>> held_;  // by content hash
  std::unordered_map<const std::byte*, std::uint64_t> hashes_;
  std::vector<StoredArray> training_stimuli_;
  std::uint64_t hash_ = fnv1a(nullptr, 0);
};

}  // namespace

const TestMovie* Session::test(const std::string& name) const {
  for (const TestMovie& movie : tests)
    if (movie.name == name) return &movie;
  return nullptr;
}

std::map<std::string, std::int64_t> DataSet::neurons() const {
  std::map<std::string, std::int64_t> result;
  for (const Session& session : sessions) result[session.key] = session.neurons;
  return result;
}

std::vector<SessionOptions> DataSet::session_options() const {
  std::vector<SessionOptions> result;
  for (const Session& session : sessions) {
    result.push_back({session.key, session.neurons, {}, {}});
    if (!session.mean_activity.empty()) result.back().mean_activity = session.mean_activity;
  }
  return result;
}

const Normalization& DataSet::checked_normalization() const {
  if (!normalization)
    throw Error("data",
                "no stimulus normalisation: only the tests were loaded, and `normalize: true` needs the "
                "training movie");
  return *normalization;
}

DataSet load_openretina(const DataOptions& options, DataParts parts) {
  return load_openretina(options, parts, read_hdf5);
}

DataSet load_openretina(const DataOptions& options, DataParts parts, const Hdf5Reader& read) {
  return Loader(options, parts, read).load();
}

}  // namespace fovea

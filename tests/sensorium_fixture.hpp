// Sessions of static images for tests: the golden ones, and tiny ones that the tests write and damage.
#pragma once
#include <doctest/doctest.h>
#include <zip.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "check.hpp"
#include "data_files.hpp"
#include "fixture.hpp"
#include "fovea/static_data.hpp"

namespace sensorium_test {

using namespace fovea;
using namespace fovea::test;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

inline bool mentions(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Content by path below the top of a session: "data/images/0.npy".
using Files = std::map<std::string, std::string>;

// ---- arrays

template <class T>
std::string npy_descr(bool turned) {
  const char kind = std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
  return text(sizeof(T) == 1 ? '|' : turned ? '>' : '<', kind, sizeof(T));
}

inline std::string shape_tuple(const std::vector<std::int64_t>& shape) {
  std::string tuple = "(";
  for (const std::int64_t extent : shape) tuple += text(extent, ",");
  return tuple + ')';
}

/// How an array is stored; the values are given row-major.
struct NpyForm {
  bool turned = false, fortran = false;
};

/// The same values with the first axis running fastest.
template <class T>
std::vector<T> first_axis_fastest(const std::vector<T>& values, const std::vector<std::int64_t>& shape) {
  std::vector<T> result(values.size());
  for (std::size_t at = 0; at < values.size(); ++at) {
    std::int64_t rest = static_cast<std::int64_t>(at), to = 0, below = 1;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) below *= shape[axis];
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      below /= shape[axis];
      to += rest % shape[axis] * below;
      rest /= shape[axis];
    }
    result[static_cast<std::size_t>(to)] = values[at];
  }
  return result;
}

template <class T = double>
std::string npy(const std::vector<double>& values, const std::vector<std::int64_t>& shape,
                NpyForm form = {}) {
  std::vector<T> typed;
  for (const double value : values) typed.push_back(static_cast<T>(value));
  if (form.fortran) typed = first_axis_fastest(typed, shape);
  return npy_bytes(npy_dictionary(npy_descr<T>(form.turned), shape_tuple(shape), form.fortran),
                   bytes_of(typed, form.turned));
}

template <class T = double>
std::string npy_list(const std::vector<double>& values) {
  return npy<T>(values, {static_cast<std::int64_t>(values.size())});
}

/// numpy's unicode text.
inline std::string npy_words(const std::vector<std::string>& words) {
  std::size_t longest = 1;
  for (const std::string& word : words) longest = std::max(longest, word.size());
  std::vector<std::uint32_t> units;
  for (const std::string& word : words)
    for (std::size_t i = 0; i < longest; ++i)
      units.push_back(i < word.size() ? static_cast<unsigned char>(word[i]) : 0);
  return npy_bytes(npy_dictionary(text("<U", longest), text('(', words.size(), ",)")), bytes_of(units));
}

// ---- folders and zips

inline void write_folder(const std::string& path, const Files& files) {
  for (const auto& [name, bytes] : files) write_bytes(path + '/' + name, bytes);
}

struct ZipForm {
  std::string top = "session/";
  bool deflated = true;
  std::vector<std::pair<std::string, std::string>> foreign{};  ///< beside the top, whole names
};

inline zip_int64_t add_member(zip_t* archive, const std::string& name, const std::string& bytes) {
  zip_source_t* source = zip_source_buffer(archive, bytes.data(), bytes.size(), 0);
  const zip_int64_t index = source ? zip_file_add(archive, name.c_str(), source, ZIP_FL_ENC_UTF_8) : -1;
  if (index < 0) throw Error("test", "no zip member " + name);
  return index;
}

inline void write_zip(const std::string& path, const Files& files, const ZipForm& form = {}) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, nullptr);
  if (!archive) throw Error("test", "no zip " + path);
  const auto add = [&](const std::string& name, const std::string& bytes) {
    const auto index = static_cast<zip_uint64_t>(add_member(archive, name, bytes));
    zip_set_file_compression(archive, index, form.deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
  };
  for (const auto& [name, bytes] : files) add(form.top + name, bytes);
  for (const auto& [name, bytes] : form.foreign) add(name, bytes);
  if (zip_close(archive) != 0) throw Error("test", "the zip cannot be written: " + path);
}

/// The files of a zip below the folder that holds data/ and meta/.
inline Files unpacked(const std::string& path) {
  zip_t* archive = zip_open(path.c_str(), ZIP_RDONLY, nullptr);
  if (!archive) throw Error("test", "no zip " + path);
  Files files;
  for (zip_int64_t i = 0; i < zip_get_num_entries(archive, 0); ++i) {
    zip_stat_t status;
    zip_stat_index(archive, static_cast<zip_uint64_t>(i), 0, &status);
    const std::string name = status.name;
    if (name.back() == '/') continue;
    std::string bytes(status.size, '\0');
    zip_file_t* member = zip_fopen_index(archive, static_cast<zip_uint64_t>(i), 0);
    if (!member || zip_fread(member, bytes.data(), bytes.size()) != static_cast<zip_int64_t>(bytes.size()))
      throw Error("test", "no member " + name);
    zip_fclose(member);
    files[name.substr(name.find('/') + 1)] = bytes;
  }
  zip_discard(archive);
  return files;
}

inline const std::vector<std::string> golden_keys{"21067-10-18", "22846-10-16"};

inline std::string golden_name(const std::string& key) {
  return "static" + key + "-GrayImageNet-94c6ff995dac583098847cfecd43e7b6";
}
inline std::string golden_zip(const std::string& key) {
  return fixture_folder() + "/sensorium/" + golden_name(key) + ".zip";
}

// ---- tiny sessions

/// Numbers that look random in [0, 1), the same everywhere.
class Numbers {
 public:
  explicit Numbers(unsigned seed) : state_(seed * 2654435761u + 12345u) {}
  double next() {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<double>(state_ >> 8) / 16777216.0;
  }
  std::vector<double> list(std::size_t count, double low, double high) {
    std::vector<double> values;
    while (values.size() < count) values.push_back(low + (high - low) * next());
    return values;
  }

 private:
  std::uint32_t state_;
};

struct TinyForm {
  std::vector<std::string> tiers{"train", "train", "test",  "train", "validation",
                                 "train", "train", "other", "test",  "train"};
  std::vector<std::int64_t> image{1, 3, 4};
  std::int64_t neurons = 5;
  unsigned seed = 1;
};

/// A session with everything that the format has. The values are those of the files.
struct TinySession {
  TinyForm form;
  std::vector<std::vector<double>> images, responses, behavior, pupil;
  double image_mean = 120, image_std = 50;
  std::vector<double> response_std, response_mean, behavior_std{4, 0.5, 2}, pupil_mean{200, 160},
      pupil_std{8, 5};
  std::vector<std::int64_t> unit_ids, image_ids;
  Files files;

  explicit TinySession(const TinyForm& given = {}) : form(given) {
    Numbers numbers(form.seed);
    const auto n = static_cast<std::size_t>(form.neurons), count = form.tiers.size();
    const std::int64_t pixels = std::accumulate(form.image.begin(), form.image.end(), std::int64_t{1},
                                                [](std::int64_t a, std::int64_t b) { return a * b; });
    for (std::size_t trial = 0; trial < count; ++trial) {
      images.push_back(numbers.list(static_cast<std::size_t>(pixels), 0, 255));
      responses.push_back(numbers.list(n, 0, 9));
      behavior.push_back(numbers.list(3, -3, 30));
      pupil.push_back(numbers.list(2, 150, 220));
      image_ids.push_back(1000 + static_cast<std::int64_t>(trial % 8));
      set("images", trial, images.back(), form.image);
      set("responses", trial, responses.back(), {form.neurons});
      set("behavior", trial, behavior.back(), {3});
      set("pupil_center", trial, pupil.back(), {2});
    }
    response_std = numbers.list(n, 0.5, 4);
    response_mean = numbers.list(n, 0.5, 3);
    for (std::int64_t i = 0; i < form.neurons; ++i) unit_ids.push_back(11 + 3 * i);
    add_meta(numbers);
  }

  void set(const std::string& field, std::size_t trial, const std::vector<double>& values,
           const std::vector<std::int64_t>& shape) {
    files[text("data/", field, '/', trial, ".npy")] = npy(values, shape);
  }
  void statistic(const std::string& field, const std::string& what, const std::vector<double>& values) {
    files["meta/statistics/" + field + "/all/" + what + ".npy"] = npy_list(values);
  }

 private:
  static std::vector<double> wide(const std::vector<std::int64_t>& values) {
    return {values.begin(), values.end()};
  }

  void add_meta(Numbers& numbers) {
    files["meta/trials/tiers.npy"] = npy_words(form.tiers);
    files["meta/trials/image_id.npy"] = npy_list<std::int64_t>(wide(image_ids));
    files["meta/statistics/images/all/mean.npy"] = npy({image_mean}, {});
    files["meta/statistics/images/all/std.npy"] = npy({image_std}, {});
    statistic("responses", "std", response_std);
    statistic("responses", "mean", response_mean);
    statistic("behavior", "std", behavior_std);
    statistic("pupil_center", "mean", pupil_mean);
    statistic("pupil_center", "std", pupil_std);
    files["meta/neurons/unit_ids.npy"] = npy_list<std::int64_t>(wide(unit_ids));
    std::vector<std::string> areas, layers;
    for (std::int64_t n = 0; n < form.neurons; ++n) {
      areas.emplace_back(n % 2 ? "LM" : "V1");
      layers.emplace_back(n % 3 ? "L2/3" : "L4");
    }
    files["meta/neurons/area.npy"] = npy_words(areas);
    files["meta/neurons/layer.npy"] = npy_words(layers);
    files["meta/neurons/cell_motor_coordinates.npy"] =
        npy(numbers.list(static_cast<std::size_t>(form.neurons) * 3, -200, 200), {form.neurons, 3});
  }
};

/// Files of a session as a folder that goes away, and options that name it.
struct Written {
  TemporaryFolder folder;
  StaticDataOptions options;

  explicit Written(const Files& files, const std::string& name = "tiny") {
    write_folder(folder / name, files);
    options.paths = {folder / name};
  }
  StaticSession open() const { return StaticSession(options, 0); }
};

inline StaticTrial trial_of(const StaticSession& session, std::int64_t trial) {
  StaticTrial result;
  session.read(trial, result);
  return result;
}

/// What a call throws, whatever kind of fovea's errors; "no error" where it throws none.
template <class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// Values of a list as a tensor, to be compared.
inline Tensor as_tensor(const std::vector<double>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())}, cpu_device(1));
}

/// Within `tolerance` of the largest value; fails on NaN, on nothing and on other sizes.
inline Comparison close(const std::vector<double>& expected, const std::vector<double>& actual,
                        double tolerance = 1e-12) {
  double largest = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  return within(as_tensor(expected), as_tensor(actual), tolerance * largest);
}

}  // namespace sensorium_test

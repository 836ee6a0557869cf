// Sessions of static images as the reference loader reads them: tests/fixtures/sensorium.
#include <map>

#include "sensorium_fixture.hpp"
#include "training/run_config.hpp"

using namespace sensorium_test;

namespace {

/// `<key>_<tier>_<option set>` and what its metadata say.
struct Case {
  std::string name, key;
  Tier tier = Tier::train;
  Json options;
  std::int64_t trials = 0;
};

std::vector<Case> golden_cases(const Safetensors& golden) {
  std::vector<Case> cases;
  for (const auto& [name, value] : golden.metadata) {
    const std::size_t bar = name.find('_');
    if (bar == std::string::npos) continue;
    Case one{name, name.substr(0, bar), {}, {}, 0};
    std::string tier = name.substr(bar + 1);
    for (const Tier known : all_tiers)
      if (tier.rfind(to_string(known) + '_', 0) == 0) one.tier = known;
    const Json said = Json::parse(value);
    one.options = said.at("options");
    one.trials = said.at("trials_in_tier").get<std::int64_t>();
    cases.push_back(one);
  }
  return cases;
}

/// (K,H,W,C) as (K,C,H,W).
std::vector<double> channels_first(const std::vector<double>& images, std::int64_t count,
                                   const Shape& shape) {
  const std::int64_t channels = shape[0], pixels = shape[1] * shape[2];
  std::vector<double> result(images.size());
  for (std::int64_t i = 0; i < count * channels * pixels; ++i) {
    const std::int64_t image = i / (channels * pixels), c = i / pixels % channels, p = i % pixels;
    result[static_cast<std::size_t>(i)] =
        images[static_cast<std::size_t>((image * pixels + p) * channels + c)];
  }
  return result;
}

void append(std::vector<double>& all, const std::vector<double>& values) {
  all.insert(all.end(), values.begin(), values.end());
}

/// How many fields were compared.
int compare(const Case& one, const Safetensors& golden, const std::string& path) {
  CAPTURE(one.name);
  Json section = one.options;
  section["paths"] = Json::array({path});
  const StaticSession session(parse_static_data_options(section), 0);
  CHECK(session.key() == one.key);
  const std::vector<std::int64_t>& trials = session.trials(one.tier);
  CHECK(static_cast<std::int64_t>(trials.size()) == one.trials);
  CHECK(session.neuron_index() == tensor_of(golden, one.name + "/neuron_index").to_vector<std::int64_t>());
  const std::vector<std::int64_t> index = tensor_of(golden, one.name + "/index").to_vector<std::int64_t>();
  REQUIRE(!index.empty());
  REQUIRE(index.size() <= trials.size());
  CHECK(std::vector<std::int64_t>(trials.begin(),
                                  trials.begin() + static_cast<std::ptrdiff_t>(index.size())) == index);
  std::map<std::string, std::vector<double>> read;
  StaticTrial trial;
  for (const std::int64_t number : index) {
    session.read(number, trial);
    append(read["images"], trial.image);
    append(read["responses"], trial.responses);
    append(read["behavior"], trial.behavior);
    append(read["pupil_center"], trial.pupil_center);
  }
  const auto count = static_cast<std::int64_t>(index.size());
  read["images"] = channels_first(read["images"], count, session.image_shape());
  int compared = 0;
  for (const auto& [field, values] : read) {
    const auto& shown_field = field;
    CAPTURE(shown_field);
    const Tensor* expected = golden.find(one.name + '/' + field);
    CHECK((expected != nullptr) == !values.empty());
    if (!expected) continue;
    if (field == "images") {
      const Shape& image = session.image_shape();
      CHECK(expected->shape() == Shape{count, image[0], image[1], image[2]});
    }
    CHECK(close(test::values(*expected), values, 1e-6));
    ++compared;
  }
  CHECK(session.has_behavior() == (golden.find(one.name + "/behavior") != nullptr));
  CHECK(session.has_pupil_center() == (golden.find(one.name + "/pupil_center") != nullptr));
  return compared;
}

/// The golden cases, every session where `place` puts its files.
void compare_all(const std::function<std::string(const std::string& key, const Files& files)>& place) {
  const Safetensors golden =
      read_safetensors(fixture_folder() + "/sensorium/expected.safetensors", cpu_device(1));
  std::map<std::string, std::string> paths;
  for (const std::string& key : golden_keys) paths[key] = place(key, unpacked(golden_zip(key)));
  std::map<std::string, int> cases, tiers;
  int compared = 0;
  for (const Case& one : golden_cases(golden)) {
    compared += compare(one, golden, paths.at(one.key));
    ++cases[one.key];
    ++tiers[to_string(one.tier)];
  }
  // Nothing of the file was passed over: three to five tensors a case, two of them indices.
  CHECK(compared + 2 * (cases[golden_keys[0]] + cases[golden_keys[1]]) ==
        static_cast<int>(golden.tensors.size()));
  for (const std::string& key : golden_keys) CHECK(cases[key] >= 30);
  for (const Tier tier : all_tiers) CHECK(tiers[to_string(tier)] >= 10);
}

}  // namespace

TEST_CASE("zips are read in place as the reference reads them unpacked") {
  compare_all([](const std::string& key, const Files&) { return golden_zip(key); });
}

TEST_CASE("folders hold the same as zips") {
  const TemporaryFolder folder;
  compare_all([&](const std::string& key, const Files& files) {
    const std::string path = folder / golden_name(key);
    write_folder(path, files);
    return path;
  });
}

TEST_CASE("zips without a top folder, stored, with another top folder and with foreign entries") {
  const std::vector<std::pair<const char*, ZipForm>> forms{
      {"no top", {"", true, {}}},
      {"stored", {"static/", false, {}}},
      {"another top", {"any name-1.0/", true, {}}},
      {"foreign entries",
       {"top/",
        true,
        {{"__MACOSX/top/._meta", "mac"},
         {"__MACOSX/top/data/images/._0.npy", "mac"},
         {"__MACOSX/top/meta/trials/tiers.npy", "mac"},
         {"top/.DS_Store", "mac"},
         {"top/data/images/.DS_Store", "mac"},
         {"top/data/images/._0.npy", "mac"},
         {"README.md", "hello"},
         {"other/README.md", "hello"}}}},
      {"no top, foreign entries",
       {"", false, {{"__MACOSX/meta/trials/tiers.npy", "mac"}, {"notes.txt", "x"}}}},
  };
  for (const auto& [what, form] : forms) {
    const auto& shown_what = what;
    CAPTURE(shown_what);
    const TemporaryFolder folder;
    compare_all([&, &zip_form = form](const std::string& key, const Files& files) {
      const std::string path = folder / (golden_name(key) + ".zip");
      write_zip(path, files, zip_form);
      return path;
    });
    CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 2);  // nothing beside them
  }
}

TEST_CASE("the checker of golden cases sees a changed value, trial order, neuron and field") {
  // On a copy of the files with one thing changed: what compare_all rests on.
  const std::string key = golden_keys[0];
  const Safetensors golden =
      read_safetensors(fixture_folder() + "/sensorium/expected.safetensors", cpu_device(1));
  Json section{{"paths", Json::array({golden_zip(key)})}};
  const StaticSession session(parse_static_data_options(section), 0);
  const Tensor expected = tensor_of(golden, key + "_train_tutorial/responses");
  std::vector<double> responses = trial_of(session, session.trials(Tier::train)[0]).responses;
  append(responses, trial_of(session, session.trials(Tier::train)[1]).responses);
  CHECK(close(test::values(expected), responses, 1e-6));
  responses[3] *= 1 + 1e-5;
  responses[9] += 1e-5;
  CHECK_FALSE(close(test::values(expected), responses, 1e-6));
  responses[3] = not_a_number;
  CHECK_FALSE(close(test::values(expected), responses, 1e-6));
  responses.pop_back();
  CHECK_FALSE(close(test::values(expected), responses, 1e-6));
  CHECK_FALSE(close({}, {}, 1e-6));
}

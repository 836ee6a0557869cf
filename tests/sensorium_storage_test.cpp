// How the arrays of sessions of static images may be stored, and their statistics.
#include "sensorium_fixture.hpp"

using namespace sensorium_test;

namespace {

/// All trials of two sessions, value by value.
void check_same_values(const StaticSession& expected, const StaticSession& actual, std::size_t trials) {
  REQUIRE(trials > 0);
  for (std::size_t i = 0; i < trials; ++i) {
    const StaticTrial a = trial_of(expected, static_cast<std::int64_t>(i)),
                      b = trial_of(actual, static_cast<std::int64_t>(i));
    CHECK(exact(as_tensor(a.image), as_tensor(b.image)));
    CHECK(exact(as_tensor(a.responses), as_tensor(b.responses)));
    CHECK(exact(as_tensor(a.pupil_center), as_tensor(b.pupil_center)));
    if (!a.behavior.empty()) CHECK(exact(as_tensor(a.behavior), as_tensor(b.behavior)));
  }
}

/// A session of whole numbers below 256, which every type holds.
TinySession whole_numbers() {
  TinyForm form;
  form.image = {2, 3, 4};
  TinySession tiny(form);
  const auto rounded = [](std::vector<double>& values) {
    for (double& value : values) value = std::abs(std::round(value / 2));
  };
  for (std::size_t trial = 0; trial < form.tiers.size(); ++trial) {
    for (auto* values : {&tiny.images, &tiny.responses, &tiny.behavior, &tiny.pupil})
      rounded((*values)[trial]);
    tiny.set("images", trial, tiny.images[trial], form.image);
    tiny.set("responses", trial, tiny.responses[trial], {form.neurons});
    tiny.set("behavior", trial, tiny.behavior[trial], {3});
    tiny.set("pupil_center", trial, tiny.pupil[trial], {2});
  }
  return tiny;
}

/// Every trial file stored by `store`.
template <class Store>
Files stored_by(const TinySession& tiny, const Store& store) {
  Files files = tiny.files;
  for (std::size_t trial = 0; trial < tiny.form.tiers.size(); ++trial) {
    const auto put = [&](const char* field, const std::vector<double>& values,
                         const std::vector<std::int64_t>& shape) {
      files[text("data/", field, '/', trial, ".npy")] = store(values, shape);
    };
    put("images", tiny.images[trial], tiny.form.image);
    put("responses", tiny.responses[trial], {tiny.form.neurons});
    put("behavior", tiny.behavior[trial], {3});
    put("pupil_center", tiny.pupil[trial], {2});
  }
  return files;
}

/// In zips: many times over, a file is made faster than a folder.
void check_stored_alike(const TinySession& tiny, const Files& files) {
  const TemporaryFolder folder;
  StaticDataOptions options;
  options.include_behavior = true;
  options.paths = {folder / "expected.zip", folder / "actual.zip"};
  write_zip(options.paths[0], tiny.files);
  write_zip(options.paths[1], files);
  check_same_values(StaticSession(options, 0), StaticSession(options, 1), tiny.form.tiers.size());
}

template <class T>
void check_type(const TinySession& tiny) {
  for (const NpyForm form : {NpyForm{false, false}, {true, false}, {false, true}, {true, true}}) {
    CAPTURE(npy_descr<T>(form.turned));
    CAPTURE(form.fortran);
    check_stored_alike(tiny, stored_by(tiny, [&](const auto& values, const auto& shape) {
                         return npy<T>(values, shape, form);
                       }));
  }
}

/// A whole number from 0 to 2048 as half precision.
std::uint16_t half_of(double value) {
  if (value == 0) return 0;
  const int exponent = std::ilogb(value);
  return static_cast<std::uint16_t>(((exponent + 15) << 10) +
                                    static_cast<int>(std::ldexp(value, 10 - exponent)) - 1024);
}

std::string key_of(const std::string& name) {
  static const TinySession tiny;
  const TemporaryFolder folder;
  StaticDataOptions options;
  if (name.size() > 4 && name.substr(name.size() - 4) == ".zip") {
    write_zip(folder / name, tiny.files);
  } else {
    write_folder(folder / name, tiny.files);
  }
  options.paths = {folder / name};
  return StaticSession(options, 0).key();
}

}  // namespace

TEST_CASE("every real type, in both byte orders and both axis orders") {
  const TinySession tiny = whole_numbers();
  check_type<std::uint8_t>(tiny);
  check_type<std::int16_t>(tiny);
  check_type<std::uint32_t>(tiny);
  check_type<std::int64_t>(tiny);
  check_type<float>(tiny);
  check_type<double>(tiny);
}

TEST_CASE("half precision") {
  const TinySession tiny = whole_numbers();
  for (const bool turned : {false, true})
    check_stored_alike(tiny, stored_by(tiny, [&](const auto& values, const auto& shape) {
                         std::vector<std::uint16_t> halves;
                         for (const double value : values) halves.push_back(half_of(value));
                         return npy_bytes(npy_dictionary(turned ? ">f2" : "<f2", shape_tuple(shape)),
                                          bytes_of(halves, turned));
                       }));
}

TEST_CASE("leading axes of length 1 are squeezed") {
  const TinySession tiny = whole_numbers();
  for (const std::vector<std::int64_t>& ones : {std::vector<std::int64_t>{1}, {1, 1}})
    for (const bool fortran : {false, true})
      check_stored_alike(tiny,
                         stored_by(tiny, [&, fortran_order = fortran](const auto& values, const auto& shape) {
                           std::vector<std::int64_t> longer = ones;
                           longer.insert(longer.end(), shape.begin(), shape.end());
                           return npy<float>(values, longer, {false, fortran_order});
                         }));
  // One channel is not an axis to be squeezed, and a trailing axis is not a leading one.
  TinyForm form;
  form.image = {1, 1, 4};
  CHECK(Written(TinySession(form).files).open().image_shape() == Shape{1, 1, 4});
  TinySession wrong;
  wrong.set("images", 0, std::vector<double>(12, 1), {3, 4});
  CHECK(mentions(error_of([&] { Written(wrong.files).open(); }), "data/images/0.npy"));
  TinySession column;
  column.set("responses", 0, std::vector<double>(5, 1), {5, 1});
  CHECK(mentions(error_of([&] { Written(column.files).open(); }), "data/responses/0.npy"));
}

TEST_CASE("image ids come from the first of the three files that is there") {
  TinySession tiny;
  const auto ids = [](double first) {
    std::vector<double> values;
    for (int i = 0; i < 10; ++i) values.push_back(first + i);
    return npy_list<std::int32_t>(values);
  };
  tiny.files["meta/trials/frame_image_id.npy"] = ids(300);
  tiny.files["meta/trials/colorframeprojector_image_id.npy"] = ids(200);
  tiny.files["meta/trials/image_id.npy"] = ids(100);
  CHECK(Written(tiny.files).open().image_id(4) == "104");
  tiny.files.erase("meta/trials/image_id.npy");
  CHECK(Written(tiny.files).open().image_id(4) == "204");
  tiny.files.erase("meta/trials/colorframeprojector_image_id.npy");
  CHECK(Written(tiny.files).open().image_id(4) == "304");
  tiny.files.erase("meta/trials/frame_image_id.npy");
  const std::string message = error_of([&] { Written(tiny.files).open(); });
  CHECK(mentions(message, "session tiny"));
  CHECK(mentions(message, "image_id"));
}

TEST_CASE("trial_idx: numbers, text or none") {
  TinySession tiny;
  CHECK(Written(tiny.files).open().trial_idx(7) == "7");
  tiny.files["meta/trials/trial_idx.npy"] = npy_list<std::int64_t>({9, 8, 7, 6, 5, 4, 3, 2, 1, 0});
  CHECK(Written(tiny.files).open().trial_idx(7) == "2");
  tiny.files["meta/trials/trial_idx.npy"] = npy_words({"a", "b", "c", "d", "e", "f", "g", "7-x", "i", "j"});
  CHECK(Written(tiny.files).open().trial_idx(7) == "7-x");
  tiny.files["meta/trials/trial_idx.npy"] = npy_list<std::int64_t>({1, 2});
  const std::string message = error_of([&] { Written(tiny.files).open(); });
  CHECK(mentions(message, "session tiny"));
  CHECK(mentions(message, "meta/trials/trial_idx.npy: 2 entries, expected 10"));
}

TEST_CASE("tiers are numpy's unicode of any width and byte order, or byte strings") {
  const TinySession tiny;
  const auto trained = [&](const std::string& tiers) {
    Files files = tiny.files;
    files["meta/trials/tiers.npy"] = tiers;
    return Written(files).open().trials(Tier::train);
  };
  const std::vector<std::int64_t> expected{0, 1, 3, 5, 6, 9};
  std::vector<std::uint32_t> units;
  std::string bytes;
  for (const std::string& tier : tiny.form.tiers) {
    for (std::size_t i = 0; i < 16; ++i)
      units.push_back(i < tier.size() ? static_cast<unsigned char>(tier[i]) : 0);
    bytes += tier + std::string(12 - tier.size(), '\0');
  }
  CHECK(trained(npy_bytes(npy_dictionary("<U16", "(10,)"), bytes_of(units))) == expected);
  CHECK(trained(npy_bytes(npy_dictionary(">U16", "(10,)"), bytes_of(units, true))) == expected);
  CHECK(trained(npy_bytes(npy_dictionary("|S12", "(10,)"), bytes)) == expected);
  CHECK(mentions(error_of([&] { trained(npy_bytes(npy_dictionary("<U16", "(11,)"), bytes_of(units))); }),
                 "meta/trials/tiers.npy"));
}

TEST_CASE("session keys by the names of files and folders") {
  CHECK(key_of("static21067-10-18-GrayImageNet-94c6ff99") == "21067-10-18");
  CHECK(key_of("static21067-10-18-GrayImageNet-94c6ff99.zip") == "21067-10-18");
  CHECK(key_of("static26872-17-20-ColorImageNet-94c6ff99.zip") == "26872-17-20");
  CHECK(key_of("static20457-5-9-preproc0") == "20457-5-9");
  CHECK(key_of("static20457-5-9-preproc0.zip") == "20457-5-9");
  CHECK(key_of("mouse_3") == "mouse_3");
  CHECK(key_of("mouse_3.zip") == "mouse_3");
  CHECK(key_of("static.folder-x") == "static.folder-x");
  CHECK(key_of("a.b") == "a.b");
}

TEST_CASE("a path with a slash at its end, and with ..") {
  const TinySession tiny;
  Written written(tiny.files, "static1-2-3-GrayImageNet-0");
  const std::string path = written.options.paths[0];
  for (const std::string& same : {path + '/', path + "/.", path + "/../static1-2-3-GrayImageNet-0"}) {
    CAPTURE(same);
    written.options.paths = {same};
    CHECK(written.open().key() == "1-2-3");
  }
}

// ---- statistics

TEST_CASE("statistics are scalars of any of three shapes, or one per value") {
  TinySession tiny;
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{}, std::vector<std::int64_t>{1}, std::vector<std::int64_t>{1, 1, 1}}) {
    for (const char* what : {"mean", "std"})
      tiny.files[text("meta/statistics/images/all/", what, ".npy")] =
          npy<float>({what[0] == 'm' ? 100.0 : 64.0}, shape);
    tiny.files["meta/statistics/responses/all/std.npy"] = npy({2.5}, shape);
    tiny.files["meta/statistics/responses/all/mean.npy"] = npy({5}, shape);
    tiny.files["meta/statistics/behavior/all/std.npy"] = npy({4}, shape);
    tiny.files["meta/statistics/pupil_center/all/mean.npy"] = npy({150}, shape);
    tiny.files["meta/statistics/pupil_center/all/std.npy"] = npy({8}, shape);
    Written written(tiny.files);
    written.options.include_behavior = true;
    written.options.add_behavior_as_channels = false;
    const StaticSession session = written.open();
    const StaticTrial trial = trial_of(session, 6);
    const auto changed = [](std::vector<double> values, double mean, double deviation) {
      for (double& value : values) value = (value - mean) / deviation;
      return values;
    };
    CHECK(close(changed(tiny.images[6], 100, 64), trial.image));
    CHECK(close(changed(tiny.responses[6], 0, 2.5), trial.responses));
    CHECK(close(changed(tiny.behavior[6], 0, 4), trial.behavior));
    CHECK(close(changed(tiny.pupil[6], 150, 8), trial.pupil_center));
    CHECK(close(std::vector<double>(5, 2), session.mean_activity()));
  }
  tiny.statistic("responses", "std", {1, 2, 3});
  const std::string message = error_of([&] { Written(tiny.files).open(); });
  CHECK(mentions(message, "session tiny"));
  CHECK(mentions(message, "meta/statistics/responses/all/std.npy"));
}

TEST_CASE("response deviations of at most a hundredth of their mean, and NaN, count as that hundredth") {
  TinySession tiny;
  // The mean of those that are numbers is 4.0101; a hundredth of it is 0.040101.
  const std::vector<double> deviations{8, not_a_number, 0.0404, 0, 8};
  double mean = 0;
  for (const double value : {8.0, 0.0404, 0.0, 8.0}) mean += value / 4;
  tiny.statistic("responses", "std", deviations);
  const auto expected = [&](const std::vector<double>& responses) {
    std::vector<double> divided;
    for (std::size_t n = 0; n < 5; ++n)
      divided.push_back(responses[n] / (deviations[n] > 0.01 * mean ? deviations[n] : 0.01 * mean));
    return divided;
  };
  Written written(tiny.files);
  CHECK(deviations[2] > 0.01 * mean);
  CHECK(close(expected(tiny.responses[4]), trial_of(written.open(), 4).responses));
  // The mean is over all neurons, also where only some are used.
  written.options.neuron_ids = {std::vector<std::int64_t>{20, 17}};
  const std::vector<double> all = expected(tiny.responses[4]);
  CHECK(close({all[3], all[2]}, trial_of(written.open(), 4).responses));
  tiny.statistic("responses", "std", {8, not_a_number, 0.0400, 0, 8});
  CHECK(
      close({tiny.responses[4][2] / (0.01 * 4.01)}, {trial_of(Written(tiny.files).open(), 4).responses[2]}));
  for (const double bad : {0.0, not_a_number}) {
    tiny.statistic("responses", "std", std::vector<double>(5, bad));
    const std::string message = error_of([&] { Written(tiny.files).open(); });
    CHECK(mentions(message, "session tiny"));
    CHECK(mentions(message, "meta/statistics/responses/all/std.npy"));
  }
}

TEST_CASE("a deviation of 0 or NaN of behaviour or pupil counts as 1, with a warning") {
  TinySession tiny;
  tiny.statistic("behavior", "std", {0, 2, not_a_number});
  tiny.statistic("pupil_center", "std", {4, 0});
  Written written(tiny.files);
  CHECK(written.open().warnings().size() == 1);  // behaviour is not used
  written.options.include_behavior = true;
  written.options.add_behavior_as_channels = false;
  const StaticSession session = written.open();
  const StaticTrial trial = trial_of(session, 0);
  CHECK(close({tiny.behavior[0][0], tiny.behavior[0][1] / 2, tiny.behavior[0][2]}, trial.behavior));
  CHECK(close({(tiny.pupil[0][0] - 200) / 4, tiny.pupil[0][1] - 160}, trial.pupil_center));
  REQUIRE(session.warnings().size() == 3);
  for (const std::string& warning : session.warnings()) CHECK(mentions(warning, "session tiny"));
  CHECK(mentions(session.warnings()[0], "behavior"));
  CHECK(mentions(session.warnings()[1], "behavior"));
  CHECK(mentions(session.warnings()[2], "pupil_center"));
  written.options.normalize = false;
  CHECK(written.open().warnings().empty());
}

TEST_CASE("statistics that are needed and missing are an error; without normalisation none are needed") {
  const TinySession tiny;
  const std::vector<std::pair<const char*, const char*>> needed{
      {"images", "mean"},  {"images", "std"},        {"responses", "std"},
      {"behavior", "std"}, {"pupil_center", "mean"}, {"pupil_center", "std"}};
  Files none = tiny.files;
  for (const auto& [field, what] : needed) {
    const std::string file = text("meta/statistics/", field, "/all/", what, ".npy");
    CAPTURE(file);
    Files files = tiny.files;
    files.erase(file);
    none.erase(file);
    Written written(files);
    written.options.include_behavior = true;
    const std::string message = error_of([&] { written.open(); });
    CHECK(mentions(message, "session tiny"));
    CHECK(mentions(message, file + " is missing"));
    written.options.exclude = {field};
    CHECK(written.open().n_neurons() == 5);  // not needed
  }
  for (const char* field : {"images", "responses", "behavior", "pupil_center"})
    none[text("meta/statistics/", field, "/stimulus_frame/std.npy")] = npy({1}, {});  // not read
  Written written(none);
  CHECK(mentions(error_of([&] { written.open(); }), " is missing"));
  written.options.normalize = false;
  const StaticSession raw = written.open();
  CHECK(trial_of(raw, 3).image == tiny.images[3]);
  CHECK(trial_of(raw, 3).responses == tiny.responses[3]);
  CHECK(trial_of(raw, 3).pupil_center == tiny.pupil[3]);
  CHECK(raw.mean_activity().empty());
  CHECK_FALSE(raw.stimulus_normalization());
}

TEST_CASE("neither behaviour nor pupil nor meta/neurons need to be there where no option uses them") {
  TinySession tiny;
  Files files;
  for (const auto& [name, bytes] : tiny.files)
    if (!mentions(name, "behavior") && !mentions(name, "pupil") && !mentions(name, "meta/neurons"))
      files[name] = bytes;
  Written written(files);
  CHECK(mentions(error_of([&] { written.open(); }), "data/pupil_center/0.npy is missing"));
  written.options.include_eye_position = false;
  const StaticSession session = written.open();
  CHECK(session.n_neurons() == 5);
  CHECK(session.unit_ids().empty());
  CHECK(trial_of(session, 0).pupil_center.empty());
  const auto refused = [&](auto change) {
    StaticDataOptions options = written.options;
    change(options);
    return error_of([&] { StaticSession(options, 0); });
  };
  CHECK(mentions(refused([](StaticDataOptions& o) { o.include_behavior = true; }),
                 "data/behavior/0.npy is missing"));
  CHECK(mentions(refused([](StaticDataOptions& o) { o.areas = {"V1"}; }), "session tiny: areas needs meta/"));
  CHECK(
      mentions(refused([](StaticDataOptions& o) { o.layers = {"L4"}; }), "session tiny: layers needs meta/"));
  CHECK(mentions(refused([](StaticDataOptions& o) { o.neuron_ids = {std::vector<std::int64_t>{11}}; }),
                 "session tiny: neuron_ids needs meta/"));
  CHECK(mentions(refused([](StaticDataOptions& o) {
                   o.neuron_n = 2;
                   o.neuron_base_seed = 1;
                 }),
                 "session tiny: neuron_n needs meta/"));
}

// Reading of openretina HDF5 directories, well-formed and not.
#include "openretina_fixture.hpp"

using namespace openretina_test;

TEST_CASE("sessions, training movie, normalisation and mean activity as openretina has them") {
  const Recording recording;
  const DataSet data = recording.load();
  REQUIRE(data.sessions.size() == 1);
  const Session& session = data.sessions[0];
  CHECK(session.key == "s");
  CHECK(session.neurons == 3);
  CHECK(session.stimulus.frames() == 67);
  CHECK(session.responses.frames() == 67);
  CHECK((data.channels == 2 && data.height == 3 && data.width == 2));
  // numpy's mean and std(ddof=1) of the 804 values; their sums in another order: 804 * eps at most
  CHECK(std::abs(data.normalization->mean - -0.05845771144278607) <= 804 * 2.3e-16 * 6);
  CHECK(std::abs(data.normalization->deviation - 3.7596289805888987) <= 804 * 2.3e-16 * 6);
  REQUIRE(session.mean_activity.size() == 3);
  CHECK(session.mean_activity[0] == doctest::Approx(2.925373134328358).epsilon(1e-15));
  CHECK(session.mean_activity[1] == doctest::Approx(3.0597014925373136).epsilon(1e-15));
  CHECK(session.mean_activity[2] == doctest::Approx(2.985074626865672).epsilon(1e-15));
  REQUIRE(session.test("test"));
  CHECK_FALSE(session.test("a_train"));
  const Tensor test = session.test("test")->stimulus.read(DType::f32, cpu_device(1), *data.normalization);
  REQUIRE(test.shape() == Shape{1, 9, 3, 2, 2});
  CHECK(test.to_vector<float>().back() == 1.0794836282730103f);  // frame 8, y 2, x 1, channel 1
  const Tensor test_responses = session.test("test")->responses.read(DType::f32, cpu_device(1));
  REQUIRE(test_responses.shape() == Shape{1, 9, 3});
  CHECK(test_responses.reshape({9, 3}).rows(8, 9).to_vector<float>() == std::vector<float>{4, 1, 5});
}

TEST_CASE("reading lays out channels-last over the border of two parts, in both precisions") {
  const Recording recording;
  const DataSet data = recording.load();
  const TimeSeries& series = data.sessions[0].stimulus;
  std::vector<double> expected;
  for (int t = 37; t < 44; ++t)
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x)
        for (int c = 0; c < channels; ++c)
          expected.push_back(t < 40 ? stimulus_value(c, t, y, x, 0) : stimulus_value(c, t - 40, y, x, 4));
  GuardedBuffer<double> doubles(expected.size());
  series.read(37, 44, doubles.data());
  CHECK(doubles.values() == expected);
  CHECK(doubles.intact());
  GuardedBuffer<float> floats(expected.size(), 1);
  series.read(37, 44, floats.data(), {0.5, 3});
  std::vector<float> normalised;
  for (const double value : expected) normalised.push_back((static_cast<float>(value) - 0.5f) / 3.0f);
  CHECK(floats.values() == normalised);
  CHECK(floats.intact());
  CHECK_THROWS_AS(series.read(60, 68, doubles.data()), ShapeError);
  CHECK_THROWS_AS(series.read(-1, 2, doubles.data()), ShapeError);
  CHECK_THROWS_AS(series.read(0, 1, DType::i64, cpu_device(1)), ShapeError);
}

TEST_CASE("the tests load without any training part") {
  const Recording recording;
  const std::string whole = recording.load().content_hash;
  std::filesystem::remove(recording.folder / "stimuli/a_train.npy");
  CHECK(contains(load_error(recording.options), "responses_a_train has no stimulus"));
  const DataSet data = recording.load(DataParts::tests);
  REQUIRE(data.sessions.size() == 1);
  CHECK(data.sessions[0].tests.size() == 1);
  CHECK(data.sessions[0].stimulus.frames() == 0);
  CHECK_FALSE(data.normalization);
  CHECK(contains(message_of<Error>([&] { data.checked_normalization(); }), "normalize"));
  CHECK(data.content_hash != whole);
  CHECK(data.content_hash.size() == 16);
  DataOptions none = recording.options;
  none.normalize = NormalizeMode::none;
  CHECK(load_openretina(none, DataParts::tests).normalization->deviation == 1);
  none.normalize = NormalizeMode::given, none.given_normalization = {2, 4};
  CHECK(load_openretina(none, DataParts::tests).normalization->deviation == 4);
  none.test_names.clear();
  CHECK_THROWS_AS(load_openretina(none, DataParts::tests), ConfigError);
}

TEST_CASE("stimuli of equal content are held once, other ones are not") {
  const TemporaryFolder folder;
  write_own_session(folder / "a.h5", 60);
  write_own_session(folder / "b b-é.1.hdf5", 60);
  write_own_session(folder / "c.h5", 60, 1);
  DataOptions options;
  options.path = folder.path();
  const DataSet data = load_openretina(options);
  REQUIRE(data.sessions.size() == 3);
  CHECK(data.sessions[1].key == "b b-é.1");
  const auto bytes = [&](std::size_t session) { return data.sessions[session].stimulus.parts()[0].bytes(); };
  CHECK(bytes(0) == bytes(1));
  CHECK(bytes(0) != bytes(2));
  // every different movie counts once
  const Normalization expected =
      mean_and_deviation({data.sessions[0].stimulus.parts()[0], data.sessions[2].stimulus.parts()[0]});
  CHECK(data.normalization->mean == expected.mean);
  CHECK(data.normalization->deviation == expected.deviation);
  CHECK(data.neurons().at("c") == 3);
}

TEST_CASE("Fortran order, big-endian and other element types give the same data") {
  const Recording recording;
  const auto read = [](const DataSet& set, bool stimulus) {
    const Session& session = set.sessions.at(0);
    return (stimulus ? session.stimulus : session.responses).read(DType::f64, cpu_device(1));
  };
  const DataSet before = recording.load();
  const std::string hash_before = before.content_hash;
  const Tensor stimulus_before = read(before, true), responses_before = read(before, false);
  const std::vector<std::int8_t> values = movie(40);
  std::vector<std::int16_t> fortran(values.size());
  std::size_t at = 0;
  for (std::size_t c = 0; c < 2; ++c)
    for (std::size_t t = 0; t < 40; ++t)
      for (std::size_t y = 0; y < 3; ++y)
        for (std::size_t x = 0; x < 2; ++x) fortran[c + 2 * (t + 40 * (y + 3 * x))] = values[at++];
  write_bytes(recording.folder / "stimuli/a_train.npy",
              npy_bytes(npy_dictionary(">i2", "(2, 40, 3, 2)", true), bytes_of(fortran, true)));
  {
    Hdf5Writer writer(recording.folder / "s.h5");
    writer.numbers("responses_a_train", {neurons, 40}, responses<double>(40), H5T_IEEE_F32BE);
    writer.numbers("responses_b_train", {neurons, 27}, responses<std::int64_t>(27, 1), H5T_STD_I16BE);
    writer.numbers("responses_test", {neurons, 9}, responses<float>(9, 2));
  }
  const DataSet data = recording.load();
  CHECK(exact(stimulus_before, read(data, true)));
  CHECK(exact(responses_before, read(data, false)));
  CHECK(data.content_hash != hash_before);  // other bytes
}

TEST_CASE("responses by trial and session_info are kept") {
  const Recording recording;
  {
    Hdf5Writer writer(recording.folder / "s.h5");
    writer.numbers("responses_a_train", {neurons, 40}, responses(40));
    writer.numbers("responses_test", {neurons, 9}, responses(9, 2));
    std::vector<std::uint8_t> trials = responses(9, 2), second = responses(9, 3);
    trials.insert(trials.end(), second.begin(), second.end());
    writer.numbers("responses_by_trial_test", {2, neurons, 9}, trials);
    writer.group("session_info");
    writer.numbers<std::int64_t>("session_info/cell", {neurons}, {5, 6, 7});
    const hid_t fixed = H5Tcopy(H5T_C_S1);
    H5Tset_size(fixed, 4);
    writer.raw("session_info/animal", {2}, fixed, fixed, "fishfrog");
    const hid_t variable = H5Tcopy(H5T_C_S1);
    H5Tset_size(variable, H5T_VARIABLE);
    const char* names[] = {"salamander"};
    writer.raw("session_info/name", {1}, variable, variable, names);
    writer.group("session_info/more");
    H5Tclose(fixed), H5Tclose(variable);
  }
  const DataSet data = recording.load();
  const Session& session = data.sessions.at(0);
  const Tensor trials = session.test("test")->responses_by_trial.to_tensor(DType::f64, cpu_device(1));
  REQUIRE(trials.shape() == Shape{2, 3, 9});
  const std::vector<double> second = responses<double>(9, 3);
  CHECK(trials.reshape({2, 27}).rows(1, 2).to_vector<double>() == second);
  std::map<std::string, SessionField> info;
  for (const SessionField& field : session.info) info[field.name] = field;
  REQUIRE(info.size() == 4);
  CHECK(info["cell"].values.to_tensor(DType::i64, cpu_device(1)).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{5, 6, 7});
  CHECK(info["animal"].text == std::vector<std::string>{"fish", "frog"});
  CHECK(info["name"].text == std::vector<std::string>{"salamander"});
  CHECK((!info["more"].values.defined() && info["more"].text.empty()));
}

// ---- malformed directories

TEST_CASE("malformed session files are refused with file, data set and value") {
  using Write = void (*)(Hdf5Writer&);
  struct Case {
    const char* expected;
    Write write;
  };
  const std::vector<Case> cases = {
      {"holds no responses_", [](Hdf5Writer&) {}},
      {"responses_a_train: axes [N, T] expected: (120,)",
       [](Hdf5Writer& file) { file.numbers("responses_a_train", {120}, responses(40)); }},
      {"responses_a_train: axes [N, T] expected: (3, 40, 1)",
       [](Hdf5Writer& file) {
         file.numbers("responses_a_train", {3, 40, 1}, responses(40));
       }},
      {"an axis of [N, T] is empty: (0, 40)",
       [](Hdf5Writer& file) {
         file.numbers<std::uint8_t>("responses_a_train", {0, 40}, {});
       }},
      {"responses_a_train: 39 frames, its stimulus",
       [](Hdf5Writer& file) {
         file.numbers("responses_a_train", {3, 39}, responses(39));
       }},
      {"responses_b_train: 2 neurons, other responses of the session have 3",
       [](Hdf5Writer& file) {
         file.numbers("responses_a_train", {3, 40}, responses(40));
         file.numbers("responses_b_train", {2, 27}, responses(27, 0, 2));
       }},
      {"responses_a_train: session s: value at [2, 39] is not finite in float32: nan",
       [](Hdf5Writer& file) {
         std::vector<double> values = responses<double>(40);
         values.back() = std::nan("");
         file.numbers("responses_a_train", {3, 40}, values);
       }},
      {"value at [0, 1] is not finite in float32: 1e+300",
       [](Hdf5Writer& file) {
         std::vector<double> values = responses<double>(40);
         values[1] = 1e300;
         file.numbers("responses_a_train", {3, 40}, values);
       }},
      {"responses_nothing has no stimulus",
       [](Hdf5Writer& file) {
         file.numbers("responses_nothing", {3, 40}, responses(40));
       }},
      {"stimulus name is empty",
       [](Hdf5Writer& file) {
         file.numbers("responses_", {3, 40}, responses(40));
       }},
      {"stimulus name holds a control character",
       [](Hdf5Writer& file) {
         file.numbers("responses_a\nb", {3, 40}, responses(40));
       }},
      {"stimulus name is not UTF-8",
       [](Hdf5Writer& file) {
         file.numbers("responses_\xff", {3, 40}, responses(40));
       }},
      {"every responses_<name> is in test_names",
       [](Hdf5Writer& file) {
         file.numbers("responses_test", {3, 9}, responses(9));
       }},
      {"test_names: no session has responses_test",
       [](Hdf5Writer& file) {
         file.numbers("responses_a_train", {3, 40}, responses(40));
       }},
      {"responses_by_trial_test: lacks its mean",
       [](Hdf5Writer& file) {
         file.numbers("responses_a_train", {3, 40}, responses(40));
         file.numbers("responses_by_trial_test", {1, 3, 9}, responses(9));
       }},
      {"responses_by_trial_test: (1, 3, 8) does not agree with",
       [](Hdf5Writer& file) {
         file.numbers("responses_a_train", {3, 40}, responses(40));
         file.numbers("responses_test", {3, 9}, responses(9));
         file.numbers("responses_by_trial_test", {1, 3, 8}, responses(8));
       }},
      {"stimulus_a_train: axes [C, T, H, W] expected: (40, 3, 2)",
       [](Hdf5Writer& file) {
         file.numbers("responses_a_train", {3, 40}, responses(40));
         file.numbers("stimulus_a_train", {40, 3, 2}, std::vector<std::int8_t>(240));
       }},
      {"stimulus_b_train: channels, height, width (2, 2, 3) differ from (2, 3, 2) of",
       [](Hdf5Writer& file) {
         file.numbers("responses_a_train", {3, 40}, responses(40));
         file.numbers("responses_b_train", {3, 27}, responses(27));
         file.numbers("stimulus_b_train", {2, 27, 2, 3}, movie(27));
       }},
      {"stimulus_a_train: value at [0, 0, 0, 1] is not finite in float32: inf",
       [](Hdf5Writer& file) {
         std::vector<float> values(480, 1.0f);
         values[1] = std::numeric_limits<float>::infinity();
         file.numbers("responses_a_train", {3, 40}, responses(40));
         file.numbers("stimulus_a_train", {2, 40, 3, 2}, values);
       }},
      {"cannot be normalised: mean 1, standard deviation 0",
       [](Hdf5Writer& file) {
         file.numbers("responses_test", {3, 9}, responses(9));
         file.numbers("responses_a_train", {3, 40}, responses(40));
         file.numbers("stimulus_a_train", {2, 40, 3, 2}, std::vector<float>(480, 1.0f));
       }},
      {"responses_a_train: is not a data set", [](Hdf5Writer& file) { file.group("responses_a_train"); }},
      {"numbers expected, the element type is text",
       [](Hdf5Writer& file) {
         const hid_t type = H5Tcopy(H5T_C_S1);
         file.raw("responses_a_train", {3, 1}, type, type, "abc");
         H5Tclose(type);
       }},
      {"numbers expected, the element type is compound",
       [](Hdf5Writer& file) {
         const hid_t type = H5Tcreate(H5T_COMPOUND, 4);
         H5Tinsert(type, "a", 0, H5T_NATIVE_FLOAT);
         file.raw("responses_a_train", {1, 1}, type, type, "abcd");
         H5Tclose(type);
       }},
      {"numbers expected, the element type is enumeration or boolean",
       [](Hdf5Writer& file) {
         const hid_t type = H5Tenum_create(H5T_NATIVE_INT8);
         const std::int8_t no = 0, yes = 1;
         H5Tenum_insert(type, "FALSE", &no);
         H5Tenum_insert(type, "TRUE", &yes);
         file.raw("responses_a_train", {1, 1}, type, type, &yes);
         H5Tclose(type);
       }},
      {"element of 16 bytes",
       [](Hdf5Writer& file) {
         const long double value = 1;
         file.raw("responses_a_train", {1, 1}, H5T_NATIVE_LDOUBLE, H5T_NATIVE_LDOUBLE, &value);
       }},
      {"holds no values: it was never written",
       [](Hdf5Writer& file) {
         file.raw("responses_a_train", {1u << 20, 1u << 30}, H5T_NATIVE_DOUBLE, H5T_NATIVE_DOUBLE, nullptr);
       }},
      {"more than 6 axes: 7",
       [](Hdf5Writer& file) {
         file.numbers<std::uint8_t>("responses_a_train", {1, 1, 1, 1, 1, 1, 1}, {1});
       }},
      {"links into other files are not followed",
       [](Hdf5Writer& file) {
         H5Lcreate_external("other.h5", "/x", file.id(), "responses_a_train", H5P_DEFAULT, H5P_DEFAULT);
       }},
      {"a link to nothing",
       [](Hdf5Writer& file) {
         H5Lcreate_soft("/nowhere", file.id(), "responses_a_train", H5P_DEFAULT, H5P_DEFAULT);
       }},
      {"values in other files are not read",
       [](Hdf5Writer& file) {
         const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
         H5Pset_external(properties, "/dev/zero", 0, 120);
         file.raw("responses_a_train", {3, 40}, H5T_NATIVE_UINT8, H5T_NATIVE_UINT8, nullptr, properties);
         H5Pclose(properties);
       }},
  };
  const Recording recording;
  const std::string path = recording.folder / "s.h5";
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  for (const Case& one : cases) {
    std::filesystem::remove(path);
    {
      Hdf5Writer writer(path);
      one.write(writer);
    }
    const std::string message = load_error(recording.options);
    CAPTURE(one.expected);
    CAPTURE(message);
    CHECK(contains(message, one.expected));
  }
}

TEST_CASE("a shape that compression cannot explain is refused before it is allocated") {
  const Recording recording;
  {
    Hdf5Writer writer(recording.folder / "s.h5");
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t chunk[] = {3, 1000}, shape[] = {3, hsize_t{1} << 40}, first[] = {0, 0}, count[] = {3, 1000};
    H5Pset_chunk(properties, 2, chunk);
    const hid_t space = H5Screate_simple(2, shape, nullptr), memory = H5Screate_simple(2, count, nullptr);
    const hid_t data = H5Dcreate2(writer.id(), "responses_a_train", H5T_NATIVE_UINT8, space, H5P_DEFAULT,
                                  properties, H5P_DEFAULT);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, first, nullptr, count, nullptr);
    const std::vector<std::uint8_t> values(3000);
    REQUIRE(H5Dwrite(data, H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, values.data()) >= 0);
    H5Dclose(data), H5Sclose(space), H5Sclose(memory), H5Pclose(properties);
  }
  CHECK(contains(load_error(recording.options),
                 "responses_a_train: shape (3, 1099511627776) cannot be: the file has only"));
}

TEST_CASE("folders and session names") {
  DataOptions options;
  options.path = "/no/such/folder";
  CHECK(contains(load_error(options), "is not a folder"));
  const TemporaryFolder folder;
  options.path = folder.path();
  CHECK(contains(load_error(options), "holds no session file"));
  write_bytes(folder / "s.h5", "not HDF5");
  CHECK(contains(load_error(options), "s.h5: is not an HDF5 file"));
  std::filesystem::remove(folder / "s.h5");
  std::filesystem::create_directory(folder / "s.h5");
  CHECK(contains(load_error(options), "s.h5: is not a regular file"));
  std::filesystem::remove(folder / "s.h5");
  for (const auto& [name, expected] :
       {std::pair{".h5", "session key is empty"}, std::pair{"a\tb.h5", "control character"},
        std::pair{"\xc0\xaf.h5", "not UTF-8"}, std::pair{"\xed\xa0\x80.h5", "not UTF-8"}}) {
    write_bytes(folder / name, "");
    const auto& shown_expected = expected;
    CAPTURE(shown_expected);
    CHECK(contains(load_error(options), expected));
    std::filesystem::remove(folder / name);
  }
  write_own_session(folder / "a.h5", 40);
  CHECK(load_openretina(options).sessions.size() == 1);
  write_own_session(folder / "a.hdf5", 40);
  CHECK(contains(load_error(options), "session key twice"));
}

TEST_CASE("damaged HDF5 files end in an error or in data, never in a signal") {
  const Recording recording;
  const std::string path = recording.folder / "s.h5", good = read_bytes(path);
  std::uint32_t state = 1;
  const auto random = [&](std::size_t bound) {
    state = state * 1664525u + 1013904223u;
    return static_cast<std::size_t>(state >> 8) % bound;
  };
  int refused = 0, loaded = 0;
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::string bad = good;
    if (attempt % 10 == 0) bad.resize(random(good.size()));
    for (int i = 0; i < 4 && !bad.empty(); ++i) bad[random(bad.size())] = static_cast<char>(random(256));
    write_bytes(path, bad);
    try {
      recording.load();
      ++loaded;
    } catch (const FormatError& error) {
      CHECK(std::string(error.what()).size() > 10);
      ++refused;
    }
  }
  CHECK(refused > 0);
  CHECK(refused + loaded == 100);
}

TEST_CASE("a crash inside the reading process is an error that names the signal") {
  const Recording recording;
  const std::string path = recording.folder / "s.h5";
  const std::string message =
      message_of<FormatError>([&] { read_hdf5(path, [](const std::string&) -> bool { std::abort(); }); });
  CHECK(contains(message, path + ": cannot be read: the HDF5 library ended with signal 6"));
}

// ---- options

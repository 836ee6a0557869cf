// openretina's HDF5 directory, its split into clips, and what the samplers give. Expected numbers come from
// openretina 1.1.1 (load_stimuli, load_responses, multiple_movies_dataloaders, MovieSampler) run on the same
// files.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "check.hpp"
#include "data/hdf5_file.hpp"
#include "data/npy.hpp"
#include "data/openretina.hpp"
#include "data/sampler.hpp"
#include "data_files.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr int channels = 2, height = 3, width = 2, neurons = 3;

int stimulus_value(int c, int t, int y, int x, int offset) {
  return (t * t * 7 + y * 3 * t + x * 5 + c * 11 + offset) % 13 - 6;
}

std::vector<std::int8_t> movie(int frames, int offset = 0) {
  std::vector<std::int8_t> values;
  for (int c = 0; c < channels; ++c)
    for (int t = 0; t < frames; ++t)
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
          values.push_back(static_cast<std::int8_t>(stimulus_value(c, t, y, x, offset)));
  return values;
}

template <class T = std::uint8_t>
std::vector<T> responses(int frames, int offset = 0, int count = neurons) {
  std::vector<T> values;
  for (int n = 0; n < count; ++n)
    for (int t = 0; t < frames; ++t) values.push_back(static_cast<T>((t * (n + 2) + n * 3 + offset) % 7));
  return values;
}

std::string npy_movie(int frames, int offset = 0) {
  return npy_bytes(npy_dictionary("|i1", text("(2, ", frames, ", 3, 2)")), bytes_of(movie(frames, offset)));
}

// The directory that openretina was run on: a training movie of two parts (40 + 27 frames) and a test movie.
struct Recording {
  TemporaryFolder folder;
  DataOptions options;

  Recording() {
    write_bytes(folder / "stimuli/a_train.npy", npy_movie(40));
    write_bytes(folder / "stimuli/b_train.npy", npy_movie(27, 4));
    write_bytes(folder / "stimuli/test.npy", npy_movie(9, 5));
    add_session("s.h5");
    options.path = folder.path();
    options.test_names = {"test"};
    options.batch_size = 2, options.train_chunk_size = 4, options.clip_length = 5, options.num_val_clips = 3;
    options.seed = 3;
  }

  void add_session(const std::string& file) const {
    Hdf5Writer writer(folder / file);
    writer.numbers("responses_a_train", {neurons, 40}, responses(40));
    writer.numbers("responses_b_train", {neurons, 27}, responses(27, 1));
    writer.numbers("responses_test", {neurons, 9}, responses(9, 2));
  }
  DataSet load(DataParts parts = DataParts::all) const { return load_openretina(options, parts); }
};

// A session file with one training movie of `frames` frames held in the file.
void write_own_session(const std::string& path, int frames, int offset = 0) {
  Hdf5Writer writer(path);
  writer.numbers("stimulus_own", {channels, static_cast<hsize_t>(frames), height, width},
                 movie(frames, offset));
  writer.numbers("responses_own", {neurons, static_cast<hsize_t>(frames)}, responses(frames, offset));
}

std::string load_error(const DataOptions& options, DataParts parts = DataParts::all) {
  const std::string format = message_of<FormatError>([&] { load_openretina(options, parts); });
  return format;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

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
    CAPTURE(expected);
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

TEST_CASE("options out of range are named") {
  const Recording recording;
  const auto error = [&](auto change) {
    DataOptions options = recording.options;
    change(options);
    return message_of<ConfigError>([&] { load_openretina(options); });
  };
  CHECK(contains(error([](DataOptions& o) { o.batch_size = 0; }), "[data] batch_size: must lie in 1"));
  CHECK(contains(error([](DataOptions& o) { o.train_chunk_size = -1; }),
                 "train_chunk_size: must lie in 1 .. 2147483647: -1"));
  CHECK(contains(error([](DataOptions& o) { o.clip_length = std::int64_t{1} << 40; }), "clip_length"));
  CHECK(contains(error([](DataOptions& o) { o.num_val_clips = 0; }), "num_val_clips"));
  CHECK(contains(error([](DataOptions& o) { o.seed = std::uint64_t{1} << 32; }), "seed"));
  CHECK(contains(error([](DataOptions& o) { o.format = "csv"; }), "format: must be openretina_hdf5: csv"));
  CHECK(contains(error([](DataOptions& o) { o.path = ""; }), "path"));
  CHECK(contains(error([](DataOptions& o) {
                   o.test_names = {"test", "test"};
                 }),
                 "test_names: name twice: test"));
  CHECK(contains(error([](DataOptions& o) { o.test_names = {""}; }), "test_names"));
  const auto normalize = [](double mean, double deviation) {
    return [=](DataOptions& o) {
      o.normalize = NormalizeMode::given, o.given_normalization = {mean, deviation};
    };
  };
  CHECK(contains(error(normalize(std::nan(""), 1)), "normalize.mean"));
  CHECK(contains(error(normalize(0, 0)), "normalize.std: must be finite and above 0: 0"));
}

// ---- samples

TEST_CASE("validation clips equal openretina's") {
  const Recording recording;
  const DataSet data = recording.load();
  const ClipSplit split = split_clips(data.sessions[0], recording.options);
  CHECK(split.validation == std::vector<std::int64_t>{6, 4, 1});
  CHECK(split.training == std::vector<std::int64_t>{0, 2, 3, 5, 7, 8, 9, 10, 11, 12});
  ValidationClips clips(data, recording.options, DType::f32, cpu_device(1));
  CHECK(clips.batches() == 2);
  for (int round = 0; round < 2; ++round) {
    const Batch* first = clips.next();
    REQUIRE(first);
    REQUIRE(first->stimulus.shape() == Shape{2, 5, 3, 2, 2});
    CHECK(first->session == "s");
    // [sample 0, channel 1, frame 2, y 2, x 1] in openretina's order
    CHECK(first->stimulus.to_vector<float>()[2 * 12 + 11] == -0.25043487548828125f);
    CHECK(first->responses.to_vector<float>() == std::vector<float>{4, 2, 0, 6, 5, 4, 1, 1, 1, 3,
                                                                    4, 5, 5, 0, 2, 5, 0, 2, 0, 3,
                                                                    6, 2, 6, 3, 4, 2, 0, 6, 5, 4});
    const Batch* last = clips.next();
    REQUIRE(last);
    REQUIRE(last->stimulus.shape() == Shape{1, 5, 3, 2, 2});
    CHECK(last->stimulus.to_vector<float>()[2 * 12 + 11] == 1.3454673290252686f);
    CHECK(last->responses.to_vector<float>() ==
          std::vector<float>{3, 4, 5, 5, 0, 2, 0, 3, 6, 2, 6, 3, 4, 2, 0});
    CHECK_FALSE(clips.next());
    CHECK_FALSE(clips.next());
    clips.rewind();
  }
}

TEST_CASE("chunks as long as clips are neither shifted nor shuffled, as in openretina") {
  Recording recording;
  recording.options.train_chunk_size = 5;
  const DataSet data = recording.load();
  TrainingSampler sampler(data, recording.options, 42, DType::f32, cpu_device(1));
  CHECK(sampler.batches_per_epoch() == 5);
  sampler.begin_epoch(0);
  const Batch* first = sampler.next();
  REQUIRE(first);
  CHECK(first->responses.to_vector<float>() == std::vector<float>{0, 3, 6, 2, 6, 3, 4, 2, 0, 6,
                                                                  5, 4, 1, 1, 1, 6, 5, 4, 1, 1,
                                                                  1, 3, 4, 5, 5, 0, 2, 0, 3, 6});
  CHECK(first->stimulus.to_vector<float>()[60 + 3 * 12 + 4] == -1.5803532600402832f);  // [1, 0, 3, 1, 0]
  sampler.seek(0, 4);
  const Batch* last = sampler.next();
  REQUIRE(last);
  CHECK(last->responses.to_vector<float>() == std::vector<float>{3, 0, 4, 5, 3, 1, 0, 6, 5, 2,
                                                                 2, 2, 4, 5, 6, 6, 1, 3, 1, 4,
                                                                 0, 3, 0, 4, 5, 3, 1, 0, 6, 5});
  CHECK(last->stimulus.to_vector<float>()[60 + 3 * 12 + 4] == 0.015548797324299812f);
  CHECK_FALSE(sampler.next());
}

TEST_CASE("chunk starts reach what openretina's sampler reaches, and nothing else") {
  struct Case {
    std::int64_t chunk;
    bool over;
    std::vector<std::int64_t> lowest, highest;  // of the i-th start over all of openretina's shifts
    std::size_t reached;                        // different starts
  };
  // MovieSampler on 50 frames in clips of 10
  const std::vector<Case> cases = {
      {4,
       true,
       {0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 46},
       {3, 7, 11, 15, 19, 23, 27, 31, 35, 39, 43, 46, 46},
       47},
      {4,
       false,
       {0, 4, 6, 12, 16, 20, 24, 26, 32, 36, 40, 44, 46},
       {1, 5, 6, 13, 16, 21, 25, 26, 33, 36, 41, 45, 46},
       21},
      {6, false, {0, 4, 12, 14, 24, 30, 34, 42, 44}, {2, 4, 13, 14, 24, 32, 34, 43, 44}, 15},
  };
  const TemporaryFolder folder;
  write_own_session(folder / "a.h5", 63);
  DataOptions options;
  options.path = folder.path();
  options.batch_size = 1, options.clip_length = 10, options.num_val_clips = 1;
  const DataSet data = load_openretina(options);
  for (const Case& one : cases) {
    CAPTURE(one.chunk);
    CAPTURE(one.over);
    options.train_chunk_size = one.chunk, options.allow_over_boundaries = one.over;
    const TrainingSampler sampler(data, options, 7, DType::f32, cpu_device(1));
    CHECK(sampler.batches_per_epoch() == static_cast<std::int64_t>(one.lowest.size()));
    std::set<std::int64_t> reached;
    std::set<std::vector<std::int64_t>> orders;
    for (std::int64_t epoch = 0; epoch < 200; ++epoch) {
      std::vector<std::int64_t> starts = sampler.starts(0, epoch, 0);
      orders.insert(starts);
      reached.insert(starts.begin(), starts.end());
      std::sort(starts.begin(), starts.end());
      REQUIRE(starts.size() == one.lowest.size());
      for (std::size_t i = 0; i < starts.size(); ++i) {
        CHECK(starts[i] >= one.lowest[i]);
        CHECK(starts[i] <= one.highest[i]);
      }
    }
    CHECK(reached.size() == one.reached);
    CHECK(orders.size() == 200);  // shuffled anew every epoch
  }
}

TEST_CASE("sessions take turns, short ones start over, and any position can be restored") {
  const TemporaryFolder folder;
  write_own_session(folder / "long.h5", 103);
  write_own_session(folder / "short.h5", 60, 2);
  DataOptions options;
  options.path = folder.path();
  options.batch_size = 2, options.train_chunk_size = 4, options.clip_length = 10, options.num_val_clips = 2;
  const DataSet data = load_openretina(options);
  // long: 8 clips, 20 chunks, 10 batches; short: 4 clips, 10 chunks, 5 batches
  TrainingSampler sampler(data, options, 42, DType::f64, cpu_device(1));
  CHECK(sampler.batches_per_epoch() == 20);
  CHECK(sampler.starts(1, 0, 0) != sampler.starts(1, 0, 1));
  CHECK(sampler.starts(1, 0, 0) != sampler.starts(1, 1, 0));
  CHECK(sampler.starts(1, 0, 1) == sampler.starts(1, 0, 1));
  CHECK(TrainingSampler(data, options, 43, DType::f64, cpu_device(1)).starts(1, 0, 0) !=
        sampler.starts(1, 0, 0));
  std::set<std::size_t> leaders;
  for (std::int64_t epoch = 0; epoch < 8; ++epoch) {
    sampler.begin_epoch(epoch);
    std::size_t leader = 0;
    for (std::int64_t index = 0; index < 20; ++index) {
      CHECK(sampler.batch_index() == index);
      const Batch* batch = sampler.next();
      REQUIRE(batch);
      if (index == 0) leaders.insert(leader = batch->session_index);
      CHECK(batch->session_index == (leader + static_cast<std::size_t>(index)) % 2);
      CHECK(batch->session == data.sessions[batch->session_index].key);
      REQUIRE(batch->stimulus.shape() == Shape{2, 4, 3, 2, 2});
      REQUIRE(batch->responses.shape() == Shape{2, 4, 3});
      const std::vector<double> stimulus = batch->stimulus.to_vector<double>();
      const std::vector<double> values = batch->responses.to_vector<double>();
      TrainingSampler other(data, options, 42, DType::f64, cpu_device(1));
      other.seek(epoch, index);
      const Batch* again = other.next();
      REQUIRE(again);
      CHECK(again->session == batch->session);
      CHECK(again->stimulus.to_vector<double>() == stimulus);
      CHECK(again->responses.to_vector<double>() == values);
    }
    CHECK_FALSE(sampler.next());
  }
  CHECK(leaders.size() == 2);  // the order of the sessions is drawn every epoch
  CHECK_THROWS_AS(sampler.seek(0, 21), Error);
  CHECK_THROWS_AS(sampler.seek(-1, 0), Error);
}

TEST_CASE("stimulus and responses of a sample belong to the same frames, outside the validation clips") {
  const TemporaryFolder folder;
  std::vector<float> frames(200), counts(2 * 200);  // values that say which frame they are of
  for (std::size_t t = 0; t < 200; ++t)
    frames[t] = static_cast<float>(t), counts[t] = static_cast<float>(t),
    counts[200 + t] = static_cast<float>(1000 + t);
  {
    Hdf5Writer writer(folder / "s.h5");
    writer.numbers("stimulus_m", {1, 200, 1, 1}, frames);
    writer.numbers("responses_m", {2, 200}, counts);
  }
  DataOptions options;
  options.path = folder.path();
  options.normalize = NormalizeMode::none;
  options.batch_size = 3, options.train_chunk_size = 7, options.clip_length = 10, options.num_val_clips = 5;
  const DataSet data = load_openretina(options);
  const ClipSplit split = split_clips(data.sessions[0], options);
  const std::set<std::int64_t> training(split.training.begin(), split.training.end());
  TrainingSampler sampler(data, options, 1, DType::f32, cpu_device(1));
  std::set<int> seen;
  for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
    sampler.begin_epoch(epoch);
    while (const Batch* batch = sampler.next()) {
      const std::vector<float> x = batch->stimulus.to_vector<float>(),
                               y = batch->responses.to_vector<float>();
      for (std::size_t i = 0; i < x.size(); ++i) {
        CHECK(y[2 * i] == x[i]);
        CHECK(y[2 * i + 1] == x[i] + 1000);
        CHECK(training.contains(static_cast<std::int64_t>(x[i]) / 10));
        seen.insert(static_cast<int>(x[i]));
      }
    }
  }
  CHECK(seen.size() == 150);
}

TEST_CASE("batches reuse their memory") {
  const Recording recording;
  const DataSet data = recording.load();
  const Device device = cpu_device(1);
  TrainingSampler sampler(data, recording.options, 42, DType::f32, device);
  ValidationClips clips(data, recording.options, DType::f32, device);
  const std::uint64_t before = device.memory().allocations;
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    sampler.begin_epoch(epoch);
    int batches = 0;
    while (sampler.next()) ++batches;
    CHECK(batches == 6);
    clips.rewind();
    while (clips.next()) ++batches;
    CHECK(batches == 8);
  }
  CHECK(device.memory().allocations == before);
}

TEST_CASE("impossible samplings are refused") {
  const Recording recording;
  const DataSet data = recording.load();
  const auto error = [&](auto change) {
    DataOptions options = recording.options;
    change(options);
    return message_of<ConfigError>([&] { TrainingSampler(data, options, 1, DType::f32, cpu_device(1)); });
  };
  CHECK(
      contains(error([](DataOptions& o) { o.num_val_clips = 13; }), "num_val_clips: session s has 13 clips"));
  CHECK(contains(error([](DataOptions& o) { o.train_chunk_size = 51; }), "has only 50 training frames: 51"));
  CHECK(contains(error([](DataOptions& o) { o.batch_size = 14; }),
                 "has only 13 chunks of train_chunk_size 4: 14"));
  CHECK(contains(error([](DataOptions& o) { o.train_chunk_size = 6, o.allow_over_boundaries = false; }),
                 "at most clip_length 5: 6"));
  CHECK_THROWS_AS(TrainingSampler(data, recording.options, 1, DType::i64, cpu_device(1)), ShapeError);
}

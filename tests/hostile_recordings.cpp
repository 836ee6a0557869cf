// Recordings: HDF5 files that are well-formed and wrong, damaged files, session names.
#include "hostile_files.hpp"

namespace fovea::test {
namespace {

constexpr hsize_t neurons = 6, train_frames = 300, test_frames = 40, pixels = 16 * 16;

using Write = std::function<void(Hdf5Writer&)>;

std::string movie(hsize_t frames) {
  std::vector<std::int8_t> values(frames * pixels);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int8_t>(i * i % 13);
  return npy_bytes(npy_dictionary("|i1", text("(1, ", frames, ", 16, 16)")), bytes_of(values));
}

void train_responses(Hdf5Writer& file, hsize_t count = neurons, hsize_t frames = train_frames) {
  file.numbers("responses_train", {count, frames}, std::vector<float>(count * frames, 1));
}

void test_responses(Hdf5Writer& file) {
  file.numbers("responses_test", {neurons, test_frames}, std::vector<float>(neurons * test_frames, 1));
}

/// A folder with both movies and run.yaml, but no session.
void write_movies(const std::string& folder) {
  const std::string config = replaced(config_for("data"), "[wn_test]", "[test]");
  write_bytes(folder + "/run.yaml", config);
  write_bytes(folder + "/data/stimuli/train.npy", movie(train_frames));
  write_bytes(folder + "/data/stimuli/test.npy", movie(test_frames));
}

void write_session(const std::string& path, const Write& write) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  Hdf5Writer file(path);
  write(file);
}

void write_good(const std::string& path) {
  write_session(path, [](Hdf5Writer& file) {
    train_responses(file);
    test_responses(file);
  });
}

const std::vector<Words>& readers() {
  static const std::vector<Words> commands{{"data", "run.yaml", "--dump", "no"}, {"train", "run.yaml"}};
  return commands;
}

HostileCase folder_case(const std::string& name, const std::function<void(const std::string&)>& make,
                        const std::string& part) {
  return {"recording: " + name,
          [=](const std::string& folder) {
            write_movies(folder);
            make(folder + "/data");
          },
          readers(), part};
}

/// A session file of these data sets.
HostileCase session(const std::string& name, const std::string& part, const Write& write) {
  return folder_case(
      name, [=](const std::string& data) { write_session(data + "/s.h5", write); }, part);
}

/// The training responses as a data set of this type, shape and layout.
HostileCase raw(const std::string& name, const std::string& part, const std::vector<hsize_t>& shape,
                const std::function<hid_t()>& type, hid_t (*properties)() = nullptr) {
  return session(name, part, [=](Hdf5Writer& file) {
    const hid_t kind = type(), layout = properties ? properties() : H5P_DEFAULT;
    const std::vector<std::byte> values(1 << 16);
    test_responses(file);
    file.raw("responses_train", shape, kind, kind, values.data(), layout);
  });
}

HostileCase values(const std::string& name, const std::string& part, double bad) {
  return session(name, part, [=](Hdf5Writer& file) {
    std::vector<double> all(neurons * train_frames, 1);
    all[train_frames + 2] = bad;
    test_responses(file);
    file.numbers("responses_train", {neurons, train_frames}, all);
  });
}

HostileCase with(const std::string& name, const std::string& part, const Write& more) {
  return session(name, part, [=](Hdf5Writer& file) {
    train_responses(file);
    test_responses(file);
    more(file);
  });
}

hid_t text_type() {
  const hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, 4);
  return type;
}

hid_t compound_type() {
  const hid_t type = H5Tcreate(H5T_COMPOUND, 4);
  H5Tinsert(type, "a", 0, H5T_NATIVE_FLOAT);
  return type;
}

hid_t boolean_type() {
  const hid_t type = H5Tenum_create(H5T_NATIVE_INT8);
  const std::int8_t no = 0, yes = 1;
  H5Tenum_insert(type, "FALSE", &no);
  H5Tenum_insert(type, "TRUE", &yes);
  return type;
}

std::vector<HostileCase> wrong_types() {
  const auto two = std::vector<hsize_t>{neurons, train_frames};
  const auto native = [](hid_t type) { return [=] { return type; }; };
  return {
      raw("text", "the element type is text", two, text_type),
      raw("compound elements", "the element type is compound", two, compound_type),
      raw("booleans", "the element type is enumeration or boolean", two, boolean_type),
      raw("opaque elements", "the element type is opaque", two, [] { return H5Tcreate(H5T_OPAQUE, 4); }),
      raw("bit fields", "the element type is bit field", two, native(H5T_NATIVE_B8)),
      raw("references", "the element type is reference", two, native(H5T_STD_REF_OBJ)),
      raw("16-byte floats", "element of 16 bytes", two, native(H5T_NATIVE_LDOUBLE)),
      raw("a scalar", "axes [N, T] expected: ()", {}, native(H5T_NATIVE_FLOAT)),
      raw("one axis", "axes [N, T] expected: (300,)", {300}, native(H5T_NATIVE_FLOAT)),
      raw("three axes", "axes [N, T] expected: (6, 300, 1)", {6, 300, 1}, native(H5T_NATIVE_FLOAT)),
      raw("seven axes", "more than 6 axes: 7", {1, 1, 1, 1, 1, 6, 300}, native(H5T_NATIVE_FLOAT)),
      raw("no neurons", "an axis of [N, T] is empty: (0, 300)", {0, 300}, native(H5T_NATIVE_FLOAT)),
      raw("no frames", "an axis of [N, T] is empty: (6, 0)", {6, 0}, native(H5T_NATIVE_FLOAT)),
      raw("other responses with other neurons", "other responses of the session have 6", {5, 300},
          native(H5T_NATIVE_FLOAT)),
      raw("unequal frames", "299 frames, its stimulus", {6, 299}, native(H5T_NATIVE_FLOAT)),
      raw("values in another file", "values in other files are not read", two, native(H5T_NATIVE_FLOAT),
          [] {
            const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
            H5Pset_external(properties, "/dev/zero", 0, 7200);
            return properties;
          }),
      values("NaN", "session s: value at [1, 2] is not finite in float32: nan", NAN),
      values("infinity", "value at [1, 2] is not finite", INFINITY),
      values("beyond float32", "value at [1, 2] is not finite in float32: 1e+300", 1e300),
  };
}

/// A data set that claims `shape` in chunks and has the first of them written, or none.
void write_claim(Hdf5Writer& file, const std::vector<hsize_t>& shape, bool written) {
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t chunk[] = {1, 1000}, first[] = {0, 0};
  H5Pset_chunk(properties, 2, chunk);
  const hid_t space = H5Screate_simple(2, shape.data(), nullptr),
              memory = H5Screate_simple(2, chunk, nullptr);
  const hid_t data =
      H5Dcreate2(file.id(), "responses_train", H5T_NATIVE_UINT8, space, H5P_DEFAULT, properties, H5P_DEFAULT);
  const std::vector<std::uint8_t> values(1000);
  H5Sselect_hyperslab(space, H5S_SELECT_SET, first, nullptr, chunk, nullptr);
  if (written) H5Dwrite(data, H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, values.data());
  H5Dclose(data), H5Sclose(space), H5Sclose(memory), H5Pclose(properties);
}

std::vector<HostileCase> lies() {
  return {
      session("a chunked terabyte", "cannot be: the file has only",
              [](Hdf5Writer& file) {
                write_claim(file, {6, hsize_t{1} << 40}, true);
              }),
      session("2^63 neurons", "too large",
              [](Hdf5Writer& file) {
                write_claim(file, {hsize_t{1} << 62, 1000}, false);
              }),
      session(
          "eight terabytes never written", "never written",
          [](Hdf5Writer& file) {
            file.raw("responses_train", {1u << 20, 1u << 20}, H5T_NATIVE_DOUBLE, H5T_NATIVE_DOUBLE, nullptr);
          }),
      session("an empty axis that hides an overflow", "shape too large",
              [](Hdf5Writer& file) {
                file.raw("responses_train", {0, hsize_t{1} << 62, 1u << 20}, H5T_NATIVE_DOUBLE,
                         H5T_NATIVE_DOUBLE, nullptr);
              }),
      session("a null space", "is empty (a null space)",
              [](Hdf5Writer& file) {
                const hid_t space = H5Screate(H5S_NULL);
                H5Dclose(H5Dcreate2(file.id(), "responses_train", H5T_NATIVE_FLOAT, space, H5P_DEFAULT,
                                    H5P_DEFAULT, H5P_DEFAULT));
                H5Sclose(space);
              }),
      session("a link into another file", "links into other files are not followed",
              [](Hdf5Writer& file) {
                H5Lcreate_external("other.h5", "/x", file.id(), "responses_train", H5P_DEFAULT, H5P_DEFAULT);
              }),
      session("a link to nothing", "a link to nothing",
              [](Hdf5Writer& file) {
                H5Lcreate_soft("/nowhere", file.id(), "responses_train", H5P_DEFAULT, H5P_DEFAULT);
              }),
      session("a link to itself", "cannot be opened",
              [](Hdf5Writer& file) {
                H5Lcreate_soft("/responses_train", file.id(), "responses_train", H5P_DEFAULT, H5P_DEFAULT);
              }),
      session("a group for responses", "is not a data set",
              [](Hdf5Writer& file) { file.group("responses_train"); }),
  };
}

std::vector<HostileCase> wrong_contents() {
  return {
      session("no data sets", "holds no responses_", [](Hdf5Writer&) {}),
      session("test responses only", "holds no training responses", test_responses),
      session("no test responses", "no session has responses_test",
              [](Hdf5Writer& file) { train_responses(file); }),
      with("no stimulus", "responses_other has no stimulus",
           [](Hdf5Writer& file) {
             file.numbers("responses_other", {6, 2}, std::vector<float>(12));
           }),
      with("a stimulus without a name", "stimulus name is empty",
           [](Hdf5Writer& file) {
             file.numbers("responses_", {6, 2}, std::vector<float>(12));
           }),
      with("a control character in a name", "holds a control character",
           [](Hdf5Writer& file) {
             file.numbers("responses_a\nb", {6, 2}, std::vector<float>(12));
           }),
      with("a name that is not UTF-8", "is not UTF-8",
           [](Hdf5Writer& file) {
             file.numbers("responses_\xff", {6, 2}, std::vector<float>(12));
           }),
      with("a stimulus of three axes", "axes [C, T, H, W] expected",
           [](Hdf5Writer& file) {
             file.numbers("stimulus_train", {300, 2, 2}, std::vector<float>(1200));
           }),
      with("a stimulus of other pixels", "differ from",
           [](Hdf5Writer& file) {
             file.numbers("stimulus_train", {1, 300, 2, 2}, std::vector<float>(1200));
           }),
      with("NaN in a stimulus", "is not finite",
           [](Hdf5Writer& file) {
             file.numbers("stimulus_test", {1, 40, 16, 16}, std::vector<float>(40 * pixels, NAN));
           }),
      with("trials without their mean", "lacks its mean",
           [](Hdf5Writer& file) {
             file.numbers("responses_by_trial_test", {1, 6, 40}, std::vector<float>(240));
             H5Ldelete(file.id(), "responses_test", H5P_DEFAULT);
           }),
      with("trials of other frames", "does not agree with",
           [](Hdf5Writer& file) {
             file.numbers("responses_by_trial_test", {1, 6, 39}, std::vector<float>(234));
           }),
      with("session_info that is no group", "session_info: is not a group",
           [](Hdf5Writer& file) { file.numbers("session_info", {1}, std::vector<float>(1)); }),
      session("a constant stimulus", "cannot be normalised",
              [](Hdf5Writer& file) {
                train_responses(file);
                test_responses(file);
                file.numbers("stimulus_train", {1, 300, 16, 16}, std::vector<float>(300 * pixels, 1));
              }),
      session("fewer frames than a clip", "num_val_clips",
              [](Hdf5Writer& file) {
                file.numbers("responses_train", {6, 50}, std::vector<float>(300));
                file.numbers("stimulus_train", {1, 50, 16, 16}, [] {
                  std::vector<float> values(50 * pixels);
                  values[0] = 1;
                  return values;
                }());
                test_responses(file);
              }),
  };
}

std::vector<HostileCase> files() {
  const auto bytes = [](const std::string& name, const std::string& content) {
    return [=](const std::string& data) { write_bytes(data + '/' + name, content); };
  };
  const auto good_as = [](const std::string& name) {
    return [=](const std::string& data) { write_good(data + '/' + name); };
  };
  constexpr auto no_file = "is not an HDF5 file, or it is damaged";
  return {
      folder_case(
          "no session", [](const std::string&) {}, "holds no session file"),
      folder_case("an empty file", bytes("s.h5", ""), no_file),
      folder_case("a text", bytes("s.h5", "not HDF5"), no_file),
      folder_case("a MATLAB file of old", bytes("s.h5", "MATLAB 5.0 MAT-file" + std::string(600, '\0')),
                  no_file),
      folder_case("nothing but a signature", bytes("s.h5", "\x89HDF\r\n\x1a\n"), no_file),
      folder_case(
          "cut in half",
          [](const std::string& data) {
            write_good(data + "/s.h5");
            fs::resize_file(data + "/s.h5", fs::file_size(data + "/s.h5") / 2);
          },
          "s.h5"),
      folder_case("a session without a name", good_as(".h5"), "session key is empty"),
      folder_case("a session name with a control character", good_as("a\tb.h5"), "holds a control character"),
      folder_case("a session name that is not UTF-8", good_as("\xc0\xaf.h5"), "is not UTF-8"),
      folder_case(
          "a session name twice",
          [](const std::string& data) {
            write_good(data + "/a.h5");
            write_good(data + "/a.hdf5");
          },
          "session key twice"),
      folder_case(
          "a pickled stimulus",
          [](const std::string& data) {
            write_good(data + "/s.h5");
            write_bytes(data + "/stimuli/train.npy",
                        npy_bytes(npy_dictionary("|O", "(1, 300, 16, 16)"), std::string(614400, '\0')));
          },
          "pickled objects are not read"),
  };
}

HostileCase right(const std::string& name, const std::function<void(const std::string&)>& make) {
  HostileCase one = folder_case("right: " + name, make, "session " + name + ": 6 neurons");
  one.accepted = true;
  one.commands = {{"data", "run.yaml", "--dump", "dumped"}};
  return one;
}

std::vector<HostileCase> right_recordings() {
  std::vector<HostileCase> cases;
  for (const char* name : {"a.b.c", "a-b", "left eye", "日本 é", "..x", "21067-10-18"})
    cases.push_back(right(name, [=](const std::string& data) { write_good(data + '/' + name + ".h5"); }));
  cases.push_back(right("s", [](const std::string& data) {
    write_session(data + "/s.h5", [](Hdf5Writer& file) {
      std::vector<std::int16_t> big(neurons * train_frames, 1);
      file.raw("responses_train", {neurons, train_frames}, H5T_STD_I16BE, H5T_NATIVE_INT16, big.data());
      test_responses(file);
      file.group("session_info");
      file.group("session_info/more");
      const hid_t type = text_type();
      file.raw("session_info/animal", {2}, type, type, "fishfrog");
      H5Tclose(type);
    });
  }));
  return cases;
}

}  // namespace

std::vector<HostileCase> recording_cases() {
  std::vector<HostileCase> all;
  for (const auto& table : {wrong_types(), lies(), wrong_contents(), files(), right_recordings()})
    all.insert(all.end(), table.begin(), table.end());
  return all;
}

}  // namespace fovea::test

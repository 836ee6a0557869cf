// Sessions of static images that lack something or lie: every error names session, trial and file.
#include "data/file_tree.hpp"
#include "sensorium_fixture.hpp"

using namespace sensorium_test;

namespace {

constexpr std::size_t nowhere = std::string::npos;

/// A zip of a session, its bytes to be changed.
struct ZipBytes {
  TemporaryFolder folder;
  std::string bytes;
  StaticDataOptions options;

  explicit ZipBytes(const Files& files, const ZipForm& form = {}) {
    options.paths = {folder / "tiny.zip"};
    write_zip(options.paths[0], files, form);
    bytes = read_bytes(options.paths[0]);
  }

  /// Where the entry of a member in the directory at the end begins.
  std::size_t directory_entry(const std::string& name) const {
    for (std::size_t at = bytes.find("PK\1\2"); at != nowhere; at = bytes.find("PK\1\2", at + 4))
      if (number(at + 28, 2) == name.size() && bytes.compare(at + 46, name.size(), name) == 0) return at;
    throw Error("test", "no member " + name);
  }
  std::size_t header(const std::string& name) const { return number(directory_entry(name) + 42, 4); }
  std::size_t content(const std::string& name) const {
    const std::size_t at = header(name);
    return at + 30 + number(at + 26, 2) + number(at + 28, 2);
  }
  std::size_t packed(const std::string& name) const { return number(directory_entry(name) + 20, 4); }

  std::size_t number(std::size_t at, std::size_t width) const {
    std::size_t value = 0;
    for (std::size_t i = 0; i < width; ++i)
      value |= static_cast<std::size_t>(static_cast<unsigned char>(bytes.at(at + i))) << 8 * i;
    return value;
  }
  void put(std::size_t at, std::size_t width, std::size_t value) {
    for (std::size_t i = 0; i < width; ++i) bytes.at(at + i) = static_cast<char>(value >> 8 * i & 255);
  }
  /// A field at its places in the directory and before the content.
  void put_field(const std::string& name, std::size_t in_directory, std::size_t in_header, std::size_t width,
                 std::size_t value) {
    put(directory_entry(name) + in_directory, width, value);
    put(header(name) + in_header, width, value);
  }

  /// What opening it and reading trial 3 throws.
  std::string error() const {
    write_bytes(options.paths[0], bytes);
    return error_of([&] { trial_of(StaticSession(options, 0), 3); });
  }
};

const std::string image_member = "session/data/images/3.npy";

void check_named(const std::string& message, const std::string& file, std::int64_t trial = 3) {
  CAPTURE(message);
  CHECK(mentions(message, "[sensorium] session tiny, "));
  CHECK(mentions(message, text("trial ", trial)));
  CHECK(mentions(message, file));
}

std::vector<double> with_value(std::vector<double> values, std::size_t at, double value) {
  values.at(at) = value;
  return values;
}

std::string open_error(const StaticDataOptions& options) {
  return error_of([&] { open_sensorium(options); });
}

}  // namespace

TEST_CASE("the bytes of a zip that nothing was changed in are read") {
  CHECK(ZipBytes(TinySession().files).error() == "no error");
  CHECK(ZipBytes(TinySession().files, {"session/", false, {}}).error() == "no error");
}

TEST_CASE("a trial file that is missing, or one too many, in folder and zip") {
  const TinySession tiny;
  for (const char* field : {"images", "responses", "pupil_center"}) {
    const std::string name = text("data/", field, "/3.npy");
    Files files = tiny.files;
    files.erase(name);
    check_named(error_of([&] { Written(files).open(); }), name);
    check_named(ZipBytes(files).error(), name);
    files = tiny.files;
    files[text("data/", field, "/10.npy")] = files.at(name);
    for (const std::string& message : {error_of([&] { Written(files).open(); }), ZipBytes(files).error()}) {
      CHECK(mentions(message, "session tiny"));
      CHECK(mentions(message, text("data/", field)));
      CHECK(mentions(message, "11 files"));
      CHECK(mentions(message, "10 trials"));
    }
    files.erase(name);  // as many as there should be
    check_named(error_of([&] { Written(files).open(); }), name);
  }
  Files files = tiny.files;
  files["data/behavior/77.npy"] = "not used, not looked at";
  CHECK(Written(files).open().n_neurons() == 5);
}

TEST_CASE("another number of neurons or another shape of an image in one trial") {
  TinySession tiny;
  tiny.set("responses", 3, std::vector<double>(6, 1), {6});
  for (const std::string& message :
       {error_of([&] { trial_of(Written(tiny.files).open(), 3); }), ZipBytes(tiny.files).error()}) {
    check_named(message, "data/responses/3.npy");
    CHECK(mentions(message, "(5"));
    CHECK(mentions(message, "(6"));
  }
  CHECK(trial_of(Written(tiny.files).open(), 2).responses.size() == 5);
  const std::vector<std::vector<std::int64_t>> wrong_shapes{{1, 4, 3}, {1, 3, 5}, {2, 3, 4}, {12}};
  for (const auto& shape : wrong_shapes) {
    TinySession images;
    std::size_t size = 1;
    for (const std::int64_t extent : shape) size *= static_cast<std::size_t>(extent);
    images.set("images", 3, std::vector<double>(size, 1), shape);
    check_named(error_of([&] { trial_of(Written(images.files).open(), 3); }), "data/images/3.npy");
  }
  TinySession pupil;
  pupil.set("pupil_center", 3, {1, 2, 3}, {3});
  check_named(error_of([&] { trial_of(Written(pupil.files).open(), 3); }), "data/pupil_center/3.npy");
}

TEST_CASE("arrays of neurons or trials that do not fit the data") {
  TinySession tiny;
  tiny.files["meta/neurons/unit_ids.npy"] = npy_list<std::int64_t>({1, 2, 3});
  std::string message = error_of([&] { Written(tiny.files).open(); });
  CHECK(mentions(message, "session tiny"));
  CHECK(mentions(message, "meta/neurons/unit_ids.npy: 3 entries, expected 5"));
  TinySession trials;
  trials.files["meta/trials/image_id.npy"] = npy_list<std::int64_t>({1, 2, 3});
  message = error_of([&] { Written(trials.files).open(); });
  CHECK(mentions(message, "meta/trials/image_id.npy: 3 entries, expected 10"));
  TinySession none;
  none.files["meta/trials/tiers.npy"] = npy_bytes(npy_dictionary("<U5", "(0,)"), "");
  CHECK(mentions(error_of([&] { Written(none.files).open(); }), "meta/trials/tiers.npy"));
}

TEST_CASE("a file of a folder that is cut off, empty or no array") {
  const TinySession tiny;
  const std::string whole = tiny.files.at("data/responses/3.npy");
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{5}, std::size_t{20}, whole.size() - 1}) {
    Files files = tiny.files;
    files["data/responses/3.npy"] = whole.substr(0, bytes);
    check_named(error_of([&] { trial_of(Written(files).open(), 3); }), "data/responses/3.npy");
    check_named(ZipBytes(files).error(), "data/responses/3.npy");
  }
  Files files = tiny.files;
  files["data/responses/3.npy"] = npy_words({"1", "2", "3", "4", "5"});
  check_named(error_of([&] { trial_of(Written(files).open(), 3); }), "data/responses/3.npy");
}

TEST_CASE("paths that hold no session") {
  const TemporaryFolder folder;
  StaticDataOptions options;
  const auto error = [&](const std::string& name) {
    options.paths = {folder / name};
    const std::string message = open_error(options);
    CHECK(mentions(message, folder / name));
    return message;
  };
  CHECK(mentions(error("nowhere"), "neither a folder nor a zip"));
  std::filesystem::create_directories(folder / "empty");
  CHECK(mentions(error("empty"), "meta/trials/tiers.npy"));
  write_bytes(folder / "text.zip", "this is no zip");
  error("text.zip");
  write_bytes(folder / "nothing.zip", "");
  error("nothing.zip");
  write_zip(folder / "other.zip", {{"a.txt", "a"}});
  CHECK(mentions(error("other.zip"), "meta/trials/tiers.npy"));
  const TinySession tiny;
  write_zip(folder / "deep.zip", tiny.files, {"one/two/", true, {}});
  CHECK(mentions(error("deep.zip"), "meta/trials/tiers.npy"));
  write_zip(folder / "twice.zip", tiny.files, {"one/", true, {{"two/meta/trials/tiers.npy", "x"}}});
  const std::string message = error("twice.zip");
  CHECK(mentions(message, "one/"));
  CHECK(mentions(message, "two/"));
}

// ---- zips

TEST_CASE("a zip that is cut off, at many places") {
  ZipBytes zip(TinySession().files);
  const std::string whole = zip.bytes;
  int refused = 0;
  for (std::size_t part = 0; part < 40; ++part) {
    zip.bytes = whole.substr(0, whole.size() * part / 40);
    refused += mentions(zip.error(), zip.options.paths[0]);
  }
  for (const std::size_t missing : {1u, 2u, 10u, 21u, 22u, 23u, 60u}) {
    zip.bytes = whole.substr(0, whole.size() - missing);
    refused += mentions(zip.error(), zip.options.paths[0]);
  }
  CHECK(refused == 47);
}

TEST_CASE("a damaged member is an error wherever the damage is") {
  for (const bool deflated : {true, false}) {
    CAPTURE(deflated);
    ZipBytes zip(TinySession().files, {"session/", deflated, {}});
    const std::string whole = zip.bytes;
    const std::size_t begin = zip.content(image_member), length = zip.packed(image_member);
    REQUIRE(length > 50);
    for (std::size_t at = 0; at < length; at += 7) {
      zip.bytes = whole;
      zip.bytes[begin + at] = static_cast<char>(zip.bytes[begin + at] ^ 0x55);
      check_named(zip.error(), "data/images/3.npy");
    }
    zip.bytes = whole;
    zip.put_field(image_member, 16, 14, 4, 12345);  // the checksum itself
    check_named(zip.error(), "data/images/3.npy");
  }
}

TEST_CASE("a member that announces more or fewer bytes than it holds") {
  const Files files = TinySession().files;
  const std::size_t size = files.at("data/images/3.npy").size();
  for (const bool deflated : {true, false})
    for (const std::size_t announced : {std::size_t{0}, size - 1, size + 1, size * 10, std::size_t{1} << 28,
                                        (std::size_t{1} << 28) + 1, std::size_t{0xfffffff0}}) {
      CAPTURE(announced);
      ZipBytes zip(files, {"session/", deflated, {}});
      zip.put_field(image_member, 24, 22, 4, announced);
      check_named(zip.error(), "data/images/3.npy");
    }
  // Of a file that is not of a trial.
  ZipBytes zip(files);
  zip.put_field("session/meta/trials/tiers.npy", 24, 22, 4, 0x7fffffff);
  const std::string message = zip.error();
  CHECK(mentions(message, "meta/trials/tiers.npy"));
  CHECK(mentions(message, "2147483647"));
}

TEST_CASE("a member that is packed in an unknown way") {
  for (const std::size_t method : {1u, 9u, 12u, 98u}) {
    ZipBytes zip(TinySession().files);
    zip.put_field(image_member, 10, 8, 2, method);
    check_named(zip.error(), "data/images/3.npy");
  }
}

TEST_CASE("names of members that leave the archive") {
  for (const char* name :
       {"../x", "/x", "a\\b", "a/../../x", "..", "session/..", "session/data/../../../x", "C:\\x"}) {
    CAPTURE(name);
    ZipBytes zip(TinySession().files, {"session/", true, {{name, "evil"}}});
    const std::string message = zip.error();
    CHECK(mentions(message, zip.options.paths[0]));
    CHECK(mentions(message, name));
  }
  for (const char* name : {"..x", "a..b/c", "session/..data/x", "x.."}) {
    CAPTURE(name);
    CHECK(ZipBytes(TinySession().files, {"session/", true, {{name, "fine"}}}).error() == "no error");
  }
}

TEST_CASE("two members of one name") {
  ZipBytes zip(TinySession().files, {"session/", true, {{"session/data/images/X.npy", "other"}}});
  const std::string name = "session/data/images/X.npy";
  const std::size_t places[] = {zip.directory_entry(name) + 46, zip.header(name) + 30};
  for (const std::size_t at : places) zip.bytes[at + name.find('X')] = '3';
  CHECK(mentions(zip.error(), "data/images/3.npy"));
}

TEST_CASE("an encrypted member") {
  const TinySession tiny;
  for (const zip_uint16_t method : {ZIP_EM_TRAD_PKWARE, ZIP_EM_AES_256}) {
    const TemporaryFolder folder;
    StaticDataOptions options;
    options.paths = {folder / "tiny.zip"};
    write_zip(options.paths[0], tiny.files);
    zip_t* archive = zip_open(options.paths[0].c_str(), 0, nullptr);
    REQUIRE(archive);
    const auto index = static_cast<zip_uint64_t>(zip_name_locate(archive, image_member.c_str(), 0));
    const bool encrypts = zip_file_set_encryption(archive, index, method, "secret") == 0;
    if (!encrypts || zip_close(archive) != 0) {
      if (!encrypts) zip_discard(archive);
      MESSAGE("skipped: this libzip does not write encryption method ", method);
      continue;
    }
    const std::string message = error_of([&] { StaticSession(options, 0); });
    check_named(message, "data/images/3.npy");
    CHECK(mentions(message, "encrypted"));
  }
}

// ---- values

TEST_CASE("values in use that are not finite") {
  for (const double bad : {not_a_number, std::numeric_limits<double>::infinity(), -1e300}) {
    CAPTURE(bad);
    for (const std::string field : {"images", "responses", "behavior", "pupil_center"}) {
      CAPTURE(field);
      TinySession tiny;
      const auto& values = field == "images"      ? tiny.images[3]
                           : field == "responses" ? tiny.responses[3]
                           : field == "behavior"  ? tiny.behavior[3]
                                                  : tiny.pupil[3];
      const std::vector<std::int64_t> shape =
          field == "images" ? tiny.form.image
                            : std::vector<std::int64_t>{static_cast<std::int64_t>(values.size())};
      tiny.set(field, 3, with_value(values, 1, bad), shape);
      Written written(tiny.files);
      written.options.include_behavior = true;
      for (const bool normalize : {true, false}) {
        written.options.normalize = normalize;
        const StaticSession session = written.open();
        check_named(error_of([&] { trial_of(session, 3); }), "data/" + field + "/3.npy");
        CHECK(trial_of(session, 2).responses.size() == 5);
      }
    }
  }
}

TEST_CASE("values that are not in use may be anything") {
  TinySession tiny({{"train", "train", "validation", "test"}, {2, 3, 4}, 5, 2});
  tiny.set("responses", 1, with_value(tiny.responses[1], 2, not_a_number), {5});
  tiny.set("images", 1, with_value(tiny.images[1], 14, not_a_number), tiny.form.image);  // channel 1
  tiny.set("behavior", 1, {not_a_number, 1, 2}, {3});
  tiny.set("pupil_center", 1, {1, not_a_number}, {2});
  Written written(tiny.files);
  written.options.include_eye_position = false;
  written.options.select_input_channel = 0;
  written.options.neuron_ids = {std::vector<std::int64_t>{11, 14, 20, 23}};
  const StaticTrial trial = trial_of(written.open(), 1);
  for (const double value : trial.image) CHECK(std::isfinite(value));
  for (const double value : trial.responses) CHECK(std::isfinite(value));
  const auto refused = [&](auto change, const char* file) {
    StaticDataOptions options = written.options;
    change(options);
    check_named(error_of([&] { trial_of(StaticSession(options, 0), 1); }), file, 1);
  };
  refused([](StaticDataOptions& o) { o.include_eye_position = true; }, "data/pupil_center/1.npy");
  refused([](StaticDataOptions& o) { o.select_input_channel = 1; }, "data/images/1.npy");
  refused([](StaticDataOptions& o) { o.neuron_ids.clear(); }, "data/responses/1.npy");
  refused([](StaticDataOptions& o) { o.include_behavior = true; }, "data/behavior/1.npy");
}

// ---- several sessions

TEST_CASE("two sessions of one key, and images of different shapes") {
  const TemporaryFolder folder;
  TinyForm wide;
  wide.image = {1, 3, 5};
  write_folder(folder / "a/tiny", TinySession().files);
  write_folder(folder / "b/tiny", TinySession().files);
  write_folder(folder / "wide", TinySession(wide).files);
  StaticDataOptions options;
  options.paths = {folder / "a/tiny", folder / "b/tiny"};
  std::string message = open_error(options);
  CHECK(mentions(message, "two sessions are called tiny"));
  CHECK(mentions(message, options.paths[0]));
  CHECK(mentions(message, options.paths[1]));
  options.paths = {folder / "a/tiny", folder / "wide"};
  message = open_error(options);
  CHECK(mentions(message, "(1, 3, 4)"));
  CHECK(mentions(message, "(1, 3, 5)"));
  CHECK(mentions(message, "wide"));
}

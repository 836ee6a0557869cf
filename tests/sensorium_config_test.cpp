// The data section of `format: sensorium_static`: names, defaults, ranges, pairs that exclude each other.
#include "sensorium_fixture.hpp"
#include "training/run_config.hpp"

using namespace sensorium_test;

namespace {

StaticDataOptions parsed(const std::string& section) {
  Json json = Json::parse(section);
  if (!json.contains("paths")) json["paths"] = {"a", "b"};
  return parse_static_data_options(json);
}

/// What is refused of a section, before any file is looked for.
std::string refused(const std::string& section) {
  return error_of([&] { parsed(section); });
}

}  // namespace

TEST_CASE("defaults, and every option by its name") {
  const Json defaults = write_static_data_options(parsed("{}"));
  const Json expected = Json::parse(R"({"format": "sensorium_static", "paths": ["a", "b"], "batch_size": 64,
    "normalize": true, "exclude": null, "include_behavior": false, "include_eye_position": true,
    "add_behavior_as_channels": true, "add_eye_pos_as_channels": false, "scale": 1, "select_input_channel": null,
    "neuron_n": null, "neuron_base_seed": null, "exclude_neuron_n": 0, "neuron_ids": null, "areas": null,
    "layers": null, "image_n": null, "image_base_seed": null, "image_ids": null, "image_condition": null,
    "readers": 1})");
  for (const auto& [key, value] : expected.items()) {
    const auto& shown_key = key;
    CAPTURE(shown_key);
    REQUIRE(defaults.contains(key));
    CHECK(defaults.at(key) == value);
  }
  CHECK(defaults.size() == expected.size());
  for (const char* change :
       {R"({"batch_size": 7})", R"({"normalize": false})", R"({"exclude": ["images", "behavior"]})",
        R"({"include_behavior": true})", R"({"include_eye_position": false})",
        R"({"add_behavior_as_channels": false})", R"({"add_eye_pos_as_channels": true})",
        R"({"scale": 0.25})", R"({"select_input_channel": 1})",
        R"({"neuron_n": 4, "neuron_base_seed": 3, "exclude_neuron_n": 2})",
        R"({"neuron_ids": [[3, 3, 1], null]})", R"({"areas": ["V1"], "layers": ["L2/3", "L4"]})",
        R"({"image_n": 7, "image_base_seed": 0})", R"({"image_ids": [null, [5]]})",
        R"({"image_condition": ["imagenet"]})", R"({"readers": 3})"}) {
    CAPTURE(change);
    const Json written = write_static_data_options(parsed(change)), given = Json::parse(change);
    for (const auto& [key, value] : given.items()) CHECK(written.at(key) == value);
    CHECK(write_static_data_options(parse_static_data_options(written)) == written);
  }
}

TEST_CASE("one word stands for a list of it, null for none") {
  CHECK(parsed(R"({"exclude": "images"})").exclude == std::vector<std::string>{"images"});
  CHECK(parsed(R"({"exclude": ["images", "responses"]})").exclude ==
        std::vector<std::string>{"images", "responses"});
  CHECK(parsed(R"({"exclude": null})").exclude.empty());
  CHECK(parsed(R"({"exclude": []})").exclude.empty());
  CHECK(parsed(R"({"areas": "V1"})").areas == std::vector<std::string>{"V1"});
  CHECK(parsed(R"({"layers": "L4"})").layers == std::vector<std::string>{"L4"});
  CHECK(parsed(R"({"image_condition": "imagenet"})").image_condition == std::vector<std::string>{"imagenet"});
  // The reference's "none".
  CHECK(parsed(R"({"scale": null})").scale == 1);
  CHECK_FALSE(parsed(R"({"add_eye_pos_as_channels": null})").add_eye_pos_as_channels);
}

TEST_CASE("options that exclude or need each other") {
  const std::string ids = R"({"neuron_ids": [[1], [2]], )", images = R"({"image_ids": [[1], [2]], )";
  const std::vector<std::pair<std::string, std::vector<std::string>>> table{
      {ids + R"("neuron_n": 2, "neuron_base_seed": 1})", {"neuron_ids", "neuron_n"}},
      {ids + R"("neuron_base_seed": 1})", {"neuron_ids", "neuron_base_seed"}},
      {ids + R"("exclude_neuron_n": 1})", {"neuron_ids", "exclude_neuron_n"}},
      {ids + R"("areas": ["V1"]})", {"neuron_ids", "areas"}},
      {ids + R"("layers": "L4"})", {"neuron_ids", "layers"}},
      {images + R"("image_n": 2, "image_base_seed": 1})", {"image_ids", "image_n"}},
      {images + R"("image_base_seed": 1})", {"image_ids", "image_base_seed"}},
      {images + R"("image_condition": "imagenet"})", {"image_ids", "image_condition"}},
      {R"({"image_n": 2, "image_base_seed": 1, "image_condition": "imagenet"})",
       {"image_n", "image_condition"}},
      {R"({"neuron_n": 2})", {"neuron_base_seed", "needed by neuron_n"}},
      {R"({"neuron_base_seed": 2})", {"neuron_n", "needed by neuron_base_seed"}},
      {R"({"image_n": 2})", {"image_base_seed", "needed by image_n"}},
      {R"({"image_base_seed": 2})", {"image_n", "needed by image_base_seed"}},
      {R"({"exclude_neuron_n": 3})", {"exclude_neuron_n", "needs neuron_n", "3"}},
      {R"({"include_behavior": true, "select_input_channel": 1})",
       {"select_input_channel", "include_behavior"}},
      {R"({"add_eye_pos_as_channels": true, "include_eye_position": false})",
       {"add_eye_pos_as_channels", "include_eye_position"}},
      {R"({"neuron_ids": [[1]]})", {"neuron_ids", "one entry per path, 2", "1"}},
      {R"({"image_ids": [[1], [2], [3]]})", {"image_ids", "one entry per path, 2", "3"}},
      {R"({"neuron_ids": [[1], []]})", {"neuron_ids", "must not be empty"}},
      {R"({"image_ids": [[], [1]]})", {"image_ids", "must not be empty"}},
  };
  for (const auto& [section, parts] : table) {
    const auto& shown_section = section;
    CAPTURE(shown_section);
    const std::string message = refused(section);
    CAPTURE(message);
    CHECK(message.rfind("[data] ", 0) == 0);
    for (const std::string& part : parts) CHECK(mentions(message, part));
  }
}

TEST_CASE("options out of range, with their values") {
  const std::vector<std::pair<std::string, std::vector<std::string>>> table{
      {R"({"batch_size": 0})", {"batch_size", "0"}},
      {R"({"batch_size": 4294967296})", {"batch_size", "4294967296"}},
      {R"({"batch_size": 1.5})", {"batch_size", "1.5"}},
      {R"({"scale": 0})", {"scale", "0"}},
      {R"({"scale": -0.25})", {"scale", "-0.25"}},
      {R"({"scale": 1e9})", {"scale", "1e+09"}},
      {R"({"scale": "big"})", {"scale", "big"}},
      {R"({"select_input_channel": -1})", {"select_input_channel", "-1"}},
      {R"({"neuron_n": 0, "neuron_base_seed": 1})", {"neuron_n", "0"}},
      {R"({"neuron_n": 1, "neuron_base_seed": -1})", {"neuron_base_seed", "-1"}},
      {R"({"neuron_n": 1, "neuron_base_seed": 1, "exclude_neuron_n": -2})", {"exclude_neuron_n", "-2"}},
      {R"({"image_n": 0, "image_base_seed": 1})", {"image_n", "0"}},
      {R"({"image_n": 1, "image_base_seed": -1})", {"image_base_seed", "-1"}},
      {R"({"readers": 0})", {"readers", "0"}},
      {R"({"readers": 65})", {"readers", "65"}},
      {R"({"paths": []})", {"paths"}},
      {R"({"paths": ["a", "a"]})", {"paths", "twice", "a"}},
      {R"({"paths": ["a", ""]})", {"paths", "empty"}},
      {R"({"paths": 3})", {"paths", "3"}},
      {R"({"normalize": "yes please"})", {"normalize", "yes please"}},
      {R"({"exclude": [1]})", {"exclude"}},
      {R"({"neuron_ids": [1, 2]})", {"neuron_ids"}},
      {R"({"neuron_ids": [[1.5], [2]]})", {"neuron_ids"}},
  };
  for (const auto& [section, parts] : table) {
    const auto& shown_section = section;
    CAPTURE(shown_section);
    const std::string message = refused(section);
    CAPTURE(message);
    CHECK(message.rfind("[data] ", 0) == 0);
    for (const std::string& part : parts) CHECK(mentions(message, part));
  }
  // numpy's generator takes seeds below 2^32.
  const TinySession tiny;
  Written written(tiny.files);
  written.options.neuron_n = 3;
  written.options.neuron_base_seed = 0x7fffffff;
  CHECK(mentions(error_of([&] { written.open(); }), "2147483647 x 3"));
}

TEST_CASE("unknown names give the nearest one") {
  const auto near = [&](const std::string& section, const std::string& unknown, const std::string& nearest) {
    const std::string message = refused(section);
    CAPTURE(message);
    CHECK(mentions(message, unknown));
    CHECK(mentions(message, "'" + nearest + "'"));
  };
  near(R"({"batchsize": 3})", "batchsize", "batch_size");
  near(R"({"include_behaviour": true})", "include_behaviour", "include_behavior");
  near(R"({"image_id": [[1], [2]]})", "image_id", "image_ids");
  near(R"({"path": "x"})", "path", "paths");
  near(R"({"exclude": "image"})", "image", "images");
  near(R"({"exclude": ["responses", "pupil_centre"]})", "pupil_centre", "pupil_center");
  CHECK(mentions(error_of([] { parse_static_data_options(Json::object()); }), "paths"));
  CHECK(mentions(error_of([] { parse_tier("tests"); }), "test"));
  for (const Tier tier : all_tiers) CHECK(parse_tier(to_string(tier)) == tier);
}

TEST_CASE("init_positions is a word of the model section that the model never sees") {
  const auto parse = [](const std::string& positions, const std::string& format) {
    return parse_run_config(Json::parse(R"({"model": {"class": "FiringRateEncoder", "init_positions": )" +
                                        positions + R"(}, "data": )" + format + "}"));
  };
  const std::string images = R"({"format": "sensorium_static", "paths": ["a"]})";
  const RunConfig config = parse(R"("responses")", images);
  CHECK(config.init_at_receptive_fields);
  CHECK_FALSE(config.model.contains("init_positions"));
  CHECK(write_run_config(config)["model"]["init_positions"] == "responses");
  CHECK_FALSE(parse("null", images).init_at_receptive_fields);
  CHECK_FALSE(write_run_config(parse("null", images))["model"].contains("init_positions"));
  CHECK(error_of([&] { parse(R"("response")", images); }).find("did you mean 'responses'") !=
        std::string::npos);
  CHECK(error_of([&] { parse("true", images); }).find("responses or null") != std::string::npos);
  CHECK(error_of([&] {
          parse(R"("responses")", R"({"path": "movies"})");
        }).find("needs data.format sensorium_static: openretina_hdf5") != std::string::npos);
}

TEST_CASE("neuron_n draws from all neurons, whatever areas and layers say") {
  const TinySession tiny;
  Written written(tiny.files);
  written.options.neuron_n = 3;
  written.options.neuron_base_seed = 4;
  const auto drawn = written.open().neuron_index();
  CHECK(drawn.size() == 3);
  written.options.areas = {"LM"};
  written.options.layers = {"L4"};
  CHECK(written.open().neuron_index() == drawn);
}

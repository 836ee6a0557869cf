// Model files that lie: headers, metadata, configurations, tensors.
#include "fovea/safetensors.hpp"
#include "hostile_files.hpp"

namespace fovea::test {
namespace {

using Edit = std::function<void(SafetensorsParts&)>;
using EditConfig = std::function<void(Json&)>;

std::vector<Words> readers(const std::string& model = "m.safetensors") {
  const Lab& lab = Lab::get();
  return {{"describe", model},
          {"predict", model, "--stimulus", lab / "retina/stimuli/wn_test.npy", "--out", "no.npy"},
          {"gradients", model, "--stimulus", lab / "retina/stimuli/wn_test.npy", "--responses",
           lab / "none.npy", "--out", "no.safetensors"},
          {"eval", model, "--data", lab / "tiny.yaml", "--csv", "no.csv"},
          {"train", lab / "tiny.yaml", "--from", model, "output=runs"}};
}

HostileCase bytes(const std::string& name, const std::string& content, const std::string& part) {
  return {"model: " + name,
          [=](const std::string& folder) { write_bytes(folder + "/m.safetensors", content); }, readers(),
          part};
}

/// The lab's model with something changed.
HostileCase edited(const std::string& name, const Edit& edit, const std::string& part) {
  return {"model: " + name,
          [=](const std::string& folder) {
            SafetensorsParts parts(Lab::get().model());
            edit(parts);
            parts.write(folder + "/m.safetensors");
          },
          readers(), part};
}

HostileCase metadata(const std::string& name, const std::string& key, const Json& value,
                     const std::string& part) {
  return edited(
      name, [=](SafetensorsParts& parts) { parts.header["__metadata__"][key] = value; }, part);
}

HostileCase config(const std::string& name, const EditConfig& edit, const std::string& part) {
  return edited(
      name,
      [=](SafetensorsParts& parts) {
        Json& text = parts.header["__metadata__"]["config"];
        Json section = Json::parse(text.get<std::string>());
        edit(section);
        text = section.dump();
      },
      part);
}

HostileCase config_value(const std::string& key, const std::string& json, const std::string& part) {
  return config(
      key + " = " + json.substr(0, 60), [=](Json& section) { section[key] = Json::parse(json); }, part);
}

HostileCase sessions(const std::string& json, const std::string& part) {
  return config_value("sessions", json, part);
}

/// The text of the configuration edited, for what no JSON value can be: names that are there twice.
HostileCase config_text_edited(const std::string& name, const std::string& from, const std::string& to,
                               const std::string& part) {
  return edited(
      name,
      [=](SafetensorsParts& parts) {
        Json& text = parts.header["__metadata__"]["config"];
        text = replaced(text.get<std::string>(), from, to);
      },
      part);
}

HostileCase accepted(HostileCase one, const std::vector<Words>& commands, const std::string& out) {
  one.accepted = true;
  one.commands = commands;
  one.part = out;
  return one;
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

HostileCase header(const std::string& name, const std::string& text, const std::string& part) {
  return bytes(name, safetensors_bytes(text, "12345678"), part);
}

std::vector<HostileCase> header_cases() {
  const std::string good = read_bytes(Lab::get().model());
  const std::string one = entry("F32", "[1]", "[0,4]");
  return {
      bytes("empty", "", "too short for a header: 0 bytes"),
      bytes("seven bytes", "1234567", "too short for a header: 7 bytes"),
      bytes("header of 2^64 - 1 bytes", std::string(8, '\xff') + "{}", "header longer than"),
      bytes("header beyond the file", std::string("\x10\0\0\0\0\0\0\0{}", 10), "in a file of 10"),
      bytes("cut in the header", good.substr(0, 1000), "in a file of 1000"),
      bytes("cut in the data", good.substr(0, good.size() - 100), "beyond the file"),
      bytes("bytes after the data", good + "x", "bytes after the last tensor: 1"),
      bytes("a zip file, as PyTorch writes", "PK\x03\x04" + std::string(100, '\0'), "in a file of 104"),
      bytes("a pickle", "\x80\x04\x95\x10" + std::string(12, '\0'), "header longer than"),
      bytes("HDF5", "\x89HDF\r\n\x1a\n" + std::string(100, '\0'), "header longer than"),
      header("no JSON", "{garbage", "header is not JSON"),
      header("a list", "[]", "does not begin with {"),
      header("deep lists", R"({"w":)" + std::string(100000, '['), "an array"),
      header(
          "deep objects",
          [] {
            std::string text;
            for (int i = 0; i < 100000; ++i) text += R"({"a":)";
            return text;
          }(),
          "fields are dtype, shape and data_offsets"),
      header("a number too large for a double", R"({"w":{"shape":[1e999]}})", "not JSON"),
      header("two tensors of one name", R"({"w":)" + one + R"(,"w":)" + entry("F32", "[1]", "[4,8]") + "}",
             "a name twice"),
      header("metadata of one key", R"({"__metadata__":{"a":"1","a":"2"}})", "a field twice"),
      header("overlap", R"({"a":)" + one + R"(,"b":)" + entry("F32", "[1]", "[2,6]") + "}", "an overlap"),
      header("gap", R"({"a":)" + entry("F32", "[1]", "[4,8]") + "}", "a gap"),
      header("past the end", R"({"a":)" + entry("F32", "[4]", "[0,16]") + "}", "beyond the file"),
      header("end before begin", R"({"a":)" + entry("F32", "[2]", "[8,0]") + "}", "do not hold"),
      header("negative offset", R"({"a":)" + entry("F32", "[2]", "[-8,0]") + "}", "-8"),
      header("negative extent", R"({"a":)" + entry("F32", "[-2]", "[0,8]") + "}", "-2"),
      header("extent that is no whole number", R"({"a":)" + entry("F32", "[2.5]", "[0,8]") + "}", "2.5"),
      header("2^62 elements in no bytes", R"({"a":)" + entry("F64", "[4611686018427387904]", "[0,0]") + "}",
             "more than 2^58 elements"),
      header("2^62 rows", R"({"a":)" + entry("F32", "[4611686018427387904,4]", "[0,8]") + "}", "shape"),
      header("2^57 elements as large as all of memory",
             R"({"a":)" + entry("F64", "[144115188075855872]", "[0,1152921504606846976]") + "}",
             "beyond the file"),
      header("seven axes", R"({"a":)" + entry("F32", "[1,1,1,1,1,1,2]", "[0,8]") + "}", "more than 6"),
      header("half precision", R"({"a":)" + entry("F16", "[4]", "[0,8]") + "}", "F32, F64 or I64"),
      header("no dtype", R"({"a":{"shape":[2],"data_offsets":[0,8]}})", "field missing: dtype"),
  };
}

std::vector<HostileCase> metadata_cases() {
  const std::string deep(100000, '[');
  return {
      edited(
          "no metadata", [](SafetensorsParts& parts) { parts.header.erase("__metadata__"); },
          "needs metadata 'format'"),
      metadata("another format", "format", "pt", "format must be 'fovea.model'"),
      metadata("another version", "version", "2", "version must be '1'"),
      metadata("metadata that is no text", "format", 1, "must be a string"),
      metadata("configuration that is no JSON", "config", "{", "not JSON"),
      metadata("configuration that is deep", "config", deep, "nested deeper than 32"),
      metadata("configuration that is a list", "config", "[]", "class"),
      metadata("provenance that is no JSON", "provenance", "nothing", "not JSON"),
      metadata("provenance that is deep", "provenance", deep, "nested deeper than 32"),
      config_value("class", R"("KlindtCoreReadout9D")", "class must be one of"),
      config_value("class", "3", "class must be one of"),
      config_value("frobnicate", "1", "unknown parameter 'frobnicate'"),
      config_text_edited("a parameter twice", R"("dropout_rate")", R"("in_shape":[1,2,3,4],"dropout_rate")",
                         "duplicate key 'in_shape'"),
      config(
          "a million weights for each of a million channels",
          [](Json& section) {
            section["hidden_channels"] = {1000000, 1000000};
            section["temporal_kernel_sizes"] = section["spatial_kernel_sizes"] = {3, 3};
          },
          "at most 1e+09 weights"),
      config(
          "10^12 weights in many layers",
          [](Json& section) {
            section["hidden_channels"] = std::vector<int>(30000, 2000);
            section["temporal_kernel_sizes"] = std::vector<int>(30000, 3);
            section["spatial_kernel_sizes"] = std::vector<int>(30000, 1);
          },
          "at most 1e+09 weights"),
      config_value("hidden_channels", "[20000]", "more memory than the tensors of the file fill"),
      config_value("in_shape", "[1, 30, 4611686018427387904, 4]", "in_shape must be at most"),
      config_value("in_shape", "[1, 30, 100000, 100000]", "at most 1e+09 weights"),
      config_value("in_shape", "[1, 30, 0, 16]", "in_shape[2] must be at least 1: 0"),
      config_value("in_shape", "[1, 30, -16, -16]", "in_shape[2] must be at least 1: -16"),
      config_value("in_shape", "[1, 30, 16]", "a list of 4"),
      config_value("spatial_kernel_sizes", "[17]", "too small for spatial_kernel_sizes[0]: 17"),
      config_value("temporal_kernel_sizes", "[4611686018427387904]", "at most 1e+09 weights"),
      config_value("core_input_padding", "[1099511627776, 0, 0]", "core_input_padding[0] must be 0 to"),
      config_value("downsample_input_kernel_size", "[4611686018427387904, 1, 1]", "leaves nothing"),
      config_value("cut_first_n_frames_in_core", "9223372036854775807", "leaves no frames"),
      config_value("dropout_rate", "1.5", "dropout_rate must be in [0, 1)"),
      config_value("learning_rate", "0", "learning_rate must be"),
  };
}

std::vector<HostileCase> session_cases() {
  return {
      sessions("{}", "at least one session"),
      sessions("[]", "a map of session"),
      sessions(R"({"a": 6})", "a map with n_neurons"),
      sessions(R"({"a": {"n_neurons": 0}})", "1 to 10000000"),
      sessions(R"({"a": {"n_neurons": -6}})", "1 to 10000000"),
      sessions(R"({"a": {"n_neurons": 6.5}})", "a whole number"),
      sessions(R"({"a": {"n_neurons": 4611686018427387904}})", "1 to 10000000"),
      sessions(R"({"a": {"n_neurons": 10000000}})", "at most 1e+09 weights"),
      sessions(R"({"simulated_retina": {"n_neurons": 7}})",
               "misshapen: readout.simulated_retina.bias f32 (6) instead of f32 (7)"),
      sessions(R"({"other": {"n_neurons": 6}})",
               "missing: readout.other.bias (6); extra: readout.simulated_retina.bias"),
      sessions(R"({"a/b": {"n_neurons": 6}})", "named without '/'"),
      sessions(R"({"../../up": {"n_neurons": 6}})", "named without '/'"),
      sessions(R"({"": {"n_neurons": 6}})", "named without '/'"),
      sessions(R"({"a\u0007b": {"n_neurons": 6}})", "named without '/', control characters"),
      sessions(R"({"a\u0000b": {"n_neurons": 6}})", "named without '/', control characters"),
      sessions(R"({"a": {"n_neurons": 6, "mean_activity": [1, 2]}})", "a list of n_neurons = 6 numbers"),
      sessions(R"({"a": {"n_neurons": 6, "mean_activty": []}})", "mean_activity"),
      config_text_edited("a session twice", R"("sessions":{)",
                         R"("sessions":{"simulated_retina":{"n_neurons":6},)",
                         "duplicate key 'simulated_retina'"),
      config_value("n_neurons_dict", R"({"simulated_retina": 7})", "n_neurons_dict must agree"),
  };
}

/// A tensor of the lab's model replaced by one of these values.
HostileCase with_value(const std::string& name, float value, const std::string& part) {
  return edited(
      name,
      [=](SafetensorsParts& parts) {
        for (auto& [key, tensor] : parts.header.items())
          if (key.find("features") != std::string::npos && key.find("readout") == 0)
            parts.data.replace(tensor["data_offsets"][0].get<std::size_t>(), 4, bytes_of<float>({value}));
      },
      part);
}

std::vector<HostileCase> tensor_cases() {
  constexpr auto counter = "core.features.layer0.norm.num_batches_tracked";
  const auto renamed = [](SafetensorsParts& parts, const std::string& from, const std::string& to) {
    parts.header[to] = parts.header.at(from);
    parts.header.erase(from);
  };
  return {
      with_value("NaN in a parameter", NAN, "is not finite: nan"),
      with_value("infinity in a parameter", INFINITY, "is not finite: inf"),
      edited(
          "a tensor missing and one too many",
          [=](SafetensorsParts& parts) { renamed(parts, counter, "core.nothing"); }, "extra: core.nothing"),
      edited(
          "another element type", [=](SafetensorsParts& parts) { parts.header[counter]["dtype"] = "F64"; },
          "misshapen: core.features.layer0.norm.num_batches_tracked f64"),
      accepted(edited(
                   "as it is", [](SafetensorsParts&) {}, ""),
               {readers()[0], readers()[1], readers()[3]}, ""),
  };
}

std::vector<HostileCase> right_cases() {
  const Words describe{"describe", "m.safetensors"};
  const auto named = [](const std::string& session) {
    return edited(
        "session " + session,
        [=](SafetensorsParts& parts) {
          std::string text = replaced(parts.header.dump(), R"(\"sessions\":{\"simulated_retina\")",
                                      R"(\"sessions\":{\")" + session + R"(\")");
          for (std::size_t at; (at = text.find("readout.simulated_retina.")) != std::string::npos;)
            text.replace(at, 24, "readout." + session);
          parts.header = Json::parse(text);
        },
        "");
  };
  return {
      accepted(named("21067-10.18 left éye"), {describe}, "readout.21067-10.18 left éye"),
      accepted(config_value("in_shape", "[1, 1000000000, 16, 16]", ""), {describe}, "not measured"),
  };
}

}  // namespace

std::vector<HostileCase> model_cases() {
  std::vector<HostileCase> all;
  for (const auto& table : {header_cases(), metadata_cases(), session_cases(), tensor_cases(), right_cases()})
    all.insert(all.end(), table.begin(), table.end());
  return all;
}

}  // namespace fovea::test

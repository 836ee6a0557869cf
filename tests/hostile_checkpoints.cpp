// Run folders whose checkpoint is damaged or lies.
#include <sys/stat.h>

#include "hostile_files.hpp"

namespace fovea::test {
namespace {

constexpr auto checkpoint = "/run/last.ckpt.safetensors";

HostileCase folder_case(const std::string& name, const std::function<void(const std::string&)>& edit,
                        const std::string& part) {
  return {"checkpoint: " + name,
          [=](const std::string& folder) {
            fs::copy(Lab::get().run_folder(), folder + "/run", fs::copy_options::recursive);
            edit(folder);
          },
          {{"train", "--resume", "run"}},
          part};
}

HostileCase edited(const std::string& name, const std::function<void(SafetensorsParts&)>& edit,
                   const std::string& part) {
  return folder_case(
      name,
      [=](const std::string& folder) {
        SafetensorsParts parts(folder + checkpoint);
        edit(parts);
        parts.write(folder + checkpoint);
      },
      part);
}

/// A text of the metadata that is JSON with something changed in it.
HostileCase json(const std::string& name, const std::string& field, const std::function<void(Json&)>& edit,
                 const std::string& part) {
  return edited(
      name,
      [=](SafetensorsParts& parts) {
        Json& text = parts.header["__metadata__"][field];
        Json value = Json::parse(text.get<std::string>());
        edit(value);
        text = value.dump();
      },
      part);
}

HostileCase state(const std::string& key, const std::string& value, const std::string& part) {
  return json(
      "state " + key + " = " + value, "state", [=](Json& state) { state[key] = Json::parse(value); }, part);
}

HostileCase config(const std::string& key, const std::string& value, const std::string& part) {
  return json(
      key + " = " + value, "config", [=](Json& config) { config[key] = Json::parse(value); }, part);
}

/// The step counts of the parameters, which lie in the data as I64.
void set_steps(SafetensorsParts& parts, std::int64_t steps) {
  for (const auto& [name, tensor] : parts.header.items())
    if (name.rfind("steps.", 0) == 0)
      parts.data.replace(tensor["data_offsets"][0].get<std::size_t>(), 8,
                         bytes_of(std::vector<std::int64_t>{steps}));
}

void rename_first(SafetensorsParts& parts, const std::string& prefix) {
  for (const auto& [name, tensor] : parts.header.items()) {
    if (name.rfind(prefix, 0) != 0) continue;
    const std::string old = name;
    parts.header["x" + old] = Json(tensor);
    parts.header.erase(old);
    return;
  }
}

}  // namespace

std::vector<HostileCase> checkpoint_cases() {
  const auto write = [](const std::string& name, const std::string& content) {
    return [=](const std::string& folder) { write_bytes(folder + "/run/" + name, content); };
  };
  const std::string file = std::string(checkpoint).substr(5);
  return {
      folder_case(
          "missing", [](const std::string& folder) { fs::remove(folder + checkpoint); }, "cannot be opened"),
      folder_case("empty", write(file, ""), "too short"),
      folder_case(
          "cut",
          [](const std::string& folder) {
            fs::resize_file(folder + checkpoint, fs::file_size(folder + checkpoint) / 2);
          },
          "beyond the file"),
      folder_case(
          "a model file in its place",
          [](const std::string& folder) {
            fs::copy_file(Lab::get().model(), folder + checkpoint, fs::copy_options::overwrite_existing);
          },
          "format must be 'fovea.checkpoint'"),
      folder_case("configuration broken", write("config.yaml", "model: [1\n"), "line"),
      folder_case(
          "configuration missing", [](const std::string& folder) { fs::remove(folder + "/run/config.yaml"); },
          "config.yaml"),
      folder_case(
          "log that is a pipe",
          [](const std::string& folder) {
            fs::remove(folder + "/run/log.txt");
            if (::mkfifo((folder + "/run/log.txt").c_str(), 0600) != 0) throw Error("test", "no pipe");
          },
          "is not a regular file"),
      edited(
          "state that is no JSON",
          [](SafetensorsParts& parts) { parts.header["__metadata__"]["state"] = "{"; }, "not JSON"),
      edited(
          "state that is deep",
          [](SafetensorsParts& parts) { parts.header["__metadata__"]["state"] = std::string(100000, '['); },
          "nested deeper than 32"),
      edited(
          "state that is a list",
          [](SafetensorsParts& parts) { parts.header["__metadata__"]["state"] = "[]"; }, "state"),
      json(
          "state without epoch", "state", [](Json& state) { state.erase("epoch"); }, "epoch"),
      state("epoch", "-1", "epoch must be 0 to 2^53"),
      state("epoch", "1.5", "epoch must be a whole number"),
      state("epoch", "1e300", "epoch must be a whole number"),
      state("epoch", "true", "epoch must be a whole number"),
      state("epoch", "9223372036854775807", "epoch must be 0 to 2^53"),
      state("batch", "1000000", "stands at batch"),
      state("seed", "-7", "seed must be"),
      state("seed", "8", "seed 8"),
      state("data_hash", "\"0\"", "the data changed"),
      state("history", "[1]", "state"),
      state("best_metric", "\"good\"", "not a number"),
      state("scheduler", "null", "not those of this run"),
      config("hidden_channels", "[1000000000]", "at most 1e+09 weights"),
      config("hidden_channels", "[20000]", "more memory than the tensors of the file fill"),
      config("sessions", R"({"simulated_retina": {"n_neurons": 10000000}})", "at most 1e+09 weights"),
      config("sessions", R"({"a/b": {"n_neurons": 6}})", "named without '/'"),
      edited(
          "a moment missing", [](SafetensorsParts& parts) { rename_first(parts, "exp_avg."); },
          "missing tensor exp_avg."),
      edited(
          "steps below 0", [](SafetensorsParts& parts) { set_steps(parts, -1); }, "must be at least 0: -1"),
  };
}

}  // namespace fovea::test

// Paths that are no files: folders, pipes, devices, dangling links, what may not be read.
#include <sys/stat.h>

#include "hostile_files.hpp"

namespace fovea::test {
namespace {

using Make = std::function<void(const std::string& path)>;

struct Kind {
  std::string name;
  Make make;
  std::string part;
};

std::vector<Kind> kinds() {
  std::vector<Kind> all{
      {"a folder", [](const std::string& path) { fs::create_directory(path); }, "not a regular file"},
      {"a pipe",
       [](const std::string& path) {
         if (::mkfifo(path.c_str(), 0600) != 0) throw Error("test", "no pipe: " + path);
       },
       "not a regular file"},
      {"/dev/zero", [](const std::string& path) { fs::create_symlink("/dev/zero", path); },
       "not a regular file"},
      {"a link to nothing", [](const std::string& path) { fs::create_symlink("nowhere", path); },
       "cannot be opened"},
      {"a link to itself", [](const std::string& path) { fs::create_symlink(path, path); },
       "cannot be opened"},
      {"nothing", [](const std::string&) {}, "cannot be opened"},
  };
  if (::geteuid() != 0)
    all.push_back({"unreadable",
                   [](const std::string& path) {
                     write_bytes(path, "x");
                     fs::permissions(path, fs::perms::none);
                   },
                   "cannot be opened"});
  return all;
}

/// This kind of path where a command expects a file; the part of the message names that file.
HostileCase at(const std::string& what, const Kind& kind, const std::string& file,
               const std::vector<Words>& commands) {
  return {what + ": " + kind.name, [=](const std::string& folder) { kind.make(folder + '/' + file); },
          commands, file};
}

/// A recording whose session file, or whose stimulus, is of this kind.
HostileCase in_recording(const std::string& what, const Kind& kind, const std::string& file) {
  HostileCase one = at(what, kind, file, {{"data", "run.yaml", "--dump", "no"}, {"train", "run.yaml"}});
  one.make = [=](const std::string& folder) {
    write_bytes(folder + "/run.yaml", config_for("retina"));
    fs::copy(Lab::get() / "retina", folder + "/retina", fs::copy_options::recursive);
    fs::remove(folder + '/' + file);
    kind.make(folder + '/' + file);
  };
  return one;
}

}  // namespace

std::vector<HostileCase> path_cases() {
  const Lab& lab = Lab::get();
  const std::string movie = lab / "retina/stimuli/wn_test.npy";
  std::vector<HostileCase> cases;
  for (const Kind& kind : kinds()) {
    cases.push_back(at("model path", kind, "m.safetensors",
                       {{"describe", "m.safetensors"},
                        {"predict", "m.safetensors", "--stimulus", movie, "--out", "no.npy"},
                        {"eval", "m.safetensors", "--data", lab / "tiny.yaml", "--csv", "no.csv"},
                        {"train", lab / "tiny.yaml", "--from", "m.safetensors", "output=runs"}}));
    cases.push_back(at("configuration path", kind, "run.yaml",
                       {{"train", "run.yaml"},
                        {"data", "run.yaml", "--dump", "no"},
                        {"describe", "run.yaml"},
                        {"eval", lab.model(), "--data", "run.yaml"}}));
    cases.push_back(at("stimulus path", kind, "x.npy",
                       {{"predict", lab.model(), "--stimulus", "x.npy", "--out", "no.npy"},
                        {"gradients", lab.model(), "--stimulus", movie, "--responses", "x.npy", "--out",
                         "no.safetensors"}}));
    if (kind.name == "nothing") continue;  // a folder without the file is another error
    cases.push_back(in_recording("session path", kind, "retina/simulated_retina.h5"));
    cases.push_back(in_recording("shared stimulus path", kind, "retina/stimuli/wn_test.npy"));
  }
  return cases;
}

}  // namespace fovea::test

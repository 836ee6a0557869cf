#include "data/staged_directory.hpp"

#include <algorithm>

#include "engine/atomic_file.hpp"
#include "fovea/error.hpp"

namespace fovea {
namespace {

namespace fs = std::filesystem;

/// Errors of the file system name the directory.
template <class Action>
void checked(const fs::path& directory, const Action& action) {
  try {
    action();
  } catch (const fs::filesystem_error& error) {
    throw Error(directory.string(), text("cannot be written: ", error.code().message()));
  }
}

}  // namespace

StagedDirectory::Removal::~Removal() {
  std::error_code ignored;
  for (const fs::path& path : paths) fs::remove_all(path, ignored);
}

StagedDirectory::StagedDirectory(const std::string& directory, const std::string& what)
    : directory_(directory), staging_(directory_ / ".simulating") {
  checked(directory_, [&] { prepare(what); });
}

void StagedDirectory::prepare(const std::string& what) {
  const bool fresh = !fs::exists(directory_);
  if (!fresh && !fs::is_directory(directory_))
    throw Error(directory_.string(), text(what, " is a directory, but there is a file of that name"));
  fs::create_directories(directory_);
  if (fresh) removal_.paths.push_back(directory_);
  std::vector<std::string> entries;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_))
    if (entry.path().filename() != staging_.filename()) entries.push_back(entry.path().filename().string());
  if (!entries.empty())
    throw Error(directory_.string(),
                text("the directory for ", what, " must be empty: it holds ", entries.size(), ", among them ",
                     *std::min_element(entries.begin(), entries.end())));
  removal_.paths.push_back(staging_);
  fs::remove_all(staging_);
  fs::create_directory(staging_);
}

std::string StagedDirectory::make(const std::string& name) const {
  const fs::path path = staging_ / name;
  checked(directory_, [&] { fs::create_directories(path.parent_path()); });
  return path.string();
}

void StagedDirectory::write(const std::string& name, std::string_view bytes) {
  write_unsynchronized_file(make(name), bytes);
  unsynchronized_ = true;
}

void StagedDirectory::publish(const std::vector<std::string>& names) {
  if (unsynchronized_) sync_file_system(staging_.string());
  checked(directory_, [&] {
    for (const std::string& name : names) {
      removal_.paths.push_back(directory_ / name);
      fs::rename(staging_ / name, removal_.paths.back());
    }
  });
  sync_folder(directory_.string());
  removal_.paths = {staging_};
}

}  // namespace fovea

#include "data/file_tree.hpp"

#include <filesystem>
#include <fstream>

#include "engine/input_file.hpp"
#include "fovea/error.hpp"
#include "fovea/npy.hpp"

namespace fovea {
namespace {

namespace fs = std::filesystem;

class FolderTree final : public FileTree {
 public:
  explicit FolderTree(fs::path top) : top_(std::move(top)) {}

  std::vector<TreeFile> list(const std::string& folder) const override {
    std::vector<TreeFile> files;
    std::error_code error;
    for (fs::directory_iterator entry(top_ / folder, error), end; !error && entry != end;
         entry.increment(error))
      if (entry->is_regular_file(error))
        files.push_back({entry->path().filename().string(), entry->file_size(error), 0});
    if (error && error != std::errc::no_such_file_or_directory)
      throw FormatError(full_name(folder), text("cannot be read: ", error.message()));
    return files;
  }

  bool contains(const std::string& file) const override {
    std::error_code error;
    return fs::is_regular_file(top_ / file, error);
  }

  std::string full_name(const std::string& file) const override { return (top_ / file).string(); }

  void check(const std::string& file) const override { (void)size_of_file(file); }

  std::vector<std::byte> read(const std::string& file) const override {
    std::vector<std::byte> bytes(size_of_file(file));
    std::ifstream stream = open_input(full_name(file));
    stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (static_cast<std::size_t>(stream.gcount()) != bytes.size())
      throw FormatError(full_name(file),
                        text("is cut off: ", stream.gcount(), " of ", bytes.size(), " bytes"));
    return bytes;
  }

 private:
  std::size_t size_of_file(const std::string& file) const {
    std::error_code error;
    const std::uintmax_t size = fs::file_size(top_ / file, error);
    if (error) throw FormatError(full_name(file), text("cannot be read: ", error.message()));
    if (size > most_bytes)
      throw FormatError(full_name(file), text("has ", size, " bytes; at most ", most_bytes, " are read"));
    return static_cast<std::size_t>(size);
  }

  fs::path top_;
};

}  // namespace

std::shared_ptr<const FileTree> FileTree::open(const std::string& path, const std::string& marker) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) return open_zip_tree(path, marker);
  if (!fs::is_directory(path, error)) throw FormatError(path, "is neither a folder nor a zip");
  auto tree = std::make_shared<const FolderTree>(path);
  if (!tree->contains(marker)) throw FormatError(path, text("has no ", marker));
  return tree;
}

StoredArray FileTree::read_npy(const std::string& file) const {
  const auto bytes = std::make_shared<const std::vector<std::byte>>(read(file));
  return parse_npy(full_name(file), bytes->data(), bytes->size(), bytes);
}

std::vector<std::string> FileTree::read_words(const std::string& file) const {
  const std::vector<std::byte> bytes = read(file);
  return parse_npy_words(full_name(file), bytes.data(), bytes.size());
}

}  // namespace fovea

// A folder, or a zip read in place, as a tree of files.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fovea/stored_array.hpp"

namespace fovea {

/// A file of a tree, without its content.
struct TreeFile {
  std::string name;            ///< last part of its path
  std::uint64_t bytes = 0;     ///< of its content
  std::uint32_t checksum = 0;  ///< CRC-32 of a zip's member, 0 in a folder
};

/// Read-only and safe to use from several threads. Paths are relative to the top, with '/'. Nothing is
/// written anywhere.
class FileTree {
 public:
  /// Largest file that is read: a zip may claim anything.
  static constexpr std::uint64_t most_bytes = std::uint64_t{1} << 28;

  /// A folder that holds `marker`, or a zip with `marker` on top or in one folder of any name; foreign
  /// members are ignored. FormatError naming path and member where a zip is damaged, a member name leaves the
  /// archive
  /// ("../x", "/x"), comes twice, or two folders hold `marker`.
  static std::shared_ptr<const FileTree> open(const std::string& path, const std::string& marker);
  virtual ~FileTree() = default;

  /// Files of a folder, in no particular order; none where there is no such folder.
  virtual std::vector<TreeFile> list(const std::string& folder) const = 0;
  virtual bool contains(const std::string& file) const = 0;
  /// How messages name a file.
  virtual std::string full_name(const std::string& file) const = 0;
  /// FormatError where `read` would refuse it unread: not there, encrypted, packed in an unknown way, or of
  /// more than most_bytes.
  virtual void check(const std::string& file) const = 0;
  /// The content. FormatError as `check`, and where it is cut off or fails its checksum.
  virtual std::vector<std::byte> read(const std::string& file) const = 0;

  /// A .npy file of numbers, as parse_npy.
  StoredArray read_npy(const std::string& file) const;
  /// A .npy file of text or numbers, as parse_npy_words.
  std::vector<std::string> read_words(const std::string& file) const;
};

std::shared_ptr<const FileTree> open_zip_tree(const std::string& path, const std::string& marker);

}  // namespace fovea

// Files that appear whole or not at all.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace fovea {

/// Writes a file under a temporary name in the folder of `path`; commit() makes it durable and gives it its
/// name, replacing an older file and keeping that one's permissions. Without commit() nothing stays behind.
/// Throws Error, with the path and the system's reason, where the system refuses.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::string_view bytes);  ///< appends
  void commit();                       ///< once, last

 private:
  void flush();
  void write_through(std::string_view bytes);

  std::string path_, folder_, temporary_;
  std::string buffer_;  // small writes gather here
  int descriptor_ = -1;
};

void write_file_atomically(const std::string& path, std::string_view bytes);

/// Writes a new file that nobody looks for before its folder gets a name, after sync_file_system(): without a
/// temporary name and without waiting for the disk, which thousands of small files would take minutes for.
/// Throws Error as AtomicFile does; half a file may stay.
void write_unsynchronized_file(const std::string& path, std::string_view bytes);
/// Makes all that has been written to the file system of a folder durable. Throws Error.
void sync_file_system(const std::string& folder);

/// Makes new names in a folder durable, which a file system need not do by itself. Throws Error.
void sync_folder(const std::string& folder);

/// Removes temporary files that a killed process left in a folder. Nobody else may be writing there.
void remove_abandoned_temporaries(const std::string& folder);

}  // namespace fovea

// Data sets of several files that appear together or not at all.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

/// A directory, new or empty, that is filled in a folder inside it and shows its contents at the end. What
/// has not been published goes with this object, the directory as well where it was new.
class StagedDirectory {
 public:
  /// Makes the directory where there is none. Error where it holds anything but the leftover of an
  /// interrupted run, or the system refuses; `what` names the data set in messages: "a simulated retina".
  StagedDirectory(const std::string& directory, const std::string& what);

  /// A path inside, to write to before publish(); folders that it needs are made.
  std::string make(const std::string& name) const;
  /// Writes one of many small files inside; it is durable once publish() returns.
  void write(const std::string& name, std::string_view bytes);
  /// Moves the named entries into the directory, in this order; once, last. The one that makes the directory
  /// a data set should come last.
  void publish(const std::vector<std::string>& names);

 private:
  struct Removal {
    std::vector<std::filesystem::path> paths;
    ~Removal();
  };
  void prepare(const std::string& what);

  std::filesystem::path directory_, staging_;
  bool unsynchronized_ = false;  // something was written that may not be on the disk yet
  Removal removal_;              // goes even when the constructor throws
};

}  // namespace fovea

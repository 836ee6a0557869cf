#include "engine/atomic_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "fovea/error.hpp"

namespace fovea {
namespace {

constexpr std::size_t buffer_bytes = 1 << 16;

[[noreturn]] void fail(const std::string& path, std::string_view what) {
  const int reason = errno;
  throw Error(path, text(what, ": ", std::system_category().message(reason)));
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// Names that no other process or thread is using now; a leftover of a killed process is stepped over.
std::string next_temporary_name(const std::string& folder) {
  static std::atomic<unsigned> count{0};
  return text(folder, "/.fovea-", ::getpid(), '-', count.fetch_add(1), ".tmp");
}

/// Some file systems cannot synchronise a folder, and say so by EINVAL. Errors name `path`.
void sync(const std::string& folder, const std::string& path) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail(path, "its folder cannot be opened");
  const int result = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  if (result != 0 && reason != EINVAL) fail(path, "its folder cannot be synchronised");
}

void write_all(int descriptor, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(path, "cannot be written");
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

/// Open for as long as this lives.
struct Descriptor {
  int number;
  explicit Descriptor(int opened) : number(opened) {}
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

/// The file behind symbolic links: they are kept, and their target is replaced.
std::string resolved(const std::string& path) {
  char* real = ::realpath(path.c_str(), nullptr);
  if (!real) return path;
  std::string result = real;
  std::free(real);
  return result;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(resolved(path)), folder_(folder_of(path_)) {
  struct stat old {};
  const bool replaces = ::stat(path_.c_str(), &old) == 0;
  if (replaces && !S_ISREG(old.st_mode)) throw Error(path_, "cannot be written: it is not a regular file");
  do {
    temporary_ = next_temporary_name(folder_);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) fail(path_, "cannot be written");
  if (replaces) (void)::fchmod(descriptor_, old.st_mode & 07777);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) {
  if (temporary_.empty()) throw Error(path_, "write after commit");
  if (buffer_.size() + bytes.size() > buffer_bytes) flush();
  if (bytes.size() > buffer_bytes)
    write_through(bytes);
  else
    buffer_.append(bytes);
}

void AtomicFile::flush() {
  write_through(buffer_);
  buffer_.clear();
}

void AtomicFile::write_through(std::string_view bytes) { write_all(descriptor_, bytes, path_); }

void AtomicFile::commit() {
  if (temporary_.empty()) throw Error(path_, "commit after commit");
  flush();
  if (::fsync(descriptor_) != 0) fail(path_, "cannot be synchronised");
  const int result = ::close(descriptor_);
  descriptor_ = -1;
  if (result != 0) fail(path_, "cannot be closed");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, "cannot be replaced");
  temporary_.clear();
  sync(folder_, path_);
}

void write_unsynchronized_file(const std::string& path, std::string_view bytes) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (file.number < 0) fail(path, "cannot be written");
  write_all(file.number, bytes, path);
  const int result = ::close(file.number);
  file.number = -1;
  if (result != 0) fail(path, "cannot be closed");
}

void sync_file_system(const std::string& folder) {
  const Descriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.number < 0 || ::syncfs(opened.number) != 0) fail(folder, "cannot be synchronised");
}

void sync_folder(const std::string& folder) { sync(folder.empty() ? "." : folder, folder); }

void remove_abandoned_temporaries(const std::string& folder) {
  std::error_code ignored;  // what cannot be listed or removed stays
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const bool ours =
        name.rfind(".fovea-", 0) == 0 && name.size() > 4 && name.compare(name.size() - 4, 4, ".tmp") == 0;
    if (ours) std::filesystem::remove(entry.path(), ignored);
  }
}

void write_file_atomically(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace fovea

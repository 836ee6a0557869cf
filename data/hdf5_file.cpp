// The HDF5 library in a child process: the child writes records to a pipe, the parent turns them into arrays.
// Whatever the library does with a damaged file, the parent sees only an end of the pipe that comes too
// early.
#include "data/hdf5_file.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "engine/sanitized.hpp"

namespace fovea {

namespace {

constexpr rlim_t most_memory = rlim_t{8} << 30;  // beside what the process has already

/// Seconds of computing: a gigabyte takes some ten, and a damaged file can make the library run for ever.
rlim_t most_seconds(const std::string& path) {
  constexpr rlim_t at_least = 10, bytes_per_second = 4 << 20;
  struct stat status {};
  return at_least +
         (::stat(path.c_str(), &status) == 0 ? static_cast<rlim_t>(status.st_size) / bytes_per_second : 0);
}

enum Record : std::uint64_t { record_numbers = 1, record_text, record_unsupported, record_error, record_end };

// ---- child

class PipeSink : public Hdf5Sink {
 public:
  explicit PipeSink(int descriptor) : descriptor_(descriptor) {}

  void numbers(const std::string& name, ElementType type, const std::vector<std::int64_t>& shape,
               const std::byte* bytes, std::size_t size) override {
    begin(record_numbers, name);
    number(static_cast<std::uint64_t>(type));
    number(shape.size());
    for (const std::int64_t extent : shape) number(static_cast<std::uint64_t>(extent));
    write(bytes, size);
  }
  void text(const std::string& name, const std::vector<std::string>& lines) override {
    begin(record_text, name);
    number(lines.size());
    for (const std::string& line : lines) string(line);
  }
  void unsupported(const std::string& name) override { begin(record_unsupported, name); }
  void begin(Record record, const std::string& name) {
    number(record);
    string(name);
  }

 private:
  void number(std::uint64_t value) { write(&value, sizeof value); }
  void string(const std::string& value) {
    number(value.size());
    write(value.data(), value.size());
  }
  void write(const void* bytes, std::size_t size) {
    const char* at = static_cast<const char*>(bytes);
    while (size > 0) {
      const ssize_t written = ::write(descriptor_, at, size);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) ::_exit(1);
      at += written, size -= static_cast<std::size_t>(written);
    }
  }

  int descriptor_;
};

rlim_t address_space_now() {
  unsigned long pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "re")) {
    if (std::fscanf(file, "%lu", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return static_cast<rlim_t>(pages) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
}

void lower_limit(int resource, rlim_t limit) {
  rlimit now{};
  if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &now) != 0) return;
  now.rlim_cur = now.rlim_max == RLIM_INFINITY ? limit : std::min(limit, now.rlim_max);
  ::setrlimit(static_cast<__rlimit_resource_t>(resource), &now);
}

[[noreturn]] void child_main(int pipe, const std::string& path, const Hdf5Filter& wanted) {
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGPIPE, SIGXCPU})
    ::signal(signal, SIG_DFL);
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere >= 0) ::dup2(nowhere, STDERR_FILENO), ::dup2(nowhere, STDOUT_FILENO);
  lower_limit(RLIMIT_CORE, 0);
  lower_limit(RLIMIT_CPU, most_seconds(path));
  if (!sanitized) lower_limit(RLIMIT_AS, address_space_now() + most_memory);
  PipeSink sink(pipe);
  try {
    read_hdf5_items(path, wanted, sink);
    sink.begin(record_end, "");
  } catch (const std::bad_alloc&) {
    sink.begin(record_error, text("[hdf5] ", path, ": needs more memory than there is"));
  } catch (const std::exception& error) {
    sink.begin(record_error, error.what());
  }
  ::_exit(0);
}

// ---- parent

class Child {
 public:
  Child(const std::string& path, const Hdf5Filter& wanted) : path_(path) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw Error("hdf5", text(path, ": no pipe: ", std::strerror(errno)));
    child_ = ::fork();
    if (child_ == 0) {
      ::close(ends[0]);
      child_main(ends[1], path, wanted);
    }
    const int error = errno;
    ::close(ends[1]);
    pipe_ = ends[0];
    if (child_ < 0) {
      ::close(pipe_);
      throw Error("hdf5", text(path, ": no process to read it: ", std::strerror(error)));
    }
  }
  ~Child() {
    ::close(pipe_);
    if (child_ > 0) ::kill(child_, SIGKILL), wait();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  std::uint64_t number() {
    std::uint64_t value = 0;
    read(&value, sizeof value);
    return value;
  }
  std::string string() {
    std::string value(number(), '\0');
    read(value.data(), value.size());
    return value;
  }
  void read(void* bytes, std::size_t size) {
    char* at = static_cast<char*>(bytes);
    while (size > 0) {
      const ssize_t got = ::read(pipe_, at, size);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) fail_early();
      at += got, size -= static_cast<std::size_t>(got);
    }
  }

 private:
  int wait() {
    int status = 0;
    while (::waitpid(child_, &status, 0) < 0)
      if (errno != EINTR) break;
    child_ = -1;
    return status;
  }
  [[noreturn]] void fail_early() {
    const int status = wait();
    std::string how = "";
    if (WIFSIGNALED(status))
      how = WTERMSIG(status) == SIGXCPU ? text(" within ", most_seconds(path_), " seconds")
                                        : text(": the HDF5 library ended with signal ", WTERMSIG(status));
    throw FormatError("hdf5", text(path_, ": cannot be read", how, "; the file is damaged"));
  }

  const std::string& path_;
  pid_t child_ = -1;
  int pipe_ = -1;
};

StoredArray read_numbers(Child& child, const std::string& origin) {
  const auto type = static_cast<ElementType>(child.number());
  std::vector<std::int64_t> shape(child.number());
  std::size_t bytes = size_of(type);
  for (std::int64_t& extent : shape) {
    extent = static_cast<std::int64_t>(child.number());
    bytes *= static_cast<std::size_t>(extent);
  }
  const auto values = std::make_shared<std::vector<std::byte>>(bytes);
  child.read(values->data(), bytes);
  return StoredArray(origin, type, std::move(shape), values->data(), values);
}

std::vector<Hdf5Item> read_records(Child& child, const std::string& path) {
  std::vector<Hdf5Item> items;
  for (;;) {
    const std::uint64_t record = child.number();
    Hdf5Item item;
    item.name = child.string();
    if (record == record_end) return items;
    if (record == record_error) {
      constexpr std::string_view prefix = "[hdf5] ";  // the constructor puts it there again
      throw FormatError("hdf5", item.name.starts_with(prefix) ? item.name.substr(prefix.size()) : item.name);
    }
    if (record == record_numbers) item.values = read_numbers(child, path + ": " + item.name);
    if (record == record_text) {
      item.text.resize(child.number());
      for (std::string& line : item.text) line = child.string();
    }
    items.push_back(std::move(item));
  }
}

}  // namespace

std::vector<Hdf5Item> read_hdf5(const std::string& path, const Hdf5Filter& wanted) {
  try {
    Child child(path, wanted);
    return read_records(child, path);
  } catch (const std::bad_alloc&) {
    throw FormatError("hdf5", text(path, ": needs more memory than there is"));
  } catch (const std::length_error&) {
    throw FormatError("hdf5", text(path, ": needs more memory than there is"));
  }
}

}  // namespace fovea

#include "engine/system_memory.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

namespace fovea {
namespace {

constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

/// Bytes behind "Label:   123 kB" in a file of such lines.
std::optional<std::size_t> kilobytes_of(const char* path, const std::string& label) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(label + ":", 0) != 0) continue;
    std::istringstream rest(line.substr(label.size() + 1));
    if (std::size_t value = 0; rest >> value) return value * 1024;
  }
  return std::nullopt;
}

/// The number in a file; nothing for "max".
std::optional<std::size_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::size_t value = 0;
  return file >> value ? std::optional<std::size_t>(value) : std::nullopt;
}

std::size_t left_of(std::size_t limit, std::size_t used) { return limit > used ? limit - used : 0; }

/// What a control group (version 2 or 1) leaves, the groups above it included.
std::size_t left_by_control_groups() {
  std::size_t least = unlimited;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const bool unified = second == first + 1;
    if (!unified && line.substr(first + 1, second - first - 1) != "memory") continue;
    const std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    std::string group = line.substr(second + 1);
    for (bool more = true; more;) {
      while (!group.empty() && group.back() == '/') group.pop_back();
      more = !group.empty();
      const auto limit = number_in(root + group + (unified ? "/memory.max" : "/memory.limit_in_bytes"));
      const auto used = number_in(root + group + (unified ? "/memory.current" : "/memory.usage_in_bytes"));
      if (limit && used) least = std::min(least, left_of(*limit, *used));
      if (more) group.resize(group.rfind('/'));
    }
  }
  return least;
}

std::size_t left_by_limit(__rlimit_resource resource, const std::string& label) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return unlimited;
  return left_of(limit.rlim_cur, kilobytes_of("/proc/self/status", label).value_or(0));
}

}  // namespace

std::size_t available_memory() {
  return std::min({kilobytes_of("/proc/meminfo", "MemAvailable").value_or(unlimited),
                   left_by_control_groups(), left_by_limit(RLIMIT_AS, "VmSize"),
                   left_by_limit(RLIMIT_DATA, "VmData")});
}

std::size_t resident_memory() { return kilobytes_of("/proc/self/status", "VmRSS").value_or(0); }

std::size_t peak_resident_memory() { return kilobytes_of("/proc/self/status", "VmHWM").value_or(0); }

}  // namespace fovea

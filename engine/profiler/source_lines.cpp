#include "engine/profiler/source_lines.hpp"

#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <sstream>

#include "fovea/error.hpp"

namespace fovea::simt::profile {
namespace {

/// What is to be subtracted from an address of this program to get its address in the file.
std::uintptr_t load_bias() {
  std::uintptr_t bias = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* program, std::size_t, void* result) {
        *static_cast<std::uintptr_t*>(result) = program->dlpi_addr;
        return 1;  // the first is the program itself
      },
      &bias);
  return bias;
}

std::string own_path() {
  std::array<char, 4096> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (length < 0) throw Error("profiler", "the program's path must be readable: /proc/self/exe");
  return {path.data(), static_cast<std::size_t>(length)};
}

std::string output_of(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) throw Error("profiler", text("must be able to run addr2line: ", command));
  std::string output;
  std::array<char, 65536> part;
  for (std::size_t read = 0; (read = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
    output.append(part.data(), read);
  if (pclose(pipe) != 0)
    throw Error("profiler", "addr2line must be there (Debian: binutils) and read this program: it failed");
  return output;
}

Frame frame_of(const std::string& function, std::string place) {
  place = place.substr(0, place.find(" (discriminator"));
  const std::size_t colon = place.rfind(':');
  if (colon == std::string::npos) return {function, place, 0};
  return {function, place.substr(0, colon),
          static_cast<unsigned>(std::strtoul(place.c_str() + colon + 1, nullptr, 10))};
}

}  // namespace

std::vector<std::vector<Frame>> frames_of(const std::vector<const void*>& addresses) {
  constexpr std::size_t at_once = 2000;
  const std::uintptr_t bias = load_bias();
  const std::string program = own_path();
  std::vector<std::vector<Frame>> all;
  for (std::size_t begin = 0; begin < addresses.size(); begin += at_once) {
    std::ostringstream command;
    command << "addr2line -afCi -e '" << program << "'" << std::hex;
    for (std::size_t i = begin; i < std::min(begin + at_once, addresses.size()); ++i)
      command << " 0x" << reinterpret_cast<std::uintptr_t>(addresses[i]) - bias;
    std::istringstream output(output_of(command.str()));
    // A line with the address, then pairs of lines: function, file:line.
    for (std::string line, place; std::getline(output, line);) {
      if (line.rfind("0x", 0) == 0)
        all.emplace_back();
      else if (std::getline(output, place) && !all.empty())
        all.back().push_back(frame_of(line, place));
    }
  }
  if (all.size() != addresses.size())
    throw Error("profiler", text("addr2line must answer for every address: ", all.size(), " answers for ",
                                 addresses.size()));
  return all;
}

}  // namespace fovea::simt::profile

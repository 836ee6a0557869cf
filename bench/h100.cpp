#include "bench/h100.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "fovea/error.hpp"
#include "models/json.hpp"

namespace fovea::bench::h100 {
namespace {

using simt::profile::Counts;
using simt::profile::Kind;
using simt::profile::LaunchProfile;

void erase_all(std::string& from, const std::string& what) {
  for (std::size_t at = from.find(what); at != std::string::npos; at = from.find(what, at))
    from.erase(at, what.size());
}

/// Where the parameter list begins: the last parenthesis outside template arguments.
std::size_t begin_of_parameters(const std::string& name) {
  int depth = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<') ++depth;
    if (name[i] == '>') --depth;
    if (name[i] == '(' && depth == 0) return i;
  }
  return name.size();
}

std::string template_of(const std::string& name) { return name.substr(0, name.find('<')); }

double resident_blocks(const LaunchProfile& launch, unsigned registers) {
  constexpr double threads = 2048, most_blocks = 32, register_file = 65536, shared = 228 * 1024,
                   reserved = 1024;
  const double warps = launch.warps();
  double blocks = std::min(most_blocks, std::floor(threads / (32 * warps)));
  const double own_shared = static_cast<double>(launch.static_shared + launch.dynamic_shared) + reserved;
  blocks = std::min(blocks, std::floor(shared / own_shared));
  if (registers) {
    const double per_warp = std::ceil(32.0 * registers / 256) * 256;
    blocks = std::min(blocks, std::floor(std::floor(register_file / per_warp) / warps));
  }
  return std::max(blocks, 1.0);
}

}  // namespace

std::string short_name(const std::string& demangled) {
  std::string name = demangled;
  if (name.rfind("void ", 0) == 0) name.erase(0, 5);
  for (const char* prefix : {"(anonymous namespace)::", "fovea::profiled::", "fovea::cuda::", "fovea::"})
    erase_all(name, prefix);
  name.erase(std::min(name.find(" ["), name.size()));
  return name.substr(0, begin_of_parameters(name));
}

Registers::Registers(const std::string& report_file) {
  std::ifstream file(report_file);
  if (!file) throw ConfigError("--report", "must be a file of tools/kernel-report --json: " + report_file);
  const Json report = Json::parse(file, nullptr, false);
  if (!report.is_object() || !report.contains("sm_90") || !report["sm_90"].is_object())
    throw ConfigError("--report", "must be JSON of tools/kernel-report with sm_90: " + report_file);
  for (const auto& [kernel, figures] : report["sm_90"].items()) {
    const auto registers = figures.at("registers").get<unsigned>();
    const std::string name = short_name(kernel);
    for (unsigned* known : {&by_name_[name], &by_template_[template_of(name)]})
      *known = std::max(*known, registers);
  }
}

unsigned Registers::of(const std::string& kernel) const {
  if (const auto found = by_name_.find(kernel); found != by_name_.end()) return found->second;
  const auto found = by_template_.find(template_of(kernel));
  return found == by_template_.end() ? 0 : found->second;
}

double Prediction::seconds() const { return std::max({fma, shared, memory}); }

const char* Prediction::bound() const {
  return seconds() == fma ? "fma" : seconds() == shared ? "shared" : "memory";
}

Prediction predict(const LaunchProfile& launch, double unique_bytes, unsigned registers) {
  const Counts global = [&] {
    Counts both = launch.total(Kind::global_read);
    return both += launch.total(Kind::global_write);
  }();
  const Counts shared = [&] {
    Counts both = launch.total(Kind::shared_read);
    return both += launch.total(Kind::shared_write);
  }();
  const auto per_block = [&](auto count) {
    return static_cast<double>(count) / static_cast<double>(launch.sampled);
  };
  const double tensor = per_block(launch.total(Kind::mma).requests);
  const double issued =
      tensor + per_block(launch.total(Kind::fma).requests + launch.total(Kind::barrier).requests +
                         global.requests + shared.requests);
  const double sectors_at_once = kBankBytes / simt::profile::kSectorBytes;
  const double passes = per_block(shared.passes) +
                        std::max(per_block(global.requests), per_block(global.sectors) / sectors_at_once);
  const double block_bytes = per_block(launch.block_sectors) * simt::profile::kSectorBytes;
  const auto blocks = static_cast<double>(launch.blocks);
  const double busiest =
      std::ceil(blocks / kMultiprocessors);  // blocks of one multiprocessor, over all waves

  Prediction result;
  result.resident = resident_blocks(launch, registers);
  result.waves = std::ceil(blocks / (kMultiprocessors * result.resident));
  result.fma = busiest * std::max(issued / kIssue, tensor * kMmaCycles) / kClock;
  result.shared = busiest * passes / kClock;
  result.memory =
      std::max({unique_bytes / kMemory, blocks * block_bytes / kL2, busiest * block_bytes / kL2Port});
  return result;
}

}  // namespace fovea::bench::h100

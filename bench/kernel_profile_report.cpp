#include <algorithm>
#include <cstdio>
#include <set>

#include "bench/kernel_profile.hpp"
#include "engine/profiler/source_lines.hpp"

namespace fovea::bench {
namespace {

using simt::profile::Counts;
using simt::profile::Frame;
using simt::profile::Kind;
using simt::profile::LaunchProfile;
using simt::profile::Place;

constexpr double kHard = 1.5;

template <class Value>
double ratio(Value a, Value b) {
  return b > 0 ? static_cast<double>(a) / static_cast<double>(b) : 0.0;
}

Counts both(const LaunchProfile& launch, Kind a, Kind b) {
  Counts sum = launch.total(a);
  return sum += launch.total(b);
}

Counts shared_of(const LaunchProfile& launch) { return both(launch, Kind::shared_read, Kind::shared_write); }

/// Share of the lanes that do not take part in a request or a multiply-add.
double divergence(const LaunchProfile& launch) {
  Counts all;
  for (const Place& place : launch.places) all += place.counts;
  return 1.0 - ratio(all.lanes, all.launched);
}

/// Kernels by their addresses.
class Names {
 public:
  explicit Names(const std::vector<EntryReport>& entries) {
    std::vector<const void*> addresses;
    for (const EntryReport& entry : entries)
      for (const LaunchReport& report : entry.launches) addresses.push_back(report.launch.kernel);
    const std::vector<std::vector<Frame>> frames = simt::profile::frames_of(addresses);
    for (std::size_t i = 0; i < addresses.size(); ++i)
      names_[addresses[i]] = h100::short_name(frames[i].back().function);
  }
  const std::string& of(const LaunchProfile& launch) const { return names_.at(launch.kernel); }

 private:
  std::map<const void*, std::string> names_;
};

/// An entry with its predictions.
struct Line {
  EntryReport report;
  std::vector<h100::Prediction> predictions;
  double seconds = 0, requested = 0, unique = 0, fma_lanes = 0, fma_floor = 0, floor = 0;
};

Line predicted(EntryReport report, const Names& names, const h100::Registers& registers) {
  Line line;
  for (const LaunchReport& one : report.launches) {
    line.predictions.push_back(h100::predict(one.launch, one.unique, registers.of(names.of(one.launch))));
    line.seconds += line.predictions.back().seconds();
    line.requested += one.requested;
    line.unique += one.unique;
    line.fma_lanes +=
        one.launch.scale() * (32.0 * static_cast<double>(one.launch.total(Kind::fma).requests) +
                              h100::kMmaProducts * static_cast<double>(one.launch.total(Kind::mma).requests));
  }
  line.fma_floor = report.work.flops / h100::kFlops;
  line.floor = std::max(line.fma_floor, report.work.bytes / h100::kMemory);
  line.report = std::move(report);
  return line;
}

void print_launch(std::FILE* out, const LaunchReport& one, const h100::Prediction& p,
                  const std::string& name) {
  const LaunchProfile& launch = one.launch;
  const Counts read = launch.total(Kind::global_read), written = launch.total(Kind::global_write),
               shared = shared_of(launch), barriers = launch.total(Kind::barrier),
               fma = launch.total(Kind::fma);
  const std::string sampled =
      launch.sampled < launch.blocks ? text(" (", launch.sampled, " run)") : std::string();
  std::fprintf(out, "      %s\n", name.c_str());
  std::fprintf(
      out,
      "        %9llu x %-4u %-10s waves %4.0f (%2.0f)  MB %8.2f %8.2f  sectors %5.1f /%5.1f  banks %5.2f  "
      "idle "
      "%4.1f%%  barriers %6.1f  fma %8.4f  us fma %8.2f shared %8.2f memory %8.2f: %s\n",
      static_cast<unsigned long long>(launch.blocks), launch.threads(), sampled.c_str(), p.waves, p.resident,
      one.requested / 1e6, one.unique / 1e6, ratio(read.sectors, read.requests),
      ratio(written.sectors, written.requests), ratio(shared.passes, shared.fewest_passes),
      100 * divergence(launch), ratio(barriers.requests, launch.sampled * launch.warps()),
      static_cast<double>(fma.lanes) * launch.scale() / 1e9, 1e6 * p.fma, 1e6 * p.shared, 1e6 * p.memory,
      p.bound());
}

void print_entry(std::FILE* out, const Line& line, const Names& names) {
  const EntryReport& r = line.report;
  std::fprintf(out, "  %-36s %-34s calls %3d  requested %6.2fx  unique %6.2fx", r.entry.c_str(),
               r.work.sizes.c_str(), r.calls, ratio(line.requested, r.work.bytes),
               ratio(line.unique, r.work.bytes));
  if (r.work.flops > 0) std::fprintf(out, "  fma %6.2fx", 2 * line.fma_lanes / r.work.flops);
  std::fprintf(out, "  %9.2f us, floor %9.2f us (%s): %6.2fx\n", 1e6 * line.seconds, 1e6 * line.floor,
               line.floor > line.fma_floor ? "memory" : "fma", ratio(line.seconds, line.floor));
  for (std::size_t i = 0; i < r.launches.size(); ++i)
    print_launch(out, r.launches[i], line.predictions[i], names.of(r.launches[i].launch));
}

void hold(Outside& outside, const std::string& what, const char* measure, double value, double limit) {
  if (value <= limit) return;
  const bool hard = value > kHard;
  outside.hard += hard;
  char line[512];
  std::snprintf(line, sizeof line, "%s %-88s %-46s %7.2f  limit %.1f", hard ? "!" : " ", what.c_str(),
                measure, value, limit);
  outside.lines.emplace_back(line);
}

void check(const std::string& workload, const Line& line, const Names& names, Outside& outside) {
  const EntryReport& r = line.report;
  const std::string what = text(workload.substr(0, workload.find(',')), ' ', r.entry, ' ', r.work.sizes);
  const double requested = ratio(line.requested, r.rule_bytes);
  if (r.rule == Rule::operands) hold(outside, what, "requested bytes / operands once", requested, 1.1);
  if (r.rule == Rule::corners) hold(outside, what, "requested bytes / corners", requested, 1.1);
  if (r.rule == Rule::depthwise) hold(outside, what, "requested bytes / maps", requested, 1.5);
  if (line.fma_floor == line.floor && line.floor >= h100::kLaunchSeconds)
    hold(outside, what, "time / useful multiply-adds", ratio(line.seconds, line.fma_floor), 1.3);
  std::set<std::string> held;
  for (const LaunchReport& one : r.launches) {
    const Counts shared = shared_of(one.launch);
    if (held.insert(names.of(one.launch)).second)
      hold(outside, text(what, ' ', names.of(one.launch)), "bank passes / without conflicts",
           ratio(shared.passes, shared.fewest_passes), 1.1);
  }
}

const char* name(Kind kind) {
  switch (kind) {
    case Kind::global_read:
      return "load";
    case Kind::global_write:
      return "store";
    case Kind::shared_read:
      return "shared load";
    case Kind::shared_write:
      return "shared store";
    case Kind::fma:
      return "fma";
    case Kind::mma:
      return "mma";
    case Kind::barrier:
      return "barrier";
  }
  return "";
}

/// "batch_norm.cu:80 < vector_access.hpp:24": the kernel's own line, and those inlined into it from other
/// places.
std::string lines_of(const std::vector<Frame>& frames) {
  std::string result;
  for (auto frame = frames.rbegin(); frame != frames.rend(); ++frame) {
    const std::string file = frame->file.substr(frame->file.rfind('/') + 1);
    if (file == "gpu.hpp" || file == "simt.hpp" || file == "hooks.hpp") continue;
    result += text(result.empty() ? "" : " < ", file, ':', frame->line);
  }
  return result;
}

void print_lines(std::FILE* out, const LaunchProfile& launch, const std::string& kernel) {
  std::vector<const void*> addresses;
  addresses.reserve(launch.places.size());
  for (const Place& place : launch.places) addresses.push_back(static_cast<const char*>(place.at) - 1);
  const std::vector<std::vector<Frame>> frames = simt::profile::frames_of(addresses);
  std::map<std::pair<std::string, Kind>, Counts> by_line;
  for (std::size_t i = 0; i < addresses.size(); ++i)
    by_line[{lines_of(frames[i]), launch.places[i].kind}] += launch.places[i].counts;
  std::fprintf(out, "\n  %s, %llu of %llu blocks\n", kernel.c_str(),
               static_cast<unsigned long long>(launch.sampled),
               static_cast<unsigned long long>(launch.blocks));
  std::fprintf(out, "    %-13s %12s %12s %8s %8s %7s  %s\n", "", "requests", "bytes", "sectors", "banks",
               "idle", "line");
  for (const auto& [at, counts] : by_line)
    std::fprintf(out, "    %-13s %12.0f %12.0f %8.2f %8.2f %6.1f%%  %s\n", name(at.second),
                 static_cast<double>(counts.requests) * launch.scale(),
                 static_cast<double>(counts.bytes) * launch.scale(), ratio(counts.sectors, counts.requests),
                 ratio(counts.passes, counts.fewest_passes), 100 * (1 - ratio(counts.lanes, counts.launched)),
                 at.first.c_str());
}

}  // namespace

void print_report(const std::string& workload, std::vector<EntryReport> entries, const ReportOptions& options,
                  Outside& outside) {
  const Names names(entries);
  std::vector<Line> lines;
  lines.reserve(entries.size());
  for (EntryReport& entry : entries) lines.push_back(predicted(std::move(entry), names, options.registers));
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) {
    return a.seconds * a.report.calls > b.seconds * b.report.calls;
  });
  std::fprintf(options.out, "\n%s\n", workload.c_str());
  double sum = 0, floors = 0, launches = 0;
  for (const Line& line : lines) {
    print_entry(options.out, line, names);
    check(workload, line, names, outside);
    sum += line.seconds * line.report.calls;
    floors += line.floor * line.report.calls;
    launches += static_cast<double>(line.report.launches.size()) * line.report.calls;
  }
  std::fprintf(options.out,
               "  a prediction and a step: %.1f us (floor %.1f us), and %.0f launches of %.0f us\n",
               1e6 * sum, 1e6 * floors, launches, 1e6 * h100::kLaunchSeconds);
  if (options.lines.empty()) return;
  for (const Line& line : lines)
    for (const LaunchReport& one : line.report.launches)
      if (names.of(one.launch).find(options.lines) != std::string::npos)
        print_lines(options.out, one.launch, names.of(one.launch));
}

}  // namespace fovea::bench

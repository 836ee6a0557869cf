// What the profiler records of the kernels of a workload, and its report.
#pragma once
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "bench/gpu_work.hpp"
#include "bench/h100.hpp"
#include "engine/profiler/launches.hpp"

namespace fovea::bench {

/// Requests that a sampled launch of a kernel made, for all its blocks.
struct LaunchReport {
  simt::profile::LaunchProfile launch;
  double requested = 0, unique = 0;  // bytes of global memory; unique: each sector once
};

/// What a table entry may take by the specification.
enum class Rule { none, operands, corners, depthwise };

/// All calls of an entry with the same sizes; the first was profiled.
struct EntryReport {
  std::string entry;
  Work work;
  Rule rule = Rule::none;
  double rule_bytes = 0;  // what requested bytes are compared with
  int calls = 0;
  std::vector<LaunchReport> launches;
};

struct ReportOptions {
  h100::Registers registers;
  std::string lines;  // of kernels whose name contains this
  std::FILE* out = stdout;
};

/// Kernels outside the limits, `hard` of them beyond 1.5x.
struct Outside {
  std::vector<std::string> lines;
  int hard = 0;
};

/// Prints the table of a workload and adds what is outside.
void print_report(const std::string& workload, std::vector<EntryReport> entries, const ReportOptions& options,
                  Outside& outside);

}  // namespace fovea::bench

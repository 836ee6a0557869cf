// kernel-profile: every CUDA kernel of the workloads without a GPU. A training step runs on the CPU; each
// call of a kernel entry first runs the CUDA kernel in the profiler, with the same operands, then the CPU's.
// Started by tools/kernel-profile.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>

#include "bench/kernel_profile.hpp"
#include "bench/profiled_tables.hpp"
#include "bench/step.hpp"
#include "engine/backend.hpp"
#include "kernels/wrapped_tables.hpp"

namespace fovea::bench {
namespace {

using simt::profile::Counts;
using simt::profile::Kind;
using simt::profile::LaunchProfile;

constexpr const char* kHelp = R"(tools/kernel-profile: profiles the CUDA kernels of whole models without a GPU

  tools/kernel-profile [--workloads W1,W2,W3,W4] [--report FILE] [--lines KERNEL] [--check] [--blocks N]

  --workloads LIST  of W1, W1n, W1s, W2, W2v, W3, W3f, W4 (bench/workloads.cpp); by default W1,W2,W3,W4
  --report FILE     JSON of tools/kernel-report --json: registers, for the blocks that a multiprocessor holds.
                    Without it they count threads, shared memory and the limit of 32 blocks alone
  --lines KERNEL    also prints the counts per source line of kernels whose name contains KERNEL
  --check           exits 1 when something is beyond 1.5x (see Limits)
  --blocks N        blocks to run of a launch, by default 64

Counts. A training step of each workload runs on the CPU. Each first call of a kernel entry with some sizes
first runs the CUDA kernel in the SIMT emulator, compiled so that every load and store calls the profiler; the
operands are the real ones. Launches of up to 20 million accesses run whole; of larger ones 64 blocks spread over
the grid (8 at least, where they are expensive), whose counts are scaled; what other blocks had left is zero. A request is what an instruction
does for the lanes of a warp at once: lanes run one after the other and the n-th execution by each since they
last met in a barrier or warp operation is taken for the same. Loads are those that g++ -O2 leaves; index
arithmetic, double precision and multiplications or additions outside gpu::fma and mma are not counted.

Columns. Lines of entries: requested bytes of global memory relative to every operand once (point readout: to
what its limit is of), unique ones (every 32-byte sector of a launch once, scratch included) to the operands,
instructions of multiply-adds relative to the useful ones (factored convolutions, taps inside the image only),
time and floor in microseconds. Lines of kernels: blocks x threads (blocks that were run), waves of blocks
(blocks that a multiprocessor holds), requested and unique MB, sectors per request of loads / stores (a full warp
of floats takes 4, of float4 16), bank passes relative to those without conflicts, lanes that do not take part,
barriers of a block, multiply-adds of lanes in 10^9, microseconds at the three roofs, the slowest roof.

Prediction for an H100 SXM of 132 multiprocessors at 1.98 GHz: the slowest of
  fma     multiply-adds, memory requests and barriers, each an instruction of a warp, 4 a cycle: 66.9 TFLOP/s;
          or the tensor cores, 2 cycles for an mma of 16 x 8 x 8 (three of tf32 for one of f32: 89 TFLOP/s)
  shared  bank passes of shared memory, and global requests through the same 128 bytes a cycle
  memory  unique bytes at 3.35 TB/s; distinct sectors of each block at 5.5 TB/s of the L2 cache, and at 64
          bytes a cycle of a multiprocessor
with as many blocks on every multiprocessor as on the one that has most of them, so that a last wave costs as a
full one of its height. Latencies are not modelled: it is what is left when everything overlaps. A launch costs
2 us besides; they are added to the sum of a workload only, and no time is held to a limit where the floor of the
call is shorter than that.

Limits. Requested bytes: batch norm, activations, losses and AdamW 1.1x of every operand once (batch norm in
training: once a pass, of which there are two, because no row can be mapped before the moments of all are known:
3 maps forward, 5 for the gradient); point readout 1.1x of 4 corners x channels x 4 bytes per neuron and image
(its gradient of the map: plus the map); depthwise convolutions 1.5x of their operands. Time: 1.3x of the useful
multiply-adds at the FMA roof, where those take longer than the operands at 3.35 TB/s. Bank passes: 1.1 per
request without conflicts. What is outside is listed; what is beyond 1.5x is marked ! and makes --check fail.
)";

/// Memory of the CPU that knows its blocks, keeps released ones until asked, and is zero until written: what
/// blocks outside the sample left unwritten may be an index.
class WatchedMemory final : public Memory {
 public:
  explicit WatchedMemory(std::shared_ptr<Memory> inner) : inner_(std::move(inner)) {}
  ~WatchedMemory() override { release_kept(); }
  void* allocate(std::size_t bytes) override {
    void* memory = inner_->allocate(bytes);
    std::memset(memory, 0, bytes);
    blocks_[reinterpret_cast<std::uintptr_t>(memory)] = bytes;
    return memory;
  }
  void release(void* memory, std::size_t bytes) override {
    if (keeping_) {
      kept_.emplace_back(memory, bytes);
      return;
    }
    blocks_.erase(reinterpret_cast<std::uintptr_t>(memory));
    inner_->release(memory, bytes);
  }

  void keep_released() { keeping_ = true; }
  void release_kept() {
    keeping_ = false;
    for (const auto& [memory, bytes] : std::exchange(kept_, {})) release(memory, bytes);
  }

  /// The block that an address lies in, from its begin on; of no bytes: none.
  std::pair<std::uintptr_t, std::size_t> block_of(std::uintptr_t address) const {
    auto after = blocks_.upper_bound(address);
    if (after == blocks_.begin()) return {address, 0};
    --after;
    if (address >= after->first + after->second) return {address, 0};
    return *after;
  }
  std::size_t bytes_from(const void* memory) const {
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    const auto [begin, bytes] = block_of(address);
    return bytes ? begin + bytes - address : 0;
  }

 private:
  std::shared_ptr<Memory> inner_;
  std::map<std::uintptr_t, std::size_t> blocks_;
  std::vector<std::pair<void*, std::size_t>> kept_;
  bool keeping_ = false;
};

/// What the profiling tables need to know; they are plain functions.
struct Recorder {
  std::shared_ptr<WatchedMemory> memory;
  KernelTables<float> kernels = profiled_tables();
  std::map<std::pair<std::string, std::string>, EntryReport> entries;  // by name and sizes
};

Recorder& recorder() {
  static Recorder one;
  return one;
}

/// A tensor's values, put back at the end: the profiled kernel has written some of them.
class Saved {
 public:
  Saved(void* memory, std::size_t bytes) : memory_(memory), values_(bytes) {
    if (bytes) std::memcpy(values_.data(), memory, bytes);
  }
  Saved(const Saved&) = delete;
  Saved& operator=(const Saved&) = delete;
  ~Saved() {
    if (!values_.empty()) std::memcpy(memory_, values_.data(), values_.size());
  }

 private:
  void* memory_;
  std::vector<std::byte> values_;
};

template <class Argument>
void save(std::vector<std::unique_ptr<Saved>>& saved, const Argument& argument) {
  if constexpr (std::is_pointer_v<Argument>)
    if constexpr (!std::is_const_v<std::remove_pointer_t<Argument>>)
      saved.push_back(std::make_unique<Saved>(argument, recorder().memory->bytes_from(argument)));
}

// Sampled blocks touch their share of an operand, or all of it where blocks have it in common.
double unique_bytes(const LaunchProfile& launch, const WatchedMemory& memory) {
  struct Touched {
    double read = 0, written = 0;
  };
  std::map<std::pair<std::uintptr_t, std::size_t>, Touched> by_block;
  constexpr unsigned sectors = simt::profile::kPageBytes / simt::profile::kSectorBytes;
  for (const auto& [number, page] : launch.pages)
    for (unsigned i = 0; i < sectors; ++i) {
      const std::uint64_t bit = std::uint64_t{1} << i;
      if (!((page.read | page.written) & bit)) continue;
      Touched& touched =
          by_block[memory.block_of(number * simt::profile::kPageBytes + i * simt::profile::kSectorBytes)];
      if (page.read & bit) touched.read += simt::profile::kSectorBytes;
      if (page.written & bit) touched.written += simt::profile::kSectorBytes;
    }
  double sum = 0;
  for (const auto& [block, touched] : by_block) {
    const double size = block.second ? static_cast<double>(block.second) : 1e300;
    for (const double bytes : {touched.read, touched.written}) sum += std::min(bytes * launch.scale(), size);
  }
  return sum;
}

void add_launches(EntryReport& report, const WatchedMemory& memory) {
  for (LaunchProfile& launch : simt::profile::take_launches()) {
    const auto bytes =
        static_cast<double>(launch.total(Kind::global_read).bytes + launch.total(Kind::global_write).bytes);
    const double unique = unique_bytes(launch, memory);
    launch.pages.clear();
    const double requested = bytes * launch.scale();
    report.launches.push_back({std::move(launch), requested, unique});
  }
}

template <KernelEntry entry, class Argument>
void choose_rule(EntryReport& report, const Argument& argument) {
  if constexpr (std::is_same_v<Argument, BatchNormShape>) {
    const double map = 4.0 * static_cast<double>(argument.rows * argument.channels);
    if constexpr (entry == KernelEntry::batch_norm_forward_training) report.rule_bytes += map;
    if constexpr (entry == KernelEntry::batch_norm_grad_training) report.rule_bytes += 2 * map;
  }
  if constexpr (std::is_same_v<Argument, PointReadoutShape>) {
    report.rule = Rule::corners;
    report.rule_bytes = detail::work_of(argument).bytes;
    report.work.bytes -=
        report.rule_bytes;  // corners come from the caches: the floor is of the operands alone
    if constexpr (entry == KernelEntry::point_readout_grad_input)
      report.rule_bytes +=
          4.0 * static_cast<double>(argument.batch * argument.height * argument.width * argument.channels);
  } else if constexpr (std::is_same_v<Argument, Conv3dShape>) {
    if (argument.groups > 1) report.rule = Rule::depthwise;
  }
}

bool begins_with(const std::string& name, const char* prefix) { return name.rfind(prefix, 0) == 0; }

struct Profiled {
  template <KernelEntry entry, class Kernel, class... Args>
  static void call(Kernel kernel, Args... args) {
    Recorder& all = recorder();
    const Work work = work_of_call<entry>(
        [&](const void* memory) { return static_cast<double>(all.memory->bytes_from(memory)); }, args...);
    EntryReport& report = all.entries[{entry_name(entry), text(work.sizes, ' ', work.bytes)}];
    if (report.calls++ == 0) {
      report.entry = entry_name(entry);
      report.work = work;
      report.rule_bytes = work.bytes;
      for (const char* prefix : {"batch_norm.", "activation.", "loss.", "optimizer."})
        if (begins_with(report.entry, prefix)) report.rule = Rule::operands;
      (choose_rule<entry>(report, args), ...);
      std::vector<std::unique_ptr<Saved>> saved;
      (save(saved, args), ...);
      all.memory->keep_released();
      (void)simt::profile::take_launches();
      entry_of<entry>(all.kernels)(args...);
      add_launches(report, *all.memory);
      all.memory->release_kept();
    }
    kernel(args...);
  }
};

std::vector<EntryReport> profile_step(const Workload& workload) {
  const auto initial = make_model(workload.config, {cpu_device(), DType::f32}, 7);
  const WorkloadBatch batch = make_batch(workload, *initial, workload.batch);
  const Device plain = cpu_device();
  const Device device = device_with_tables(plain, wrapped_tables<Profiled>(tables<float>(plain)));
  Recorder& all = recorder();
  all.memory = std::make_shared<WatchedMemory>(device.backend().memory);
  device.backend().memory = all.memory;
  all.entries.clear();
  const auto model = model_on(device, workload, *initial);
  const ModelInput input = moved(batch.input, device);
  run_inference(*model, input);
  run_step(*model, input, batch.responses.to(device));
  std::vector<EntryReport> entries;
  for (auto& [key, report] : all.entries) entries.push_back(std::move(report));
  return entries;
}

struct Arguments {
  std::string workloads = "W1,W2,W3,W4";
  ReportOptions report;
  bool check = false, help = false;
};

Arguments parse(int count, char** arguments) {
  Arguments parsed;
  for (int i = 1; i < count; ++i) {
    const std::string option = arguments[i];
    const auto value = [&]() -> std::string {
      if (++i == count) throw ConfigError("arguments", text("must have a value: ", option));
      return arguments[i];
    };
    if (option == "--help")
      parsed.help = true;
    else if (option == "--check")
      parsed.check = true;
    else if (option == "--workloads")
      parsed.workloads = value();
    else if (option == "--report")
      parsed.report.registers = h100::Registers(value());
    else if (option == "--lines")
      parsed.report.lines = value();
    else if (option == "--blocks") {
      const int blocks = std::atoi(value().c_str());
      if (blocks < 1) throw ConfigError("--blocks", text("must be a positive number: ", arguments[i]));
      simt::profile::sampling().blocks = static_cast<std::uint64_t>(blocks);
    } else
      throw ConfigError("arguments", text("must be one of those of --help: ", option));
  }
  return parsed;
}

std::vector<Workload> chosen(const std::string& names) {
  std::vector<Workload> result;
  std::string rest = names + ",";
  for (std::size_t comma = 0; (comma = rest.find(',')) != std::string::npos; rest.erase(0, comma + 1)) {
    const std::string name = rest.substr(0, comma);
    const std::vector<Workload> all = workloads();
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const Workload& one) { return one.name == name; });
    if (found == all.end()) throw ConfigError("--workloads", text("must be names of workloads: ", name));
    result.push_back(*found);
  }
  return result;
}

int run(const Arguments& arguments) {
  if (arguments.help) {
    std::fputs(kHelp, stdout);
    return 0;
  }
  if (arguments.report.registers.empty())
    std::printf("no --report: resident blocks count threads, shared memory and 32 blocks alone\n");
  Outside outside;
  for (const Workload& workload : chosen(arguments.workloads)) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<EntryReport> entries = profile_step(workload);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    print_report(text(workload.name, ", batch ", workload.batch), std::move(entries), arguments.report,
                 outside);
    std::printf("  profiled in %.0f s\n", took.count());
    std::fflush(stdout);
  }
  std::printf("\noutside the limits: %zu, beyond 1.5x (!): %d\n", outside.lines.size(), outside.hard);
  for (const std::string& line : outside.lines) std::printf("%s\n", line.c_str());
  return arguments.check && outside.hard > 0 ? 1 : 0;
}

}  // namespace
}  // namespace fovea::bench

int main(int count, char** arguments) {
  try {
    return fovea::bench::run(fovea::bench::parse(count, arguments));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernel-profile: %s\n", error.what());
    return 2;
  }
}

#include "tests/kernel_hashes.hpp"

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "engine/atomic_file.hpp"
#include "tests/fixture.hpp"

namespace fovea::test {
namespace {

/// What this run compared, and whether it left test cases out.
struct Run {
  KernelHashes hashes{fixture_folder() + "/kernel_hashes.txt"};
  int on_emulator = 0, on_gpu = 0;
};

bool left_out = false, compared = false;

Run& current_run() {
  static Run run;
  compared = true;
  return run;
}

bool writing() {
  const char* write = std::getenv("FOVEA_WRITE_HASHES");
  return write && *write;
}

std::string in_hex(std::uint64_t hash) {
  std::ostringstream digits;
  digits << std::hex << std::setw(16) << std::setfill('0') << hash;
  return digits.str();
}

/// `case/number hash`; the name of a case may have blanks and slashes.
std::pair<KernelCall, std::uint64_t> parse(const std::string& line) {
  const std::size_t blank = line.rfind(' '), slash = line.rfind('/', blank);
  const auto is = [](const std::string& word, const char* characters) {
    return !word.empty() && word.find_first_not_of(characters) == std::string::npos;
  };
  if (blank != std::string::npos && slash != std::string::npos) {
    const std::string number = line.substr(slash + 1, blank - slash - 1), hash = line.substr(blank + 1);
    if (is(number, "0123456789") && number.size() < 7 && is(hash, "0123456789abcdef") && hash.size() == 16)
      return {{line.substr(0, slash), std::stoi(number)}, std::stoull(hash, nullptr, 16)};
  }
  throw Error("kernel_hashes", text("a line is `case/number hash`: ", line));
}

const char* const rewrite =
    "; where that is meant: FOVEA_WRITE_HASHES=1 meson test -C build cuda_kernels writes the file";

/// Learns whether test cases are left out.
struct Listener : doctest::IReporter {
  explicit Listener(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override { left_out = true; }
};
REGISTER_LISTENER("kernel_hashes", 1, Listener);

/// After a run in which all passed: whether the file has no line too many. Writes it if asked to.
bool finish() {
  if (!compared) {
    std::cout << "kernel hashes: none compared\n";
    return true;
  }
  const Run& run = current_run();
  if (writing()) {
    run.hashes.write(!left_out);
    std::cout << "kernel hashes: " << run.on_emulator << " written\n";
    return true;
  }
  std::cout << "kernel hashes: " << run.on_emulator << " compared on the emulator, " << run.on_gpu
            << " confirmed by a GPU\n";
  if (left_out || run.on_emulator == 0) return true;
  const std::vector<KernelCall> stale = run.hashes.stale();
  for (const KernelCall& call : stale)
    std::cout << "[kernel_hashes] a stored hash is one of a call: there is no " << to_string(call) << rewrite
              << '\n';
  return stale.empty();
}

}  // namespace

std::string to_string(const KernelCall& call) { return text(call.first, '/', call.second); }

std::uint64_t hash_of(const std::vector<std::vector<float>>& outputs) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&](std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) hash = (hash ^ (value >> (8 * i) & 0xFF)) * 0x100000001b3u;
  };
  for (const auto& output : outputs) {
    add(output.size(), 8);
    for (const float value : output)
      add(std::isnan(value) ? 0x7FC00000u : std::bit_cast<std::uint32_t>(value), 4);
  }
  return hash;
}

KernelHashes::KernelHashes(const std::string& path) : path_(path) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (const auto [call, hash] = parse(line); !stored_.emplace(call, hash).second)
      throw Error("kernel_hashes", text("every call has one line: ", to_string(call), " has two"));
}

std::string KernelHashes::compare(const KernelCall& call, std::uint64_t hash) {
  met_[call] = hash;
  const auto found = stored_.find(call);
  if (found == stored_.end())
    return text("[kernel_hashes] every call has a stored hash: ", to_string(call), " has none", rewrite);
  if (found->second == hash) return "";
  return text("[kernel_hashes] outputs hash to what is stored: ", to_string(call), " gave ", in_hex(hash),
              ", not ", in_hex(found->second), rewrite);
}

std::vector<KernelCall> KernelHashes::stale() const {
  std::vector<KernelCall> calls;
  for (const auto& [call, hash] : stored_)
    if (!met_.contains(call)) calls.push_back(call);
  return calls;
}

void KernelHashes::write(bool all) const {
  std::map<KernelCall, std::uint64_t> lines = met_;
  for (const auto& [call, hash] : stored_)
    if (!all && !met_.contains({call.first, 1})) lines[call] = hash;
  std::string content;
  for (const auto& [call, hash] : lines) content += to_string(call) + ' ' + in_hex(hash) + '\n';
  write_file_atomically(path_, content);
}

KernelCall next_kernel_call() {
  return current_run().hashes.next_call(doctest::getContextOptions()->currentTest->m_name);
}

void check_kernel_hash(const KernelCall& call, const std::vector<std::vector<float>>& outputs, bool on_gpu) {
  Run& run = current_run();
  if (on_gpu && writing()) return;
  const std::string wrong = run.hashes.compare(call, hash_of(outputs));
  if (writing() || wrong.empty()) ++(on_gpu ? run.on_gpu : run.on_emulator);
  if (!writing()) CHECK_MESSAGE(wrong.empty(), wrong);
}

}  // namespace fovea::test

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int status = context.run();
  if (context.shouldExit() || status != 0) return status;
  return fovea::test::finish() ? 0 : 1;
}

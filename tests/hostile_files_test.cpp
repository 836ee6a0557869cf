// Nothing gets in: every damaged or lying file is an error that says what is wrong, at once, in little
// memory.
#include "hostile_files.hpp"

#include <algorithm>

#include "engine/sanitized.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr double most_seconds = 1;
constexpr std::size_t most_bytes = 200'000'000;

std::string joined(const Words& words) {
  return std::accumulate(words.begin(), words.end(), std::string("fovea"),
                         [](const auto& a, const auto& b) { return a + ' ' + b; });
}

/// Runs it again where it took long: on a busy machine one measurement says nothing.
CommandResult run_quickly(const std::string& folder, const Words& command) {
  CommandResult result = run_command(folder, command);
  for (int again = 0; again < 3 && result.seconds >= most_seconds && !sanitized; ++again)
    result = run_command(folder, command);
  return result;
}

void check_refusal(const CommandResult& result, const std::string& part) {
  CHECK(result.status == 1);
  CHECK(result.out == "");
  CHECK(std::regex_match(last_line(result.err), std::regex(R"(fovea: \[[^\]]+\] .+)")));
  CHECK(contains(last_line(result.err), part));
  if (sanitized) return;
  CHECK(result.seconds < most_seconds);
  CHECK(result.peak_bytes < most_bytes);
}

void check(const HostileCase& one) {
  const TemporaryFolder folder;
  one.make(folder.path());
  for (const Words& command : one.commands) {
    const auto before = listing(folder.path());
    const CommandResult result = run_quickly(folder.path(), command);
    CAPTURE(one.name);
    CAPTURE(joined(command));
    CAPTURE(result.err);
    if (one.accepted) {
      CHECK(result.status == 0);
      CHECK(contains(result.out, one.part));
    } else {
      check_refusal(result, one.part);
      CHECK(listing(folder.path()) == before);
    }
    if (sanitized) return;  // a process takes a while there, and the commands share their readers
  }
}

void check(const std::vector<HostileCase>& cases) {
  for (const HostileCase& one : cases) check(one);
}

}  // namespace

TEST_CASE("model files") { check(model_cases()); }
TEST_CASE("checkpoints") { check(checkpoint_cases()); }
TEST_CASE("arrays") { check(array_cases()); }
TEST_CASE("configurations") { check(config_cases()); }
TEST_CASE("recordings") { check(recording_cases()); }
TEST_CASE("paths") {
  check(path_cases());
  if (::geteuid() == 0) MESSAGE("1 skipped: root may read every file");
}

TEST_CASE("the tables are as long as promised and every case has a name of its own") {
  std::set<std::string> names;
  std::size_t cases = 0;
  for (const auto& table :
       {model_cases(), checkpoint_cases(), array_cases(), config_cases(), recording_cases(), path_cases()}) {
    CHECK(table.size() >= 10);
    for (const HostileCase& one : table) {
      names.insert(one.name);
      CHECK_FALSE(one.commands.empty());
      CHECK((one.accepted || !one.part.empty()));
      ++cases;
    }
  }
  CHECK(names.size() == cases);
  CHECK(cases >= 90);
  MESSAGE(cases << " cases");
}

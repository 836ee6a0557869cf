// What holds kernels against stored hashes, on files of its own.
#include "tests/kernel_hashes.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

#include "fovea/error.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

/// A file with this content, for as long as this lasts.
class HashFile {
 public:
  explicit HashFile(const std::string& content) {
    path = (std::filesystem::temp_directory_path() / "fovea-hashes-XXXXXX").string();
    const int descriptor = ::mkstemp(path.data());
    REQUIRE(descriptor >= 0);
    ::close(descriptor);
    std::ofstream(path) << content;
  }
  HashFile(const HashFile&) = delete;
  HashFile& operator=(const HashFile&) = delete;
  ~HashFile() { std::remove(path.c_str()); }

  std::string content() const {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::string path;
};

constexpr const char* one = "a sum, of 1/2/1 00000000000000aa\n";
constexpr const char* two = "a sum, of 1/2/2 00000000000000bb\n";
constexpr const char* other = "b/1 00000000000000cc\n";

std::string written(const std::string& before, bool all) {
  const HashFile file(before);
  KernelHashes hashes(file.path);
  hashes.compare(hashes.next_call("a sum, of 1/2"), 0xaa);
  hashes.compare(hashes.next_call("a sum, of 1/2"), 0xbb);
  hashes.write(all);
  return file.content();
}

}  // namespace

TEST_CASE("a hash is one of sizes, order and bits, but not of those of NaN") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(hash_of({}) == 0xcbf29ce484222325u);
  CHECK(hash_of({{1, 2}}) == hash_of({{1, 2}}));
  CHECK(hash_of({{1, 2}}) != hash_of({{2, 1}}));
  CHECK(hash_of({{1, 2}}) != hash_of({{1}, {2}}));
  CHECK(hash_of({{0.0f}}) != hash_of({{-0.0f}}));
  CHECK(hash_of({{nan}}) == hash_of({{-nan}}));
  CHECK(hash_of({{nan}}) != hash_of({{1}}));
}

TEST_CASE("hashes that differ, are missing or too many are told") {
  const HashFile file(std::string(one) + two + other);
  KernelHashes hashes(file.path);
  CHECK(hashes.compare(hashes.next_call("a sum, of 1/2"), 0xaa).empty());
  CHECK(hashes.compare(hashes.next_call("a sum, of 1/2"), 0xbc)
            .find("a sum, of 1/2/2 gave 00000000000000bc, not 00000000000000bb; ") != std::string::npos);
  CHECK(hashes.compare(hashes.next_call("a sum, of 1/2"), 0xaa)
            .find("a sum, of 1/2/3 has none; where that is meant: "
                  "FOVEA_WRITE_HASHES=1") != std::string::npos);
  REQUIRE(hashes.stale().size() == 1);
  CHECK(to_string(hashes.stale()[0]) == "b/1");
}

TEST_CASE("hashes that are written replace those of the cases that ran, and all when all ran") {
  const std::string stale = "a sum, of 1/2/3 00000000000000dd\n";
  CHECK(written("", false) == std::string(one) + two);
  CHECK(written(stale + other, false) == std::string(one) + two + other);
  CHECK(written(stale + other, true) == std::string(one) + two);
}

TEST_CASE("a file that is none of hashes is refused") {
  const auto open = [](const std::string& content) { KernelHashes{HashFile(content).path}; };
  for (const std::string line :
       {"a", "a 00000000000000aa", "a/1 aa", "a/x 00000000000000aa", "a/1 00000000000000AA", "a/1"}) {
    CAPTURE(line);
    CHECK_THROWS_WITH_AS(open(line + "\n"), doctest::Contains("[kernel_hashes] a line is `case/number hash`"),
                         Error);
  }
  CHECK_THROWS_WITH_AS(open(std::string(one) + one), doctest::Contains("a sum, of 1/2/1 has two"), Error);
  CHECK(KernelHashes{"/nowhere/hashes.txt"}.compare({"a", 1}, 0).find("a/1 has none") != std::string::npos);
}

// The safetensors reader trusts nothing; the writer leaves the old file or the new one.
#include "fovea/safetensors.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "check.hpp"
#include "engine/atomic_file.hpp"
#include "fixture.hpp"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

const Device device = cpu_device(1);

/// A folder of its own that goes with the test.
struct TemporaryFolder {
  fs::path path;
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "fovea-test-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  std::string operator/(const std::string& name) const { return (path / name).string(); }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path), {}));
  }
};

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string file_bytes(const std::string& header, const std::string& data) {
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + header + data;
}

/// What reading these bytes says; empty when they are accepted.
std::string refusal(const std::string& bytes) {
  const TemporaryFolder folder;
  const std::string path = folder / "case.safetensors";
  std::ofstream(path, std::ios::binary) << bytes;
  try {
    read_safetensors(path, device);
  } catch (const FormatError& error) {
    const std::string message = error.what();
    CHECK(message.find(path) != std::string::npos);  // every message names the file
    return message;
  }
  return {};
}

bool refuses(const std::string& bytes, const std::string& because) {
  const std::string message = refusal(bytes);
  INFO(message);
  const bool found = !message.empty() && message.find(because) != std::string::npos;
  CHECK(found);
  return found;
}

const std::string eight(8, '\0');

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::string one_entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":)" + entry(dtype, shape, offsets) + "}";
}

}  // namespace

TEST_CASE("what is written comes back, and the same content gives the same bytes") {
  const TemporaryFolder folder;
  Safetensors content;
  content.metadata = {{"format", "fovea.model"}, {"config", "{\"a\": \"\\u00e9 \xc3\xa9\n\"}"}, {"", ""}};
  std::vector<double> many(300000);  // more than one chunk of the writer
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<double>(i) / 3;
  content.tensors = {
      {"z.weight", Tensor::from(std::vector<float>{1, -0.5f, 3e-40f}, {3, 1}, device)},
      {"a \"quoted\"\\", Tensor::from(std::vector<std::int64_t>{-7, std::int64_t{1} << 62}, {2}, device)},
      {"scalar", Tensor::scalar(0.1, DType::f64, device)},
      {"empty", Tensor::zeros({0, 5}, DType::f32, device)},
      {"many", Tensor::from(many, {300, 1000}, device)}};
  const std::string path = folder / "model.safetensors", again = folder / "again.safetensors";
  write_safetensors(path, content);
  const Safetensors back = read_safetensors(path, device);
  CHECK(back.metadata == content.metadata);
  REQUIRE(back.tensors.size() == content.tensors.size());
  for (std::size_t i = 0; i < back.tensors.size(); ++i) {
    CAPTURE(content.tensors[i].first);
    CHECK(back.tensors[i].first == content.tensors[i].first);
    CHECK(back.tensors[i].second.shape() == content.tensors[i].second.shape());
    CHECK(back.tensors[i].second.dtype() == content.tensors[i].second.dtype());
    if (content.tensors[i].second.elements() > 0)
      CHECK(exact(content.tensors[i].second, back.tensors[i].second));
  }
  CHECK(back.find("scalar")->item() == 0.1);
  CHECK(back.find("none") == nullptr);
  write_safetensors(again, back);
  CHECK(content_of(again) == content_of(path));
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, content_of(path).data(), sizeof header_bytes);
  CHECK(header_bytes % 8 == 0);
}

TEST_CASE("files of the PyTorch side are read") {
  const Safetensors file = load_fixture("core_default_train.model", device);
  CHECK(file.metadata.at("format") == "fovea.model");
  CHECK(tensor_of(file, "core.features.layer0.norm.num_batches_tracked").dtype() == DType::i64);
  CHECK(tensor_of(file, "core.features.layer0.norm.num_batches_tracked").to_vector<std::int64_t>()[0] == 3);
  CHECK(tensor_of(file, "core.features.layer0.conv.weight_spatial").dtype() == DType::f64);
}

TEST_CASE("an empty header and a plain tensor are accepted") {
  CHECK(refusal(file_bytes("{}", "")).empty());
  CHECK(refusal(file_bytes(R"({"__metadata__":{}}  )", "")).empty());
  CHECK(refusal(file_bytes(one_entry("F32", "[2,1]", "[0,8]"), eight)).empty());
  CHECK(refusal(file_bytes(one_entry("F32", "[0,9223372036854775]", "[0,0]"), "")).empty());
  // the order of the data counts, not that of the header
  CHECK(refusal(file_bytes(
                    R"({"b":)" + entry("F32", "[]", "[4,8]") + R"(,"a":)" + entry("F32", "[]", "[0,4]") + "}",
                    eight))
            .empty());
}

TEST_CASE("sizes of file and header are checked") {
  refuses("", "too short for a header");
  refuses("1234567", "too short for a header: 7 bytes");
  refuses(std::string("\x10\0\0\0\0\0\0\0{}", 10), "header of 16 bytes in a file of 10");
  refuses(std::string(8, '\xff'), "header longer than 100000000 bytes: 18446744073709551615");
  refuses(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10), "header longer than 100000000 bytes: 100000001");
  refuses(std::string(8, '\0'), "does not begin with {");
}

TEST_CASE("the header must have the one structure it can have") {
  refuses(file_bytes("[]", ""), "does not begin with {");
  refuses(file_bytes(" {}", ""), "does not begin with {");
  refuses(file_bytes("{", ""), "not JSON");
  refuses(file_bytes("{}{}", ""), "not JSON");
  refuses(file_bytes("{\"\xff\":1}", ""), "not JSON");
  refuses(file_bytes(R"({"w":3})", ""), R"("w" is 3)");
  refuses(file_bytes(R"({"w":[)" + std::string(100000, '[') + "]}", ""), R"("w" is an array)");
  refuses(file_bytes(R"({"w":{"dtype":{}}})", ""), "an object");
  refuses(file_bytes(R"({"w":{"shape":[[1]]}})", ""), "an array");
  refuses(file_bytes(R"({"__metadata__":{"a":1}})", ""), R"(field "a" must be a string: 1)");
  refuses(file_bytes(R"({"__metadata__":{"a":"1","a":"2"}})", ""), R"(a field twice: "a")");
  refuses(file_bytes(R"({"__metadata__":{},"__metadata__":{}})", ""), "a name twice");
  refuses(
      file_bytes(R"({"w":)" + entry("F32", "[]", "[0,4]") + R"(,"w":)" + entry("F32", "[]", "[4,8]") + "}",
                 eight),
      R"(a name twice in the header: "w")");
  refuses(file_bytes(R"({"w":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}})", "1234"),
          R"(a field twice: "dtype")");
  refuses(file_bytes(R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":1}})", "1234"),
          R"(fields are dtype, shape and data_offsets: "x")");
  refuses(file_bytes(R"({"w":{"dtype":"F32","shape":[]}})", ""), "field missing: data_offsets");
  refuses(file_bytes(R"({"w":{"shape":[],"data_offsets":[0,4]}})", "1234"), "field missing: dtype");
  refuses(file_bytes(R"({"w":{"dtype":"F32","shape":"x","data_offsets":[0,4]}})", "1234"),
          R"(shape has a wrong value: "x")");
  refuses(file_bytes(R"({"w":{"dtype":"F32","shape":null,"data_offsets":[0,4]}})", "1234"), "null");
  refuses(file_bytes(R"({"w":{"dtype":3,"shape":[],"data_offsets":[0,4]}})", "1234"),
          "dtype has a wrong value: 3");
}

TEST_CASE("dtype, shape and offsets must agree with each other and with the file") {
  refuses(file_bytes(one_entry("F16", "[4]", "[0,8]"), eight),
          R"("w", field dtype must be F32, F64 or I64: "F16")");
  refuses(file_bytes(one_entry("F32", "[3]", "[0,8]"), eight),
          R"("w", data_offsets do not hold dtype x shape)");
  refuses(file_bytes(one_entry("F64", "[2]", "[0,8]"), eight),
          "do not hold dtype x shape: 0 to 8 for F64 (2)");
  refuses(file_bytes(one_entry("F32", "[1]", "[0,7]"), eight), "do not hold");
  refuses(file_bytes(one_entry("F32", "[2]", "[8,0]"), eight), "do not hold");
  refuses(file_bytes(one_entry("F32", "[-2]", "[0,8]"), eight), "-2");
  refuses(file_bytes(one_entry("F32", "[2.0]", "[0,8]"), eight), "2.0");
  refuses(file_bytes(one_entry("F32", "[true]", "[0,8]"), eight), "true");
  refuses(file_bytes(one_entry("F32", "[1,1,1,1,1,1,2]", "[0,8]"), eight), "more than 6 values");
  refuses(file_bytes(one_entry("F32", "[18446744073709551615]", "[0,8]"), eight), "shape is too large");
  refuses(file_bytes(one_entry("F32", "[4611686018427387904,4]", "[0,0]"), ""), "shape");
  // 2^62 elements of eight bytes are 0 bytes modulo 2^64
  refuses(file_bytes(one_entry("F64", "[4611686018427387904]", "[0,0]"), ""), "more than 2^58 elements");
  refuses(file_bytes(one_entry("F64", "[144115188075855872]", "[0,0]"), ""), "do not hold");
  refuses(file_bytes(one_entry("F64", "[144115188075855872]", "[0,18446744073709551615]"), ""),
          "do not hold");
  refuses(file_bytes(one_entry("F32", "[2]", "[0,8,8]"), eight), "more than 2 values");
  refuses(file_bytes(one_entry("F32", "[2]", "[8]"), eight), "must be two numbers: 1");
  refuses(file_bytes(one_entry("F32", "[4]", "[0,16]"), eight), "beyond the file: 16 of 8 bytes");
  refuses(file_bytes(one_entry("F32", "[1]", "[0,4]"), eight), "bytes after the last tensor: 4");
  refuses(file_bytes("{}", eight), "bytes after the last tensor: 8");
  const auto two = [](const std::string& a, const std::string& b) {
    return file_bytes(R"({"a":)" + entry("F32", "[1]", a) + R"(,"b":)" + entry("F32", "[1]", b) + "}", eight);
  };
  CHECK(refusal(two("[0,4]", "[4,8]")).empty());
  refuses(two("[0,4]", "[0,4]"), "an overlap");
  refuses(two("[4,8]", "[4,8]"), "a gap");
  refuses(two("[0,4]", "[2,6]"), "an overlap: begin at 2, not 4");
}

TEST_CASE("every file cut short and every changed header byte is refused or read, never worse") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  Safetensors content;
  content.metadata = {{"format", "x"}};
  content.tensors = {{"a", Tensor::zeros({3}, DType::f32, device)},
                     {"b", Tensor::zeros({2}, DType::f64, device)}};
  write_safetensors(path, content);
  const std::string good = content_of(path);
  for (std::size_t size = 0; size < good.size(); ++size) CHECK_FALSE(refusal(good.substr(0, size)).empty());
  int refused = 0, accepted = 0;
  for (std::size_t at = 0; at < good.size() - 28; ++at)
    for (const char value : {'\0', '{', '"', '9', '\xff'}) {
      std::string changed = good;
      changed[at] = value;
      ++(refusal(changed).empty() ? accepted : refused);
    }
  CHECK(refused > 100);
  CHECK(accepted > 0);  // a name with another letter is a name
}

TEST_CASE("nothing is written that could not be read, and the old file stays") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  write_file_atomically(path, "old");
  const Tensor one = Tensor::scalar(1, DType::f32, device);
  for (const Safetensors& content :
       {Safetensors{{{"a", one}, {"a", one}}, {}}, Safetensors{{{"__metadata__", one}}, {}},
        Safetensors{{{"\xff", one}}, {}}, Safetensors{{}, {{"k", "\xff"}}},
        Safetensors{{{"a", Tensor()}}, {}}})
    CHECK_THROWS_AS(write_safetensors(path, content), Error);
  CHECK(content_of(path) == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("an atomic file appears at its commit") {
  const TemporaryFolder folder;
  const std::string path = folder / "table.csv";
  write_file_atomically(path, "old");
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  {
    AtomicFile file(path);
    file.write("half");
    CHECK(content_of(path) == "old");
    CHECK(folder.files() == 2);
  }
  CHECK(content_of(path) == "old");
  CHECK(folder.files() == 1);
  const std::string large(300000, 'x');
  AtomicFile file(path);
  file.write("a");
  file.write(large);
  file.write("");
  file.write("b");
  file.commit();
  CHECK(content_of(path) == "a" + large + "b");
  CHECK(folder.files() == 1);
  CHECK(fs::status(path).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  CHECK_THROWS_AS(file.write("c"), Error);
  CHECK_THROWS_AS(file.commit(), Error);
}

TEST_CASE("what the system refuses is an error with its reason, and leaves nothing") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH_AS(write_file_atomically(folder / "none/file", "x"), doctest::Contains("No such file"),
                       Error);
  fs::create_directory(folder / "taken");
  CHECK_THROWS_AS(write_file_atomically(folder / "taken", "x"), Error);
  CHECK(folder.files() == 1);
  CHECK_THROWS_AS(read_safetensors(folder / "none", device), Error);
  CHECK_THROWS_AS(read_safetensors(folder / "taken", device), Error);
}

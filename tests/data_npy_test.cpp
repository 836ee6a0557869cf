// .npy files and numpy's legacy generator.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "data/legacy_random.hpp"
#include "data_files.hpp"
#include "fixture.hpp"
#include "fovea/npy.hpp"

using namespace fovea;
using namespace fovea::test;

namespace {

std::vector<double> read_f64(const std::string& path) {
  return read_npy(path, DType::f64, cpu_device(1)).to_vector<double>();
}

// Writes the values as `descr` says (both byte orders) and reads them again.
template <class T>
void check_type(const std::string& code, const std::vector<T>& values) {
  const TemporaryFolder folder;
  for (const bool big : {false, true}) {
    CAPTURE(code);
    CAPTURE(big);
    const std::string descr = (sizeof(T) == 1 ? "|" : big ? ">" : "<") + code;
    const std::string path = folder / "a.npy";
    write_bytes(path,
                npy_bytes(npy_dictionary(descr, text('(', values.size(), ",)")), bytes_of(values, big)));
    const StoredArray array = open_npy(path);
    CHECK(array.swapped() == (big && sizeof(T) > 1));
    std::vector<double> expected(values.begin(), values.end());
    CHECK(array.to_tensor(DType::f64, cpu_device(1)).to_vector<double>() == expected);
    const std::vector<float> rounded(values.begin(), values.end());
    CHECK(array.to_tensor(DType::f32, cpu_device(1)).to_vector<float>() == rounded);
  }
}

}  // namespace

TEST_CASE("every real element type in both byte orders") {
  check_type<std::int8_t>("i1", {-128, -1, 0, 127});
  check_type<std::uint8_t>("u1", {0, 1, 128, 255});
  check_type<std::int16_t>("i2", {-32768, -2, 258, 32767});
  check_type<std::uint16_t>("u2", {0, 258, 65535});
  check_type<std::int32_t>("i4", {std::numeric_limits<std::int32_t>::min(), 16909060});
  check_type<std::uint32_t>("u4", {16909060, 4294967295u});
  check_type<std::int64_t>("i8", {-72623859790382856, 72623859790382856});
  check_type<std::uint64_t>("u8", {72623859790382856u, ~std::uint64_t{0}});
  check_type<float>("f4", {-1.5f, 3.25e-39f, 1e30f});
  check_type<double>("f8", {-1.5, 1e-310, 1e30});
}

TEST_CASE("half precision: normal, subnormal, infinite, NaN, signed zero") {
  // numpy.array([0, 1, -2, .5, 65504, 6.1e-5, 5.96e-8, inf, nan, -0.], 'f2')
  const std::vector<std::uint16_t> bits = {0,      0x3c00, 0xc000, 0x3800, 0x7bff,
                                           0x03ff, 0x0001, 0x7c00, 0x7e00, 0x8000};
  const TemporaryFolder folder;
  for (const bool big : {false, true}) {
    write_bytes(folder / "h.npy",
                npy_bytes(npy_dictionary(big ? ">f2" : "<f2", "(10,)"), bytes_of(bits, big)));
    const std::vector<double> values = read_f64(folder / "h.npy");
    const std::vector<double> expected = {0, 1, -2, 0.5, 65504, 1023 * 0x1p-24, 0x1p-24};
    CHECK(std::vector<double>(values.begin(), values.begin() + 7) == expected);
    CHECK(values[7] == std::numeric_limits<double>::infinity());
    CHECK(std::isnan(values[8]));
    CHECK((values[9] == 0 && std::signbit(values[9])));
    CHECK(open_npy(folder / "h.npy").first_not_finite() == 7);
  }
}

TEST_CASE("Fortran order, all three versions, scalars and Python 2 headers") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.npy";
  // numpy.asfortranarray(numpy.arange(6, dtype='<f4').reshape(2, 3) - 1.5): columns one after the other
  write_bytes(path, npy_bytes(npy_dictionary("<f4", "(2, 3)", true),
                              bytes_of<float>({-1.5f, 1.5f, -0.5f, 2.5f, 0.5f, 3.5f})));
  CHECK(read_f64(path) == std::vector<double>{-1.5, -0.5, 0.5, 1.5, 2.5, 3.5});
  const StoredArray fortran = open_npy(path);
  CHECK_FALSE(fortran.row_major());
  CHECK(fortran.in_row_major().row_major());
  CHECK(fortran.in_row_major().to_tensor(DType::f64, cpu_device(1)).to_vector<double>() == read_f64(path));
  CHECK(fortran.at(1).to_tensor(DType::f64, cpu_device(1)).to_vector<double>() ==
        std::vector<double>{1.5, 2.5, 3.5});
  for (const int version : {1, 2, 3}) {
    write_bytes(
        path, npy_bytes(npy_dictionary(">i2", "(2L, 1L)"), bytes_of<std::int16_t>({-3, 515}, true), version));
    CHECK(read_f64(path) == std::vector<double>{-3, 515});
  }
  write_bytes(path, npy_bytes("{\"shape\": (), 'fortran_order': False, 'descr': '|u1'}", "\x07"));
  CHECK(read_npy(path, DType::i64, cpu_device(1)).item() == 7);
  write_bytes(path, npy_bytes(npy_dictionary("<f8", "(0, 4)"), ""));
  CHECK(read_npy(path, DType::f64, cpu_device(1)).elements() == 0);
}

TEST_CASE("a block of a Fortran array with strides and normalisation") {
  const TemporaryFolder folder;
  std::vector<std::int32_t> stored(2 * 3 * 4);  // value of [i, j, k] is 100 i + 10 j + k, first axis fastest
  for (std::size_t i = 0; i < 2; ++i)
    for (std::size_t j = 0; j < 3; ++j)
      for (std::size_t k = 0; k < 4; ++k)
        stored[i + 2 * (j + 3 * k)] = static_cast<std::int32_t>(100 * i + 10 * j + k);
  write_bytes(folder / "f.npy", npy_bytes(npy_dictionary(">i4", "(2, 3, 4)", true), bytes_of(stored, true)));
  std::vector<double> out(2 * 2 * 3, -1);  // written as [k, j, i]
  open_npy(folder / "f.npy").convert<double>({0, 1, 1}, {2, 2, 3}, out.data(), {1, 2, 4}, {11, 2});
  std::vector<double> expected;
  for (int k = 1; k < 4; ++k)
    for (int j = 1; j < 3; ++j)
      for (int i = 0; i < 2; ++i) expected.push_back((100 * i + 10 * j + k - 11) / 2.0);
  CHECK(out == expected);
}

TEST_CASE("malformed npy files are refused with file, field and value") {
  struct Case {
    std::string bytes, expected;
  };
  const std::string four(16, '\0');
  const auto with = [&](const std::string& descr, const std::string& shape) {
    return npy_bytes(npy_dictionary(descr, shape), four);
  };
  const auto header = [&](const std::string& dictionary) { return npy_bytes(dictionary, four); };
  const std::string good = with("<f4", "(4,)");
  const auto with_byte = [&](std::size_t at, char value) {
    std::string bytes = good;
    bytes[at] = value;
    return bytes;
  };
  const std::vector<Case> cases = {
      {"", "does not begin with"},
      {"PK\x03\x04 a zip file", "does not begin with"},
      {good.substr(0, 7), "cut off in its preamble"},
      {good.substr(0, 9), "cut off in its preamble"},
      {good.substr(0, 40), "cut off in its header"},
      {good.substr(0, good.size() - 1), "needs 16 bytes, the file has 15"},
      {good + "x", "needs 16 bytes, the file has 17"},
      {with_byte(6, 4), "version not supported: 4.0"},
      {with_byte(7, 1), "version not supported: 1.1"},
      {std::string("\x93NUMPY\x02\x00\xff\xff\xff\x7f", 12) + good, "header too long: 2147483647"},
      {with("|O", "(4,)"), "descr: pickled objects are not read: '|O'"},
      {with("|O8", "(4,)"), "pickled objects are not read: '|O8'"},
      {with("O", "(4,)"), "'O'"},
      {with("<c8", "(4,)"), "element type not supported"},
      {with("<U4", "(4,)"), "element type not supported"},
      {with("|S4", "(4,)"), "element type not supported"},
      {with("|b1", "(16,)"), "element type not supported"},
      {with("<f16", "(1,)"), "element type not supported: '<f16'"},
      {with("<M8[ns]", "(2,)"), "element type not supported"},
      {with("|f4", "(4,)"), "byte order missing"},
      {with("?f4", "(4,)"), "byte order unknown"},
      {with("<f3", "(4,)"), "element type not supported"},
      {header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }"), "structured"},
      {header("{'descr': '<f4', 'fortran_order': 0, 'shape': (4,), }"), "expected True or False"},
      {header("{'descr': '<f4', 'fortran_order': False, }"), "lacks 'shape'"},
      {header("{'fortran_order': False, 'shape': (4,), }"), "lacks 'descr'"},
      {header("{'descr': '<f4', 'shape': (4,), }"), "lacks 'fortran_order'"},
      {header("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"),
       "unknown or twice: 'descr'"},
      {header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'more': 1}"),
       "unknown or twice: 'more'"},
      {header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), } + __import__('os')"),
       "goes on after its end"},
      {header("{'descr': '<f4', 'fortran_order': False, 'shape': 4, }"), "shape: expected '('"},
      {header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,"), "expected a number"},
      {header("['descr']"), "header: expected '{'"},
      {header("{'descr: 4"), "string without end"},
      {header(""), "header: expected '{'"},
      {with("<f4", "(-4,)"), "expected a number of at least 0, found '-4,"},
      {with("<f4", "(4.0,)"), "expected ')'"},
      {with("<f4", "(2, 3)"), "needs 24 bytes, the file has 16"},
      {with("<f4", "(4611686018427387904,)"), "too many elements"},
      {with("<f4", "(4294967296, 4294967296, 4294967296)"), "too many elements"},
      {with("<f4", "(0, 4611686018427387904, 4611686018427387904)"), "too many elements"},
      {with("<f4", "(99999999999999999999999999,)"), "extent too large"},
      {with("<f4", "(1099511627776,)"), "needs 4398046511104 bytes"},
      {with("<f4", "(0,)"), "needs 0 bytes, the file has 16"},
      {with("<f4", "(1, 1, 1, 1, 1, 1, 4)"), "more than 6 axes"},
  };
  const TemporaryFolder folder;
  const std::string path = folder / "bad.npy";
  for (const Case& one : cases) {
    write_bytes(path, one.bytes);
    const std::string message = message_of<FormatError>([&] { open_npy(path); });
    CAPTURE(one.expected);
    CAPTURE(message);
    CHECK(message.find(one.expected) != std::string::npos);
    CHECK(message.find("[npy] " + path + ": ") == 0);
  }
  CHECK(message_of<FormatError>([&] { open_npy(folder / "missing.npy"); }).find("cannot be opened") !=
        std::string::npos);
  CHECK(message_of<FormatError>([&] { open_npy(folder.path()); }).find("not a regular file") !=
        std::string::npos);
  write_bytes(path, good);
  CHECK(message_of<FormatError>([&] {
          read_npy(path, DType::i64, cpu_device(1));
        }).find("integers expected") != std::string::npos);
}

TEST_CASE("what is written is read again, and numpy's layout is kept") {
  const TemporaryFolder folder;
  const Tensor x = Tensor::from<float>({1, -2, 3.5f, 4, 5, 6}, {2, 3}, cpu_device(1));
  write_npy(folder / "x.npy", x);
  CHECK(read_bytes(folder / "x.npy") ==
        npy_bytes(npy_dictionary("<f4", "(2, 3)"), bytes_of(x.to_vector<float>())));
  CHECK(read_npy(folder / "x.npy", DType::f32, cpu_device(1)).to_vector<float>() == x.to_vector<float>());
  write_npy(folder / "s.npy", Tensor::from<double>({0.1}, {}, cpu_device(1)));
  CHECK(read_bytes(folder / "s.npy") == npy_bytes(npy_dictionary("<f8", "()"), bytes_of<double>({0.1})));
  write_npy(folder / "i.npy", Tensor::from<std::int64_t>({-7}, {1}, cpu_device(1)));
  CHECK(read_bytes(folder / "i.npy") ==
        npy_bytes(npy_dictionary("<i8", "(1,)"), bytes_of<std::int64_t>({-7})));
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) ==
        3);  // no temporary file stays
  CHECK_THROWS_AS(write_npy(folder / "no/such/folder.npy", x), Error);
}

// ---- the generator

TEST_CASE("choice without replacement equals numpy's, bit for bit") {
  int compared = 0;
  const nlohmann::json fixture = load_json_fixture("randomstate");
  for (const nlohmann::json& one : fixture.at("cases")) {
    LegacyRandom random(one.at("seed").get<std::uint32_t>());
    if (one.contains("first_32bit")) {
      for (const nlohmann::json& word : one.at("first_32bit"))
        CHECK(random.next32() == word.get<std::uint32_t>());
    } else {
      const auto expected = one.at("choice_without_replacement").get<std::vector<std::int64_t>>();
      CHECK(random.choice(one.at("n"), one.at("size"), false) == expected);
    }
    ++compared;
  }
  CHECK(compared >= 22);
}

TEST_CASE("the other draws equal numpy's") {
  LegacyRandom random(5);  // numpy 2.4: RandomState(5)
  std::vector<std::int64_t> small, large;
  for (int i = 0; i < 12; ++i) small.push_back(random.randint(0, 10));
  CHECK(small == std::vector<std::int64_t>{3, 6, 6, 0, 9, 8, 4, 7, 0, 0, 7, 1});
  for (int i = 0; i < 3; ++i) large.push_back(random.randint(-3, 5000000000));
  CHECK(large == std::vector<std::int64_t>{3519608856, 1041703114, 4771282459});
  CHECK(random.choice(7, 9, true) == std::vector<std::int64_t>{4, 6, 5, 2, 6, 1, 1, 2, 1});
  CHECK(random.uniform() == 0.4921359986061542);
  LegacyRandom words(std::vector<std::uint32_t>{1, 2, 3});  // RandomState([1, 2, 3])
  CHECK(words.next32() == 2619334238u);
  CHECK(words.next32() == 1552691353u);
  CHECK(words.next32() == 3808334787u);
  CHECK(words.choice(30, 4, false) == std::vector<std::int64_t>{23, 17, 6, 2});
  LegacyRandom nine(9);
  std::vector<int> order = {0, 1, 2, 3, 4, 5};
  nine.shuffle(order);
  CHECK(order == std::vector<int>{5, 1, 2, 3, 0, 4});
}

TEST_CASE("impossible draws are refused") {
  LegacyRandom random(1);
  CHECK_THROWS_AS(random.choice(3, 4, false), ConfigError);
  CHECK_THROWS_AS(random.choice(0, 0, true), ConfigError);
  CHECK_THROWS_AS(random.randint(2, 2), ConfigError);
  CHECK_THROWS_AS(random.permutation(-1), ConfigError);
  CHECK_THROWS_AS(LegacyRandom(std::vector<std::uint32_t>{}), ConfigError);
}

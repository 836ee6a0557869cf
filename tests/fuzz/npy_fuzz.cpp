// .npy files: the header, then every way the values are read.
#include <cstring>

#include "fovea/npy.hpp"
#include "fuzz.hpp"

namespace {

using namespace fovea;
using namespace fovea::fuzz;

const Device& device() {
  static const Device cpu = cpu_device(1, Isa::reference);
  return cpu;
}

void check_round_trip(const Tensor& values, const std::string& path) {
  write_npy(path, values);
  const Tensor again = read_npy(path, values.dtype(), device());
  require(again.shape() == values.shape() && std::memcmp(again.raw(), values.raw(), values.bytes()) == 0,
          "what is written comes back");
}

void check_order(const StoredArray& array, const Tensor& values) {
  const StoredArray rows = array.in_row_major();
  require(rows.row_major() && rows.byte_count() == array.byte_count(), "a row-major copy has all values");
  const Tensor again = rows.to_tensor(DType::f64, device());
  require(std::memcmp(again.raw(), values.raw(), values.bytes()) == 0, "the order of axes changes no value");
  require(rows.first_not_finite() == array.first_not_finite(), "a value that is not finite has one place");
  (void)rows.content_hash();
}

/// The last entry of the first axis, one value at a time from its end.
void check_parts(const StoredArray& array, const Tensor& values) {
  if (array.rank() == 0) return;
  const std::int64_t last = array.extent(0) - 1;
  const Tensor part = array.at(last).to_tensor(DType::f64, device());
  const auto* end = static_cast<const char*>(values.raw()) + values.bytes();
  require(std::memcmp(part.raw(), end - part.bytes(), part.bytes()) == 0, "an entry has its own values");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  StoredArray array;
  const auto parse = [&] {
    array = parse_npy("input", reinterpret_cast<const std::byte*>(data), size, std::make_shared<int>(0));
  };
  if (refuses(parse)) return 0;
  require(array.byte_count() <= size, "no more values than the file has");
  Tensor values;
  if (refuses([&] { values = array.to_tensor(DType::f64, device()); })) return 0;
  check_round_trip(values, folder / "again.npy");
  check_round_trip(array.to_tensor(DType::f32, device()), folder / "again.npy");
  if (!is_floating(array.type()))
    check_round_trip(array.to_tensor(DType::i64, device()), folder / "again.npy");
  if (array.elements() == 0) return 0;
  check_order(array, values);
  check_parts(array, values);
  return 0;
}

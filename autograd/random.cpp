#include "fovea/random.hpp"

#include <numeric>
#include <utility>

#include "autograd/op.hpp"

namespace fovea {
namespace {

/// A draw numbers its blocks of four values with 32 bits.
void check_count(const Tensor& x) {
  constexpr std::int64_t most = std::int64_t{1} << 34;
  if (x.elements() > most)
    throw ShapeError("random", text("one draw has at most ", most, " values: ", x.shape()));
}

/// The words of a draw one after the other.
class Words {
 public:
  explicit Words(const RandomKey& key) : key_(key) {}

  std::uint64_t next64() {
    const std::uint64_t high = next();
    return high << 32 | next();
  }
  /// Uniform in [0, bound), by rejection.
  std::uint64_t below(std::uint64_t bound) {
    const std::uint64_t excess = (~std::uint64_t{0} % bound + 1) % bound;  // 2^64 modulo bound
    std::uint64_t word = next64();
    while (word < excess) word = next64();
    return word % bound;
  }

 private:
  std::uint32_t next() {
    if (lane_ == 4) {
      const Philox4 block = philox_block(key_, block_++);
      words_[0] = block.x;
      words_[1] = block.y;
      words_[2] = block.z;
      words_[3] = block.w;
      lane_ = 0;
    }
    return words_[lane_++];
  }

  RandomKey key_;
  std::uint32_t words_[4] = {};
  std::uint32_t block_ = 0;
  int lane_ = 4;
};

}  // namespace

void Random::uniform(const Tensor& x, double low, double high) {
  check_count(x);
  dispatch("random", x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .random.uniform(x.data<T>(), x.elements(), low, high, {seed_, stream_, step_, draw_}, queue_of(x));
  });
  ++draw_;
}

void Random::normal(const Tensor& x, double mean, double deviation) {
  check_count(x);
  dispatch("random", x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .random.normal(x.data<T>(), x.elements(), mean, deviation, {seed_, stream_, step_, draw_},
                       queue_of(x));
  });
  ++draw_;
}

void Random::dropout_factors(const Tensor& x, double p) {
  check_count(x);
  if (!(p >= 0 && p <= 1)) throw ConfigError("random", text("a dropout probability is between 0 and 1: ", p));
  dispatch("random", x.dtype(), [&]<class T>() {
    tables<T>(x.device())
        .random.dropout_factors(x.data<T>(), x.elements(), p, {seed_, stream_, step_, draw_}, queue_of(x));
  });
  ++draw_;
}

std::vector<std::int64_t> Random::permutation(std::int64_t count) {
  constexpr std::int64_t most = std::int64_t{1} << 32;  // two words an entry, of 2^34 in a draw
  if (count < 0 || count > most)
    throw ConfigError("random", text("a permutation has 0 to ", most, " entries: ", count));
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  Words words({seed_, stream_, step_, draw_++});
  for (std::size_t left = order.size(); left > 1; --left)  // Fisher and Yates
    std::swap(order[left - 1], order[words.below(left)]);
  return order;
}

}  // namespace fovea

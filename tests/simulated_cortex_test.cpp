// The simulated cortex: images, cells, and what is refused.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <map>
#include <numbers>

#include "data/npy_writer.hpp"
#include "data/simulated_cortex.hpp"
#include "data_files.hpp"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

SimulatedCortexOptions tiny_options() {
  SimulatedCortexOptions options;
  options.neurons = 2;
  options.frames = 10;
  options.test_images = 2;
  options.repeats = 2;
  options.height = 16;
  options.width = 17;
  return options;
}

/// Names and bytes of all files below a folder.
std::map<std::string, std::string> contents(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), folder).string()] = read_bytes(entry.path().string());
  return files;
}

/// Files of this process end at so many bytes for as long as this lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("textures have the mean, contrast and spectrum of natural images") {
  const std::int64_t height = 36, width = 64, count = 60;
  const std::vector<std::uint8_t> images = natural_textures(count, height, width, 3, 1);
  REQUIRE(images.size() == 60 * 36 * 64);
  double mean = 0, squares = 0;
  for (const std::uint8_t value : images) {
    mean += value / static_cast<double>(images.size());
    squares += static_cast<double>(value) * value / static_cast<double>(images.size());
  }
  CHECK(mean == doctest::Approx(113).epsilon(0.02));
  CHECK(std::sqrt(squares - mean * mean) == doctest::Approx(55).epsilon(0.04));

  // A plane of amplitude 1 / f has rows of power 1 / f: the slope of log power over log frequency is -1.
  std::vector<double> x, y;
  for (int k = 2; k <= 20; ++k) {
    double power = 0;
    for (std::int64_t row = 0; row < count * height; ++row) {
      double c = 0, s = 0;
      for (std::int64_t i = 0; i < width; ++i) {
        const double angle = 2 * std::numbers::pi * k * static_cast<double>(i) / static_cast<double>(width);
        c += images[static_cast<std::size_t>(row * width + i)] * std::cos(angle);
        s += images[static_cast<std::size_t>(row * width + i)] * std::sin(angle);
      }
      power += c * c + s * s;
    }
    x.push_back(std::log(k));
    y.push_back(std::log(power));
  }
  double mx = 0, my = 0, xx = 0, xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    mx += x[i] / static_cast<double>(x.size());
    my += y[i] / static_cast<double>(x.size());
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mx) * (x[i] - mx);
    xy += (x[i] - mx) * (y[i] - my);
  }
  CHECK(xy / xx > -1.3);  // white noise: 0; amplitude 1 / f^2: -3
  CHECK(xy / xx < -0.7);

  CHECK(natural_textures(3, height, width, 3, 1) ==
        std::vector<std::uint8_t>(images.begin(), images.begin() + 3 * 36 * 64));
  CHECK(natural_textures(3, height, width, 3, 2) != natural_textures(3, height, width, 3, 1));
}

TEST_CASE("receptive fields lie at their positions and follow the eye") {
  SimulatedCortexOptions options;
  const SimulatedCortex cortex(options, 0);
  REQUIRE(cortex.cells().size() == 40);
  const std::vector<std::uint8_t> base = natural_textures(1, 36, 64, 5, 9);
  for (const PixelShift& shift : {PixelShift{0, 0}, PixelShift{2.3, -3.6}}) {
    // The energy of each cell's changes by one pixel has its centre at the receptive field's.
    const std::vector<double> before = cortex.drives(base.data(), shift);
    struct Sum {
      double energy = 0, row = 0, column = 0;
    };
    std::vector<Sum> sums(40);
    for (std::size_t p = 0; p < base.size(); ++p) {
      std::vector<std::uint8_t> changed = base;
      changed[p] = static_cast<std::uint8_t>(changed[p] < 128 ? changed[p] + 60 : changed[p] - 60);
      const std::vector<double> after = cortex.drives(changed.data(), shift);
      for (std::size_t n = 0; n < 40; ++n) {
        const double energy = (after[n] - before[n]) * (after[n] - before[n]);
        sums[n].energy += energy;
        sums[n].row += energy * static_cast<double>(p / 64);
        sums[n].column += energy * static_cast<double>(p % 64);
      }
    }
    double distance = 0;
    int seen = 0;
    for (std::size_t n = 0; n < 40; ++n) {
      if (sums[n].energy < 1) continue;  // a simple cell that this image silences
      ++seen;
      const CorticalCell& cell = cortex.cells()[n];
      const double row = sums[n].row / sums[n].energy - cell.row - shift.down,
                   column = sums[n].column / sums[n].energy - cell.column - shift.right;
      CHECK(std::abs(row) < 1.5);
      CHECK(std::abs(column) < 1.5);
      distance += std::hypot(row, column);
    }
    CHECK(seen > 25);
    CHECK(distance / seen < 0.5);
  }
}

TEST_CASE("a cell answers to a patch where it looks and not elsewhere") {
  SimulatedCortexOptions options;
  const SimulatedCortex cortex(options, 1);
  REQUIRE(cortex.cells().size() == 37);
  const PixelShift shift{2, -3};
  // The largest drive by a dark or bright square of 3 x 3 pixels near a place.
  const auto answer = [&](std::size_t n, double row, double column) {
    double most = 0;
    for (int offset = 0; offset < 50; ++offset) {
      const double y0 = row + offset / 2 / 5 - 2, x0 = column + offset / 2 % 5 - 2;
      std::vector<std::uint8_t> image(36 * 64, 113);
      for (int y = 0; y < 36; ++y)
        for (int x = 0; x < 64; ++x)
          if (std::abs(y - y0) <= 1.5 && std::abs(x - x0) <= 1.5)
            image[static_cast<std::size_t>(y * 64 + x)] = offset % 2 ? 255 : 0;
      most = std::max(most, cortex.drives(image.data(), shift)[n]);
    }
    return most;
  };
  for (std::size_t n = 0; n < 37; ++n) {
    const CorticalCell& cell = cortex.cells()[n];
    CAPTURE(n);
    const double row = cell.row + shift.down, column = cell.column + shift.right;
    CHECK(answer(n, row, column) > 20);
    CHECK(answer(n, row, column + (column < 32 ? 19 : -19)) < 1e-9);
  }
}

TEST_CASE("responses have the mean and variance of their noise") {
  SimulatedCortexOptions options = tiny_options();
  const SimulatedCortex cortex(options, 0);
  constexpr std::size_t draws = 40'000;
  for (const double events : {0.0, 0.3, 4.0}) {
    CAPTURE(events);
    const std::vector<float> responses = cortex.respond(std::vector<double>(2 * draws, events));
    for (std::size_t n = 0; n < 2; ++n) {
      double mean = 0, variance = 0, fourth = 0;
      std::vector<double> values;
      for (std::size_t t = 0; t < draws; ++t)
        values.push_back(static_cast<double>(responses[2 * t + n]) / cortex.cells()[n].scale);
      for (const double value : values) mean += value / draws;
      for (const double value : values) {
        variance += std::pow(value - mean, 2) / draws;
        fourth += std::pow(value - mean, 4) / draws;
      }
      // Events have a mean of 1 and a variance of 1 / 4; the floor is exponential, of mean 0.02.
      const double expected = 1.25 * events + 0.02 * 0.02;
      CHECK(std::abs(mean - events - 0.02) < 5 * std::sqrt(expected / draws));
      CHECK(std::abs(variance - expected) < 5 * std::sqrt((fourth - variance * variance) / draws));
      CHECK(*std::min_element(values.begin(), values.end()) > 0);
      CHECK(cortex.expected_responses({events, events})[n] ==
            doctest::Approx((events + 0.02) * cortex.cells()[n].scale));
    }
  }
}

TEST_CASE("the same options give the same bytes, another seed others") {
  const TemporaryFolder folder;
  SimulatedCortexOptions options = tiny_options();
  simulate_cortex(options, folder / "a");
  simulate_cortex(options, folder / "b");
  ++options.seed;
  simulate_cortex(options, folder / "c");
  const auto a = contents(folder / "a"), c = contents(folder / "c");
  // 15 and 17 trials of four files, 20 statistics, 4 and 7 files of trials and neurons, the ground truth.
  CHECK(a.size() == 4 * 15 + 4 * 17 + 2 * (20 + 4 + 7) + 1);
  CHECK((a == contents(folder / "b")));
  REQUIRE(a.size() == c.size());
  for (const auto& [name, bytes] : a) {
    const std::string shown_name = name;
    CAPTURE(shown_name);
    REQUIRE(c.count(name) == 1);
    const bool data = name.find("/data/") != std::string::npos || name.find("truth") != std::string::npos;
    if (data) CHECK((bytes != c.at(name)));
  }
}

TEST_CASE("more training trials or neurons leave the test images and the first cells as they are") {
  SimulatedCortexOptions options = tiny_options();
  const SimulatedCortex few(options, 0);
  options.neurons = 30;
  options.frames = 99;
  const SimulatedCortex many(options, 0);
  CHECK(few.cells()[1].row == many.cells()[1].row);
  CHECK(few.cells()[1].even == many.cells()[1].even);
  CHECK(SimulatedCortex(options, 1).cells()[1].row != many.cells()[1].row);
  CHECK(SimulatedCortex(options, 1).cells().size() == 28);
  options.neurons = 1;
  CHECK(SimulatedCortex(options, 1).cells().size() == 1);
}

TEST_CASE("a directory in use is refused and left alone; a leftover is replaced") {
  const TemporaryFolder folder;
  write_bytes(folder / "full/notes.txt", "mine");
  const std::string message = message_of<Error>([&] { simulate_cortex(tiny_options(), folder / "full"); });
  CHECK(message.find("a simulated cortex must be empty: it holds 1, among them notes.txt") !=
        std::string::npos);
  CHECK(contents(folder / "full") == std::map<std::string, std::string>{{"notes.txt", "mine"}});
  CHECK_THROWS_AS(simulate_cortex(tiny_options(), folder / "full/notes.txt"), Error);
  CHECK_THROWS_AS(simulate_cortex(tiny_options(), folder / "full/notes.txt/below"), Error);

  write_bytes(folder / "interrupted/.simulating/ground_truth.safetensors", "half");
  simulate_cortex(tiny_options(), folder / "interrupted");
  CHECK(fs::exists(folder / "interrupted/ground_truth.safetensors"));
  CHECK_FALSE(fs::exists(folder / "interrupted/.simulating"));
}

TEST_CASE("nothing stays behind where the system refuses a file") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "empty");
  SimulatedCortexOptions options = tiny_options();
  options.height = options.width = 120;
  const auto message_within = [&](rlim_t most, const std::string& name) {
    const FileSizeLimit limit(most);
    return message_of<Error>([&] { simulate_cortex(options, folder / name); });
  };
  for (const std::string name : {"new", "empty"}) {
    const std::string truth = message_within(500, name), image = message_within(10'000, name);
    CAPTURE(truth);
    CAPTURE(image);
    for (const std::string& message : {truth, image})
      CHECK(message.find("File too large") != std::string::npos);
    CHECK(truth.find("ground_truth.safetensors") != std::string::npos);
    CHECK(image.find("data/images/0.npy") != std::string::npos);
    CHECK_FALSE(fs::exists(folder / "new"));
    CHECK(fs::is_empty(folder / "empty"));
  }
  simulate_cortex(options, folder / "empty");
  CHECK_FALSE(fs::is_empty(folder / "empty"));
}

TEST_CASE("options out of range are refused before anything is written") {
  const TemporaryFolder folder;
  const auto refused = [&](auto change, const std::string& part) {
    SimulatedCortexOptions options = tiny_options();
    change(options);
    CHECK(message_of<ConfigError>([&] { simulate_cortex(options, folder / "never"); }) ==
          "[simulate] " + part);
    CHECK_FALSE(fs::exists(folder / "never"));
  };
  refused([](auto& o) { o.neurons = 0; }, "neurons must be at least 1: 0");
  refused([](auto& o) { o.neurons = 100'001; }, "neurons must be at most 100000: 100001");
  refused([](auto& o) { o.frames = 9; }, "frames must be at least 10: 9");
  refused([](auto& o) { o.test_images = 1; }, "test_images must be at least 2: 1");
  refused([](auto& o) { o.repeats = 0; }, "repeats must be at least 1: 0");
  refused([](auto& o) { o.height = 15; }, "height must be at least 16: 15");
  refused([](auto& o) { o.width = -3; }, "width must be at least 16: -3");
  refused([](auto& o) { o.width = 1025; }, "width must be at most 1024: 1025");
}

TEST_CASE("texts are written as numpy's unicode arrays") {
  const std::string file = npy_file({"ab", "", "c"});
  CHECK(file == npy_bytes(npy_dictionary("<U2", "(3,)"),
                          std::string("a\0\0\0b\0\0\0\0\0\0\0\0\0\0\0c\0\0\0\0\0\0\0", 24)));
  CHECK(npy_file({"ab"}, 3) ==
        npy_bytes(npy_dictionary("<U3", "(1,)"), std::string("a\0\0\0b\0\0\0\0\0\0\0", 12)));
  CHECK(npy_file(std::vector<std::string>{}) == npy_bytes(npy_dictionary("<U1", "(0,)"), ""));
  CHECK(message_of<Error>([] {
          (void)npy_file({"train", "validation"}, 5);
        }).find("at most 5 characters: 10") != std::string::npos);
  CHECK(message_of<Error>([] { (void)npy_file({"\xc3\xa9"}); }).find("ASCII") != std::string::npos);
  CHECK(npy_file(std::vector<std::uint8_t>{1, 255}, {1, 2}) ==
        npy_bytes(npy_dictionary("|u1", "(1, 2)"), "\x01\xff"));
  CHECK_THROWS_AS(npy_file(std::vector<float>{1, 2}, {3}), ShapeError);
}

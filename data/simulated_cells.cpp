#include "data/simulated_cells.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "data/random_draws.hpp"

namespace fovea {
namespace {

/// Half the side of the square a filter may fill: the 11 x 11 kernel that suits these cells.
constexpr std::int64_t reach = 5;

/// A lobe of the temporal filter: (lag / peak)^order exp(order (1 - lag / peak)), lag in frames
/// (Chichilnisky & Kalmar 2002).
struct Lobe {
  double peak, order;
};

struct TypeParameters {
  CellKind kind;
  int polarity;
  double center_sigma;     // pixels; of one subunit where there are several
  double surround_sigma;   // pixels
  double surround_volume;  // of the surround relative to the center's
  Lobe first, second;      // lags in frames
  double second_weight;    // 0: monophasic, a sustained cell
};

constexpr std::array<TypeParameters, 8> types{{
    {CellKind::linear, +1, 1.5, 3.0, 0.6, {4.2, 7}, {8.0, 8}, 0.6},
    {CellKind::linear, -1, 1.3, 2.8, 0.6, {3.6, 7}, {7.0, 8}, 0.7},
    {CellKind::linear, +1, 1.0, 2.2, 0.5, {6.2, 7}, {9.0, 8}, 0.0},
    {CellKind::linear, -1, 1.1, 2.4, 0.5, {5.4, 7}, {9.0, 8}, 0.0},
    {CellKind::subunits, +1, 0.8, 2.0, 0.0, {4.0, 7}, {7.6, 8}, 0.5},
    {CellKind::subunits, -1, 0.8, 2.0, 0.0, {3.6, 7}, {7.2, 8}, 0.5},
    {CellKind::gain_control, +1, 1.7, 3.2, 0.5, {4.6, 7}, {8.4, 8}, 0.6},
    {CellKind::gain_control, -1, 1.5, 3.0, 0.5, {4.0, 7}, {7.4, 8}, 0.6},
}};

/// Types in the order in which cells get them.
constexpr std::array<int, 12> type_cycle{0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 6, 7};

constexpr int subunits_per_cell = 7;
constexpr double subunit_distance = 2.2;  // pixels, of the ring around the middle one

void normalize(std::vector<double>& filter) {
  double energy = 0;
  for (const double value : filter) energy += value * value;
  for (double& value : filter) value /= std::sqrt(energy);
}

std::vector<double> temporal_filter(const TypeParameters& type) {
  const auto lobe = [](const Lobe& shape, double lag) {
    const double x = lag / shape.peak;
    return std::pow(x, shape.order) * std::exp(shape.order * (1 - x));
  };
  constexpr auto frames = SimulatedRetina::kernel_frames;
  std::vector<double> filter(frames);
  for (std::int64_t t = 0; t < frames; ++t) {
    const auto lag = static_cast<double>(frames - 1 - t);
    filter[static_cast<std::size_t>(t)] = lobe(type.first, lag) - type.second_weight * lobe(type.second, lag);
  }
  normalize(filter);
  return filter;
}

/// Difference of Gaussians around (row, column), zero more than `reach` pixels from there.
std::vector<double> spatial_filter(const TypeParameters& type, double row, double column, std::int64_t height,
                                   std::int64_t width) {
  std::vector<double> filter(static_cast<std::size_t>(height * width), 0.0);
  const double ratio = type.center_sigma / type.surround_sigma;
  const auto dog = [&](double d2) {
    return std::exp(-0.5 * d2 / (type.center_sigma * type.center_sigma)) -
           type.surround_volume * ratio * ratio *
               std::exp(-0.5 * d2 / (type.surround_sigma * type.surround_sigma));
  };
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x) {
      const double dy = static_cast<double>(y) - row, dx = static_cast<double>(x) - column;
      if (std::abs(dy) > reach || std::abs(dx) > reach) continue;
      filter[static_cast<std::size_t>(y * width + x)] = type.polarity * dog(dy * dy + dx * dx);
    }
  normalize(filter);
  return filter;
}

struct Point {
  double row, column;
};

/// Cells of one type tile the retina: points spread by Lloyd's algorithm over the pixels whose kernel lies
/// inside the image, then moved to the nearest pixel.
std::vector<Point> mosaic(std::int64_t count, std::int64_t height, std::int64_t width, RandomDraws& draws) {
  if (count == 0) return {};
  const double top = reach, left = reach;
  const auto bottom = static_cast<double>(height - 1 - reach), right = static_cast<double>(width - 1 - reach);
  std::vector<Point> points(static_cast<std::size_t>(count));
  for (Point& point : points) {
    point.row = draws.uniform(top, bottom);
    point.column = draws.uniform(left, right);
  }
  for (int round = 0; round < 30; ++round) {
    struct Sum {
      double row = 0, column = 0, pixels = 0;
    };
    std::vector<Sum> sums(points.size());
    for (std::int64_t pixel_row = reach; pixel_row < height - reach; ++pixel_row)
      for (std::int64_t pixel_column = reach; pixel_column < width - reach; ++pixel_column) {
        const auto y = static_cast<double>(pixel_row), x = static_cast<double>(pixel_column);
        const auto distance = [&](const Point& p) {
          return (p.row - y) * (p.row - y) + (p.column - x) * (p.column - x);
        };
        const auto nearest =
            std::min_element(points.begin(), points.end(),
                             [&](const Point& a, const Point& b) { return distance(a) < distance(b); });
        Sum& sum = sums[static_cast<std::size_t>(nearest - points.begin())];
        sum.row += y;
        sum.column += x;
        sum.pixels += 1;
      }
    for (std::size_t i = 0; i < points.size(); ++i)
      if (sums[i].pixels > 0) points[i] = {sums[i].row / sums[i].pixels, sums[i].column / sums[i].pixels};
  }
  for (Point& point : points) point = {std::round(point.row), std::round(point.column)};
  return points;
}

/// A middle subunit and a ring of unequal ones, turned at random.
std::vector<Subunit> draw_subunits(const TypeParameters& type, const Point& center, std::int64_t height,
                                   std::int64_t width, RandomDraws& draws) {
  if (type.kind != CellKind::subunits)
    return {{1.0, spatial_filter(type, center.row, center.column, height, width)}};
  std::vector<Subunit> subunits;
  const double turn = draws.uniform(0, 2 * std::numbers::pi);
  for (int j = 0; j < subunits_per_cell; ++j) {
    const double angle = turn + 2 * std::numbers::pi * j / (subunits_per_cell - 1);
    const double distance = j == subunits_per_cell - 1 ? 0 : subunit_distance * draws.uniform(0.85, 1.15);
    subunits.push_back(
        {draws.uniform(0.5, 1.0), spatial_filter(type, center.row + distance * std::sin(angle),
                                                 center.column + distance * std::cos(angle), height, width)});
  }
  return subunits;
}

SimulatedCell draw_cell(int type_index, const Point& center, const SimulatedRetinaOptions& options,
                        RandomDraws& draws) {
  const TypeParameters& type = types[static_cast<std::size_t>(type_index)];
  SimulatedCell cell;
  cell.kind = type.kind;
  cell.type = type_index;
  cell.polarity = type.polarity;
  cell.row = center.row;
  cell.column = center.column;
  cell.temporal = temporal_filter(type);
  cell.subunits = draw_subunits(type, center, options.height, options.width, draws);
  if (type.kind == CellKind::gain_control) {
    cell.contrast_strength = draws.uniform(0.8, 1.6);
    cell.contrast_memory = std::exp(-1 / draws.uniform(6, 12));
  }
  cell.gain = draws.uniform(1.3, 2.0);
  return cell;
}

}  // namespace

const std::vector<std::string>& cell_type_names() {
  static const std::vector<std::string> names{"ON transient",    "OFF transient",   "ON sustained",
                                              "OFF sustained",   "ON subunits",     "OFF subunits",
                                              "ON gain control", "OFF gain control"};
  return names;
}

std::vector<SimulatedCell> draw_cells(const SimulatedRetinaOptions& options,
                                      std::vector<double>& mean_rates) {
  RandomDraws draws({options.seed, static_cast<std::uint32_t>(RetinaStream::cells), 0, 0});
  const auto type_of = [](std::int64_t cell) {
    return type_cycle[static_cast<std::size_t>(cell) % type_cycle.size()];
  };
  std::array<std::int64_t, types.size()> counts{};
  for (std::int64_t n = 0; n < options.neurons; ++n) ++counts[static_cast<std::size_t>(type_of(n))];
  std::array<std::vector<Point>, types.size()> mosaics;
  for (std::size_t type = 0; type < types.size(); ++type)
    mosaics[type] = mosaic(counts[type], options.height, options.width, draws);

  std::vector<SimulatedCell> cells;
  for (std::int64_t n = 0; n < options.neurons; ++n) {
    auto& points = mosaics[static_cast<std::size_t>(type_of(n))];
    cells.push_back(draw_cell(type_of(n), points.back(), options, draws));
    points.pop_back();
    mean_rates.push_back(draws.uniform(0.2, 0.5));
  }
  return cells;
}

}  // namespace fovea

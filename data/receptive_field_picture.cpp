#include "data/receptive_field_picture.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "data/svg.hpp"
#include "engine/atomic_file.hpp"

namespace fovea {
namespace {

using svg::escaped;
using svg::number;

// Lengths in SVG user units.
constexpr int pixel = 4, gap = 6, columns = 8;
constexpr std::int64_t largest_crop = 15;  // pixels of the image that a map shows
constexpr int margin = 28, label_width = 148, header_height = 116;
constexpr int caption_height = 15, curve_height = 40, panel_spacing = 20, row_spacing = 26;

constexpr std::string_view ink = "#1f2328", faint_ink = "#6b7280", hairline = "#d5d9de";
constexpr std::string_view recovered_color = "#e8710a";

std::string correlation_text(double r) {
  const std::string digits = number(r, 2);
  return digits[0] == '-' ? "\u2212" + digits.substr(1) : digits;
}

std::string label(double x, double y, int size, std::string_view color, const std::string& words,
                  std::string_view more = "") {
  return text("<text x=\"", number(x, 1), "\" y=\"", number(y, 1), "\" font-size=\"", size, "\" fill=\"",
              color, "\"", more, ">", escaped(words), "</text>\n");
}

constexpr int color_levels = 20;  // on either side of zero

/// Blue, white, red by level -20 .. 20 (after ColorBrewer's RdBu).
std::string diverging_color(int level) {
  constexpr std::array<std::array<double, 3>, 4> negative{
      {{247, 247, 247}, {146, 197, 222}, {67, 147, 195}, {33, 102, 172}}};
  constexpr std::array<std::array<double, 3>, 4> positive{
      {{247, 247, 247}, {244, 165, 130}, {214, 96, 77}, {178, 24, 43}}};
  const auto& stops = level < 0 ? negative : positive;
  const double place = 3.0 * std::abs(level) / color_levels;
  const auto stop = static_cast<std::size_t>(std::min(2.0, std::floor(place)));
  std::string color = "#";
  for (std::size_t channel = 0; channel < 3; ++channel) {
    const double fraction = place - static_cast<double>(stop);
    const auto value = static_cast<int>(
        std::lround((1 - fraction) * stops[stop][channel] + fraction * stops[stop + 1][channel]));
    constexpr std::string_view hex = "0123456789abcdef";
    color += hex[static_cast<std::size_t>(value / 16)];
    color += hex[static_cast<std::size_t>(value % 16)];
  }
  return color;
}

/// One cell's field [L, H, W], scaled to unit norm (left at zero when it is).
struct Field {
  std::int64_t frames, height, width;
  std::vector<double> values;

  Field(const Tensor& fields, std::int64_t cell)
      : frames(fields.shape()[1]),
        height(fields.shape()[2]),
        width(fields.shape()[3]),
        values(fields.rows(cell, cell + 1).to_vector<double>()) {
    double energy = 0;
    for (const double value : values) energy += value * value;
    if (energy > 0)
      for (double& value : values) value /= std::sqrt(energy);
  }
  double at(std::int64_t frame, std::int64_t y, std::int64_t x) const {
    return values[static_cast<std::size_t>((frame * height + y) * width + x)];
  }
};

/// Where the true field is largest, and the part of the image around it that the maps show.
struct View {
  std::int64_t frame, y, x;
  std::int64_t top, left, rows, columns;
  double range;  // the largest magnitude of the true field: the end of the color scale

  explicit View(const Field& truth) {
    const auto peak = std::max_element(truth.values.begin(), truth.values.end(),
                                       [](double a, double b) { return std::abs(a) < std::abs(b); }) -
                      truth.values.begin();
    frame = peak / (truth.height * truth.width);
    y = peak / truth.width % truth.height;
    x = peak % truth.width;
    rows = std::min(largest_crop, truth.height);
    columns = std::min(largest_crop, truth.width);
    top = std::clamp<std::int64_t>(y - rows / 2, 0, truth.height - rows);
    left = std::clamp<std::int64_t>(x - columns / 2, 0, truth.width - columns);
    range = std::abs(truth.values[static_cast<std::size_t>(peak)]);
  }
};

int map_width(const Shape& fields) { return static_cast<int>(std::min(largest_crop, fields[3])) * pixel; }
int map_height(const Shape& fields) { return static_cast<int>(std::min(largest_crop, fields[2])) * pixel; }
int panel_width(const Shape& fields) { return 2 * map_width(fields) + gap; }
int panel_height(const Shape& fields) { return caption_height + map_height(fields) + gap + curve_height; }

/// The pixels of a map, one path a color, runs of a row as one rectangle.
std::string map_svg(const Field& field, const View& view, double x0, double y0) {
  std::array<std::string, 2 * color_levels + 1> paths;
  const auto level = [&](std::int64_t row, std::int64_t column) {
    const double value = field.at(view.frame, view.top + row, view.left + column);
    const double relative = view.range > 0 ? std::clamp(value / view.range, -1.0, 1.0) : 0;
    return static_cast<int>(std::lround(color_levels * relative));
  };
  const auto slot = [](int color) {
    const int at = color + color_levels;
    return static_cast<std::size_t>(at);
  };
  for (std::int64_t row = 0; row < view.rows; ++row)
    for (std::int64_t column = 0, end; column < view.columns; column = end) {
      end = column + 1;
      while (end < view.columns && level(row, end) == level(row, column)) ++end;
      const std::int64_t run = end - column;
      if (level(row, column) != 0)
        paths[slot(level(row, column))] += text('M', column, ' ', row, 'h', run, "v1h-", run, 'z');
    }
  std::string svg = text("<g transform=\"translate(", number(x0, 0), ' ', number(y0, 0), ") scale(", pixel,
                         ")\" shape-rendering=\"crispEdges\"><path fill=\"", diverging_color(0),
                         "\" d=\"M0 0h", view.columns, 'v', view.rows, "h-", view.columns, "z\"/>");
  for (int i = -color_levels; i <= color_levels; ++i) {
    const std::string& path = paths[slot(i)];
    if (!path.empty()) svg += text("<path fill=\"", diverging_color(i), "\" d=\"", path, "\"/>");
  }
  return svg + text("</g><rect x=\"", number(x0 - 0.5, 1), "\" y=\"", number(y0 - 0.5, 1), "\" width=\"",
                    view.columns * pixel + 1, "\" height=\"", view.rows * pixel + 1,
                    "\" fill=\"none\" stroke=\"", hairline, "\"/>\n");
}

std::string curve_svg(const Field& field, const View& view, double x0, double y0, double width, double range,
                      std::string_view style) {
  std::string points;
  for (std::int64_t frame = 0; frame < field.frames; ++frame) {
    const double across =
        field.frames > 1 ? static_cast<double>(frame) / static_cast<double>(field.frames - 1) : 0;
    const double up = range > 0 ? field.at(frame, view.y, view.x) / range : 0;
    points += text(frame ? " " : "", number(x0 + across * width, 1), ',',
                   number(y0 + 0.5 * curve_height * (1 - 0.95 * up), 1));
  }
  return text("<polyline points=\"", points, "\" fill=\"none\" stroke-linejoin=\"round\" ", style, "/>\n");
}

const std::string true_style = text("stroke=\"", ink, "\" stroke-width=\"2.6\" stroke-opacity=\"0.45\"");
const std::string recovered_style = text("stroke=\"", recovered_color, "\" stroke-width=\"1.4\"");

/// Caption, both maps, both time courses of one cell.
std::string panel_svg(const Field& truth, const Field& recovered, std::int64_t cell, double r,
                      const Shape& shape, double x0, double y0) {
  const View view(truth);
  const double width = panel_width(shape), maps = y0 + caption_height, zero = maps + map_height(shape) + gap;
  double range = 0;
  for (std::int64_t frame = 0; frame < truth.frames; ++frame)
    range = std::max(
        {range, std::abs(truth.at(frame, view.y, view.x)), std::abs(recovered.at(frame, view.y, view.x))});
  std::string svg = label(x0, y0 + 9, 10, faint_ink, text("cell ", cell));
  svg += label(x0 + width, y0 + 9, 10, ink, text("r = ", correlation_text(r)), " text-anchor=\"end\"");
  svg += map_svg(truth, view, x0, maps);
  svg += map_svg(recovered, view, x0 + map_width(shape) + gap, maps);
  svg += text("<path d=\"M", number(x0, 1), ' ', number(zero + 0.5 * curve_height, 1), 'h', number(width, 1),
              "\" stroke=\"", hairline, "\"/>\n");
  svg += curve_svg(truth, view, x0, zero, width, range, true_style);
  svg += curve_svg(recovered, view, x0, zero, width, range, recovered_style);
  return svg;
}

std::string legend_svg(double right, std::int64_t frames) {
  const double bar = right - 236, top = 34;
  std::string svg = "<g shape-rendering=\"crispEdges\">";
  for (int level = -color_levels; level <= color_levels; ++level)
    svg += text("<rect x=\"", number(bar + 5 * (level + color_levels), 0), "\" y=\"", number(top, 0),
                "\" width=\"5\" height=\"10\" fill=\"", diverging_color(level), "\"/>");
  svg += "</g>\n";
  const double end = bar + 5 * (2 * color_levels + 1);
  svg += label(bar - 8, top + 9, 11, faint_ink, "OFF", " text-anchor=\"end\"");
  svg += label(end + 8, top + 9, 11, faint_ink, "ON");
  const auto line = [&](double y, const std::string& style, const char* words) {
    svg += text("<path d=\"M", number(bar, 1), ' ', number(y - 4, 1), "h30\" fill=\"none\" ", style, "/>\n");
    svg += label(bar + 38, y, 11, ink, words);
  };
  line(top + 30, true_style, "true (left map)");
  line(top + 47, recovered_style, "recovered (right map)");
  svg +=
      label(bar, top + 64, 11, faint_ink, text("curves: the last ", frames, " frames, newest on the right"));
  return svg;
}

std::string header_svg(const ReceptiveFieldComparison& comparison, const Shape& shape, double width) {
  std::string svg = label(margin, 44, 22, ink, "Receptive fields of a simulated retina, true and recovered",
                          " font-weight=\"600\"");
  const auto counted = [](std::int64_t count, const char* where) {
    return text(count, count == 1 ? " cell " : " cells ", where);
  };
  std::string summary;
  if (comparison.in_class_count > 0)
    summary = text(counted(comparison.in_class_count, "of the model class"), ": mean correlation ",
                   correlation_text(comparison.in_class_mean));
  if (comparison.outside_count > 0)
    summary += text(summary.empty() ? "" : "   \u00b7   ", counted(comparison.outside_count, "outside it"),
                    ": mean correlation ", correlation_text(comparison.outside_mean));
  svg += label(margin, 70, 14, ink, summary);
  svg += label(margin, 92, 11, faint_ink,
               "Gradient of the rate with respect to the last frames of the stimulus, averaged over the test "
               "movie. Maps: "
               "around the true peak, at its frame. Curves: at its pixel. Fields have unit norm.");
  return svg + legend_svg(width - margin, shape[1]);
}

std::string row_label_svg(const std::string& type, bool in_class, double mean, double y0) {
  std::string svg = label(margin, y0 + 34, 14, ink, type, " font-weight=\"600\"");
  svg += label(margin, y0 + 52, 11, faint_ink, in_class ? "model class" : "outside the model class");
  return svg + label(margin, y0 + 68, 11, faint_ink, text("mean r = ", correlation_text(mean)));
}

}  // namespace

void write_receptive_field_picture(const std::string& path, const Tensor& recovered,
                                   const RetinaGroundTruth& truth) {
  const Tensor aligned = align_receptive_fields(recovered, truth);
  const ReceptiveFieldComparison comparison = compare_receptive_fields(recovered, truth);
  const Shape& shape = aligned.shape();
  const double width =
      2 * margin + label_width + columns * panel_width(shape) + (columns - 1) * panel_spacing;
  double y = header_height;
  std::string body = header_svg(comparison, shape, width);
  for (std::size_t type = 0; type < truth.cell_types.size(); ++type) {
    std::vector<std::int64_t> cells;
    for (std::int64_t n = 0; n < shape[0]; ++n)
      if (truth.cell_type[static_cast<std::size_t>(n)] == static_cast<int>(type)) cells.push_back(n);
    if (cells.empty()) continue;
    body += text("<path d=\"M", margin, ' ', number(y, 1), 'h', number(width - 2 * margin, 1), "\" stroke=\"",
                 hairline, "\"/>\n");
    y += row_spacing / 2.0;
    body +=
        row_label_svg(truth.cell_types[type], truth.in_model_class[static_cast<std::size_t>(cells.front())],
                      comparison.type_mean[type], y);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::size_t column = i % columns;
      if (i > 0 && column == 0) y += panel_height(shape) + row_spacing / 2.0;
      const double x =
          margin + label_width + static_cast<double>(column) * (panel_width(shape) + panel_spacing);
      body += panel_svg(Field(truth.receptive_fields, cells[i]), Field(aligned, cells[i]), cells[i],
                        comparison.correlation[static_cast<std::size_t>(cells[i])], shape, x, y);
    }
    y += panel_height(shape) + row_spacing / 2.0;
  }
  const std::string size =
      text("width=\"", number(width, 0), "\" height=\"", number(y + margin / 2.0, 0), '"');
  write_file_atomically(
      path, text("<svg xmlns=\"http://www.w3.org/2000/svg\" ", size, " viewBox=\"0 0 ", number(width, 0), ' ',
                 number(y + margin / 2.0, 0),
                 "\" font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\">\n"
                 "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
                 body, "</svg>\n"));
}

}  // namespace fovea

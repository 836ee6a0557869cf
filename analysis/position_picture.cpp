#include <cmath>

#include "data/svg.hpp"
#include "engine/atomic_file.hpp"
#include "fovea/firing_rate_encoder.hpp"
#include "fovea/receptive_fields.hpp"

namespace fovea {
namespace {

using svg::escaped;
using svg::number;

// Lengths in SVG user units.
constexpr double map_width = 320, margin = 40, caption = 34, dot = 2.5;
constexpr auto ink = "#1f2328", border_color = "#d5d9de", inside_color = "#1f77b4", outside_color = "#e8710a";

/// A position outside is drawn at most this far from the middle, in halves of the map.
constexpr double farthest = 1.15;

std::string panel(const Model& model, const std::string& session, double left, double height) {
  const std::vector<double> places = readout_positions(model, session).to(DType::f64).to_vector<double>();
  std::string dots;
  std::int64_t outside = 0;
  for (std::size_t n = 0; n + 1 < places.size(); n += 2) {
    const double x = places[n], y = places[n + 1];
    if (!std::isfinite(x) || !std::isfinite(y))
      throw Error("picture", text("position ", n / 2, " of session ", session, " is not finite"));
    const bool out = std::abs(x) > 1 || std::abs(y) > 1;
    outside += out;
    const auto at = [](double place, double begin, double extent) {
      return number(begin + (std::fmax(-farthest, std::fmin(farthest, place)) + 1) / 2 * extent, 2);
    };
    dots +=
        text("<circle cx=\"", at(x, left, map_width), "\" cy=\"", at(y, margin + caption, height), "\" r=\"",
             number(dot, 1), "\" fill=\"", out ? outside_color : inside_color, "\" fill-opacity=\"0.7\"/>\n");
  }
  std::string words = text("session ", session, ": ", places.size() / 2, " neurons");
  if (outside) words += text(", ", outside, " outside");
  return text("<text x=\"", number(left, 1), "\" y=\"", number(margin, 1), "\" font-size=\"13\" fill=\"", ink,
              "\">", escaped(words), "</text>\n<rect x=\"", number(left, 1), "\" y=\"",
              number(margin + caption, 1), "\" width=\"", number(map_width, 1), "\" height=\"",
              number(height, 1), "\" fill=\"none\" stroke=\"", border_color, "\"/>\n", dots);
}

}  // namespace

void write_position_picture(const std::string& path, const Model& model) {
  const std::vector<std::string> sessions = model.sessions();
  const Shape in = model.in_shape();
  const double height = map_width * static_cast<double>(in[-2]) / static_cast<double>(in[-1]);
  std::string panels;
  double left = margin;
  for (const std::string& session : sessions) {
    panels += panel(model, session, left, height);
    left += map_width + margin;
  }
  const std::string width = number(left, 1), total = number(height + 2 * margin + caption, 1);
  write_file_atomically(
      path, text("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", width, "\" height=\"", total,
                 "\" viewBox=\"0 0 ", width, ' ', total,
                 "\" font-family=\"sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
                 panels, "</svg>\n"));
}

}  // namespace fovea

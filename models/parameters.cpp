#include "models/parameters.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fovea {
namespace {

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

/// As JSON, which has no numbers that are not finite.
std::string written(const Json& value) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) return text(value.get<double>());
  const auto word = [](const Json& scalar) {
    return scalar.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  if (!value.is_structured()) return word(value);
  std::string list(1, value.is_object() ? '{' : '[');
  for (const auto& [key, element] : value.items()) {
    if (list.size() > 1) list += ',';
    if (value.is_object()) list += word(key) + ':';
    list += written(element);
  }
  return list += value.is_object() ? '}' : ']';
}

}  // namespace

std::string shown(const Json& value) {
  constexpr std::size_t most = 80;
  const std::string all = written(value);
  return all.size() <= most ? all : all.substr(0, most) + "...";
}

void refuse_value(const std::string& where, const std::string& key, const std::string& rule,
                  const Json& value) {
  throw ConfigError(where, text(key, " must be ", rule, ": ", shown(value)));
}

std::string nearest_name(const std::string& name, const std::vector<std::string>& known) {
  std::string best;
  std::size_t least = std::numeric_limits<std::size_t>::max();
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

std::string nearest_hint(const Json& value, const std::vector<std::string>& known) {
  if (!value.is_string()) return {};
  return text("; did you mean '", nearest_name(value.get<std::string>(), known), "'?");
}

void refuse_name(const std::string& where, const std::string& key, const Json& value,
                 const std::vector<std::string>& known) {
  std::string rule = "one of";
  for (const std::string& name : known) rule += text(" '", name, '\'');
  refuse_value(where, key, rule + nearest_hint(value, known), value);
}

void check_name(const std::string& where, const std::string& key, const std::string& name,
                const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), name) == known.end()) refuse_name(where, key, name, known);
}

void refuse_key(const std::string& where, const std::string& key, const std::vector<std::string>& known) {
  std::string list;
  for (const std::string& name : known) list += (list.empty() ? "" : ", ") + name;
  throw ConfigError(where, text("unknown parameter '", key.substr(0, 80), "', did you mean '",
                                nearest_name(key, known), "'? Known: ", list));
}

void read_json(const std::string& where, const std::string& key, const Json& value, bool& into) {
  if (!value.is_boolean()) refuse_value(where, key, "true or false", value);
  into = value.get<bool>();
}

void read_json(const std::string& where, const std::string& key, const Json& value, std::int64_t& into) {
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() &&
       value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())))
    refuse_value(where, key, "a whole number", value);
  into = value.get<std::int64_t>();
}

void read_json(const std::string& where, const std::string& key, const Json& value, double& into) {
  if (!value.is_number()) refuse_value(where, key, "a number", value);
  into = value.get<double>();
}

void read_json(const std::string& where, const std::string& key, const Json& value, std::string& into) {
  if (!value.is_string()) refuse_value(where, key, "a text", value);
  into = value.get<std::string>();
}

void read_json(const std::string&, const std::string&, const Json& value, Json& into) { into = value; }

}  // namespace fovea

#include "training/yaml.hpp"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>

#include "fovea/error.hpp"

namespace fovea {
namespace {

constexpr int deepest = 32;
constexpr std::size_t most_values = 100000;
constexpr std::size_t most_bytes = 16 << 20;

bool is_one_of(const std::string& word, std::initializer_list<const char*> words) {
  for (const char* one : words)
    if (word == one) return true;
  return false;
}

/// The whole text as a number of type T.
template <class T>
bool parse_number(const std::string& text, T& value) {
  const char* begin = text.data() + (text.size() > 1 && text[0] == '+' && text[1] != '-' ? 1 : 0);
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, value);
  return error == std::errc() && stop == end;
}

Json plain_scalar(const std::string& word) {
  if (is_one_of(word, {"", "~", "null", "Null", "NULL", "None"})) return nullptr;
  if (is_one_of(word, {"true", "True", "TRUE"})) return true;
  if (is_one_of(word, {"false", "False", "FALSE"})) return false;
  if (is_one_of(word, {".inf", ".Inf", ".INF", "+.inf"})) return std::numeric_limits<double>::infinity();
  if (is_one_of(word, {"-.inf", "-.Inf", "-.INF"})) return -std::numeric_limits<double>::infinity();
  if (is_one_of(word, {".nan", ".NaN", ".NAN"})) return std::numeric_limits<double>::quiet_NaN();
  // from_chars takes words such as inf and nan too: a number starts with a sign, a digit or a point.
  if (word.find_first_of("+-.0123456789") != 0) return word;
  if (std::int64_t whole; parse_number(word, whole)) return whole;
  double real = 0;
  if (word.find_first_of("0123456789") != std::string::npos &&
      word.find_first_of("xXnN") == std::string::npos && parse_number(word, real))
    return real;
  return word;
}

class Converter {
 public:
  explicit Converter(std::string where) : where_(std::move(where)) {}

  Json convert(const YAML::Node& node, int depth = 0) {
    if (depth > deepest) fail(node, text("nested deeper than ", deepest, " levels"));
    if (++values_ > most_values) fail(node, text("more than ", most_values, " values"));
    switch (node.Type()) {
      case YAML::NodeType::Undefined:
      case YAML::NodeType::Null:
        return nullptr;
      case YAML::NodeType::Scalar:
        return node.Tag() == "!" ? Json(node.Scalar()) : plain_scalar(node.Scalar());
      case YAML::NodeType::Sequence: {
        Json list = Json::array();
        for (const YAML::Node& element : node) list.push_back(convert(element, depth + 1));
        return list;
      }
      case YAML::NodeType::Map:
        return convert_map(node, depth);
    }
    return nullptr;
  }

 private:
  Json convert_map(const YAML::Node& node, int depth) {
    Json map = Json::object();
    std::set<std::string> keys;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) fail(entry.first, "a key must be a word");
      const std::string key = entry.first.Scalar();
      if (!keys.insert(key).second) fail(entry.first, text("duplicate key '", key, "'"));
      map[key] = convert(entry.second, depth + 1);
    }
    return map;
  }

  [[noreturn]] void fail(const YAML::Node& node, const std::string& what) const {
    throw FormatError(where_, text("line ", node.Mark().line + 1, ": ", what));
  }

  std::string where_;
  std::size_t values_ = 0;
};

void emit(YAML::Emitter& out, const Json& value) {
  if (value.is_object()) {
    out << YAML::BeginMap;
    for (const auto& [key, element] : value.items()) {
      out << YAML::Key << key << YAML::Value;
      emit(out, element);
    }
    out << YAML::EndMap;
  } else if (value.is_array()) {
    out << YAML::Flow << YAML::BeginSeq;
    for (const Json& element : value) emit(out, element);
    out << YAML::EndSeq;
  } else if (value.is_string()) {
    const std::string word = value.get<std::string>();
    if (plain_scalar(word).is_string()) {
      out << word;
    } else {
      out << YAML::DoubleQuoted << word;
    }
  } else if (value.is_null()) {
    out << YAML::Null;
  } else if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const double number = value.get<double>();
    out << (std::isnan(number) ? ".nan" : number > 0 ? ".inf" : "-.inf");
  } else {
    out << value.dump();
  }
}

}  // namespace

Json parse_yaml(const std::string& where, const std::string& yaml) {
  if (yaml.size() > most_bytes)
    throw FormatError(where, text("larger than ", most_bytes, " bytes: ", yaml.size()));
  try {
    (void)Json(yaml).dump();
  } catch (const Json::type_error&) {
    throw FormatError(where, "not UTF-8");
  }
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(yaml);
    if (documents.size() > 1)
      throw FormatError(where, text("more than one YAML document: ", documents.size()));
    return documents.empty() ? Json() : Converter(where).convert(documents[0]);
  } catch (const YAML::Exception& error) {
    throw FormatError(where, text("line ", error.mark.line + 1, ": ", error.msg));
  }
}

Json parse_yaml_value(const std::string& where, const std::string& yaml) { return parse_yaml(where, yaml); }

Json read_yaml_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw FormatError(path, "cannot be read");
  std::string content(most_bytes + 1, '\0');
  file.read(content.data(), static_cast<std::streamsize>(content.size()));
  if (file.bad() || (file.fail() && !file.eof())) throw FormatError(path, "cannot be read");
  content.resize(static_cast<std::size_t>(file.gcount()));
  return parse_yaml(path, content);
}

void apply_override(Json& document, const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  const std::string path = assignment.substr(0, equals);
  if (equals == std::string::npos || path.empty() || path.front() == '.' || path.back() == '.' ||
      path.find("..") != std::string::npos)
    throw ConfigError("override", text("must be section.key=value: ", assignment));
  if (document.is_null()) document = Json::object();
  Json* at = &document;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t dot = std::min(path.find('.', begin), path.size());
    if (at->is_null()) *at = Json::object();
    if (!at->is_object())
      throw ConfigError("override",
                        text(path.substr(0, begin ? begin - 1 : 0), " is no section: ", assignment));
    at = &(*at)[path.substr(begin, dot - begin)];
    begin = dot + 1;
  }
  *at = parse_yaml_value(path, assignment.substr(equals + 1));
}

std::string write_yaml(const Json& document) {
  YAML::Emitter out;
  out.SetNullFormat(YAML::LowerNull);
  emit(out, document);
  return std::string(out.c_str()) + "\n";
}

}  // namespace fovea

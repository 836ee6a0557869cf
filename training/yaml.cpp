#include "training/yaml.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "engine/input_file.hpp"
#include "fovea/error.hpp"

namespace fovea {
namespace {

constexpr std::size_t deepest = 32;
constexpr std::size_t most_values = 100000;
constexpr std::size_t most_keys = 4096;  // of one map, whose keys are looked for one by one
constexpr std::size_t most_bytes = 1 << 20;

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

/// Builds the document from the parser's events, so that what is too deep or too much is refused before there
/// is a tree of it.
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(std::string where) : where_(std::move(where)) {}

  Json take() { return std::move(document_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) fail(mark, "more than one YAML document");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add(mark, anchor, nullptr); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "an alias inside its own value");
    count(mark, found->second, open_.size());
    add(mark, YAML::NullAnchor, found->second);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& word) override {
    if (awaits_key()) return open_key(mark, word);
    add(mark, anchor, tag == "!" ? Json(word) : plain_scalar(word));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, anchor, Json::array());
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, anchor, Json::object());
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Container {
    Json value;
    YAML::Mark mark;
    YAML::anchor_t anchor;
    std::optional<std::string> key;  // of a map: the key whose value comes next
  };

  bool awaits_key() const { return !open_.empty() && open_.back().value.is_object() && !open_.back().key; }

  void open_key(const YAML::Mark& mark, const std::string& key) {
    if (open_.back().value.size() == most_keys) fail(mark, text("more than ", most_keys, " keys"));
    if (open_.back().value.contains(key)) fail(mark, text("duplicate key '", key, "'"));
    open_.back().key = key;
  }

  void open(const YAML::Mark& mark, YAML::anchor_t anchor, Json empty) {
    if (awaits_key()) fail(mark, "a key must be a word");
    count(mark, empty, open_.size());
    open_.push_back({std::move(empty), mark, anchor, {}});
  }

  void close() {
    Container done = std::move(open_.back());
    open_.pop_back();
    add(done.mark, done.anchor, std::move(done.value));
  }

  void add(const YAML::Mark& mark, YAML::anchor_t anchor, Json value) {
    if (awaits_key()) fail(mark, "a key must be a word");
    if (value.is_primitive()) count(mark, value, open_.size());
    if (anchor != YAML::NullAnchor) anchors_[anchor] = value;
    if (open_.empty()) {
      document_ = std::move(value);
    } else if (Container& outer = open_.back(); outer.key) {
      outer.value[*std::exchange(outer.key, {})] = std::move(value);
    } else {
      outer.value.push_back(std::move(value));
    }
  }

  /// Text counts by its length, because aliases repeat it.
  void count(const YAML::Mark& mark, const Json& value, std::size_t depth) {
    constexpr std::size_t bytes_of_value = 64;
    if (depth > deepest) fail(mark, text("nested deeper than ", deepest, " levels"));
    values_ += 1 + (value.is_string() ? value.get_ref<const std::string&>().size() / bytes_of_value : 0);
    if (values_ > most_values) fail(mark, text("more than ", most_values, " values"));
    if (!value.is_structured()) return;
    for (const auto& [key, element] : value.items()) {
      if (value.is_object()) values_ += key.size() / bytes_of_value;
      count(mark, element, depth + 1);
    }
  }

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& what) const {
    throw FormatError(where_, text("line ", mark.line + 1, ": ", what));
  }

  std::string where_;
  Json document_;
  std::vector<Container> open_;
  std::map<YAML::anchor_t, Json> anchors_;
  std::size_t values_ = 0, documents_ = 0;
};

/// UTF-8 without control characters: yaml-cpp takes some for the end of the text, others for another
/// encoding.
void check_characters(const std::string& where, const std::string& yaml) {
  try {
    (void)Json(yaml).dump();
  } catch (const Json::type_error&) {
    throw FormatError(where, "not UTF-8");
  }
  std::size_t line = 1;
  for (const char c : yaml) {
    line += c == '\n';
    if (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' && c != '\r')
      throw FormatError(where, text("line ", line, ": a control character: ", static_cast<int>(c)));
  }
}

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
    const bool controls = std::any_of(word.begin(), word.end(), [](unsigned char c) { return c < 0x20; });
    if (plain_scalar(word).is_string() && !controls) {
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
  check_characters(where, yaml);
  // The end is said explicitly, because yaml-cpp accepts quotes that the end of the text leaves open.
  std::istringstream stream(yaml + "\n...\n");
  Builder builder(where);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) continue;
  } catch (const YAML::Exception& error) {
    const bool open_quote = error.msg == YAML::ErrorMsg::DOC_IN_SCALAR;
    throw FormatError(
        where, text("line ", error.mark.line + 1, ": ", open_quote ? "a quote is left open" : error.msg));
  }
  return builder.take();
}

Json parse_yaml_value(const std::string& where, const std::string& yaml) { return parse_yaml(where, yaml); }

Json read_yaml_file(const std::string& path) {
  std::ifstream file = open_input(path);
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

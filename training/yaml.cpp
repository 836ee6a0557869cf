#include "training/yaml.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "engine/input_file.hpp"
#include "models/parameters.hpp"
#include "training/yaml_scalars.hpp"

namespace fovea {
namespace {

constexpr std::size_t deepest = 32;
constexpr std::size_t most_values = 100000;
// In bytes: YAML reads no key back that takes over 1024 characters with its escapes.
constexpr std::size_t longest_key = 200;
constexpr std::size_t most_keys = 4096;  // of one map, whose keys are looked for one by one
constexpr std::size_t most_bytes = 1 << 20;

bool is_utf8(const std::string& text) {
  try {
    (void)Json(text).dump();
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
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
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (tuple_) return pass_null();
    add(mark, anchor, nullptr);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_inside_tuple();
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "an alias inside its own value");
    count(mark, found->second, open_.size());
    add(mark, YAML::NullAnchor, found->second);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& word) override {
    // yaml-cpp turns these two into single bytes.
    if (!is_utf8(word)) fail(mark, R"(a text with the escape \_ or \N, which are not supported)");
    const bool plain = tag != "!";
    if (tuple_) return add_to_tuple(plain, anchor, word);
    if (awaits_key()) return open_key(mark, word);
    if (plain && TupleText::begins(word)) return begin_tuple(mark, anchor, word);
    add(mark, anchor, plain ? plain_word(word) : Json(word));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    open(mark, anchor, Json::array(), style);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    open(mark, anchor, Json::object(), style);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Container {
    Json value;
    YAML::Mark mark;
    YAML::anchor_t anchor;
    bool brackets;                   // [..] or {..}, not by indentation
    std::optional<std::string> key;  // of a map: the key whose value comes next
  };

  /// A Python tuple that the commas of brackets or braces cut into pieces. In braces the pieces after the
  /// first look like keys without a value.
  struct OpenTuple {
    TupleText text;
    YAML::Mark mark;
    YAML::anchor_t anchor;
    std::size_t pieces = 1;
    bool null_next = false;
  };

  bool awaits_key() const { return !open_.empty() && open_.back().value.is_object() && !open_.back().key; }

  void open_key(const YAML::Mark& mark, const std::string& key) {
    if (key.size() > longest_key)
      fail(mark, text("a key has at most ", longest_key, " bytes: ", key.substr(0, 40), "..."));
    if (open_.back().value.size() == most_keys) fail(mark, text("more than ", most_keys, " keys"));
    if (open_.back().value.contains(key)) fail(mark, text("duplicate key '", key, "'"));
    open_.back().key = key;
  }

  void begin_tuple(const YAML::Mark& mark, YAML::anchor_t anchor, const std::string& word) {
    tuple_ = OpenTuple{TupleText(word), mark, anchor};
    if (!tuple_->text.open()) return end_tuple();
    if (open_.empty() || !open_.back().brackets) refuse_inside_tuple();
  }

  void add_to_tuple(bool plain, YAML::anchor_t anchor, const std::string& word) {
    if (!plain || anchor != YAML::NullAnchor || tuple_->null_next) refuse_inside_tuple();
    tuple_->text.add(word);
    ++tuple_->pieces;
    tuple_->null_next = open_.back().value.is_object();
    if (!tuple_->text.open() && !tuple_->null_next) end_tuple();
  }

  void pass_null() {
    if (!std::exchange(tuple_->null_next, false)) refuse_inside_tuple();
    if (!tuple_->text.open()) end_tuple();
  }

  void end_tuple() {
    const OpenTuple done = *std::exchange(tuple_, {});
    if (!done.text.whole() && done.pieces > 1)
      fail(done.mark, text("text after a tuple: ", shown(done.text.text())));
    if (!done.text.whole()) return add(done.mark, done.anchor, done.text.text());
    try {
      Json value = done.text.value(deepest);
      count(done.mark, value, open_.size());
      add(done.mark, done.anchor, std::move(value));
    } catch (const TupleError& error) {
      fail(done.mark, error.what());
    }
  }

  /// What cannot be a part of the tuple that is open.
  void refuse_inside_tuple() const {
    if (tuple_)
      fail(tuple_->mark, text("a tuple is left open, or a text that begins with ( has no quotes: ",
                              shown(tuple_->text.text())));
  }

  void open(const YAML::Mark& mark, YAML::anchor_t anchor, Json empty, YAML::EmitterStyle::value style) {
    refuse_inside_tuple();
    if (awaits_key()) fail(mark, "a key must be a word");
    count(mark, empty, open_.size());
    open_.push_back({std::move(empty), mark, anchor, style == YAML::EmitterStyle::Flow, {}});
  }

  void close() {
    refuse_inside_tuple();
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
  std::optional<OpenTuple> tuple_;
  std::map<YAML::anchor_t, Json> anchors_;
  std::size_t values_ = 0, documents_ = 0;
};

/// UTF-8 without control characters: yaml-cpp takes some for the end of the text, others for another
/// encoding.
void check_characters(const std::string& where, const std::string& yaml) {
  if (!is_utf8(yaml)) throw FormatError(where, "not UTF-8");
  std::size_t line = 1;
  for (const char c : yaml) {
    line += c == '\n';
    if (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' && c != '\r')
      throw FormatError(where, text("line ", line, ": a control character: ", static_cast<int>(c)));
  }
}

/// yaml-cpp writes a word without quotes that it takes for a mark between documents at the begin of a line.
bool begins_with_mark(const std::string& word) { return word.starts_with("---") || word.starts_with("..."); }

YAML::Emitter& emit_word(YAML::Emitter& out, const std::string& word, bool quoted) {
  if (quoted || begins_with_mark(word)) out << YAML::DoubleQuoted;
  return out << word;
}

void emit(YAML::Emitter& out, const Json& value) {
  if (value.is_object()) {
    out << YAML::BeginMap;
    for (const auto& [key, element] : value.items()) {
      emit_word(out << YAML::Key, key, false) << YAML::Value;
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
    emit_word(out, word, !plain_word(word).is_string() || TupleText::begins(word) || controls);
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

#include "training/yaml_scalars.hpp"

#include <charconv>
#include <limits>

#include "models/parameters.hpp"

namespace fovea {
namespace {

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

bool opens(char c) { return c == '(' || c == '['; }
char closing(char c) { return c == '(' ? ')' : ']'; }
bool closes(char c) { return c == ')' || c == ']'; }
/// Quotes count where an element begins: the one of don't does not.
bool quotes(char c, char before) { return (c == '\'' || c == '"') && (opens(before) || before == ','); }

/// One tuple or list and what is inside.
class TupleReader {
 public:
  TupleReader(const std::string& text, std::size_t deepest) : text_(text), deepest_(deepest) {}

  Json list(std::size_t depth) {
    if (depth > deepest_) throw TupleError(text("nested deeper than ", deepest_, " levels"));
    const char begin = text_[at_++], end = closing(begin);
    Json result = Json::array();
    bool comma = true;  // whether the next element may come
    for (skip_spaces(); here() != end; skip_spaces()) {
      if (!comma) throw TupleError(text("a comma is missing in ", shown(text_)));
      result.push_back(element(depth));
      skip_spaces();
      comma = here() == ',';
      at_ += comma;
    }
    ++at_;
    if (begin == '(' && result.size() == 1 && !comma)
      throw TupleError(text("a tuple of one element ends with a comma, a text has quotes: ", shown(text_)));
    return result;
  }

 private:
  char here() const {
    if (at_ >= text_.size()) throw TupleError(text("a tuple is left open: ", shown(text_)));
    return text_[at_];
  }
  void skip_spaces() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  Json element(std::size_t depth) {
    const char first = here();
    if (opens(first)) return list(depth + 1);
    if (first == '\'' || first == '"') {
      const std::size_t end = text_.find(first, at_ + 1);
      if (end == std::string::npos) throw TupleError(text("a quote is left open: ", shown(text_)));
      const std::string word = text_.substr(at_ + 1, end - at_ - 1);
      if (word.find('\\') != std::string::npos)
        throw TupleError(text("no backslash in a tuple, use a list in brackets: ", shown(text_)));
      at_ = end + 1;
      return word;
    }
    const std::size_t begin = at_;
    while (here() != ',' && !closes(here())) {
      if (opens(here()) || here() == '{' || here() == '}')
        throw TupleError(text("no ", here(), " inside a word of a tuple: ", shown(text_)));
      ++at_;
    }
    std::size_t end = at_;
    while (end > begin && text_[end - 1] == ' ') --end;
    if (end == begin) throw TupleError(text("an element is missing in ", shown(text_)));
    return plain_word(text_.substr(begin, end - begin));
  }

  const std::string& text_;
  std::size_t deepest_, at_ = 0;
};

}  // namespace

Json plain_word(const std::string& word) {
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

void TupleText::add(const std::string& piece) {
  const std::size_t start = text_.size();
  text_ += (text_.empty() ? "" : ", ") + piece;
  for (std::size_t i = start; i < text_.size(); ++i) {
    const char c = text_[i];
    if (c == ' ') continue;
    if (open_.empty() && i > 0) trailing_ = true;
    if (quote_) {
      if (c == quote_) quote_ = 0;
    } else if (quotes(c, before_)) {
      quote_ = c;
    } else if (opens(c)) {
      open_ += c;
    } else if (!open_.empty() && c == closing(open_.back())) {
      open_.pop_back();
    }
    before_ = c;
  }
}

Json TupleText::value(std::size_t deepest) const { return TupleReader(text_, deepest).list(1); }

}  // namespace fovea

// Plain scalars of a configuration: words as YAML and Python write them, and Python's tuples.
#pragma once
#include <stdexcept>
#include <string>

#include "models/json.hpp"

namespace fovea {

/// Null (also None, ~ and nothing), a boolean (true, True ..), a number (1e-4 as well) or text.
Json plain_word(const std::string& word);

/// What is wrong with a tuple; the caller knows the line.
class TupleError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A tuple such as (2, 150, 18, 16), ((1, 2), (3,)) or ('abs', None). Inside YAML's brackets and braces the
/// commas cut it into pieces, which are added one by one. Takes time linear in the text.
class TupleText {
 public:
  /// Whether a plain scalar begins like one.
  static bool begins(const std::string& word) { return !word.empty() && word.front() == '('; }

  explicit TupleText(const std::string& word) { add(word); }
  void add(const std::string& piece);

  bool open() const { return !open_.empty(); }
  /// Whether the text ends with the tuple, unlike "(a) first choice".
  bool whole() const { return open_.empty() && !trailing_; }
  const std::string& text() const { return text_; }

  /// The tuple as nested lists; brackets inside are lists as well. TupleError where it is none, or nested
  /// deeper than `deepest` levels.
  Json value(std::size_t deepest) const;

 private:
  std::string text_, open_;      // the brackets that are open
  char quote_ = 0, before_ = 0;  // the quote that is open; the last character that was no space
  bool trailing_ = false;
};

}  // namespace fovea

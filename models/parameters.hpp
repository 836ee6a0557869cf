// Parameter tables: one list per class of parameters (name, type, default, documentation) that drives
// parsing, error messages, the completed configuration and the documentation.
#pragma once
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "fovea/error.hpp"
#include "models/json.hpp"

namespace fovea {

/// A value as a message can show it: long ones are cut, numbers that are not finite are nan and inf.
std::string shown(const Json& value);

/// Throws ConfigError "[where] <key> must be <rule>: <value>".
[[noreturn]] void refuse_value(const std::string& where, const std::string& key, const std::string& rule,
                               const Json& value);

/// The known name with the smallest edit distance.
std::string nearest_name(const std::string& name, const std::vector<std::string>& known);

/// "; did you mean '<nearest>'?" for a text, nothing for another value.
std::string nearest_hint(const Json& value, const std::vector<std::string>& known);

/// "<key> must be one of 'a' 'b'; did you mean 'a'?: <value>" as a ConfigError.
[[noreturn]] void refuse_name(const std::string& where, const std::string& key, const Json& value,
                              const std::vector<std::string>& known);
/// The same where the name is none of the known ones.
void check_name(const std::string& where, const std::string& key, const std::string& name,
                const std::vector<std::string>& known);

/// The key of an element of a list, as messages name it.
inline std::string element_key(const std::string& key, std::size_t index) {
  return text(key, '[', index, ']');
}

/// "unknown key 'x'; did you mean 'y'? Known: ..." as a ConfigError.
[[noreturn]] void refuse_key(const std::string& where, const std::string& key,
                             const std::vector<std::string>& known);

// Typed reading of one value; the error says what the type is.
void read_json(const std::string& where, const std::string& key, const Json& value, bool& into);
void read_json(const std::string& where, const std::string& key, const Json& value, std::int64_t& into);
void read_json(const std::string& where, const std::string& key, const Json& value, double& into);
void read_json(const std::string& where, const std::string& key, const Json& value, std::string& into);
void read_json(const std::string& where, const std::string& key, const Json& value, Json& into);

template <class T>
void read_json(const std::string& where, const std::string& key, const Json& value, std::optional<T>& into);

template <class T>
void read_json(const std::string& where, const std::string& key, const Json& value, std::vector<T>& into) {
  if (!value.is_array()) refuse_value(where, key, "a list", value);
  into.clear();
  for (std::size_t i = 0; i < value.size(); ++i)
    read_json(where, element_key(key, i), value[i], into.emplace_back());
}

template <class T, std::size_t N>
void read_json(const std::string& where, const std::string& key, const Json& value, std::array<T, N>& into) {
  if (!value.is_array() || value.size() != N) refuse_value(where, key, text("a list of ", N), value);
  for (std::size_t i = 0; i < N; ++i) read_json(where, element_key(key, i), value[i], into[i]);
}

template <class T>
void read_json(const std::string& where, const std::string& key, const Json& value, std::optional<T>& into) {
  if (value.is_null()) {
    into.reset();
  } else {
    read_json(where, key, value, into.emplace());
  }
}

template <class T>
Json write_json(const T& value) {
  return Json(value);
}
template <class T>
Json write_json(const std::optional<T>& value) {
  return value ? write_json(*value) : Json(nullptr);
}

/// What a value must satisfy besides its type: throws the ConfigError of refuse_value where it does not; an
/// empty one takes every value.
template <class T>
using Check = std::function<void(const std::string& where, const std::string& key, const T& value)>;

/// A rule in words and its test.
template <class T, class Test>
Check<T> must_be(const std::string& rule, Test holds) {
  return [=](const std::string& where, const std::string& key, const T& value) {
    if (!holds(value)) refuse_value(where, key, rule, write_json(value));
  };
}

template <class T>
Check<T> at_least(T least) {
  return must_be<T>(text("at least ", least), [=](const T& value) { return value >= least; });
}
inline Check<double> finite_at_least(double least) {
  return must_be<double>(text("a finite number of at least ", least),
                         [=](double value) { return std::isfinite(value) && value >= least; });
}
inline Check<double> finite_above(double bound) {
  return must_be<double>(text("a finite number above ", bound),
                         [=](double value) { return std::isfinite(value) && value > bound; });
}
inline Check<double> finite() {
  return must_be<double>("a finite number", [](double value) { return std::isfinite(value); });
}
inline Check<std::string> one_of(const std::vector<std::string>& names) {
  return [=](const std::string& where, const std::string& key, const std::string& value) {
    check_name(where, key, value, names);
  };
}

/// Every element of a list; the message names the one that is wrong.
template <class List>
Check<List> each(const Check<typename List::value_type>& check) {
  return [=](const std::string& where, const std::string& key, const List& list) {
    for (std::size_t i = 0; i < list.size(); ++i) check(where, element_key(key, i), list[i]);
  };
}
template <class T>
Check<std::vector<T>> at_least_one(const Check<T>& check) {
  return [=](const std::string& where, const std::string& key, const std::vector<T>& list) {
    if (list.empty()) refuse_value(where, key, "a list of at least one number", write_json(list));
    each<std::vector<T>>(check)(where, key, list);
  };
}
template <class T>
Check<std::optional<T>> when_given(const Check<T>& check) {
  return [=](const std::string& where, const std::string& key, const std::optional<T>& value) {
    if (value) check(where, key, *value);
  };
}

template <class Options>
class ParameterTable {
 public:
  struct Entry {
    std::string name, type, documentation;
    bool required = false;
    std::function<void(const std::string& where, const Json&, Options&)> read;
    std::function<Json(const Options&)> write;
  };

  explicit ParameterTable(std::string class_name) : class_name_(std::move(class_name)) {}

  /// A parameter whose default is the member's initialiser.
  template <class T>
  ParameterTable& add(const std::string& name, T Options::*member, const std::string& type,
                      const std::string& documentation, Check<T> check = {}) {
    return insert(name, member, type, documentation, check, false);
  }
  /// A parameter without a default.
  template <class T>
  ParameterTable& require(const std::string& name, T Options::*member, const std::string& type,
                          const std::string& documentation, Check<T> check = {}) {
    return insert(name, member, type, documentation, check, true);
  }

  /// A parameter that is not simply one member.
  ParameterTable& add_custom(const std::string& name, const std::string& type,
                             const std::string& documentation,
                             std::function<void(const std::string& where, const Json&, Options&)> read,
                             std::function<Json(const Options&)> write) {
    entries_.push_back({name, type, documentation, false, std::move(read), std::move(write)});
    return *this;
  }

  const std::string& class_name() const { return class_name_; }
  const std::vector<Entry>& entries() const { return entries_; }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const Entry& entry : entries_) result.push_back(entry.name);
    return result;
  }

  /// Reads an object; keys in `others` belong to somebody else. Anything unknown, missing or wrong is a
  /// ConfigError.
  Options parse(const Json& object, const std::vector<std::string>& others = {}) const {
    return parse(class_name_, object, others);
  }
  /// The same where the object is found in more than one place: `where` says in which.
  Options parse(const std::string& where, const Json& object, const std::vector<std::string>& others) const {
    if (!object.is_object()) throw ConfigError(where, text("must be a map of parameters: ", shown(object)));
    std::vector<std::string> known = names();
    known.insert(known.end(), others.begin(), others.end());
    for (const auto& [key, value] : object.items()) {
      bool found = false;
      for (const std::string& name : known) found = found || name == key;
      if (!found) refuse_key(where, key, known);
    }
    Options options;
    for (const Entry& entry : entries_) {
      const auto value = object.find(entry.name);
      if (value != object.end()) {
        entry.read(where, *value, options);
      } else if (entry.required) {
        throw ConfigError(where, text("missing parameter '", entry.name, "' (", entry.type, ")"));
      }
    }
    return options;
  }

  Json write(const Options& options) const {
    Json object = Json::object();
    for (const Entry& entry : entries_) object[entry.name] = entry.write(options);
    return object;
  }
  /// The same with its `class` in front: a section that another one contains.
  Json write_section(const Options& options) const {
    Json section{{"class", class_name_}};
    section.update(write(options));
    return section;
  }

 private:
  template <class T>
  ParameterTable& insert(const std::string& name, T Options::*member, const std::string& type,
                         const std::string& documentation, Check<T> check, bool required) {
    const auto read = [=](const std::string& where, const Json& value, Options& options) {
      read_json(where, name, value, options.*member);
      if (check) check(where, name, options.*member);
    };
    entries_.push_back({name, type, documentation, required, read,
                        [=](const Options& options) { return write_json(options.*member); }});
    return *this;
  }

  std::string class_name_;
  std::vector<Entry> entries_;
};

}  // namespace fovea

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

/// A value as a message can show it: long ones are cut.
std::string shown(const Json& value);

/// Throws ConfigError "[where] <key> must be <rule>: <value>".
[[noreturn]] void refuse_value(const std::string& where, const std::string& key, const std::string& rule,
                               const Json& value);

/// The known name with the smallest edit distance.
std::string nearest_name(const std::string& name, const std::vector<std::string>& known);

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
void read_json(const std::string& where, const std::string& key, const Json& value, std::vector<T>& into) {
  if (!value.is_array()) refuse_value(where, key, "a list", value);
  into.clear();
  for (const Json& element : value) read_json(where, key, element, into.emplace_back());
}

template <class T, std::size_t N>
void read_json(const std::string& where, const std::string& key, const Json& value, std::array<T, N>& into) {
  if (!value.is_array() || value.size() != N) refuse_value(where, key, text("a list of ", N), value);
  for (std::size_t i = 0; i < N; ++i) read_json(where, key, value[i], into[i]);
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

/// What a value must satisfy besides its type: a rule in words and a test; an empty rule always holds.
template <class T>
struct Check {
  std::string rule;
  std::function<bool(const T&)> holds;
};

template <class T>
Check<T> at_least(T least) {
  return {text("at least ", least), [=](const T& value) { return value >= least; }};
}
inline Check<double> finite_at_least(double least) {
  return {text("a finite number of at least ", least),
          [=](const double& value) { return std::isfinite(value) && value >= least; }};
}
inline Check<double> finite_above(double bound) {
  return {text("a finite number above ", bound),
          [=](const double& value) { return std::isfinite(value) && value > bound; }};
}
inline Check<double> finite() {
  return {"a finite number", [](const double& value) { return std::isfinite(value); }};
}
template <class T>
Check<std::vector<T>> each_at_least(T least) {
  return {text("a list of at least one number, each at least ", least), [=](const std::vector<T>& values) {
            for (const T& value : values)
              if (!(value >= least)) return false;
            return !values.empty();
          }};
}
inline Check<std::string> one_of(const std::vector<std::string>& names) {
  std::string rule = "one of";
  for (const std::string& name : names) rule += " '" + name + "'";
  return {rule, [names](const std::string& value) {
            for (const std::string& name : names)
              if (name == value) return true;
            return false;
          }};
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
    if (!object.is_object())
      throw ConfigError(class_name_, text("must be a map of parameters: ", shown(object)));
    std::vector<std::string> known = names();
    known.insert(known.end(), others.begin(), others.end());
    for (const auto& [key, value] : object.items()) {
      bool found = false;
      for (const std::string& name : known) found = found || name == key;
      if (!found) refuse_key(class_name_, key, known);
    }
    Options options;
    for (const Entry& entry : entries_) {
      const auto value = object.find(entry.name);
      if (value != object.end()) {
        entry.read(class_name_, *value, options);
      } else if (entry.required) {
        throw ConfigError(class_name_, text("missing parameter '", entry.name, "' (", entry.type, ")"));
      }
    }
    return options;
  }

  Json write(const Options& options) const {
    Json object = Json::object();
    for (const Entry& entry : entries_) object[entry.name] = entry.write(options);
    return object;
  }

 private:
  template <class T>
  ParameterTable& insert(const std::string& name, T Options::*member, const std::string& type,
                         const std::string& documentation, Check<T> check, bool required) {
    const auto read = [=](const std::string& where, const Json& value, Options& options) {
      read_json(where, name, value, options.*member);
      if (check.holds && !check.holds(options.*member)) refuse_value(where, name, check.rule, value);
    };
    entries_.push_back({name, type, documentation, required, read,
                        [=](const Options& options) { return write_json(options.*member); }});
    return *this;
  }

  std::string class_name_;
  std::vector<Entry> entries_;
};

}  // namespace fovea

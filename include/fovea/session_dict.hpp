// Values by session key, in the order in which they were added: Python's dict.
#pragma once
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "fovea/error.hpp"

namespace fovea {

template <class T>
class SessionDict {
 public:
  SessionDict() = default;
  SessionDict(std::initializer_list<std::pair<std::string, T>> entries) : entries_(entries) {}

  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }
  std::size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }
  /// ConfigError for a key that is there already.
  void add(const std::string& key, T value) {
    for (const auto& [known, other] : entries_)
      if (known == key) throw ConfigError("SessionDict", "key twice: " + key);
    entries_.emplace_back(key, std::move(value));
  }
  /// ConfigError that lists the known keys for another one.
  const T& operator[](const std::string& key) const {
    std::string keys;
    for (const auto& [known, value] : entries_) {
      if (known == key) return value;
      keys += (keys.empty() ? "" : ", ") + known;
    }
    throw ConfigError("SessionDict", "unknown key '" + key + "'. Known: " + keys);
  }
  std::vector<std::string> keys() const {
    std::vector<std::string> all;
    for (const auto& [key, value] : entries_) all.push_back(key);
    return all;
  }

 private:
  std::vector<std::pair<std::string, T>> entries_;
};

}  // namespace fovea

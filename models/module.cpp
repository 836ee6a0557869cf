#include "fovea/module.hpp"

namespace fovea {

Tensor Module::add_tensor(const std::string& name, Role role, const Tensor& tensor) {
  members_.push_back({name, tensor, role, nullptr});
  return tensor;
}

void Module::add_child(const std::string& name, Module& child) {
  members_.push_back({name, {}, Role::parameter, &child});
}

void Module::collect(const std::string& prefix, std::vector<NamedTensor>& into) const {
  for (const Member& member : members_) {
    if (member.child) {
      member.child->collect(prefix + member.name + ".", into);
    } else {
      into.push_back({prefix + member.name, member.tensor, member.role, frozen_ || member.frozen});
    }
  }
}

std::vector<NamedTensor> Module::tensors() const {
  std::vector<NamedTensor> all;
  collect("", all);
  return all;
}

std::int64_t Module::parameter_count() const {
  std::int64_t count = 0;
  for (const NamedTensor& one : tensors())
    if (one.role == Role::parameter) count += one.tensor.elements();
  return count;
}

bool Module::freeze(const std::string& prefix) {
  if (!prefix.empty() && prefix.back() == '.') return freeze(prefix.substr(0, prefix.size() - 1));
  bool any = false;
  for (Member& member : members_) {
    const bool covers = prefix.empty() || member.name == prefix;
    if (member.child) {
      const std::string path = member.name + ".";
      if (covers) {
        member.child->frozen_ = true;
        any = member.child->freeze("") || true;
      } else if (prefix.compare(0, path.size(), path) == 0) {
        any = member.child->freeze(prefix.substr(path.size())) || any;
      }
    } else if (covers) {
      member.frozen = true;
      member.tensor.set_requires_grad(false);
      any = true;
    }
  }
  return any;
}

}  // namespace fovea

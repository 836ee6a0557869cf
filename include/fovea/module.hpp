// Module: named tensors and children, as torch.nn.Module.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "fovea/random.hpp"
#include "fovea/tensor.hpp"

namespace fovea {

/// What a tensor of a module is for.
enum class Role {
  parameter,  ///< learnt: gets a gradient and an optimizer step
  constant,   ///< stored but never learnt
  statistic,  ///< updated by training passes (batch norm)
};

struct NamedTensor {
  std::string name;  ///< PyTorch's state_dict name
  Tensor tensor;
  Role role;
  bool frozen = false;  ///< excluded from training by Module::freeze
};

/// How a forward pass runs.
struct Pass {
  bool training = false;     ///< batch statistics, dropout, readouts that sample
  Random* random = nullptr;  ///< draws of a training pass; null switches dropout and sampling off
  bool dropout = true;       ///< false switches dropout alone off

  bool drops_out() const { return training && random && dropout; }
};

/// Base of layers and models. Tensors are registered at construction under PyTorch's names.
class Module {
 public:
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// All tensors of this module and its children, in the order of registration (PyTorch's state_dict order).
  std::vector<NamedTensor> tensors() const;
  /// Number of learnable values.
  std::int64_t parameter_count() const;
  /// Excludes all tensors under a name (a whole name, or the part of one before a dot: "core", "readout.a")
  /// from training: no gradient, and batch norm uses its running statistics. Returns whether the name exists.
  bool freeze(const std::string& prefix);
  bool frozen() const { return frozen_; }

 protected:
  Module() = default;
  /// Registers a new tensor, uninitialised but for statistics and constants that the caller fills.
  Tensor add_tensor(const std::string& name, Role role, const Tensor& tensor);
  /// Registers a child whose tensors are found under `name.`; it must live as long as this module.
  void add_child(const std::string& name, Module& child);

 private:
  void collect(const std::string& prefix, std::vector<NamedTensor>& into) const;

  struct Member {
    std::string name;
    Tensor tensor;  // undefined: a child
    Role role = Role::parameter;
    Module* child = nullptr;
    bool frozen = false;
  };
  std::vector<Member> members_;
  bool frozen_ = false;
};

/// Where the tensors of a new module live.
struct Placement {
  Device device;
  DType dtype = DType::f32;
};

}  // namespace fovea

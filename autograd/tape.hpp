// The tape: nodes that ops record, walked in reverse order of creation by backward() (tape.cpp, the only file
// that knows the graph).
#pragma once
#include <initializer_list>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/backend.hpp"
#include "engine/queue.hpp"
#include "fovea/autograd.hpp"
#include "fovea/tensor.hpp"

namespace fovea {

class Node;

/// What autograd knows of a tensor.
struct AutogradState {
  bool requires_grad = false;
  std::shared_ptr<Node> producer;  // null for a leaf
  Tensor grad;                     // leaf: gradient memory
  bool grad_filled = false;        // leaf: whether the memory holds a gradient
};

/// Where a backward function writes the gradient of one input; false when nobody needs it.
struct GradientBuffer {
  Tensor tensor;
  Write mode = Write::overwrite;

  explicit operator bool() const { return tensor.defined(); }
  template <class T>
  T* data() const {
    return tensor ? tensor.data<T>() : nullptr;
  }
};

/// What a node knows of an input. Its values live on only if the node keeps them for backward.
struct NodeInput {
  std::shared_ptr<AutogradState> state;  // null where no gradient is wanted
  Shape shape;
  DType dtype;
  Device device;
};

/// One recorded op with a single output. A derived struct keeps what its backward needs as plain members;
/// they are freed when it has run, or by the backward function itself, before it asks for memory.
class Node {
 public:
  Node() = default;
  Node(const Node&) = default;
  Node(Node&&) = default;
  virtual ~Node();
  /// d_output has the shape of the op's output. Writes through input_gradient or pass_gradient.
  virtual void backward(const Tensor& d_output) = 0;

 protected:
  /// Memory for d loss / d input `index`, with the mode to write it in. Must then be written.
  GradientBuffer input_gradient(std::size_t index);
  /// The same for a backward function that reads every element of d_output before it writes this one: memory
  /// of d_output where nothing else needs it.
  GradientBuffer input_gradient_over(std::size_t index, const Tensor& d_output);
  bool needs_gradient(std::size_t index) const;
  /// Hands over a finished gradient that nobody else will write to.
  void pass_gradient(std::size_t index, const Tensor& gradient);

 private:
  friend void record_node(const Tensor& output, const std::vector<Tensor>& inputs,
                          std::shared_ptr<Node> node);
  friend void backward(const Tensor& loss, const Tensor& seed);

  std::vector<NodeInput> inputs_;
  std::weak_ptr<AutogradState> output_;
  std::uint64_t sequence_ = 0;
  Tensor d_output_;  // gradient gathered so far
  bool d_output_filled_ = false;
};

/// Whether an op on these inputs has to record a node.
bool needs_record(std::initializer_list<Tensor> inputs);
bool needs_record(const std::vector<Tensor>& inputs);

/// Makes `node` the producer of `output`. Undefined inputs are allowed and never need a gradient.
void record_node(const Tensor& output, const std::vector<Tensor>& inputs, std::shared_ptr<Node> node);

template <class NodeType>
void record(const Tensor& output, const std::vector<Tensor>& inputs, NodeType node) {
  record_node(output, inputs, std::make_shared<NodeType>(std::move(node)));
}

}  // namespace fovea

#include "autograd/tape.hpp"

#include <algorithm>
#include <atomic>
#include <unordered_set>

#include "autograd/op.hpp"
#include "engine/storage.hpp"

namespace fovea {
namespace {

thread_local bool recording = true;

std::uint64_t next_sequence() {
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

AutogradState* state_of(const Tensor& tensor) {
  return tensor.defined() ? tensor.body().autograd.get() : nullptr;
}

AutogradState& ensure_state(const Tensor& tensor) {
  auto& state = tensor.body().autograd;
  if (!state) state = std::make_shared<AutogradState>();
  return *state;
}

bool needed(const AutogradState* state) { return state && (state->requires_grad || state->producer); }
bool wants_gradient(const Tensor& tensor) { return needed(state_of(tensor)); }

void add(const Tensor& to, const Tensor& from, Write mode) {
  dispatch("backward", to.dtype(), [&]<class T>() {
    tables<T>(to.device()).elementwise.add(to.data<T>(), from.data<T>(), to.elements(), mode, queue_of(to));
  });
}

/// The graph below `loss`, consumers before producers.
std::vector<std::shared_ptr<Node>> reachable(
    const std::shared_ptr<Node>& root,
    const std::function<const std::vector<NodeInput>&(const Node&)>& inputs,
    const std::function<std::uint64_t(const Node&)>& sequence) {
  std::vector<std::shared_ptr<Node>> found{root};
  std::unordered_set<const Node*> seen{root.get()};
  for (std::size_t next = 0; next < found.size(); ++next) {
    const std::shared_ptr<Node> node = found[next];
    for (const NodeInput& input : inputs(*node)) {
      const AutogradState* state = input.state.get();
      if (state && state->producer && seen.insert(state->producer.get()).second)
        found.push_back(state->producer);
    }
  }
  std::sort(found.begin(), found.end(),
            [&](const auto& a, const auto& b) { return sequence(*a) > sequence(*b); });
  return found;
}

}  // namespace

NoGrad::NoGrad() : before_(recording) { recording = false; }
NoGrad::~NoGrad() { recording = before_; }
bool grad_enabled() { return recording; }

bool needs_record(const std::vector<Tensor>& inputs) {
  return recording && std::any_of(inputs.begin(), inputs.end(), wants_gradient);
}

bool needs_record(std::initializer_list<Tensor> inputs) {
  return recording && std::any_of(inputs.begin(), inputs.end(), wants_gradient);
}

void record_node(const Tensor& output, const std::vector<Tensor>& inputs, std::shared_ptr<Node> node) {
  for (const Tensor& input : inputs)
    node->inputs_.push_back(
        wants_gradient(input) ? NodeInput{input.body().autograd, input.shape(), input.dtype(), input.device()}
                              : NodeInput{nullptr, {}, output.dtype(), output.device()});
  node->sequence_ = next_sequence();
  AutogradState& state = ensure_state(output);
  node->output_ = output.body().autograd;
  state.producer = std::move(node);
}

// A graph that is dropped without a backward pass is freed node by node instead of by recursion.
Node::~Node() {
  std::vector<NodeInput> pending = std::move(inputs_);
  while (!pending.empty()) {
    const NodeInput input = std::move(pending.back());
    pending.pop_back();
    if (!input.state || input.state.use_count() != 1 || !input.state->producer ||
        input.state->producer.use_count() != 1)
      continue;
    for (NodeInput& before : input.state->producer->inputs_) pending.push_back(std::move(before));
    input.state->producer->inputs_.clear();
  }
}

bool Node::needs_gradient(std::size_t index) const { return needed(inputs_.at(index).state.get()); }

GradientBuffer Node::input_gradient(std::size_t index) {
  if (!needs_gradient(index)) return {};
  const NodeInput& input = inputs_[index];
  AutogradState& state = *input.state;
  Tensor& gradient = state.producer ? state.producer->d_output_ : state.grad;
  bool& filled = state.producer ? state.producer->d_output_filled_ : state.grad_filled;
  if (!gradient) gradient = Tensor(input.shape, input.dtype, input.device);
  const Write mode = filled ? Write::accumulate : Write::overwrite;
  filled = true;
  return {gradient, mode};
}

GradientBuffer Node::input_gradient_over(std::size_t index, const Tensor& d_output) {
  const NodeInput& input = inputs_.at(index);
  const bool free = d_output.unique() && d_output.body().storage.use_count() == 1;
  if (!free || !input.state || !input.state->producer || input.state->producer->d_output_ ||
      input.shape != d_output.shape())
    return input_gradient(index);
  pass_gradient(index, d_output.detach());
  return {input.state->producer->d_output_, Write::overwrite};
}

void Node::pass_gradient(std::size_t index, const Tensor& gradient) {
  if (!needs_gradient(index)) return;
  AutogradState& state = *inputs_[index].state;
  if (state.producer && !state.producer->d_output_filled_) {
    state.producer->d_output_ = gradient;
    state.producer->d_output_filled_ = true;
    return;
  }
  const GradientBuffer into = input_gradient(index);
  add(into.tensor, gradient, into.mode);
}

void backward(const Tensor& loss, const Tensor& seed) {
  if (!seed && loss.elements() != 1)
    throw ShapeError("backward", text("a loss is a scalar unless a seed is given: ", loss.shape()));
  if (seed && (seed.shape() != loss.shape() || seed.dtype() != loss.dtype()))
    throw ShapeError(
        "backward", text("seed ", seed.dtype(), ' ', seed.shape(), " for ", loss.dtype(), ' ', loss.shape()));
  AutogradState* state = state_of(loss);
  if (!state || !state->producer)
    throw ShapeError("backward", "the loss depends on no tensor that asks for a gradient");
  const NoGrad guard;
  std::shared_ptr<Node> root = state->producer;
  root->d_output_ = seed ? seed : Tensor::full(loss.shape(), 1.0, loss.dtype(), loss.device());
  root->d_output_filled_ = true;
  auto nodes = reachable(
      root, [](const Node& node) -> const std::vector<NodeInput>& { return node.inputs_; },
      [](const Node& node) { return node.sequence_; });
  root.reset();
  for (std::shared_ptr<Node>& node : nodes) {
    // A node whose consumers all needed nothing from it gets no gradient and passes none on.
    if (node->d_output_filled_) node->backward(std::exchange(node->d_output_, Tensor()));
    if (const auto output = node->output_.lock()) output->producer.reset();
    node.reset();
  }
}

void check_same(std::string_view op, std::initializer_list<Tensor> tensors) {
  const Tensor& first = *tensors.begin();
  for (const Tensor& tensor : tensors) {
    if (!tensor) continue;
    if (tensor.dtype() != first.dtype())
      throw ShapeError(op, text("inputs of one dtype: ", first.dtype(), " and ", tensor.dtype()));
    if (!(tensor.device() == first.device())) throw ShapeError(op, "inputs on one device");
  }
}

void check_shape(std::string_view op, std::string_view what, const Tensor& tensor, const Shape& expected) {
  if (tensor.shape() != expected)
    throw ShapeError(op, text(what, " must be ", expected, ": ", tensor.shape()));
}

// ---- the autograd part of Tensor

bool Tensor::requires_grad() const { return wants_gradient(*this); }

Tensor& Tensor::set_requires_grad(bool on) {
  if (on && dtype() == DType::i64) throw ShapeError("tensor", "an i64 tensor has no gradient");
  AutogradState& state = ensure_state(*this);
  if (state.producer) throw ShapeError("tensor", "only a leaf can be told whether it needs a gradient");
  state.requires_grad = on;
  return *this;
}

Tensor Tensor::grad() const {
  const AutogradState* state = state_of(*this);
  return state && state->grad_filled ? state->grad : Tensor();
}

void Tensor::clear_grad() const {
  if (AutogradState* state = state_of(*this)) state->grad_filled = false;
}

void Tensor::bind_grad(const Tensor& buffer) const {
  if (buffer.shape() != shape() || buffer.dtype() != dtype())
    throw ShapeError("tensor", text("gradient memory ", buffer.shape(), " for ", shape()));
  AutogradState& state = ensure_state(*this);
  state.grad = buffer;
  state.grad_filled = false;
}

namespace {

struct ReshapeBackward final : Node {
  Shape input_shape;
  void backward(const Tensor& d_output) override { pass_gradient(0, d_output.reshape(input_shape)); }
};

}  // namespace

Tensor Tensor::reshape(const Shape& new_shape) const {
  if (new_shape.elements() != elements())
    throw ShapeError("reshape", text(shape(), " has not as many elements as ", new_shape));
  Tensor result = detach();
  result.body().shape = new_shape;
  if (needs_record({*this})) {
    ReshapeBackward node;
    node.input_shape = shape();
    record(result, {*this}, std::move(node));
  }
  return result;
}

}  // namespace fovea

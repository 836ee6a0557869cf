#include <algorithm>
#include <cmath>
#include <limits>

#include "fovea/autograd.hpp"
#include "fovea/error.hpp"
#include "fovea/random.hpp"

namespace fovea {
namespace {

using Function = std::function<Tensor(const std::vector<Tensor>&)>;
using Values = std::vector<double>;

void check_inputs(const std::vector<Tensor>& inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i] || inputs[i].dtype() != DType::f64 || !inputs[i].requires_grad())
      throw ShapeError("gradcheck", text("inputs must be f64 and ask for gradients: input ", i));
    Tensor(inputs[i]).set_requires_grad();  // throws where it is no leaf
  }
}

/// Gradients by the tape; zeros for inputs that it does not reach. Leaves no gradient behind.
std::vector<Values> tape_gradients(const std::vector<Tensor>& inputs, const Tensor& output,
                                   const Tensor& upstream) {
  for (const Tensor& input : inputs) input.clear_grad();
  if (output.requires_grad()) backward(output, upstream);
  std::vector<Values> gradients;
  for (const Tensor& input : inputs) {
    const Tensor gradient = input.grad();
    gradients.push_back(gradient ? gradient.to_vector<double>()
                                 : Values(static_cast<std::size_t>(input.elements()), 0.0));
    input.clear_grad();
  }
  return gradients;
}

/// Moves entries of one input and puts its values back when it goes.
class Perturbed {
 public:
  explicit Perturbed(const Tensor& input) : input_(input), values_(input.to_vector<double>()) {}
  ~Perturbed() { set(values_); }
  Perturbed(const Perturbed&) = delete;
  Perturbed& operator=(const Perturbed&) = delete;

  /// d sum(upstream * function) / d entry by central differences.
  double slope(const Function& function, const std::vector<Tensor>& inputs, std::size_t entry,
               const Values& upstream, double relative_step) const {
    const double step = relative_step * std::max(1.0, std::abs(values_[entry]));
    const double above = values_[entry] + step, below = values_[entry] - step;
    const Values high = output_at(function, inputs, entry, above);
    const Values low = output_at(function, inputs, entry, below);
    double sum = 0;
    for (std::size_t i = 0; i < upstream.size(); ++i) sum += upstream[i] * (high.at(i) - low.at(i));
    return sum / (above - below);
  }

 private:
  Values output_at(const Function& function, const std::vector<Tensor>& inputs, std::size_t entry,
                   double value) const {
    Values moved = values_;
    moved[entry] = value;
    set(moved);
    return function(inputs).to_vector<double>();
  }
  void set(const Values& values) const {
    input_.copy_from(Tensor::from(values, input_.shape(), input_.device()));
  }

  Tensor input_;
  Values values_;
};

struct Comparison {
  std::size_t input, entry;
  double tape, numeric;
};

/// Notes the worst comparison, scaled by the largest numeric gradient of its input; what is not finite is
/// worst of all.
void judge(const std::vector<Comparison>& comparisons, const GradcheckOptions& options,
           GradcheckReport& report) {
  std::vector<double> scales;
  for (const Comparison& c : comparisons) {
    scales.resize(std::max(scales.size(), c.input + 1), 1.0);
    if (std::isfinite(c.numeric)) scales[c.input] = std::max(scales[c.input], std::abs(c.numeric));
  }
  report.worst = -1;
  for (const Comparison& c : comparisons) {
    double difference = std::abs(c.tape - c.numeric) / scales[c.input];
    if (!std::isfinite(difference)) difference = std::numeric_limits<double>::infinity();
    if (difference <= report.worst) continue;
    report.worst = difference;
    report.where =
        text("input ", c.input, " entry ", c.entry, ": tape ", c.tape, ", differences ", c.numeric);
  }
  report.compared = static_cast<std::int64_t>(comparisons.size());
  report.passed = report.compared > 0 && report.worst <= options.tolerance;
  report.worst = std::max(report.worst, 0.0);
}

}  // namespace

GradcheckReport gradcheck(const Function& function, const std::vector<Tensor>& inputs,
                          const GradcheckOptions& options) {
  check_inputs(inputs);
  const Tensor output = function(inputs);
  if (output.dtype() != DType::f64)
    throw ShapeError("gradcheck", text("output must be f64: ", output.dtype()));
  const Tensor upstream = empty_like(output);
  Random(options.seed).normal(upstream);
  const std::vector<Values> gradients = tape_gradients(inputs, output, upstream);

  const NoGrad guard;
  const Values weights = upstream.to_vector<double>();
  std::vector<Comparison> comparisons;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Perturbed perturbed(inputs[i]);
    const std::int64_t entries = inputs[i].elements();
    const std::int64_t tried = options.most_entries > 0 ? std::min(options.most_entries, entries) : entries;
    for (std::int64_t j = 0; j < tried; ++j) {
      const auto entry = static_cast<std::size_t>(j * entries / tried);
      comparisons.push_back(
          {i, entry, gradients[i][entry], perturbed.slope(function, inputs, entry, weights, options.step)});
    }
  }
  GradcheckReport report;
  judge(comparisons, options, report);
  return report;
}

}  // namespace fovea

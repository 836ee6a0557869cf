// Activations of whole arrays; those with tensors of their own are rare and stay on the reference kernels.
#include "kernels/activation.hpp"

#include "engine/simd_math.hpp"

namespace fovea::FOVEA_ISA_NAMESPACE {
namespace {

constexpr std::int64_t chunk_floats = 16384;

void forward(float* y, const float* x, const Activation& activation, std::int64_t count, const Queue& queue) {
  with_activation(activation, [&](auto activated) {
    for_each_chunk(queue, count, chunk_floats, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
      for_each_vector(begin, end, [&](std::int64_t i, auto part) {
        part.save(y + i, activated.value(part.load(x + i)));
      });
    });
  });
}

void grad(float* dx, const float* dy, const float* x, const Activation& activation, std::int64_t count,
          Write mode, const Queue& queue) {
  with_activation(activation, [&](auto activated) {
    for_each_chunk(queue, count, chunk_floats, [&](std::int64_t begin, std::int64_t end, std::int64_t, int) {
      for_each_vector(begin, end, [&](std::int64_t i, auto part) {
        const F16 v = mul(part.load(dy + i), activated.slope(part.load(x + i)));
        part.save(dx + i, mode == Write::accumulate ? add(part.load(dx + i), v) : v);
      });
    });
  });
}

}  // namespace

void fill(ActivationKernels<float>& table) {
  table.forward = forward;
  table.grad = grad;
}

}  // namespace fovea::FOVEA_ISA_NAMESPACE

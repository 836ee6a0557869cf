#include "kernels/elementwise.hpp"

#include <cmath>

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

template <class T>
void add(T* y, const T* x, std::int64_t count, Write mode, const Queue&) {
  for (std::int64_t i = 0; i < count; ++i) write(y[i], x[i], mode);
}

template <class T>
void scale(T* y, const T* x, double factor, std::int64_t count, Write mode, const Queue&) {
  for (std::int64_t i = 0; i < count; ++i) write(y[i], x[i] * static_cast<T>(factor), mode);
}

template <class T>
void permute(T* y, const T* x, const PermuteShape& s, Write mode, const Queue&) {
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t row = 0; row < s.rows; ++row)
      for (std::int64_t column = 0; column < s.columns; ++column)
        write(y[(b * s.columns + column) * s.rows + row], x[(b * s.rows + row) * s.columns + column], mode);
}

template <class T>
void clamp_min(T* x, double least, std::int64_t count, const Queue&) {
  for (std::int64_t i = 0; i < count; ++i)
    if (x[i] < static_cast<T>(least)) x[i] = static_cast<T>(least);
}

template <class T>
void absolute(T* x, std::int64_t count, const Queue&) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = std::abs(x[i]);
}

}  // namespace

template <class T>
void fill(ElementwiseKernels<T>& table) {
  table = {add<T>, scale<T>, permute<T>, clamp_min<T>, absolute<T>};
}
template void fill(ElementwiseKernels<float>&);
template void fill(ElementwiseKernels<double>&);

}  // namespace fovea::reference

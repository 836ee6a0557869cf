#include "kernels/normalize_rows.hpp"

#include <cmath>

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

template <class T>
Wide<T> product(const T* a, const T* b, std::int64_t count) {
  Wide<T> sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<Wide<T>>(a[i]) * b[i];
  return sum;
}

template <class T>
void forward(T* y, const T* x, std::int64_t rows, std::int64_t columns, const Queue&) {
  for (std::int64_t n = 0; n < rows; ++n) {
    const T* own = x + n * columns;
    const Wide<T> length = std::sqrt(product(own, own, columns)) + row_norm_eps;
    for (std::int64_t p = 0; p < columns; ++p) y[n * columns + p] = static_cast<T>(own[p] / length);
  }
}

template <class T>
void grad(T* dx, const T* dy, const T* x, std::int64_t rows, std::int64_t columns, Write mode, const Queue&) {
  for (std::int64_t n = 0; n < rows; ++n) {
    const T *own = x + n * columns, *up = dy + n * columns;
    const Wide<T> norm = std::sqrt(product(own, own, columns)), length = norm + row_norm_eps;
    const Wide<T> along = norm > 0 ? product(own, up, columns) / (norm * length * length) : 0;
    for (std::int64_t p = 0; p < columns; ++p)
      write(dx[n * columns + p], static_cast<T>(up[p] / length - own[p] * along), mode);
  }
}

}  // namespace

template <class T>
void fill(NormalizeRowsKernels<T>& table) {
  table = {forward<T>, grad<T>};
}
template void fill(NormalizeRowsKernels<float>&);
template void fill(NormalizeRowsKernels<double>&);

}  // namespace fovea::reference

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
void multiply(T* y, const T* a, const T* b, std::int64_t count, Write mode, const Queue&) {
  for (std::int64_t i = 0; i < count; ++i) write(y[i], a[i] * b[i], mode);
}

template <class T>
void copy_channels(T* y, const T* x, const ChannelCopy& s, Write mode, const Queue&) {
  for (std::int64_t row = 0; row < s.rows; ++row)
    for (std::int64_t c = 0; c < s.count; ++c)
      write(y[row * s.y_channels + s.y_first + c], x[row * s.x_channels + s.x_first + c], mode);
}

template <class T>
void clamp(T* x, double least, double most, std::int64_t count, const Queue&) {
  for (std::int64_t i = 0; i < count; ++i) {
    if (x[i] < static_cast<T>(least)) x[i] = static_cast<T>(least);
    if (x[i] > static_cast<T>(most)) x[i] = static_cast<T>(most);
  }
}

template <class T>
void absolute(T* x, std::int64_t count, const Queue&) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = std::abs(x[i]);
}

template <class T>
void unit_norm(T* x, const NormShape& s, const Queue&) {
  for (std::int64_t o = 0; o < s.outer; ++o)
    for (std::int64_t i = 0; i < s.inner; ++i) {
      T* first = x + o * s.reduced * s.inner + i;
      Wide<T> squares = static_cast<Wide<T>>(s.eps);
      for (std::int64_t r = 0; r < s.reduced; ++r)
        squares += static_cast<Wide<T>>(first[r * s.inner]) * first[r * s.inner];
      const Wide<T> norm = std::sqrt(squares);
      for (std::int64_t r = 0; r < s.reduced; ++r)
        first[r * s.inner] = static_cast<T>(first[r * s.inner] / norm);
    }
}

}  // namespace

template <class T>
void fill(ElementwiseKernels<T>& table) {
  table = {add<T>, scale<T>, permute<T>, multiply<T>, copy_channels<T>, clamp<T>, absolute<T>, unit_norm<T>};
}
template void fill(ElementwiseKernels<float>&);
template void fill(ElementwiseKernels<double>&);

}  // namespace fovea::reference

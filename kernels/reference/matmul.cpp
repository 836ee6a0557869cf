#include "kernels/matmul.hpp"

#include "kernels/reference/reference.hpp"

namespace fovea::reference {
namespace {

/// c[i,j] = sum_l a[i * a_row + l * a_column] * b[l * b_row + j * b_column].
template <class T>
void multiply(T* c, const T* a, std::int64_t a_row, std::int64_t a_column, const T* b, std::int64_t b_row,
              std::int64_t b_column, const MatmulShape& s, Write mode) {
  for (std::int64_t i = 0; i < s.m; ++i)
    for (std::int64_t j = 0; j < s.n; ++j) {
      T sum = 0;
      for (std::int64_t l = 0; l < s.k; ++l) sum += a[i * a_row + l * a_column] * b[l * b_row + j * b_column];
      write(c[i * s.n + j], sum, mode);
    }
}

template <class T>
void nn(T* c, const T* a, const T* b, const MatmulShape& s, Write mode, const Queue&) {
  multiply(c, a, s.k, 1, b, s.n, 1, s, mode);
}

template <class T>
void tn(T* c, const T* a, const T* b, const MatmulShape& s, Write mode, const Queue&) {
  multiply(c, a, 1, s.m, b, s.n, 1, s, mode);
}

template <class T>
void nt(T* c, const T* a, const T* b, const MatmulShape& s, Write mode, const Queue&) {
  multiply(c, a, s.k, 1, b, 1, s.k, s, mode);
}

}  // namespace

template <class T>
void fill(MatmulKernels<T>& table) {
  table = {nn<T>, tn<T>, nt<T>};
}
template void fill(MatmulKernels<float>&);
template void fill(MatmulKernels<double>&);

}  // namespace fovea::reference

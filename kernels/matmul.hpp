// Matrix products of row-major matrices: C (M,N) = A B, one entry per transposition that training needs.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct MatmulShape {
  std::int64_t m, n, k;  // C is m x n, the sum runs over k
};

template <class T>
struct MatmulKernels {
  void (*nn)(T* c, const T* a, const T* b, const MatmulShape&, Write, const Queue&);  // a (M,K), b (K,N)
  void (*tn)(T* c, const T* a, const T* b, const MatmulShape&, Write, const Queue&);  // a (K,M), b (K,N)
  void (*nt)(T* c, const T* a, const T* b, const MatmulShape&, Write, const Queue&);  // a (M,K), b (N,K)
};

}  // namespace fovea

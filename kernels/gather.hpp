// Entries of one axis by index, each with a factor of its own: y[o,n,i] = scales_n * x[o,index_n,i].
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct GatherShape {
  std::int64_t outer;   // the axes before
  std::int64_t source;  // entries to choose from
  std::int64_t count;   // entries chosen
  std::int64_t inner;   // the axes after
};

template <class T>
struct GatherKernels {
  // y (outer, count, inner) <- x (outer, source, inner), index (count) in [0, source), scales (count), null:
  // 1
  void (*forward)(T* y, const T* x, const std::int64_t* index, const T* scales, const GatherShape&,
                  const Queue&);
  // dx, dscales <- dy (outer, count, inner); a null output is not computed. What several entries chose is
  // summed in their order.
  void (*grad)(T* dx, T* dscales, const T* dy, const T* x, const std::int64_t* index, const T* scales,
               const GatherShape&, Write dx_mode, Write scales_mode, const Queue&);
};

}  // namespace fovea

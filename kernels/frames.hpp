// Ops on the time and space axes of (batch, T, H, W, C): pooling, dropped frames, channel dropout.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct PoolShape {
  std::int64_t batch, in_t, in_h, in_w, channels;
  std::int64_t kernel_t, kernel_h, kernel_w;  // also the stride; incomplete windows are dropped
  std::int64_t out_t, out_h, out_w;
};

template <class T>
struct FramesKernels {
  // y and index (batch,To,Ho,Wo,C); index is the position of the maximum inside its window, the first of ties
  void (*max_pool)(T* y, std::int32_t* index, const T* x, const PoolShape&, const Queue&);
  void (*max_pool_grad)(T* dx, const T* dy, const std::int32_t* index, const PoolShape&, Write, const Queue&);
  void (*average_pool)(T* y, const T* x, const PoolShape&, const Queue&);
  void (*average_pool_grad)(T* dx, const T* dy, const PoolShape&, Write, const Queue&);
  // y[b,s,c] = x[b,s,c] * factor[b,c] over (batch, inner, channels): channel dropout with factors 0 or
  // 1/(1-p)
  void (*scale_channels)(T* y, const T* x, const T* factor, std::int64_t batch, std::int64_t inner,
                         std::int64_t channels, Write, const Queue&);
  // y (batch, count, inner) <- x (batch, frames, inner) from frame `first`; the gradient writes zeros
  // elsewhere
  void (*slice_frames)(T* y, const T* x, std::int64_t batch, std::int64_t frames, std::int64_t inner,
                       std::int64_t first, std::int64_t count, const Queue&);
  void (*slice_frames_grad)(T* dx, const T* dy, std::int64_t batch, std::int64_t frames, std::int64_t inner,
                            std::int64_t first, std::int64_t count, Write, const Queue&);
};

}  // namespace fovea

// Space-time separable 3-D convolution, one rank-1 kernel per (output, input) pair (openretina's
// custom_separable):
//   y[b,t,h,w,o] = sum_i sum_k temporal[o,i,k] * ( sum_{kh,kw} spatial[o,i,kh,kw] * x[b, t+k-pad_t,
//   h+kh-pad_h, w+kw-pad_w, i] )
// A cross-correlation, stride 1, zeros outside (which a kernel may multiply: a NaN or infinite weight can so
// reach pixels at the border). Activations channels-last, weights in PyTorch's order.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct SepConv3dShape {
  std::int64_t batch, in_channels, out_channels;
  std::int64_t in_t, in_h, in_w;
  std::int64_t kernel_t, kernel_h, kernel_w;
  std::int64_t pad_t, pad_h, pad_w;  // zeros before the first element of each axis
  std::int64_t out_t, out_h, out_w;  // in + zeros before + zeros after - kernel + 1
};

template <class T>
struct SepConv3dKernels {
  // y (B,To,Ho,Wo,O) <- x (B,T,H,W,I), spatial (O,I,KH,KW), temporal (O,I,KT). `kept`, which may be null, is
  // for the gradients of the weights.
  void (*forward)(T* y, T* kept, const T* x, const T* spatial, const T* temporal, const SepConv3dShape&,
                  const Queue&);
  // dx (B,T,H,W,I) <- dy (B,To,Ho,Wo,O)
  void (*grad_input)(T* dx, const T* dy, const T* spatial, const T* temporal, const SepConv3dShape&, Write,
                     const Queue&);
  // dspatial (O,I,KH,KW), dtemporal (O,I,KT) <- dy, x; always overwritten. `kept` is what forward kept, or
  // null: then it is computed again.
  void (*grad_weight)(T* dspatial, T* dtemporal, const T* dy, const T* x, const T* kept, const T* spatial,
                      const T* temporal, const SepConv3dShape&, const Queue&);
  // Both at once, which may save work. `Write` is of dx.
  void (*grad)(T* dx, T* dspatial, T* dtemporal, const T* dy, const T* x, const T* kept, const T* spatial,
               const T* temporal, const SepConv3dShape&, Write, const Queue&);
  // Elements of `kept`, in the backend's own layout: sums over the spatial kernel. 0 where keeping them does
  // not pay; null where it never does.
  std::int64_t (*kept)(const SepConv3dShape&) = nullptr;
};

}  // namespace fovea

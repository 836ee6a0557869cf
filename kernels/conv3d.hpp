// 3-D convolution with stride, zero padding, dilation and groups; 2-D is the case of one frame:
//   y[b,t,h,w,o] = bias[o] + sum_i sum_k weight[o,i,kt,kh,kw] * x[b, t s_t + kt d_t - pad_t, .., .., g(o) I/G
//   + i]
// A cross-correlation, zeros outside (which a kernel may multiply: a NaN or infinite weight or slope can so
// reach more than the taps inside); group g(o) = o / (O/G) sees the I/G input channels i of its own.
// Activations channels-last, weights in PyTorch's order.
#pragma once
#include "engine/queue.hpp"

namespace fovea {

struct ConvAxis {
  std::int64_t in, kernel;
  std::int64_t stride, pad, dilation;  // pad: zeros before the first element
  std::int64_t out;
};

struct Conv3dShape {
  std::int64_t batch, in_channels, out_channels, groups;
  ConvAxis t, h, w;
};

template <class T>
struct Conv3dKernels {
  // y (B,To,Ho,Wo,O) <- x (B,T,H,W,I), weight (O,I/G,KT,KH,KW), bias (O) or null
  void (*forward)(T* y, const T* x, const T* weight, const T* bias, const Conv3dShape&, const Queue&);
  // dx (B,T,H,W,I) <- dy (B,To,Ho,Wo,O)
  void (*grad_input)(T* dx, const T* dy, const T* weight, const Conv3dShape&, Write, const Queue&);
  // dweight (O,I/G,KT,KH,KW) and dbias (O) or null <- dy, x; always overwritten
  void (*grad_weight)(T* dweight, T* dbias, const T* dy, const T* x, const Conv3dShape&, const Queue&);
};

}  // namespace fovea

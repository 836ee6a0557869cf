// Shapes of separable convolutions: small ones that reach every path of the kernels, and those of the
// workloads for determinism and for the bench.
#pragma once
#include <vector>

#include "kernels/sepconv3d.hpp"

namespace fovea::test {

struct SepConv3dCase {
  const char* name;
  SepConv3dShape shape;
};

/// Sizes and zeros per axis: time, rows, columns; as many zeros after as before.
struct Triple {
  std::int64_t t, h, w;
};

inline SepConv3dShape sepconv3d_shape(std::int64_t batch, std::int64_t in_channels, std::int64_t out_channels,
                                      Triple in, Triple kernel, Triple pad = {0, 0, 0}) {
  const auto out = [](std::int64_t n, std::int64_t k, std::int64_t p) { return n + 2 * p - k + 1; };
  return {batch,
          in_channels,
          out_channels,
          in.t,
          in.h,
          in.w,
          kernel.t,
          kernel.h,
          kernel.w,
          pad.t,
          pad.h,
          pad.w,
          out(in.t, kernel.t, pad.t),
          out(in.h, kernel.h, pad.h),
          out(in.w, kernel.w, pad.w)};
}

inline std::vector<SepConv3dCase> small_sepconv3d_cases() {
  return {
      {"one value", sepconv3d_shape(1, 1, 1, {1, 1, 1}, {1, 1, 1})},
      {"one output", sepconv3d_shape(1, 1, 16, {21, 11, 11}, {21, 11, 11})},
      {"16 channels", sepconv3d_shape(2, 2, 16, {30, 7, 8}, {11, 3, 3})},
      {"16 to 16, padded rows and columns", sepconv3d_shape(2, 16, 16, {14, 6, 5}, {5, 5, 5}, {0, 2, 2})},
      {"8 channels, even batch", sepconv3d_shape(4, 1, 8, {25, 8, 9}, {9, 4, 4})},
      {"8 channels, odd batch", sepconv3d_shape(3, 1, 8, {12, 8, 7}, {4, 3, 3}, {1, 1, 1})},
      {"5 channels, one movie", sepconv3d_shape(1, 2, 5, {11, 9, 6}, {3, 3, 2}, {0, 1, 1})},
      {"4 channels", sepconv3d_shape(5, 3, 4, {12, 6, 6}, {5, 2, 3}, {2, 0, 1})},
      {"3 channels", sepconv3d_shape(4, 2, 3, {10, 5, 6}, {2, 3, 3})},
      {"2 channels", sepconv3d_shape(3, 5, 2, {9, 7, 6}, {3, 3, 5}, {1, 1, 2})},
      {"1 channel", sepconv3d_shape(5, 7, 1, {13, 6, 7}, {4, 3, 3}, {3, 2, 2})},
      {"1 channel, 16 movies", sepconv3d_shape(16, 2, 1, {9, 5, 5}, {3, 3, 3}, {1, 1, 1})},
      {"17 channels", sepconv3d_shape(2, 3, 17, {10, 4, 5}, {3, 3, 3}, {1, 1, 1})},
      {"21 to 33 channels", sepconv3d_shape(1, 21, 33, {9, 4, 3}, {2, 3, 2})},
      {"one frame", sepconv3d_shape(3, 4, 6, {1, 9, 8}, {1, 3, 3}, {0, 1, 1})},
      {"few frames", sepconv3d_shape(2, 2, 16, {5, 7, 6}, {3, 3, 3}, {1, 1, 1})},
      {"few frames, 8 channels", sepconv3d_shape(3, 2, 7, {7, 5, 6}, {3, 3, 2})},
      {"wider padding than kernel", sepconv3d_shape(2, 2, 3, {9, 3, 4}, {3, 3, 2}, {5, 4, 3})},
      {"tiles wholly in the padding", sepconv3d_shape(1, 1, 1, {6, 4, 5}, {3, 3, 3}, {0, 5, 5})},
      {"padding of many kernels", sepconv3d_shape(2, 1, 1, {3, 3, 3}, {2, 2, 2}, {9, 40, 7})},
      {"kernel wider than image", sepconv3d_shape(1, 2, 9, {4, 3, 2}, {7, 5, 5}, {4, 3, 3})},
      {"kernel of 31", sepconv3d_shape(1, 1, 2, {33, 33, 32}, {31, 31, 31})},
      {"large kernel, few frames", sepconv3d_shape(2, 2, 16, {5, 12, 11}, {3, 8, 8})},
      {"large kernel, 17 channels", sepconv3d_shape(2, 2, 17, {12, 12, 11}, {3, 8, 8}, {1, 3, 2})},
      {"fewer frames out than in", sepconv3d_shape(16, 3, 16, {20, 9, 8}, {9, 3, 3}, {0, 1, 1})},
      {"fewer frames out than in, 17 channels", sepconv3d_shape(8, 3, 17, {14, 7, 6}, {7, 3, 3}, {0, 1, 1})},
      {"fewer frames out than in, padded", sepconv3d_shape(16, 4, 12, {16, 9, 8}, {9, 3, 4}, {1, 0, 2})},
      {"fewer frames out than in, rows in turns",
       sepconv3d_shape(1, 3, 16, {8, 40, 40}, {5, 3, 3}, {0, 1, 1})},
      {"fewer frames out than in, times in turns",
       sepconv3d_shape(2, 6, 16, {14, 12, 12}, {7, 5, 5}, {0, 2, 2})},
      {"fewer frames out than in, wider padding",
       sepconv3d_shape(16, 5, 9, {12, 4, 3}, {7, 3, 3}, {0, 5, 4})},
      {"kernel of one pixel", sepconv3d_shape(2, 3, 16, {40, 3, 5}, {31, 1, 1})},
      {"kernels too large for tiles of many", sepconv3d_shape(1, 1, 1, {130, 33, 33}, {31, 31, 31})},
      {"kernels too large for eight tiles", sepconv3d_shape(3, 1, 1, {44, 26, 26}, {9, 25, 25}, {0, 1, 1})},
      {"1 channel of one row", sepconv3d_shape(1, 5, 1, {9, 1, 61}, {2, 1, 7}, {0, 0, 3})},
      {"2 channels, long padded movie", sepconv3d_shape(3, 9, 2, {263, 3, 5}, {7, 2, 3}, {3, 1, 1})},
      {"pairs of one row", sepconv3d_shape(2, 1, 6, {9, 1, 40}, {3, 1, 9}, {0, 0, 4})},
      {"pairs of one column", sepconv3d_shape(1, 1, 8, {9, 37, 1}, {3, 5, 1}, {0, 2, 0})},
      {"long movie", sepconv3d_shape(1, 2, 5, {523, 2, 3}, {5, 2, 2})},
      {"long padded movie", sepconv3d_shape(1, 1, 16, {300, 2, 2}, {8, 1, 2}, {7, 0, 1})},
      {"more movies than chunks of sums", sepconv3d_shape(37, 9, 10, {4, 3, 3}, {2, 2, 2}, {1, 1, 0})},
      {"inputs in turns", sepconv3d_shape(1, 48, 3, {20, 18, 17}, {2, 3, 3}, {0, 1, 1})},
      {"inputs in turns, few frames", sepconv3d_shape(1, 96, 2, {5, 26, 25}, {1, 3, 2}, {0, 1, 1})},
      {"outputs in turns", sepconv3d_shape(1, 5, 48, {20, 18, 17}, {2, 3, 3}, {0, 1, 1})},
      {"outputs in turns, few frames", sepconv3d_shape(1, 4, 96, {5, 26, 25}, {1, 3, 2}, {0, 1, 1})},
  };
}

/// The layers of the workloads W1 and W1s and of configuration A on the recording.
inline std::vector<SepConv3dCase> workload_sepconv3d_cases(std::int64_t batch) {
  return {
      {"W1 layer 1", sepconv3d_shape(batch, 2, 16, {150, 18, 16}, {21, 11, 11})},
      {"W1 layer 2", sepconv3d_shape(batch, 16, 16, {130, 8, 6}, {11, 5, 5}, {0, 2, 2})},
      {"W1s layer 1", sepconv3d_shape(batch, 1, 16, {50, 32, 32}, {21, 11, 11})},
      {"W1s layer 2", sepconv3d_shape(batch, 16, 16, {30, 22, 22}, {11, 5, 5}, {0, 2, 2})},
      {"A", sepconv3d_shape(batch, 1, 8, {50, 32, 32}, {21, 11, 11})},
  };
}

}  // namespace fovea::test

// Matrix products for other kernels of the GPU: as the entries of the table, with a bias.
#pragma once
#include "kernels/cuda/kernels.hpp"

namespace fovea::FOVEA_GPU {

enum class ProductForm { nn, tn, nt };

/// c (M,N) <- a b + bias (N) or null; operands as the entries of MatmulKernels have them.
void multiply(ProductForm form, float* c, const float* a, const float* b, const float* bias,
              const MatmulShape& shape, Write mode, const Queue& queue);

}  // namespace fovea::FOVEA_GPU

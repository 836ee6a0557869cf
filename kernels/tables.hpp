// The one list of kernels: a table of function pointers per backend and scalar type.
#pragma once
#include <string>
#include <vector>

#include "fovea/device.hpp"
#include "kernels/activation.hpp"
#include "kernels/batch_norm.hpp"
#include "kernels/conv3d.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/feature_sum.hpp"
#include "kernels/frames.hpp"
#include "kernels/gather.hpp"
#include "kernels/gaussian_grid.hpp"
#include "kernels/gaussian_mask.hpp"
#include "kernels/loss.hpp"
#include "kernels/mask_readout.hpp"
#include "kernels/matmul.hpp"
#include "kernels/normalize_rows.hpp"
#include "kernels/optimizer.hpp"
#include "kernels/point_readout.hpp"
#include "kernels/random.hpp"
#include "kernels/regularizer.hpp"
#include "kernels/sepconv3d.hpp"
#include "kernels/temporal_kernel.hpp"

namespace fovea {

template <class T>
struct KernelTables {
  SepConv3dKernels<T> sepconv3d{};
  Conv3dKernels<T> conv3d{};
  TemporalKernelKernels<T> temporal_kernel{};
  BatchNormKernels<T> batch_norm{};
  MatmulKernels<T> matmul{};
  GaussianMaskKernels<T> gaussian_mask{};
  MaskReadoutKernels<T> mask_readout{};
  FeatureSumKernels<T> feature_sum{};
  PointReadoutKernels<T> point_readout{};
  GaussianGridKernels<T> gaussian_grid{};
  GatherKernels<T> gather{};
  NormalizeRowsKernels<T> normalize_rows{};
  LossKernels<T> loss{};
  RegularizerKernels<T> regularizer{};
  ElementwiseKernels<T> elementwise{};
  ActivationKernels<T> activation{};
  FramesKernels<T> frames{};
  OptimizerKernels<T> optimizer{};
  RandomKernels<T> random{};
};

// Every entry once more by name, for the lists of `fovea version` and for the errors of empty entries.
// clang-format off
#define FOVEA_KERNEL_ENTRIES(X)                                                                     \
  X(sepconv3d, forward) X(sepconv3d, grad_input) X(sepconv3d, grad_weight) X(sepconv3d, grad)       \
  X(conv3d, forward) X(conv3d, grad_input) X(conv3d, grad_weight)              \
  X(temporal_kernel, forward) X(temporal_kernel, grad_weights)                                      \
  X(batch_norm, forward_training) X(batch_norm, forward_evaluation) X(batch_norm, grad_training)    \
  X(batch_norm, grad_evaluation)                                                                    \
  X(matmul, nn) X(matmul, tn) X(matmul, nt)                                                         \
  X(gaussian_mask, forward) X(gaussian_mask, grad_parameters)                                       \
  X(mask_readout, weight) X(mask_readout, grad_weight) X(mask_readout, activate)                    \
  X(mask_readout, grad_activate)                                                                    \
  X(feature_sum, forward) X(feature_sum, grad)                                                      \
  X(point_readout, forward) X(point_readout, grad_input) X(point_readout, grad_points)              \
  X(gaussian_grid, forward) X(gaussian_grid, grad)                                                  \
  X(gather, forward) X(gather, grad)                                                                \
  X(normalize_rows, forward) X(normalize_rows, grad)                                                \
  X(loss, poisson) X(loss, correlation) X(loss, scale_slope)                                        \
  X(regularizer, laplace) X(regularizer, group_sparsity) X(regularizer, temporal_smoothing)         \
  X(regularizer, absolute_sum) X(regularizer, gaussian_extent)                                      \
  X(regularizer, filter_norms) X(regularizer, square_sum)                                           \
  X(elementwise, add) X(elementwise, scale) X(elementwise, permute) X(elementwise, multiply)        \
  X(elementwise, copy_channels) X(elementwise, clamp) X(elementwise, absolute)                      \
  X(elementwise, unit_norm)                                                                         \
  X(activation, forward) X(activation, grad) X(activation, parametric_relu)                         \
  X(activation, parametric_relu_grad) X(activation, parametric_softplus)                            \
  X(activation, parametric_softplus_grad)                                                           \
  X(frames, max_pool) X(frames, max_pool_grad) X(frames, average_pool) X(frames, average_pool_grad) \
  X(frames, scale_channels) X(frames, slice_frames) X(frames, slice_frames_grad)                    \
  X(optimizer, adamw) X(optimizer, sum_of_squares)                                                  \
  X(random, uniform) X(random, normal) X(random, dropout_factors)
// clang-format on

enum class KernelEntry {
#define X(op, entry) op##_##entry,
  FOVEA_KERNEL_ENTRIES(X)
#undef X
};

/// "sepconv3d.forward"
const char* entry_name(KernelEntry entry);

/// What serves an entry of a backend's f32 table.
enum class EntryOrigin { empty, reference, own };

struct EntryStatus {
  std::string name;  // "sepconv3d.forward"
  EntryOrigin origin;
};

struct Tables {
  KernelTables<float> f32;
  KernelTables<double> f64;
  std::vector<EntryStatus> status;  // of f32, in the order of FOVEA_KERNEL_ENTRIES
};

/// The kernels of a device for scalar T. Calling an empty entry throws a DeviceError that names it.
template <class T>
const KernelTables<T>& tables(const Device& device);

/// Entries of a device that are empty or still on the reference kernels.
const std::vector<EntryStatus>& kernel_status(const Device& device);

/// The scalar kernels that are the oracle of all others: naive loops, templates on the scalar.
template <class T>
KernelTables<T> reference_tables();

/// The emulator in memory that counts as not the host's, as a GPU's: whatever touches it outside a kernel and
/// the copies of Memory ends the program with SIGSEGV. For tests.
Device guarded_emulator_device(int threads = 1, unsigned order_seed = 0);

/// A device with other kernels in the same memory: how tests and the bench compare any two, and how users
/// bring their own.
Device device_with_tables(const Device& device, const KernelTables<float>& f32);

}  // namespace fovea

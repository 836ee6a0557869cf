#include "kernels/reference/reference.hpp"

namespace fovea {

template <class T>
KernelTables<T> reference_tables() {
  KernelTables<T> tables;
  reference::fill(tables.sepconv3d);
  reference::fill(tables.conv3d);
  reference::fill(tables.loss);
  reference::fill(tables.regularizer);
  reference::fill(tables.optimizer);
  reference::fill(tables.temporal_kernel);
  reference::fill(tables.batch_norm);
  reference::fill(tables.matmul);
  reference::fill(tables.gaussian_mask);
  reference::fill(tables.mask_readout);
  reference::fill(tables.feature_sum);
  reference::fill(tables.point_readout);
  reference::fill(tables.gaussian_grid);
  reference::fill(tables.gather);
  reference::fill(tables.normalize_rows);
  reference::fill(tables.elementwise);
  reference::fill(tables.activation);
  reference::fill(tables.frames);
  reference::fill(tables.random);
  return tables;
}
template KernelTables<float> reference_tables();
template KernelTables<double> reference_tables();

}  // namespace fovea

#include "kernels/reference/reference.hpp"

namespace fovea {

template <class T>
KernelTables<T> reference_tables() {
  KernelTables<T> tables;
  reference::fill(tables.sepconv3d);
  reference::fill(tables.loss);
  reference::fill(tables.regularizer);
  reference::fill(tables.optimizer);
  return tables;
}
template KernelTables<float> reference_tables();
template KernelTables<double> reference_tables();

}  // namespace fovea

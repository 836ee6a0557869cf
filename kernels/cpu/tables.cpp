#include "kernels/backends.hpp"

namespace fovea {

std::vector<Isa> compiled_isas() { return {Isa::reference}; }

KernelTables<float> cpu_tables(Isa) { return reference_tables<float>(); }

}  // namespace fovea

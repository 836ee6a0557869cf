#include "kernels/backends.hpp"
#include "kernels/cpu/isa.hpp"

namespace fovea {

std::vector<Isa> compiled_isas() {
  std::vector<Isa> isas{Isa::reference};
#define X(isa) isas.push_back(Isa::isa);
  FOVEA_COMPILED_ISAS(X)
#undef X
  return isas;
}

KernelTables<float> cpu_tables([[maybe_unused]] Isa isa) {
  KernelTables<float> tables = reference_tables<float>();
#define FILL_OP(name, type) fill(tables.name);
#define FILL_ISA(compiled)    \
  if (isa == Isa::compiled) { \
    using namespace compiled; \
    FOVEA_CPU_OPS(FILL_OP)    \
  }
  FOVEA_COMPILED_ISAS(FILL_ISA)
#undef FILL_ISA
#undef FILL_OP
  return tables;
}

}  // namespace fovea

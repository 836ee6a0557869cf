// Completes the tables: status of every entry, and a throwing function in the empty ones.
#include "kernels/tables.hpp"

#include "engine/backend.hpp"
#include "fovea/error.hpp"
#include "kernels/backends.hpp"

namespace fovea {
namespace {

template <class Function>
struct Empty;
template <class... Args>
struct Empty<void (*)(Args...)> {
  template <KernelEntry entry>
  static void call(Args...) {
    throw DeviceError("kernels", text("this device has no kernel ", entry_name(entry)));
  }
};

template <class T>
void fill_empty(KernelTables<T>& tables) {
#define X(op, entry)    \
  if (!tables.op.entry) \
    tables.op.entry = Empty<decltype(tables.op.entry)>::template call<KernelEntry::op##_##entry>;
  FOVEA_KERNEL_ENTRIES(X)
#undef X
}

std::vector<EntryStatus> status_of(const KernelTables<float>& tables) {
  const KernelTables<float> reference = reference_tables<float>();
  std::vector<EntryStatus> status;
  const auto note = [&](const char* name, bool empty, bool same) {
    status.push_back({name, empty ? EntryOrigin::empty : same ? EntryOrigin::reference : EntryOrigin::own});
  };
#define X(op, entry) note(#op "." #entry, !tables.op.entry, tables.op.entry == reference.op.entry);
  FOVEA_KERNEL_ENTRIES(X)
#undef X
  return status;
}

}  // namespace

const char* entry_name(KernelEntry entry) {
  static constexpr const char* names[] = {
#define X(op, entry) #op "." #entry,
      FOVEA_KERNEL_ENTRIES(X)
#undef X
  };
  return names[static_cast<std::size_t>(entry)];
}

std::shared_ptr<const Tables> complete_tables(KernelTables<float> f32, KernelTables<double> f64) {
  auto tables = std::make_shared<Tables>();
  tables->status = status_of(f32);
  fill_empty(f32);
  fill_empty(f64);
  tables->f32 = f32;
  tables->f64 = f64;
  return tables;
}

template <>
const KernelTables<float>& tables<float>(const Device& device) {
  return device.backend().tables->f32;
}
template <>
const KernelTables<double>& tables<double>(const Device& device) {
  return device.backend().tables->f64;
}

const std::vector<EntryStatus>& kernel_status(const Device& device) {
  return device.backend().tables->status;
}

}  // namespace fovea

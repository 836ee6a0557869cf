// Tables whose every entry does something around a kernel: how tests and the bench watch whole models.
#pragma once
#include "kernels/tables.hpp"

namespace fovea {
namespace detail {

template <class Around, class Function>
struct Wrapper;
template <class Around, class... Args>
struct Wrapper<Around, void (*)(Args...)> {
  template <KernelEntry entry>
  struct Of {
    static inline void (*kernel)(Args...) = nullptr;
    static void call(Args... args) { Around::template call<entry>(kernel, args...); }
  };
};

}  // namespace detail

/// Entries that call Around::call<entry>(kernel, arguments..), a template; kernel is null where `inner` is
/// empty. One table per Around at a time: what it wraps is kept in static variables.
template <class Around>
KernelTables<float> wrapped_tables(const KernelTables<float>& inner) {
  KernelTables<float> outer = inner;  // what is not an entry stays
#define X(op, entry)                                                                                    \
  {                                                                                                     \
    using Function = decltype(inner.op.entry);                                                          \
    using Wrapped = typename detail::Wrapper<Around, Function>::template Of<KernelEntry::op##_##entry>; \
    Wrapped::kernel = inner.op.entry;                                                                   \
    outer.op.entry = Wrapped::call;                                                                     \
  }
  FOVEA_KERNEL_ENTRIES(X)
#undef X
  return outer;
}

}  // namespace fovea

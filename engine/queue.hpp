// What a kernel is handed besides its operands: a way to run tasks and to get scratch memory.
// Plain functions and plain types only, so that instruction-set units can include it without emitting inline
// code.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fovea {

struct Backend;

/// Whether a kernel that writes a gradient overwrites its output or adds to it.
enum class Write { overwrite, accumulate };

/// A backend's place of execution. CUDA kernels launch on `stream`; CPU kernels fork over the pool.
struct Queue {
  Backend* backend = nullptr;
  void* stream = nullptr;
};

/// task(context, index, worker): worker is in [0, worker_count(queue)).
using Task = void (*)(void* context, std::int64_t index, int worker);

/// Runs task for every index in [0, count), statically divided over the workers; returns when all are done.
void run_tasks(const Queue& queue, std::int64_t count, Task task, void* context);
int worker_count(const Queue& queue);

/// Scratch memory of a kernel, 64-byte aligned, uninitialised; from the step's plan when one is active.
void* scratch_acquire(const Queue& queue, std::size_t bytes);
void scratch_release(const Queue& queue, void* memory);

}  // namespace fovea

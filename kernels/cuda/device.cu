// The CUDA device: its memory, its stream, its table.
#include "engine/backend.hpp"
#include "engine/gpu.hpp"
#include "kernels/backends.hpp"

namespace fovea {
namespace {

class CudaMemory : public Memory {
 public:
  explicit CudaMemory(cudaStream_t stream) : stream_(stream) {}

  bool on_host() const override { return false; }
  void* allocate(std::size_t bytes) override {
    void* memory = nullptr;
    if (const cudaError_t status = cudaMalloc(&memory, bytes ? bytes : 1); status != cudaSuccess) {
      cudaGetLastError();  // the error must not surface again at the next launch
      throw DeviceError("cuda", text("out of device memory: ", bytes, " bytes wanted beside ",
                                     statistics().bytes_in_use, " in use: ", cudaGetErrorString(status)));
    }
    count_allocation(bytes);
    return memory;
  }
  std::size_t available() const override {
    std::size_t free = 0, total = 0;
    gpu::check(cudaMemGetInfo(&free, &total), "free memory of the device");
    return free;
  }
  void release(void* memory, std::size_t bytes) override {
    cudaFree(memory);  // a destructor's work: an error shows at the next launch
    count_release(bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    transfer(host, device, bytes, cudaMemcpyDeviceToHost);
  }
  void copy_from_host(void* device, const void* host, std::size_t bytes) override {
    transfer(device, host, bytes, cudaMemcpyHostToDevice);
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    gpu::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copy on the device");
  }

 private:
  void transfer(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    gpu::check(cudaMemcpyAsync(to, from, bytes, kind, stream_), "copy between host and device");
    gpu::check(cudaStreamSynchronize(stream_), "kernels or a copy on the device");
  }

  cudaStream_t stream_;
};

}  // namespace

Device cuda_device() {
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0)
    throw DeviceError(
        "cuda", text("no CUDA device: ", status == cudaSuccess ? "none found" : cudaGetErrorString(status)));
  cudaDeviceProp properties;
  gpu::check(cudaGetDeviceProperties(&properties, 0), "properties of device 0");
  cudaStream_t stream = nullptr;
  gpu::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  auto backend = std::make_shared<Backend>();
  backend->stream_owner =
      std::shared_ptr<void>(stream, [](void* owned) { cudaStreamDestroy(static_cast<cudaStream_t>(owned)); });
  backend->stream = stream;
  backend->kind = DeviceKind::cuda;
  backend->description = properties.name;
  backend->pool = std::make_unique<ThreadPool>(1);
  backend->memory = std::make_unique<CudaMemory>(stream);
  backend->tables = complete_tables(cuda_tables(), {});
  return Device(backend);
}

}  // namespace fovea

// Tensor, memory, pool.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "engine/backend.hpp"
#include "engine/sanitized.hpp"
#include "engine/step_memory.hpp"
#include "fovea/ops.hpp"

using namespace fovea;

TEST_CASE("a shape counts its elements and refuses what it cannot hold") {
  CHECK(Shape{2, 3, 4}.elements() == 24);
  CHECK(Shape{}.elements() == 1);
  CHECK((Shape{2, 3}[-1]) == 3);
  CHECK(to_string(Shape{2, 3}) == "(2, 3)");
  CHECK_THROWS_AS((Shape{2, -1}), ShapeError);
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1}), ShapeError);
  CHECK_THROWS_AS((Shape{std::int64_t{1} << 40, std::int64_t{1} << 40}), ShapeError);
}

TEST_CASE("a step's second run takes all its memory from the plan") {
  const Device device = cpu_device(1);
  StepMemory memory(device);
  const auto step = [&] {
    const StepMemory::Scope scope(memory, "step");
    Tensor a({100}, DType::f32, device), b({50}, DType::f32, device);
    a.fill(1);
    b.fill(2);
    a = Tensor();
    Tensor c({70}, DType::f32, device);
    c.fill(3);
    return b.to_vector<float>()[49] + c.to_vector<float>()[69];
  };
  CHECK(step() == 5);
  const auto after_first = device.memory().allocations;
  CHECK(step() == 5);
  CHECK(device.memory().allocations == after_first + 1);  // the slab
  CHECK(step() == 5);
  CHECK(device.memory().allocations == after_first + 1);
  CHECK(memory.planned_bytes("step") < 150 * 4 + 200);  // c lies where a was
}

TEST_CASE("a plan that the device has no room for is told with its figures") {
  class FullMemory : public Memory {
   public:
    void* allocate(std::size_t bytes) override {
      if (full) throw DeviceError("memory", "full");
      return Memory::allocate(bytes);
    }
    bool full = false;
  };
  const Device device = cpu_device(1);
  const auto full = std::make_shared<FullMemory>();
  device.backend().memory = full;
  StepMemory memory(device);
  const auto step = [&] {
    const StepMemory::Scope scope(memory, "step 7");
    const Tensor a({100}, DType::f32, device), b({50}, DType::f32, device);
  };
  step();
  full->full = true;
  CHECK_THROWS_WITH_AS(step(), "[memory] the plan of step 7 has 2 tensors in 704 bytes: [memory] full",
                       DeviceError);
  full->full = false;
  step();
  CHECK(device.memory().bytes_in_use == 704);
}

TEST_CASE("a tensor kept from a planned step stays valid") {
  const Device device = cpu_device(1);
  StepMemory memory(device);
  Tensor kept;
  const auto step = [&](float value, bool keep) {
    const StepMemory::Scope scope(memory, "step");
    Tensor a = Tensor::full({100}, value, DType::f32, device);
    if (keep) kept = a;
  };
  step(1, false);
  step(2, true);
  step(3, false);
  step(4, false);
  CHECK(kept.to_vector<float>() == std::vector<float>(100, 2.0f));
}

TEST_CASE("a step that keeps a tensor longer than its plan says gets memory of its own") {
  const Device device = cpu_device(1);
  StepMemory memory(device);
  const auto step = [&](bool keep) {
    const StepMemory::Scope scope(memory, "step");
    Tensor a = Tensor::full({64}, 1, DType::f32, device);
    const Tensor kept = keep ? a : Tensor();
    a = Tensor();
    const Tensor b = Tensor::full({64}, 2, DType::f32, device);
    return keep ? kept.to_vector<float>()[0] + b.to_vector<float>()[0] : b.to_vector<float>()[0];
  };
  CHECK(step(false) == 2);
  CHECK(step(false) == 2);
  CHECK(step(true) == 3);
  CHECK(step(true) == 3);
  CHECK(step(false) == 2);
}

TEST_CASE("several threads may use one device") {
  const Device device = cpu_device(2);
  std::atomic<int> wrong{0};
  const auto use = [&](float value) {
    for (int i = 0; i < 300; ++i) {
      const Tensor x = Tensor::full({33, 7}, value, DType::f32, device);
      const Tensor y = matmul(x.reshape({7, 33}), x);
      for (const float one : y.to_vector<float>()) wrong += one != 33 * value * value;
    }
  };
  std::thread other(use, 2.0f);
  use(3.0f);
  other.join();
  CHECK(wrong == 0);
}

TEST_CASE("threads that the system does not give are an error, not the end of the process") {
  if (sanitized) return;  // reserves more addresses than that
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    rlimit few{};
    ::getrlimit(RLIMIT_AS, &few);
    few.rlim_cur = std::size_t{1} << 30;  // too few addresses for the stacks of a thousand threads
    ::setrlimit(RLIMIT_AS, &few);
    try {
      const ThreadPool pool(1024);
    } catch (const DeviceError&) {
      ::_exit(7);
    }
    ::_exit(8);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
}

TEST_CASE("the pool runs every task once, whatever the number of threads") {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (const int count : {0, 1, 2, 5, 64, 1000}) {
      std::vector<std::atomic<int>> hits(static_cast<std::size_t>(count));
      const auto task = [](void* context, std::int64_t index, int) {
        ++(*static_cast<std::vector<std::atomic<int>>*>(context))[static_cast<std::size_t>(index)];
      };
      pool.run(count, task, &hits);
      for (const auto& hit : hits) CHECK(hit == 1);
    }
  }
}

// Whole models against PyTorch on the CPU, and the training traces train_*.
#include "golden_models.hpp"

using namespace fovea;
using namespace fovea::test;

TEST_CASE("whole models in f64 equal PyTorch: outputs, losses, gradients, buffers, the AdamW step") {
  for (const auto& [prefix, cases] : families) {
    const Totals totals = run_all(prefix, {cpu_device(2, Isa::reference), DType::f64}, f64_tolerance, true);
    CHECK(totals.cases == cases);
    CHECK(totals.worst < f64_tolerance.relative);
  }
}

TEST_CASE("whole models in f32 equal PyTorch's f64 on every instruction set") {
  for (const Isa isa : available_isas()) {
    INFO("instruction set ", to_string(isa));
    MESSAGE("f32, " << to_string(isa));
    for (const auto& [prefix, cases] : families)
      CHECK(run_all(prefix, {cpu_device(2, isa), DType::f32}, f32_tolerance, false).cases == cases);
  }
}

TEST_CASE("the comparison of whole models notices a wrong parameter") {
  const Placement placement{cpu_device(1, Isa::reference), DType::f64};
  const Case one = load_case("core_default_train", placement.device);
  const LoadedModel loaded =
      load_model(fixture_folder() + "/core_default_train.model.safetensors", placement);
  for (const NamedTensor& named : loaded.model->tensors())
    if (named.role == Role::parameter) named.tensor.data<double>()[0] += 1e-6;
  const Gradients result = gradients(
      *loaded.model, {one.session, tensor_of(one.io, "stimulus"), tensor_of(one.io, "responses"), {}, {}},
      {true, nullptr});
  CHECK_FALSE(relative_l2(tensor_of(one.io, "output"), result.output, f64_tolerance.relative));
  CHECK_FALSE(relative_l2(tensor_of(one.io, "grad.stimulus"), result.stimulus, f64_tolerance.relative));
}

TEST_CASE("twenty training steps equal PyTorch's") {
  const Placement placement{cpu_device(2, Isa::reference), DType::f64};
  for (const std::string name : {"train_core_two_sessions", "train_klindt2d", "train_encoder_factorized",
                                 "train_encoder_gaussian_shifter"}) {
    INFO(name);
    const Safetensors io = load_fixture(name + ".io", placement.device);
    const LoadedModel loaded = load_model(fixture_folder() + '/' + name + ".model.safetensors", placement);
    const auto sessions = nlohmann::json::parse(io.metadata.at("sessions")).get<std::vector<std::string>>();
    TrainingOptions options;
    options.optimizer.weight_decay = std::stod(io.metadata.at("weight_decay"));
    TrainingStep step(*loaded.model, options);
    std::vector<double> totals;
    for (std::size_t i = 0; i < sessions.size(); ++i) {
      const CaseInputs inputs(io, placement, text('.', i));
      const StepLosses losses = step.run(inputs.input_of(sessions[i]), inputs.responses,
                                         {std::stod(io.metadata.at("lr")), nullptr, false});
      totals.push_back(losses.total);
    }
    REQUIRE(totals.size() == 20);
    Comparer comparer(name, {1e-8}, 0);
    comparer.compare("total", tensor_of(io, "total"), Tensor::from(totals, {20}, placement.device));
    int finals = 0;
    for (const NamedTensor& named : loaded.model->tensors()) {
      if (named.role == Role::constant && !io.find("final." + named.name)) continue;
      comparer.compare("final." + named.name, tensor_of(io, "final." + named.name), named.tensor);
      ++finals;
    }
    CHECK(finals == std::count_if(io.tensors.begin(), io.tensors.end(),
                                  [](const auto& entry) { return entry.first.rfind("final.", 0) == 0; }));
    MESSAGE(name << ": worst " << comparer.worst() << " at " << comparer.where());
  }
}

// From YAML text to a run configuration and its model. Models that need more than some memory are refused by
// that memory.
#include "engine/bounded_memory.hpp"
#include "fovea/model.hpp"
#include "fuzz.hpp"
#include "training/run_config.hpp"
#include "training/yaml.hpp"

namespace {

using namespace fovea;
using namespace fovea::fuzz;

constexpr std::size_t most_model_bytes = 4 << 20, most_document_bytes = 1 << 20;

void check_document(const Json& document) {
  const std::string written = write_yaml(document);
  Json again;
  // What is written is longer than what was read where it has aliases.
  if (written.size() > most_document_bytes) return;
  again = parse_yaml("again", written);
  require(write_yaml(again) == written, "a document comes back");
}

void check_config(const RunConfig& config) {
  const Json written = write_run_config(config);
  require(write_run_config(parse_run_config(written)) == written,
          "a completed configuration is a fixed point");
}

void check_model(const Model& model, const Placement& placement) {
  const std::string config = model.config();
  require(make_model(config, placement)->config() == config, "a completed model section is a fixed point");
  (void)refuses([&] { model.describe(model.in_shape()); });
  for (const std::string& session : model.sessions()) (void)model.output_shape(model.in_shape(), session);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Json document;
  if (refuses([&] { document = parse_yaml("input", std::string(text_of(data, size))); })) return 0;
  check_document(document);
  RunConfig config;
  if (refuses([&] { config = parse_run_config(document); })) return 0;
  check_config(config);
  const Placement placement{cpu_device(1, Isa::reference), DType::f32};
  bound_memory(placement.device, most_model_bytes);
  std::unique_ptr<Model> model;
  if (refuses([&] { model = make_model(config.model.dump(), placement); })) return 0;
  const Placement other{cpu_device(1, Isa::reference), DType::f32};
  check_model(*model, other);
  return 0;
}

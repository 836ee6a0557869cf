// Model files: formats.md section 1.
#include <algorithm>
#include <cmath>
#include <map>

#include "engine/bounded_memory.hpp"
#include "fovea/model.hpp"
#include "fovea/safetensors.hpp"
#include "models/registry.hpp"

namespace fovea {
namespace {

constexpr auto format = "fovea.model";
constexpr auto version = "1";

bool is_reference_constant(const std::string& name) {
  constexpr std::string_view suffix = "laplace.filter";
  return name.size() >= suffix.size() &&
         name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
}

const std::string& required(const Safetensors& file, const std::string& path, const std::string& key) {
  const auto found = file.metadata.find(key);
  if (found == file.metadata.end()) throw FormatError(path, text("a model file needs metadata '", key, "'"));
  return found->second;
}

/// openretina's older files call the readout's bias so.
std::string current_name(const std::string& name) {
  constexpr std::string_view legacy = ".bias_param";
  if (name.size() < legacy.size() || name.compare(name.size() - legacy.size(), legacy.size(), legacy) != 0)
    return name;
  return name.substr(0, name.size() - legacy.size()) + ".bias";
}

bool dtype_fits(DType from, DType to) { return (from == DType::i64) == (to == DType::i64); }

/// Says which value of a damaged file, or of a training that diverged, is none.
void check_finite(const std::vector<NamedTensor>& tensors, const std::string& path) {
  for (const NamedTensor& one : tensors) {
    const std::vector<double> values = one.tensor.to(DType::f64).to_vector<double>();
    const auto bad =
        std::find_if(values.begin(), values.end(), [](double value) { return !std::isfinite(value); });
    if (bad != values.end())
      throw FormatError(path, text("tensor ", one.name, ", value ", bad - values.begin(), " of ",
                                   one.tensor.shape(), " is not finite: ", *bad));
  }
}

}  // namespace

void check_claim(const std::string& config, const std::vector<std::pair<std::string, Tensor>>& tensors) {
  std::size_t bytes = std::size_t{1} << 20;
  for (const auto& [name, tensor] : tensors) bytes += 4 * tensor.bytes();
  const Device device = cpu_device(1, Isa::reference);
  bound_memory(device, bytes);
  try {
    (void)make_model(config, {device, DType::f32});
  } catch (const MemoryBoundError&) {
    throw FormatError("config", text("the model needs more memory than the tensors of the file fill: over ",
                                     bytes, " bytes"));
  }
}

void load_tensors(const Model& model, const std::vector<std::pair<std::string, Tensor>>& tensors,
                  const std::string& where) {
  std::map<std::string, Tensor> given;
  std::string problems;
  const auto problem = [&](const std::string& what) { problems += (problems.empty() ? "" : "; ") + what; };
  for (const auto& [name, tensor] : tensors)
    if (!is_reference_constant(name) && !given.emplace(current_name(name), tensor).second)
      problem("twice: " + current_name(name));
  const std::vector<NamedTensor> own = model.tensors();
  for (const NamedTensor& one : own) {
    const auto found = given.find(one.name);
    if (found == given.end()) {
      problem(text("missing: ", one.name, ' ', one.tensor.shape()));
      continue;
    }
    if (found->second.shape() != one.tensor.shape() || !dtype_fits(found->second.dtype(), one.tensor.dtype()))
      problem(text("misshapen: ", one.name, ' ', found->second.dtype(), ' ', found->second.shape(),
                   " instead of ", one.tensor.dtype(), ' ', one.tensor.shape()));
  }
  for (const auto& [name, tensor] : given) {
    bool known = false;
    for (const NamedTensor& one : own) known = known || one.name == name;
    if (!known) problem("extra: " + name);
  }
  if (!problems.empty()) throw FormatError(where, text("the tensors do not fit the model: ", problems));
  for (const NamedTensor& one : own) one.tensor.copy_from(given.at(one.name).to(one.tensor.dtype()));
}

LoadedModel load_model(const std::string& path, const Placement& placement) {
  const Safetensors file = read_safetensors(path, placement.device);
  if (required(file, path, "format") != format)
    throw FormatError(path, text("format must be '", format, "': '", file.metadata.at("format"), "'"));
  if (required(file, path, "version") != version)
    throw FormatError(path, text("version must be '", version, "': '", file.metadata.at("version"), "'"));
  LoadedModel loaded;
  try {
    check_claim(required(file, path, "config"), file.tensors);
    loaded.model = make_model(required(file, path, "config"), placement);
  } catch (const Error& error) {
    throw FormatError(path, text("config: ", error.what()));
  }
  load_tensors(*loaded.model, file.tensors, path);
  check_finite(loaded.model->tensors(), path);
  const auto provenance = file.metadata.find("provenance");
  loaded.provenance = provenance == file.metadata.end() ? "{}" : provenance->second;
  parse_json(path, loaded.provenance);
  return loaded;
}

void save_model(const std::string& path, const Model& model, const std::string& provenance) {
  Safetensors file;
  for (const NamedTensor& one : model.tensors()) {
    const bool narrow = one.tensor.dtype() == DType::f64;
    file.tensors.emplace_back(one.name, narrow ? one.tensor.to(DType::f32) : one.tensor);
  }
  file.metadata = {
      {"format", format}, {"version", version}, {"config", model.config()}, {"provenance", provenance}};
  write_safetensors(path, file);
}

}  // namespace fovea

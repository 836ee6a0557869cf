// Safetensors files and the models in them. An input that begins with T is a header, a zero byte and the
// data, so that mutations need not keep the length of the header right; any other is the file.
#include "fovea/safetensors.hpp"

#include <cstring>

#include "fovea/model.hpp"
#include "fuzz.hpp"

namespace {

using namespace fovea;
using namespace fovea::fuzz;

std::string file_of(std::string_view input) {
  if (input.empty() || input.front() != 'T') return std::string(input);
  const std::size_t end = std::min(input.find('\0'), input.size());
  const std::string_view header = input.substr(1, end - 1),
                         data = input.substr(std::min(end + 1, input.size()));
  const std::uint64_t size = header.size();
  std::string file(reinterpret_cast<const char*>(&size), sizeof size);
  return file.append(header).append(data);
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

void check_round_trip(const Safetensors& content, const std::string& path, const Device& device) {
  write_safetensors(path, content);
  const Safetensors again = read_safetensors(path, device);
  require(again.metadata == content.metadata, "metadata come back");
  require(again.tensors.size() == content.tensors.size(), "all tensors come back");
  for (const auto& [name, tensor] : content.tensors) {
    const Tensor* found = again.find(name);
    require(found && same_bytes(tensor, *found), "tensors come back");
  }
}

void check_model(const LoadedModel& loaded, const std::string& path, const Placement& placement) {
  save_model(path, *loaded.model, loaded.provenance);
  const LoadedModel again = load_model(path, placement);
  require(again.model->config() == loaded.model->config(), "the configuration comes back");
  require(again.provenance == loaded.provenance, "the provenance comes back");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const MemoryFile file;
  static const Folder folder;
  static const Device device = cpu_device(1, Isa::reference);
  file.set(file_of(text_of(data, size)));
  Safetensors content;
  if (refuses([&] { content = read_safetensors(file.path(), device); })) return 0;
  check_round_trip(content, folder / "again.safetensors", device);
  const Placement placement{device, DType::f32};
  LoadedModel loaded;
  if (refuses([&] { loaded = load_model(file.path(), placement); })) return 0;
  check_model(loaded, folder / "model.safetensors", placement);
  return 0;
}

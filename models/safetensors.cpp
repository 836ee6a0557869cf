#include "fovea/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <set>

#include "engine/atomic_file.hpp"
#include "engine/backend.hpp"
#include "engine/input_file.hpp"
#include "models/safetensors_header.hpp"

namespace fovea {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little endian");

constexpr std::size_t chunk_bytes = 1 << 20;

std::uint64_t size_of_file(std::ifstream& file, const std::string& path) {
  file.seekg(0, std::ios::end);
  const std::streamoff size = file.tellg();
  if (!file || size < 0) throw Error(path, "is not a file that can be read");
  file.seekg(0);
  return static_cast<std::uint64_t>(size);
}

void read_exactly(std::ifstream& file, const std::string& path, void* bytes, std::size_t count) {
  file.read(static_cast<char*>(bytes), static_cast<std::streamsize>(count));
  if (!file) throw Error(path, text("ended or failed while ", count, " bytes were read"));
}

SafetensorsHeader read_header(std::ifstream& file, const std::string& path) {
  const std::uint64_t file_bytes = size_of_file(file, path);
  std::uint64_t header_bytes = 0;
  if (file_bytes < sizeof header_bytes)
    throw FormatError(path, text("too short for a header: ", file_bytes, " bytes"));
  read_exactly(file, path, &header_bytes, sizeof header_bytes);
  if (header_bytes > most_header_bytes)
    throw FormatError(path, text("header longer than ", most_header_bytes, " bytes: ", header_bytes));
  if (header_bytes > file_bytes - sizeof header_bytes)
    throw FormatError(path, text("header of ", header_bytes, " bytes in a file of ", file_bytes));
  std::string header(header_bytes, '\0');
  read_exactly(file, path, header.data(), header.size());
  return parse_safetensors_header(header, file_bytes - sizeof header_bytes - header_bytes, path);
}

Tensor read_tensor(std::ifstream& file, const std::string& path, const SafetensorsEntry& entry,
                   const Device& device) {
  Tensor tensor(entry.shape, entry.dtype, device);
  std::vector<std::byte> chunk(std::min(tensor.bytes(), chunk_bytes));
  auto* to = static_cast<std::byte*>(tensor.raw());
  for (std::size_t left = tensor.bytes(); left > 0;) {
    const std::size_t count = std::min(left, chunk_bytes);
    read_exactly(file, path, chunk.data(), count);
    device.backend().memory->copy_from_host(to, chunk.data(), count);
    to += count;
    left -= count;
  }
  return tensor;
}

void write_tensor(AtomicFile& file, const Tensor& tensor) {
  std::vector<char> chunk(std::min(tensor.bytes(), chunk_bytes));
  const auto* from = static_cast<const std::byte*>(tensor.raw());
  for (std::size_t left = tensor.bytes(); left > 0;) {
    const std::size_t count = std::min(left, chunk_bytes);
    tensor.device().backend().memory->copy_to_host(chunk.data(), from, count);
    file.write({chunk.data(), count});
    from += count;
    left -= count;
  }
}

}  // namespace

const Tensor* Safetensors::find(const std::string& name) const {
  for (const auto& [key, tensor] : tensors)
    if (key == name) return &tensor;
  return nullptr;
}

Safetensors read_safetensors(const std::string& path, const Device& device) {
  std::ifstream file = open_input(path);
  SafetensorsHeader header = read_header(file, path);
  Safetensors content;
  content.metadata = std::move(header.metadata);
  for (const SafetensorsEntry& entry : header.entries)
    content.tensors.emplace_back(entry.name, read_tensor(file, path, entry, device));
  return content;
}

void write_safetensors(const std::string& path, const Safetensors& content) {
  SafetensorsHeader header;
  header.metadata = content.metadata;
  std::uint64_t end = 0;
  for (const auto& [name, tensor] : content.tensors) {
    const std::uint64_t begin = end;
    end += tensor.bytes();
    header.entries.push_back({name, tensor.dtype(), tensor.shape(), begin, end});
  }
  const std::string head = format_safetensors_header(header, path);
  const std::uint64_t head_bytes = head.size();
  AtomicFile file(path);
  file.write({reinterpret_cast<const char*>(&head_bytes), sizeof head_bytes});
  file.write(head);
  for (const auto& [name, tensor] : content.tensors) write_tensor(file, tensor);
  file.commit();
}

}  // namespace fovea

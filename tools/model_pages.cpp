// Writes the documentation page of every model class from its parameter tables.
//   model_pages FOLDER           writes <class>.md and losses.md
//   model_pages --check FOLDER   exits 1 where a page there is not what would be written
#include <fmt/core.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "engine/atomic_file.hpp"
#include "models/losses.hpp"
#include "models/registry.hpp"

using namespace fovea;

namespace {

/// A cell of a table: a bar would end it.
std::string cell(const std::string& text) {
  std::string escaped;
  for (const char c : text) escaped += c == '|' ? std::string("\\|") : std::string(1, c);
  return escaped;
}

std::string table(const std::vector<ParameterDocumentation>& rows) {
  std::string out = "| parameter | type | default | |\n|---|---|---|---|\n";
  for (const ParameterDocumentation& row : rows)
    out += fmt::format("| `{}` | {} | {} | {} |\n", row.name, cell(row.type),
                       row.default_value == "required" ? "required" : '`' + cell(row.default_value) + '`',
                       cell(row.documentation));
  return out;
}

std::string page_of(const ModelClass& one) {
  const ClassPage page = one.page();
  std::string out = fmt::format("# {}\n\n{}\n\n{}", one.name, page.summary, table(one.document()));
  out += fmt::format(
      "\nBesides these: `loss` (default `{}`), `metric` or `correlation_loss` (default `{}`; see "
      "[losses](losses.md)), "
      "and `n_neurons_dict` and `data_info`, which must agree with the data.\n",
      page.default_loss, page.default_metric);
  for (const ParameterSection& part : page.parts)
    out += fmt::format("\n## {}\n\n{}", part.title, table(part.rows));
  out += "\n## Deliberately different from the reference\n\n";
  return out + page.differences;
}

std::string losses_page() {
  std::string out =
      "# Losses and metrics\n\n`loss: {class: PoissonLoss3d, avg: true}`, or as Python writes it, `loss: "
      "nn.PoissonNLLLoss(log_input = False)`.\nWith a time axis the target is aligned by its last frames. A "
      "metric is "
      "reported with a plus sign: larger is better.\n";
  for (const LossDocumentation& loss : document_losses())
    out += fmt::format("\n## {}\n\nFor {}.\n\n{}", loss.name,
                       loss.of_movies ? loss.of_images ? "movies and images" : "movies" : "images",
                       table(loss.rows));
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  const bool check = argc == 3 && std::string(argv[1]) == "--check";
  if (argc != 2 && !check) {
    fmt::print(stderr, "usage: model_pages [--check] FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder = argv[argc - 1];
  std::map<std::string, std::string> pages{{"losses.md", losses_page()}};
  for (const ModelClass& one : model_classes()) pages[one.name + ".md"] = page_of(one);
  int differing = 0;
  for (const auto& [name, content] : pages) {
    const std::string path = (folder / name).string();
    if (!check) {
      write_file_atomically(path, content);
      continue;
    }
    std::ifstream file(path, std::ios::binary);
    if (std::string(std::istreambuf_iterator<char>(file), {}) == content) continue;
    fmt::print(stderr, "{} is not what the parameter tables say; write it again with: model_pages {}\n", path,
               folder.string());
    ++differing;
  }
  fmt::print("{} pages{}\n", pages.size(), check ? fmt::format(", {} differ", differing) : " written");
  return differing ? 1 : 0;
}

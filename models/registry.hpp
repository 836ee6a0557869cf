// Model classes by name.
#pragma once
#include <memory>
#include <vector>

#include "fovea/model.hpp"
#include "models/json.hpp"
#include "models/parameters.hpp"

namespace fovea {

/// One row of a parameter table, for the documentation.
struct ParameterDocumentation {
  std::string name, type, default_value, documentation;
};

/// A parameter table under a heading.
struct ParameterSection {
  std::string title;
  std::vector<ParameterDocumentation> rows;
};

/// What the documentation page of a class says besides its own parameter table.
struct ClassPage {
  std::string summary;                       ///< what the class computes, and its source
  std::vector<ParameterSection> parts;       ///< tables of what it is built of
  std::string default_loss, default_metric;  ///< as a configuration spells them
  std::string differences;                   ///< from the reference, and why: a list in Markdown
};

struct ModelClass {
  std::string name;
  std::unique_ptr<Model> (*make)(const Json& section, const Placement& placement, std::uint64_t seed);
  std::vector<ParameterDocumentation> (*document)();
  ClassPage (*page)();
};

/// All classes of this build.
const std::vector<ModelClass>& model_classes();

/// Parses JSON text, refusing duplicate keys and nesting deeper than any configuration has.
Json parse_json(const std::string& where, const std::string& json);

/// FormatError where the configuration of a file asks for a model that its tensors cannot fill; it can claim
/// any size, and no more memory is taken than they have.
void check_claim(const std::string& config, const std::vector<std::pair<std::string, Tensor>>& tensors);

template <class Options>
std::vector<ParameterDocumentation> document_table(const ParameterTable<Options>& table) {
  std::vector<ParameterDocumentation> rows;
  for (const auto& entry : table.entries())
    rows.push_back({entry.name, entry.type, entry.required ? "required" : entry.write(Options{}).dump(),
                    entry.documentation});
  return rows;
}

}  // namespace fovea

#include "models/registry.hpp"

#include <set>

namespace fovea {

extern const ModelClass core_readout_class;         // core_readout.cpp
extern const ModelClass firing_rate_encoder_class;  // firing_rate_encoder.cpp
extern const ModelClass klindt_core_readout_2d_class,
    klindt_core_readout_3d_class;  // klindt_core_readout.cpp

const std::vector<ModelClass>& model_classes() {
  static const std::vector<ModelClass> classes{klindt_core_readout_2d_class, klindt_core_readout_3d_class,
                                               core_readout_class, firing_rate_encoder_class};
  return classes;
}

Json parse_json(const std::string& where, const std::string& json) {
  constexpr int deepest = 32;
  constexpr std::size_t most_keys = 4096;  // of one object, whose keys are looked for one by one
  std::vector<std::set<std::string>> keys;
  const Json::parser_callback_t check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > deepest) throw FormatError(where, text("JSON nested deeper than ", deepest, " levels"));
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
      throw FormatError(where, text("duplicate key '", parsed.get<std::string>(), "'"));
    if (event == Json::parse_event_t::key && keys.back().size() > most_keys)
      throw FormatError(where, text("more than ", most_keys, " keys in one object"));
    return true;
  };
  try {
    return Json::parse(json, check);
  } catch (const Json::exception& error) {
    throw FormatError(where, text("not JSON: ", error.what()));
  }
}

std::unique_ptr<Model> make_model(const std::string& config, const Placement& placement, std::uint64_t seed) {
  const Json section = parse_json("model", config);
  const Json name = section.is_object() ? section.value("class", Json()) : section;
  std::vector<std::string> known;
  for (const ModelClass& one : model_classes()) {
    if (name == Json(one.name)) return one.make(section, placement, seed);
    known.push_back(one.name);
  }
  refuse_name("model", "class", name, known);
}

std::unique_ptr<Model> Model::clone() const {
  auto copy = make_model(config(), placement());
  const std::vector<NamedTensor> from = tensors(), to = copy->tensors();
  for (std::size_t i = 0; i < from.size(); ++i) to[i].tensor.copy_from(from[i].tensor);
  return copy;
}

}  // namespace fovea

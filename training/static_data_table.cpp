// The `data:` section of `format: sensorium_static`.
#include "training/run_config.hpp"

namespace fovea {
namespace {

using O = StaticDataOptions;

/// A list of texts, a single text, or null for none.
void read_words(const std::string& where, const char* key, const Json& value,
                std::vector<std::string>& words) {
  words.clear();
  if (value.is_null()) return;
  if (value.is_string()) {
    words.push_back(value.get<std::string>());
  } else {
    read_json(where, key, value, words);
  }
}

void add_words(ParameterTable<O>& table, const char* name, std::vector<std::string> O::*member,
               const char* documentation) {
  table.add_custom(
      name, "list of str | str | null", documentation,
      [=](const std::string& where, const Json& value, O& options) {
        read_words(where, name, value, options.*member);
      },
      [=](const O& options) { return (options.*member).empty() ? Json(nullptr) : Json(options.*member); });
}

using IdLists = std::vector<std::optional<std::vector<std::int64_t>>>;

void add_id_lists(ParameterTable<O>& table, const char* name, IdLists O::*member, const char* documentation) {
  table.add_custom(
      name, "list of lists of int | null", documentation,
      [=](const std::string& where, const Json& value, O& options) {
        (options.*member).clear();
        if (!value.is_null()) read_json(where, name, value, options.*member);
      },
      [=](const O& options) {
        if ((options.*member).empty()) return Json(nullptr);
        Json lists = Json::array();
        for (const auto& list : options.*member) lists.push_back(write_json(list));
        return lists;
      });
}

ParameterTable<O> make_table() {
  ParameterTable<O> table("data");
  table.require("paths", &O::paths, "list of path", "a folder or zip per session")
      .add("batch_size", &O::batch_size, "int", "images of a batch", at_least<std::int64_t>(1))
      .add("normalize", &O::normalize, "bool", "by the statistics of the data set");
  add_words(table, "exclude", &O::exclude, "images, responses, behavior, pupil_center: not normalised");
  table.add("include_behavior", &O::include_behavior, "bool", "pupil size, its derivative, running speed")
      .add("include_eye_position", &O::include_eye_position, "bool", "pupil centres")
      .add("add_behavior_as_channels", &O::add_behavior_as_channels, "bool",
           "behaviour as constant planes behind the image's channels")
      .add("add_eye_pos_as_channels", &O::add_eye_pos_as_channels, "bool | null",
           "pupil centre as constant planes behind those")
      .add("scale", &O::scale, "float | null", "of height and width", finite_above(0))
      .add("select_input_channel", &O::select_input_channel, "int | null", "keeps this channel only")
      .add("neuron_n", &O::neuron_n, "int | null",
           "this many neurons, drawn; areas and layers are ignored then")
      .add("neuron_base_seed", &O::neuron_base_seed, "int | null", "of the draw of neurons")
      .add("exclude_neuron_n", &O::exclude_neuron_n, "int", "leaves out this many of those drawn first");
  add_id_lists(table, "neuron_ids", &O::neuron_ids, "unit ids per path, in this order");
  add_words(table, "areas", &O::areas, "neurons of these areas only");
  add_words(table, "layers", &O::layers, "neurons of these layers only");
  table.add("image_n", &O::image_n, "int | null", "this many training images, drawn")
      .add("image_base_seed", &O::image_base_seed, "int | null", "of the draw of training images");
  add_id_lists(table, "image_ids", &O::image_ids, "training images per path, the first trial of each");
  add_words(table, "image_condition", &O::image_condition, "images of these classes only, in all tiers");
  table.add("readers", &O::readers, "int", "threads that read ahead; the same values for any number",
            at_least<std::int64_t>(1));
  return table;
}

}  // namespace

const ParameterTable<StaticDataOptions>& static_data_table() {
  static const ParameterTable<O> table = make_table();
  return table;
}

StaticDataOptions parse_static_data_options(const Json& section) {
  Json given = section;
  // The reference's "none".
  for (const char* key : {"add_eye_pos_as_channels", "scale"})
    if (given.contains(key) && given[key].is_null()) given.erase(key);
  StaticDataOptions options = static_data_table().parse(given, {"format"});
  check(options);
  return options;
}

Json write_static_data_options(const StaticDataOptions& options) {
  Json section{{"format", static_format}};
  section.update(static_data_table().write(options));
  return section;
}

}  // namespace fovea

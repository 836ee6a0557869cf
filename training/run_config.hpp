// A whole run configuration: formats.md sections 2.3 and 3.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "fovea/data.hpp"
#include "fovea/static_data.hpp"
#include "models/json.hpp"
#include "training/options.hpp"

namespace fovea {

struct RunConfig {
  std::string experiment = "experiment";  ///< names the folder of the runs
  std::int64_t seed = 42;
  std::string device = "auto";  ///< auto | cpu | cuda | emulator
  std::int64_t threads = 0;     ///< 0: all
  std::string output = "runs";
  Json model;        ///< the `model:` section as written; sessions are added from the data
  DataOptions data;  ///< of movies; of another format only `format` is set
  std::optional<StaticDataOptions> static_data;  ///< where data.format is sensorium_static
  TrainingOptions training;
  bool init_at_receptive_fields = false;  ///< model.init_positions: responses; it is not in `model`
};

/// Where the `data:` section is optional it may lack its path, which is empty then, or be missing.
enum class DataSection { required, optional };

/// Reads CONFIG.yaml and applies `section.key=value` overrides. Paths in the file are relative to the file,
/// those of overrides to the current folder. Errors name the key, the value and what is allowed.
RunConfig read_run_config(const std::string& path, const std::vector<std::string>& overrides,
                          DataSection data = DataSection::required);
/// The same from a document; paths stay as they are.
RunConfig parse_run_config(const Json& document, DataSection data = DataSection::required);

/// Every value written out, in the order of formats.md.
Json write_run_config(const RunConfig& config);

/// The `data:` section of a format and back.
DataOptions parse_data_options(const Json& section);
Json write_data_options(const DataOptions& options);
const ParameterTable<DataOptions>& data_table();
StaticDataOptions parse_static_data_options(const Json& section);
Json write_static_data_options(const StaticDataOptions& options);
const ParameterTable<StaticDataOptions>& static_data_table();
inline constexpr const char* static_format = "sensorium_static";

}  // namespace fovea

#include "fovea/data.hpp"

#include <cmath>
#include <limits>
#include <set>

namespace fovea {

void check(const DataOptions& options) {
  const auto require = [](bool ok, const char* field, const std::string& rule, const auto& value) {
    if (!ok) throw ConfigError("data", text(field, ": ", rule, ": ", value));
  };
  require(options.format == "openretina_hdf5", "format", "must be openretina_hdf5", options.format);
  require(!options.path.empty(), "path", "must name a folder", "''");
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  for (const auto& [field, value] :
       {std::pair{"batch_size", options.batch_size}, std::pair{"train_chunk_size", options.train_chunk_size},
        std::pair{"clip_length", options.clip_length}, std::pair{"num_val_clips", options.num_val_clips},
        std::pair{"frames_per_image", options.frames_per_image}})
    require(value >= 1 && value <= most, field, text("must lie in 1 .. ", most), value);
  require(options.seed <= 0xffffffffu, "seed", "must lie in 0 .. 4294967295", options.seed);
  std::set<std::string> names;
  for (const std::string& name : options.test_names) {
    require(!name.empty(), "test_names", "a name must not be empty", "''");
    require(names.insert(name).second, "test_names", "name twice", name);
  }
  if (options.normalize == NormalizeMode::given) {
    const Normalization& given = options.given_normalization;
    require(std::isfinite(given.mean), "normalize.mean", "must be finite", given.mean);
    require(std::isfinite(given.deviation) && given.deviation > 0, "normalize.std",
            "must be finite and above 0", given.deviation);
  }
}

}  // namespace fovea

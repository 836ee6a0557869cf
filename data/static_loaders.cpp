#include "fovea/static_loaders.hpp"

#include <algorithm>

namespace fovea {

StaticLoader::StaticLoader(StaticSession session, Tier tier, std::int64_t batch_size)
    : session_(std::move(session)), tier_(tier), batch_size_(batch_size) {
  if (batch_size < 1) throw ConfigError("StaticLoader", text("batch_size must be at least 1: ", batch_size));
}

std::vector<std::string> StaticLoader::fields() const {
  std::vector<std::string> names{"images", "responses"};
  if (session_.has_behavior()) names.emplace_back("behavior");
  if (session_.has_pupil_center()) names.emplace_back("pupil_center");
  return names;
}

SessionDict<Shape> StaticLoader::dims() const {
  const std::int64_t count = std::min(batch_size_, trials());
  const Shape image = session_.image_shape();
  SessionDict<Shape> shapes{{"images", {count, image[0], image[1], image[2]}},
                            {"responses", {count, session_.n_neurons()}}};
  if (session_.has_behavior()) shapes.add("behavior", {count, 3});
  if (session_.has_pupil_center()) shapes.add("pupil_center", {count, 2});
  return shapes;
}

StaticBatch StaticLoader::batch(std::int64_t index, const Placement& placement) const {
  if (index < 0 || index >= size())
    throw ShapeError("StaticLoader", text("batch ", index, " of ", size(), " is asked for"));
  const std::int64_t begin = index * batch_size_, count = std::min(batch_size_, trials() - begin);
  const auto first = session_.trials(tier_).begin() + begin;
  return session_.read({first, first + count}, placement);
}

StaticLoaders static_loaders(const StaticDataOptions& options) {
  StaticLoaders loaders{open_sensorium(options), {}, {}, {}, {}};
  for (const StaticSession& session : loaders.data.sessions) {
    loaders.train.add(session.key(), {session, Tier::train, options.batch_size});
    loaders.validation.add(session.key(), {session, Tier::validation, options.batch_size});
    loaders.test.add(session.key(), {session, Tier::test, options.batch_size});
    loaders.final_test.add(session.key(), {session, Tier::final_test, options.batch_size});
  }
  return loaders;
}

SessionDict<SessionDict<Shape>> get_dims_for_loader_dict(const LoaderDict& loaders) {
  SessionDict<SessionDict<Shape>> shapes;
  for (const auto& [key, loader] : loaders)
    if (loader.trials() > 0) shapes.add(key, loader.dims());
  return shapes;
}

}  // namespace fovea

#include "models/session_model.hpp"

#include "fovea/ops.hpp"
#include "models/parameters.hpp"

namespace fovea {

std::string SessionModel::config() const {
  Json section{{"class", common_.class_name}};
  section.update(common_.parameters);
  section["loss"] = common_.loss.config;
  section["metric"] = common_.metric.config;
  section["sessions"] = write_sessions(common_.sessions);
  return section.dump();
}

std::vector<std::string> SessionModel::sessions() const {
  std::vector<std::string> keys;
  for (const SessionOptions& session : common_.sessions) keys.push_back(session.key);
  return keys;
}

Tensor SessionModel::metric(const Tensor& output, const Tensor& responses) const {
  const Tensor value = common_.metric.evaluate(output, responses);
  // Reported with a plus sign, as openretina does.
  return common_.metric.config.value("negate", true) ? scale(value, -1.0) : value;
}

std::size_t SessionModel::index_of(const std::string& session) const {
  if (session.empty() && common_.sessions.size() == 1) return 0;
  for (std::size_t i = 0; i < common_.sessions.size(); ++i)
    if (common_.sessions[i].key == session) return i;
  std::string known;
  for (const SessionOptions& one : common_.sessions) known += (known.empty() ? "" : ", ") + one.key;
  throw ConfigError(common_.class_name, text("unknown session '", session, "'. Known: ", known));
}

void SessionModel::check_sample(const Shape& sample) const {
  const Shape& in = common_.in_shape;
  const bool movies = in.rank() == 4;
  if (sample.rank() == in.rank() && sample[0] == in[0] && sample[-2] == in[-2] && sample[-1] == in[-1])
    return;
  throw ShapeError(common_.class_name, text("stimulus must be (", in[0], movies ? ", T" : "", ", ", in[-2],
                                            ", ", in[-1], ") per sample: ", sample));
}

Shape SessionModel::sample_of(const Tensor& stimulus) const {
  const Shape& x = stimulus.shape();
  const bool movies = takes_movies();
  if (x.rank() != in_shape().rank() + 1)
    throw ShapeError(common_.class_name,
                     text("stimulus must be ", movies ? "(B,T,H,W,C)" : "(B,H,W,C)", " inside, ",
                          movies ? "(B,C,T,H,W)" : "(B,C,H,W)", " outside: ", x));
  const Shape sample = movies ? Shape{x[4], x[1], x[2], x[3]} : Shape{x[3], x[1], x[2]};
  check_sample(sample);
  return sample;
}

const std::vector<std::string>& common_keys() {
  static const std::vector<std::string> keys{"class", "sessions", "n_neurons_dict",  "data_info",
                                             "loss",  "metric",   "correlation_loss"};
  return keys;
}

LossPair read_losses(const std::string& where, const Json& section, bool movies, const Json& default_loss,
                     const Json& default_metric) {
  const auto given = [&](const char* key) { return section.value(key, Json()); };
  const auto read = [&](const char* key, const Json& otherwise) {
    return make_loss(text(where, '.', key), given(key).is_null() ? otherwise : given(key), movies);
  };
  const bool renamed = !given("correlation_loss").is_null();
  if (renamed && !given("metric").is_null())
    throw ConfigError(where, text("metric and correlation_loss are two names of one parameter, give one: ",
                                  shown(given("metric")), ", ", shown(given("correlation_loss"))));
  return {read("loss", default_loss), read(renamed ? "correlation_loss" : "metric", default_metric)};
}

}  // namespace fovea

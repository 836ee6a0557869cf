#include <fmt/core.h>

#include <filesystem>

#include "cli/common.hpp"
#include "data/sampler.hpp"
#include "fovea/ops.hpp"
#include "fovea/safetensors.hpp"

namespace fovea::cli {
namespace {

struct Options {
  std::string config, dump;
  std::vector<std::string> overrides;
  DeviceChoice device;
};

/// What one part of a session's movies holds, as the model sees it: stimulus (clips,C,T,H,W), responses
/// (clips,T,N).
struct MovieTier {
  std::string name;
  Tensor stimulus, responses;
};

/// Movies of one length stacked to a batch.
Tensor stacked(const std::vector<Tensor>& movies) {
  std::vector<std::int64_t> extents = movies.at(0).shape().vector();
  extents[0] = static_cast<std::int64_t>(movies.size());
  const Tensor result(Shape(extents), DType::f32, movies[0].device());
  for (std::size_t i = 0; i < movies.size(); ++i)
    result.rows(static_cast<std::int64_t>(i), static_cast<std::int64_t>(i) + 1).copy_from(movies[i]);
  return result;
}

MovieTier clip_tier(const std::string& name, const Session& session, const std::vector<std::int64_t>& clips,
                    std::int64_t clip_length, const Normalization& normalization, const Device& device) {
  MovieTier tier{name, {}, {}};
  if (clips.empty()) return tier;
  std::vector<Tensor> stimulus, responses;
  for (const std::int64_t clip : clips) {
    const std::int64_t begin = clip * clip_length, end = begin + clip_length;
    stimulus.push_back(session.stimulus.read(begin, end, DType::f32, device, normalization));
    responses.push_back(session.responses.read(begin, end, DType::f32, device));
  }
  tier.stimulus = to_channels_first(stacked(stimulus));
  tier.responses = stacked(responses);
  return tier;
}

std::vector<MovieTier> tiers_of(const Session& session, const DataOptions& options,
                                const Normalization& normalization, const Device& device) {
  const ClipSplit split = split_clips(session, options);
  std::vector<MovieTier> tiers;
  tiers.push_back(clip_tier("train", session, split.training, options.clip_length, normalization, device));
  tiers.push_back(
      clip_tier("validation", session, split.validation, options.clip_length, normalization, device));
  for (const TestMovie& test : session.tests)
    tiers.push_back({session.tests.size() == 1 ? "test" : "test_" + test.name,
                     to_channels_first(test.stimulus.read(DType::f32, device, normalization)),
                     test.responses.read(DType::f32, device)});
  return tiers;
}

double mean_of(const Tensor& responses) {
  double sum = 0;
  for (const float value : responses.to_vector<float>()) sum += value;
  return sum / static_cast<double>(responses.elements());
}

void print_tier(const MovieTier& tier) {
  if (!tier.stimulus) {
    fmt::print("  {}: empty\n", tier.name);
    return;
  }
  fmt::print("  {}: stimulus {}, responses {}, mean response {:.4f} per frame\n", tier.name,
             to_string(tier.stimulus.shape()), to_string(tier.responses.shape()), mean_of(tier.responses));
}

void make_folder(const std::string& path) {
  std::error_code failure;
  if (!path.empty() && !std::filesystem::create_directories(path, failure) && failure)
    throw Error(path, text("cannot be made: ", failure.message()));
}

void dump_tier(const std::string& folder, const std::string& session, const std::string& tier,
               std::vector<std::pair<std::string, Tensor>> tensors) {
  const std::string name = session + "_" + tier + ".safetensors";
  write_safetensors((std::filesystem::path(folder) / name).string(),
                    {std::move(tensors), {{"session", session}, {"tier", tier}}});
}

Status show_movies(const Options& options, const RunConfig& config) {
  const DataSet data = load_openretina(config.data);
  const Device device = open_device(config, options.device);
  const Normalization& normalization = data.checked_normalization();
  for (const Session& session : data.sessions)
    (void)split_clips(session, config.data);  // before anything is printed or written
  fmt::print(
      "{} sessions, stimulus {} x {} x {} (channels x height x width), normalised by mean {:.8g} and "
      "deviation {:.8g}, "
      "content {}\n",
      data.sessions.size(), data.channels, data.height, data.width, normalization.mean,
      normalization.deviation, data.content_hash);
  if (const std::int64_t k = config.data.frames_per_image; k > 1)
    fmt::print(
        "of these movies a model of images sees every {} frames in a row as one image of {} x {} channels\n",
        k, data.channels, k);
  make_folder(options.dump);
  for (const Session& session : data.sessions) {
    fmt::print("session {}: {} neurons, {} training frames\n", session.key, session.neurons,
               session.stimulus.frames());
    for (const MovieTier& tier : tiers_of(session, config.data, normalization, device)) {
      print_tier(tier);
      if (options.dump.empty() || !tier.stimulus) continue;
      dump_tier(options.dump, session.key, tier.name,
                {{"stimulus", tier.stimulus}, {"responses", tier.responses}});
    }
  }
  return 0;
}

/// Trials of a tier as a model sees them: images (K,C,H,W), responses (K,N), behaviour (K,3), pupil (K,2).
std::vector<std::pair<std::string, Tensor>> read_tier(const StaticSession& session, Tier tier,
                                                      const Device& device) {
  const StaticBatch batch = session.read(session.trials(tier), {device, DType::f32});
  std::vector<std::pair<std::string, Tensor>> tensors{{"stimulus", to_channels_first(batch.images)},
                                                      {"responses", batch.responses}};
  if (batch.pupil_center) tensors.emplace_back("pupil_center", batch.pupil_center);
  if (batch.behavior) tensors.emplace_back("behavior", batch.behavior);
  return tensors;
}

/// The line of a tier that is not empty.
std::string tier_line(const StaticSession& session, Tier tier, const Device& device) {
  std::string line = fmt::format("  {}: {} trials", to_string(tier), session.trials(tier).size());
  const auto tensors = read_tier(session, tier, device);
  for (const auto& [name, tensor] : tensors) line += fmt::format(", {} {}", name, to_string(tensor.shape()));
  return line + fmt::format(", mean response {:.4f}\n", mean_of(tensors[1].second));
}

std::string describe_images(const StaticDataSet& data, const Device& device) {
  std::string text =
      fmt::format("{} sessions, images {} (channels, height, width), content {}\n", data.sessions.size(),
                  to_string(data.sessions.front().image_shape()), data.content_hash());
  for (const StaticSession& session : data.sessions) {
    text += fmt::format("session {}: {} neurons\n", session.key(), session.n_neurons());
    if (const auto by = session.stimulus_normalization())
      text +=
          fmt::format("  images normalised by mean {:.8g} and deviation {:.8g}\n", by->mean, by->deviation);
    for (const Tier tier : all_tiers)
      text += session.trials(tier).empty() ? fmt::format("  {}: empty\n", to_string(tier))
                                           : tier_line(session, tier, device);
  }
  return text;
}

Status show_images(const Options& options, const RunConfig& config) {
  const LoadedData loaded(config);
  const StaticDataSet& data = *loaded.images();
  const Device device = open_device(config, options.device);
  // Every trial is read before anything is printed or written: the last one may be damaged.
  const std::string description = describe_images(data, device);
  if (!options.dump.empty()) {
    make_folder(options.dump);
    for (const StaticSession& session : data.sessions)
      for (const Tier tier : all_tiers)
        if (!session.trials(tier).empty())
          dump_tier(options.dump, session.key(), to_string(tier), read_tier(session, tier, device));
  }
  fmt::print("{}", description);
  return 0;
}

Status show(const Options& options) {
  const RunConfig config = read_run_config(options.config, options.overrides);
  return config.static_data ? show_images(options, config) : show_movies(options, config);
}

}  // namespace

void add_data(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("data", "Shows what a model will see: sessions, tiers, shapes, statistics");
  command->add_option("CONFIG", options->config, "run configuration")->required();
  command->add_option("OVERRIDES", options->overrides, "section.key=value ..");
  command->add_option("--dump", options->dump, "folder for <session>_<tier>.safetensors, normalised");
  add_device_options(*command, options->device);
  command->footer("Example: fovea data configs/salamander_wn.yaml data.path=salamander_wn --dump dumped");
  command->callback([=, &run] { run = [=] { return show(*options); }; });
}

}  // namespace fovea::cli

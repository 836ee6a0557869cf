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

/// What one tier of a session holds, as the model sees it: stimulus (clips,C,T,H,W), responses (clips,T,N).
struct Tier {
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

Tier clip_tier(const std::string& name, const Session& session, const std::vector<std::int64_t>& clips,
               std::int64_t clip_length, const Normalization& normalization, const Device& device) {
  Tier tier{name, {}, {}};
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

std::vector<Tier> tiers_of(const Session& session, const DataOptions& options,
                           const Normalization& normalization, const Device& device) {
  const ClipSplit split = split_clips(session, options);
  std::vector<Tier> tiers;
  tiers.push_back(clip_tier("train", session, split.training, options.clip_length, normalization, device));
  tiers.push_back(
      clip_tier("validation", session, split.validation, options.clip_length, normalization, device));
  for (const TestMovie& test : session.tests)
    tiers.push_back({session.tests.size() == 1 ? "test" : "test_" + test.name,
                     to_channels_first(test.stimulus.read(DType::f32, device, normalization)),
                     test.responses.read(DType::f32, device)});
  return tiers;
}

void print_tier(const Tier& tier) {
  if (!tier.stimulus) {
    fmt::print("  {}: empty\n", tier.name);
    return;
  }
  double sum = 0;
  const std::vector<float> responses = tier.responses.to_vector<float>();
  for (const float value : responses) sum += value;
  fmt::print("  {}: stimulus {}, responses {}, mean response {:.4f} per frame\n", tier.name,
             to_string(tier.stimulus.shape()), to_string(tier.responses.shape()),
             sum / static_cast<double>(responses.size()));
}

Status show(const Options& options) {
  const RunConfig config = read_run_config(options.config, options.overrides);
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
  std::error_code failure;
  if (!options.dump.empty() && !std::filesystem::create_directories(options.dump, failure) && failure)
    throw Error(options.dump, text("cannot be made: ", failure.message()));
  for (const Session& session : data.sessions) {
    fmt::print("session {}: {} neurons, {} training frames\n", session.key, session.neurons,
               session.stimulus.frames());
    for (const Tier& tier : tiers_of(session, config.data, normalization, device)) {
      print_tier(tier);
      if (options.dump.empty() || !tier.stimulus) continue;
      const std::string name = session.key + "_" + tier.name + ".safetensors";
      write_safetensors((std::filesystem::path(options.dump) / name).string(),
                        {{{"stimulus", tier.stimulus}, {"responses", tier.responses}},
                         {{"session", session.key}, {"tier", tier.name}}});
    }
  }
  return 0;
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

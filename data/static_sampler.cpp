#include "data/static_sampler.hpp"

#include <algorithm>
#include <limits>

#include "fovea/random.hpp"

namespace fovea {
namespace {

constexpr std::uint32_t trial_order_stream = 0x70000000u;  // passes through sessions count up from it

std::int64_t batch_count(std::size_t trials, std::int64_t batch_size) {
  return (static_cast<std::int64_t>(trials) + batch_size - 1) / batch_size;
}

}  // namespace

std::vector<PlannedBatch> batches_of(const StaticDataSet& data, std::size_t session,
                                     const std::vector<std::int64_t>& trials) {
  const auto size = static_cast<std::size_t>(data.options.batch_size);
  std::vector<PlannedBatch> batches;
  for (std::size_t begin = 0; begin < trials.size(); begin += size) {
    const auto at = [&](std::size_t i) { return trials.begin() + static_cast<std::ptrdiff_t>(i); };
    batches.push_back({session, {at(begin), at(std::min(begin + size, trials.size()))}});
  }
  return batches;
}

StaticTrainingSampler::StaticTrainingSampler(const StaticDataSet& data, std::uint64_t seed, DType dtype,
                                             const Device& device)
    : data_(data), seed_(seed), reader_(data, dtype, device) {
  for (const StaticSession& session : data_.sessions)
    if (session.trials(Tier::train).empty())
      throw ConfigError("data",
                        text("session ", session.key(), " has no trial of the tier train: ", session.path()));
}

std::int64_t StaticTrainingSampler::batches_per_epoch() const {
  std::int64_t most = 0;
  for (const StaticSession& session : data_.sessions)
    most = std::max(most, batch_count(session.trials(Tier::train).size(), data_.options.batch_size));
  return most * static_cast<std::int64_t>(data_.sessions.size());
}

std::vector<PlannedBatch> StaticTrainingSampler::pass(std::size_t session, std::int64_t epoch,
                                                      std::int64_t pass) const {
  const std::vector<std::int64_t>& trials = data_.sessions[session].trials(Tier::train);
  const auto visit = static_cast<std::uint32_t>(pass * static_cast<std::int64_t>(data_.sessions.size())) +
                     static_cast<std::uint32_t>(session);
  std::vector<std::int64_t> shuffled;
  shuffled.reserve(trials.size());
  for (const std::int64_t i : Random(seed_, trial_order_stream + visit, static_cast<std::uint32_t>(epoch))
                                  .permutation(static_cast<std::int64_t>(trials.size())))
    shuffled.push_back(trials[static_cast<std::size_t>(i)]);
  return batches_of(data_, session, shuffled);
}

std::vector<PlannedBatch> StaticTrainingSampler::plan(std::int64_t epoch) const {
  const std::size_t sessions = data_.sessions.size();
  const auto turns = static_cast<std::size_t>(batches_per_epoch()) / sessions;
  std::vector<std::vector<PlannedBatch>> of_session(sessions);
  for (std::size_t session = 0; session < sessions; ++session)
    for (std::int64_t again = 0; of_session[session].size() < turns; ++again) {
      std::vector<PlannedBatch> more = pass(session, epoch, again);
      std::move(more.begin(), more.end(), std::back_inserter(of_session[session]));
    }
  std::vector<PlannedBatch> batches;
  for (std::size_t turn = 0; turn < turns; ++turn)
    for (std::vector<PlannedBatch>& session : of_session) batches.push_back(std::move(session[turn]));
  return batches;
}

void StaticTrainingSampler::seek(std::int64_t epoch, std::int64_t batch) {
  if (epoch < 0 || epoch > std::numeric_limits<std::uint32_t>::max() || batch < 0 ||
      batch > batches_per_epoch())
    throw Error("StaticTrainingSampler", text("no such position: epoch ", epoch, ", batch ", batch));
  std::vector<PlannedBatch> batches = plan(epoch);
  batches.erase(batches.begin(), batches.begin() + static_cast<std::ptrdiff_t>(batch));
  reader_.start(std::move(batches));
}

}  // namespace fovea

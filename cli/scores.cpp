#include "cli/scores.hpp"

#include <fmt/core.h>

namespace fovea::cli {

namespace {

void print_summary(const std::string& name, const ScoreSummary& summary) {
  fmt::print("{}: correlation {:.4f}, single trial {:.4f}", name, summary.mean_correlation,
             summary.mean_single_trial_correlation);
  if (summary.mean_feve)
    fmt::print(", FEVE {:.4f} ({} neurons)", *summary.mean_feve, summary.neurons_with_feve);
  fmt::print(" over {} neurons\n", summary.neurons);
}

}  // namespace

void print_scores(const std::vector<SessionScores>& scores) {
  for (const SessionScores& one : scores) print_summary("session " + one.session, summarize({one}));
  const ScoreSummary summary = summarize(scores);
  if (scores.size() > 1) print_summary("all sessions", summary);
  fmt::print("test correlation {:.4f} over {} neurons\n", summary.mean_correlation, summary.neurons);
}

}  // namespace fovea::cli

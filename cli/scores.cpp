#include "cli/scores.hpp"

#include <fmt/core.h>

namespace fovea::cli {

void print_scores(const std::vector<SessionScores>& scores) {
  if (scores.size() > 1)
    for (const SessionScores& one : scores) {
      const ScoreSummary summary = summarize({one});
      fmt::print("session {}: correlation {:.4f} over {} neurons\n", one.session, summary.mean_correlation,
                 summary.neurons);
    }
  const ScoreSummary summary = summarize(scores);
  fmt::print("test correlation {:.4f} over {} neurons\n", summary.mean_correlation, summary.neurons);
}

}  // namespace fovea::cli

// Test scores as train and eval print them.
#pragma once
#include <vector>

#include "fovea/evaluation.hpp"

namespace fovea::cli {

/// Per session, where there are several, and last `test correlation <mean> over <N> neurons`, on stdout.
void print_scores(const std::vector<SessionScores>& scores);

}  // namespace fovea::cli

// Precompiled: CLI11 takes longer to compile than any command.
#include <fmt/core.h>

#include "cli/common.hpp"

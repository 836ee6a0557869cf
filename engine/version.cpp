#include "fovea/version.hpp"

namespace fovea {

const char* version() { return FOVEA_VERSION; }

}  // namespace fovea

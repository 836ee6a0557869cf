// Which fovea this is.
#pragma once

namespace fovea {

/// "major.minor.patch" of the library that was linked.
const char* version();

}  // namespace fovea

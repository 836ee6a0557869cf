// Loading openretina's HDF5 directory with a reader of one's own.
#pragma once
#include "data/hdf5_file.hpp"
#include "fovea/data.hpp"

namespace fovea {

/// As load_openretina in fovea/data.hpp, which reads in a child process (read_hdf5): for callers that wrote
/// the files themselves and know better.
DataSet load_openretina(const DataOptions& options, DataParts parts, const Hdf5Reader& read);

}  // namespace fovea

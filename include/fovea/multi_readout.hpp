// MultiReadoutBase: one readout per session, by its key. Source: neuralpredictors,
// layers/readouts/multi_readout.py.
#pragma once
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <variant>
#include <vector>

#include "fovea/device.hpp"
#include "fovea/module.hpp"
#include "fovea/random.hpp"
#include "fovea/readouts.hpp"
#include "fovea/session_dict.hpp"

namespace fovea {

class ImageReadout;
class MultiReadout;

struct MultiReadoutOptions {
  SessionDict<Shape> in_shape_dict{};          ///< (C,H,W) of the maps, the same for all sessions
  SessionDict<std::int64_t> n_neurons_dict{};  ///< the same keys
  std::variant<FullGaussian2dOptions, FullFactorized2dOptions> base_readout{};
  SessionDict<std::vector<double>> mean_activity_dict{};  ///< initial bias; sessions that it lacks start at 0
  bool clone_readout = false;                             ///< later sessions: alpha * first(x) + beta
};

/// One session's readout, a view into its MultiReadoutBase.
class SessionReadout {
 public:
  /// The line that the reference prints: "FullFactorized2d (64 x 36 x 64 -> 9) with bias, normalized".
  std::string line() const;
  std::vector<NamedTensor> tensors() const;
  std::int64_t parameter_count() const;
  /// (N,C,H,W) of `weight`, and its bytes, before anything is allocated. ConfigError where the class has
  /// positions instead of masks.
  Shape weight_shape() const;
  std::size_t weight_bytes() const;
  /// masks * features of `count` neurons from `first` on (count,C,H,W), all of them by default. DeviceError
  /// with the size where the machine has less memory.
  Tensor weight(std::int64_t first = 0, std::optional<std::int64_t> count = {}) const;
  /// (1,N,1,2) in -1 .. 1, x first; ConfigError where the class has masks instead of positions.
  Tensor positions() const;

 private:
  friend class MultiReadoutBase;
  SessionReadout(const MultiReadout& all, std::size_t index) : all_(&all), index_(index) {}
  const ImageReadout& own() const;

  const MultiReadout* all_;
  std::size_t index_;
};

class MultiReadoutBase {
 public:
  /// ConfigError where the dictionaries differ in their keys, maps in their shape, or a parameter is out of
  /// range.
  MultiReadoutBase(const MultiReadoutOptions& options, Random& random,
                   const Placement& placement = {cpu_device(), DType::f32});
  ~MultiReadoutBase();

  const std::vector<std::string>& keys() const { return keys_; }
  /// ConfigError that lists the known keys for another one.
  SessionReadout operator[](const std::string& data_key) const;
  std::vector<NamedTensor> tensors() const;
  std::int64_t parameter_count() const;
  /// Maps (B,H,W,C) -> (B,N); data_key may be empty with one session. A shift (B,2) is an error for readouts
  /// with masks.
  Tensor forward(const Tensor& maps, const std::string& data_key = {}, const Pass& pass = {},
                 const Tensor& shift = {}) const;
  /// Undefined where its factor is zero.
  Tensor regularizer(const std::string& data_key = {}) const;
  /// "MultiReadoutBase(\n  (key): line\n ..)"
  std::string text() const;

 private:
  std::size_t index_of(const std::string& data_key) const;

  std::vector<std::string> keys_;
  bool shifts_ = false;
  std::unique_ptr<MultiReadout> readouts_;
};

std::ostream& operator<<(std::ostream& out, const SessionReadout& readout);
std::ostream& operator<<(std::ostream& out, const MultiReadoutBase& readouts);

}  // namespace fovea

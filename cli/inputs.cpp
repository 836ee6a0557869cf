#include "cli/inputs.hpp"

namespace fovea::cli {

Shape check_stimulus(const Model& model, const std::string& session, const StoredArray& stimulus) {
  const Shape in = model.in_shape();
  const std::vector<std::int64_t>& shape = stimulus.shape();
  if (stimulus.elements() == 0)  // before an axis beside an empty one is believed
    throw FormatError(stimulus.origin(), text("stimulus holds no values: ", shape_text(shape)));
  const auto rank = static_cast<std::size_t>(in.rank());
  const bool movies = model.takes_movies();
  bool fits = shape.size() == rank || shape.size() == rank + 1;
  const std::vector<std::int64_t> sample(shape.end() - static_cast<std::ptrdiff_t>(fits ? rank : 0),
                                         shape.end());
  for (std::size_t axis = 0; fits && axis < rank; ++axis)
    if (!movies || axis != 1) fits = sample[axis] == in[static_cast<int>(axis)];
  if (!fits)
    throw FormatError(stimulus.origin(),
                      text("stimulus must be ", movies ? "[B,C,T,H,W] or [C,T,H,W]" : "[B,C,H,W] or [C,H,W]",
                           " with C = ", in[0], ", H = ", in[-2], ", W = ", in[-1], ": ", shape_text(shape)));
  try {
    return model.output_shape(Shape(sample), session);
  } catch (const ShapeError& error) {
    throw FormatError(stimulus.origin(),
                      text("stimulus ", shape_text(shape), " is too short: ", error.what()));
  }
}

void check_responses(const StoredArray& responses, std::int64_t samples, const Shape& prediction) {
  std::vector<std::int64_t> shape = responses.shape();
  if (samples == 1 && responses.rank() == prediction.rank()) shape.insert(shape.begin(), 1);
  const bool movies = prediction.rank() == 2;
  const bool fits = static_cast<int>(shape.size()) == prediction.rank() + 1 && shape.front() == samples &&
                    shape.back() == prediction[-1] && (!movies || shape[1] >= prediction[0]);
  if (fits) return;
  const std::string single = samples == 1 ? movies ? " or [T,N]" : " or [N]" : "";
  throw FormatError(responses.origin(),
                    text("responses must be ", movies ? "[B,T,N]" : "[B,N]", single, " with B = ", samples,
                         movies ? text(", T at least ", prediction[0]) : "", ", N = ", prediction[-1], ": ",
                         shape_text(responses.shape())));
}

}  // namespace fovea::cli

// How a movie becomes the samples of a model.
#pragma once
#include "fovea/data.hpp"

namespace fovea {

/// A clip of a movie is one sample of a model that takes movies. For a model of images every
/// `frames_per_image` frames in a row are one image; the response to it is that of its last frame, so that
/// the first ones of a clip have none.
struct SampleForm {
  bool images = false;
  std::int64_t frames_per_image = 1;  ///< 1 for movies

  /// Responses at the beginning of a clip that no sample has.
  std::int64_t lead() const { return frames_per_image - 1; }
  /// Whether the frames of a clip, channels-last, are its samples as they lie there.
  bool as_stored() const { return frames_per_image == 1; }
  /// Samples of clips of so many frames, at least lead() + 1.
  std::int64_t samples(std::int64_t clips, std::int64_t frames) const {
    return images ? clips * (frames - lead()) : clips;
  }
  /// Of those samples, channels-last: (B,T,H,W,C) or (B,H,W,C k); `channels` are the movie's.
  Shape stimulus(std::int64_t clips, std::int64_t frames, std::int64_t height, std::int64_t width,
                 std::int64_t channels) const;
  /// (B,T,N) or (B,N).
  Shape responses(std::int64_t clips, std::int64_t frames, std::int64_t neurons) const;
};

/// What a model takes of the data. ConfigError where it takes movies and options.frames_per_image is not 1.
SampleForm sample_form(const Model& model, const DataOptions& options);

/// What a model takes of movies of so many channels. ShapeError where it takes images whose channels are no
/// multiple of them.
SampleForm sample_form(const Model& model, std::int64_t channels);

/// Frames (T, pixels, C) as images (T - k + 1, pixels, C k): channel c k + j is channel c of the j-th frame,
/// the oldest first.
template <class T>
void stack_frames(const T* frames, std::int64_t count, std::int64_t pixels, std::int64_t channels,
                  std::int64_t frames_per_image, T* images);

/// A clip (1,T,H,W,C) as the samples of a model.
Tensor samples_of(const Tensor& clip, const SampleForm& form);

}  // namespace fovea

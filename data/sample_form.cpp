#include "data/sample_form.hpp"

namespace fovea {

Shape SampleForm::stimulus(std::int64_t clips, std::int64_t frames, std::int64_t height, std::int64_t width,
                           std::int64_t channels) const {
  if (!images) return {clips, frames, height, width, channels};
  return {samples(clips, frames), height, width, channels * frames_per_image};
}

Shape SampleForm::responses(std::int64_t clips, std::int64_t frames, std::int64_t neurons) const {
  if (!images) return {clips, frames, neurons};
  return {samples(clips, frames), neurons};
}

SampleForm sample_form(const Model& model, const DataOptions& options) {
  if (!model.takes_movies()) return {true, options.frames_per_image};
  if (options.frames_per_image != 1)
    throw ConfigError("data", text("frames_per_image: must be 1 where the model takes movies, as ",
                                   model.class_name(), " does: ", options.frames_per_image));
  return {};
}

SampleForm sample_form(const Model& model, std::int64_t channels) {
  if (model.takes_movies()) return {};
  const std::int64_t of_image = model.in_shape()[0];
  if (channels < 1 || of_image % channels != 0)
    throw ShapeError("samples", text("the channels of an image must be those of some frames: ", of_image,
                                     " channels of ", model.class_name(), ", ", channels, " of a frame"));
  return {true, of_image / channels};
}

template <class T>
void stack_frames(const T* frames, std::int64_t count, std::int64_t pixels, std::int64_t channels,
                  std::int64_t frames_per_image, T* images) {
  const std::int64_t frame = pixels * channels;
  for (std::int64_t image = 0; image + frames_per_image <= count; ++image) {
    const T* oldest = frames + image * frame;
    for (std::int64_t value = 0; value < frame; ++value)
      for (std::int64_t j = 0; j < frames_per_image; ++j) *images++ = oldest[j * frame + value];
  }
}

template void stack_frames(const float*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, float*);
template void stack_frames(const double*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, double*);

Tensor samples_of(const Tensor& clip, const SampleForm& form) {
  const Shape& shape = clip.shape();  // (1,T,H,W,C)
  if (!form.images) return clip;
  const Shape stacked = form.stimulus(1, shape[1], shape[2], shape[3], shape[4]);
  if (form.as_stored()) return clip.reshape(stacked);
  const bool host = clip.device().on_host();
  const Tensor frames = host ? clip : clip.to(cpu_device(1));
  const Tensor images(stacked, clip.dtype(), frames.device());
  const std::int64_t pixels = shape[2] * shape[3];
  if (clip.dtype() == DType::f64)
    stack_frames(frames.data<double>(), shape[1], pixels, shape[4], form.frames_per_image,
                 images.data<double>());
  else
    stack_frames(frames.data<float>(), shape[1], pixels, shape[4], form.frames_per_image,
                 images.data<float>());
  return host ? images : images.to(clip.device());
}

}  // namespace fovea

// Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011) and the transforms
// built on it. Counter-based: value i of a draw is a function of (key, i), so nothing but the key needs
// saving and any number of threads or devices gives the same numbers. The transforms use exactly rounded
// operations only (units that include this are compiled with -ffp-contract=off), so that CPU, GPU and
// emulator agree bit for bit.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define FOVEA_HOST_DEVICE __host__ __device__ __forceinline__
#elif defined(FOVEA_ISA_NAMESPACE)  // no unit for one instruction set leaves a copy that others could take
#define FOVEA_HOST_DEVICE inline __attribute__((always_inline))
#else
#define FOVEA_HOST_DEVICE inline
#endif

namespace fovea {

/// Names one draw: every (seed, stream, step, draw) is an independent sequence.
struct RandomKey {
  std::uint64_t seed = 0;
  std::uint32_t stream = 0;  // what it is for: initialisation, dropout, readout noise, shuffling ..
  std::uint32_t step = 0;    // training step
  std::uint32_t draw = 0;    // draw within the step
};

struct Philox4 {
  std::uint32_t x, y, z, w;
};

constexpr int philox_rounds = 10;
constexpr std::uint32_t philox_factor0 = 0xD2511F53u, philox_factor1 = 0xCD9E8D57u;
constexpr std::uint32_t philox_key_step0 = 0x9E3779B9u, philox_key_step1 = 0xBB67AE85u;

FOVEA_HOST_DEVICE Philox4 philox(Philox4 counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < philox_rounds; ++round) {
    const std::uint64_t p = std::uint64_t{philox_factor0} * counter.x,
                        q = std::uint64_t{philox_factor1} * counter.z;
    counter = {static_cast<std::uint32_t>(q >> 32) ^ counter.y ^ key0, static_cast<std::uint32_t>(q),
               static_cast<std::uint32_t>(p >> 32) ^ counter.w ^ key1, static_cast<std::uint32_t>(p)};
    key0 += philox_key_step0;
    key1 += philox_key_step1;
  }
  return counter;
}

/// The four words of block `block` (elements 4 block .. 4 block + 3) of a draw.
FOVEA_HOST_DEVICE Philox4 philox_block(const RandomKey& key, std::uint32_t block) {
  return philox({block, key.draw, key.step, key.stream}, static_cast<std::uint32_t>(key.seed),
                static_cast<std::uint32_t>(key.seed >> 32));
}

/// Uniform in (0, 1) from the upper 23 bits, exact in f32.
FOVEA_HOST_DEVICE float uniform_from_bits(std::uint32_t bits) {
  return fmaf(static_cast<float>(bits >> 9), 0x1p-23f, 0x1p-24f);
}

/// Natural logarithm of v in (0, 1]: atanh series on [sqrt(1/2), sqrt(2)).
FOVEA_HOST_DEVICE float log_of_uniform(float v) {
  std::int32_t bits;
  std::memcpy(&bits, &v, 4);
  const std::int32_t exponent = (bits - 0x3f3504f3) >> 23;
  bits -= exponent * (1 << 23);
  float m;
  std::memcpy(&m, &bits, 4);
  const float s = (m - 1.0f) / (m + 1.0f), z = s * s;
  float p = fmaf(z, 0.22222222f, 0.2857142857f);
  p = fmaf(z, p, 0.4f);
  p = fmaf(z, p, 0.6666666667f);
  return fmaf(static_cast<float>(exponent), 0.6931471805599453f, fmaf(s * z, p, 2.0f * s));
}

/// sin and cos of 2 pi bits / 2^32.
FOVEA_HOST_DEVICE void sincos_of_bits(std::uint32_t bits, float* sine, float* cosine) {
  const std::uint32_t quadrant = (bits + 0x20000000u) >> 30;
  const float r =
      static_cast<float>(static_cast<std::int32_t>(bits - (quadrant << 30))) * 0x1p-32f * 6.283185307f;
  const float z = r * r;  // |r| <= pi / 4
  float s = fmaf(z, 2.7557319e-6f, -1.98412698e-4f);
  s = fmaf(z, s, 8.3333333e-3f);
  s = fmaf(z, s, -1.66666667e-1f);
  s = fmaf(r * z, s, r);
  float c = fmaf(z, -2.7557319e-7f, 2.48015873e-5f);
  c = fmaf(z, c, -1.38888889e-3f);
  c = fmaf(z, c, 4.16666667e-2f);
  c = fmaf(z, c, -0.5f);
  c = fmaf(z, c, 1.0f);
  const bool swapped = quadrant & 1;
  const float a = swapped ? c : s, b = swapped ? s : c;
  *sine = (quadrant & 2) ? -a : a;
  *cosine = ((quadrant + 1) & 2) ? -b : b;
}

/// Two standard normals of two words by Box and Muller (1958).
FOVEA_HOST_DEVICE void normal_pair(std::uint32_t first, std::uint32_t second, float* normal0,
                                   float* normal1) {
  const float radius = sqrtf(-2.0f * log_of_uniform(uniform_from_bits(first)));
  float sine, cosine;
  sincos_of_bits(second, &sine, &cosine);
  *normal0 = radius * cosine;
  *normal1 = radius * sine;
}

/// Four standard normals of a block.
FOVEA_HOST_DEVICE void normals_from_block(const Philox4& block, float* normals) {
  normal_pair(block.x, block.y, normals, normals + 1);
  normal_pair(block.z, block.w, normals + 2, normals + 3);
}

}  // namespace fovea

// Antialiased bicubic resampling of 8-bit values, in the integer arithmetic of Pillow's `Image.resize`: both give the
// same bytes. For a few pairs of sizes, Pillow 13 saves work by resampling vertically first; this code always goes
// horizontally first.
//
// The kernel is Keys' cubic with a = -1/2 ("Cubic convolution interpolation for digital image processing", 1981). When
// a picture shrinks, the kernel is stretched by the same factor, so that every source pixel counts. Weights are
// integers with 22 fractional bits, one set per output. A picture is resampled horizontally, rounded to 8 bits, then
// vertically.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace edge {

// Output i is the sum of `count[i]` inputs from `first[i]` on, by weights[i * widest], weights[i * widest + 1], ...
struct Taps {
  int widest = 0;
  std::vector<int> first;
  std::vector<int> count;
  std::vector<std::int32_t> weights;
};

// Returns the taps that resample a side of `from` values to `to` values, both at least 1.
Taps cubic_taps(int from, int to);

// Number of values weighted together, so that the compiler can keep them in vector registers.
inline constexpr std::size_t lanes = 64;

// Computes outputs `begin` to `end`, each of `groups` * `lanes` values: input i begins at in + i * pitch, output i at
// out + (i - begin) * pitch.
void weigh(const Taps& taps, int begin, int end, std::size_t groups, const std::uint8_t* in, std::uint8_t* out,
           std::size_t pitch);

}  // namespace edge

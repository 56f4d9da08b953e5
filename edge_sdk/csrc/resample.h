// Antialiased bicubic resampling of 8-bit values, in the integers of Pillow's `Image.resize`: both give the same bytes.
// Pillow 13 goes down before across for a few pairs of sizes where that is less work; here it is always across first.
//
// The kernel is Keys' cubic with a = -1/2 ("Cubic convolution interpolation for digital image processing", 1981). Where
// a picture shrinks, the kernel is stretched by that factor, so that every source pixel counts. Weights are integers
// with 22 fractional bits, one set for each output; a picture is resampled across, rounded to 8 bits, and then down.
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

// How a side of `from` values becomes one of `to`, both at least 1.
Taps cubic_taps(int from, int to);

// Values that are weighed together, so that the compiler can hold them in vector registers.
inline constexpr std::size_t lanes = 64;

// Outputs `begin` to `end`, each of `groups` times `lanes` values: input i begins at in + i * pitch, output i at
// out + (i - begin) * pitch.
void weigh(const Taps& taps, int begin, int end, std::size_t groups, const std::uint8_t* in, std::uint8_t* out,
           std::size_t pitch);

}  // namespace edge

// Converts bytes of patches to a model's input values: (x / 255 - mean) / std of the byte's channel.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace edge {

using PerChannel = std::array<float, 3>;

// The 16 bits of an IEEE 754 binary16 value.
struct Half {
  std::uint16_t bits;
};

// Returns the nearest half, ties to even; values that are too large become infinite.
Half to_half(float value);

// Normalises `patches` patches of 3 * `channel_bytes` bytes each. Value is float or Half.
//
// Every step is rounded to a float, as in numpy and torch, even where the compiler could fuse instructions.
template <typename Value>
void normalise(const std::uint8_t* in, std::size_t patches, std::size_t channel_bytes, const PerChannel& mean,
               const PerChannel& std, Value* out);

}  // namespace edge

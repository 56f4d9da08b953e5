// Bytes of patches to the values that a model was trained on: (x / 255 - mean) / std of the byte's channel.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace edge {

using PerChannel = std::array<float, 3>;

// IEEE 754 binary16 in its 16 bits.
struct Half {
  std::uint16_t bits;
};

// The nearest half, the even one of two that are equally near; what is too large becomes infinite.
Half to_half(float value);

// Normalises `patches` patches of three times `channel_bytes` bytes each. Value is float or Half.
//
// Every step is rounded to a float, as in numpy and torch, whatever instructions the compiler may join.
template <typename Value>
void normalise(const std::uint8_t* in, std::size_t patches, std::size_t channel_bytes, const PerChannel& mean,
               const PerChannel& std, Value* out);

}  // namespace edge

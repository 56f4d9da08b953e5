// A table instead of arithmetic: two divisions per value would cost as much, and halves would also need a conversion.
#include "normalise.h"

#include <bit>

namespace edge {
namespace {

void put(float value, float& out) { out = value; }
void put(float value, Half& out) { out = to_half(value); }

// The normalised value of each level of each channel.
template <typename Value>
using Table = std::array<std::array<Value, 256>, 3>;

template <typename Value>
Table<Value> table_of(const PerChannel& mean, const PerChannel& std) {
  Table<Value> table;
  for (std::size_t channel = 0; channel < table.size(); ++channel) {
    for (std::size_t level = 0; level < table[channel].size(); ++level) {
      const float share = static_cast<float>(level) / 255.0F;
      put((share - mean[channel]) / std[channel], table[channel][level]);
    }
  }
  return table;
}

}  // namespace

Half to_half(float value) {
  constexpr std::uint32_t infinite = 0x7F800000, too_large = 0x47800000, smallest_normal = 0x38800000;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7FFFFFFF;
  std::uint32_t half;
  if (size > infinite) {
    half = 0x7E00;
  } else if (size >= too_large) {
    half = 0x7C00;
  } else if (size < smallest_normal) {
    // For a float just above 0.5, the last bit is worth 2^-24, like that of a subnormal half; so the addition rounds.
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5F) - std::bit_cast<std::uint32_t>(0.5F);
  } else {
    // Drops 13 bits after adding half their range, less one if a tie must round down to even; exponents differ by 112.
    half = (size - (112U << 23) + 0xFFF + (size >> 13 & 1)) >> 13;
  }
  return {static_cast<std::uint16_t>(sign | half)};
}

template <typename Value>
void normalise(const std::uint8_t* in, std::size_t patches, std::size_t channel_bytes, const PerChannel& mean,
               const PerChannel& std, Value* out) {
  const Table<Value> table = table_of<Value>(mean, std);
  for (std::size_t patch = 0; patch < patches; ++patch) {
    for (const auto& levels : table) {
      for (std::size_t i = 0; i < channel_bytes; ++i) out[i] = levels[in[i]];
      in += channel_bytes;
      out += channel_bytes;
    }
  }
}

template void normalise(const std::uint8_t*, std::size_t, std::size_t, const PerChannel&, const PerChannel&, float*);
template void normalise(const std::uint8_t*, std::size_t, std::size_t, const PerChannel&, const PerChannel&, Half*);

}  // namespace edge

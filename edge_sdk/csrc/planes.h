// The student's input planes, computed from frames before the graph runs.
//
// A luma picture and its signed differences to earlier pictures are an invertible recombination of these pictures, so
// nothing is lost, and the graph needs no first layer for motion. Training and device both call this function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace edge {

// Plane 0 is luma in [-1, 1]. In the other planes, a difference of 255 / motion_gain grey levels is 1.
inline constexpr float luma_scale = 2.0F / 255.0F;
inline constexpr float luma_offset = -1.0F;
inline constexpr float motion_gain = 4.0F;

// Writes 1 + earlier.size() planes of now.size() floats each into `out`: luma, then now - earlier[i] in order.
// Every picture must have now.size() pixels, and `out` must have room for all planes; the caller checks both.
void write_planes(std::span<const std::uint8_t> now, std::span<const std::uint8_t* const> earlier, float* out);

}  // namespace edge

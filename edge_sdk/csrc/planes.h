// The student's input planes: what a frame becomes before the graph sees it.
//
// A luma picture and signed differences to earlier pictures are an invertible recombination of those pictures, so
// nothing is lost, and motion needs no first layer of its own. Training and device call this one function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace edge {

// Plane 0 is luma in [-1, 1]. A difference of 255 / motion_gain grey levels is 1.
inline constexpr float luma_scale = 2.0F / 255.0F;
inline constexpr float luma_offset = -1.0F;
inline constexpr float motion_gain = 4.0F;

// Writes 1 + earlier.size() planes of now.size() floats each into `out`: luma, then now - earlier[i] in order.
// Every picture has now.size() pixels, and `out` has room for all planes; the caller has checked both.
void write_planes(std::span<const std::uint8_t> now, std::span<const std::uint8_t* const> earlier, float* out);

}  // namespace edge

// Video's luma and colour difference to RGB, ITU-R BT.601 and BT.709.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edge {

enum class YuvMatrix { bt601, bt709 };
// Limited: black is 16 and white 235, colour differences span 16 to 240. Full: both span 0 to 255.
enum class YuvRange { limited, full };

// Factors with 16 fractional bits, and the luma of black.
struct YuvToRgb {
  std::int32_t black, luma, red_v, green_u, green_v, blue_u;
};

YuvToRgb yuv_to_rgb(YuvMatrix matrix, YuvRange range);

// One row of `width` pixels to a row of each channel. `chroma` holds U and V of each two pixels, one after the other.
void convert_row(const YuvToRgb& factors, const std::uint8_t* luma, const std::uint8_t* chroma, std::size_t width,
                 std::uint8_t* red, std::uint8_t* green, std::uint8_t* blue);

}  // namespace edge

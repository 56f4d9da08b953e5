// Converts video's luma and colour differences to RGB, by ITU-R BT.601 and BT.709.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edge {

enum class YuvMatrix { bt601, bt709 };
// Limited: black is 16 and white 235, and colour differences span 16 to 240. Full: both span 0 to 255.
enum class YuvRange { limited, full };

// Factors with 16 fractional bits, and `black`, the luma of black.
struct YuvToRgb {
  std::int32_t black, luma, red_v, green_u, green_v, blue_u;
};

YuvToRgb yuv_to_rgb(YuvMatrix matrix, YuvRange range);

// Converts one row of `width` pixels to a row of each channel. `chroma` holds U and V, interleaved, of each two pixels.
void convert_row(const YuvToRgb& factors, const std::uint8_t* luma, const std::uint8_t* chroma, std::size_t width,
                 std::uint8_t* red, std::uint8_t* green, std::uint8_t* blue);

}  // namespace edge

// The factors follow from the luma weights of red and blue in each standard: (0.299, 0.114) and (0.2126, 0.0722).
#include "yuv.h"

#include <algorithm>
#include <cmath>

#include "wide.h"

namespace edge {
namespace {

constexpr int fraction_bits = 16;

std::int32_t fixed(double value) { return static_cast<std::int32_t>(std::lround(value * (1 << fraction_bits))); }

EDGE_INLINE std::uint8_t to_byte(std::int32_t value) {
  return static_cast<std::uint8_t>(std::clamp(value >> fraction_bits, 0, 255));
}

// The values that a chroma sample adds to each channel of the pixels it covers.
struct Tint {
  std::int32_t red, green, blue;
};

EDGE_INLINE Tint tint_of(const YuvToRgb& factors, const std::uint8_t* chroma) {
  const std::int32_t u = chroma[0] - 128, v = chroma[1] - 128;
  return {factors.red_v * v, factors.green_u * u + factors.green_v * v, factors.blue_u * u};
}

EDGE_INLINE std::int32_t grey_of(const YuvToRgb& factors, std::uint8_t luma) {
  return (luma - factors.black) * factors.luma + (1 << (fraction_bits - 1));
}

}  // namespace

YuvToRgb yuv_to_rgb(YuvMatrix matrix, YuvRange range) {
  const double red = matrix == YuvMatrix::bt601 ? 0.299 : 0.2126;
  const double blue = matrix == YuvMatrix::bt601 ? 0.114 : 0.0722;
  const double green = 1.0 - red - blue;
  const bool full = range == YuvRange::full;
  const double luma = full ? 1.0 : 255.0 / 219.0, chroma = full ? 2.0 : 2.0 * 255.0 / 224.0;
  return {
      .black = full ? 0 : 16,
      .luma = fixed(luma),
      .red_v = fixed(chroma * (1.0 - red)),
      .green_u = fixed(-chroma * (1.0 - blue) * blue / green),
      .green_v = fixed(-chroma * (1.0 - red) * red / green),
      .blue_u = fixed(chroma * (1.0 - blue)),
  };
}

EDGE_WIDE void convert_row(const YuvToRgb& factors, const std::uint8_t* __restrict luma,
                           const std::uint8_t* __restrict chroma, std::size_t width, std::uint8_t* __restrict red,
                           std::uint8_t* __restrict green, std::uint8_t* __restrict blue) {
  const YuvToRgb by = factors;
  for (std::size_t pair = 0; pair < width / 2; ++pair) {
    const Tint tint = tint_of(by, chroma + 2 * pair);
    // Counted from 0 to 2, because GCC does not vectorise a loop whose length is not obvious.
    for (std::size_t i = 0; i < 2; ++i) {
      const std::size_t x = 2 * pair + i;
      const std::int32_t grey = grey_of(by, luma[x]);
      red[x] = to_byte(grey + tint.red);
      green[x] = to_byte(grey + tint.green);
      blue[x] = to_byte(grey + tint.blue);
    }
  }
  if (width % 2 == 0) return;
  const std::size_t last = width - 1;
  const Tint tint = tint_of(by, chroma + last);
  const std::int32_t grey = grey_of(by, luma[last]);
  red[last] = to_byte(grey + tint.red);
  green[last] = to_byte(grey + tint.green);
  blue[last] = to_byte(grey + tint.blue);
}

}  // namespace edge

// Plain loops over contiguous memory, which every compiler vectorises for its own target.
#include "planes.h"

namespace edge {
namespace {

void write_luma(std::span<const std::uint8_t> now, float* out) {
  for (std::size_t i = 0; i < now.size(); ++i) {
    out[i] = static_cast<float>(now[i]) * luma_scale + luma_offset;
  }
}

void write_motion(std::span<const std::uint8_t> now, const std::uint8_t* before, float* out) {
  constexpr float scale = motion_gain / 255.0F;
  for (std::size_t i = 0; i < now.size(); ++i) {
    const int difference = static_cast<int>(now[i]) - static_cast<int>(before[i]);
    out[i] = static_cast<float>(difference) * scale;
  }
}

}  // namespace

void write_planes(std::span<const std::uint8_t> now, std::span<const std::uint8_t* const> earlier, float* out) {
  write_luma(now, out);
  for (const std::uint8_t* before : earlier) {
    out += now.size();
    write_motion(now, before, out);
  }
}

}  // namespace edge

// The core alone, without Python: flat pictures stay flat, in every form of input and for any number of threads.
// That the bytes are Pillow's, and that nothing beyond a picture is read, is tested in Python.
#include "vision_input.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "normalise.h"

namespace {

int failures = 0;

void expect(bool good, const char* what) {
  if (!good) {
    std::printf("failed: %s\n", what);
    ++failures;
  }
}

bool all_are(const std::vector<std::uint8_t>& bytes, std::uint8_t value) {
  for (std::uint8_t byte : bytes) {
    if (byte != value) return false;
  }
  return true;
}

void a_flat_picture_stays_flat_with_threads() {
  for (int threads : {1, 2, 5}) {
    edge::VisionInput input({131, 77}, {56, 84}, 14, threads);
    const std::vector<std::uint8_t> pixels(3 * 131 * 77, 201);
    std::vector<std::uint8_t> patches(input.bytes());
    input.from_rgb({pixels.data(), 3 * 131}, patches.data());
    expect(all_are(patches, 201), "every byte of a flat RGB picture");
  }
}

void video_white_is_white_whatever_its_padding_is() {
  edge::VisionInput input({33, 19}, {28, 28}, 14, 1);
  std::vector<std::uint8_t> luma(64 * 19, 0), chroma(64 * 10, 0);
  for (int y = 0; y < 19; ++y) std::fill_n(luma.begin() + y * 64, 33, 235);
  for (int y = 0; y < 10; ++y) std::fill_n(chroma.begin() + y * 64, 34, 128);
  std::vector<std::uint8_t> patches(input.bytes());
  const edge::YuvToRgb factors = edge::yuv_to_rgb(edge::YuvMatrix::bt709, edge::YuvRange::limited);
  input.from_nv12({luma.data(), 64, chroma.data(), 64}, factors, patches.data());
  expect(all_are(patches, 255), "every byte of a white NV12 picture");
}

void channels_of_a_patch_follow_one_another() {
  edge::VisionInput input({28, 28}, {28, 28}, 14, 1);
  std::vector<std::uint8_t> pixels;
  for (int i = 0; i < 28 * 28; ++i) pixels.insert(pixels.end(), {10, 20, 30});
  std::vector<std::uint8_t> patches(input.bytes());
  input.from_rgb({pixels.data(), 3 * 28}, patches.data());
  for (std::size_t i = 0; i < patches.size(); ++i) {
    expect(patches[i] == 10 + 10 * (i / 196 % 3), "red, then green, then blue of each patch");
  }
}

void halves_are_rounded_to_even() {
  expect(edge::to_half(1.0F).bits == 0x3C00, "one");
  expect(edge::to_half(-2.0F).bits == 0xC000, "minus two");
  expect(edge::to_half(1.0F + 0x1p-11F).bits == 0x3C00, "a tie above an even value");
  expect(edge::to_half(1.0F + 0x3p-11F).bits == 0x3C02, "a tie above an odd value");
  expect(edge::to_half(0x3p-25F).bits == 0x0002, "a tie among the subnormal");
  expect(edge::to_half(65519.0F).bits == 0x7BFF, "below the largest half's tie");
  expect(edge::to_half(65520.0F).bits == 0x7C00, "too large");
}

void a_target_of_broken_windows_is_refused() {
  try {
    edge::VisionInput input({64, 64}, {42, 28}, 14, 1);
    expect(false, "a target of a window and a half");
  } catch (const std::invalid_argument&) {
  }
}

}  // namespace

int main() {
  a_flat_picture_stays_flat_with_threads();
  video_white_is_white_whatever_its_padding_is();
  channels_of_a_patch_follow_one_another();
  halves_are_rounded_to_even();
  a_target_of_broken_windows_is_refused();
  return failures == 0 ? 0 : 1;
}

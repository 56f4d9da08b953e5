// Prepares a picture for the video LLM's vision tower: resizes it and cuts it into patches in the order of its windows.
//
// Two by two patches make a window, which becomes one token. Windows are ordered row by row, and so are the four
// patches within each. A patch holds its red, green and blue values, each row by row (VideoLLaMA3's image processor).
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "resample.h"
#include "yuv.h"

namespace edge {

struct Size {
  int width = 0, height = 0;
};

// Rows of pixels with interleaved red, green and blue. A pitch is the distance between two rows, in bytes.
struct RgbPicture {
  const std::uint8_t* pixels;
  std::size_t pitch;
};

// A luma plane, and a plane of interleaved U and V with half as many rows and columns, rounded up. A chroma sample
// applies to the four pixels that it covers.
struct Nv12Picture {
  const std::uint8_t* luma;
  std::size_t luma_pitch;
  const std::uint8_t* chroma;
  std::size_t chroma_pitch;
};

// Converts pictures of one size to patches of another; everything that depends only on the sizes is computed once.
class VisionInput {
 public:
  // Throws std::invalid_argument for a value below 1 or a target that does not consist of whole windows.
  VisionInput(Size source, Size target, int patch, int threads);

  // Writes 3 * target.width * target.height bytes. Calls from several threads wait for one another.
  void from_rgb(const RgbPicture& picture, std::uint8_t* patches);
  void from_nv12(const Nv12Picture& picture, const YuvToRgb& factors, std::uint8_t* patches);

  Size source() const { return source_; }
  // Bytes that from_rgb and from_nv12 write, and how many of them are one patch.
  std::size_t bytes() const;
  std::size_t patch_bytes() const;

 private:
  // Buffers of one thread: columns of 64 source rows, the same resized, converted rows, and rows of patches.
  struct Scratch {
    std::vector<std::uint8_t> columns, resized, converted, rows;
  };

  template <typename Load>
  void run(const Load& load, std::uint8_t* patches);
  template <typename Load>
  void resize_across(const Load& load, int block, Scratch& scratch);
  void resize_down(int patch_row, Scratch& scratch, std::uint8_t* patches) const;

  Size source_, target_;
  int patch_, threads_;
  Taps across_, down_;
  std::size_t pitch_;
  std::vector<std::uint8_t> narrow_;
  std::vector<Scratch> scratch_;
  std::mutex busy_;
};

}  // namespace edge

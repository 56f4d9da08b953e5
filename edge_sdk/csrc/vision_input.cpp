// Rows are transposed to columns before horizontal resizing, and back after it. The values of 64 rows are then
// adjacent, so that one weight applies to 64 neighbouring bytes, which suits vector units. Transposing takes a quarter
// of the total time.
#include "vision_input.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

#include "share.h"
#include "turn.h"

namespace edge {
namespace {

constexpr std::size_t channels = 3;
static_assert(lanes == turned_rows, "rows that are turned together are weighed together");

// The source rows that are processed together.
using RowNumbers = std::array<std::size_t, lanes>;

std::size_t rounded_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

// Transposes rows of any length: bytes after the last multiple of 8 are copied first, to avoid reading past the end.
void turn_rows(const Rows& rows, std::size_t columns, std::uint8_t* out, std::size_t pitch) {
  const std::size_t whole = columns / 8 * 8;
  turn(rows, whole, out, pitch);
  if (whole == columns) return;
  std::uint8_t rest[turned_rows][8] = {};
  Rows ends;
  for (std::size_t i = 0; i < turned_rows; ++i) {
    std::memcpy(rest[i], rows[i] + whole, columns - whole);
    ends[i] = rest[i];
  }
  turn(ends, 8, out + whole * pitch, pitch);
}

// Writes one row of patches, from `side` rows of interleaved red, green and blue, to the places of its patches.
void write_patches(const std::uint8_t* rows, std::size_t pitch, std::size_t side, std::size_t across,
                   std::size_t patch_row, std::uint8_t* patches) {
  const std::size_t windows_before = patch_row / 2 * (across / 2);
  for (std::size_t column = 0; column < across; ++column) {
    const std::size_t place = (windows_before + column / 2) * 4 + patch_row % 2 * 2 + column % 2;
    for (std::size_t y = 0; y < side; ++y) {
      const std::uint8_t* from = rows + y * pitch + column * side * channels;
      std::uint8_t* to = patches + (place * channels * side + y) * side;
      for (std::size_t x = 0; x < side; ++x) {
        for (std::size_t c = 0; c < channels; ++c) to[c * side * side + x] = from[x * channels + c];
      }
    }
  }
}

}  // namespace

VisionInput::VisionInput(Size source, Size target, int patch, int threads)
    : source_(source), target_(target), patch_(patch), threads_(threads) {
  if (std::min({source.width, source.height, target.width, target.height, patch, threads}) < 1) {
    throw std::invalid_argument("sizes, patch and threads must be at least 1");
  }
  if (target.width % (2 * patch) != 0 || target.height % (2 * patch) != 0) {
    throw std::invalid_argument("the target must be made of whole windows of two by two patches");
  }
  across_ = cubic_taps(source.width, target.width);
  down_ = cubic_taps(source.height, target.height);
  pitch_ = rounded_up(channels * static_cast<std::size_t>(target.width), lanes);
  narrow_.resize(pitch_ * rounded_up(static_cast<std::size_t>(source.height), lanes));
  const std::size_t wide = rounded_up(static_cast<std::size_t>(source.width), 8);
  for (int i = 0; i < threads; ++i) {
    Scratch& scratch = scratch_.emplace_back();
    scratch.columns.resize(channels * wide * lanes);
    scratch.resized.resize(pitch_ * lanes);
    scratch.converted.resize(channels * wide * lanes);
    scratch.rows.resize(pitch_ * static_cast<std::size_t>(patch));
  }
}

std::size_t VisionInput::patch_bytes() const {
  return channels * static_cast<std::size_t>(patch_) * static_cast<std::size_t>(patch_);
}

std::size_t VisionInput::bytes() const {
  return channels * static_cast<std::size_t>(target_.width) * static_cast<std::size_t>(target_.height);
}

void VisionInput::from_rgb(const RgbPicture& picture, std::uint8_t* patches) {
  const std::size_t columns = channels * static_cast<std::size_t>(source_.width);
  run(
      [&](const RowNumbers& numbers, Scratch& scratch) {
        Rows rows;
        for (std::size_t i = 0; i < turned_rows; ++i) rows[i] = picture.pixels + numbers[i] * picture.pitch;
        turn_rows(rows, columns, scratch.columns.data(), lanes);
      },
      patches);
}

void VisionInput::from_nv12(const Nv12Picture& picture, const YuvToRgb& factors, std::uint8_t* patches) {
  const std::size_t width = static_cast<std::size_t>(source_.width), wide = rounded_up(width, 8);
  run(
      [&](const RowNumbers& numbers, Scratch& scratch) {
        Rows planes[channels];
        for (std::size_t i = 0; i < turned_rows; ++i) {
          std::uint8_t* const red = scratch.converted.data() + channels * i * wide;
          convert_row(factors, picture.luma + numbers[i] * picture.luma_pitch,
                      picture.chroma + numbers[i] / 2 * picture.chroma_pitch, width, red, red + wide, red + 2 * wide);
          for (std::size_t c = 0; c < channels; ++c) planes[c][i] = red + c * wide;
        }
        for (std::size_t c = 0; c < channels; ++c) {
          turn(planes[c], wide, scratch.columns.data() + c * lanes, channels * lanes);
        }
      },
      patches);
}

template <typename Load>
void VisionInput::run(const Load& load, std::uint8_t* patches) {
  const std::lock_guard lock(busy_);
  const int blocks = (source_.height + static_cast<int>(lanes) - 1) / static_cast<int>(lanes);
  share(blocks, threads_, [&](int worker, int block) {
    resize_across(load, block, scratch_[static_cast<std::size_t>(worker)]);
  });
  share(target_.height / patch_, threads_, [&](int worker, int row) {
    resize_down(row, scratch_[static_cast<std::size_t>(worker)], patches);
  });
}

// Resizes 64 rows from block * 64 on into `narrow_`. Rows past the last repeat it; nothing reads their results.
template <typename Load>
void VisionInput::resize_across(const Load& load, int block, Scratch& scratch) {
  const std::size_t top = static_cast<std::size_t>(block) * lanes;
  RowNumbers numbers;
  for (std::size_t i = 0; i < lanes; ++i) numbers[i] = std::min(top + i, static_cast<std::size_t>(source_.height) - 1);
  load(numbers, scratch);
  weigh(across_, 0, target_.width, channels, scratch.columns.data(), scratch.resized.data(), channels * lanes);
  for (std::size_t column = 0; column < pitch_; column += turned_rows) {
    Rows columns;
    for (std::size_t i = 0; i < turned_rows; ++i) columns[i] = scratch.resized.data() + (column + i) * lanes;
    turn(columns, lanes, narrow_.data() + top * pitch_ + column, pitch_);
  }
}

void VisionInput::resize_down(int patch_row, Scratch& scratch, std::uint8_t* patches) const {
  weigh(down_, patch_row * patch_, (patch_row + 1) * patch_, pitch_ / lanes, narrow_.data(), scratch.rows.data(),
        pitch_);
  write_patches(scratch.rows.data(), pitch_, static_cast<std::size_t>(patch_),
                static_cast<std::size_t>(target_.width / patch_), static_cast<std::size_t>(patch_row), patches);
}

}  // namespace edge

// A square of 8 x 8 bytes in eight words is transposed by swapping halves, then quarters, then bytes between the words.
#include "turn.h"

#include <bit>
#include <cstring>

#include "wide.h"

namespace edge {
namespace {

static_assert(std::endian::native == std::endian::little, "the swaps take a word's first byte for its lowest");

// Number of squares, one below another, that are transposed together: as many words as a vector holds.
constexpr std::size_t together = 4;
using Words = std::uint64_t[together];

// Swaps the bits of `a` above `shift` with the bits of `b` below it, in every group of bits that `low` marks.
EDGE_INLINE void swap_parts(Words& a, Words& b, int shift, std::uint64_t low) {
  for (std::size_t square = 0; square < together; ++square) {
    const std::uint64_t change = ((a[square] >> shift) ^ b[square]) & low;
    b[square] ^= change;
    a[square] ^= change << shift;
  }
}

EDGE_INLINE void turn_squares(const std::uint8_t* const* rows, std::size_t x, std::uint8_t* out, std::size_t pitch) {
  Words words[8];
  for (std::size_t square = 0; square < together; ++square) {
    for (std::size_t i = 0; i < 8; ++i) std::memcpy(&words[i][square], rows[8 * square + i] + x, 8);
  }
  for (int i : {0, 1, 2, 3}) swap_parts(words[i], words[i + 4], 32, 0x00000000FFFFFFFF);
  for (int i : {0, 1, 4, 5}) swap_parts(words[i], words[i + 2], 16, 0x0000FFFF0000FFFF);
  for (int i : {0, 2, 4, 6}) swap_parts(words[i], words[i + 1], 8, 0x00FF00FF00FF00FF);
  for (std::size_t i = 0; i < 8; ++i) std::memcpy(out + (x + i) * pitch, words[i], sizeof words[i]);
}

}  // namespace

EDGE_WIDE void turn(const Rows& rows, std::size_t columns, std::uint8_t* out, std::size_t pitch) {
  for (std::size_t x = 0; x < columns; x += 8) {
    for (std::size_t row = 0; row < rows.size(); row += 8 * together) {
      turn_squares(rows.data() + row, x, out + row, pitch);
    }
  }
}

}  // namespace edge

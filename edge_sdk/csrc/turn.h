// Transposes rows to columns and back, 64 rows at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace edge {

inline constexpr std::size_t turned_rows = 64;
using Rows = std::array<const std::uint8_t*, turned_rows>;

// Writes the 64 values of each column x contiguously at out + x * pitch. `columns` must be a multiple of 8.
void turn(const Rows& rows, std::size_t columns, std::uint8_t* out, std::size_t pitch);

}  // namespace edge

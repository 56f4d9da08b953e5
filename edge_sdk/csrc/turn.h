// Rows to columns and back, 64 rows at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace edge {

inline constexpr std::size_t turned_rows = 64;
using Rows = std::array<const std::uint8_t*, turned_rows>;

// Writes the 64 values of the rows at each column x side by side at out + x * pitch. `columns` divides by 8.
void turn(const Rows& rows, std::size_t columns, std::uint8_t* out, std::size_t pitch);

}  // namespace edge

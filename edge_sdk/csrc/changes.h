// The change between two frames in grey levels, summed over the pixels of each token.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edge {

// Sums |a - b| over each run of `run_bytes` bytes, and writes `runs` sums into `out`.
void sum_changes(const std::uint8_t* a, const std::uint8_t* b, std::size_t runs, std::size_t run_bytes,
                 std::uint32_t* out);

}  // namespace edge

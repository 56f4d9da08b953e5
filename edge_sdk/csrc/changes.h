// How much two frames differ, in grey levels, where each token looks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edge {

// Sums |a - b| over each run of `run_bytes` bytes: `runs` sums into `out`.
void sum_changes(const std::uint8_t* a, const std::uint8_t* b, std::size_t runs, std::size_t run_bytes,
                 std::uint32_t* out);

}  // namespace edge

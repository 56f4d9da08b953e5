// Sums are integers, so their order does not matter.
#include "changes.h"

#include <cstdlib>

#include "wide.h"

namespace edge {

EDGE_WIDE void sum_changes(const std::uint8_t* a, const std::uint8_t* b, std::size_t runs, std::size_t run_bytes,
                           std::uint32_t* out) {
  for (std::size_t run = 0; run < runs; ++run, a += run_bytes, b += run_bytes) {
    int sum = 0;
    for (std::size_t i = 0; i < run_bytes; ++i) sum += std::abs(a[i] - b[i]);
    out[run] = static_cast<std::uint32_t>(sum);
  }
}

}  // namespace edge

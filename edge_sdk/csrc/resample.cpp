// One loop serves both directions: the values weighted together are 64 rows when resampling horizontally, and 64
// neighbouring bytes of a row when resampling vertically.
#include "resample.h"

#include <algorithm>
#include <cmath>

#include "wide.h"

namespace edge {
namespace {

constexpr int fraction_bits = 22;
constexpr double support = 2.0;

// Keys' cubic for a = -1/2: it is 1 at 0, and 0 at 1 and from 2 on.
double keys(double x) {
  const double d = std::fabs(x);
  if (d < 1.0) return (1.5 * d - 2.5) * d * d + 1.0;
  if (d < 2.0) return ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0;
  return 0.0;
}

// The kernel around `centre`, evaluated at the middles of inputs `first`, `first` + 1, ..., and scaled to sum 1.
std::vector<double> kernel_at(double centre, double stretch, int first, int count) {
  std::vector<double> values(static_cast<std::size_t>(count));
  double sum = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = keys((first + static_cast<double>(i) + 0.5 - centre) / stretch);
    sum += values[i];
  }
  for (double& value : values) value /= sum;
  return values;
}

// Computes the `lanes` sums of one output, and writes them next to one another as 8-bit values.
EDGE_INLINE void weigh_one(const std::int32_t* weights, int count, const std::uint8_t* in, std::size_t pitch,
                      std::uint8_t* out) {
  std::int32_t sums[lanes];
  for (std::size_t lane = 0; lane < lanes; ++lane) sums[lane] = 1 << (fraction_bits - 1);
  for (int tap = 0; tap < count; ++tap, in += pitch) {
    const std::int32_t weight = weights[tap];
    for (std::size_t lane = 0; lane < lanes; ++lane) sums[lane] += weight * in[lane];
  }
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    out[lane] = static_cast<std::uint8_t>(std::clamp(sums[lane] >> fraction_bits, 0, 255));
  }
}

}  // namespace

Taps cubic_taps(int from, int to) {
  const double scale = static_cast<double>(from) / to;
  const double stretch = std::max(scale, 1.0);
  Taps taps;
  taps.widest = 2 * static_cast<int>(std::ceil(support * stretch)) + 1;
  taps.weights.resize(static_cast<std::size_t>(taps.widest) * static_cast<std::size_t>(to));
  for (int i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - support * stretch + 0.5));
    const int past = std::min(from, static_cast<int>(centre + support * stretch + 0.5));
    taps.first.push_back(first);
    taps.count.push_back(past - first);
    const std::vector<double> values = kernel_at(centre, stretch, first, past - first);
    std::int32_t* weights = taps.weights.data() + static_cast<std::ptrdiff_t>(i) * taps.widest;
    for (double value : values) *weights++ = static_cast<std::int32_t>(std::lround(value * (1 << fraction_bits)));
  }
  return taps;
}

EDGE_WIDE void weigh(const Taps& taps, int begin, int end, std::size_t groups, const std::uint8_t* in,
                     std::uint8_t* out, std::size_t pitch) {
  for (int i = begin; i < end; ++i, out += pitch) {
    const std::size_t at = static_cast<std::size_t>(i);
    const std::int32_t* weights = taps.weights.data() + at * static_cast<std::size_t>(taps.widest);
    const std::uint8_t* from = in + static_cast<std::size_t>(taps.first[at]) * pitch;
    for (std::size_t group = 0; group < groups; ++group) {
      weigh_one(weights, taps.count[at], from + group * lanes, pitch, out + group * lanes);
    }
  }
}

}  // namespace edge

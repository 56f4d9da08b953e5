// Planes against values worked out by hand.
#include "planes.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <vector>

namespace {

int failures = 0;

void expect_near(float found, float expected, const char* what) {
  if (!(std::fabs(found - expected) <= 1e-6F)) {  // so that NaN fails too
    std::printf("%s: expected %.7f, found %.7f\n", what, expected, found);
    ++failures;
  }
}

void luma_spans_minus_one_to_one() {
  const std::array<std::uint8_t, 3> now{0, 51, 255};
  std::array<float, 3> out{};
  edge::write_planes(now, {}, out.data());
  expect_near(out[0], -1.0F, "black");
  expect_near(out[1], -0.6F, "a fifth of white");
  expect_near(out[2], 1.0F, "white");
}

void motion_keeps_its_sign() {
  const std::array<std::uint8_t, 2> now{0, 255};
  const std::array<std::uint8_t, 2> before{255, 204};
  const std::array<const std::uint8_t*, 1> earlier{before.data()};
  std::array<float, 4> out{};
  edge::write_planes(now, earlier, out.data());
  expect_near(out[2], -4.0F, "white to black");
  expect_near(out[3], 0.8F, "a fifth brighter");
}

void planes_follow_the_order_of_the_lags() {
  const std::vector<std::uint8_t> now(1000, 100);
  const std::vector<std::uint8_t> last(1000, 49);
  const std::vector<std::uint8_t> older(1000, 151);
  const std::array<const std::uint8_t*, 2> earlier{last.data(), older.data()};
  std::vector<float> out(3000, 99.0F);
  edge::write_planes(now, earlier, out.data());
  for (std::size_t i = 0; i < 1000; ++i) {
    expect_near(out[1000 + i], 0.8F, "first lag");
    expect_near(out[2000 + i], -0.8F, "second lag");
  }
}

}  // namespace

int main() {
  luma_spans_minus_one_to_one();
  motion_keeps_its_sign();
  planes_follow_the_order_of_the_lags();
  return failures == 0 ? 0 : 1;
}

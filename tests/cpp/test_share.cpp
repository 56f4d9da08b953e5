// Every piece of shared work is done once, however few threads there is memory for.
#include "share.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>
#include <vector>

namespace {

constexpr int kPieces = 100;

// How many more allocations succeed.
std::atomic<int> left{std::numeric_limits<int>::max()};

}  // namespace

void* operator new(std::size_t size) {
  void* place = left-- > 0 ? std::malloc(size) : nullptr;
  if (place == nullptr) throw std::bad_alloc();
  return place;
}

void operator delete(void* place) noexcept { std::free(place); }
void operator delete(void* place, std::size_t) noexcept { std::free(place); }

namespace {

bool everything_is_done_once(int allocations) {
  std::vector<std::atomic<int>> done(kPieces);
  left = allocations;
  edge::share(kPieces, 4, [&](int, int piece) { ++done[static_cast<std::size_t>(piece)]; });
  left = std::numeric_limits<int>::max();
  return std::all_of(done.begin(), done.end(), [](const std::atomic<int>& count) { return count == 1; });
}

}  // namespace

int main() {
  int failures = 0;
  for (int allocations = 0; allocations < 8; ++allocations) {
    if (everything_is_done_once(allocations)) continue;
    std::printf("failed: every piece once, with memory for %d allocations\n", allocations);
    ++failures;
  }
  return failures == 0 ? 0 : 1;
}

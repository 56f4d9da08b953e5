// Splits work into pieces that this thread and others share.
#pragma once

#include <algorithm>
#include <atomic>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace edge {

// Calls work(worker, piece) for every piece below `pieces`. `worker` is below `threads`, and no two calls with the same
// `worker` run at once. `work` must not throw. If the system cannot start another thread, or has no memory for one, the
// existing threads do all the work.
template <typename Work>
void share(int pieces, int threads, const Work& work) {
  std::atomic<int> next{0};
  const auto run = [&](int worker) {
    for (int piece = next++; piece < pieces; piece = next++) work(worker, piece);
  };
  std::vector<std::thread> others;
  try {
    others.reserve(static_cast<std::size_t>(std::clamp(pieces, 0, std::max(threads, 0))));
    for (int worker = 1; worker < std::min(threads, pieces); ++worker) others.emplace_back(run, worker);
  } catch (const std::system_error&) {
  } catch (const std::bad_alloc&) {
  }
  run(0);
  for (std::thread& other : others) other.join();
}

}  // namespace edge

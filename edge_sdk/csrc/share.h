// Work that falls into pieces, done by this thread and some more.
#pragma once

#include <algorithm>
#include <atomic>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace edge {

// Calls work(worker, piece) for every piece below `pieces`; `worker` is below `threads` and no two run at once with
// the same. `work` throws nothing. Where the system gives no further thread, or no memory for one, those that there are
// do everything.
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

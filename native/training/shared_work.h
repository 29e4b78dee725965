// Distributes numbered work items over the threads of training.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

#include "threads/pool.h"

namespace paretrim {

// A pool of this many threads, cached between calls.
std::shared_ptr<Pool> training_pool(int threads);

// Calls work(item) once for every item < items, `together` at a time, on at most this many threads.
template <typename Work>
void share(std::int64_t items, std::int64_t together, int threads, const Work& work) {
  struct Load {
    const Work& work;
    std::int64_t items;
    std::int64_t together;
    std::atomic<std::int64_t> next{0};
  } load{work, items, together};
  const auto serve = [](void* context, int) {
    Load& all = *static_cast<Load*>(context);
    for (;;) {
      const std::int64_t first = all.next.fetch_add(all.together, std::memory_order_relaxed);
      if (first >= all.items) return;
      for (std::int64_t item = first; item < std::min(all.items, first + all.together); ++item) all.work(item);
    }
  };
  const std::int64_t shares = (items + together - 1) / together;
  const auto useful = static_cast<int>(std::min<std::int64_t>(threads, shares));
  if (useful > 1 && training_pool(threads)->try_run(serve, &load)) return;
  serve(&load, 0);
}

}  // namespace paretrim

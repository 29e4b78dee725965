#include "training/shared_work.h"

#include <mutex>
#include <utility>

#include "threads/forks.h"

namespace paretrim {
namespace {

struct CachedPool {
  std::shared_ptr<Pool> pool;
  std::uint64_t forks = 0;
};

}  // namespace

std::shared_ptr<Pool> training_pool(int threads) {
  static CachedPool& cached = *new CachedPool;  // never destroyed: a thread may still be in a call when the process ends
  {
    const std::lock_guard<std::mutex> lock(brief_mutex());
    if (cached.pool != nullptr && cached.pool->threads() == threads && cached.forks == forks_so_far()) return cached.pool;
  }
  auto pool = std::make_shared<Pool>(threads);
  std::shared_ptr<Pool> before = pool;
  {
    const std::lock_guard<std::mutex> lock(brief_mutex());
    std::swap(cached.pool, before);
    cached.forks = forks_so_far();
  }
  return pool;  // the threads of the previous pool are joined while no lock is held
}

}  // namespace paretrim

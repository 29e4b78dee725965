#include "run/pool.h"

#include <chrono>

namespace paretrim {
namespace {

// How long a worker spins for the next call before it sleeps: longer than the gap between calls in a loop, short enough to leave
// the core to others.
constexpr std::chrono::microseconds patience{100};

}  // namespace

Pool::Pool(int threads) {
  for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { serve(thread); });
}

Pool::~Pool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_.store(true);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

bool Pool::try_run(void (*work)(void*, int), void* context) {
  const std::unique_lock<std::mutex> caller(callers_, std::try_to_lock);
  if (!caller.owns_lock()) return false;
  work_ = work;
  context_ = context;
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  round_.fetch_add(1);  // sequentially consistent, as is sleeping_: a worker that falls asleep now is seen, or sees the round
  if (sleeping_.load() > 0) {
    const std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  work(context, 0);
  spin_until([&] { return running_.load(std::memory_order_acquire) == 0; });
  return true;
}

void Pool::serve(int thread) {
  std::uint64_t done = 0;
  for (;;) {
    const auto until = std::chrono::steady_clock::now() + patience;
    const auto called = [&] { return round_.load() != done || stopping_.load(std::memory_order_relaxed); };
    while (!called() && std::chrono::steady_clock::now() < until) {
      for (int i = 0; i < 64 && !called(); ++i) pause_briefly();
    }
    if (!called()) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleeping_.fetch_add(1);
      wake_.wait(lock, called);
      sleeping_.fetch_sub(1);
    }
    if (round_.load() == done) return;  // stopping, and nothing is left to do
    ++done;
    work_(context_, thread);
    running_.fetch_sub(1, std::memory_order_acq_rel);
  }
}

}  // namespace paretrim

#include "run/pool.h"

#include <chrono>
#include <string>
#include <system_error>

#include "graph/error.h"

namespace paretrim {
namespace {

// How long a worker spins for the next call before it sleeps: longer than the gap between calls in a loop, short enough to leave
// the core to others.
constexpr std::chrono::microseconds patience{100};

// Of the gate: the low bits count the workers a call has taken, then one bit while it takes more, then the number of the call.
constexpr std::uint64_t open_bit = 1U << 16U;
constexpr std::uint64_t one_call = 1U << 17U;

std::uint64_t call_of(std::uint64_t gate) { return gate / one_call; }

}  // namespace

Pool::Pool(int threads) {
  workers_.reserve(static_cast<std::size_t>(threads) - 1);
  try {
    for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { serve(thread); });
  } catch (const std::system_error&) {
    const std::size_t started = workers_.size() + 1;
    stop();  // no destructor runs for what was never made
    throw Error(ErrorKind::unsupported_operation, "threads is " + std::to_string(threads) + "; this machine starts no more than " +
                                                      std::to_string(started) + " for this process");
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
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
  left_.store(0, std::memory_order_relaxed);
  // Sequentially consistent, as is sleeping_: a worker that falls asleep now is seen here, or sees the call.
  gate_.store((call_of(gate_.load()) + 1) * one_call + open_bit);
  if (sleeping_.load() > 0) {
    const std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  work(context, 0);
  const auto taken = static_cast<int>(gate_.fetch_and(~open_bit) % open_bit);
  spin_until([&] { return left_.load(std::memory_order_acquire) == taken; });
  return true;
}

void Pool::serve(int thread) {
  std::uint64_t seen = 0;
  for (;;) {
    const auto until = std::chrono::steady_clock::now() + patience;
    const auto called = [&] { return call_of(gate_.load()) != seen || stopping_.load(std::memory_order_relaxed); };
    while (!called() && std::chrono::steady_clock::now() < until) {
      for (int i = 0; i < 64 && !called(); ++i) pause_briefly();
    }
    if (!called()) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleeping_.fetch_add(1);
      wake_.wait(lock, called);
      sleeping_.fetch_sub(1);
    }
    if (stopping_.load()) return;
    std::uint64_t gate = gate_.load();
    seen = call_of(gate);
    bool entered = false;
    while (!entered && (gate & open_bit) != 0 && call_of(gate) == seen) entered = gate_.compare_exchange_weak(gate, gate + 1);
    if (!entered) continue;
    work_(context_, thread);
    left_.fetch_add(1, std::memory_order_acq_rel);
  }
}

}  // namespace paretrim

#include "threads/pool.h"

#include <chrono>
#include <string>
#include <system_error>

#include "threads/forks.h"
#include "types/error.h"
#include "types/plain_arithmetic.h"

namespace paretrim {
namespace {

// How long a worker spins for the next call before it sleeps: longer than the gap between calls in a loop, short enough not to
// waste the core.
constexpr std::chrono::microseconds spin_time{100};

// Layout of the gate: the low 16 bits count the workers that joined the call, the next bit is set while others may join, and the
// remaining bits are the number of the call.
constexpr std::uint64_t open_bit = 1U << 16U;
constexpr std::uint64_t one_call = 1U << 17U;

std::uint64_t call_of(std::uint64_t gate) { return gate / one_call; }

}  // namespace

Pool::Pool(int threads) : threads_(threads), forks_(forks_so_far()), shared_(std::make_unique<SharedState>()) {
  std::vector<std::thread>& workers = shared_->workers;
  workers.reserve(static_cast<std::size_t>(threads) - 1);
  try {
    for (int thread = 1; thread < threads; ++thread)
      workers.emplace_back([&shared = *shared_, thread] { serve(shared, thread); });
  } catch (const std::system_error&) {
    const std::size_t started = workers.size() + 1;
    stop();  // the destructor does not run if the constructor throws
    throw Error(ErrorKind::unsupported_operation, "threads is " + std::to_string(threads) +
                                                      "; the system allows this process no more than " + std::to_string(started) +
                                                      "; use fewer");
  }
}

Pool::~Pool() {
  if (inherited()) {
    static_cast<void>(shared_.release());  // leaked: the workers do not exist in a child, so joining would block forever
  } else {
    stop();
  }
}

bool Pool::inherited() const { return forks_so_far() != forks_; }

void Pool::stop() {
  {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->stopping.store(true);
  }
  shared_->wake.notify_all();
  for (std::thread& worker : shared_->workers) worker.join();
}

bool Pool::try_run(void (*work)(void*, int), void* context) {
  if (inherited()) return false;
  SharedState& shared = *shared_;
  const std::unique_lock<std::mutex> caller(shared.callers, std::try_to_lock);
  if (!caller.owns_lock()) return false;
  shared.work = work;
  shared.context = context;
  shared.left.store(0, std::memory_order_relaxed);
  // Sequentially consistent, like `sleeping`: either this thread sees a worker that falls asleep now, or the worker sees the
  // call.
  shared.gate.store((call_of(shared.gate.load()) + 1) * one_call + open_bit);
  if (shared.sleeping.load() > 0) {
    const std::lock_guard<std::mutex> lock(shared.mutex);
    shared.wake.notify_all();
  }
  work(context, 0);
  const auto taken = static_cast<int>(shared.gate.fetch_and(~open_bit) % open_bit);
  spin_until([&] { return shared.left.load(std::memory_order_acquire) == taken; });
  return true;
}

void Pool::serve(SharedState& shared, int thread) {
  const PlainArithmetic arithmetic;  // a thread starts with that of the one that made it
  std::uint64_t seen = 0;
  for (;;) {
    const auto until = std::chrono::steady_clock::now() + spin_time;
    const auto called = [&] { return call_of(shared.gate.load()) != seen || shared.stopping.load(std::memory_order_relaxed); };
    while (!called() && std::chrono::steady_clock::now() < until) {
      for (int i = 0; i < 64 && !called(); ++i) pause_briefly();
    }
    if (!called()) {
      std::unique_lock<std::mutex> lock(shared.mutex);
      shared.sleeping.fetch_add(1);
      shared.wake.wait(lock, called);
      shared.sleeping.fetch_sub(1);
    }
    if (shared.stopping.load()) return;
    std::uint64_t gate = shared.gate.load();
    seen = call_of(gate);
    bool entered = false;
    while (!entered && (gate & open_bit) != 0 && call_of(gate) == seen) {
      entered = shared.gate.compare_exchange_weak(gate, gate + 1);
    }
    if (!entered) continue;
    shared.work(shared.context, thread);
    shared.left.fetch_add(1, std::memory_order_acq_rel);
  }
}

}  // namespace paretrim

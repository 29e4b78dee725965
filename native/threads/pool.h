// A thread pool whose idle workers spin for a bounded time, then sleep.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace paretrim {

inline void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until `ready()`. After a while, the thread that is waited for is probably not running, so this one yields the core.
template <typename Ready>
void spin_until(const Ready& ready) {
  for (int spins = 0; !ready(); ++spins) {
    if (spins < 4096) {
      pause_briefly();
    } else {
      std::this_thread::yield();
    }
  }
}

class Pool {
 public:
  // Starts threads - 1 workers; the caller of try_run() is the remaining thread. Throws unsupported_operation if the system does
  // not allow that many.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Runs work(context, thread) on the calling thread, as thread 0, and on every worker that joins before thread 0 is done;
  // returns when all of them are. Does not wait for workers that have no core right now, so one thread must be able to do all the
  // work. Returns false without running anything if another caller has the pool, or in the child of a fork.
  bool try_run(void (*work)(void* context, int thread), void* context);

 private:
  struct SharedState {
    std::vector<std::thread> workers;
    std::mutex callers;
    std::mutex mutex;
    std::condition_variable wake;
    // The number of calls so far, whether workers may still join the last one, and how many have joined; see pool.cpp.
    std::atomic<std::uint64_t> gate{0};
    std::atomic<int> left{0};
    std::atomic<int> sleeping{0};
    std::atomic<bool> stopping{false};
    void (*work)(void*, int) = nullptr;
    void* context = nullptr;
  };

  // Whether this process was forked after the pool was made: then the workers do not exist and locks may be held for ever.
  bool inherited() const;
  static void serve(SharedState& shared, int thread);
  void stop();

  const int threads_;
  const std::uint64_t forks_;  // forks_so_far() when this pool was made
  std::unique_ptr<SharedState> shared_;
};

// The parts of one step, distributed over threads by work stealing. Each thread owns the same contiguous range of parts in every
// step and call, so the data is often still in the caches of its core. Threads that are done take what others have not begun.
class Parts {
 public:
  explicit Parts(int threads) : lanes_(static_cast<std::size_t>(threads)) {}

  // Calls work(part) for parts that no thread has taken in this call, then waits until all `count` are finished. `call` is 1 for
  // the first call and increases by 1 each time.
  template <typename Work>
  void share(std::uint64_t call, std::int64_t count, int thread, const Work& work) {
    const auto threads = static_cast<std::int64_t>(lanes_.size());
    const auto all = static_cast<std::int64_t>(call) * count;
    for (std::int64_t ahead = 0; ahead < threads; ++ahead) {
      const std::int64_t owner = (thread + ahead) % threads;
      const std::int64_t finished = take(lanes_[static_cast<std::size_t>(owner)], static_cast<std::uint32_t>(call),
                                         count * owner / threads, count * (owner + 1) / threads, work);
      if (finished > 0) done_.count.fetch_add(finished, std::memory_order_acq_rel);
      if (done_.count.load(std::memory_order_acquire) == all) return;
    }
    spin_until([&] { return done_.count.load(std::memory_order_acquire) == all; });
  }

 private:
  static constexpr std::int64_t pieces = 4;  // per thread's range; a piece is taken as a whole

  // Low half: how many pieces of this thread's range are taken. High half: the low 32 bits of the call they belong to, so nothing
  // needs a reset between calls.
  struct alignas(64) Lane {
    std::atomic<std::uint64_t> taken{0};
    Lane() = default;
    Lane(const Lane&) {}
  };
  struct alignas(64) Done {
    std::atomic<std::int64_t> count{0};  // parts finished, over all calls
    Done() = default;
    Done(const Done&) {}
  };

  template <typename Work>
  static std::int64_t take(Lane& lane, std::uint32_t call, std::int64_t first, std::int64_t last, const Work& work) {
    const std::int64_t count = std::min(pieces, last - first);
    std::int64_t finished = 0;
    std::uint64_t seen = lane.taken.load(std::memory_order_relaxed);
    for (;;) {
      const auto piece = static_cast<std::int64_t>(seen >> 32U == call ? seen & 0xFFFFFFFFU : 0);
      if (piece >= count) return finished;
      const std::uint64_t taken = static_cast<std::uint64_t>(call) << 32U | static_cast<std::uint64_t>(piece + 1);
      if (!lane.taken.compare_exchange_weak(seen, taken, std::memory_order_relaxed)) continue;
      const std::int64_t end = first + (last - first) * (piece + 1) / count;
      for (std::int64_t part = first + (last - first) * piece / count; part < end; ++part, ++finished) work(part);
      seen = taken;
    }
  }

  std::vector<Lane> lanes_;  // by thread
  Done done_;
};

}  // namespace paretrim

// Threads that wait for work by spinning for a bounded time and then sleep.
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

// Waits until `ready()`; yields the core if that takes longer than a running thread would need.
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
  // The caller of try_run() is one of the threads; the others are made here. Throws unsupported_operation where the machine gives
  // fewer.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Runs work(context, thread) on the calling thread (as thread 0) and on every worker that comes before the caller's own has
  // returned; returns when all of them have. A worker that has no core right now is not waited for, so `work` must be such that
  // one thread can do all of it. False, with nothing run, if another caller has the pool, and in the child of a fork.
  bool try_run(void (*work)(void* context, int thread), void* context);

 private:
  // State shared by the threads of a pool.
  struct SharedState {
    std::vector<std::thread> workers;
    std::mutex callers;
    std::mutex mutex;
    std::condition_variable wake;
    // The number of calls so far, above a bit that says whether the last one still takes workers, above how many it has taken.
    std::atomic<std::uint64_t> gate{0};
    std::atomic<int> left{0};
    std::atomic<int> sleeping{0};
    std::atomic<bool> stopping{false};
    void (*work)(void*, int) = nullptr;
    void* context = nullptr;
  };

  // Whether this process is a child, made by fork() since: it has none of the threads, and locks as they happened to be.
  bool inherited() const;
  static void serve(SharedState& shared, int thread);
  void stop();

  const int threads_;
  const std::uint64_t forks_;  // before this pool was made
  std::unique_ptr<SharedState> shared_;
};

// The parts of one step. Every thread has a run of them to itself, the same in every call, so that what it read and wrote in the
// step before, and in the call before, is what it meets again in the caches of its core. What a thread has not begun, others
// take.
class Parts {
 public:
  explicit Parts(int threads) : lanes_(static_cast<std::size_t>(threads)) {}

  // Calls work(part) for parts nobody has taken yet in this call, then waits until all `count` are finished. Calls are numbered
  // from 1 on, without gaps.
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
  static constexpr std::int64_t pieces = 4;  // of one thread's parts, taken at once

  // How many pieces of a thread's parts are taken, below the low half of the number of the call: nothing is to be reset between
  // calls.
  struct alignas(64) Lane {
    std::atomic<std::uint64_t> taken{0};
    Lane() = default;
    Lane(const Lane&) {}
  };
  struct alignas(64) Done {
    std::atomic<std::int64_t> count{0};  // of all calls
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

// Threads that wait for work by spinning for a bounded time and then sleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
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

// Waits until `ready()`; gives the core away when it takes longer than another running thread would need.
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

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs work(context, thread) on the calling thread (as thread 0) and on every worker that comes before the caller's own has
  // returned; returns when all of them have. A worker that has no core right now is not waited for, so `work` must be such that
  // one thread can do all of it. False, with nothing run, if another caller has the pool.
  bool try_run(void (*work)(void* context, int thread), void* context);

 private:
  void serve(int thread);
  void stop();

  std::vector<std::thread> workers_;
  std::mutex callers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  // The number of calls so far, above a bit that says whether the last one still takes workers, above how many it has taken.
  std::atomic<std::uint64_t> gate_{0};
  std::atomic<int> left_{0};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> stopping_{false};
  void (*work_)(void*, int) = nullptr;
  void* context_ = nullptr;
};

// The parts of one step, taken and finished by whichever thread comes.
class alignas(64) Parts {
 public:
  void reset() {
    next_.store(0, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
  }

  // Calls work(part) for parts nobody has taken yet, then waits until all `count` are finished.
  template <typename Work>
  void share(std::int64_t count, const Work& work) {
    std::int64_t finished = 0;
    for (std::int64_t part = next_.fetch_add(1, std::memory_order_relaxed); part < count;
         part = next_.fetch_add(1, std::memory_order_relaxed)) {
      work(part);
      ++finished;
    }
    if (finished > 0) done_.fetch_add(finished, std::memory_order_acq_rel);
    spin_until([&] { return done_.load(std::memory_order_acquire) == count; });
  }

 private:
  std::atomic<std::int64_t> next_{0};
  std::atomic<std::int64_t> done_{0};
};

}  // namespace paretrim

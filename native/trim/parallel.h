// Runs independent tasks on a few threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace paretrim::trim {

// Calls task(i) for every i < count. If tasks throw, the exception of the lowest i is rethrown after all have ended.
template <typename Task>
void in_parallel(std::size_t count, int threads, const Task& task) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::size_t failed = count;
  std::exception_ptr failure;
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        task(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (i < failed) {
          failed = i;
          failure = std::current_exception();
        }
      }
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads && static_cast<std::size_t>(i) < count; ++i) {
    try {
      others.emplace_back(work);
    } catch (const std::system_error&) {
      break;  // the system allows no more threads; the running ones do the work
    }
  }
  work();
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

// Values that tasks of in_parallel work with, one task at a time: no more of them than threads.
template <typename Value>
class Spares {
 public:
  template <typename Use>
  auto with(const Use& use) {
    std::unique_ptr<Value> value = take();
    auto result = use(*value);
    const std::lock_guard<std::mutex> lock(mutex_);
    spare_.push_back(std::move(value));
    return result;
  }

 private:
  std::unique_ptr<Value> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (spare_.empty()) return std::make_unique<Value>();
    std::unique_ptr<Value> value = std::move(spare_.back());
    spare_.pop_back();
    return value;
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Value>> spare_;
};

// Lets tasks of in_parallel end in their order: those that are done sooner wait.
class Turns {
 public:
  // Calls work() when it has returned for all tasks before `index`. If one of these has failed, nothing is called any more.
  template <typename Work>
  void take(std::size_t index, const Work& work) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return failed_ || next_ == index; });
    if (failed_) return;
    work();
    ++next_;
    changed_.notify_all();
  }

  void fail() {
    const std::lock_guard<std::mutex> lock(mutex_);
    failed_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t next_ = 0;
  bool failed_ = false;
};

}  // namespace paretrim::trim

// Runs independent tasks on a few threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
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

}  // namespace paretrim::trim

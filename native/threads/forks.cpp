#include "threads/forks.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include <atomic>

namespace paretrim {
namespace {

std::atomic<std::uint64_t> forks{0};
std::mutex brief;

#if defined(__unix__) || defined(__APPLE__)
void before() { brief.lock(); }
void in_parent() { brief.unlock(); }
void in_child() {
  brief.unlock();
  forks.fetch_add(1);
}
// If registration fails for lack of memory, forks go unnoticed.
[[maybe_unused]] const int watched = pthread_atfork(before, in_parent, in_child);
#endif

}  // namespace

std::uint64_t forks_so_far() { return forks.load(std::memory_order_relaxed); }

std::mutex& brief_mutex() { return brief; }

}  // namespace paretrim

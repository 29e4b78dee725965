// What the child of a fork() needs to continue: it has one thread, and every lock as it was at that moment.
#pragma once

#include <cstdint>
#include <mutex>

namespace paretrim {

// Number of forks since this library was loaded: a child counts one more than its parent.
std::uint64_t forks_so_far();

// The one mutex for state that lives longer than a call. A fork waits until it is free, so that the child finds it free and what
// it guards consistent. Hold it for a few instructions, and take no other lock of ours while holding it.
std::mutex& brief_mutex();

}  // namespace paretrim

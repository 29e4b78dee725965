// What the child of a fork() needs to go on: it has one thread, and every lock as it was at that moment.
#pragma once

#include <cstdint>
#include <mutex>

namespace paretrim {

// Forks between the loading of this library and this process: a child counts one more than its parent.
std::uint64_t forks_so_far();

// The one mutex for state that lives longer than a call. A fork waits until it is free, so that the child finds it free and what
// it guards whole. Hold it for a few instructions, and take no other lock of ours while holding it.
std::mutex& brief_mutex();

}  // namespace paretrim

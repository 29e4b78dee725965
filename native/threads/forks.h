// Fork safety. The child of a fork() has only one thread, and every lock is in the state it had at the fork.
#pragma once

#include <cstdint>
#include <mutex>

namespace paretrim {

// Number of forks in this process's ancestry since the library was loaded: a child counts one more than its parent.
std::uint64_t forks_so_far();

// The only mutex for state that outlives a call. A fork waits until it is free, so in the child it is free too and the state it
// guards is consistent. Hold it for a few instructions only, and take no other lock of this library meanwhile.
std::mutex& brief_mutex();

}  // namespace paretrim

#include "plan/memory.h"

#include <algorithm>
#include <numeric>

#include "plan/layout.h"

namespace paretrim {

std::vector<Lifetime> lifetimes_of(const Steps& steps, const std::vector<std::int64_t>& bytes) {
  std::vector<Lifetime> lifetimes;
  for (const std::int64_t size : bytes) lifetimes.push_back({size, -1, -1});
  for (std::size_t s = 0; s < steps.size(); ++s) {
    for (const auto* buffers : {&steps[s]->reads, &steps[s]->writes}) {
      for (const Buffer buffer : *buffers) {
        Lifetime& life = lifetimes[static_cast<std::size_t>(buffer)];
        if (life.first < 0) life.first = static_cast<std::int64_t>(s);
        life.last = static_cast<std::int64_t>(s);
      }
    }
  }
  return lifetimes;
}

Placement place(const std::vector<Lifetime>& lifetimes) {
  std::vector<std::size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });
  Placement result;
  result.offsets.assign(lifetimes.size(), 0);
  std::vector<std::size_t> placed;  // by offset
  for (const std::size_t buffer : order) {
    const Lifetime& life = lifetimes[buffer];
    if (life.bytes == 0) continue;
    std::int64_t offset = 0;
    for (const std::size_t other : placed) {
      const Lifetime& theirs = lifetimes[other];
      if (theirs.last < life.first || life.last < theirs.first) continue;
      if (result.offsets[other] - offset >= life.bytes) break;
      offset = std::max(offset, rounded_up(result.offsets[other] + theirs.bytes, alignment));
    }
    result.offsets[buffer] = offset;
    result.bytes = std::max(result.bytes, offset + life.bytes);
    const auto where = std::upper_bound(placed.begin(), placed.end(), offset,
                                        [&](std::int64_t at, std::size_t other) { return at < result.offsets[other]; });
    placed.insert(where, buffer);
  }
  return result;
}

}  // namespace paretrim

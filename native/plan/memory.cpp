#include "plan/memory.h"

#include <algorithm>
#include <numeric>

#include "plan/layout.h"

namespace paretrim {

std::vector<Life> lives_of(const Steps& steps, const std::vector<std::int64_t>& bytes) {
  std::vector<Life> lives;
  for (const std::int64_t size : bytes) lives.push_back({size, -1, -1});
  for (std::size_t s = 0; s < steps.size(); ++s) {
    for (const auto* buffers : {&steps[s]->reads, &steps[s]->writes}) {
      for (const Buffer buffer : *buffers) {
        Life& life = lives[static_cast<std::size_t>(buffer)];
        if (life.first < 0) life.first = static_cast<std::int64_t>(s);
        life.last = static_cast<std::int64_t>(s);
      }
    }
  }
  return lives;
}

Placement place(const std::vector<Life>& lives) {
  std::vector<std::size_t> order(lives.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return lives[a].bytes > lives[b].bytes; });
  Placement result;
  result.offsets.assign(lives.size(), 0);
  std::vector<std::size_t> placed;  // by offset
  for (const std::size_t buffer : order) {
    const Life& life = lives[buffer];
    if (life.bytes == 0) continue;
    std::int64_t offset = 0;
    for (const std::size_t other : placed) {
      const Life& theirs = lives[other];
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

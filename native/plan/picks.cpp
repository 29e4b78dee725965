#include "plan/picks.h"

namespace paretrim {

// Covers the sources in order with runs of `lanes` pixels, two runs per pick.
void add_picks_of_register(const std::vector<std::int64_t>& sources, int lanes, std::vector<Pick>& picks) {
  std::size_t next = 0;
  const auto skip_empty = [&] {
    while (next < sources.size() && sources[next] < 0) ++next;
  };
  const auto take_run = [&](Pick& pick, std::int32_t& start, std::int32_t index) {
    skip_empty();
    const std::int64_t begin = next < sources.size() ? sources[next] : 0;
    start = static_cast<std::int32_t>(begin * block);
    for (; next < sources.size() && sources[next] < begin + lanes; ++next) {
      if (sources[next] < 0) continue;
      pick.index[next] = index + static_cast<std::int32_t>(sources[next] - begin);
      pick.mask = static_cast<std::uint16_t>(pick.mask | 1U << next);
    }
  };
  do {
    Pick pick;
    take_run(pick, pick.first, 0);
    take_run(pick, pick.second, lanes);
    skip_empty();
    pick.last = next == sources.size();
    picks.push_back(pick);
  } while (!picks.back().last);
}

}  // namespace paretrim

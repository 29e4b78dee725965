// A callback that long work calls regularly; it may throw to stop the work.
#pragma once

#include <functional>

namespace paretrim {

using Poll = std::function<void()>;

inline void ask(const Poll& poll) {
  if (poll) poll();
}

}  // namespace paretrim

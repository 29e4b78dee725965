// Called now and then during long work; it may throw to stop it.
#pragma once

#include <functional>

namespace paretrim {

using Poll = std::function<void()>;

inline void ask(const Poll& poll) {
  if (poll) poll();
}

}  // namespace paretrim

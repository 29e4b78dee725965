#include "trim/models.h"

#include <cmath>

namespace paretrim::trim {

LogisticTables::LogisticTables() {
  for (int i = 0; i < 4096; ++i) {
    const double share = (i + 0.5) / 4096;
    const long logit = std::lrint(256 * std::log(share / (1 - share)));
    stretch[i] = static_cast<std::int16_t>(std::clamp<long>(logit, -largest_logit, largest_logit));
    squash[i] = static_cast<std::uint16_t>(std::lrint(65536 / (1 + std::exp((2048 - i) / 256.0))));
  }
  for (int i = 0; i < 1024; ++i) step[i] = static_cast<std::uint16_t>(16384 / (2 * i + 3));
}

const LogisticTables logistic;

}  // namespace paretrim::trim

// Steps computed by all threads of a pool.
#pragma once

#include <memory>
#include <vector>

#include "plan/step.h"
#include "threads/pool.h"

namespace paretrim {

// Progress of one caller's calls of the same steps.
class Progress {
 public:
  Progress(std::size_t steps, int threads) : parts_(steps, Parts(threads)) {}

  // `own` is the calling thread's scratch, `others` that of the pool's other threads. False, with nothing computed, if another
  // caller has the pool.
  bool run(const Steps& steps, const Memory& memory, Scratch& own, Scratches& others, Pool& pool);

 private:
  std::vector<Parts> parts_;  // by step
  std::uint64_t calls_ = 0;
};

}  // namespace paretrim

// Runs the steps of a plan on all threads of a pool.
#pragma once

#include <memory>
#include <vector>

#include "plan/step.h"
#include "threads/pool.h"

namespace paretrim {

// The synchronisation state of one caller's calls of the same steps.
class ParallelRunner {
 public:
  ParallelRunner(std::size_t steps, int threads) : parts_(steps, Parts(threads)) {}

  // `own` is the scratch of the calling thread, `others` that of the pool's workers. Returns false without computing anything if
  // another caller has the pool.
  bool run(const Steps& steps, const Memory& memory, Scratch& own, ScratchSet& others, Pool& pool);

 private:
  std::vector<Parts> parts_;  // by step
  std::uint64_t calls_ = 0;
};

}  // namespace paretrim

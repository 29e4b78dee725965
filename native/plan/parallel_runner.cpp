#include "plan/parallel_runner.h"

namespace paretrim {

bool ParallelRunner::run(const Steps& steps, const Memory& memory, Scratch& own, ScratchSet& others, Pool& pool) {
  struct Call {
    const Steps& steps;
    const Memory& memory;
    Scratch& own;
    ScratchSet& others;
    std::vector<Parts>& parts;
    std::uint64_t number;
  } call{steps, memory, own, others, parts_, calls_ + 1};
  const bool done = pool.try_run(
      [](void* context, int thread) {
        const Call& call = *static_cast<Call*>(context);
        Scratch& scratch = thread == 0 ? call.own : call.others.at(thread - 1);
        scratch.begin_call();
        for (std::size_t s = 0; s < call.steps.size(); ++s) {
          const Step& step = *call.steps[s];
          call.parts[s].share(call.number, step.parts(), thread,
                              [&](std::int64_t part) { step.run(part, call.memory, scratch); });
        }
      },
      &call);
  if (done) ++calls_;
  return done;
}

}  // namespace paretrim

#include "plan/pack.h"

#include <atomic>
#include <exception>
#include <mutex>

namespace paretrim {

void pack(const UnpackedLayers& layers, Pool& pool, const Kernels& kernels, const Poll& poll) {
  struct Call {
    const UnpackedLayers& layers;
    const int threads;
    const Kernels& kernels;
    const Poll& poll;
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    std::exception_ptr failure;  // the first one

    void work() {
      for (std::size_t i = next++; i < layers.size(); i = next++) {
        try {
          ask(poll);
          UnpackedLayer& one = *layers[i];
          one.made = compute(one.layer, one.nonzero, one.choice, one.operands, threads, kernels);
        } catch (...) {
          const std::lock_guard<std::mutex> lock(mutex);
          if (!failure) failure = std::current_exception();
          next = layers.size();
        }
      }
    }
  } call{layers, pool.threads(), kernels, poll, {}, {}, nullptr};
  if (!pool.try_run([](void* context, int) { static_cast<Call*>(context)->work(); }, &call)) call.work();
  if (call.failure) std::rethrow_exception(call.failure);
}

}  // namespace paretrim

#include "run/network.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <new>

#include "graph/short_floats.h"
#include "kernels/cpu.h"
#include "plan/layout.h"
#include "plan/parallel_runner.h"
#include "plan/plan.h"
#include "run/saved_choices.h"
#include "threads/forks.h"
#include "threads/pool.h"
#include "types/aligned.h"
#include "types/error.h"
#include "types/plain_arithmetic.h"

namespace paretrim {
namespace {

// The memory of one call.
struct Workspace {
  Workspace(const Plan& plan, int threads)
      : arena(static_cast<std::size_t>(plan.arena_bytes)), scratch(1, plan.copies_bytes), runner(plan.steps.size(), threads) {}

  AlignedArray<std::uint8_t> arena;
  ScratchSet scratch;  // for the calling thread
  ParallelRunner runner;
};

bool all_finite(const float* values, std::int64_t count) {
  std::uint32_t bad = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, values + i, sizeof bits);
    bad |= static_cast<std::uint32_t>((bits & 0x7F800000U) == 0x7F800000U);
  }
  return bad == 0;
}

// A step of a plan, which keeps it.
class BorrowedStep final : public Step {
 public:
  explicit BorrowedStep(const Step& step) : step_(step) {}
  std::int64_t parts() const override { return step_.parts(); }
  void run(std::int64_t part, const Memory& memory, Scratch& scratch) const override { step_.run(part, memory, scratch); }

 private:
  const Step& step_;
};

// Copies a value without its padding to its place after those of earlier images. A part is one channel, or a whole vector.
class StoringStep final : public Step {
 public:
  StoringStep(const StepValue& value, float* to) : value_(value), layout_(Layout::of(value.type)), to_(to) {}
  std::int64_t parts() const override { return layout_.pixels() == 1 ? 1 : layout_.blocks(); }
  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    const std::int64_t pixels = layout_.pixels(), apart = layout_.pitch() / block;
    const float* from = memory.floats_at(value_.buffer) + part * apart;
    std::copy_n(from, pixels == 1 ? layout_.blocks() : pixels, to_ + memory.image * value_.type.size() + part * pixels);
  }

 private:
  const StepValue& value_;
  const Layout layout_;
  float* const to_;
};

}  // namespace

struct Network::Impl {
  Impl(Graph given, const Settings& settings)
      : kernels(kernels_named(settings.instruction_set)), input(given.input), classes(given.classes) {
    validate(given);
    for (const std::uint32_t output : given.outputs) {
      const ValueType type = given.type_of(output);
      // A single output is always named "logits", whatever the name of its node.
      outputs.push_back({given.outputs.size() == 1 ? "logits" : given.nodes[output - 1].name, type.shape, type.size()});
      sizes.push_back(type.size());
    }
    image_bytes = static_cast<std::int64_t>(input.takes_pixels() ? 1 : sizeof(float));
    for (const std::int64_t extent : input.shape) image_bytes *= extent;
    // What heuristics choose is neither stored nor looked up, and the digest of a gigabyte takes long.
    const std::string identity = identity_of(given, kernels, settings.measure || !settings.choices.empty());
    const std::vector<std::string> chosen = choices_for(identity, settings.choices);
    pool = std::make_unique<Pool>(settings.threads);
    widen_weights(given);
    plan = make_plan(given, kernels, *pool, settings, chosen);
    choices_used = !chosen.empty() && plan.choices == chosen;  // the planner replaced choices that were missing or impossible
    choices = joined_choices(identity, plan.choices);
    worker_scratch = std::make_unique<ScratchSet>(settings.threads - 1, plan.copies_bytes);
    idle.reserve(std::max<std::size_t>(64, 2 * static_cast<std::size_t>(settings.threads)));
    give_back(take());  // so that the first call allocates nothing
  }

  std::unique_ptr<Workspace> take() {
    {
      const std::lock_guard<std::mutex> lock(brief_mutex());
      if (!idle.empty()) {
        std::unique_ptr<Workspace> workspace = std::move(idle.back());
        idle.pop_back();
        return workspace;
      }
    }
    return std::make_unique<Workspace>(plan, pool->threads());
  }

  // Does not allocate: if `idle` is full, the workspace is freed.
  void give_back(std::unique_ptr<Workspace> workspace) {
    const std::lock_guard<std::mutex> lock(brief_mutex());
    if (idle.size() < idle.capacity()) idle.push_back(std::move(workspace));
  }

  // One image of a call.
  struct Image {
    const std::uint8_t* pixels;
    std::int64_t number;
    float* const* out;
  };

  Memory memory_of(Workspace& workspace, const Image& image) const {
    const Outputs out{image.out, sizes.data(), static_cast<Buffer>(sizes.size())};
    return {image.pixels, out, image.number, workspace.arena.data(), plan.offsets.data()};
  }

  // The steps of the plan, with one behind each that copies a value before its memory is reused.
  Steps storing_steps(float* const* values) const {
    Steps steps;
    std::size_t next = 0;
    for (std::size_t s = 0; s < plan.steps.size(); ++s) {
      steps.push_back(std::make_unique<BorrowedStep>(*plan.steps[s]));
      steps.back()->layer = plan.steps[s]->layer;
      for (; next < plan.values.size() && plan.values[next].steps == s + 1; ++next) {
        steps.push_back(std::make_unique<StoringStep>(plan.values[next], values[next]));
      }
    }
    return steps;
  }

  // Runs steps on the threads of the pool or, where another caller has it, on the calling thread.
  void run_all(Workspace& workspace, const Steps& steps, ParallelRunner& runner, const Image& image) {
    if (pool->threads() > 1 && runner.run(steps, memory_of(workspace, image), workspace.scratch.at(0), *worker_scratch, *pool)) {
      return;
    }
    run_alone(workspace, steps, image);
  }

  // Runs steps on the calling thread.
  void run_alone(Workspace& workspace, const Steps& steps, const Image& image, std::int64_t* nanoseconds = nullptr) const {
    const Memory memory = memory_of(workspace, image);
    Scratch& scratch = workspace.scratch.at(0);
    scratch.begin_call();
    for (const auto& step : steps) {
      const auto start = nanoseconds ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point();
      for (std::int64_t part = 0; part < step->parts(); ++part) step->run(part, memory, scratch);
      if (nanoseconds) {
        const auto spent = std::chrono::steady_clock::now() - start;
        nanoseconds[step->layer] += std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count();
      }
    }
  }

  // Runs one image on all threads of the pool; false if another caller has the pool.
  bool run_together(Workspace& workspace, const Image& image) {
    return workspace.runner.run(plan.steps, memory_of(workspace, image), workspace.scratch.at(0), *worker_scratch, *pool);
  }

  // Runs each image on a single thread; threads take the next image as they become free. False if another caller has the pool.
  bool run_apart(const std::uint8_t* images, std::int64_t count, float* const* out) {
    struct Call {
      Impl& self;
      std::unique_ptr<Workspace> first;  // for the calling thread, which can finish the call alone
      const std::uint8_t* images;
      std::int64_t count;
      float* const* out;
      std::atomic<std::int64_t> next{0};
    } call{*this, take(), images, count, out, {}};
    const bool done = pool->try_run(
        [](void* context, int thread) {
          Call& own = *static_cast<Call*>(context);
          std::unique_ptr<Workspace> mine;
          try {
            mine = thread == 0 ? std::move(own.first) : own.self.take();
          } catch (const std::bad_alloc&) {
            return;  // the other threads do the work
          }
          for (std::int64_t i = own.next.fetch_add(1); i < own.count; i = own.next.fetch_add(1)) {
            own.self.run_alone(*mine, own.self.plan.steps, {own.images + i * own.self.image_bytes, i, own.out});
          }
          own.self.give_back(std::move(mine));
        },
        &call);
    if (!done) give_back(std::move(call.first));
    return done;
  }

  void refuse_infinity(const void* given, std::int64_t count) const {
    if (!input.takes_pixels() && !all_finite(static_cast<const float*>(given), count * image_bytes / 4)) {
      throw Error(ErrorKind::data_unavailable, "images hold NaN or infinity; pass finite, normalised pixels");
    }
  }

  void run(const void* given, std::int64_t count, float* const* out) {
    refuse_infinity(given, count);
    const auto* images = static_cast<const std::uint8_t*>(given);
    if (pool->threads() > 1 && count >= pool->threads() && run_apart(images, count, out)) return;
    std::unique_ptr<Workspace> workspace = take();
    for (std::int64_t i = 0; i < count; ++i) {
      const Image image{images + i * image_bytes, i, out};
      if (pool->threads() == 1 || !run_together(*workspace, image)) run_alone(*workspace, plan.steps, image);
    }
    give_back(std::move(workspace));
  }

  const Kernels& kernels;
  InputSpec input;
  std::vector<std::string> classes;
  std::vector<Output> outputs;
  std::vector<std::int64_t> sizes;  // elements of each output, for one image
  std::int64_t image_bytes = 0;
  Plan plan;
  std::string choices;
  bool choices_used = false;
  std::unique_ptr<ScratchSet> worker_scratch;  // for the pool's workers; used only by the caller that has the pool
  std::unique_ptr<Pool> pool;
  std::vector<std::unique_ptr<Workspace>> idle;  // guarded by brief_mutex()
};

Network::Network(Graph graph, const Settings& settings) {
  if (settings.threads < 1 || settings.threads > 1024) {
    throw Error(ErrorKind::unsupported_operation,
                "threads is " + std::to_string(settings.threads) + "; it must be from 1 to 1024");
  }
  const PlainArithmetic arithmetic;
  impl_ = std::make_unique<Impl>(std::move(graph), settings);
}

Network::~Network() = default;

void Network::run(const void* images, std::int64_t count, float* const* outputs) const {
  const PlainArithmetic arithmetic;
  impl_->run(images, count, outputs);
}

void Network::profile(const void* image, float* const* outputs, std::vector<std::int64_t>& nanoseconds) const {
  const PlainArithmetic arithmetic;
  nanoseconds.assign(impl_->plan.layers.size(), 0);
  std::unique_ptr<Workspace> workspace = impl_->take();
  impl_->run_alone(*workspace, impl_->plan.steps, {static_cast<const std::uint8_t*>(image), 0, outputs}, nanoseconds.data());
  impl_->give_back(std::move(workspace));
}

void Network::run_all(const void* images, std::int64_t count, float* const* outputs, float* const* values) const {
  const PlainArithmetic arithmetic;
  impl_->refuse_infinity(images, count);
  std::unique_ptr<Workspace> workspace = impl_->take();
  const Steps steps = impl_->storing_steps(values);
  ParallelRunner runner(steps.size(), impl_->pool->threads());
  for (std::int64_t i = 0; i < count; ++i) {
    const auto* image = static_cast<const std::uint8_t*>(images) + i * impl_->image_bytes;
    impl_->run_all(*workspace, steps, runner, {image, i, outputs});
  }
  impl_->give_back(std::move(workspace));
}

std::vector<Output> Network::step_values() const {
  std::vector<Output> values;
  for (const StepValue& value : impl_->plan.values) values.push_back({value.name, value.type.shape, value.type.size()});
  return values;
}

const InputSpec& Network::input() const { return impl_->input; }
const std::vector<Output>& Network::outputs() const { return impl_->outputs; }
const std::vector<std::string>& Network::class_names() const { return impl_->classes; }
const std::vector<LayerReport>& Network::layers() const { return impl_->plan.layers; }
std::string Network::choices() const { return impl_->choices; }
bool Network::choices_were_used() const { return impl_->choices_used; }
std::string Network::instruction_set() const { return impl_->kernels.name; }
int Network::threads() const { return impl_->pool->threads(); }
std::int64_t Network::weight_bytes() const { return impl_->plan.weight_bytes; }
std::int64_t Network::peak_bytes() const {
  return impl_->plan.arena_bytes +
         (static_cast<std::int64_t>(sizeof(Scratch)) + impl_->plan.copies_bytes) * impl_->pool->threads();
}

}  // namespace paretrim

// Chooses the fastest view and tile for a layer: a cost model ranks the candidates, and measuring decides among the best few.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "plan/convolution.h"
#include "plan/parallel_runner.h"
#include "types/aligned.h"

namespace paretrim {
namespace {

constexpr std::size_t measured_candidates = 10;
constexpr std::int64_t l1_bytes = 40 * 1024;  // L1 is 32 or 48 KiB and also holds weights and sums; used by the cost model only
constexpr int first_runs = 3;                 // of every candidate; the first one warms the caches
constexpr std::size_t max_finalists = 3;
constexpr int turns = 4;

struct Candidate {
  Choice choice;
  double cost;
};

// Estimated cost in units of one dot product of a register. Fitted by eye to single kernels on Zen 5; only the order matters.
double estimated_cost(const Choice& choice, double executed, const WeightedLayer& layer, const View& view, int threads,
                      const Kernels& kernels) {
  const Geometry& g = layer.geometry;
  const auto channels = static_cast<double>(layer.outputs());
  const double tiles = std::ceil(static_cast<double>((g.out.pixels() + kernels.lanes - 1) / kernels.lanes) / choice.vectors);
  const bool copied = choice.view != ViewKind::in_place;
  const double bands = choice.bands;
  const std::int64_t slices = slices_of(layer).count;
  const auto bytes = static_cast<double>(copied ? view.bytes : g.in.bytes() / choice.bands / slices);  // per band of a slice
  const double at_once = bytes / std::max(1.0, tiles / bands) / choice.passes;  // working set of the innermost loops
  const double far = at_once > static_cast<double>(l1_bytes) ? 1.3 : 1.0;
  const bool whole_lines = g.out.width * block % static_cast<std::int64_t>(alignment) == 0;
  const bool crossing = choice.view == ViewKind::columns && !whole_lines;
  const double load = far * (crossing ? 1.6 : 1.0);
  const double vectors = choice.vectors;
  const double each = choice.grouped == 1 ? vectors * 1.35 * load + 0.9
                                          : std::max(vectors * choice.grouped, (vectors * load + choice.grouped) * 1.35) + 0.3;
  // Threads divide the bands among them. If there are too few bands, they also divide the channels, and each copies the band.
  const double copying = copied ? bytes / 64.0 * 8.0 : 0;
  const double pieces = bands * static_cast<double>(slices);
  const double rounds = std::ceil(pieces / threads);
  const double share = pieces >= threads ? rounds / pieces : 1.0 / threads;
  const double finishing = tiles * channels * (3.0 + 2.0 * (choice.passes - 1) * (vectors + 1.0));
  return share * (executed * tiles * each + finishing) + rounds * copying;
}

std::vector<Candidate> ranked_candidates(const WeightedLayer& layer, const NonzeroBlocks& nonzero, int threads,
                                         const Kernels& kernels) {
  struct BandedView {
    int bands;
    View view;
  };
  std::vector<BandedView> views;
  for (const ViewKind kind : View::possible(layer.geometry)) {
    for (int bands = 1; bands <= max_bands; bands *= 2) views.push_back({bands, view_for({kind, 1, 1, 1, bands}, layer)});
  }
  std::vector<Candidate> found;
  const std::int64_t all = (layer.geometry.out.pixels() + kernels.lanes - 1) / kernels.lanes;
  for (int grouped = 1; grouped <= max_grouped; grouped *= 2) {
    const double executed = nonzero.in_unions(static_cast<std::size_t>(grouped));
    for (const auto& [bands, view] : views) {
      for (int vectors = 1; vectors <= std::min<std::int64_t>(all, max_vectors); ++vectors) {
        for (int passes = 1; passes <= (grouped == 1 ? max_passes : 1); passes *= 2) {
          const Choice choice{view.kind, vectors, grouped, passes, bands};
          if (!possible(choice, view, layer, kernels)) continue;
          found.push_back({choice, estimated_cost(choice, executed, layer, view, threads, kernels)});
        }
      }
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) { return a.cost < b.cost; });
  return found;
}

// Buffers that all trials of a layer use in turn.
class TrialMemory {
 public:
  enum { input = 2, output, added, count };

  TrialMemory(const Geometry& geometry, Element element) {
    offsets_[output] = geometry.in.bytes();
    offsets_[added] = offsets_[output] + std::max<std::int64_t>(geometry.out.bytes(), geometry.out.channels * 4 + slack);
    arena_ = AlignedArray<std::uint8_t>(static_cast<std::size_t>(offsets_[added] + geometry.out.bytes()));
    for (std::size_t i = 0; i < arena_.size(); ++i) arena_.data()[i] = static_cast<std::uint8_t>(i * 37U);
    if (element == Element::int8) return;
    auto* numbers = reinterpret_cast<float*>(arena_.data());  // normal numbers, because subnormal ones are slow
    for (std::size_t i = 0; i < arena_.size() / sizeof(float); ++i) numbers[i] = 1.0F;
  }

  Memory memory() { return {nullptr, {}, 0, arena_.data(), offsets_}; }

 private:
  std::int64_t offsets_[count] = {};
  AlignedArray<std::uint8_t> arena_;
};

// A layer computed with one choice, ready to be timed.
class Trial {
 public:
  Trial(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const Choice& choice, TrialMemory& memory, Pool& pool,
        const Kernels& kernels)
      : choice_(choice), memory_(memory), runner_(1, pool.threads()), pool_(pool) {
    Operands operands{{TrialMemory::input}, TrialMemory::output};
    if (layer.addition) operands.inputs.push_back(TrialMemory::added);
    Computation computation = compute(layer, nonzero, choice, operands, pool.threads(), kernels);
    steps_.push_back(std::move(computation.step));
  }

  const Choice& choice() const { return choice_; }
  std::int64_t best() const { return best_; }

  // Records the shortest time, because every disturbance makes a run longer.
  void run(int times, Scratch& own, ScratchSet& others) {
    const Memory memory = memory_.memory();
    for (int i = 0; i < times; ++i) {
      const auto start = std::chrono::steady_clock::now();
      runner_.run(steps_, memory, own, others, pool_);
      const auto spent = std::chrono::steady_clock::now() - start;
      best_ = std::min<std::int64_t>(best_, std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
    }
  }

 private:
  Choice choice_;
  TrialMemory& memory_;
  Steps steps_;
  ParallelRunner runner_;
  Pool& pool_;
  std::int64_t best_ = std::numeric_limits<std::int64_t>::max();
};

using Trials = std::vector<std::unique_ptr<Trial>>;

bool faster(const std::unique_ptr<Trial>& a, const std::unique_ptr<Trial>& b) { return a->best() < b->best(); }

// Bytes that a run may copy, in the view that copies most; weights that are zero save none of them.
double most_copied_bytes(const Geometry& geometry) {
  std::int64_t most = 0;
  if (geometry.kernel.vertical * geometry.kernel.horizontal > max_positions) return 0;  // refused in any case
  for (const ViewKind kind : View::possible(geometry)) {
    most = std::max(most, View::make(kind, geometry, geometry.out.height).bytes);
  }
  return static_cast<double>(most);
}

}  // namespace

double work_of_measuring(const WeightedLayer& layer, const NonzeroBlocks& nonzero) {
  constexpr double runs = measured_candidates * first_runs + max_finalists * turns * 2;
  constexpr double work_per_byte = 8;  // copied, read or written
  const auto products =
      static_cast<double>(nonzero.size()) * static_cast<double>(layer.channels_per_plane() * layer.geometry.out.pixels());
  const double moved = static_cast<double>(layer.geometry.in.bytes() + layer.geometry.out.bytes());
  return runs * (products + work_per_byte * (moved + most_copied_bytes(layer.geometry)));
}

Choice choose(const WeightedLayer& layer, const NonzeroBlocks& nonzero, bool measure, Pool& pool, const Kernels& kernels) {
  const Pair& kernel = layer.geometry.kernel;
  if (kernel.vertical * kernel.horizontal > max_positions) {
    throw std::length_error("its kernel has " + std::to_string(kernel.vertical * kernel.horizontal) +
                            " positions; the maximum is " + std::to_string(max_positions) + "; use a smaller kernel");
  }
  std::vector<Candidate> candidates = ranked_candidates(layer, nonzero, pool.threads(), kernels);
  if (candidates.empty()) {
    throw std::length_error("copies of its input would take more than " + std::to_string(max_copied_bytes) +
                            " bytes per thread; make the kernel or the images smaller");
  }
  if (!measure || candidates.size() == 1) return candidates.front().choice;
  candidates.resize(std::min(measured_candidates, candidates.size()));
  std::int64_t room = 0;
  for (const Candidate& candidate : candidates) room = std::max(room, view_for(candidate.choice, layer).bytes);
  ScratchSet own(1, room);
  ScratchSet others(pool.threads() - 1, room);
  TrialMemory memory(layer.geometry, layer.element);
  Trials finalists;
  for (const Candidate& candidate : candidates) {
    finalists.push_back(std::make_unique<Trial>(layer, nonzero, candidate.choice, memory, pool, kernels));
    finalists.back()->run(first_runs, own.at(0), others);
    std::stable_sort(finalists.begin(), finalists.end(), faster);
    if (finalists.size() > max_finalists) finalists.pop_back();  // frees the memory of its packed weights
  }
  // Interleaved, so that a temporary slowdown affects all finalists.
  for (int turn = 0; turn < turns; ++turn) {
    for (const auto& trial : finalists) trial->run(2, own.at(0), others);
  }
  return (*std::min_element(finalists.begin(), finalists.end(), faster))->choice();
}

}  // namespace paretrim

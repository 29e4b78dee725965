// Which view and tile computes a layer fastest: a rule of thumb orders the candidates, measuring decides among the first few.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "plan/convolution.h"
#include "plan/together.h"
#include "types/aligned.h"

namespace paretrim {
namespace {

constexpr std::size_t measured_candidates = 10;
constexpr std::int64_t first_level_cache = 40 * 1024;  // of 32 or 48 KiB, shared with weights and sums; steers guesses only
constexpr int first_look = 3;                          // runs of every candidate; the first fills the caches
constexpr std::size_t most_finalists = 3;
constexpr int turns = 4;

// Blocks that groups of `grouped` neighbouring channels execute together.
double united_blocks(const Survivors& survivors, std::size_t grouped) {
  if (grouped == 1) return static_cast<double>(survivors.blocks.size());
  double total = 0;
  std::vector<std::size_t> seen(survivors.keys, 0);  // the last group that had the block, counted from 1
  for (std::size_t o = 0; o < survivors.channels(); ++o) {
    const std::size_t group = o / grouped + 1;
    for (std::size_t i = survivors.starts[o]; i < survivors.starts[o + 1]; ++i) {
      std::size_t& last = seen[survivors.blocks[i].key];
      if (last != group) total += 1;
      last = group;
    }
  }
  return total;
}

struct Guess {
  Choice choice;
  double cost;
};

// In units of one dot product of a register, fitted by eye to kernels measured alone on Zen 5; only the order matters.
double guessed_cost(const Choice& choice, double united, const WeightedLayer& layer, const View& view, int threads,
                    const Kernels& kernels) {
  const Geometry& g = layer.geometry;
  const auto channels = static_cast<double>(layer.outputs());
  const double tiles = std::ceil(static_cast<double>((g.out.pixels() + kernels.lanes - 1) / kernels.lanes) / choice.vectors);
  const bool copied = choice.view != ViewKind::in_place;
  const double bands = choice.bands;
  const std::int64_t slices = slices_of(layer).count;
  const auto bytes = static_cast<double>(copied ? view.bytes : g.in.bytes() / choice.bands / slices);  // of a band of a slice
  const double at_once = bytes / std::max(1.0, tiles / bands) / choice.passes;  // what the innermost loops go over
  const double far = at_once > static_cast<double>(first_level_cache) ? 1.3 : 1.0;
  const bool whole_lines = g.out.width * block % static_cast<std::int64_t>(alignment) == 0;
  const bool crossing = choice.view == ViewKind::columns && !whole_lines;
  const double load = far * (crossing ? 1.6 : 1.0);
  const double vectors = choice.vectors;
  const double each = choice.grouped == 1 ? vectors * 1.35 * load + 0.9
                                          : std::max(vectors * choice.grouped, (vectors * load + choice.grouped) * 1.35) + 0.3;
  // Threads share bands; they share the channels of a band only if there are too few bands, and then each copies the band.
  const double copying = copied ? bytes / 64.0 * 8.0 : 0;
  const double pieces = bands * static_cast<double>(slices);
  const double rounds = std::ceil(pieces / threads);
  const double share = pieces >= threads ? rounds / pieces : 1.0 / threads;
  const double finishing = tiles * channels * (3.0 + 2.0 * (choice.passes - 1) * (vectors + 1.0));
  return share * (united * tiles * each + finishing) + rounds * copying;
}

std::vector<Guess> guesses(const WeightedLayer& layer, const Survivors& survivors, int threads, const Kernels& kernels) {
  struct BandedView {
    int bands;
    View view;
  };
  std::vector<BandedView> views;
  for (const ViewKind kind : View::possible(layer.geometry)) {
    for (int bands = 1; bands <= most_bands; bands *= 2) views.push_back({bands, view_for({kind, 1, 1, 1, bands}, layer)});
  }
  std::vector<Guess> found;
  const std::int64_t all = (layer.geometry.out.pixels() + kernels.lanes - 1) / kernels.lanes;
  for (int grouped = 1; grouped <= most_grouped; grouped *= 2) {
    const double united = united_blocks(survivors, static_cast<std::size_t>(grouped));
    for (const auto& [bands, view] : views) {
      for (int vectors = 1; vectors <= std::min<std::int64_t>(all, most_vectors); ++vectors) {
        for (int passes = 1; passes <= (grouped == 1 ? most_passes : 1); passes *= 2) {
          const Choice choice{view.kind, vectors, grouped, passes, bands};
          if (!possible(choice, view, layer, kernels)) continue;
          found.push_back({choice, guessed_cost(choice, united, layer, view, threads, kernels)});
        }
      }
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Guess& a, const Guess& b) { return a.cost < b.cost; });
  return found;
}

// Buffers for the trials of one layer, one after the other.
class TrialMemory {
 public:
  enum { input = 2, output, added, count };

  TrialMemory(const Geometry& geometry, Element element) {
    offsets_[output] = geometry.in.bytes();
    offsets_[added] = offsets_[output] + std::max<std::int64_t>(geometry.out.bytes(), geometry.out.channels * 4 + slack);
    arena_ = AlignedArray<std::uint8_t>(static_cast<std::size_t>(offsets_[added] + geometry.out.bytes()));
    for (std::size_t i = 0; i < arena_.size(); ++i) arena_.data()[i] = static_cast<std::uint8_t>(i * 37U);
    if (element == Element::int8) return;
    auto* numbers = reinterpret_cast<float*>(arena_.data());  // ordinary ones: subnormal ones are slow
    for (std::size_t i = 0; i < arena_.size() / sizeof(float); ++i) numbers[i] = 1.0F;
  }

  Memory memory() { return {nullptr, {}, 0, arena_.data(), offsets_}; }

 private:
  std::int64_t offsets_[count] = {};
  AlignedArray<std::uint8_t> arena_;
};

// One choice for one layer, ready to be timed.
class Trial {
 public:
  Trial(const WeightedLayer& layer, const Survivors& survivors, const Choice& choice, TrialMemory& memory, Pool& pool,
        const Kernels& kernels)
      : choice_(choice), memory_(memory), progress_(1, pool.threads()), pool_(pool) {
    Operands operands{{TrialMemory::input}, TrialMemory::output};
    if (layer.addition) operands.inputs.push_back(TrialMemory::added);
    Computation computation = compute(layer, survivors, choice, operands, pool.threads(), kernels);
    steps_.push_back(std::move(computation.step));
  }

  const Choice& choice() const { return choice_; }
  std::int64_t best() const { return best_; }

  // Keeps the shortest time, since every disturbance makes a run longer.
  void run(int times, Scratch& own, Scratches& others) {
    const Memory memory = memory_.memory();
    for (int i = 0; i < times; ++i) {
      const auto start = std::chrono::steady_clock::now();
      progress_.run(steps_, memory, own, others, pool_);
      const auto spent = std::chrono::steady_clock::now() - start;
      best_ = std::min<std::int64_t>(best_, std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
    }
  }

 private:
  Choice choice_;
  TrialMemory& memory_;
  Steps steps_;
  Progress progress_;
  Pool& pool_;
  std::int64_t best_ = std::numeric_limits<std::int64_t>::max();
};

using Trials = std::vector<std::unique_ptr<Trial>>;

bool faster(const std::unique_ptr<Trial>& a, const std::unique_ptr<Trial>& b) { return a->best() < b->best(); }

}  // namespace

double work_of_choosing(const WeightedLayer& layer, const Survivors& survivors) {
  constexpr double runs = measured_candidates * first_look + most_finalists * turns * 2;
  constexpr double a_byte = 8;  // copied, read or written
  const auto products = static_cast<double>(survivors.blocks.size()) *
                        static_cast<double>(layer.channels_of_a_plane() * layer.geometry.out.pixels());
  return runs * (products + a_byte * static_cast<double>(layer.geometry.in.bytes() + layer.geometry.out.bytes()));
}

Choice choose(const WeightedLayer& layer, const Survivors& survivors, bool measure, Pool& pool, const Kernels& kernels) {
  const Pair& kernel = layer.geometry.kernel;
  if (kernel.vertical * kernel.horizontal > most_positions) {
    throw std::length_error("its kernel has " + std::to_string(kernel.vertical * kernel.horizontal) + " positions, of at most " +
                            std::to_string(most_positions));
  }
  std::vector<Guess> candidates = guesses(layer, survivors, pool.threads(), kernels);
  if (candidates.empty()) {
    throw std::length_error("what its kernel covers of the input would take more than " + std::to_string(most_copied_bytes) +
                            " bytes for each thread; make the kernel or the images smaller");
  }
  if (!measure || candidates.size() == 1) return candidates.front().choice;
  candidates.resize(std::min(measured_candidates, candidates.size()));
  std::int64_t room = 0;
  for (const Guess& guess : candidates) room = std::max(room, view_for(guess.choice, layer).bytes);
  Scratches own(1, room);
  Scratches others(pool.threads() - 1, room);
  TrialMemory memory(layer.geometry, layer.element);
  Trials finalists;
  for (const Guess& guess : candidates) {
    finalists.push_back(std::make_unique<Trial>(layer, survivors, guess.choice, memory, pool, kernels));
    finalists.back()->run(first_look, own.at(0), others);
    std::stable_sort(finalists.begin(), finalists.end(), faster);
    if (finalists.size() > most_finalists) finalists.pop_back();  // its weights take memory
  }
  // In turns, so that a temporary slowdown affects all of them.
  for (int turn = 0; turn < turns; ++turn) {
    for (const auto& trial : finalists) trial->run(2, own.at(0), others);
  }
  return (*std::min_element(finalists.begin(), finalists.end(), faster))->choice();
}

}  // namespace paretrim

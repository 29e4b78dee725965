// Which view and tile computes a layer fastest: a rule of thumb orders the candidates, measuring decides among the first few.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "plan/aligned.h"
#include "plan/convolution.h"

namespace paretrim {
namespace {

constexpr std::size_t measured_candidates = 10;
constexpr std::int64_t first_level_cache = 40 * 1024;  // of 32 or 48 KiB, shared with weights and sums; steers guesses only
constexpr int first_look = 3;  // runs of every candidate; the first fills the caches
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
double guessed_cost(const Choice& choice, double united, const Weighted& layer, const View& view, const Kernels& kernels) {
  const Geometry& g = layer.geometry;
  const auto channels = static_cast<double>(g.out.channels);
  const double tiles = std::ceil(static_cast<double>((g.out.pixels() + kernels.lanes - 1) / kernels.lanes) / choice.vectors);
  const bool copied = choice.view != ViewKind::in_place;
  const bool by_tile = choice.view == ViewKind::tiles;
  const auto bytes = static_cast<double>(copied ? view.bytes : g.in.bytes());
  const double at_once = by_tile ? 0 : bytes / tiles / choice.passes;  // what the innermost loops go over
  const double far = at_once > static_cast<double>(first_level_cache) ? 1.3 : 1.0;
  const bool whole_lines = g.out.width * block % static_cast<std::int64_t>(alignment) == 0;
  const bool crossing = (choice.view == ViewKind::columns || by_tile) && !whole_lines;
  const double load = far * (crossing ? 1.6 : 1.0);
  const double vectors = choice.vectors;
  const double each = choice.grouped == 1 ? vectors * 1.35 * load + 0.9
                                          : std::max(vectors * choice.grouped, (vectors * load + choice.grouped) * 1.35) + 0.3;
  // Rows that two tiles need are copied for each of them, but stay near.
  const double halo = tiles * static_cast<double>((g.kernel.vertical - 1) * g.dilation.vertical) / static_cast<double>(g.out.height);
  const double packing = copied ? bytes / 64.0 * (by_tile ? 1.0 + halo : 2.0) : 0;
  return united * tiles * each + packing + tiles * channels * (3.0 + 2.0 * (choice.passes - 1) * (vectors + 1.0));
}

std::vector<Guess> guesses(const Weighted& layer, const Survivors& survivors, const Kernels& kernels) {
  std::vector<Guess> found;
  for (int grouped = 1; grouped <= most_grouped; grouped *= 2) {
    const double united = united_blocks(survivors, static_cast<std::size_t>(grouped));
    for (const ViewKind kind : View::possible(layer.geometry)) {
      const View view = View::make(kind, layer.geometry);
      if (view.bytes > std::numeric_limits<std::uint32_t>::max()) continue;  // offsets have 32 bits
      for (int vectors = 1; vectors <= most_vectors; ++vectors) {
        const std::int64_t all = (layer.geometry.out.pixels() + kernels.lanes - 1) / kernels.lanes;
        for (int passes = 1; passes <= (grouped == 1 ? most_passes : 1); passes *= 2) {
          const Choice choice{kind, vectors, grouped, passes};
          if (vectors > all || !possible(choice, layer, kernels)) continue;
          found.push_back({choice, guessed_cost(choice, united, layer, view, kernels)});
        }
      }
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const Guess& a, const Guess& b) { return a.cost < b.cost; });
  return found;
}

// One choice for one layer, with buffers of its own, ready to be timed.
class Trial {
 public:
  Trial(const Weighted& layer, const Survivors& survivors, const Choice& choice, const Kernels& kernels)
      : choice_(choice),
        computation_(compute(layer, survivors, choice, {input, copies, output, added}, 1, kernels)),
        logits_(static_cast<std::size_t>(layer.geometry.out.channels)) {
    offsets_[copies] = layer.geometry.in.bytes();
    offsets_[output] = offsets_[copies] + computation_.view_bytes;
    const std::int64_t result = std::max<std::int64_t>(layer.geometry.out.bytes(), layer.geometry.out.channels * 4 + slack);
    offsets_[added] = offsets_[output] + result;
    arena_ = Aligned<std::uint8_t>(static_cast<std::size_t>(offsets_[added] + layer.geometry.out.bytes()));
    for (std::size_t i = 0; i < arena_.size(); ++i) arena_.data()[i] = static_cast<std::uint8_t>(i * 37U);
  }

  const Choice& choice() const { return choice_; }
  std::int64_t best() const { return best_; }

  // Keeps the shortest time: whatever disturbs a run makes it longer.
  void run(int times, Scratch& scratch) {
    const Memory memory{nullptr, logits_.data(), arena_.data(), offsets_};
    for (int i = 0; i < times; ++i) {
      const auto start = std::chrono::steady_clock::now();
      for (const auto& step : computation_.steps) {
        for (std::int64_t part = 0; part < step->parts(); ++part) step->run(part, memory, scratch);
      }
      const auto spent = std::chrono::steady_clock::now() - start;
      best_ = std::min<std::int64_t>(best_, std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count());
    }
  }

 private:
  enum { input = 2, copies, output, added, count };
  Choice choice_;
  Computation computation_;
  std::int64_t offsets_[count] = {};
  Aligned<std::uint8_t> arena_;
  std::vector<float> logits_;
  std::int64_t best_ = std::numeric_limits<std::int64_t>::max();
};

bool faster(const Trial& a, const Trial& b) { return a.best() < b.best(); }

}  // namespace

Choice choose(const Weighted& layer, const Survivors& survivors, bool measure, const Kernels& kernels) {
  const std::vector<Guess> candidates = guesses(layer, survivors, kernels);
  if (candidates.empty()) throw std::length_error("a layer's input is too large for 32-bit offsets");
  if (!measure || candidates.size() == 1) return candidates.front().choice;
  const auto scratch = std::make_unique<Scratch>();
  std::vector<Trial> finalists;
  for (std::size_t i = 0; i < std::min(measured_candidates, candidates.size()); ++i) {
    finalists.emplace_back(layer, survivors, candidates[i].choice, kernels);
    finalists.back().run(first_look, *scratch);
    std::stable_sort(finalists.begin(), finalists.end(), faster);
    if (finalists.size() > most_finalists) finalists.pop_back();  // its weights take memory
  }
  // In turns, so that what slows the machine for a while slows all of them.
  for (int turn = 0; turn < turns; ++turn) {
    for (Trial& trial : finalists) trial.run(2, *scratch);
  }
  return std::min_element(finalists.begin(), finalists.end(), faster)->choice();
}

}  // namespace paretrim

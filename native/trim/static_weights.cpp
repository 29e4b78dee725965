#include "trim/static_weights.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "trim/bytes.h"

namespace paretrim::trim {
namespace {

constexpr std::size_t mask_symbols = 256, magnitudes = 127;

using Counts = std::array<std::uint64_t, 256>;

KindTables no_masks() { return KindTables(mask_symbols, false); }
KindTables no_values() { return KindTables(magnitudes, true); }

// Iterates over the masks of one row: by group of channels, then by position.
struct MaskWalk {
  std::int64_t channels, area, group = 0, position = 0;

  std::int64_t count() const { return (channels + marked - 1) / marked * area; }
  std::int64_t first() const { return group * marked * area + position; }
  std::int64_t width() const { return std::min<std::int64_t>(marked, channels - group * marked); }
  // Number of masks in the next run; 0 at the end.
  std::size_t run() const {
    const std::int64_t left = count() - group * area - position;
    return static_cast<std::size_t>(std::min<std::int64_t>(left, MaskRun::longest));
  }
  void next() {
    if (++position == area) {
      position = 0;
      ++group;
    }
  }
};

// Calls visit(row, masks) for every row.
template <typename Value, typename Visit>
void walk(const Weights<Value>& weights, const Visit& visit) {
  const std::int64_t area = weights.height * weights.width;
  for (std::int64_t output = 0; output < weights.outputs; ++output) {
    visit(weights.values + output * weights.channels * area, MaskWalk{weights.channels, area});
  }
}

// Collects the next `count` masks and the nonzero values. Returns the number of values.
std::size_t gather(const std::int8_t* row, MaskWalk& at, std::size_t count, MaskRun& runs) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < count; ++i, at.next()) {
    const std::int8_t* value = row + at.first();
    const std::int64_t width = at.width();
    std::uint8_t mask = 0;
    for (std::int64_t channel = 0; channel < width; ++channel, value += at.area) {
      mask = static_cast<std::uint8_t>(mask | (*value != 0) << channel);
      runs.values[found] = static_cast<std::uint8_t>(*value);
      found += *value != 0;
    }
    runs.masks[i] = mask;
  }
  return found;
}

// The inverse of gather. Other weights are already 0.
void scatter(std::int8_t* row, MaskWalk& at, std::size_t count, const MaskRun& runs) {
  const std::uint8_t* values = runs.values.data();
  for (std::size_t i = 0; i < count; ++i, at.next()) {
    std::int8_t* const value = row + at.first();
    std::uint32_t mask = runs.masks[i];
    if (mask == mask_symbols - 1) {
      for (std::int64_t channel = 0; channel < marked; ++channel) value[channel * at.area] = static_cast<std::int8_t>(*values++);
      continue;
    }
    for (; mask != 0; mask &= mask - 1) value[__builtin_ctz(mask) * at.area] = static_cast<std::int8_t>(*values++);
  }
}

// Popcount of every mask, as a table because not every CPU has an instruction for it.
struct Ones {
  Ones() {
    for (std::size_t mask = 1; mask < of.size(); ++mask) of[mask] = static_cast<std::uint8_t>(of[mask / 2] + mask % 2);
  }
  std::array<std::uint8_t, mask_symbols> of = {};
};
const Ones ones;

// Number of values that the masks mark. Throws if a mask marks a channel that does not exist.
std::size_t marked_by(MaskWalk at, std::size_t count, const MaskRun& runs) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < count; ++i) found += ones.of[runs.masks[i]];
  if (at.channels % marked == 0) return found;
  for (std::size_t i = 0; i < count; ++i, at.next()) {
    if (runs.masks[i] >> at.width() != 0) corrupt("it marks a weight past the last channel of its row");
  }
  return found;
}

// The property by which rows are grouped, and a row's weight in groups of equal weight.
struct Trait {
  std::uint64_t value, weight;
};

struct Groups {
  std::vector<std::uint8_t> of_rows;
  std::size_t count = 0;
};

// Sorts rows by trait and splits them into at most 32 groups of about equal weight.
Groups grouped(const std::vector<Trait>& rows) {
  std::vector<std::size_t> order(rows.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return rows[a].value < rows[b].value; });
  std::uint64_t all = 1, before = 0, last = max_kinds;
  for (const Trait& row : rows) all += row.weight;
  Groups groups;
  groups.of_rows.resize(rows.size());
  for (const std::size_t row : order) {
    const std::uint64_t share = before * max_kinds / all;
    groups.count += share != last;
    last = share;
    groups.of_rows[row] = static_cast<std::uint8_t>(groups.count - 1);
    before += rows[row].weight;
  }
  return groups;
}

// Tries 1, 2, 4 .. kinds, each of adjacent groups, and takes the number with the shortest record: symbols, shares and row kinds.
void choose(const Groups& groups, const std::vector<Counts>& counts, KindTables& kinds, std::vector<std::uint8_t>& of_rows) {
  const KindTables none = kinds;
  std::uint64_t least = ~std::uint64_t{0};
  for (std::size_t wanted = 1; wanted <= groups.count; wanted *= 2) {
    std::vector<Counts> sums(wanted, Counts{});
    for (std::size_t group = 0; group < groups.count; ++group) {
      Counts& sum = sums[group * wanted / groups.count];
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += counts[group][i];
    }
    KindTables candidate = none;
    std::uint64_t bits = 0;  // in units of 2^-16
    for (const Counts& sum : sums) bits += candidate.add(sum);
    std::vector<std::uint8_t> found;
    for (const std::uint8_t group : groups.of_rows) found.push_back(static_cast<std::uint8_t>(group * wanted / groups.count));
    Encoder coder;
    KindTables written = candidate;
    written.code_shares(coder);
    for (const std::uint8_t kind : found) written.code_kind(coder, kind);
    bits += std::uint64_t{coder.finish().size()} << 19;
    if (bits >= least) continue;
    least = bits;
    kinds = std::move(candidate);
    of_rows = std::move(found);
  }
}

}  // namespace

template <class Coder>
void code_steps(Coder& coder, NumberModel& numbers, Shares& here, const Shares* before, const Alphabet& of) {
  std::array<std::int32_t, 256> steps = {};
  const auto expected = [&](std::size_t i) -> std::int32_t { return before ? (*before)[i] : i > of.first ? here[i - 1] : 0; };
  if constexpr (!Coder::decodes) {
    for (std::size_t i = of.first; i < of.first + of.size; ++i) steps[i] = here[i] - expected(i);
  }
  numbers.code_integers(coder, reinterpret_cast<Bytes<Coder>>(&steps[of.first]), of.size);
  if constexpr (Coder::decodes) {
    std::int64_t sum = 0;
    for (std::size_t i = of.first; i < of.first + of.size; ++i) {
      const std::int64_t share = std::int64_t{expected(i)} + steps[i];
      if (share < 0 || share > of.all) corrupt("a frequency in it is " + std::to_string(share) + " of " + std::to_string(of.all));
      here[i] = static_cast<std::uint16_t>(share);
      sum += share;
    }
    if (sum != of.all) corrupt("frequencies in it sum up to " + std::to_string(sum) + " of " + std::to_string(of.all));
  }
}

template void code_steps(Encoder&, NumberModel&, Shares&, const Shares*, const Alphabet&);
template void code_steps(Decoder&, NumberModel&, Shares&, const Shares*, const Alphabet&);

KindTables::KindTables(std::size_t size, bool mirrored) : size_(size), mirrored_(mirrored) {}

std::uint64_t KindTables::add(std::array<std::uint64_t, 256> counts) {
  const std::size_t first = mirrored_ ? 1 : 0;
  if (std::all_of(counts.begin(), counts.end(), [](std::uint64_t count) { return count == 0; })) counts[first] = 1;
  Shares found = {};
  share_out(&counts[first], size_, all(), &found[first]);
  std::uint64_t bits = 0;
  for (std::size_t i = first; i < first + size_; ++i) bits += counts[i] ? bits_of(counts[i], found[i]) : 0;
  mirror(found);
  shares.push_back(found);
  return bits;
}

// Gives negative values, as bytes, the shares of the positive ones.
void KindTables::mirror(Shares& found) const {
  for (std::size_t i = 1; mirrored_ && i <= size_; ++i) found[256 - i] = found[i];
}

// Value shares are coded as differences from the neighbouring value's share, mask shares as differences from the previous kind's
// share, because those are similar.
template <class Coder>
void KindTables::code_shares(Coder& coder) {
  const std::size_t first = mirrored_ ? 1 : 0;
  shares.resize(code_raw(coder, static_cast<std::uint32_t>(shares.size() - 1), 5) + 1);
  for (std::size_t kind = 0; kind < shares.size(); ++kind) {
    const Shares* const before = kind > 0 && !mirrored_ ? &shares[kind - 1] : nullptr;
    code_steps(coder, numbers_, shares[kind], before, {first, size_, all()});
    if constexpr (Coder::decodes) mirror(shares[kind]);
  }
}

template <class Coder>
std::size_t KindTables::code_kind(Coder& coder, std::size_t kind) {
  if (shares.size() == 1) return 0;
  kind =
      code_after(coder, static_cast<std::uint32_t>(kind), 5, kind_mixers_.data(), kind_.data(), &kind_after_[last_ * max_kinds]);
  if (kind >= shares.size()) corrupt("a row is of kind " + std::to_string(kind) + " of " + std::to_string(shares.size()));
  last_ = kind;
  return kind;
}

RowKinds kinds_of(const std::vector<Weights<const std::int8_t>>& pieces) {
  RowKinds found{no_masks(), no_values(), {}, {}};
  std::vector<Trait> densities, means;
  const auto measure = [&](const std::int8_t* row, const MaskWalk& at) {
    std::uint64_t values = 0, sum = 0;
    for (std::int64_t i = 0; i < at.channels * at.area; ++i) {
      values += row[i] != 0;
      sum += static_cast<std::uint64_t>(std::abs(row[i]));
    }
    densities.push_back(
        {values * 65536 / static_cast<std::uint64_t>(at.channels * at.area), static_cast<std::uint64_t>(at.count())});
    means.push_back({values ? sum * 256 / values : 0, values});
  };
  for (const auto& weights : pieces) walk(weights, measure);
  const Groups by_density = grouped(densities), by_mean = grouped(means);
  std::vector<Counts> masks(by_density.count, Counts{}), values(by_mean.count, Counts{});
  std::size_t index = 0;
  bool possible = true;
  MaskRun runs;
  const auto tally = [&](const std::int8_t* row, MaskWalk at) {
    Counts& marks = masks[by_density.of_rows[index]];
    Counts& sizes = values[by_mean.of_rows[index++]];
    for (std::size_t count = at.run(); count > 0; count = at.run()) {
      const std::size_t marked = gather(row, at, count, runs);
      for (std::size_t i = 0; i < count; ++i) ++marks[runs.masks[i]];
      for (std::size_t i = 0; i < marked; ++i)
        ++sizes[static_cast<std::size_t>(std::abs(static_cast<std::int8_t>(runs.values[i])))];
    }
  };
  for (const auto& weights : pieces) walk(weights, tally);
  for (const Counts& counts : values) possible = possible && counts[128] == 0;
  if (!possible) return found;
  choose(by_density, masks, found.masks, found.mask_kinds);
  choose(by_mean, values, found.values, found.value_kinds);
  return found;
}

void StaticEncoder::code(const Weights<const std::int8_t>& weights) {
  walk(weights, [&](const std::int8_t* row, MaskWalk at) {
    const Shares& masks = masks_.shares[masks_.code_kind(coder_, kinds_.mask_kinds[row_])];
    const Shares& values = values_.shares[values_.code_kind(coder_, kinds_.value_kinds[row_++])];
    for (std::size_t count = at.run(); count > 0; count = at.run()) {
      const std::size_t marked = gather(row, at, count, runs_);
      symbols_.add(runs_.masks.data(), count, masks);
      symbols_.add(runs_.values.data(), marked, values);
    }
  });
}

StaticEncoder::StaticEncoder(Encoder& coder, const RowKinds& kinds)
    : coder_(coder), kinds_(kinds), masks_(kinds.masks), values_(kinds.values) {
  masks_.code_shares(coder);
  values_.code_shares(coder);
}

StaticDecoder::StaticDecoder(Decoder& coder, const std::uint8_t* symbols, std::size_t size)
    : coder_(coder), masks_(no_masks()), values_(no_values()), symbols_(symbols, size) {
  masks_.code_shares(coder);
  values_.code_shares(coder);
  for (const Shares& shares : masks_.shares) mask_tables_.emplace_back(shares);
  for (const Shares& shares : values_.shares) value_tables_.emplace_back(shares);
}

void StaticDecoder::code(const Weights<std::int8_t>& weights, const Poll& poll) {
  walk(weights, [&](std::int8_t* row, MaskWalk at) {
    ask(poll);
    const SymbolTable& masks = mask_tables_[masks_.code_kind(coder_, 0)];
    const SymbolTable& values = value_tables_[values_.code_kind(coder_, 0)];
    for (std::size_t count = at.run(); count > 0; count = at.run()) {
      symbols_.take(runs_.masks.data(), count, masks);
      symbols_.take(runs_.values.data(), marked_by(at, count, runs_), values);
      scatter(row, at, count, runs_);
    }
  });
}

}  // namespace paretrim::trim

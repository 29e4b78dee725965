#include "trim/rans.h"

#include <algorithm>

#include "trim/bytes.h"
#include "trim/logarithm.h"

namespace paretrim::trim {
namespace {

// logarithm(1) to logarithm(4096).
struct Logarithms {
  Logarithms() {
    for (std::uint32_t number = 1; number <= all_shares; ++number) of[number] = static_cast<std::uint64_t>(logarithm(number));
  }
  std::array<std::uint64_t, all_shares + 1> of = {};
};
const Logarithms logarithms;

// 2^44 / share, rounded up: multiplying by it and dropping 44 bits divides numbers below 2^32 exactly (Granlund and Montgomery,
// Division by invariant integers using multiplication, 1994, theorem 4.2).
struct Inverses {
  Inverses() {
    for (std::uint64_t share = 1; share <= all_shares; ++share) of[share] = ((std::uint64_t{1} << 44) + share - 1) / share;
  }
  std::array<std::uint64_t, all_shares + 1> of = {};
};
const Inverses inverses;

std::uint32_t word_at(const std::uint8_t* at) { return static_cast<std::uint32_t>(at[0] | at[1] << 8); }

}  // namespace

std::uint64_t bits_of(std::uint64_t count, std::uint32_t share) {
  return count * ((std::uint64_t{share_bits} << 16) - logarithms.of[share]);
}

void share_out(const std::uint64_t* counts, std::size_t size, std::uint32_t all, std::uint16_t* shares) {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < size; ++i) total += counts[i];
  std::uint32_t given = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const std::uint64_t fair = (counts[i] * all + total / 2) / total;
    shares[i] = static_cast<std::uint16_t>(counts[i] == 0 ? 0 : std::max<std::uint64_t>(fair, 1));
    given += shares[i];
  }
  // Fixes the sum after rounding: adds to the share where that saves most, or takes from the share where that costs least.
  for (; given != all; given += given < all ? 1 : -1) {
    std::size_t best = size;
    std::uint64_t most = 0;
    for (std::size_t i = 0; i < size; ++i) {
      if (counts[i] == 0 || (given > all && shares[i] == 1)) continue;
      const std::uint32_t low = given < all ? shares[i] : shares[i] - 1U;
      const std::uint64_t change = counts[i] * (logarithms.of[low + 1] - logarithms.of[low]);
      if (best == size || (given < all ? change > most : change < most)) {
        best = i;
        most = change;
      }
    }
    shares[best] = static_cast<std::uint16_t>(shares[best] + (given < all ? 1 : -1));
  }
}

SymbolTable::SymbolTable(const Shares& shares) {
  auto next = parts.begin();
  for (std::uint32_t symbol = 0; symbol < shares.size(); ++symbol) {
    for (std::uint32_t place = 0; place < shares[symbol]; ++place) *next++ = symbol | place << 8 | (shares[symbol] - 1U) << 20;
  }
}

void SymbolEncoder::add(const std::uint8_t* symbols, std::size_t count, const Shares& shares) {
  std::array<Part, 256> parts;
  std::uint32_t first = 0;
  for (std::size_t symbol = 0; symbol < parts.size(); first += shares[symbol++]) {
    parts[symbol] = {static_cast<std::uint16_t>(first), shares[symbol]};
  }
  const std::size_t before = parts_.size();
  parts_.resize(before + count);
  for (std::size_t i = 0; i < count; ++i) parts_[before + i] = parts[symbols[i]];
  ends_.push_back(parts_.size());
}

// Encodes from the last symbol to the first: rANS is a stack, so the decoder gets them in order.
SymbolEncoder::Stream SymbolEncoder::finish() {
  std::array<std::uint32_t, states> x;
  x.fill(smallest_state);
  stream_.resize(std::max(stream_.size(), 2 * parts_.size() + 4 * states));
  std::uint8_t* const end = stream_.data() + stream_.size();
  std::uint8_t* next = end;  // filled backwards
  for (std::size_t run = ends_.size(); run-- > 0;) {
    const std::size_t first = run ? ends_[run - 1] : 0;
    for (std::size_t i = ends_[run]; i-- > first;) {
      const Part part = parts_[i];
      // Without a share only where the numbers were changed meanwhile; that the file is wrong is found where it is read back.
      const std::uint32_t share = std::max<std::uint32_t>(part.share, 1);
      std::uint32_t& kept = x[(i - first) % states];
      std::uint32_t state = kept;
      // Always written, but only kept if the state is large: a branch would be unpredictable.
      next[-2] = static_cast<std::uint8_t>(state);
      next[-1] = static_cast<std::uint8_t>(state >> 8);
      const bool large = std::uint64_t{state} >= std::uint64_t{share} << (32 - share_bits);
      next -= 2 * large;
      state >>= 16 * large;
      // The state is now below share << 20, so that the product fits in 64 bits; the quotient is exact.
      const auto quotient = static_cast<std::uint32_t>(state * inverses.of[share] >> (32 + share_bits));
      kept = (quotient << share_bits) + (state - quotient * share) + part.first;
    }
  }
  for (std::size_t i = states; i-- > 0;) {
    next -= 4;
    for (int byte = 0; byte < 4; ++byte) next[byte] = static_cast<std::uint8_t>(x[i] >> 8 * byte);
  }
  parts_.clear();
  ends_.clear();
  return {next, static_cast<std::size_t>(end - next)};
}

SymbolDecoder::SymbolDecoder(const std::uint8_t* data, std::size_t size) : next_(data), end_(data + size) {
  if (size < 4 * states || size % 2 != 0) {
    corrupt("its symbols take " + std::to_string(size) + " bytes, which no stream of symbols does");
  }
  for (std::uint32_t& state : states_) {
    state = word_at(next_) | word_at(next_ + 2) << 16;
    if (state < smallest_state) corrupt("its symbols begin with a state of " + std::to_string(state) + ", below 65536");
    next_ += 4;
  }
}

void SymbolDecoder::take(std::uint8_t* symbols, std::size_t count, const SymbolTable& table) {
  const auto step = [&](std::uint32_t& state, std::uint32_t word) {
    const std::uint32_t part = table.parts[state & (all_shares - 1)];
    state = ((part >> 20) + 1) * (state >> share_bits) + (part >> 8 & (all_shares - 1));
    // Branch-free, because it is unpredictable which state needs a word.
    const std::uint32_t small = state < smallest_state;
    state = state << (small << 4) | (word & (0U - small));
    next_ += 2 * small;
    return static_cast<std::uint8_t>(part);
  };
  std::size_t i = 0;
  if (count >= states && left() >= 2 * states) {
    const std::uint8_t* const last = end_ - 2 * states;
    std::array<std::uint32_t, states> x = states_;  // a local copy stays in registers
    for (; i + states <= count && next_ <= last; i += states) {
#pragma GCC unroll 8
      for (std::size_t lane = 0; lane < states; ++lane) symbols[i + lane] = step(x[lane], word_at(next_));
    }
    states_ = x;
  }
  for (; i < count; ++i) {
    symbols[i] = step(states_[i % states], left() >= 2 ? word_at(next_) : 0);
    if (next_ > end_) corrupt("its symbols end before its weights do");
  }
}

void SymbolDecoder::finish() const {
  if (next_ != end_ || std::any_of(states_.begin(), states_.end(), [](std::uint32_t state) { return state != smallest_state; })) {
    corrupt("its symbols do not end where its weights do");
  }
}

}  // namespace paretrim::trim

#include "trim/exponents.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "graph/short_floats.h"
#include "trim/bytes.h"
#include "trim/coding.h"
#include "trim/logarithm.h"
#include "trim/numbers.h"
#include "trim/range_coder.h"
#include "trim/rans.h"
#include "trim/static_weights.h"

namespace paretrim::trim {
namespace {

using Counts = std::array<std::uint64_t, 256>;
using Pieces = std::vector<Floats<const std::uint8_t>>;

constexpr std::size_t longest_run = 4096;
constexpr std::size_t sampled = 8, sampled_run = 512;  // the estimate looks at one of eight runs
constexpr std::uint64_t few_round = 64;                // round numbers may be one in so many bytes of a record
constexpr Alphabet exponents = {0, 256, all_shares};
constexpr std::uint64_t table_bits = std::uint64_t{60 * 8}
                                     << 16;  // approximate size of a frequency table, in units of 2^-16 bits

// Rotates a number left by one bit: the top byte becomes its symbol, the others its rest, with the sign in the lowest bit.
template <typename Word>
Word rotated(const std::uint8_t* from) {
  Word bits = 0;
  std::memcpy(&bits, from, sizeof bits);
  return static_cast<Word>(bits << 1 | bits >> (8 * sizeof bits - 1));
}

// The rest of a number, little-endian. Uses shifts, because storing bytes and loading a word would stall on store forwarding.
template <typename Word>
Word rest_at(const std::uint8_t* from) {
  if constexpr (sizeof(Word) == 2) return from[0];
  return static_cast<Word>(from[0] | from[1] << 8 | from[2] << 16);
}

template <typename Word>
void store_rotated_back(std::uint8_t* to, Word bits) {
  const Word back = static_cast<Word>(bits >> 1 | bits << (8 * sizeof bits - 1));
  std::memcpy(to, &back, sizeof back);
}

template <typename Word>
constexpr int rest_bits = 8 * (sizeof(Word) - 1);

// Statistics of a piece.
struct Tally {
  Counts counts = {};
  bool zeros = true;  // whether every number with symbol 0 is +0
};

template <typename Word>
Tally tally_words(const std::uint8_t* bytes, std::size_t count) {
  Tally found;
  std::array<Counts, 4> counts = {};  // in turns: most symbols are among a few, and a count that was just stored is slow to load
  for (std::size_t i = 0; i < count; ++i) {
    const Word bits = rotated<Word>(bytes + sizeof(Word) * i);
    const auto symbol = static_cast<std::size_t>(bits >> rest_bits<Word>);
    ++counts[i % counts.size()][symbol];
    found.zeros = found.zeros && (symbol != 0 || bits == 0);
  }
  for (const Counts& part : counts) {
    for (std::size_t symbol = 0; symbol < part.size(); ++symbol) found.counts[symbol] += part[symbol];
  }
  return found;
}

Tally tally_of(const Floats<const std::uint8_t>& piece) {
  return piece.type == Dtype::float32 ? tally_words<std::uint32_t>(piece.bytes, piece.count)
                                      : tally_words<std::uint16_t>(piece.bytes, piece.count);
}

// Consecutive pieces that share their frequencies.
struct Group {
  Counts counts = {};
  std::size_t end = 0;
  Shares shares = {};
  std::uint64_t bits = 0;  // size of the symbols, in units of 2^-16 bits
};

Group group_of(const Counts& counts, std::size_t end) {
  Group group{counts, end};
  share_out(counts.data(), counts.size(), all_shares, group.shares.data());
  for (std::size_t i = 0; i < counts.size(); ++i) group.bits += counts[i] ? bits_of(counts[i], group.shares[i]) : 0;
  return group;
}

// A piece joins the group before it unless its own table would save more than its size.
std::vector<Group> grouped(const std::vector<Tally>& tallies) {
  std::vector<Group> groups;
  for (std::size_t i = 0; i < tallies.size(); ++i) {
    const Group own = group_of(tallies[i].counts, i + 1);
    if (i > 0) {
      Counts sum = groups.back().counts;
      for (std::size_t symbol = 0; symbol < sum.size(); ++symbol) sum[symbol] += own.counts[symbol];
      const Group joined = group_of(sum, i + 1);
      if (joined.bits <= groups.back().bits + own.bits + table_bits) {
        groups.back() = joined;
        continue;
      }
    }
    groups.push_back(own);
  }
  return groups;
}

template <typename Word>
void split(const Floats<const std::uint8_t>& piece, bool zeros, const Shares& shares, SymbolEncoder& symbols,
           std::vector<std::uint8_t>& rest) {
  std::array<std::uint8_t, longest_run> run;
  std::array<std::uint8_t, longest_run * sizeof(Word)> rests;
  for (std::size_t first = 0; first < piece.count; first += longest_run) {
    const std::size_t count = std::min(longest_run, piece.count - first);
    std::uint8_t* next = rests.data();
    for (std::size_t i = 0; i < count; ++i) {
      const Word bits = rotated<Word>(piece.bytes + sizeof(Word) * (first + i));
      run[i] = static_cast<std::uint8_t>(bits >> rest_bits<Word>);
      std::memcpy(next, &bits, sizeof bits);  // includes the symbol byte, which the next rest overwrites
      next += zeros && run[i] == 0 ? 0 : sizeof(Word) - 1;
    }
    rest.insert(rest.end(), rests.data(), next);
    symbols.add(run.data(), count, shares);
  }
}

// The rests of a record that are still to be read.
struct Rest {
  const std::uint8_t* next;
  const std::uint8_t* end;
  std::size_t left() const { return static_cast<std::size_t>(end - next); }
};

template <typename Word>
void join(const Floats<std::uint8_t>& piece, bool zeros, const SymbolTable& table, SymbolDecoder& symbols, Rest& rest,
          const Poll& poll) {
  constexpr std::size_t rest_bytes = sizeof(Word) - 1;
  std::array<std::uint8_t, longest_run> run;
  for (std::size_t first = 0; first < piece.count; first += longest_run) {
    ask(poll);
    const std::size_t count = std::min(longest_run, piece.count - first);
    symbols.take(run.data(), count, table);
    const auto none = zeros ? static_cast<std::size_t>(std::count(run.data(), run.data() + count, std::uint8_t{0})) : 0;
    if (rest.left() < (count - none) * rest_bytes) corrupt("the rests of its numbers end before its numbers do");
    const std::uint8_t* next = rest.next;
    std::uint8_t* to = piece.bytes + sizeof(Word) * first;
    std::size_t i = 0;
    // Without zeros, every rest but the last is followed by another one: whole words can be loaded.
    for (; none == 0 && i + 1 < count; ++i, to += sizeof(Word), next += rest_bytes) {
      Word bits = 0;
      std::memcpy(&bits, next, sizeof bits);
      const auto mask = static_cast<Word>((std::uint64_t{1} << rest_bits<Word>)-1);
      store_rotated_back<Word>(to, static_cast<Word>((bits & mask) | static_cast<Word>(Word{run[i]} << rest_bits<Word>)));
    }
    for (; i < count; ++i, to += sizeof(Word)) {
      Word bits = 0;
      if (!zeros || run[i] != 0) {
        bits = static_cast<Word>(rest_at<Word>(next) | static_cast<Word>(Word{run[i]} << rest_bits<Word>));
        next += rest_bytes;
      }
      store_rotated_back<Word>(to, bits);
    }
    rest.next = next;
  }
}

// Counts of what the adaptive model learns from: zeros after zeros, exponents after exponents, mantissas by exponent.
struct Occurrences {
  std::vector<std::uint64_t> zeros = std::vector<std::uint64_t>(2 * 2), exponents = std::vector<std::uint64_t>(16 * 256),
                             mantissas = std::vector<std::uint64_t>(16 * 8);
  bool zero = false;
  std::uint32_t exponent = 0;

  void see(std::uint32_t bits) {
    ++zeros[2 * zero + (bits == 0)];
    zero = bits == 0;
    if (zero) return;
    const std::uint32_t now = bits >> 23 & 255;
    ++exponents[(exponent & 15) * 256 + now];
    ++mantissas[(now & 15) * 8 + (bits >> 20 & 7)];
    exponent = now;
  }
};

// Conditional entropy of all counts together, in units of 2^-16 bits.
std::uint64_t entropy_of(const std::vector<std::uint64_t>& counts, std::size_t size) {
  std::uint64_t bits = 0;
  for (std::size_t first = 0; first < counts.size(); first += size) {
    std::uint64_t sum = 0;
    for (std::size_t i = first; i < first + size; ++i) sum += counts[i];
    for (std::size_t i = first; i < first + size; ++i) {
      if (counts[i] > 0) bits += counts[i] * static_cast<std::uint64_t>(logarithm(sum) - logarithm(counts[i]));
    }
  }
  return bits;
}

}  // namespace

std::uint64_t learned_bytes(const Pieces& pieces) {
  Occurrences seen;
  std::uint64_t bits = 0, all = 0, some = 0, all_bytes = 0, round_bytes = 0;
  for (const auto& piece : pieces) all_bytes += piece.count * bytes_of(piece.type);
  for (const auto& piece : pieces) {
    // Of numbers that are round, as in a mean over channels, no bit need cost anything. A record of many is not worth a look.
    const bool round = !noisy(piece.bytes, std::min(piece.count, longest_run), piece.type);
    if (round && (round_bytes += piece.count * bytes_of(piece.type)) * few_round > all_bytes) return ~std::uint64_t{0};
    const std::uint64_t before = seen.zeros[1] + seen.zeros[3], size = bytes_of(piece.type);
    std::uint64_t looked_at = 0;
    for (std::size_t i = 0; i < piece.count; ++i) {
      if (i / sampled_run % sampled != 0) {
        i += sampled_run * (sampled - 1) - 1;
        continue;
      }
      ++looked_at;
      const std::uint8_t* from = piece.bytes + size * i;
      std::uint32_t number = 0;
      if (piece.type == Dtype::float32) {
        std::memcpy(&number, from, sizeof number);
      } else {
        number = widened(from, piece.type);
      }
      seen.see(number);
    }
    all += piece.count;
    some += looked_at;
    const std::uint64_t others = looked_at - (seen.zeros[1] + seen.zeros[3] - before);
    if (round) continue;
    bits += others * (piece.type == Dtype::float32 ? 21 : piece.type == Dtype::float16 ? 8 : 5);  // sign and raw mantissa bits
  }
  const std::uint64_t learned = entropy_of(seen.zeros, 2) + entropy_of(seen.exponents, 256) + entropy_of(seen.mantissas, 8);
  return some == 0 ? 0 : (bits + (learned >> 16)) * all / some / 8;
}

std::vector<std::uint8_t> encode_by_exponents(const Pieces& pieces, std::uint8_t coding, ExponentBuffers& buffers) {
  std::vector<Tally> tallies;
  for (const auto& piece : pieces) tallies.push_back(tally_of(piece));
  const std::vector<Group> groups = grouped(tallies);
  Encoder coder;
  NumberModel numbers;
  SymbolEncoder& symbols = buffers.symbols;
  std::vector<std::uint8_t>& rest = buffers.rest;
  rest.clear();
  std::size_t group = 0, numbers_in_all = 0, rest_bytes = 0;
  for (const auto& piece : pieces) {
    numbers_in_all += piece.count;
    rest_bytes += piece.count * (bytes_of(piece.type) - 1);
  }
  symbols.expect(numbers_in_all);
  rest.reserve(rest_bytes);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const bool same = groups[group].end > i;
    group += !same;
    if (i > 0) code_raw(coder, same, 1);
    Shares shares = groups[group].shares;
    if (i == 0 || !same) code_steps(coder, numbers, shares, nullptr, exponents);
    code_raw(coder, tallies[i].zeros, 1);
    const auto write = pieces[i].type == Dtype::float32 ? split<std::uint32_t> : split<std::uint16_t>;
    write(pieces[i], tallies[i].zeros, shares, symbols, rest);
  }
  const std::vector<std::uint8_t> coded = coder.finish();
  const SymbolEncoder::Stream found = symbols.finish();
  ByteWriter record;
  record.bytes().reserve(coded.size() + found.size + rest.size() + 21);
  record.byte(coding);
  record.number(coded.size());
  record.append(coded.data(), coded.size());
  record.number(found.size);
  record.append(found.data, found.size);
  record.append(rest.data(), rest.size());
  return std::move(record.bytes());
}

std::vector<double> decode_by_exponents(const std::vector<Floats<std::uint8_t>>& pieces, const std::uint8_t* data,
                                        std::size_t size, const Poll& poll) {
  ByteReader body(data, size);
  const std::size_t length = body.number(size, "the length of its stream");
  Decoder coder(body.take(length), length);
  const std::size_t symbol_bytes = body.number(body.left(), "the length of its symbols");
  SymbolDecoder symbols(body.take(symbol_bytes), symbol_bytes);
  const std::size_t left = body.left();
  Rest rest{body.take(left), data + size};
  NumberModel numbers;
  Shares shares = {};
  std::vector<SymbolTable> table;
  std::vector<double> bits;
  double before = 0;
  for (const auto& piece : pieces) {
    if (piece.count > 0) {
      const bool same = !table.empty() && code_raw(coder, 0, 1) != 0;
      if (!same) {
        code_steps(coder, numbers, shares, nullptr, exponents);
        table.assign(1, SymbolTable(shares));
      }
      const bool zeros = code_raw(coder, 0, 1) != 0;
      const auto read = piece.type == Dtype::float32 ? join<std::uint32_t> : join<std::uint16_t>;
      read(piece, zeros, table.front(), symbols, rest, poll);
    }
    const double now = coder.bits() + 8.0 * static_cast<double>(symbol_bytes - symbols.left() + left - rest.left());
    bits.push_back(now - before);
    before = now;
  }
  check_end(coder);
  symbols.finish();
  if (rest.left() > 0) corrupt(std::to_string(rest.left()) + " bytes of rests follow its numbers");
  return bits;
}

}  // namespace paretrim::trim

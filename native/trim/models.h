// Adaptive bit models and their logistic mixing. Only integer arithmetic, so that every machine computes the same numbers.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace paretrim::trim {

inline constexpr int largest_logit = 2047;  // logits (log-odds) are in units of 1/256

struct LogisticTables {
  LogisticTables();
  std::array<std::int16_t, 4096> stretch;  // logit of (i + 1/2) / 4096
  std::array<std::uint16_t, 4096> squash;  // probability at logit i - 2048, in units of 1/65536
  std::array<std::uint16_t, 1024> step;    // adaptation rate of a counter after i bits, in units of 1/8192
};
extern const LogisticTables logistic;

// Number of bits after which a counter's rate stops shrinking: a large limit for stationary statistics, a small one for others.
inline constexpr std::uint32_t steady = 1023, mobile = 255;

// Adaptive probability that a bit is 1: the mean of the bits so far; once the limit is reached, recent bits count more.
struct Counter {
  std::uint32_t state = std::uint32_t{1} << 31;  // probability in the upper 22 bits, number of bits seen in the lower 10

  int logit() const { return logistic.stretch[state >> 20]; }
  std::uint32_t probability() const { return std::clamp<std::uint32_t>(state >> 16, 32, 65504); }
  void update(int bit, std::uint32_t limit) {
    const std::uint32_t seen = state & 1023;
    const std::uint32_t error = (static_cast<std::uint32_t>(bit) << 22) - (state >> 10);
    const std::uint32_t eighth = static_cast<std::uint32_t>(static_cast<std::int32_t>(error) >> 3);
    state += (seen < limit) + ((eighth * logistic.step[seen]) & ~std::uint32_t{1023});
  }
  // The same probability with the confidence of at most `seen` bits.
  Counter relaxed(std::uint32_t seen) const { return {(state & ~std::uint32_t{1023}) | std::min(state & 1023, seen)}; }
};

template <typename Counters>
void relax(Counters& counters, std::uint32_t seen) {
  for (Counter& counter : counters) counter = counter.relaxed(seen);
}

inline constexpr std::int32_t first_rate = 24 << 8, last_rate = 2 << 8;

// Weights of N logits in units of 1/65536, learned online with a decreasing rate.
template <int N>
struct Mixer {
  explicit Mixer(std::int32_t weight = 0) { weights.fill(weight); }
  std::array<std::int32_t, N> weights;
  std::int32_t rate = first_rate;
};

// Codes one bit with a single counter.
template <class Coder>
int code_plain(Coder& coder, int bit, Counter& counter, std::uint32_t limit) {
  bit = coder.code(bit, counter.probability());
  counter.update(bit, limit);
  return bit;
}

// The mixture of several counters: their logits, and the mixed probability that the bit is 1.
template <std::size_t N>
struct Mixture {
  std::int32_t logits[N];
  std::int32_t one;
};

template <std::size_t N>
inline Mixture<N> mixture_of(const Mixer<static_cast<int>(N)>& mixer, Counter* const (&counters)[N]) {
  Mixture<N> found;
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < N; ++i) {
    found.logits[i] = counters[i]->logit();
    sum += std::int64_t{mixer.weights[i]} * found.logits[i];
  }
  const int logit = static_cast<int>(std::clamp<std::int64_t>(sum >> 16, -largest_logit, largest_logit));
  found.one = logistic.squash[logit + 2048];
  return found;
}

// Updates the mixer and the counters with the bit.
template <std::size_t N>
inline void learn(int bit, const Mixture<N>& mixture, Mixer<static_cast<int>(N)>& mixer, Counter* const (&counters)[N],
                  const std::uint32_t (&limits)[N]) {
  const std::int32_t error = ((bit << 16) - mixture.one) * (mixer.rate >> 8) >> 4;
  mixer.rate -= (mixer.rate - last_rate) >> 6;
  for (std::size_t i = 0; i < N; ++i) {
    mixer.weights[i] += static_cast<std::int32_t>((std::int64_t{mixture.logits[i]} * error + 0x8000) >> 16);
    counters[i]->update(bit, limits[i]);
  }
}

// Codes one bit with the mixture of several counters.
template <class Coder, std::size_t N>
inline int code_mixed(Coder& coder, int bit, Mixer<static_cast<int>(N)>& mixer, Counter* const (&counters)[N],
                      const std::uint32_t (&limits)[N]) {
  const Mixture<N> mixture = mixture_of(mixer, counters);
  bit = coder.code(bit, static_cast<std::uint32_t>(mixture.one));
  learn(bit, mixture, mixer, counters, limits);
  return bit;
}

// Codes a uniformly distributed number of up to 32 bits, upper half first.
template <class Coder>
std::uint32_t code_raw(Coder& coder, std::uint32_t value, int bits) {
  const std::uint32_t high = bits > 16 ? coder.code_raw(value >> 16, bits - 16) : 0;
  return high << 16 | coder.code_raw(value & ((std::uint32_t{1} << std::min(bits, 16)) - 1), std::min(bits, 16));
}

// Codes a number as a binary tree, highest bit first; the bits before select the counter.
template <class Coder>
std::uint32_t code_tree(Coder& coder, std::uint32_t value, int bits, Counter* counters, std::uint32_t limit) {
  std::uint32_t node = 1;
  for (int k = bits - 1; k >= 0; --k) node = node << 1 | code_plain(coder, value >> k & 1, counters[node], limit);
  return node - (std::uint32_t{1} << bits);
}

// Like code_tree, but mixes two counters per bit: `common` without context and `after` for a context.
template <class Coder>
std::uint32_t code_after(Coder& coder, std::uint32_t value, int bits, Mixer<2>* mixers, Counter* common, Counter* after) {
  std::uint32_t node = 1;
  // A decoder computes both possible next mixtures while it decodes the bit; otherwise their latency would add up.
  Mixture<2> next[2] = {{}, mixture_of<2>(mixers[bits - 1], {common + 1, after + 1})};
  for (int k = bits - 1; k >= 0; --k) {
    const Mixture<2> mixture = next[node & 1];
    const std::uint32_t left = 2 * node;
    if (Coder::decodes && k > 0) {
      next[0] = mixture_of<2>(mixers[k - 1], {common + left, after + left});
      next[1] = mixture_of<2>(mixers[k - 1], {common + left + 1, after + left + 1});
    }
    const int bit = coder.code(value >> k & 1, static_cast<std::uint32_t>(mixture.one));
    learn<2>(bit, mixture, mixers[k], {common + node, after + node}, {mobile, mobile});
    node = left | static_cast<std::uint32_t>(bit);
    if (!Coder::decodes && k > 0) next[bit] = mixture_of<2>(mixers[k - 1], {common + node, after + node});
  }
  return node - (std::uint32_t{1} << bits);
}

}  // namespace paretrim::trim

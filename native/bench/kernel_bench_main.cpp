// kernel_bench [MILLISECONDS] [INSTRUCTION_SET]: times every kernel on operands that stay in the L1 cache, for the given
// milliseconds each. Prints one line per kernel: nanoseconds per call in the fastest round, and the throughput in multiply-adds
// or in bytes read and written per second. Run it on an otherwise idle machine, before and after a change to a kernel.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cpu.h"
#include "types/aligned.h"

namespace paretrim::bench {
namespace {

constexpr int rounds = 5;
constexpr std::int64_t bytes = 4096;  // per operand of an elementwise kernel
constexpr std::int64_t pixels = bytes / block;

// Nanoseconds per call in the fastest round. A round makes as many calls as fit into its share of the time.
template <typename Call>
double nanoseconds(double milliseconds, const Call& call) {
  using Clock = std::chrono::steady_clock;
  const auto time_of = [&](std::int64_t calls) {
    const auto start = Clock::now();
    for (std::int64_t i = 0; i < calls; ++i) call();
    return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
  };
  std::int64_t calls = 1;
  double spent = time_of(calls);
  while (spent < milliseconds * 1e6 / rounds / 2) spent = time_of(calls *= 2);
  double best = spent;
  for (int round = 1; round < rounds; ++round) best = std::min(best, time_of(calls));
  return best / static_cast<double>(calls);
}

class Bench {
 public:
  Bench(const Kernels& kernels, double milliseconds)
      : kernels_(kernels), milliseconds_(milliseconds), a_(2 * bytes), b_(2 * bytes), out_(2 * bytes), sums_(bytes) {
    for (std::int64_t i = 0; i < 2 * bytes; ++i) {
      a_.data()[i] = static_cast<std::uint8_t>(37 * i);
      b_.data()[i] = static_cast<std::uint8_t>(101 * i + 7);
    }
    for (std::int64_t i = 0; i < bytes; ++i) sums_.data()[i] = static_cast<std::int32_t>(97 * i % 20001 - 10000);
  }

  void run() {
    tiles();
    floats();
    sums();
    elementwise();
    moves();
    training();
  }

 private:
  template <typename Call>
  void line(const std::string& kernel, double work, const char* unit, const Call& call) {
    const double time = nanoseconds(milliseconds_, call);
    std::printf("%-18s %-38s %12.1f ns %9.2f %s\n", kernels_.name, kernel.c_str(), time, work / time, unit);
  }

  // Byte offset of the activations of a tile's i-th entry or record.
  std::uint32_t place(std::int64_t i) const { return static_cast<std::uint32_t>(i % 8 * kernels_.lanes * block); }

  static int widest(const DenseTile* tiles) {
    int vectors = 0;
    for (int v = 1; v <= max_vectors; ++v) vectors = tiles[v] != nullptr ? v : vectors;
    return vectors;
  }

  // 256 weight blocks per channel, on the widest tile.
  void tiles() {
    constexpr std::int64_t blocks = 256;
    constexpr int channels = 4;
    int vectors = 1;
    while (vectors < max_vectors && kernels_.sparse[vectors + 1] != nullptr) ++vectors;
    const std::vector<std::int32_t> initial(max_grouped);
    AlignedArray<Entry> entries(blocks * channels);
    std::vector<std::int64_t> starts;
    for (std::int64_t i = 0; i < blocks * channels; ++i) entries.data()[i] = static_cast<Entry>(place(i)) << 32U | 0x01FF0270U;
    for (std::int64_t c = 0; c <= channels; ++c) starts.push_back(c * blocks);
    const double sparse_work = static_cast<double>(blocks * channels * block) * vectors * kernels_.lanes;
    line("sparse " + std::to_string(vectors) + " x 1", sparse_work, "GMAC/s",
         [&] { kernels_.sparse[vectors](a_.data(), entries.data(), starts.data(), channels, initial.data(), sums_.data()); });
    for (int grouped = 2; grouped <= max_grouped; grouped *= 2) {
      const int wide = widest(kernels_.dense[grouped]);
      if (wide == 0) continue;
      AlignedArray<std::uint32_t> records(static_cast<std::size_t>(blocks * (1 + grouped)));
      for (std::int64_t i = 0; i < blocks; ++i) records.data()[i * (1 + grouped)] = place(i);
      const double work = static_cast<double>(blocks * block) * grouped * wide * kernels_.lanes;
      line("dense " + std::to_string(wide) + " x " + std::to_string(grouped), work, "GMAC/s",
           [&] { kernels_.dense[grouped][wide](a_.data(), records.data(), blocks, initial.data(), sums_.data()); });
    }
    line("dot", static_cast<double>(bytes), "GMAC/s",
         [&] { sums_.data()[0] = kernels_.dot(a_.data(), reinterpret_cast<const std::int8_t*>(b_.data()), bytes); });
  }

  // The same on float32, where an entry or record has one weight per channel.
  void floats() {
    constexpr std::int64_t blocks = 256;
    constexpr int channels = 4;
    constexpr std::uint32_t weight = 0x3C23D70AU;  // 0.01
    constexpr std::int64_t numbers = bytes / block;
    AlignedArray<float> in(2 * numbers);
    AlignedArray<float> out(2 * numbers);
    for (std::int64_t i = 0; i < 2 * numbers; ++i) in.data()[i] = 0.5F + 0.001F * static_cast<float>(i);
    const auto* from = reinterpret_cast<const std::uint8_t*>(in.data());
    const std::vector<std::int32_t> initial(max_grouped);
    int vectors = 1;
    while (vectors < max_vectors && kernels_.float_sparse[vectors + 1] != nullptr) ++vectors;
    AlignedArray<Entry> entries(blocks * channels);
    std::vector<std::int64_t> starts;
    for (std::int64_t i = 0; i < blocks * channels; ++i) entries.data()[i] = static_cast<Entry>(place(i)) << 32U | weight;
    for (std::int64_t c = 0; c <= channels; ++c) starts.push_back(c * blocks);
    const double sparse_work = static_cast<double>(blocks * channels) * vectors * kernels_.lanes;
    line("float_sparse " + std::to_string(vectors) + " x 1", sparse_work, "GMAC/s",
         [&] { kernels_.float_sparse[vectors](from, entries.data(), starts.data(), channels, initial.data(), sums_.data()); });
    for (int grouped = 2; grouped <= max_grouped; grouped *= 2) {
      const int wide = widest(kernels_.float_dense[grouped]);
      if (wide == 0) continue;
      AlignedArray<std::uint32_t> records(static_cast<std::size_t>(blocks * (1 + grouped)));
      for (std::int64_t i = 0; i < blocks * (1 + grouped); ++i) {
        records.data()[i] = i % (1 + grouped) == 0 ? place(i / (1 + grouped)) : weight;
      }
      const double work = static_cast<double>(blocks) * grouped * wide * kernels_.lanes;
      line("float_dense " + std::to_string(wide) + " x " + std::to_string(grouped), work, "GMAC/s",
           [&] { kernels_.float_dense[grouped][wide](from, records.data(), blocks, initial.data(), sums_.data()); });
    }
    constexpr int outputs = max_rows * max_lanes;
    constexpr std::int64_t inputs = 64;
    std::vector<std::uint32_t> offsets(inputs);
    for (std::int64_t i = 0; i < inputs; ++i) offsets[static_cast<std::size_t>(i)] = static_cast<std::uint32_t>(i * block);
    const std::vector<float> weights(inputs * outputs, 0.01F);
    const std::vector<float> start(outputs, 1.0F);
    line("float_rows " + std::to_string(max_rows), static_cast<double>(inputs * outputs), "GMAC/s",
         [&] { kernels_.float_rows[max_rows](from, offsets.data(), inputs, weights.data(), start.data(), out.data()); });
    line("finish_floats", 3.0 * bytes, "GB/s",
         [&] { kernels_.finish_floats(in.data(), in.data(), numbers, 0.0F, 6.0F, out.data()); });
  }

  // Fake quantization of float32 and bfloat16, forward and backward.
  void training() {
    const RealGrid grid{0.01F, -20.0F, 235.0F, -0.2F};
    constexpr const char* names[grid_kinds] = {"steps", "levels", "ends", "offset"};
    for (int type = 0; type < reals; ++type) {
      const std::int64_t numbers = bytes / (type == 0 ? 4 : 2);
      const std::string suffix = type == 0 ? "" : " bfloat16";
      AlignedArray<float> x(bytes / 4), gradient(bytes / 4);
      for (std::int64_t i = 0; i < bytes / 4; ++i) x.data()[i] = gradient.data()[i] = 0.01F * static_cast<float>(i % 300 - 30);
      double sums[max_sums];
      float range[2];
      for (int way = 0; way < grid_kinds; ++way) {
        line(std::string("fake_quantize ") + names[way] + suffix, 2.0 * bytes, "GB/s",
             [&] { kernels_.training.forward[way][type](x.data(), numbers, grid, out_.data()); });
        line(std::string("fake_quantize_backward ") + names[way] + suffix, 3.0 * bytes, "GB/s",
             [&] { kernels_.training.backward[way][type](x.data(), gradient.data(), numbers, grid, out_.data(), sums); });
      }
      line("range_of" + suffix, 1.0 * bytes, "GB/s", [&] { kernels_.training.range[type](x.data(), numbers, range); });
    }
  }

  void sums() {
    constexpr int vectors = 8;
    const std::int64_t stride = std::int64_t{vectors} * kernels_.lanes;
    const float multipliers[block] = {0.01F, 0.02F, 0.03F, 0.04F};
    line("requantize", static_cast<double>(stride * block * 5), "GB/s",
         [&] { kernels_.requantize(sums_.data(), stride, vectors, multipliers, to_, out_.data()); });
  }

  void elementwise() {
    const float factors[block] = {0.5F, 0.6F, 0.7F, 0.8F};
    constexpr double two = 2.0 * bytes;
    constexpr double three = 3.0 * bytes;
    const Addition by{0.5F, 0.7F, 3.0F, 0, 255};
    line("add", three, "GB/s", [&] { kernels_.add(a_.data(), b_.data(), bytes, by, out_.data()); });
    line("multiply", three, "GB/s", [&] { kernels_.multiply(a_.data(), 3, b_.data(), 5, bytes, 0.01F, to_, out_.data()); });
    line("multiply_pixel", two, "GB/s",
         [&] { kernels_.multiply_pixel(a_.data(), 3, b_.data(), 5, bytes, 0.01F, to_, out_.data()); });
    line("affine", two, "GB/s", [&] { kernels_.affine(a_.data(), 3, bytes, factors, factors, to_, out_.data()); });
    line("maximum", three, "GB/s", [&] { kernels_.maximum(a_.data(), b_.data(), bytes, out_.data()); });
    line("look_up", two, "GB/s", [&] { kernels_.look_up(a_.data(), bytes, b_.data(), out_.data()); });
  }

  void moves() {
    constexpr double two = 2.0 * bytes;
    Mix mix;
    mix.count = 2;
    mix.from[0] = a_.data();
    mix.from[1] = b_.data();
    mix.controls[0] = 0x80018000U;
    mix.controls[1] = 0x03800280U;
    line("mix_pixels", 3.0 * bytes, "GB/s", [&] { kernels_.mix_pixels(mix, pixels, out_.data()); });
    line("interleave", two, "GB/s", [&] { kernels_.interleave(a_.data(), pixels, pixels, out_.data()); });
    line("stride_pixels", 1.5 * bytes, "GB/s", [&] { kernels_.stride_pixels(a_.data(), pixels / 2, 2, out_.data()); });
    const std::vector<std::uint16_t> masks(pixels / max_lanes, 0x7FFE);
    const Shift shift{1, bytes, bytes, 1, pixels / max_lanes, masks.data(), 9};
    line("shift_pixels", two, "GB/s", [&] { kernels_.shift_pixels(shift, a_.data(), out_.data()); });
    AlignedArray<Pick> picks(static_cast<std::size_t>(pixels / kernels_.lanes));
    for (std::size_t i = 0; i < picks.size(); ++i) {
      Pick& pick = picks.data()[i];
      pick.first = pick.second = static_cast<std::int32_t>(i) * kernels_.lanes * block;
      pick.mask = 0xFFFF;
      pick.last = true;
      for (int l = 0; l < kernels_.lanes; ++l) pick.index[l] = kernels_.lanes - 1 - l;
    }
    const auto count = static_cast<std::int64_t>(picks.size());
    line("pick_pixels", two, "GB/s", [&] { kernels_.pick_pixels(picks.data(), count, a_.data(), 9, out_.data()); });
    line("pick_maximum", two, "GB/s", [&] { kernels_.pick_maximum(picks.data(), count, a_.data(), out_.data()); });
  }

  const Kernels& kernels_;
  const double milliseconds_;
  const Requantization to_{7, 0, 255};
  AlignedArray<std::uint8_t> a_;
  AlignedArray<std::uint8_t> b_;
  AlignedArray<std::uint8_t> out_;
  AlignedArray<std::int32_t> sums_;
};

}  // namespace
}  // namespace paretrim::bench

int main(int count, char** arguments) {
  const double milliseconds = count > 1 ? std::strtod(arguments[1], nullptr) : 50;
  std::vector<std::string> sets = paretrim::instruction_sets();
  if (count > 2) sets = {arguments[2]};
  for (const std::string& set : sets) paretrim::bench::Bench(paretrim::kernels_named(set), milliseconds).run();
  return 0;
}

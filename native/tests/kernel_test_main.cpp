// kernel_test CASES [FIRST_SEED]: checks every kernel of every instruction set that this CPU supports. On random shapes and
// values, each must give the same bits as its reference and write nothing outside its output.
#include <cstdio>
#include <vector>

#include "kernels/cpu.h"
#include "kernels/pairs.h"
#include "tests/float_kernel_tests.h"
#include "tests/kernel_buffers.h"
#include "tests/kernel_references.h"
#include "tests/training_kernel_tests.h"

namespace paretrim::test {
namespace {

Requantization requantization(Random& random) {
  const auto low = static_cast<std::int32_t>(random.between(0, 255));
  return {static_cast<std::int32_t>(random.between(0, 255)), low, static_cast<std::int32_t>(random.between(low, 255))};
}

// Mostly small sums, whose results depend on rounding; the rest are arbitrary.
std::int32_t sum(Random& random) {
  return random.chance(70) ? static_cast<std::int32_t>(random.between(-5000, 5000)) : static_cast<std::int32_t>(random.next());
}

// A word of four weights that the kernels' int8 tiles can use.
std::uint32_t usable(const Kernels& kernels, std::uint32_t word) {
  if (kernels.pairs_in_16_bits) split_pairs(word);
  return word;
}

std::string sparse(const Kernels& kernels, Random& random) {
  const int vectors = vectors_of(kernels.sparse, random);
  const int pixels = vectors * kernels.lanes;
  const std::int64_t bytes = (pixels + random.between(0, 40)) * block;
  const auto channels = static_cast<int>(random.between(1, 8));
  Input<std::uint8_t> activations(bytes, random);
  std::vector<std::int64_t> starts{random.between(0, 3)};
  for (int c = 0; c < channels; ++c) starts.push_back(starts.back() + random.between(0, random.chance(20) ? 0 : 40));
  Input<Entry> entries(starts.back(), random);
  for (std::int64_t e = 0; e < starts.back(); ++e) {
    const auto offset = static_cast<Entry>(random.between(0, bytes / block - pixels) * block);
    entries.data()[e] = offset << 32U | usable(kernels, static_cast<std::uint32_t>(entries.data()[e]));
  }
  Input<std::int32_t> initial(channels, random);
  const std::int32_t* begin = random.chance(50) ? initial.data() : nullptr;
  Output<std::int32_t> sums(std::int64_t{channels} * pixels, random);
  kernels.sparse[vectors](activations.data(), entries.data(), starts.data(), channels, begin, sums.found());
  reference::sparse(activations.data(), entries.data(), starts.data(), channels, pixels, begin, sums.expected());
  return sums.difference();
}

std::string dense(const Kernels& kernels, Random& random) {
  int grouped = 1 << random.between(1, 4);
  while (kernels.dense[grouped][1] == nullptr) grouped /= 2;  // too many for this set's registers
  const int vectors = vectors_of(kernels.dense[grouped], random);
  const int pixels = vectors * kernels.lanes;
  const std::int64_t bytes = (pixels + random.between(0, 40)) * block;
  const std::int64_t count = random.between(0, 50);
  Input<std::uint8_t> activations(bytes, random);
  Input<std::uint32_t> records(count * (1 + grouped), random);
  for (std::int64_t i = 0; i < count * (1 + grouped); ++i) records.data()[i] = usable(kernels, records.data()[i]);
  for (std::int64_t i = 0; i < count; ++i) {
    records.data()[i * (1 + grouped)] = static_cast<std::uint32_t>(random.between(0, bytes / block - pixels) * block);
  }
  Input<std::int32_t> initial(grouped, random);
  Output<std::int32_t> sums(std::int64_t{grouped} * pixels, random);
  kernels.dense[grouped][vectors](activations.data(), records.data(), count, initial.data(), sums.found());
  reference::dense(activations.data(), records.data(), count, grouped, pixels, initial.data(), sums.expected());
  return sums.difference();
}

std::string requantize(const Kernels& kernels, Random& random) {
  const auto vectors = static_cast<int>(random.between(1, max_vectors));
  const std::int64_t pixels = std::int64_t{vectors} * kernels.lanes;
  const std::int64_t stride = pixels + random.between(0, 2) * kernels.lanes;
  Input<std::int32_t> sums(3 * stride + pixels, random);
  for (std::int64_t i = 0; i < 3 * stride + pixels; ++i) sums.data()[i] = sum(random);
  const float multipliers[block] = {factor(random), factor(random), factor(random), factor(random)};
  const Requantization to = requantization(random);
  Output<std::uint8_t> out(pixels * block, random);
  kernels.requantize(sums.data(), stride, vectors, multipliers, to, out.found());
  reference::requantize(sums.data(), stride, static_cast<int>(pixels), multipliers, to, out.expected());
  return out.difference();
}

std::string dot(const Kernels& kernels, Random& random) {
  const std::int64_t count = random.between(0, 40) * static_cast<std::int64_t>(alignment);
  Input<std::uint8_t> a(count, random);
  Input<std::int8_t> b(count, random);
  Output<std::int32_t> out(1, random);
  out.found()[0] = kernels.dot(a.data(), b.data(), count);
  out.expected()[0] = reference::dot(a.data(), b.data(), count);
  return out.difference();
}

// For elementwise kernels on bytes. run(a, b, count, out, kernel) runs the kernel or the reference; the first operand may be the
// output.
template <typename Run>
std::string bytewise(Random& random, const Run& run) {
  const std::int64_t count = random.between(0, 400);
  Input<std::uint8_t> a(count, random);
  Input<std::uint8_t> b(count, random);
  Output<std::uint8_t> out(count, random);
  const bool in_place = random.chance(30);
  if (in_place) {
    std::copy_n(a.data(), count, out.found());
    std::copy_n(a.data(), count, out.expected());
  }
  run(in_place ? out.found() : a.data(), b.data(), count, out.found(), true);
  run(in_place ? out.expected() : a.data(), b.data(), count, out.expected(), false);
  return out.difference();
}

std::string add(const Kernels& kernels, Random& random) {
  const Requantization to = requantization(random);
  const Addition by{factor(random), factor(random), random.real(-300.0F, 300.0F), to.low, to.high};
  const bool swapped = random.chance(50);
  return bytewise(random, [&](const auto* a, const auto* b, std::int64_t count, auto* out, bool kernel) {
    (kernel ? kernels.add : reference::add)(swapped ? b : a, swapped ? a : b, count, by, out);
  });
}

std::string multiply(const Kernels& kernels, Random& random) {
  const Requantization to = requantization(random);
  const auto zero_a = static_cast<std::int32_t>(random.between(0, 255));
  const auto zero_b = static_cast<std::int32_t>(random.between(0, 255));
  const float by = factor(random);
  return bytewise(random, [&](const auto* a, const auto* b, std::int64_t count, auto* out, bool kernel) {
    if (kernel) return kernels.multiply(a, zero_a, b, zero_b, count, by, to, out);
    reference::multiply(a, zero_a, b, zero_b, count, std::max<std::int64_t>(count, 1), by, to, out);
  });
}

std::string multiply_pixel(const Kernels& kernels, Random& random) {
  const Requantization to = requantization(random);
  const auto zero_a = static_cast<std::int32_t>(random.between(0, 255));
  const auto zero_b = static_cast<std::int32_t>(random.between(0, 255));
  const float by = factor(random);
  Input<std::uint8_t> pixel(block, random);
  return bytewise(random, [&](const auto* a, const auto*, std::int64_t count, auto* out, bool kernel) {
    if (kernel) return kernels.multiply_pixel(a, zero_a, pixel.data(), zero_b, count, by, to, out);
    reference::multiply(a, zero_a, pixel.data(), zero_b, count, block, by, to, out);
  });
}

std::string affine(const Kernels& kernels, Random& random) {
  const Requantization to = requantization(random);
  const auto zero = static_cast<std::int32_t>(random.between(0, 255));
  float multipliers[block];
  float offsets[block];
  for (int c = 0; c < block; ++c) {
    multipliers[c] = factor(random) * (random.chance(50) ? 1.0F : -1.0F);
    offsets[c] = random.real(-300.0F, 300.0F);
  }
  return bytewise(random, [&](const auto* a, const auto*, std::int64_t count, auto* out, bool kernel) {
    (kernel ? kernels.affine : reference::affine)(a, zero, count, multipliers, offsets, to, out);
  });
}

std::string maximum(const Kernels& kernels, Random& random) {
  return bytewise(random, [&](const auto* a, const auto* b, std::int64_t count, auto* out, bool kernel) {
    if (kernel) return kernels.maximum(a, b, count, out);
    for (std::int64_t i = 0; i < count; ++i) out[i] = std::max(a[i], b[i]);
  });
}

std::string look_up(const Kernels& kernels, Random& random) {
  Input<std::uint8_t> table(256, random);
  return bytewise(random, [&](const auto* a, const auto*, std::int64_t count, auto* out, bool kernel) {
    if (kernel) return kernels.look_up(a, count, table.data(), out);
    for (std::int64_t i = 0; i < count; ++i) out[i] = table.data()[a[i]];
  });
}

std::string mix_pixels(const Kernels& kernels, Random& random) {
  const std::int64_t pixels = random.between(1, 70);
  const std::int64_t room = (pixels + max_lanes - 1) / max_lanes * max_lanes * block;
  Mix mix;
  mix.count = static_cast<int>(random.between(0, block));
  std::vector<Input<std::uint8_t>> planes;
  for (int s = 0; s < mix.count; ++s) mix.from[s] = planes.emplace_back(room, random).data();
  std::fill(std::begin(mix.controls), std::end(mix.controls), 0x80808080U);
  for (int c = 0; c < block; ++c) {  // from one source or from the constant
    const std::int64_t source = random.between(-1, mix.count - 1);
    if (source < 0) {
      mix.constant |= static_cast<std::uint32_t>(random.between(0, 255)) << (8 * c);
    } else {
      std::uint32_t& control = mix.controls[source];
      control = (control & ~(0xFFU << (8 * c))) | static_cast<std::uint32_t>(random.between(0, block - 1)) << (8 * c);
    }
  }
  Output<std::uint8_t> out(room, random);
  reference::mix(mix, pixels, out.expected());
  if (mix.count > 0 && random.chance(30)) {  // the output is a source too
    std::copy_n(mix.from[0], room, out.found());
    mix.from[0] = out.found();
  }
  kernels.mix_pixels(mix, pixels, out.found());
  return out.difference(pixels * block);
}

std::string interleave(const Kernels& kernels, Random& random) {
  const std::int64_t pixels = random.between(0, 100);
  const std::int64_t pitch = pixels + random.between(0, 9);
  Input<std::uint8_t> channels(3 * pitch + pixels, random);
  Output<std::uint8_t> out(pixels * block, random);
  kernels.interleave(channels.data(), pitch, pixels, out.found());
  for (std::int64_t i = 0; i < pixels * block; ++i) out.expected()[i] = channels.data()[i % block * pitch + i / block];
  return out.difference();
}

std::string stride_pixels(const Kernels& kernels, Random& random) {
  const std::int64_t step = random.chance(60) ? 2 : random.between(1, 5);
  const std::int64_t count = random.between(1, 80);
  Input<std::uint8_t> in((step * (count - 1) + 1) * block, random);
  Output<std::uint8_t> out(count * block, random);
  kernels.stride_pixels(in.data(), count, step, out.found());
  for (std::int64_t i = 0; i < count; ++i) std::copy_n(in.data() + step * i * block, block, out.expected() + i * block);
  return out.difference();
}

std::string shift_pixels(const Kernels& kernels, Random& random) {
  Shift by;
  by.planes = random.between(1, 3);
  by.vectors = random.between(1, 4);
  by.pixels = random.between(-40, 40);
  by.fill = static_cast<std::uint8_t>(random.next());
  const std::int64_t there = random.between(1, 60);  // pixels of a plane of the input
  by.in_pitch = (there + random.between(0, 8)) * block;
  by.out_pitch = (by.vectors * max_lanes + random.between(0, 2) * max_lanes) * block;
  std::vector<std::uint16_t> masks(static_cast<std::size_t>(by.vectors));
  for (std::int64_t p = 0; p < by.vectors * max_lanes; ++p) {
    const bool exists = p + by.pixels >= 0 && p + by.pixels < there;
    if (!exists || random.chance(10)) continue;
    std::uint16_t& mask = masks[static_cast<std::size_t>(p / max_lanes)];
    mask = static_cast<std::uint16_t>(mask | 1U << (p % max_lanes));
  }
  by.masks = masks.data();
  Input<std::uint8_t> in((by.planes - 1) * by.in_pitch + there * block, random);
  Output<std::uint8_t> out((by.planes - 1) * by.out_pitch + by.vectors * max_lanes * block, random);
  kernels.shift_pixels(by, in.data(), out.found());
  reference::shift(by, in.data(), out.expected());
  return out.difference();
}

std::string picks(const Kernels& kernels, Random& random, bool maximum) {
  const std::int64_t pixels = kernels.lanes + random.between(0, 60);
  Input<std::uint8_t> in(pixels * block, random);
  const std::int64_t count = random.between(1, 12);
  std::vector<Pick> picks(static_cast<std::size_t>(count));
  std::int64_t registers = 0;
  for (Pick& pick : picks) {
    pick.first = static_cast<std::int32_t>(random.between(0, pixels - kernels.lanes) * block);
    pick.second = static_cast<std::int32_t>(random.between(0, pixels - kernels.lanes) * block);
    pick.mask = static_cast<std::uint16_t>(random.next() & ((1U << kernels.lanes) - 1U));
    for (int l = 0; l < kernels.lanes; ++l) pick.index[l] = static_cast<std::int32_t>(random.between(0, 2 * kernels.lanes - 1));
    pick.last = &pick == &picks.back() || random.chance(60);
    registers += pick.last;
  }
  const auto fill = static_cast<std::uint8_t>(maximum ? 0 : random.next());
  Output<std::uint8_t> out(registers * kernels.lanes * block, random);
  if (maximum) {
    kernels.pick_maximum(picks.data(), count, in.data(), out.found());
  } else {
    kernels.pick_pixels(picks.data(), count, in.data(), fill, out.found());
  }
  reference::pick(picks.data(), count, in.data(), kernels.lanes, fill, maximum, out.expected());
  return out.difference();
}

struct Test {
  const char* kernel;
  std::string (*wrong)(const Kernels& kernels, Random& random);
};

constexpr Test tests[] = {
    {"sparse", sparse},
    {"dense", dense},
    {"float_sparse", float_sparse},
    {"float_dense", float_dense},
    {"float_rows", float_rows},
    {"finish_floats", finish_floats},
    {"requantize", requantize},
    {"dot", dot},
    {"add", add},
    {"multiply", multiply},
    {"multiply_pixel", multiply_pixel},
    {"affine", affine},
    {"maximum", maximum},
    {"look_up", look_up},
    {"mix_pixels", mix_pixels},
    {"interleave", interleave},
    {"stride_pixels", stride_pixels},
    {"shift_pixels", shift_pixels},
    {"pick_pixels", [](const Kernels& kernels, Random& random) { return picks(kernels, random, false); }},
    {"pick_maximum", [](const Kernels& kernels, Random& random) { return picks(kernels, random, true); }},
    {"fake_quantize", fake_quantize},
    {"fake_quantize_backward", fake_quantize_backward},
    {"range_of", real_ranges},
};

int run(std::uint64_t cases, std::uint64_t first) {
  int wrong = 0;
  for (const std::string& set : instruction_sets()) {
    for (const Test& test : tests) {
      for (std::uint64_t seed = first; seed < first + cases; ++seed) {
        Random random(seed);
        const std::string difference = test.wrong(kernels_named(set), random);
        if (difference.empty()) continue;
        std::fprintf(stderr, "%s of %s, seed %llu: %s\n", test.kernel, set.c_str(), static_cast<unsigned long long>(seed),
                     difference.c_str());
        ++wrong;
        break;
      }
      std::printf("%s %s %llu\n", set.c_str(), test.kernel, static_cast<unsigned long long>(cases));
    }
  }
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace paretrim::test

int main(int count, char** arguments) {
  const std::uint64_t cases = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 500;
  const std::uint64_t first = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 0;
  return paretrim::test::run(cases, first);
}

#include "kernels/cpu.h"

#include <array>
#include <chrono>
#include <cstring>

#include "types/aligned.h"
#include "types/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace paretrim {
namespace {

#if defined(__x86_64__)

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

// cpuid leaf 7, subleaf 1, EAX bit 4. Some supported compilers have no name for it in __builtin_cpu_supports.
bool has_avx_vnni() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1U << 4U)) != 0 && has_avx2();
}

std::vector<const Kernels*> find_kernels() {
  __builtin_cpu_init();
  std::vector<const Kernels*> found;
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512f")) {
    if (__builtin_cpu_supports("avx512vbmi")) found.push_back(&kernels_avx512_vnni_vbmi());
    found.push_back(&kernels_avx512_vnni());
  }
  if (has_avx_vnni()) found.push_back(&kernels_avx_vnni());
  if (has_avx2()) found.push_back(&kernels_avx2());
  found.push_back(&kernels_plain());
  return found;
}

#elif defined(__aarch64__)

std::vector<const Kernels*> find_kernels() {
  std::vector<const Kernels*> found;
#if defined(__linux__)
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) found.push_back(&kernels_neon_dot());
#endif
  found.push_back(&kernels_plain());
  return found;
}

#else

std::vector<const Kernels*> find_kernels() { return {&kernels_plain()}; }

#endif

// Filled when the library is loaded, which also initialises every supported kernel table. Never destroyed, so neither a fork nor
// process exit can pull it from under a running call.
const std::vector<const Kernels*>& known_kernels = *new std::vector<const Kernels*>(find_kernels());

}  // namespace

std::string cpu_name() {
#if defined(__x86_64__)
  std::array<unsigned, 12> words{};
  for (unsigned leaf = 0; leaf < 3; ++leaf) {
    unsigned* at = words.data() + 4 * leaf;
    if (__get_cpuid(0x80000002U + leaf, at, at + 1, at + 2, at + 3) == 0) return "x86-64";
  }
  char text[sizeof words + 1] = {};
  std::memcpy(text, words.data(), sizeof words);
  unsigned signature = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  __get_cpuid(1, &signature, &b, &c, &d);  // family, model and stepping, because a hypervisor may change the brand string
  return std::string(text) + " " + std::to_string(signature);
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "other";
#endif
}

const Kernels& kernels_named(const std::string& name) {
  std::string names;
  for (const Kernels* kernels : known_kernels) {
    if (name.empty() || name == kernels->name) return *kernels;
    names += (names.empty() ? "" : ", ") + std::string(kernels->name);
  }
  throw Error(ErrorKind::unsupported_operation,
              "this CPU does not support instruction set '" + name + "'; choose one of " + names);
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* kernels : known_kernels) names.emplace_back(kernels->name);
  return names;
}

// Times the widest dense tile on operands that stay in the L1 cache, the best case for this CPU.
double peak_multiply_adds_a_second(const std::string& set) {
  constexpr int grouped = 4;
  constexpr std::int64_t records = 512;
  const Kernels& kernels = kernels_named(set);
  int vectors = 1;
  while (vectors < max_vectors && kernels.dense[grouped][vectors + 1] != nullptr) ++vectors;
  const AlignedArray<std::uint8_t> activations(static_cast<std::size_t>(max_vectors) * max_lanes * block);
  const AlignedArray<std::uint32_t> weights(records * (1 + grouped));
  AlignedArray<std::int32_t> sums(static_cast<std::size_t>(grouped) * max_vectors * max_lanes);
  const std::int32_t initial[grouped] = {};
  const double done = static_cast<double>(records) * grouped * vectors * kernels.lanes * block;
  double best = 0;
  for (int i = 0; i < 2000; ++i) {
    const auto start = std::chrono::steady_clock::now();
    kernels.dense[grouped][vectors](activations.data(), weights.data(), records, initial, sums.data());
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = std::max(best, done / spent.count());
  }
  return best;
}

}  // namespace paretrim

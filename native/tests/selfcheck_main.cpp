// selfcheck GRAPHS [FIRST_SEED]: on random graphs every instruction set of this CPU, with one and several threads, gives the bits
// of the plain kernels. Prints a digest of all logits, which is the same on every machine.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "run/network.h"
#include "tests/random_graph.h"

namespace paretrim::test {
namespace {

constexpr std::int64_t images = 3;

std::vector<float> logits_of(const Graph& graph, const std::vector<std::uint8_t>& bytes, const std::string& set, int threads,
                             bool measure) {
  Settings settings;
  settings.instruction_set = set;
  settings.threads = threads;
  settings.measure = measure;
  const Network network(graph, settings);
  std::vector<float> logits(static_cast<std::size_t>(images * network.classes()));
  network.run(bytes.data(), images, logits.data());
  return logits;
}

int check(std::uint64_t seed, std::uint64_t& digest) {
  const Graph graph = random_graph(seed);
  const std::vector<std::uint8_t> bytes = random_images(graph, images, seed);
  const std::vector<float> expected = logits_of(graph, bytes, "plain", 1, false);
  for (const float logit : expected) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &logit, sizeof bits);
    digest = (digest ^ bits) * 1099511628211ULL;
  }
  int wrong = 0;
  for (const std::string& set : instruction_sets()) {
    for (const int threads : {1, 2, 4}) {
      const std::vector<float> found = logits_of(graph, bytes, set, threads, seed % 16 == 0);
      if (std::memcmp(found.data(), expected.data(), expected.size() * sizeof(float)) != 0) {
        std::fprintf(stderr, "seed %llu: %s with %d threads differs from plain\n", static_cast<unsigned long long>(seed),
                     set.c_str(), threads);
        ++wrong;
      }
    }
  }
  return wrong;
}

}  // namespace
}  // namespace paretrim::test

int main(int count, char** arguments) {
  const std::uint64_t graphs = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 200;
  const std::uint64_t first = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 0;
  std::uint64_t digest = 14695981039346656037ULL;
  int wrong = 0;
  for (std::uint64_t seed = first; seed < first + graphs; ++seed) wrong += paretrim::test::check(seed, digest);
  std::string sets;
  for (const std::string& set : paretrim::instruction_sets()) sets += (sets.empty() ? "" : ", ") + set;
  std::fprintf(stderr, "%llu graphs in %s\n", static_cast<unsigned long long>(graphs), sets.c_str());
  std::printf("%016llx\n", static_cast<unsigned long long>(digest));
  return wrong == 0 ? 0 : 1;
}

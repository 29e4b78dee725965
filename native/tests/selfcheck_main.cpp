// selfcheck GRAPHS [FIRST_SEED [digest|operations]]: runs random graphs in every instruction set that this CPU supports, with
// different numbers of threads and callers and different kernel choices, and compares the bits with those of the plain kernels.
// Prints a digest of all outputs, which is the same on every machine; with `digest` it only does that. With `operations` it only
// prints the operations of the graphs, and the functions of `pointwise`, one a line.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>

#include "graph/attributes.h"
#include "kernels/cpu.h"
#include "run/network.h"
#include "tests/random_graph.h"

namespace paretrim::test {
namespace {

constexpr std::int64_t images = 3;

using Bytes = std::vector<std::uint8_t>;
using Values = std::vector<std::vector<float>>;  // by output

Settings settings_of(const std::string& set, int threads) {
  Settings settings;
  settings.instruction_set = set;
  settings.threads = threads;
  settings.measure = false;
  return settings;
}

Values values_of(const Network& network, const Bytes& bytes, std::int64_t count = images) {
  Values values;
  std::vector<float*> outputs;
  for (const Output& output : network.outputs()) {
    outputs.push_back(values.emplace_back(static_cast<std::size_t>(count * output.size)).data());
  }
  network.run(bytes.data(), count, outputs.data());
  return values;
}

// A random kernel choice for every layer. The planner uses those that are possible.
std::string other_choices(const std::string& made, Random& random) {
  std::string text = made.substr(0, made.find('|'));
  for (const char c : made) {
    if (c != '|') continue;
    static const char* const views[] = {"in place", "columns", "positions"};
    const std::int64_t grouped = random.chance(50) ? 1 : std::int64_t{1} << random.between(1, 4);
    const std::int64_t passes = grouped == 1 ? std::int64_t{1} << random.between(0, 3) : 1;
    const std::int64_t bands = std::int64_t{1} << random.between(0, 3);
    text += std::string("|") + views[random.between(0, 2)] + ", " + std::to_string(random.between(1, 16)) + " x " +
            std::to_string(grouped) + (passes > 1 ? ", " + std::to_string(passes) + " passes" : "") +
            (bands > 1 ? ", " + std::to_string(bands) + " bands" : "");
  }
  return text;
}

// Compares the images that were computed; `found` may hold fewer than `expected`.
bool same(const Values& found, const Values& expected) {
  return std::equal(found.begin(), found.end(), expected.begin(), expected.end(),
                    [](const std::vector<float>& one, const std::vector<float>& other) {
                      return std::memcmp(one.data(), other.data(), one.size() * sizeof(float)) == 0;
                    });
}

// Runs one network from several threads; false if any of them gets other bits.
bool callers_agree(const Network& network, const Bytes& bytes, const Values& expected) {
  std::atomic<bool> agree{true};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&] {
      if (!same(values_of(network, bytes), expected)) agree = false;
      if (!same(values_of(network, bytes, 1), expected)) agree = false;
    });
  }
  for (std::thread& caller : callers) caller.join();
  return agree;
}

// The setting in which the outputs differ from those of the plain kernels, or "".
std::string wrong_with(const Graph& graph, const Bytes& bytes, const Values& expected, const std::string& set,
                       std::uint64_t seed) {
  Random random(seed);
  for (const char c : set) random = Random(random.next() + static_cast<std::uint64_t>(c));  // varies by instruction set
  Settings settings = settings_of(set, 1 << random.between(0, 2));
  settings.measure = seed % 16 == 0;
  const std::string threads = std::to_string(settings.threads) + " threads, ";
  const Network network(graph, settings);
  if (!same(values_of(network, bytes), expected)) return threads + network.choices();
  if (!callers_agree(network, bytes, expected)) return "several callers, " + threads + network.choices();
  for (int attempt = 0; attempt < 4; ++attempt) {
    settings.choices = other_choices(network.choices(), random);
    const Network other(graph, settings);
    if (!same(values_of(other, bytes), expected)) return threads + other.choices();
  }
  return "";
}

Graph graph_of(std::uint64_t seed) { return seed % 3 == 2 ? random_float_graph(seed) : random_graph(seed); }

void print_operations(std::uint64_t first, std::uint64_t graphs) {
  std::set<std::string> met;
  for (std::uint64_t seed = first; seed < first + graphs; ++seed) {
    for (const Node& node : graph_of(seed).nodes) {
      met.insert(std::string(name_of(node.op)));
      if (node.op == Op::pointwise) met.insert("pointwise " + text(node, "function"));
    }
  }
  for (const std::string& name : met) std::puts(name.c_str());
}

int check(std::uint64_t seed, std::uint64_t& digest, const std::vector<std::string>& sets) {
  const Graph graph = graph_of(seed);
  const Bytes bytes = random_images(graph, images, seed);
  const Values expected = values_of(Network(graph, settings_of("plain", 1)), bytes);
  for (const std::vector<float>& output : expected) {
    for (const float value : output) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof bits);
      digest = (digest ^ bits) * 1099511628211ULL;
    }
  }
  int wrong = 0;
  for (const std::string& set : sets) {
    const std::string how = wrong_with(graph, bytes, expected, set, seed);
    if (how.empty()) continue;
    std::fprintf(stderr, "seed %llu: %s differs from plain: %s\n", static_cast<unsigned long long>(seed), set.c_str(),
                 how.c_str());
    ++wrong;
  }
  return wrong;
}

}  // namespace
}  // namespace paretrim::test

int main(int count, char** arguments) {
  const std::uint64_t graphs = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 200;
  const std::uint64_t first = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 0;
  const std::string mode = count > 3 ? arguments[3] : "";
  if (mode == "operations") {
    paretrim::test::print_operations(first, graphs);
    return 0;
  }
  const bool only_digest = mode == "digest";
  const std::vector<std::string> sets = only_digest ? std::vector<std::string>{} : paretrim::instruction_sets();
  std::uint64_t digest = 14695981039346656037ULL;
  int wrong = 0;
  for (std::uint64_t seed = first; seed < first + graphs; ++seed) wrong += paretrim::test::check(seed, digest, sets);
  std::string names;
  for (const std::string& set : sets) names += (names.empty() ? "" : ", ") + set;
  if (!only_digest) std::fprintf(stderr, "%llu graphs in %s\n", static_cast<unsigned long long>(graphs), names.c_str());
  std::printf("%016llx\n", static_cast<unsigned long long>(digest));
  return wrong == 0 ? 0 : 1;
}

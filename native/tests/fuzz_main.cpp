// fuzz GRAPHS [FIRST_SEED]: damaged graphs and invalid kernel choices must be refused with an Error or run correctly. They must
// not access invalid memory (checked by the sanitizers) or throw anything else.
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "kernels/cpu.h"
#include "run/network.h"
#include "tests/random_graph.h"
#include "types/error.h"

namespace paretrim::test {
namespace {

constexpr std::int64_t max_elements = 1 << 20;  // of all values; a valid graph may need more memory than a test has

std::int64_t odd_number(Random& random) {
  switch (random.between(0, 7)) {
    case 0:
      return -1;
    case 1:
      return std::numeric_limits<std::int64_t>::max();
    case 2:
      return std::numeric_limits<std::int64_t>::min();
    case 3:
      return 2147483647 + random.between(-1, 1);
    case 4:
      return std::int64_t{1} << random.between(0, 62);
    default:
      return random.between(0, 9);
  }
}

float odd_real(Random& random) {
  switch (random.between(0, 6)) {
    case 0:
      return std::numeric_limits<float>::quiet_NaN();
    case 1:
      return std::numeric_limits<float>::infinity();
    case 2:
      return std::numeric_limits<float>::denorm_min();
    case 3:
      return std::numeric_limits<float>::max();
    case 4:
      return std::numeric_limits<float>::min();
    case 5:
      return -random.real(0.0F, 1.0F);
    default:
      return random.real(0.0F, 1e6F);
  }
}

template <typename Map>
typename Map::iterator any_of(Map& map, Random& random) {
  auto found = map.begin();
  std::advance(found, random.between(0, static_cast<std::int64_t>(map.size()) - 1));
  return found;
}

void damage_attribute(Node& node, Random& random) {
  if (node.attributes.empty() || random.chance(10)) {
    node.attributes[random.chance(50) ? "groups" : "hi"] = odd_number(random);
    return;
  }
  Attribute& value = any_of(node.attributes, random)->second;
  if (random.chance(10)) {
    node.attributes.erase(any_of(node.attributes, random));
  } else if (auto* list = std::get_if<std::vector<std::int64_t>>(&value)) {
    if (random.chance(10) || list->empty()) {
      list->push_back(odd_number(random));
    } else {
      (*list)[static_cast<std::size_t>(random.between(0, static_cast<std::int64_t>(list->size()) - 1))] = odd_number(random);
    }
  } else if (random.chance(80)) {
    value = odd_number(random);
  } else {
    value = static_cast<double>(odd_real(random));
  }
}

void damage_tensor(Node& node, Random& random) {
  if (node.tensors.empty() || random.chance(5)) {
    node.tensors["table"] = Tensor{Dtype::uint8, {256}, TensorBytes(256)};
    return;
  }
  Tensor& tensor = any_of(node.tensors, random)->second;
  switch (random.between(0, 5)) {
    case 0:
      node.tensors.erase(any_of(node.tensors, random));
      break;
    case 1:
      tensor.dtype = static_cast<Dtype>(random.between(0, 5));
      break;
    case 2:
      tensor.bytes.resize(tensor.bytes.size() * static_cast<std::size_t>(random.between(0, 2)));
      break;
    case 3:
      if (!tensor.shape.empty()) tensor.shape[0] = odd_number(random);
      break;
    case 4:
      tensor.shape.push_back(odd_number(random));
      break;
    default:
      for (int count = 0; count < 8 && !tensor.bytes.empty(); ++count) {
        const std::int64_t last = static_cast<std::int64_t>(tensor.bytes.size()) - 1;
        tensor.bytes[static_cast<std::size_t>(random.between(0, last))] = static_cast<std::uint8_t>(random.next());
      }
  }
}

void damage_type(ValueType& type, Random& random) {
  switch (random.between(0, 4)) {
    case 0:
      type.scale = odd_real(random);
      break;
    case 1:
      type.zero_point = static_cast<std::int32_t>(odd_number(random));
      break;
    case 2:
      type.dtype = static_cast<Dtype>(random.between(0, 3));
      break;
    case 3:
      type.shape.push_back(odd_number(random));
      break;
    default:
      if (!type.shape.empty()) type.shape[0] = odd_number(random);
  }
}

void damage(Graph& graph, Random& random) {
  Node& node = graph.nodes[static_cast<std::size_t>(random.between(0, static_cast<std::int64_t>(graph.nodes.size()) - 1))];
  switch (random.between(0, 9)) {
    case 0:
    case 1:
    case 2:
      return damage_attribute(node, random);
    case 3:
    case 4:
      return damage_tensor(node, random);
    case 5:
      return damage_type(node.type, random);
    case 6:
      node.op = static_cast<Op>(random.between(0, op_count - 1));
      return;
    case 7:
      if (random.chance(30)) node.inputs.clear();
      node.inputs.push_back(static_cast<std::uint32_t>(random.between(0, static_cast<std::int64_t>(graph.nodes.size()) + 1)));
      return;
    case 8:
      if (!node.inputs.empty()) {
        node.inputs[0] = static_cast<std::uint32_t>(random.chance(90) ? random.between(0, 20) : odd_number(random));
      }
      return;
    default:
      if (random.chance(30)) {
        const auto output = static_cast<std::uint32_t>(random.between(0, static_cast<std::int64_t>(graph.nodes.size()) + 1));
        if (random.chance(50)) graph.outputs.clear();
        if (random.chance(80)) graph.outputs.push_back(output);
      } else if (random.chance(50)) {
        graph.input.shape[static_cast<std::size_t>(random.between(0, 2))] = odd_number(random);
      } else if (!graph.input.std.empty()) {
        graph.input.std.pop_back();
      }
  }
}

std::string odd_choices(const std::string& made, Random& random) {
  std::string text = made;
  for (std::int64_t count = random.between(1, 6); count > 0 && !text.empty(); --count) {
    const auto at = static_cast<std::size_t>(random.between(0, static_cast<std::int64_t>(text.size()) - 1));
    if (random.chance(50)) {
      text[at] = static_cast<char>(random.chance(70) ? "0123456789|,- "[random.between(0, 13)] : random.next());
    } else if (random.chance(50)) {
      text.erase(at);
    } else {
      text.insert(at, std::to_string(odd_number(random)));
    }
  }
  return text;
}

// Whether a valid graph needs little enough memory to run here.
bool small(const Graph& graph) {
  std::int64_t elements = graph.type_of(0).size();
  for (const Node& node : graph.nodes) elements += node.type.size();
  return elements <= max_elements;
}

void run(const Network& network, const Graph& graph, std::uint64_t seed) {
  const std::vector<std::uint8_t> bytes = random_images(graph, 2, seed);
  std::vector<std::vector<float>> values;
  std::vector<float*> outputs;
  for (const Output& output : network.outputs()) outputs.push_back(values.emplace_back(2 * output.size).data());
  network.run(bytes.data(), 2, outputs.data());
}

// 1 if the damaged graph was accepted.
int attempt(std::uint64_t seed) {
  Random random(~seed);
  Graph graph = (seed % 3 == 2 ? random_float_graph(seed) : random_graph(seed));
  for (std::int64_t count = random.between(0, 3); count > 0; --count) damage(graph, random);
  try {
    validate(graph);
    if (!small(graph)) return 0;
    Settings settings;
    settings.measure = false;
    const std::vector<std::string> sets = instruction_sets();
    settings.instruction_set = sets[static_cast<std::size_t>(random.between(0, static_cast<std::int64_t>(sets.size()) - 1))];
    settings.threads = static_cast<int>(random.between(1, 3));
    const Network network(graph, settings);
    run(network, graph, seed);
    settings.choices = odd_choices(network.choices(), random);
    run(Network(graph, settings), graph, seed);
    return 1;
  } catch (const Error&) {
    return 0;
  }
}

}  // namespace
}  // namespace paretrim::test

int main(int count, char** arguments) {
  const std::uint64_t graphs = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 1000;
  const std::uint64_t first = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 0;
  std::uint64_t ran = 0;
  for (std::uint64_t seed = first; seed < first + graphs; ++seed) ran += paretrim::test::attempt(seed);
  std::printf("%llu of %llu damaged graphs ran\n", static_cast<unsigned long long>(ran), static_cast<unsigned long long>(graphs));
  // If all or none are refused, the test has checked nothing.
  return ran > graphs / 20 && ran < graphs ? 0 : 1;
}

#include "graph/graph.h"

#include <array>

#include "types/error.h"

namespace paretrim {
namespace {

constexpr std::array<OpFacts, op_count> all_facts = {{
#define PARETRIM_OPERATION(name, inputs, grid, multiplies, ships, rescaling, work, shape_rule) \
  {#name, inputs, GridRule::grid, Multiplies::multiplies, ships, Rescaling::rescaling, Work::work},
#include "graph/operations.inc"
}};

// For shapes that validate has bounded, or small ones, so that the product does not overflow.
std::int64_t product(const std::vector<std::int64_t>& shape) {
  std::int64_t result = 1;
  for (const std::int64_t extent : shape) result *= extent;
  return result;
}

}  // namespace

std::size_t bytes_of(Dtype dtype) {
  if (dtype == Dtype::uint8 || dtype == Dtype::int8) return 1;
  return dtype == Dtype::float16 || dtype == Dtype::bfloat16 ? 2 : 4;
}

std::string text_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::float32:
      return "float32";
    case Dtype::uint8:
      return "uint8";
    case Dtype::int8:
      return "int8";
    case Dtype::int32:
      return "int32";
    case Dtype::float16:
      return "float16";
    case Dtype::bfloat16:
      return "bfloat16";
  }
  return "unknown";
}

bool is_float(Dtype dtype) { return dtype == Dtype::float32 || dtype == Dtype::float16 || dtype == Dtype::bfloat16; }

std::int64_t ValueType::size() const { return product(shape); }

std::int64_t Tensor::size() const { return product(shape); }

const OpFacts& facts_of(Op op) { return all_facts.at(static_cast<std::size_t>(op)); }

std::string_view name_of(Op op) { return facts_of(op).name; }

Op op_named(std::string_view name) {
  for (std::size_t index = 0; index < all_facts.size(); ++index) {
    if (all_facts[index].name == name) return static_cast<Op>(index);
  }
  throw Error(ErrorKind::unsupported_operation,
              "operation '" + std::string(name.substr(0, 100)) +
                  "' is unknown; update paretrim, or write the graph with the operations of docs/integer-graph.md");
}

ValueType Graph::type_of(std::uint32_t value) const {
  if (value > 0) return nodes.at(value - 1).type;
  if (!input.takes_pixels()) return {input.shape, Dtype::float32, 1.0F, 0};
  return {input.shape, Dtype::uint8, 1.0F / 255.0F, 0};
}

}  // namespace paretrim

#include "plan/steps.h"

#include <algorithm>
#include <limits>

#include "graph/attributes.h"
#include "plan/elementwise.h"
#include "plan/float_steps.h"
#include "plan/matmul.h"
#include "plan/meaning.h"
#include "plan/moves.h"
#include "plan/pixel_shuffle.h"
#include "plan/windows.h"
#include "types/error.h"

namespace paretrim {
namespace {

using Request = const StepRequest&;
using StepPointer = std::unique_ptr<Step>;
using Factory = StepPointer (*)(Request);

StepPointer quantize(Request r) {
  return r.source().quantized() ? quantize_pixels_step(r.node, r.operands.output, r.kernels)
                                : quantize_float_images_step(r.node, r.operands.output);
}

StepPointer affine(Request r) { return affine_step(r.node, r.source(), r.operands.inputs[0], r.operands.output, r.kernels); }

StepPointer table(Request r, std::vector<std::uint8_t> entries) {
  return table_step(std::move(entries), Layout::of(r.source().shape), r.operands.inputs[0], r.operands.output, r.kernels);
}

StepPointer relu(Request r) { return table(r, relu_table(r.source().zero_point)); }

StepPointer pointwise(Request r) {
  const TensorBytes& entries = r.node.tensors.find("table")->second.bytes;
  return table(r, {entries.begin(), entries.end()});
}

StepPointer add(Request r) {
  return add_step(addition_of(r.node, r.source(0), r.source(1)), Layout::of(r.source().shape), r.operands, r.kernels);
}

StepPointer mul(Request r) { return multiply_step(r.node, r.source(0), r.source(1), r.operands, r.kernels); }

StepPointer flatten(Request r) { return flatten_step(Layout::of(r.source().shape), r.operands.inputs[0], r.operands.output); }

// The factories for integer and float operands; null if the operation is not defined for them.
struct Row {
  Op op;
  Factory integer;
  Factory real;
};

constexpr Row rows[] = {
    {Op::normalize, nullptr, normalize_step},
    {Op::quantize, quantize, quantize_values_step},
    {Op::dequantize, nullptr, dequantize_step},
    {Op::batch_norm, affine, float_affine_step},
    {Op::relu, relu, float_range_step},
    {Op::clamp, nullptr, float_range_step},
    {Op::pointwise, pointwise, float_function_step},
    {Op::add, add, float_sum_step},
    {Op::mul, mul, float_product_step},
    {Op::matmul, matmul_step, float_matmul_step},
    {Op::pixel_shuffle, pixel_shuffle_step, float_pixel_shuffle_step},
    {Op::pixel_unshuffle, pixel_unshuffle_step, float_pixel_unshuffle_step},
    {Op::flatten, flatten, float_flatten_step},  // of maps; flattening a vector changes nothing
    {Op::max_pool, max_pool_step, float_max_pool_step},
    {Op::avg_pool, average_step, float_average_step},
    {Op::adaptive_avg_pool, adaptive_average_step, float_adaptive_average_step},
};

constexpr float infinity = std::numeric_limits<float>::infinity();

Range from_zero(const Node&) { return {0.0F, infinity}; }

Range between_bounds(const Node& node) {
  const auto high = static_cast<float>(number(node, "maximum").value_or(infinity));
  return {std::min(static_cast<float>(number(node, "minimum").value_or(-infinity)), high), high};
}

// Operations whose role is not simply Role::step, or that can be fused. Those with Fusion::range have a range.
struct Treatment {
  Op op;
  Role role;
  Fusion fusion = Fusion::none;
  Range (*range)(const Node&) = nullptr;
};

constexpr Treatment treatments[] = {
    {Op::conv2d, Role::weighted},
    {Op::linear, Role::weighted},
    {Op::slice, Role::move},
    {Op::pad, Role::move},
    {Op::channel_shuffle, Role::move},
    {Op::concat, Role::join},
    {Op::flatten, Role::reshape},
    {Op::unflatten, Role::reshape},
    {Op::add, Role::step, Fusion::addition},
    {Op::relu, Role::step, Fusion::range, from_zero},
    {Op::clamp, Role::step, Fusion::range, between_bounds},
};

constexpr Treatment treatment_of(Op op) {
  for (const Treatment& treatment : treatments) {
    if (treatment.op == op) return treatment;
  }
  return {op, Role::step};
}

constexpr bool ranges_are_complete() {
  for (const Treatment& treatment : treatments) {
    if ((treatment.fusion == Fusion::range) != (treatment.range != nullptr)) return false;
  }
  for (const Row& row : rows) {
    if (row.real == float_range_step && treatment_of(row.op).range == nullptr) return false;
  }
  return true;
}
#ifndef __SANITIZE_ADDRESS__  // with sanitizers GCC compares no functions at compile time (GCC bug 71962)
static_assert(ranges_are_complete(), "an operation that clamps has no range in `treatments`");
#endif

}  // namespace

Role role_of(Op op) { return treatment_of(op).role; }

Fusion fusion_of(Op op) { return treatment_of(op).fusion; }

Range range_of(const Node& node) { return treatment_of(node.op).range(node); }

std::unique_ptr<Step> make_step(const StepRequest& request) {
  const Node& node = request.node;
  const bool entry = node.op == Op::quantize && node.inputs[0] == 0;
  const bool real = !entry && (!request.source().quantized() || !node.type.quantized());
  for (const Row& row : rows) {
    if (row.op != node.op) continue;
    if (const Factory make = real ? row.real : row.integer) return make(request);
  }
  throw Error(ErrorKind::unsupported_operation, "node '" + node.name + "' (layer '" + node.layer + "', " +
                                                    std::string(name_of(node.op)) +
                                                    ") cannot be planned: it is not defined for " +
                                                    (real ? "float32; quantize its inputs" : "integers; dequantize its inputs"));
}

}  // namespace paretrim

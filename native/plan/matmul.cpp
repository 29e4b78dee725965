#include "plan/matmul.h"

#include <algorithm>
#include <cmath>

#include "graph/attributes.h"
#include "plan/elementwise.h"
#include "plan/layout.h"

namespace paretrim {
namespace {

std::int32_t centered(std::uint8_t value, std::int32_t zero) { return value - zero; }
float centered(float value, float) { return value; }

// A part is one row of the result in one plane. Every sum adds its terms in order.
template <typename Value, typename Sum>
class Product : public Step {
 public:
  explicit Product(const StepRequest& r)
      : first_(Layout::of(r.source(0))),
        second_(Layout::of(r.source(1))),
        out_(Layout::of(r.node.type)),
        first_zero_(static_cast<Sum>(r.source(0).zero_point)),
        second_zero_(static_cast<Sum>(r.source(1).zero_point)),
        transposed_(integer(r.node, "transposed") == 1) {
    reads = r.operands.inputs;
    writes = {r.operands.output};
  }
  std::int64_t parts() const override { return out_.blocks() * out_.height; }

  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    const std::int64_t plane = part / out_.height;
    const std::int64_t row = part % out_.height;
    const Value* left = values_at(memory, reads[0], first_, plane) + row * first_.width * lanes;
    const Value* right = values_at(memory, reads[1], second_, plane);
    Value* to = values_at(memory, writes[0], out_, plane) + row * out_.width * lanes;
    Sum sums[columns * lanes];
    for (std::int64_t column = 0; column < out_.width; column += columns) {
      const std::int64_t count = std::min(columns, out_.width - column);
      if (transposed_) {
        sum_along(left, right + column * second_.width * lanes, count, sums);
      } else {
        sum_across(left, right + column * lanes, count * lanes, sums);
      }
      store(sums, count * lanes, to + column * lanes);
    }
  }

 protected:
  virtual void store(const Sum* sums, std::int64_t count, Value* to) const = 0;

 private:
  static constexpr std::int64_t lanes = values_per_pixel<Value>;
  static constexpr std::int64_t columns = 64;  // computed at once

  static Value* values_at(const Memory& memory, Buffer buffer, const Layout& layout, std::int64_t plane) {
    if constexpr (lanes == 1) {
      return memory.floats_at(buffer) + plane * layout.pitch() / block;
    } else {
      return memory.at(buffer) + plane * layout.pitch();
    }
  }

  // Not transposed: adds rows of the second operand, each scaled by one value of the first.
  void sum_across(const Value* left, const Value* right, std::int64_t count, Sum* sums) const {
    std::fill_n(sums, count, Sum{});
    for (std::int64_t k = 0; k < first_.width; ++k, left += lanes, right += second_.width * lanes) {
      Sum factor[lanes];
      for (std::int64_t c = 0; c < lanes; ++c) factor[c] = centered(left[c], first_zero_);
      for (std::int64_t i = 0; i < count; i += lanes) {
        for (std::int64_t c = 0; c < lanes; ++c) sums[i + c] += factor[c] * centered(right[i + c], second_zero_);
      }
    }
  }

  // Transposed: dot products of the first operand's row with rows of the second.
  void sum_along(const Value* left, const Value* right, std::int64_t count, Sum* sums) const {
    for (std::int64_t column = 0; column < count; ++column, right += second_.width * lanes) {
      Sum sum[lanes] = {};
      for (std::int64_t k = 0; k < first_.width * lanes; k += lanes) {
        for (std::int64_t c = 0; c < lanes; ++c) {
          sum[c] += centered(left[k + c], first_zero_) * centered(right[k + c], second_zero_);
        }
      }
      std::copy_n(sum, lanes, sums + column * lanes);
    }
  }

  const Layout first_;
  const Layout second_;
  const Layout out_;
  const Sum first_zero_;
  const Sum second_zero_;
  const bool transposed_;
};

class IntegerProduct final : public Product<std::uint8_t, std::int32_t> {
 public:
  explicit IntegerProduct(const StepRequest& r)
      : Product(r),
        multiplier_(ratio(r.source(0).scale * r.source(1).scale, r.node.type.scale, r.node)),
        to_(requantization_of(r.node)) {}

 protected:
  void store(const std::int32_t* sums, std::int64_t count, std::uint8_t* to) const override {
    const Requantization onto = to_;  // copies, because a store through `to` might change what `this` holds
    const float multiplier = multiplier_;
    for (std::int64_t i = 0; i < count; ++i) to[i] = onto_grid(static_cast<float>(sums[i]) * multiplier, onto);
  }

 private:
  const float multiplier_;
  const Requantization to_;
};

class FloatProduct final : public Product<float, float> {
 public:
  using Product::Product;

 protected:
  void store(const float* sums, std::int64_t count, float* to) const override { std::copy_n(sums, count, to); }
};

}  // namespace

std::unique_ptr<Step> matmul_step(const StepRequest& request) { return std::make_unique<IntegerProduct>(request); }

std::unique_ptr<Step> float_matmul_step(const StepRequest& request) { return std::make_unique<FloatProduct>(request); }

}  // namespace paretrim

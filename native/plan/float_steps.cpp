#include "plan/float_steps.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "graph/attributes.h"
#include "graph/functions.h"
#include "plan/layout.h"

namespace paretrim {
namespace {

// Base of steps that process one plane of a float32 value per part. A value of one pixel is processed as one run.
class FloatPlanes : public Step {
 public:
  FloatPlanes(const ValueType& type, const Operands& operands) : layout_(Layout::of(type)) {
    reads = operands.inputs;
    writes = {operands.output};
  }
  std::int64_t parts() const override { return layout_.pixels() == 1 ? 1 : layout_.blocks(); }

 protected:
  std::int64_t count() const { return layout_.pixels() == 1 ? layout_.blocks() : layout_.pixels(); }
  std::int64_t start(std::int64_t part) const { return part * layout_.pitch() / block; }
  const float* in(std::size_t which, std::int64_t part, const Memory& memory) const {
    return memory.floats_at(reads[which]) + start(part);
  }
  float* out(std::int64_t part, const Memory& memory) const { return memory.floats_at(writes[0]) + start(part); }

  const Layout layout_;
};

// Applies of(value, channel) to every value.
template <typename Of>
class FloatFunction final : public FloatPlanes {
 public:
  FloatFunction(const ValueType& type, const Operands& operands, Of of) : FloatPlanes(type, operands), of_(std::move(of)) {}
  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    const float* from = in(0, part, memory);
    float* to = out(part, memory);
    if (layout_.pixels() == 1) {
      for (std::int64_t i = 0; i < count(); ++i) to[i] = of_(from[i], static_cast<std::size_t>(i));
    } else {
      for (std::int64_t i = 0; i < count(); ++i) to[i] = of_(from[i], static_cast<std::size_t>(part));
    }
  }

 private:
  const Of of_;
};

template <typename Of>
std::unique_ptr<Step> each(const ValueType& type, const Operands& operands, Of of) {
  return std::make_unique<FloatFunction<Of>>(type, operands, std::move(of));
}

class FloatSum final : public FloatPlanes {
 public:
  using FloatPlanes::FloatPlanes;
  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    const float* a = in(0, part, memory);
    const float* b = in(1, part, memory);
    float* to = out(part, memory);
    for (std::int64_t i = 0; i < count(); ++i) to[i] = a[i] + b[i];
  }
};

// If one operand is a single pixel and the other is not, the pixel is broadcast over the other's pixels.
class FloatProduct final : public FloatPlanes {
 public:
  FloatProduct(const ValueType& type, const Operands& operands, bool broadcast)
      : FloatPlanes(type, operands), broadcast_(broadcast) {}
  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    const float* a = in(0, part, memory);
    float* to = out(part, memory);
    if (broadcast_) {
      const float factor = memory.floats_at(reads[1])[part];
      for (std::int64_t i = 0; i < count(); ++i) to[i] = a[i] * factor;
      return;
    }
    const float* b = in(1, part, memory);
    for (std::int64_t i = 0; i < count(); ++i) to[i] = a[i] * b[i];
  }

 private:
  const bool broadcast_;
};

// Normalises uint8 pixels [C][H][W] and converts them to planes.
class Normalization final : public FloatPlanes {
 public:
  Normalization(const InputSpec& input, const ValueType& type, const Operands& operands)
      : FloatPlanes(type, operands), table_(pixel_values(input)) {}
  std::int64_t parts() const override { return layout_.blocks(); }
  void run(std::int64_t channel, const Memory& memory, Scratch&) const override {
    const std::uint8_t* pixels = memory.images + channel * layout_.pixels();
    const float* table = table_.data() + channel * 256;
    float* to = out(channel, memory);
    for (std::int64_t p = 0; p < layout_.pixels(); ++p) to[p] = table[pixels[p]];
  }

 private:
  const std::vector<float> table_;
};

class ImageLoad final : public FloatPlanes {
 public:
  using FloatPlanes::FloatPlanes;
  std::int64_t parts() const override { return layout_.blocks(); }
  void run(std::int64_t channel, const Memory& memory, Scratch&) const override {
    const auto bytes = static_cast<std::size_t>(layout_.pixels()) * sizeof(float);
    std::memcpy(out(channel, memory), memory.images + channel * static_cast<std::int64_t>(bytes), bytes);
  }
};

class MapStore final : public FloatPlanes {
 public:
  using FloatPlanes::FloatPlanes;
  std::int64_t parts() const override { return layout_.blocks(); }
  void run(std::int64_t channel, const Memory& memory, Scratch&) const override {
    const std::int64_t pixels = layout_.pixels();
    std::copy_n(memory.floats_at(reads[0]) + start(channel), pixels, memory.floats_at(writes[0]) + channel * pixels);
  }
};

// Base of conversions between a quantized value and a float32 value of the same shape; one channel per part.
class GridConversion : public FloatPlanes {
 public:
  GridConversion(const ValueType& grid, const ValueType& real, const Operands& operands)
      : FloatPlanes(real, operands), grid_(grid), bytes_(Layout::of(grid)) {}
  std::int64_t parts() const override { return layout_.blocks(); }

 protected:
  const ValueType grid_;
  const Layout bytes_;
};

class ValueQuantization final : public GridConversion {
 public:
  using GridConversion::GridConversion;
  void run(std::int64_t channel, const Memory& memory, Scratch&) const override {
    const float* from = in(0, channel, memory);
    std::uint8_t* to = memory.at(writes[0]) + bytes_.at(channel, 0);
    for (std::int64_t p = 0; p < layout_.pixels(); ++p) {
      const float steps = std::rint(from[p] / grid_.scale) + static_cast<float>(grid_.zero_point);
      to[p * block] =
          steps > 0.0F ? static_cast<std::uint8_t>(steps < 255.0F ? steps : 255.0F) : std::uint8_t{0};  // NaN becomes 0
    }
  }
};

class Dequantization final : public GridConversion {
 public:
  using GridConversion::GridConversion;
  void run(std::int64_t channel, const Memory& memory, Scratch&) const override {
    const std::uint8_t* from = memory.at(reads[0]) + bytes_.at(channel, 0);
    float* to = out(channel, memory);
    for (std::int64_t p = 0; p < layout_.pixels(); ++p) {
      to[p] = static_cast<float>(from[p * block] - grid_.zero_point) * grid_.scale;
    }
  }
};

}  // namespace

std::unique_ptr<Step> normalize_step(const StepRequest& r) {
  return std::make_unique<Normalization>(r.graph.input, r.node.type, r.operands);
}

std::unique_ptr<Step> quantize_values_step(const StepRequest& r) {
  return std::make_unique<ValueQuantization>(r.node.type, r.source(), r.operands);
}

std::unique_ptr<Step> dequantize_step(const StepRequest& r) {
  return std::make_unique<Dequantization>(r.source(), r.node.type, r.operands);
}

std::unique_ptr<Step> float_affine_step(const StepRequest& r) {
  const auto values = [&](std::string_view name) { return r.node.tensors.find(name)->second.as<float>(); };
  const double epsilon = number(r.node, "epsilon").value_or(0);
  std::vector<float> factors, shifts;
  for (std::int64_t c = 0; c < r.node.type.shape[0]; ++c) {
    const double factor = values("gamma")[c] / std::sqrt(values("variance")[c] + epsilon);
    factors.push_back(static_cast<float>(factor));
    shifts.push_back(static_cast<float>(values("beta")[c] - values("mean")[c] * factor));
  }
  return each(r.node.type, r.operands, [factors, shifts](float value, std::size_t c) { return value * factors[c] + shifts[c]; });
}

std::unique_ptr<Step> float_range_step(const StepRequest& r) {
  return each(r.node.type, r.operands, [range = range_of(r.node)](float value, std::size_t) {
    return (value > range.low ? value < range.high ? value : range.high : range.low) + 0.0F;
  });
}

std::unique_ptr<Step> float_function_step(const StepRequest& r) {
  return each(r.node.type, r.operands,
              [function = function_of(r.node)](float value, std::size_t) { return static_cast<float>(function(value)) + 0.0F; });
}

std::unique_ptr<Step> float_sum_step(const StepRequest& r) { return std::make_unique<FloatSum>(r.node.type, r.operands); }

std::unique_ptr<Step> float_product_step(const StepRequest& r) {
  const std::int64_t first = Layout::of(r.source(0)).pixels();
  const std::int64_t second = Layout::of(r.source(1)).pixels();
  const std::int64_t all = Layout::of(r.node.type).pixels();
  Operands operands = r.operands;
  if (first < all) std::swap(operands.inputs[0], operands.inputs[1]);  // the product commutes
  return std::make_unique<FloatProduct>(r.node.type, operands, std::min(first, second) < all);
}

std::unique_ptr<Step> float_flatten_step(const StepRequest& r) {
  return store_map_step(r.source(), r.operands.inputs[0], r.operands.output);
}

std::unique_ptr<Step> load_images_step(const ValueType& type, Buffer out) {
  return std::make_unique<ImageLoad>(type, Operands{{images_buffer}, out});
}

std::unique_ptr<Step> store_map_step(const ValueType& type, Buffer in, Buffer out) {
  return std::make_unique<MapStore>(type, Operands{{in}, out});
}

}  // namespace paretrim

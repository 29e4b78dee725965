#include "plan/elementwise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "graph/attributes.h"
#include "types/error.h"

namespace paretrim {
namespace {

// Base of steps that process one plane per part.
class Planes : public Step {
 public:
  Planes(const Layout& layout, std::vector<Buffer> from, Buffer to) : layout_(layout), to_(to) {
    reads = std::move(from);
    writes = {to};
  }
  std::int64_t parts() const override { return layout_.pixels() == 1 ? 1 : layout_.blocks(); }

 protected:
  // A value of one pixel is processed as one run of bytes.
  std::int64_t start(std::int64_t part) const { return part * layout_.pitch(); }
  std::int64_t count() const { return layout_.pixels() == 1 ? layout_.blocks() * block : layout_.pixels() * block; }

  const Layout layout_;
  const Buffer to_;
};

class Add final : public Planes {
 public:
  Add(const Addition& by, const Layout& layout, const Operands& operands, const Kernels& kernels)
      : Planes(layout, operands.inputs, operands.output), by_(by), kernels_(kernels) {}
  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    kernels_.add(memory.at(reads[0]) + start(part), memory.at(reads[1]) + start(part), count(), by_,
                 memory.at(to_) + start(part));
  }

 private:
  const Addition by_;
  const Kernels& kernels_;
};

class Multiplication final : public Planes {
 public:
  Multiplication(const Layout& layout, bool broadcast, std::int32_t zero_a, std::int32_t zero_b, float multiplier,
                 const Requantization& to, Buffer a, Buffer b, Buffer out, const Kernels& kernels)
      : Planes(layout, {a, b}, out),
        broadcast_(broadcast),
        zero_a_(zero_a),
        zero_b_(zero_b),
        multiplier_(multiplier),
        requantization_(to),
        kernels_(kernels) {}

  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    const std::uint8_t* a = memory.at(reads[0]) + start(part);
    const std::uint8_t* b = memory.at(reads[1]) + (broadcast_ ? part * block : start(part));
    const auto kernel = broadcast_ ? kernels_.multiply_pixel : kernels_.multiply;
    kernel(a, zero_a_, b, zero_b_, count(), multiplier_, requantization_, memory.at(to_) + start(part));
  }

 private:
  const bool broadcast_;
  const std::int32_t zero_a_;
  const std::int32_t zero_b_;
  const float multiplier_;
  const Requantization requantization_;
  const Kernels& kernels_;
};

class Affine final : public Planes {
 public:
  Affine(const Layout& layout, const Node& node, std::int32_t zero, Buffer in, Buffer out, const Kernels& kernels)
      : Planes(layout, {in}, out), zero_(zero), requantization_(requantization_of(node)), kernels_(kernels) {
    const auto padded = static_cast<std::size_t>(layout.blocks() * block);
    const float* multiplier = node.tensors.find("multiplier")->second.as<float>();
    const float* offset = node.tensors.find("offset")->second.as<float>();
    multipliers_.assign(multiplier, multiplier + layout.channels);
    offsets_.assign(offset, offset + layout.channels);
    multipliers_.resize(padded, 0.0F);
    offsets_.resize(padded, 0.0F);
  }
  std::int64_t parts() const override { return layout_.blocks(); }

  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    kernels_.affine(memory.at(reads[0]) + start(part), zero_, layout_.pixels() * block, multipliers_.data() + part * block,
                    offsets_.data() + part * block, requantization_, memory.at(to_) + start(part));
  }

 private:
  const std::int32_t zero_;
  const Requantization requantization_;
  std::vector<float> multipliers_;
  std::vector<float> offsets_;
  const Kernels& kernels_;
};

class Table final : public Planes {
 public:
  Table(std::vector<std::uint8_t> table, const Layout& layout, Buffer in, Buffer out, const Kernels& kernels)
      : Planes(layout, {in}, out), table_(std::move(table)), kernels_(kernels) {}
  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    kernels_.look_up(memory.at(reads[0]) + start(part), count(), table_.data(), memory.at(to_) + start(part));
  }

 private:
  const std::vector<std::uint8_t> table_;  // 256
  const Kernels& kernels_;
};

// Converts uint8 pixels [C][H][W] to planes and quantizes them with the table.
class PixelQuantization final : public Planes {
 public:
  PixelQuantization(const Layout& layout, const Tensor& table, Buffer out, const Kernels& kernels)
      : Planes(layout, {images_buffer}, out), table_(table.bytes.begin(), table.bytes.end()), kernels_(kernels) {
    table_.resize(static_cast<std::size_t>(layout.blocks() * block * 256), 0);
  }
  std::int64_t parts() const override { return layout_.blocks() * parts_per_plane(); }

  void run(std::int64_t part, const Memory& memory, Scratch& scratch) const override {
    constexpr std::int64_t room = sizeof scratch.bytes / block;  // pixels
    const std::int64_t plane = part / parts_per_plane();
    const std::int64_t first = part % parts_per_plane() * rows * layout_.width;
    const std::int64_t last = std::min(first + rows * layout_.width, layout_.pixels());
    const std::int64_t channels = std::min<std::int64_t>(block, layout_.channels - plane * block);
    const std::uint8_t* in = memory.images + plane * block * layout_.pixels();
    const std::uint8_t* table = table_.data() + plane * block * 256;
    std::uint8_t* out = memory.at(to_) + start(plane);
    std::memset(scratch.bytes + channels * room, 0, static_cast<std::size_t>((block - channels) * room));
    for (std::int64_t pixel = first; pixel < last; pixel += room) {
      const std::int64_t here = std::min(room, last - pixel);
      for (std::int64_t c = 0; c < channels; ++c) {
        kernels_.look_up(in + c * layout_.pixels() + pixel, here, table + c * 256, scratch.bytes + c * room);
      }
      kernels_.interleave(scratch.bytes, room, here, out + pixel * block);
    }
  }

 private:
  static constexpr std::int64_t rows = 8;  // per part
  std::int64_t parts_per_plane() const { return (layout_.height + rows - 1) / rows; }

  std::vector<std::uint8_t> table_;  // [channels, rounded up][256]
  const Kernels& kernels_;
};

// Quantizes float32 [C][H][W] and converts it to planes. Network::run has refused NaN already.
class FloatImageQuantization final : public Planes {
 public:
  FloatImageQuantization(const Node& node, Buffer out)
      : Planes(Layout::of(node.type.shape), {images_buffer}, out), scale_(node.type.scale), grid_{node.type.zero_point} {}
  std::int64_t parts() const override { return layout_.channels; }
  void run(std::int64_t channel, const Memory& memory, Scratch&) const override {
    const std::int64_t pixels = layout_.pixels();
    const float* in = reinterpret_cast<const float*>(memory.images) + channel * pixels;
    std::uint8_t* out = memory.at(to_) + layout_.at(channel, 0);
    const Requantization grid = grid_;  // copies, because a store through `out` might change what `this` holds
    const float scale = scale_;
    for (std::int64_t p = 0; p < pixels; ++p) out[p * block] = onto_grid(in[p] / scale, grid);
  }

 private:
  const float scale_;
  const Requantization grid_;
};

}  // namespace

float ratio(float numerator, float denominator, const Node& node) {
  const float result = numerator / denominator;
  if (!std::isfinite(result)) {
    throw Error(ErrorKind::corrupt_file, "node '" + node.name + "' (layer '" + node.layer + "'): the scales " +
                                             std::to_string(numerator) + " and " + std::to_string(denominator) +
                                             " have no finite ratio in float32; use grids with closer scales");
  }
  return result;
}

Requantization requantization_of(const Node& node) {
  return {node.type.zero_point, static_cast<std::int32_t>(integer(node, "lo")), static_cast<std::int32_t>(integer(node, "hi"))};
}

Addition addition_of(const Node& node, const ValueType& first, const ValueType& second) {
  Addition by;
  by.first = ratio(first.scale, node.type.scale, node);
  by.second = ratio(second.scale, node.type.scale, node);
  const double zeros = static_cast<double>(by.first) * first.zero_point + static_cast<double>(by.second) * second.zero_point;
  // Otherwise terms may be infinite, and a sum may be infinity minus infinity.
  if (!std::isfinite(255.0F * by.first + 255.0F * by.second)) {
    throw Error(ErrorKind::corrupt_file, "node '" + node.name + "' (layer '" + node.layer + "'): the scales " +
                                             digits_of(first.scale) + " and " + digits_of(second.scale) +
                                             " overflow float32 on the grid of scale " + digits_of(node.type.scale) +
                                             "; give it a coarser grid");
  }
  by.constant = static_cast<float>(node.type.zero_point - zeros);
  by.low = static_cast<std::int32_t>(integer(node, "lo"));
  by.high = static_cast<std::int32_t>(integer(node, "hi"));
  return by;
}

std::unique_ptr<Step> add_step(const Addition& by, const Layout& layout, const Operands& operands, const Kernels& kernels) {
  return std::make_unique<Add>(by, layout, operands, kernels);
}

std::unique_ptr<Step> multiply_step(const Node& node, const ValueType& a_type, const ValueType& b_type, const Operands& operands,
                                    const Kernels& kernels) {
  const Buffer a = operands.inputs[0];
  const Buffer b = operands.inputs[1];
  const Buffer out = operands.output;
  const Layout layout = Layout::of(node.type.shape);
  const float multiplier = ratio(a_type.scale * b_type.scale, node.type.scale, node);
  // The product commutes, so the broadcast operand can always be the second.
  const bool swapped = Layout::of(a_type.shape).pixels() < layout.pixels();
  const bool broadcast = swapped || Layout::of(b_type.shape).pixels() < layout.pixels();
  const ValueType& whole = swapped ? b_type : a_type;
  const ValueType& factor = swapped ? a_type : b_type;
  return std::make_unique<Multiplication>(layout, broadcast, whole.zero_point, factor.zero_point, multiplier,
                                          requantization_of(node), swapped ? b : a, swapped ? a : b, out, kernels);
}

std::unique_ptr<Step> affine_step(const Node& node, const ValueType& source, Buffer in, Buffer out, const Kernels& kernels) {
  return std::make_unique<Affine>(Layout::of(node.type.shape), node, source.zero_point, in, out, kernels);
}

std::unique_ptr<Step> table_step(std::vector<std::uint8_t> table, const Layout& layout, Buffer in, Buffer out,
                                 const Kernels& kernels) {
  return std::make_unique<Table>(std::move(table), layout, in, out, kernels);
}

std::unique_ptr<Step> quantize_pixels_step(const Node& node, Buffer out, const Kernels& kernels) {
  return std::make_unique<PixelQuantization>(Layout::of(node.type.shape), node.tensors.find("table")->second, out, kernels);
}

std::unique_ptr<Step> quantize_float_images_step(const Node& node, Buffer out) {
  return std::make_unique<FloatImageQuantization>(node, out);
}

}  // namespace paretrim

#include "plan/float_pixel.h"

#include <algorithm>
#include <cstring>

#include "types/aligned.h"

namespace paretrim {
namespace {

constexpr std::int64_t outputs_per_part = max_rows * max_lanes;

// Base of the dense and sparse steps: splits the outputs into parts, provides their input and finishes the sums.
class FloatPixel : public Step {
 public:
  FloatPixel(const WeightedLayer& layer, const View& view, const Operands& operands, const Kernels& kernels)
      : kernels_(kernels),
        outputs_(layer.outputs()),
        bias_(static_cast<std::size_t>(rounded_up(layer.outputs(), outputs_per_part))),
        low_(layer.low),
        high_(layer.high),
        adds_(layer.addition.has_value()),
        operands_(operands) {
    if (layer.float_bias != nullptr) std::copy_n(layer.float_bias, outputs_, bias_.data());
    reads = operands.inputs;
    writes = {operands.output};
    if (view.kind != ViewKind::in_place) copier_ = copier_of(view, layer.geometry, 0, kernels);
  }

  std::int64_t parts() const final { return (outputs_ + outputs_per_part - 1) / outputs_per_part; }

  void run(std::int64_t part, const Memory& memory, Scratch& scratch) const final {
    alignas(alignment) float sums[outputs_per_part] = {};
    alignas(alignment) float other[outputs_per_part] = {};
    const std::int64_t first = part * outputs_per_part;
    const std::int64_t count = std::min(outputs_per_part, outputs_ - first);
    sum(part, first, count, activations(memory, scratch), sums);
    // Via local arrays, because the caller's memory may not hold whole registers.
    const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
    if (adds_) std::memcpy(other, memory.floats_at(operands_.inputs[1]) + first, bytes);
    kernels_.finish_floats(sums, adds_ ? other : nullptr, outputs_per_part, low_, high_, sums);
    std::memcpy(memory.floats_at(operands_.output) + first, sums, bytes);
  }

 protected:
  virtual void sum(std::int64_t part, std::int64_t first, std::int64_t count, const std::uint8_t* in, float* sums) const = 0;

  const Kernels& kernels_;
  const std::int64_t outputs_;
  AlignedArray<float> bias_;

 private:
  const std::uint8_t* activations(const Memory& memory, Scratch& scratch) const {
    const auto* in = reinterpret_cast<const std::uint8_t*>(memory.floats_at(operands_.inputs[0]));
    if (!copier_) return in;
    if (scratch.copied_for != this) {
      copier_->make(in, 0, scratch.copies);
      scratch.copied_for = this;
      scratch.copied_slice = scratch.copied_band = 0;
    }
    return scratch.copies;
  }

  const float low_;
  const float high_;
  const bool adds_;
  const Operands operands_;
  std::unique_ptr<Copier> copier_;  // null if the view is in place
};

class DenseFloatPixel final : public FloatPixel {
 public:
  DenseFloatPixel(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const View& view, const Operands& operands,
                  const Kernels& kernels)
      : FloatPixel(layer, view, operands, kernels) {
    BlockOrder order(view, nonzero, kernels);
    const std::size_t parts = static_cast<std::size_t>((outputs_ + outputs_per_part - 1) / outputs_per_part);
    // Allocated at the upper bound and filled in place, because layers may have hundreds of megabytes and copies are slow.
    const std::size_t most = std::min(nonzero.keys() * parts, nonzero.size());  // offsets
    weights_ = AlignedArray<float>(
        std::min(nonzero.keys() * static_cast<std::size_t>(rounded_up(outputs_, max_lanes)), nonzero.size() * outputs_per_part));
    offsets_.reserve(most);
    std::size_t filled = 0;
    for (std::int64_t first = 0; first < outputs_; first += outputs_per_part) {
      const std::int64_t rows = rows_of(first);
      const auto lanes = static_cast<std::size_t>(rows * max_lanes);
      pieces_.push_back({offsets_.size(), filled, rows});
      order.each(nonzero, static_cast<std::size_t>(first), lanes, [&](std::size_t rank, const std::uint32_t* words) {
        offsets_.push_back(order.offset(rank));
        std::memcpy(weights_.data() + filled, words, lanes * sizeof(float));
        filled += lanes;
      });
    }
    pieces_.push_back({offsets_.size(), filled, 0});
    if (filled == weights_.size()) return;
    AlignedArray<float> exact(filled);  // smaller, because some inputs are not read
    std::copy_n(weights_.data(), filled, exact.data());
    weights_ = std::move(exact);
  }

  void sum(std::int64_t part, std::int64_t first, std::int64_t, const std::uint8_t* in, float* sums) const override {
    const Piece& piece = pieces_[static_cast<std::size_t>(part)];
    const auto count = static_cast<std::int64_t>(pieces_[static_cast<std::size_t>(part) + 1].offset - piece.offset);
    kernels_.float_rows[piece.rows](in, offsets_.data() + piece.offset, count, weights_.data() + piece.weight,
                                    bias_.data() + first, sums);
  }

  double bytes() const { return static_cast<double>(weights_.size() + offsets_.size()) * sizeof(float); }
  double issued() const { return static_cast<double>(weights_.size()); }

 private:
  struct Piece {
    std::size_t offset;  // index of its first offset
    std::size_t weight;  // index of its first weight
    std::int64_t rows;
  };
  std::int64_t rows_of(std::int64_t first) const {
    return (std::min(outputs_per_part, outputs_ - first) + max_lanes - 1) / max_lanes;
  }

  std::vector<Piece> pieces_;  // by part, followed by an end
  std::vector<std::uint32_t> offsets_;
  AlignedArray<float> weights_;
};

class SparseFloatPixel final : public FloatPixel {
 public:
  SparseFloatPixel(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const View& view, const Operands& operands,
                   const Kernels& kernels)
      : FloatPixel(layer, view, operands, kernels), bits_(initial_sums(layer)) {
    append_entries(view, nonzero, kernels, entries_, starts_);
  }

  // Computes one register of pixels for each output and uses only its first. Reading past the input is fine: in the arena, slack
  // follows it.
  void sum(std::int64_t, std::int64_t first, std::int64_t count, const std::uint8_t* in, float* sums) const override {
    alignas(alignment) std::int32_t wide[outputs_per_part * max_lanes];
    kernels_.float_sparse[1](in, entries_.data(), starts_.data() + first, static_cast<int>(count), bits_.data() + first, wide);
    for (std::int64_t o = 0; o < count; ++o) std::memcpy(sums + o, wide + o * kernels_.lanes, sizeof(float));
  }

  double bytes() const { return static_cast<double>(entries_.size() * sizeof(Entry)); }
  double issued() const { return static_cast<double>(entries_.size()) * kernels_.lanes; }

 private:
  Room<Entry> entries_;
  std::vector<std::int64_t> starts_;
  const std::vector<std::int32_t> bits_;  // of the bias
};

template <typename PixelStep>
std::unique_ptr<Step> with_costs(std::unique_ptr<PixelStep> step, Computation& costs) {
  costs.weight_bytes = static_cast<std::int64_t>(step->bytes());
  costs.issued_multiply_adds = step->issued();
  return step;
}

}  // namespace

std::unique_ptr<Step> float_pixel_step(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const View& view, bool dense,
                                       const Operands& operands, const Kernels& kernels, Computation& costs) {
  if (dense) return with_costs(std::make_unique<DenseFloatPixel>(layer, nonzero, view, operands, kernels), costs);
  return with_costs(std::make_unique<SparseFloatPixel>(layer, nonzero, view, operands, kernels), costs);
}

}  // namespace paretrim

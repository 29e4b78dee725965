#include "plan/float_pixel.h"

#include <algorithm>
#include <cstring>

#include "types/aligned.h"

namespace paretrim {
namespace {

constexpr std::int64_t outputs_of_a_part = most_rows * most_lanes;

// The common part of both ways: parts of outputs, what they read, and the handling of finished sums.
class FloatPixel : public Step {
 public:
  FloatPixel(const WeightedLayer& layer, const View& view, const Operands& operands, const Kernels& kernels)
      : kernels_(kernels),
        outputs_(layer.outputs()),
        bias_(static_cast<std::size_t>(rounded_up(layer.outputs(), outputs_of_a_part))),
        low_(layer.low),
        high_(layer.high),
        adds_(layer.addition.has_value()),
        operands_(operands) {
    if (layer.float_bias != nullptr) std::copy_n(layer.float_bias, outputs_, bias_.data());
    reads = operands.inputs;
    writes = {operands.output};
    if (view.kind != ViewKind::in_place) copier_ = copier_of(view, layer.geometry, 0, kernels);
  }

  std::int64_t parts() const final { return (outputs_ + outputs_of_a_part - 1) / outputs_of_a_part; }

  void run(std::int64_t part, const Memory& memory, Scratch& scratch) const final {
    alignas(alignment) float sums[outputs_of_a_part] = {};
    alignas(alignment) float other[outputs_of_a_part] = {};
    const std::int64_t first = part * outputs_of_a_part;
    const std::int64_t count = std::min(outputs_of_a_part, outputs_ - first);
    sum(part, first, count, activations(memory, scratch), sums);
    // The caller's memory need not hold whole registers.
    const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
    if (adds_) std::memcpy(other, memory.floats_at(operands_.inputs[1]) + first, bytes);
    kernels_.finish_floats(sums, adds_ ? other : nullptr, outputs_of_a_part, low_, high_, sums);
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
  std::unique_ptr<Copier> copier_;  // none where the view is in place
};

class DenseFloatPixel final : public FloatPixel {
 public:
  DenseFloatPixel(const WeightedLayer& layer, const Survivors& survivors, const View& view, const Operands& operands,
                  const Kernels& kernels)
      : FloatPixel(layer, view, operands, kernels) {
    MemoryOrder order(view, survivors);
    const std::size_t parts = static_cast<std::size_t>((outputs_ + outputs_of_a_part - 1) / outputs_of_a_part);
    // As many as there can be, written in place: of a layer of hundreds of megabytes every copy counts.
    const std::size_t most = std::min(survivors.keys * parts, survivors.blocks.size());  // offsets
    weights_ = AlignedArray<float>(std::min(survivors.keys * static_cast<std::size_t>(rounded_up(outputs_, most_lanes)),
                                            survivors.blocks.size() * outputs_of_a_part));
    offsets_.reserve(most);
    std::size_t filled = 0;
    for (std::int64_t first = 0; first < outputs_; first += outputs_of_a_part) {
      const std::int64_t rows = rows_of(first);
      const auto lanes = static_cast<std::size_t>(rows * most_lanes);
      pieces_.push_back({offsets_.size(), filled, rows});
      for (std::size_t o = 0; o < lanes && static_cast<std::int64_t>(o) < outputs_ - first; ++o) {
        order.add(survivors, static_cast<std::size_t>(first) + o, o, lanes);
      }
      order.drain(lanes, [&](std::size_t rank, const std::uint32_t* words) {
        offsets_.push_back(order.offset(rank));
        std::memcpy(weights_.data() + filled, words, lanes * sizeof(float));
        filled += lanes;
      });
    }
    pieces_.push_back({offsets_.size(), filled, 0});
    if (filled == weights_.size()) return;
    AlignedArray<float> exact(filled);  // not all inputs are read
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
    std::size_t offset;  // the first of its offsets
    std::size_t weight;  // likewise
    std::int64_t rows;
  };
  std::int64_t rows_of(std::int64_t first) const {
    return (std::min(outputs_of_a_part, outputs_ - first) + most_lanes - 1) / most_lanes;
  }

  std::vector<Piece> pieces_;  // by part, with an end
  std::vector<std::uint32_t> offsets_;
  AlignedArray<float> weights_;
};

class SparseFloatPixel final : public FloatPixel {
 public:
  SparseFloatPixel(const WeightedLayer& layer, const Survivors& survivors, const View& view, const Operands& operands,
                   const Kernels& kernels)
      : FloatPixel(layer, view, operands, kernels), bits_(initial_sums(layer)) {
    append_entries(view, survivors, entries_, starts_);
  }

  // One register of pixels for each output, of which the first number counts: what is read lies in the arena, with room behind
  // it.
  void sum(std::int64_t, std::int64_t first, std::int64_t count, const std::uint8_t* in, float* sums) const override {
    alignas(alignment) std::int32_t wide[outputs_of_a_part * most_lanes];
    kernels_.float_sparse[1](in, entries_.data(), starts_.data() + first, static_cast<int>(count), bits_.data() + first, wide);
    for (std::int64_t o = 0; o < count; ++o) std::memcpy(sums + o, wide + o * kernels_.lanes, sizeof(float));
  }

  double bytes() const { return static_cast<double>(entries_.size() * sizeof(Entry)); }
  double issued() const { return static_cast<double>(entries_.size()) * kernels_.lanes; }

 private:
  std::vector<Entry> entries_;
  std::vector<std::int64_t> starts_;
  const std::vector<std::int32_t> bits_;  // of the bias
};

template <typename Made>
std::unique_ptr<Step> with_costs(std::unique_ptr<Made> step, Computation& costs) {
  costs.weight_bytes = static_cast<std::int64_t>(step->bytes());
  costs.issued_multiply_adds = step->issued();
  return step;
}

}  // namespace

std::unique_ptr<Step> float_pixel_step(const WeightedLayer& layer, const Survivors& survivors, const View& view, bool dense,
                                       const Operands& operands, const Kernels& kernels, Computation& costs) {
  if (dense) return with_costs(std::make_unique<DenseFloatPixel>(layer, survivors, view, operands, kernels), costs);
  return with_costs(std::make_unique<SparseFloatPixel>(layer, survivors, view, operands, kernels), costs);
}

}  // namespace paretrim

#include "plan/single_pixel.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "plan/elementwise.h"
#include "types/aligned.h"

namespace paretrim {
namespace {

constexpr std::int64_t rows_per_part = 16;

class SinglePixel final : public Step {
 public:
  SinglePixel(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const View& view, bool dense, const Operands& operands,
              const Kernels& kernels)
      : kernels_(kernels),
        outputs_(layer.geometry.out.channels),
        multipliers_(layer.multipliers),
        initial_(initial_sums(layer)),
        to_(layer.to),
        addition_(layer.addition),
        swapped_(layer.addition_swapped),
        float_result_(layer.float_result),
        operands_(operands),
        dense_(dense) {
    reads = operands.inputs;
    writes = {operands.output};
    if (view.kind != ViewKind::in_place) copier_ = copier_of(view, layer.geometry, layer.input_zero_point, kernels);
    if (dense_) {
      fill_dense(nonzero, view);
    } else {
      append_entries(view, nonzero, kernels, entries_, starts_);
    }
  }

  std::int64_t parts() const override { return (outputs_ + rows_per_part - 1) / rows_per_part; }

  void run(std::int64_t part, const Memory& memory, Scratch& scratch) const override {
    const std::uint8_t* in = activations(memory, scratch);
    const std::int64_t first = part * rows_per_part;
    const std::int64_t last = std::min(outputs_, first + rows_per_part);
    for (std::int64_t o = first; o < last; ++o) {
      const auto row = static_cast<std::size_t>(o);
      std::int32_t sum = 0;
      if (dense_) {
        const std::int32_t product = kernels_.dot(in, weights_.data() + o * row_bytes_, row_bytes_);
        sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(product) + static_cast<std::uint32_t>(initial_[row]));
      } else {
        kernels_.sparse[1](in, entries_.data(), starts_.data() + row, 1, initial_.data() + row, scratch.sums);
        sum = scratch.sums[0];
      }
      store(o, static_cast<float>(sum) * multipliers_[row], memory);
    }
    if (!addition_) return;
    std::uint8_t* own = memory.at(operands_.output) + first;
    const std::uint8_t* other = memory.at(operands_.inputs[1]) + first;
    kernels_.add(swapped_ ? other : own, swapped_ ? own : other, last - first, *addition_, own);
  }

  std::int64_t bytes() const { return static_cast<std::int64_t>(weights_.size() + entries_.size() * sizeof(Entry)); }
  double issued() const {
    return dense_ ? static_cast<double>(weights_.size()) : static_cast<double>(entries_.size()) * block * kernels_.lanes;
  }

 private:
  const std::uint8_t* activations(const Memory& memory, Scratch& scratch) const {
    const std::uint8_t* in = memory.at(operands_.inputs[0]);
    if (!copier_) return in;
    if (scratch.copied_for != this) {
      copier_->make(in, 0, scratch.copies);
      scratch.copied_for = this;
    }
    return scratch.copies;
  }

  void fill_dense(const NonzeroBlocks& nonzero, const View& view) {
    // Weights have the order of the view's bytes, with zeros for the gaps between its pixels.
    std::int64_t reach = block;
    for (std::size_t position = 0; position < view.copy_of.size(); ++position) {
      const std::int64_t last = view.geometry.in.blocks() - 1;
      reach = std::max(reach, view.offset(static_cast<std::int64_t>(position), last) + block);
    }
    row_bytes_ = rounded_up(reach, alignment);
    weights_ = AlignedArray<std::int8_t>(static_cast<std::size_t>(row_bytes_ * outputs_));
    Room<Block> room;
    const auto planes = static_cast<std::int64_t>(nonzero.planes());
    for (std::size_t o = 0; o < nonzero.channels(); ++o) {
      std::int8_t* row = weights_.data() + static_cast<std::int64_t>(o) * row_bytes_;
      for (const Block& one : nonzero.of(o, room)) {
        const auto key = static_cast<std::int64_t>(one.key);
        std::memcpy(row + view.offset(key / planes, key % planes), &one.word, block);
      }
    }
  }

  void store(std::int64_t o, float scaled, const Memory& memory) const {
    if (float_result_) {
      memory.floats_at(operands_.output)[o] = scaled;
      return;
    }
    memory.at(operands_.output)[o] = onto_grid(scaled, to_);
  }

  const Kernels& kernels_;
  const std::int64_t outputs_;
  const std::vector<float> multipliers_;
  const std::vector<std::int32_t> initial_;
  const Requantization to_;
  const std::optional<Addition> addition_;
  const bool swapped_;
  const bool float_result_;
  const Operands operands_;
  const bool dense_;
  std::unique_ptr<Copier> copier_;  // null if the view is in place
  std::int64_t row_bytes_ = 0;
  AlignedArray<std::int8_t> weights_;
  Room<Entry> entries_;
  std::vector<std::int64_t> starts_;
};

}  // namespace

std::unique_ptr<Step> single_pixel_step(const WeightedLayer& layer, const NonzeroBlocks& nonzero, const View& view, bool dense,
                                        const Operands& operands, const Kernels& kernels, Computation& costs) {
  auto step = std::make_unique<SinglePixel>(layer, nonzero, view, dense, operands, kernels);
  costs.weight_bytes = step->bytes();
  costs.issued_multiply_adds = step->issued();
  return step;
}

}  // namespace paretrim

#include "plan/pixel_shuffle.h"

#include <algorithm>

#include "graph/attributes.h"
#include "plan/layout.h"

namespace paretrim {
namespace {

// The first value of a row of one channel; the next ones follow at a distance of values_per_pixel.
template <typename Value>
Value* row_of(const Memory& memory, Buffer buffer, const Layout& layout, std::int64_t channel, std::int64_t row) {
  constexpr std::int64_t lanes = values_per_pixel<Value>;
  const std::int64_t place = row * layout.width * lanes + channel % lanes;
  if constexpr (lanes == 1) {
    return memory.floats_at(buffer) + channel * layout.pitch() / block + place;
  } else {
    return memory.at(buffer) + channel / lanes * layout.pitch() + place;
  }
}

// Pixel shuffle if `spreads`, else pixel unshuffle. Pixel (y * r + i, x * s + j) of channel c on the larger map is pixel (y, x)
// of channel (c * r + i) * s + j on the smaller one. A part is one row of the result in one plane.
template <typename Value, bool spreads>
class PixelShuffle final : public Step {
 public:
  explicit PixelShuffle(const StepRequest& r)
      : in_(Layout::of(r.source())),
        out_(Layout::of(r.node.type)),
        channels_(r.node.type.shape[0]),
        factor_(pair(r.node, "factor")) {
    reads = r.operands.inputs;
    writes = {r.operands.output};
  }
  std::int64_t parts() const override { return out_.blocks() * out_.height; }

  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    const std::int64_t first = part / out_.height * lanes;
    const std::int64_t row = part % out_.height;
    const std::int64_t end = std::min(first + lanes, channels_);
    for (std::int64_t channel = first; channel < end; ++channel) {
      Value* to = row_of<Value>(memory, writes[0], out_, channel, row);
      if constexpr (spreads) {
        spread(channel, row, memory, to);
      } else {
        gather(channel, row, memory, to);
      }
    }
  }

 private:
  static constexpr std::int64_t lanes = values_per_pixel<Value>;

  void spread(std::int64_t channel, std::int64_t row, const Memory& memory, Value* to) const {
    const std::int64_t above = (channel * factor_.vertical + row % factor_.vertical) * factor_.horizontal;
    for (std::int64_t j = 0; j < factor_.horizontal; ++j) {
      const Value* from = row_of<Value>(memory, reads[0], in_, above + j, row / factor_.vertical);
      for (std::int64_t x = 0; x < in_.width; ++x) to[(x * factor_.horizontal + j) * lanes] = from[x * lanes];
    }
  }

  void gather(std::int64_t channel, std::int64_t row, const Memory& memory, Value* to) const {
    const std::int64_t above = channel / factor_.horizontal;
    const std::int64_t source_row = row * factor_.vertical + above % factor_.vertical;
    const Value* from = row_of<Value>(memory, reads[0], in_, above / factor_.vertical, source_row);
    from += channel % factor_.horizontal * lanes;
    for (std::int64_t x = 0; x < out_.width; ++x) to[x * lanes] = from[x * factor_.horizontal * lanes];
  }

  const Layout in_;
  const Layout out_;
  const std::int64_t channels_;
  const Pair factor_;
};

}  // namespace

std::unique_ptr<Step> pixel_shuffle_step(const StepRequest& request) {
  return std::make_unique<PixelShuffle<std::uint8_t, true>>(request);
}

std::unique_ptr<Step> float_pixel_shuffle_step(const StepRequest& request) {
  return std::make_unique<PixelShuffle<float, true>>(request);
}

std::unique_ptr<Step> pixel_unshuffle_step(const StepRequest& request) {
  return std::make_unique<PixelShuffle<std::uint8_t, false>>(request);
}

std::unique_ptr<Step> float_pixel_unshuffle_step(const StepRequest& request) {
  return std::make_unique<PixelShuffle<float, false>>(request);
}

}  // namespace paretrim

#include "plan/windows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "graph/attributes.h"
#include "plan/elementwise.h"
#include "plan/picks.h"
#include "plan/spans.h"

namespace paretrim {
namespace {

struct SlidingWindow {
  Layout in;
  Layout out;
  Pair window;
  Pair stride;
  Pair dilation;
  Edges padding;

  // The input pixel at one position of an output pixel's window, or -1 if it is padding.
  std::int64_t source(std::int64_t pixel, std::int64_t place) const {
    const std::int64_t y = pixel / out.width * stride.vertical + place / window.horizontal * dilation.vertical - padding.top;
    const std::int64_t x = pixel % out.width * stride.horizontal + place % window.horizontal * dilation.horizontal - padding.left;
    return y >= 0 && y < in.height && x >= 0 && x < in.width ? y * in.width + x : -1;
  }
};

// For small maps: each register is the maximum of the pixels that picks gather for every position of the window.
class GatherMaxPool final : public Step {
 public:
  GatherMaxPool(const SlidingWindow& sliding, Buffer in, Buffer out, const Kernels& kernels)
      : sliding_(sliding), kernels_(kernels) {
    reads = {in};
    writes = {out};
    const std::int64_t pixels = sliding.out.pixels();
    for (std::int64_t first = 0; first < pixels; first += kernels.lanes) {
      for (std::int64_t place = 0; place < places(sliding); ++place) {
        std::vector<std::int64_t> sources(static_cast<std::size_t>(kernels.lanes), -1);
        for (std::int64_t p = first; p < std::min(first + kernels.lanes, pixels); ++p) {
          sources[static_cast<std::size_t>(p - first)] = sliding.source(p, place);
        }
        add_picks_of_register(sources, kernels.lanes, picks_);
        picks_.back().last = place + 1 == places(sliding);
      }
    }
  }

  // Whether the picks are few enough to stay in the cache, planes are whole cache lines, and byte offsets fit a pick's 32 bits.
  static bool apply(const SlidingWindow& sliding) {
    if (sliding.in.pitch() > std::numeric_limits<std::int32_t>::max()) return false;
    return sliding.out.pixels() > 1 && places(sliding) <= 4096 && sliding.out.pixels() * places(sliding) <= 4096;
  }

  std::int64_t parts() const override { return sliding_.out.blocks(); }
  void run(std::int64_t plane, const Memory& memory, Scratch&) const override {
    kernels_.pick_maximum(picks_.data(), static_cast<std::int64_t>(picks_.size()),
                          memory.at(reads[0]) + plane * sliding_.in.pitch(), memory.at(writes[0]) + plane * sliding_.out.pitch());
  }

 private:
  static std::int64_t places(const SlidingWindow& sliding) { return sliding.window.vertical * sliding.window.horizontal; }

  const SlidingWindow sliding_;
  const Kernels& kernels_;
  std::vector<Pick> picks_;
};

class MaxPool final : public Step {
 public:
  MaxPool(const SlidingWindow& sliding, Buffer in, Buffer out, const Kernels& kernels)
      : in_(sliding.in),
        out_(sliding.out),
        window_(sliding.window),
        stride_(sliding.stride),
        dilation_(sliding.dilation),
        padding_(sliding.padding),
        kernels_(kernels) {
    reads = {in};
    writes = {out};
  }
  std::int64_t parts() const override { return out_.blocks(); }

  void run(std::int64_t plane, const Memory& memory, Scratch& scratch) const override {
    const std::uint8_t* in = memory.at(reads[0]) + plane * in_.pitch();
    std::uint8_t* out = memory.at(writes[0]) + plane * out_.pitch();
    for (std::int64_t y = 0; y < out_.height; ++y, out += out_.width * block) {
      std::memset(out, 0, static_cast<std::size_t>(out_.width * block));  // 0 is the neutral element
      for (std::int64_t i = 0; i < window_.vertical; ++i) {
        const std::int64_t row = y * stride_.vertical + i * dilation_.vertical - padding_.top;
        if (row >= 0 && row < in_.height) take_maximum(in + row * in_.width * block, out, scratch);
      }
    }
  }

 private:
  // Raises one output row to the maximum with one input row.
  void take_maximum(const std::uint8_t* in, std::uint8_t* out, Scratch& scratch) const {
    constexpr std::int64_t room = sizeof scratch.bytes / block;  // pixels
    for (std::int64_t j = 0; j < window_.horizontal; ++j) {
      const std::int64_t start = j * dilation_.horizontal - padding_.left;
      std::int64_t x = start >= 0 ? 0 : (-start + stride_.horizontal - 1) / stride_.horizontal;
      if (start >= in_.width) continue;
      const std::int64_t last = std::min(out_.width, (in_.width - 1 - start) / stride_.horizontal + 1);
      for (; x < last; x += room) {
        const std::int64_t here = std::min(room, last - x);
        const std::uint8_t* source = in + (start + x * stride_.horizontal) * block;
        if (stride_.horizontal != 1 && here > 1) {
          kernels_.stride_pixels(source, here, stride_.horizontal, scratch.bytes);
          source = scratch.bytes;
        }
        kernels_.maximum(out + x * block, source, here * block, out + x * block);
      }
    }
  }

  const Layout in_;
  const Layout out_;
  const Pair window_;
  const Pair stride_;
  const Pair dilation_;
  const Edges padding_;
  const Kernels& kernels_;
};

class Average final : public Step {
 public:
  Average(const StepRequest& r, Spans spans)
      : in_(Layout::of(r.source().shape)),
        out_(Layout::of(r.node.type.shape)),
        zero_(r.source().zero_point),
        to_(requantization_of(r.node)),
        rows_(std::move(spans.rows)),
        columns_(std::move(spans.columns)) {
    reads = r.operands.inputs;
    writes = {r.operands.output};
    for (const Span& row : rows_) {
      for (const Span& column : columns_) {
        const auto counted = static_cast<float>(row.counted * column.counted);
        multipliers_.push_back(ratio(r.source().scale, r.node.type.scale * counted, r.node));
      }
    }
  }
  std::int64_t parts() const override { return out_.blocks(); }

  void run(std::int64_t plane, const Memory& memory, Scratch&) const override {
    const std::uint8_t* in = memory.at(reads[0]) + plane * in_.pitch();
    std::uint8_t* out = memory.at(writes[0]) + plane * out_.pitch();
    const float* multiplier = multipliers_.data();
    for (const Span& row : rows_) {
      for (const Span& column : columns_) {
        std::array<std::int64_t, block> sums{};         // 64 bits, because large maps may overflow int32
        if (column.last - column.first == in_.width) {  // whole rows are contiguous
          add_run(in + row.first * in_.width * block, (row.last - row.first) * in_.width, sums);
        } else {
          for (std::int64_t y = row.first; y < row.last; ++y) {
            add_run(in + (y * in_.width + column.first) * block, column.last - column.first, sums);
          }
        }
        const std::int64_t seen = (row.last - row.first) * (column.last - column.first);
        for (std::size_t c = 0; c < block; ++c) {
          out[c] = onto_grid(static_cast<float>(sums[c] - zero_ * seen) * *multiplier, to_);
        }
        out += block;
        ++multiplier;
      }
    }
  }

 private:
  // Adds four pixels at a time in 16 bits, at most 256 times, so that nothing overflows.
  static void add_run(const std::uint8_t* pixel, std::int64_t pixels, std::array<std::int64_t, block>& sums) {
    constexpr std::int64_t wide = 4 * block;
    while (pixels >= 4) {
      const std::int64_t rounds = std::min<std::int64_t>(pixels / 4, 256);
      std::uint16_t partial[wide] = {};
      for (std::int64_t i = 0; i < rounds; ++i, pixel += wide) {
        for (std::int64_t j = 0; j < wide; ++j) partial[j] = static_cast<std::uint16_t>(partial[j] + pixel[j]);
      }
      for (std::size_t j = 0; j < wide; ++j) sums[j % block] += partial[j];
      pixels -= 4 * rounds;
    }
    for (; pixels > 0; --pixels, pixel += block) {
      for (std::size_t c = 0; c < block; ++c) sums[c] += pixel[c];
    }
  }

  const Layout in_;
  const Layout out_;
  const std::int32_t zero_;
  const Requantization to_;
  const std::vector<Span> rows_;
  const std::vector<Span> columns_;
  std::vector<float> multipliers_;  // by output pixel
};

class FloatMaxPool final : public Step {
 public:
  FloatMaxPool(const SlidingWindow& sliding, Buffer in, Buffer out) : sliding_(sliding) {
    reads = {in};
    writes = {out};
  }
  std::int64_t parts() const override { return sliding_.out.blocks(); }

  void run(std::int64_t plane, const Memory& memory, Scratch&) const override {
    const SlidingWindow& s = sliding_;
    const float* in = memory.floats_at(reads[0]) + plane * s.in.pitch() / block;
    float* out = memory.floats_at(writes[0]) + plane * s.out.pitch() / block;
    for (std::int64_t y = 0; y < s.out.height; ++y, out += s.out.width) {
      std::fill_n(out, s.out.width, -std::numeric_limits<float>::infinity());
      for (std::int64_t i = 0; i < s.window.vertical; ++i) {
        const std::int64_t row = y * s.stride.vertical + i * s.dilation.vertical - s.padding.top;
        if (row >= 0 && row < s.in.height) take_maximum(in + row * s.in.width, out);
      }
      for (std::int64_t x = 0; x < s.out.width; ++x) out[x] += 0.0F;  // no negative zero
    }
  }

 private:
  // Raises one output row to the maximum with one input row.
  void take_maximum(const float* in, float* out) const {
    const SlidingWindow& s = sliding_;
    for (std::int64_t j = 0; j < s.window.horizontal; ++j) {
      const std::int64_t start = j * s.dilation.horizontal - s.padding.left;
      if (start >= s.in.width) continue;
      const std::int64_t first = start >= 0 ? 0 : (-start + s.stride.horizontal - 1) / s.stride.horizontal;
      const std::int64_t last = std::min(s.out.width, (s.in.width - 1 - start) / s.stride.horizontal + 1);
      for (std::int64_t x = first; x < last; ++x) {
        const float value = in[start + x * s.stride.horizontal];
        out[x] = out[x] < value ? value : out[x];
      }
    }
  }

  const SlidingWindow sliding_;
};

// Adds the pixels of a window to one running sum, row by row.
class FloatAverage final : public Step {
 public:
  FloatAverage(const StepRequest& r, Spans spans)
      : in_(Layout::of(r.source())),
        out_(Layout::of(r.node.type)),
        rows_(std::move(spans.rows)),
        columns_(std::move(spans.columns)) {
    reads = r.operands.inputs;
    writes = {r.operands.output};
  }
  std::int64_t parts() const override { return out_.blocks(); }

  void run(std::int64_t plane, const Memory& memory, Scratch&) const override {
    const float* in = memory.floats_at(reads[0]) + plane * in_.pitch() / block;
    float* out = memory.floats_at(writes[0]) + plane * out_.pitch() / block;
    for (const Span& row : rows_) {
      for (const Span& column : columns_) {
        float sum = 0;
        for (std::int64_t y = row.first; y < row.last; ++y) {
          for (std::int64_t x = column.first; x < column.last; ++x) sum += in[y * in_.width + x];
        }
        *out++ = sum / static_cast<float>(row.counted * column.counted);
      }
    }
  }

 private:
  const Layout in_;
  const Layout out_;
  const std::vector<Span> rows_;
  const std::vector<Span> columns_;
};

SlidingWindow sliding_of(const StepRequest& r) {
  return {Layout::of(r.source()), Layout::of(r.node.type),  pair(r.node, "window"),
          pair(r.node, "stride"), pair(r.node, "dilation"), edges(r.node, "padding")};
}

// Makes an Average or FloatAverage step.
template <class Kind>
std::unique_ptr<Step> average(const StepRequest& r, Spans (*spans)(const Node&, const Layout&, const Layout&)) {
  return std::make_unique<Kind>(r, spans(r.node, Layout::of(r.source()), Layout::of(r.node.type)));
}

}  // namespace

std::unique_ptr<Step> max_pool_step(const StepRequest& r) {
  const SlidingWindow sliding = sliding_of(r);
  const Buffer in = r.operands.inputs[0];
  if (GatherMaxPool::apply(sliding)) return std::make_unique<GatherMaxPool>(sliding, in, r.operands.output, r.kernels);
  return std::make_unique<MaxPool>(sliding, in, r.operands.output, r.kernels);
}

std::unique_ptr<Step> average_step(const StepRequest& r) { return average<Average>(r, sliding_spans); }

std::unique_ptr<Step> adaptive_average_step(const StepRequest& r) { return average<Average>(r, adaptive_spans); }

std::unique_ptr<Step> float_max_pool_step(const StepRequest& r) {
  return std::make_unique<FloatMaxPool>(sliding_of(r), r.operands.inputs[0], r.operands.output);
}

std::unique_ptr<Step> float_average_step(const StepRequest& r) { return average<FloatAverage>(r, sliding_spans); }

std::unique_ptr<Step> float_adaptive_average_step(const StepRequest& r) { return average<FloatAverage>(r, adaptive_spans); }

}  // namespace paretrim

#include "plan/view.h"

#include <algorithm>
#include <cstring>

namespace paretrim {
namespace {

bool reads_itself(const Geometry& g) {
  const Edges& p = g.padding;
  return g.kernel.vertical == 1 && g.kernel.horizontal == 1 && g.stride.vertical == 1 && g.stride.horizontal == 1 &&
         p.top == 0 && p.left == 0 && p.bottom == 0 && p.right == 0;
}

// Pixels of one row of a copy that lie inside the image: [first, last).
struct Inside {
  std::int64_t first;
  std::int64_t last;
};

Inside inside(std::int64_t start, std::int64_t stride, std::int64_t count, std::int64_t extent) {
  const std::int64_t first = start >= 0 ? 0 : (-start + stride - 1) / stride;
  const std::int64_t last = start >= extent ? 0 : (extent - 1 - start) / stride + 1;
  return {std::min(first, count), std::max(std::min(last, count), std::min(first, count))};
}

class Pack final : public Step {
 public:
  Pack(const View& view, std::uint8_t zero_point, Buffer from, Buffer to, const Kernels& kernels)
      : view_(view), zero_point_(zero_point), from_(from), to_(to), kernels_(kernels) {
    reads = {from};
    writes = {to};
    const Geometry& g = view.geometry;
    // Where rows are as long as the input's and not subsampled, a copy is the flat image moved by a number of pixels, with
    // some pixels masked out.
    flat_ = g.stride.vertical == 1 && g.stride.horizontal == 1 && g.out.width == g.in.width && g.out.pixels() > 1;
    if (!flat_) return;
    for (const Copy& copy : view.copies) masks_.push_back(masks_of(copy));
  }

  std::int64_t parts() const override { return view_.geometry.in.blocks(); }

  void run(std::int64_t plane, const Memory& memory, Scratch&) const override {
    const std::uint8_t* in = memory.at(from_) + plane * view_.geometry.in.pitch();
    for (std::size_t c = 0; c < view_.copies.size(); ++c) {
      const Copy& copy = view_.copies[c];
      std::uint8_t* out = memory.at(to_) + copy.base + plane * copy.pitch;
      if (flat_) {
        const std::int64_t shift = copy.row * view_.geometry.in.width + copy.column;
        kernels_.shift_pixels(in, shift, masks_[c].data(), static_cast<std::int64_t>(masks_[c].size()), zero_point_, out);
      } else {
        rows(in, copy, out);
      }
    }
  }

 private:
  std::vector<std::uint16_t> masks_of(const Copy& copy) const {
    const Geometry& g = view_.geometry;
    const std::int64_t pixels = copy.rows * g.out.width;
    std::vector<std::uint16_t> masks(static_cast<std::size_t>((pixels + most_lanes - 1) / most_lanes));
    for (std::int64_t p = 0; p < pixels; ++p) {
      const std::int64_t y = copy.row + p / g.out.width;
      const std::int64_t x = copy.column + p % g.out.width;
      const bool known = y >= 0 && y < g.in.height && x >= 0 && x < g.in.width;
      if (known) masks[static_cast<std::size_t>(p / most_lanes)] |= static_cast<std::uint16_t>(1U << (p % most_lanes));
    }
    return masks;
  }

  void rows(const std::uint8_t* in, const Copy& copy, std::uint8_t* out) const {
    const Geometry& g = view_.geometry;
    const std::int64_t width = g.out.width;
    const Inside columns = inside(copy.column, g.stride.horizontal, width, g.in.width);
    for (std::int64_t j = 0; j < copy.rows; ++j, out += width * block) {
      const std::int64_t y = copy.row + j * g.stride.vertical;
      if (y < 0 || y >= g.in.height || columns.first == columns.last) {
        std::memset(out, zero_point_, static_cast<std::size_t>(width * block));
        continue;
      }
      const std::int64_t x = copy.column + columns.first * g.stride.horizontal;
      const std::uint8_t* source = in + (y * g.in.width + x) * block;
      std::memset(out, zero_point_, static_cast<std::size_t>(columns.first * block));
      std::uint8_t* middle = out + columns.first * block;
      if (g.stride.horizontal == 1) {
        std::memcpy(middle, source, static_cast<std::size_t>((columns.last - columns.first) * block));
      } else {
        kernels_.stride_pixels(source, columns.last - columns.first, g.stride.horizontal, middle);
      }
      std::memset(out + columns.last * block, zero_point_, static_cast<std::size_t>((width - columns.last) * block));
    }
  }

  const View view_;
  const std::uint8_t zero_point_;
  const Buffer from_;
  const Buffer to_;
  const Kernels& kernels_;
  bool flat_ = false;
  std::vector<std::vector<std::uint16_t>> masks_;  // by copy, one bit a pixel
};

}  // namespace

const char* name_of(ViewKind kind) {
  switch (kind) {
    case ViewKind::in_place: return "in place";
    case ViewKind::columns: return "columns";
    default: return "positions";
  }
}

View View::make(ViewKind kind, const Geometry& g) {
  View view;
  view.kind = kind;
  view.geometry = g;
  const std::int64_t count = g.kernel.vertical * g.kernel.horizontal;
  view.copy_of.resize(static_cast<std::size_t>(count));
  view.row_of.resize(static_cast<std::size_t>(count));
  if (kind == ViewKind::in_place) {
    view.copies.push_back({0, 0, g.in.height, 0, g.in.pitch()});
    return view;
  }
  for (std::int64_t position = 0; position < count; ++position) {
    const std::int64_t down = position / g.kernel.horizontal * g.dilation.vertical;
    const std::int64_t column = position % g.kernel.horizontal * g.dilation.horizontal - g.padding.left;
    const std::int64_t phase = kind == ViewKind::columns ? down % g.stride.vertical : down;
    const std::int64_t ahead = (down - phase) / g.stride.vertical;
    const std::int64_t row = phase - g.padding.top;
    const auto same = [&](const Copy& copy) { return copy.row == row && copy.column == column; };
    auto found = std::find_if(view.copies.begin(), view.copies.end(), same);
    if (found == view.copies.end()) found = view.copies.insert(view.copies.end(), Copy{row, column, 0, 0, 0});
    found->rows = std::max(found->rows, g.out.height + ahead);
    view.copy_of[static_cast<std::size_t>(position)] = found - view.copies.begin();
    view.row_of[static_cast<std::size_t>(position)] = ahead;
  }
  for (Copy& copy : view.copies) {
    copy.base = view.bytes;
    copy.pitch = plane_pitch(copy.rows * g.out.width);
    view.bytes += rounded_up(g.in.blocks() * copy.pitch, g.out.pixels() == 1 ? block : alignment);
  }
  view.bytes = rounded_up(view.bytes, alignment) + slack;
  return view;
}

std::vector<ViewKind> View::possible(const Geometry& g) {
  if (reads_itself(g)) return {ViewKind::in_place};
  if (g.kernel.vertical == 1 || g.out.pixels() == 1) return {ViewKind::positions};  // columns would be the same
  return {ViewKind::columns, ViewKind::positions};
}

std::int64_t View::offset(std::int64_t position, std::int64_t plane) const {
  const Copy& copy = copies[static_cast<std::size_t>(copy_of[static_cast<std::size_t>(position)])];
  return copy.base + plane * copy.pitch + row_of[static_cast<std::size_t>(position)] * geometry.out.width * block;
}

std::unique_ptr<Step> pack_step(const View& view, std::uint8_t zero_point, Buffer from, Buffer to, const Kernels& kernels) {
  return std::make_unique<Pack>(view, zero_point, from, to, kernels);
}

}  // namespace paretrim

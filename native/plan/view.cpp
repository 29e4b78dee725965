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

std::int64_t floor_divided(std::int64_t a, std::int64_t b) { return (a - (a % b + b) % b) / b; }

// Rows of pixels, each cut out of a row of the input: any geometry.
class PackRows final : public Step {
 public:
  PackRows(const View& view, std::uint8_t zero_point, Buffer from, Buffer to, const Kernels& kernels)
      : view_(view), zero_point_(zero_point), kernels_(kernels) {
    reads = {from};
    writes = {to};
  }
  std::int64_t parts() const override { return view_.geometry.in.blocks(); }

  void run(std::int64_t plane, const Memory& memory, Scratch&) const override {
    const std::uint8_t* in = memory.at(reads[0]) + plane * view_.geometry.in.pitch();
    for (const Copy& copy : view_.copies) fill(in, copy, memory.at(writes[0]) + copy.base + plane * copy.pitch);
  }

 private:
  void fill(const std::uint8_t* in, const Copy& copy, std::uint8_t* out) const {
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
  const Kernels& kernels_;
};

// Where rows of the copies are as long as the (subsampled) rows of the input, a copy is the flat image moved by some pixels, with
// the pixels beyond its borders masked out. A strided convolution first takes each plane apart into its phases.
class PackFlat final : public Step {
 public:
  PackFlat(const View& view, std::uint8_t zero_point, Buffer from, Buffer to, const Kernels& kernels)
      : view_(view), kernels_(kernels), strided_(view.geometry.stride.vertical > 1 || view.geometry.stride.horizontal > 1) {
    reads = {from};
    writes = {to};
    for (const Copy& copy : view.copies) {
      moves_.push_back(move_of(copy, zero_point));
      masks_.push_back(masks_of(copy));
    }
  }

  // Whether it applies: rows of every phase fit, and the phases of a plane fit into the scratch.
  static bool fits(const Geometry& g) {
    if (g.out.pixels() == 1) return false;  // then planes are not whole cache lines
    const Pair s = g.stride;
    if (s.vertical == 1 && s.horizontal == 1) return g.in.width == g.out.width;
    const bool even = g.in.width % s.horizontal == 0 && g.in.height % s.vertical == 0;
    return even && g.in.width / s.horizontal == g.out.width && g.in.pixels() * block <= static_cast<std::int64_t>(sizeof(Scratch::sums));
  }

  // Several planes at once where that saves calls on small maps.
  std::int64_t parts() const override { return strided_ ? blocks() : (blocks() + at_once() - 1) / at_once(); }

  void run(std::int64_t part, const Memory& memory, Scratch& scratch) const override {
    const std::int64_t plane = strided_ ? part : part * at_once();
    const std::int64_t planes = strided_ ? 1 : std::min(at_once(), blocks() - plane);
    const std::uint8_t* in = memory.at(reads[0]) + plane * view_.geometry.in.pitch();
    auto* phases = reinterpret_cast<std::uint8_t*>(scratch.sums);
    if (strided_) take_apart(in, phases);
    for (std::size_t c = 0; c < moves_.size(); ++c) {
      const Copy& copy = view_.copies[c];
      Shift shift = moves_[c].shift;
      shift.planes = planes;
      shift.masks = masks_[c].data();
      kernels_.shift_pixels(shift, strided_ ? phases + moves_[c].phase : in,
                            memory.at(writes[0]) + copy.base + plane * copy.pitch);
    }
  }

 private:
  struct OneMove {
    Shift shift;
    std::int64_t phase;  // bytes into the scratch
  };

  std::int64_t blocks() const { return view_.geometry.in.blocks(); }
  std::int64_t at_once() const { return std::max<std::int64_t>(1, 64 / std::max<std::int64_t>(1, view_.geometry.in.pixels() / most_lanes)); }
  std::int64_t phase_pixels() const {
    const Geometry& g = view_.geometry;
    return g.in.pixels() / (g.stride.vertical * g.stride.horizontal);
  }

  void take_apart(const std::uint8_t* in, std::uint8_t* phases) const {
    const Geometry& g = view_.geometry;
    const std::int64_t width = g.in.width / g.stride.horizontal;
    for (std::int64_t y = 0; y < g.in.height; ++y) {
      for (std::int64_t x = 0; x < g.stride.horizontal; ++x) {
        const std::int64_t phase = y % g.stride.vertical * g.stride.horizontal + x;
        std::uint8_t* out = phases + (phase * phase_pixels() + y / g.stride.vertical * width) * block;
        kernels_.stride_pixels(in + (y * g.in.width + x) * block, width, g.stride.horizontal, out);
      }
    }
  }

  OneMove move_of(const Copy& copy, std::uint8_t zero_point) const {
    const Geometry& g = view_.geometry;
    const std::int64_t row = floor_divided(copy.row, g.stride.vertical);
    const std::int64_t column = floor_divided(copy.column, g.stride.horizontal);
    const std::int64_t phase = (copy.row - row * g.stride.vertical) * g.stride.horizontal + copy.column - column * g.stride.horizontal;
    OneMove move;
    move.phase = phase * phase_pixels() * block;
    move.shift.in_pitch = g.in.pitch();
    move.shift.out_pitch = copy.pitch;
    move.shift.pixels = row * g.out.width + column;
    move.shift.vectors = rounded_up(copy.rows * g.out.width, most_lanes) / most_lanes;
    move.shift.fill = zero_point;
    return move;
  }

  // One bit a pixel: whether it lies in the image.
  std::vector<std::uint16_t> masks_of(const Copy& copy) const {
    const Geometry& g = view_.geometry;
    const std::int64_t pixels = copy.rows * g.out.width;
    std::vector<std::uint16_t> masks(static_cast<std::size_t>(rounded_up(pixels, most_lanes) / most_lanes));
    for (std::int64_t p = 0; p < pixels; ++p) {
      const std::int64_t y = copy.row + p / g.out.width * g.stride.vertical;
      const std::int64_t x = copy.column + p % g.out.width * g.stride.horizontal;
      const bool known = y >= 0 && y < g.in.height && x >= 0 && x < g.in.width;
      if (known) masks[static_cast<std::size_t>(p / most_lanes)] |= static_cast<std::uint16_t>(1U << (p % most_lanes));
    }
    return masks;
  }

  const View view_;
  const Kernels& kernels_;
  const bool strided_;
  std::vector<OneMove> moves_;                     // by copy
  std::vector<std::vector<std::uint16_t>> masks_;  // by copy
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
  if (PackFlat::fits(view.geometry)) return std::make_unique<PackFlat>(view, zero_point, from, to, kernels);
  return std::make_unique<PackRows>(view, zero_point, from, to, kernels);
}

}  // namespace paretrim

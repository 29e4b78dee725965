#include "plan/view.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "plan/picks.h"

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

// One bit a pixel of a copy: whether it lies in the image.
std::vector<std::uint16_t> masks_of(const Copy& copy, const Geometry& g) {
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

Shift shift_of(const Copy& copy, const Geometry& g, std::uint8_t zero_point) {
  Shift shift;
  shift.in_pitch = g.in.pitch();
  shift.out_pitch = copy.pitch;
  shift.pixels = floor_divided(copy.row, g.stride.vertical) * g.out.width + floor_divided(copy.column, g.stride.horizontal);
  shift.vectors = rounded_up(copy.rows * g.out.width, most_lanes) / most_lanes;
  shift.fill = zero_point;
  return shift;
}

class PackFlat final : public Step {
 public:
  PackFlat(const View& view, std::uint8_t zero_point, Buffer from, Buffer to, const Kernels& kernels)
      : view_(view), copies_(view, zero_point, kernels) {
    reads = {from};
    writes = {to};
  }

  // Several planes at once where that saves calls on small maps.
  std::int64_t parts() const override { return (view_.geometry.in.blocks() + at_once() - 1) / at_once(); }

  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    const std::int64_t first = part * at_once();
    copies_.make(memory.at(reads[0]), first, std::min(at_once(), view_.geometry.in.blocks() - first), 0, view_,
                 memory.at(writes[0]));
  }

 private:
  std::int64_t at_once() const {
    constexpr std::int64_t pixels = 1024;  // of one part: enough to be worth a call, few enough to share
    return std::max<std::int64_t>(1, pixels / view_.geometry.in.pixels());
  }

  const View view_;
  const FlatCopies copies_;
};

// Register by register, each put together by a few picks that are the same for every plane.
class PackPicks final : public Step {
 public:
  PackPicks(const View& view, std::uint8_t zero_point, Buffer from, Buffer to, const Kernels& kernels)
      : view_(view), zero_point_(zero_point), kernels_(kernels) {
    reads = {from};
    writes = {to};
    for (const Copy& copy : view.copies) {
      starts_.push_back(picks_.size());
      add_picks(copy);
    }
    starts_.push_back(picks_.size());
  }

  // Whether the picks are few enough to stay in the cache while many planes use them, planes are whole cache lines, and places in
  // them fit a pick.
  static bool apply(const View& view) {
    std::int64_t pixels = 0;
    for (const Copy& copy : view.copies) pixels += copy.rows * view.geometry.out.width;
    return pixels <= 4096 && view.geometry.out.pixels() > 1 &&
           view.geometry.in.pitch() <= std::numeric_limits<std::int32_t>::max();
  }

  std::int64_t parts() const override { return view_.geometry.in.blocks(); }

  void run(std::int64_t plane, const Memory& memory, Scratch&) const override {
    const std::uint8_t* in = memory.at(reads[0]) + plane * view_.geometry.in.pitch();
    for (std::size_t c = 0; c < view_.copies.size(); ++c) {
      const Copy& copy = view_.copies[c];
      kernels_.pick_pixels(picks_.data() + starts_[c], static_cast<std::int64_t>(starts_[c + 1] - starts_[c]), in, zero_point_,
                           memory.at(writes[0]) + copy.base + plane * copy.pitch);
    }
  }

 private:
  void add_picks(const Copy& copy) {
    const Geometry& g = view_.geometry;
    const std::int64_t pixels = copy.rows * g.out.width;
    for (std::int64_t first = 0; first < pixels; first += kernels_.lanes) {
      std::vector<std::int64_t> sources(static_cast<std::size_t>(kernels_.lanes), -1);
      for (std::int64_t p = first; p < std::min(first + kernels_.lanes, pixels); ++p) {
        const std::int64_t y = copy.row + p / g.out.width * g.stride.vertical;
        const std::int64_t x = copy.column + p % g.out.width * g.stride.horizontal;
        const bool known = y >= 0 && y < g.in.height && x >= 0 && x < g.in.width;
        if (known) sources[static_cast<std::size_t>(p - first)] = y * g.in.width + x;
      }
      add_picks_of_register(sources, kernels_.lanes, picks_);
    }
  }

  const View view_;
  const std::uint8_t zero_point_;
  const Kernels& kernels_;
  std::vector<Pick> picks_;
  std::vector<std::size_t> starts_;  // by copy
};

}  // namespace

const char* name_of(ViewKind kind) {
  switch (kind) {
    case ViewKind::in_place: return "in place";
    case ViewKind::columns: return "columns";
    case ViewKind::positions: return "positions";
    default: return "tiles";
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
    const std::int64_t phase = kind == ViewKind::positions ? down : down % g.stride.vertical;
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
  if (g.out.pixels() == 1) return {ViewKind::positions};
  std::vector<ViewKind> kinds{ViewKind::positions};
  if (g.kernel.vertical > 1) kinds.push_back(ViewKind::columns);  // else they would be the same
  if (FlatCopies::apply(g)) kinds.push_back(ViewKind::tiles);
  return kinds;
}

std::int64_t View::offset(std::int64_t position, std::int64_t plane) const {
  const Copy& copy = copies[static_cast<std::size_t>(copy_of[static_cast<std::size_t>(position)])];
  return copy.base + plane * copy.pitch + row_of[static_cast<std::size_t>(position)] * geometry.out.width * block;
}

bool FlatCopies::apply(const Geometry& g) {
  // On one pixel, planes are not whole cache lines.
  return g.stride.vertical == 1 && g.stride.horizontal == 1 && g.in.width == g.out.width && g.out.pixels() > 1;
}

FlatCopies::FlatCopies(const View& view, std::uint8_t zero_point, const Kernels& kernels)
    : kernels_(kernels), geometry_(view.geometry) {
  for (const Copy& copy : view.copies) {
    shifts_.push_back(shift_of(copy, geometry_, zero_point));
    masks_.push_back(masks_of(copy, geometry_));
  }
}

void FlatCopies::make(const std::uint8_t* in, std::int64_t first_plane, std::int64_t planes, std::int64_t row, const View& local,
                      std::uint8_t* out) const {
  const std::int64_t pixels = row * geometry_.out.width;
  const std::int64_t vector = pixels / most_lanes;
  for (std::size_t c = 0; c < shifts_.size(); ++c) {
    const Copy& copy = local.copies[c];
    const std::int64_t room = rounded_up(copy.rows * geometry_.out.width, most_lanes) / most_lanes;
    Shift shift = shifts_[c];
    shift.planes = planes;
    shift.out_pitch = copy.pitch;
    shift.pixels += pixels;
    shift.vectors = std::min(room, shift.vectors - vector);
    shift.masks = masks_[c].data() + vector;
    kernels_.shift_pixels(shift, in + first_plane * geometry_.in.pitch(), out + copy.base + first_plane * copy.pitch);
  }
}

std::unique_ptr<Step> pack_step(const View& view, std::uint8_t zero_point, Buffer from, Buffer to, const Kernels& kernels) {
  if (FlatCopies::apply(view.geometry)) return std::make_unique<PackFlat>(view, zero_point, from, to, kernels);
  if (PackPicks::apply(view)) return std::make_unique<PackPicks>(view, zero_point, from, to, kernels);
  return std::make_unique<PackRows>(view, zero_point, from, to, kernels);
}

}  // namespace paretrim

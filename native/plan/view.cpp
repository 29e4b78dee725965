#include "plan/view.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <utility>

#include "plan/picks.h"

namespace paretrim {
namespace {

// Whether output pixels read exactly the input pixels at the same place.
bool reads_in_place(const Geometry& g) {
  const Edges& p = g.padding;
  return g.kernel.vertical == 1 && g.kernel.horizontal == 1 && g.stride.vertical == 1 && g.stride.horizontal == 1 && p.top == 0 &&
         p.left == 0 && p.bottom == 0 && p.right == 0;
}

// Range [first, last) of the pixels in one row of a copy that lie inside the image.
struct InnerPixels {
  std::int64_t first;
  std::int64_t last;
};

InnerPixels inside(std::int64_t start, std::int64_t stride, std::int64_t count, std::int64_t extent) {
  const std::int64_t first = start >= 0 ? 0 : (-start + stride - 1) / stride;
  const std::int64_t last = start >= extent ? 0 : (extent - 1 - start) / stride + 1;
  return {std::min(first, count), std::max(std::min(last, count), std::min(first, count))};
}

// Copies row by row; works for any geometry.
class RowCopier final : public Copier {
 public:
  RowCopier(const View& view, const Geometry& whole, std::uint8_t zero_point, const Kernels& kernels)
      : view_(view), whole_(whole), zero_point_(zero_point), kernels_(kernels) {}

  void make(const std::uint8_t* in, std::int64_t row, std::uint8_t* out) const override {
    for (std::int64_t plane = 0; plane < whole_.in.blocks(); ++plane, in += whole_.in.pitch()) {
      for (const Copy& copy : view_.copies) fill(in, row, copy, out + copy.base + plane * copy.pitch);
    }
  }

 private:
  void fill(const std::uint8_t* in, std::int64_t row, const Copy& copy, std::uint8_t* out) const {
    const Geometry& g = whole_;
    const std::int64_t width = g.out.width;
    const InnerPixels columns = inside(copy.column, g.stride.horizontal, width, g.in.width);
    for (std::int64_t j = 0; j < copy.rows; ++j, out += width * block) {
      const std::int64_t y = copy.row + (row + j) * g.stride.vertical;
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
  const Geometry whole_;
  const std::uint8_t zero_point_;
  const Kernels& kernels_;
};

// Pixels of all copies of one plane.
std::int64_t pixels_of_copies(ViewKind kind, const Geometry& whole) {
  std::int64_t pixels = 0;
  for (const Copy& copy : View::make(kind, whole, whole.out.height).copies) pixels += copy.rows * whole.out.width;
  return pixels;
}

constexpr std::int64_t max_mask_bytes = 1 << 24;  // per layer; layers with huge kernels use no masks

// One bit per pixel of a copy: set if it lies inside the image.
std::vector<std::uint16_t> masks_of(const Copy& copy, const Geometry& g) {
  const std::int64_t pixels = copy.rows * g.out.width;
  std::vector<std::uint16_t> masks(static_cast<std::size_t>(rounded_up(pixels, max_lanes) / max_lanes));
  for (std::int64_t p = 0; p < pixels; ++p) {
    const std::int64_t y = copy.row + p / g.out.width * g.stride.vertical;
    const std::int64_t x = copy.column + p % g.out.width * g.stride.horizontal;
    const bool inside = y >= 0 && y < g.in.height && x >= 0 && x < g.in.width;
    if (inside) masks[static_cast<std::size_t>(p / max_lanes)] |= static_cast<std::uint16_t>(1U << (p % max_lanes));
  }
  return masks;
}

// For stride 1 if the output is as wide as the input: each copy is the flat image shifted by some pixels, with pixels outside the
// image masked out.
class FlatCopier final : public Copier {
 public:
  FlatCopier(const View& view, const Geometry& whole, std::uint8_t zero_point, const Kernels& kernels)
      : kernels_(kernels), width_(whole.out.width) {
    const View all = View::make(view.kind, whole, whole.out.height);
    for (std::size_t c = 0; c < view.copies.size(); ++c) {
      const Copy& copy = all.copies[c];
      masks_.push_back(masks_of(copy, whole));
      bases_.push_back(view.copies[c].base);
      room_.push_back(vectors_of(view.copies[c]));
      Shift shift;
      shift.planes = whole.in.blocks();
      shift.in_pitch = whole.in.pitch();
      shift.out_pitch = view.copies[c].pitch;
      shift.pixels = copy.row * width_ + copy.column;
      shift.vectors = vectors_of(copy);
      shift.fill = zero_point;
      shifts_.push_back(shift);
    }
  }

  static bool apply(ViewKind kind, const Geometry& whole) {
    // The planes of a value of one pixel are not whole cache lines.
    return whole.stride.vertical == 1 && whole.stride.horizontal == 1 && whole.in.width == whole.out.width &&
           whole.out.pixels() > 1 && pixels_of_copies(kind, whole) <= 8 * max_mask_bytes;
  }

  void make(const std::uint8_t* in, std::int64_t row, std::uint8_t* out) const override {
    const std::int64_t pixels = row * width_;
    const std::int64_t vector = pixels / max_lanes;
    for (std::size_t c = 0; c < shifts_.size(); ++c) {
      Shift shift = shifts_[c];
      shift.pixels += pixels;
      shift.vectors = std::min(room_[c], shift.vectors - vector);
      shift.masks = masks_[c].data() + vector;
      kernels_.shift_pixels(shift, in, out + bases_[c]);
    }
  }

 private:
  std::int64_t vectors_of(const Copy& copy) const { return rounded_up(copy.rows * width_, max_lanes) / max_lanes; }

  const Kernels& kernels_;
  const std::int64_t width_;
  std::vector<Shift> shifts_;                      // by copy, for the whole image
  std::vector<std::vector<std::uint16_t>> masks_;  // by copy; see masks_of()
  std::vector<std::int64_t> bases_;                // by copy
  std::vector<std::int64_t> room_;                 // by copy: vectors per band
};

// Gathers each register with a few picks, which are the same for every plane.
class PickCopier final : public Copier {
 public:
  PickCopier(const View& view, const Geometry& whole, std::uint8_t zero_point, const Kernels& kernels)
      : view_(view), whole_(whole), zero_point_(zero_point), kernels_(kernels) {
    for (const Copy& copy : View::make(view.kind, whole, whole.out.height).copies) add_picks(copy);
  }

  // Whether the picks are few enough to stay in the cache for all planes, planes are whole cache lines, and byte offsets fit a
  // pick's 32 bits.
  static bool apply(ViewKind kind, const Geometry& whole) {
    return pixels_of_copies(kind, whole) <= 4096 && whole.out.pixels() > 1 &&
           whole.in.pitch() <= std::numeric_limits<std::int32_t>::max();
  }

  void make(const std::uint8_t* in, std::int64_t row, std::uint8_t* out) const override {
    const auto first = static_cast<std::size_t>(row * whole_.out.width / kernels_.lanes);
    for (std::int64_t plane = 0; plane < whole_.in.blocks(); ++plane, in += whole_.in.pitch()) {
      for (std::size_t c = 0; c < view_.copies.size(); ++c) {
        const Copy& copy = view_.copies[c];
        const std::vector<std::size_t>& starts = starts_[c];
        const std::int64_t registers = rounded_up(copy.rows * whole_.out.width, kernels_.lanes) / kernels_.lanes;
        const std::size_t last = std::min(first + static_cast<std::size_t>(registers), starts.size() - 1);
        kernels_.pick_pixels(picks_.data() + starts[first], static_cast<std::int64_t>(starts[last] - starts[first]), in,
                             zero_point_, out + copy.base + plane * copy.pitch);
      }
    }
  }

 private:
  void add_picks(const Copy& copy) {
    const Geometry& g = whole_;
    const std::int64_t pixels = copy.rows * g.out.width;
    std::vector<std::size_t> starts{picks_.size()};
    for (std::int64_t first = 0; first < pixels; first += kernels_.lanes) {
      std::vector<std::int64_t> sources(static_cast<std::size_t>(kernels_.lanes), -1);
      for (std::int64_t p = first; p < std::min(first + kernels_.lanes, pixels); ++p) {
        const std::int64_t y = copy.row + p / g.out.width * g.stride.vertical;
        const std::int64_t x = copy.column + p % g.out.width * g.stride.horizontal;
        const bool inside = y >= 0 && y < g.in.height && x >= 0 && x < g.in.width;
        if (inside) sources[static_cast<std::size_t>(p - first)] = y * g.in.width + x;
      }
      add_picks_of_register(sources, kernels_.lanes, picks_);
      starts.push_back(picks_.size());
    }
    starts_.push_back(std::move(starts));
  }

  const View view_;
  const Geometry whole_;
  const std::uint8_t zero_point_;
  const Kernels& kernels_;
  std::vector<Pick> picks_;
  std::vector<std::vector<std::size_t>> starts_;  // by copy, then register; each copy has an end too
};

}  // namespace

std::vector<std::int64_t> reading_positions(const Geometry& g) {
  const auto reads = [](std::int64_t start, std::int64_t stride, std::int64_t count, std::int64_t extent) {
    const InnerPixels pixels = inside(start, stride, count, extent);
    return pixels.first < pixels.last;
  };
  std::vector<std::int64_t> positions;
  for (std::int64_t y = 0; y < g.kernel.vertical; ++y) {
    const bool row = reads(y * g.dilation.vertical - g.padding.top, g.stride.vertical, g.out.height, g.in.height);
    for (std::int64_t x = 0; x < g.kernel.horizontal; ++x) {
      const std::int64_t start = x * g.dilation.horizontal - g.padding.left;
      const bool column = reads(start, g.stride.horizontal, g.out.width, g.in.width);
      if (row && column) positions.push_back(y * g.kernel.horizontal + x);
    }
  }
  return positions;
}

std::vector<std::int64_t> padding_positions(const Geometry& g) {
  const std::vector<std::int64_t> reading = reading_positions(g);
  std::vector<std::int64_t> positions;
  for (std::int64_t position = 0; position < g.kernel.vertical * g.kernel.horizontal; ++position) {
    if (!std::binary_search(reading.begin(), reading.end(), position)) positions.push_back(position);
  }
  return positions;
}

const char* name_of(ViewKind kind) {
  switch (kind) {
    case ViewKind::in_place:
      return "in place";
    case ViewKind::columns:
      return "columns";
    default:
      return "positions";
  }
}

View View::make(ViewKind kind, const Geometry& whole, std::int64_t rows) {
  View view;
  view.kind = kind;
  view.geometry = whole;
  view.geometry.out.height = rows;
  const Geometry& g = view.geometry;
  const std::int64_t count = g.kernel.vertical * g.kernel.horizontal;
  view.copy_of.resize(static_cast<std::size_t>(count));
  view.row_of.resize(static_cast<std::size_t>(count));
  if (kind == ViewKind::in_place) {
    view.copies.push_back({0, 0, g.in.height, 0, g.in.pitch()});
    return view;
  }
  // Numbers of the copies, by kernel row or phase, and kernel column.
  std::map<std::pair<std::int64_t, std::int64_t>, std::size_t> numbers;
  std::vector<std::int64_t> reading = reading_positions(whole);
  if (reading.empty()) reading.push_back(0);  // a single copy, if everything is padding
  for (const std::int64_t position : reading) {
    const std::int64_t down = position / g.kernel.horizontal * g.dilation.vertical;
    const std::int64_t column = position % g.kernel.horizontal * g.dilation.horizontal - g.padding.left;
    const std::int64_t phase = kind == ViewKind::positions ? down : down % g.stride.vertical;
    const std::int64_t ahead = (down - phase) / g.stride.vertical;
    const std::int64_t row = phase - g.padding.top;
    // Every kernel position has its own copy, or shares one with the positions in its column that are a multiple of strides away.
    const std::int64_t line = kind == ViewKind::positions ? position / g.kernel.horizontal : phase;
    const auto [found, is_new] = numbers.try_emplace({line, position % g.kernel.horizontal}, view.copies.size());
    if (is_new) view.copies.push_back({row, column, 0, 0, 0});
    Copy& copy = view.copies[found->second];
    copy.rows = std::max(copy.rows, g.out.height + ahead);
    view.copy_of[static_cast<std::size_t>(position)] = static_cast<std::int64_t>(found->second);
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
  if (reads_in_place(g)) return {ViewKind::in_place};
  if (g.out.pixels() == 1) return {ViewKind::positions};
  std::vector<ViewKind> kinds{ViewKind::positions};
  if (g.kernel.vertical > 1) kinds.push_back(ViewKind::columns);  // otherwise the same as positions
  return kinds;
}

std::int64_t View::offset(std::int64_t position, std::int64_t plane) const {
  const Copy& copy = copies[static_cast<std::size_t>(copy_of[static_cast<std::size_t>(position)])];
  return copy.base + plane * copy.pitch + row_of[static_cast<std::size_t>(position)] * geometry.out.width * block;
}

std::unique_ptr<Copier> copier_of(const View& view, const Geometry& whole, std::uint8_t zero_point, const Kernels& kernels) {
  if (FlatCopier::apply(view.kind, whole)) return std::make_unique<FlatCopier>(view, whole, zero_point, kernels);
  if (PickCopier::apply(view.kind, whole)) return std::make_unique<PickCopier>(view, whole, zero_point, kernels);
  return std::make_unique<RowCopier>(view, whole, zero_point, kernels);
}

}  // namespace paretrim

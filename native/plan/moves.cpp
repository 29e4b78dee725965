#include "plan/moves.h"

#include <algorithm>
#include <cstring>

namespace paretrim {
namespace {

// Controls of a Mix.
constexpr std::uint32_t no_channel = 0x80808080U;
constexpr std::uint32_t all_channels = 0x03020100U;

// The sources of one output plane's channels.
struct Plane {
  std::int64_t index = 0;            // in the output
  Mix mix;                           // without addresses, which are known only at run time
  std::int64_t sources[block] = {};  // planes of the input
  std::uint32_t kept = no_channel;   // control of the channels that other moves write

  // Whether this is an unchanged plane of the input.
  bool whole() const { return mix.count == 1 && mix.controls[0] == all_channels; }
  bool keeps() const { return kept != no_channel; }
  std::uint32_t not_kept() const { return kept ^ (no_channel | all_channels); }
};

void set_byte(std::uint32_t& word, std::int64_t at, std::int64_t value) {
  word = (word & ~(0xFFU << (8 * at))) | static_cast<std::uint32_t>(value) << (8 * at);
}

// Makes channel `to` of the plane a copy of this input channel.
void take(Plane& plane, std::int64_t to, std::int64_t channel) {
  int source = 0;
  while (source < plane.mix.count && plane.sources[source] != channel / block) ++source;
  if (source == plane.mix.count) {
    ++plane.mix.count;
    plane.sources[source] = channel / block;
    plane.mix.controls[source] = no_channel;
  }
  set_byte(plane.mix.controls[source], to, channel % block);
}

Plane plane_of(const Move& move, std::int64_t index) {
  Plane plane;
  plane.index = index;
  const auto end = move.first_channel + static_cast<std::int64_t>(move.channels.size());
  std::int64_t lane = 0;
  for (; lane < block && index * block + lane < move.out.channels; ++lane) {
    const std::int64_t to = index * block + lane;
    const bool moved = move.first_channel <= to && to < end;
    const std::int64_t channel = moved ? move.channels[static_cast<std::size_t>(to - move.first_channel)] : 0;
    if (!moved) {
      set_byte(plane.kept, lane, lane);
    } else if (channel < 0) {
      set_byte(plane.mix.constant, lane, move.fill);
    } else {
      take(plane, lane, channel);
    }
  }
  // Padding channels are arbitrary. Copying them in place can make the plane a plain copy.
  for (; lane < block && plane.mix.count > 0; ++lane) set_byte(plane.mix.controls[0], lane, lane);
  return plane;
}

// Moves that change only channels, not positions: mixes planes, register by register.
class ChannelMove final : public Step {
 public:
  ChannelMove(const Move& move, Buffer in, Buffer out, const Kernels& kernels)
      : in_(move.in), out_(move.out), table_(move.table), kernels_(kernels) {
    reads = {in};
    writes = {out};
    const auto end = move.first_channel + static_cast<std::int64_t>(move.channels.size());
    for (std::int64_t plane = move.first_channel / block; plane * block < end; ++plane) planes_.push_back(plane_of(move, plane));
  }

  static bool possible(const Move& m) {
    return m.in.height == m.out.height && m.in.width == m.out.width && m.row == 0 && m.column == 0 && m.row_step == 1 &&
           m.column_step == 1 && m.out.pixels() > 1;
  }

  std::int64_t parts() const override { return static_cast<std::int64_t>(planes_.size()); }

  void run(std::int64_t part, const Memory& memory, Scratch& scratch) const override {
    const Plane& plane = planes_[static_cast<std::size_t>(part)];
    const std::uint8_t* in = memory.at(reads[0]);
    std::uint8_t* out = memory.at(writes[0]) + plane.index * out_.pitch();
    const std::int64_t bytes = out_.pixels() * block;
    if (plane.whole() && table_.empty()) {
      std::memcpy(out, in + plane.sources[0] * in_.pitch(), static_cast<std::size_t>(bytes));
    } else if (plane.whole()) {
      kernels_.look_up(in + plane.sources[0] * in_.pitch(), bytes, table_.data(), out);
    } else if (table_.empty()) {
      Mix mix = at(plane, in, 0);
      if (plane.keeps()) add_source(mix, out, plane.kept);
      kernels_.mix_pixels(mix, out_.pixels(), out);
    } else {
      mix_and_look_up(plane, in, scratch, out);
    }
  }

 private:
  // The plane's mix, with sources that start `byte` bytes after the first pixel.
  Mix at(const Plane& plane, const std::uint8_t* in, std::int64_t byte) const {
    Mix mix = plane.mix;
    for (int s = 0; s < mix.count; ++s) mix.from[s] = in + plane.sources[s] * in_.pitch() + byte;
    return mix;
  }

  static void add_source(Mix& mix, const std::uint8_t* from, std::uint32_t control) {
    mix.from[mix.count] = from;
    mix.controls[mix.count] = control;
    ++mix.count;
  }

  // Mixes, applies the table, and then merges the result with the channels that the output keeps.
  void mix_and_look_up(const Plane& plane, const std::uint8_t* in, Scratch& scratch, std::uint8_t* out) const {
    constexpr std::int64_t room = sizeof scratch.bytes;
    for (std::int64_t byte = 0; byte < out_.pixels() * block; byte += room) {
      const std::int64_t here = std::min(room, out_.pixels() * block - byte);
      kernels_.mix_pixels(at(plane, in, byte), here / block, scratch.bytes);
      kernels_.look_up(scratch.bytes, here, table_.data(), scratch.bytes);
      Mix merged;
      add_source(merged, scratch.bytes, plane.not_kept());
      if (plane.keeps()) add_source(merged, out + byte, plane.kept);
      kernels_.mix_pixels(merged, here / block, out + byte);
    }
  }

  const Layout in_;
  const Layout out_;
  const std::vector<std::uint8_t> table_;
  const Kernels& kernels_;
  std::vector<Plane> planes_;
};

// Moves that change positions: row by row if the four channels of each plane stay together, otherwise byte by byte.
class PixelMove final : public Step {
 public:
  PixelMove(Move move, Buffer in, Buffer out, const Kernels& kernels) : move_(std::move(move)), kernels_(kernels) {
    reads = {in};
    writes = {out};
    by_planes_ = moves_whole_planes();
  }
  std::int64_t parts() const override {
    const auto count = static_cast<std::int64_t>(move_.channels.size());
    return by_planes_ ? (count + block - 1) / block : count;
  }

  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    const Move& m = move_;
    const std::uint8_t* in = memory.at(reads[0]);
    std::uint8_t* out = memory.at(writes[0]);
    if (by_planes_) {
      const std::int64_t channel = m.channels[static_cast<std::size_t>(part * block)];
      std::uint8_t* to = out + (m.first_channel / block + part) * m.out.pitch();
      if (channel < 0) {
        std::memset(to, m.fill, static_cast<std::size_t>(m.out.pixels() * block));
      } else {
        move_plane(in + channel / block * m.in.pitch(), to);
      }
      return;
    }
    const std::int64_t channel = m.channels[static_cast<std::size_t>(part)];
    std::uint8_t* to = out + m.out.at(m.first_channel + part, 0);
    for (std::int64_t y = 0; y < m.out.height; ++y) {
      const std::int64_t row = m.row + y * m.row_step;
      for (std::int64_t x = 0; x < m.out.width; ++x, to += block) {
        const std::int64_t column = m.column + x * m.column_step;
        const bool inside = channel >= 0 && row >= 0 && row < m.in.height && column >= 0 && column < m.in.width;
        const std::uint8_t value = inside ? in[m.in.at(channel, row * m.in.width + column)] : m.fill;
        *to = inside && !m.table.empty() ? m.table[value] : value;
      }
    }
  }

 private:
  // Whether the four channels of each plane stay together, so that pixels move as four bytes. Only the output's last plane may be
  // partly filled.
  bool moves_whole_planes() const {
    const Move& m = move_;
    const std::int64_t end = m.first_channel + static_cast<std::int64_t>(m.channels.size());
    if (!m.table.empty() || m.first_channel % block != 0 || (end % block != 0 && end != m.out.channels)) return false;
    for (std::size_t c = 0; c < m.channels.size(); ++c) {
      const std::size_t lane = c % block;
      const std::int64_t head = m.channels[c - lane];
      const bool filled = head < 0 && m.channels[c] < 0;
      if (!filled && (head < 0 || head % block != 0 || m.channels[c] != head + static_cast<std::int64_t>(lane))) return false;
    }
    return true;
  }

  void move_plane(const std::uint8_t* in, std::uint8_t* to) const {
    const Move& m = move_;
    const std::int64_t first = std::min(m.out.width, m.column >= 0 ? 0 : (-m.column + m.column_step - 1) / m.column_step);
    const std::int64_t reach = m.column >= m.in.width ? 0 : (m.in.width - 1 - m.column) / m.column_step + 1;
    const std::int64_t last = std::max(first, std::min(m.out.width, reach));
    for (std::int64_t y = 0; y < m.out.height; ++y, to += m.out.width * block) {
      const std::int64_t row = m.row + y * m.row_step;
      const bool inside = row >= 0 && row < m.in.height && first < last;
      if (!inside || last - first < m.out.width) std::memset(to, m.fill, static_cast<std::size_t>(m.out.width * block));
      if (!inside) continue;
      const std::uint8_t* source = in + (row * m.in.width + m.column + first * m.column_step) * block;
      if (m.column_step == 1) {
        std::memcpy(to + first * block, source, static_cast<std::size_t>((last - first) * block));
      } else {
        kernels_.stride_pixels(source, last - first, m.column_step, to + first * block);
      }
    }
  }

  const Move move_;
  const Kernels& kernels_;
  bool by_planes_ = false;
};

class Flattening final : public Step {
 public:
  Flattening(const Layout& layout, Buffer in, Buffer out) : layout_(layout) {
    reads = {in};
    writes = {out};
  }
  std::int64_t parts() const override { return layout_.channels; }
  void run(std::int64_t channel, const Memory& memory, Scratch&) const override {
    const std::uint8_t* in = memory.at(reads[0]) + layout_.at(channel, 0);
    std::uint8_t* out = memory.at(writes[0]) + channel * layout_.pixels();
    for (std::int64_t p = 0; p < layout_.pixels(); ++p) out[p] = in[p * block];
  }

 private:
  const Layout layout_;
};

}  // namespace

std::optional<Move> joined(const Move& first, const Move& second) {
  // If the first move fills pixels, a merged move could read input pixels there instead. So it must read only inside its input.
  const bool first_reads_all = first.row >= 0 && first.column >= 0 &&
                               first.row + (first.out.height - 1) * first.row_step < first.in.height &&
                               first.column + (first.out.width - 1) * first.column_step < first.in.width;
  const bool second_reads_all = second.row >= 0 && second.column >= 0 &&
                                second.row + (second.out.height - 1) * second.row_step < second.in.height &&
                                second.column + (second.out.width - 1) * second.column_step < second.in.width;
  // Likewise, if the second move reads outside the first one's result, a merged move could find input pixels instead of fill.
  if (!first_reads_all || !second_reads_all || first.fill != second.fill || !first.table.empty() || !second.table.empty()) {
    return std::nullopt;
  }
  Move both = second;
  both.in = first.in;
  both.row = first.row + second.row * first.row_step;
  both.row_step = first.row_step * second.row_step;
  both.column = first.column + second.column * first.column_step;
  both.column_step = first.column_step * second.column_step;
  for (std::int64_t& channel : both.channels) {
    if (channel >= 0) channel = first.channels[static_cast<std::size_t>(channel)];
  }
  return both;
}

std::unique_ptr<Step> move_step(Move move, Buffer in, Buffer out, const Kernels& kernels) {
  if (ChannelMove::possible(move)) return std::make_unique<ChannelMove>(move, in, out, kernels);
  return std::make_unique<PixelMove>(std::move(move), in, out, kernels);
}

std::unique_ptr<Step> flatten_step(const Layout& layout, Buffer in, Buffer out) {
  return std::make_unique<Flattening>(layout, in, out);
}

}  // namespace paretrim

#include "plan/moves.h"

#include <algorithm>
#include <cstring>

namespace paretrim {
namespace {

class Moving final : public Step {
 public:
  Moving(Move move, Buffer in, Buffer out) : move_(std::move(move)) {
    reads = {in};
    writes = {out};
    const Move& m = move_;
    whole_planes_ = m.in.pixels() == m.out.pixels() && m.in.width == m.out.width && m.row == 0 && m.column == 0 &&
                    m.row_step == 1 && m.column_step == 1 && m.first_channel % block == 0 && m.table.empty();
    const std::int64_t end = m.first_channel + static_cast<std::int64_t>(m.channels.size());
    // Full planes of four neighbouring channels are copied at once; only the last plane of the output may be partly filled.
    whole_planes_ = whole_planes_ && (end % block == 0 || end == m.out.channels);
    for (std::size_t c = 0; whole_planes_ && c < m.channels.size(); ++c) {
      const std::int64_t lane = static_cast<std::int64_t>(c) % block;
      whole_planes_ = m.channels[c] >= 0 && m.channels[c] % block == lane && m.channels[c] == m.channels[c - static_cast<std::size_t>(lane)] + lane;
    }
  }
  std::int64_t parts() const override {
    const auto count = static_cast<std::int64_t>(move_.channels.size());
    return whole_planes_ ? (count + block - 1) / block : count;
  }

  void run(std::int64_t part, const Memory& memory, Scratch&) const override {
    const Move& m = move_;
    const std::uint8_t* in = memory.at(reads[0]);
    std::uint8_t* out = memory.at(writes[0]);
    if (whole_planes_) {
      const std::int64_t from = m.channels[static_cast<std::size_t>(part * block)] / block;
      std::memcpy(out + (m.first_channel / block + part) * m.out.pitch(), in + from * m.in.pitch(),
                  static_cast<std::size_t>(m.out.pixels() * block));
      return;
    }
    const std::int64_t channel = m.channels[static_cast<std::size_t>(part)];
    std::uint8_t* to = out + m.out.at(m.first_channel + part, 0);
    for (std::int64_t y = 0; y < m.out.height; ++y) {
      const std::int64_t row = m.row + y * m.row_step;
      for (std::int64_t x = 0; x < m.out.width; ++x, to += block) {
        const std::int64_t column = m.column + x * m.column_step;
        const bool known = channel >= 0 && row >= 0 && row < m.in.height && column >= 0 && column < m.in.width;
        const std::uint8_t value = known ? in[m.in.at(channel, row * m.in.width + column)] : m.fill;
        *to = known && !m.table.empty() ? m.table[value] : value;
      }
    }
  }

 private:
  const Move move_;
  bool whole_planes_ = false;
};

class Flatten final : public Step {
 public:
  Flatten(const Layout& layout, Buffer in, Buffer out) : layout_(layout) {
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

std::unique_ptr<Step> move_step(Move move, Buffer in, Buffer out) { return std::make_unique<Moving>(std::move(move), in, out); }

std::unique_ptr<Step> flatten_step(const Layout& layout, Buffer in, Buffer out) {
  return std::make_unique<Flatten>(layout, in, out);
}

}  // namespace paretrim

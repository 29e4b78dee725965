#include "trim/value_table.h"

#include <algorithm>

#include "trim/range_coder.h"

namespace paretrim::trim {
namespace {

constexpr std::int32_t own_weight = 30000, other_weight = 12000;  // initial weights of the mixers

int byte_of(int value) { return value & 255; }

}  // namespace

void ValueTable::set(const std::vector<std::int8_t>& values) {
  values_ = values;
  bits_ = 0;
  while (std::size_t{1} << bits_ < values.size()) ++bits_;
  for (std::size_t i = 0; i < values.size(); ++i)
    places_[static_cast<std::size_t>(byte_of(values[i]))] = static_cast<std::uint8_t>(i);
  const std::size_t nodes = std::size_t{1} << bits_;
  Mixer<4> mixer;
  mixer.weights = {own_weight, other_weight, other_weight, other_weight};
  mixers_.assign(nodes, mixer);
  common_.resize(nodes);
  by_mean_.resize(means * nodes);
  by_energy_.resize(energies * nodes);
  by_prediction_.resize(predictions * nodes);
}

// Codes the number of values, then one bit for every nonzero integer: whether it is in the table. The probability assumes that
// all tables of this size are equally likely.
template <class Coder>
void ValueTable::code_values(Coder& coder) {
  int missing = static_cast<int>(code_raw(coder, static_cast<std::uint32_t>(values_.size()) - 1, 6)) + 1;
  std::vector<std::int8_t> found;
  int left = 255;
  for (int value = -128; value < 128 && missing > 0; ++value) {
    if (value == 0) continue;
    bool is = missing == left;
    if (!is) {
      const bool listed = found.size() < values_.size() && values_[found.size()] == value;
      is = coder.code(listed, static_cast<std::uint32_t>((missing << 16) / left)) != 0;
    }
    --left;
    if (!is) continue;
    --missing;
    found.push_back(static_cast<std::int8_t>(value));
  }
  if constexpr (Coder::decodes) set(found);
}

template <class Coder>
int ValueTable::code(Coder& coder, int value, const ValueContext& around) {
  const std::uint32_t place = places_[static_cast<std::size_t>(byte_of(value))];
  const std::size_t nodes = mixers_.size();
  Counter* const mean = &by_mean_[static_cast<std::size_t>(around.mean) * nodes];
  Counter* const energy = &by_energy_[static_cast<std::size_t>(around.energy) * nodes];
  Counter* const prediction = &by_prediction_[static_cast<std::size_t>(around.prediction) * nodes];
  std::uint32_t node = 1;
  for (int k = bits_ - 1; k >= 0; --k) {
    const int bit = static_cast<int>(place >> k & 1);
    node = node << 1 | static_cast<std::uint32_t>(code_mixed<Coder, 4>(
                           coder, bit, mixers_[node], {&common_[node], mean + node, energy + node, prediction + node},
                           {steady, steady, steady, steady}));
  }
  // Indices past the table occur only in forged files.
  return values_[std::min<std::size_t>(node - nodes, values_.size() - 1)];
}

template void ValueTable::code_values(Encoder&);
template void ValueTable::code_values(Decoder&);
template int ValueTable::code(Encoder&, int, const ValueContext&);
template int ValueTable::code(Decoder&, int, const ValueContext&);

}  // namespace paretrim::trim

#include "plan/convolution.h"

#include <cstdlib>

namespace paretrim {
namespace {

bool power_of_two(int value, int most) { return value >= 1 && value <= most && (value & (value - 1)) == 0; }

bool in_range(const Choice& choice) {
  return choice.vectors >= 1 && choice.vectors <= max_vectors && power_of_two(choice.grouped, max_grouped) &&
         power_of_two(choice.passes, choice.grouped == 1 ? max_passes : 1) && power_of_two(choice.bands, max_bands);
}

}  // namespace

std::string text_of(const Choice& choice) {
  const std::string tile = std::to_string(choice.vectors) + " x " + std::to_string(choice.grouped);
  std::string text = std::string(name_of(choice.view)) + ", " + tile;
  if (choice.passes > 1) text += ", " + std::to_string(choice.passes) + " passes";
  if (choice.bands > 1) text += ", " + std::to_string(choice.bands) + " bands";
  return text;
}

std::optional<Choice> choice_from(const std::string& text) {
  const auto number_before = [&](const char* unit) {
    const std::size_t end = text.find(unit);
    const std::size_t start = end == std::string::npos ? end : text.rfind(' ', end - 1);
    return start == std::string::npos ? 1 : std::atoi(text.c_str() + start);
  };
  for (const ViewKind view : {ViewKind::in_place, ViewKind::columns, ViewKind::positions}) {
    const std::string start = std::string(name_of(view)) + ", ";
    if (text.compare(0, start.size(), start) != 0) continue;
    Choice choice{view, std::atoi(text.c_str() + start.size()), 1, number_before(" passes"), number_before(" bands")};
    if (const std::size_t by = text.find(" x "); by != std::string::npos) choice.grouped = std::atoi(text.c_str() + by + 3);
    // Formatting the choice again must give the same text, so nothing was misread.
    if (text_of(choice) == text && in_range(choice)) return choice;
  }
  return std::nullopt;
}

}  // namespace paretrim

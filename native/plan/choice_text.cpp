#include "plan/convolution.h"

namespace paretrim {

std::string text_of(const Choice& choice) {
  const std::string tile = std::to_string(choice.vectors) + " x " + std::to_string(choice.grouped);
  return std::string(name_of(choice.view)) + ", " + tile + (choice.passes > 1 ? ", " + std::to_string(choice.passes) + " passes" : "");
}

std::optional<Choice> choice_from(const std::string& text) {
  for (const ViewKind view : {ViewKind::in_place, ViewKind::columns, ViewKind::positions, ViewKind::tiles}) {
    for (int vectors = 1; vectors <= most_vectors; ++vectors) {
      for (int grouped = 1; grouped <= most_grouped; grouped *= 2) {
        for (int passes = 1; passes <= (grouped == 1 ? most_passes : 1); passes *= 2) {
          const Choice choice{view, vectors, grouped, passes};
          if (text_of(choice) == text) return choice;
        }
      }
    }
  }
  return std::nullopt;
}

}  // namespace paretrim

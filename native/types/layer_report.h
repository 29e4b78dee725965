// The cost of one step of the plan, and the kernel that computes it.
#pragma once

#include <string>

namespace paretrim {

struct LayerReport {
  std::string name;  // node names, joined by " + " if steps were fused
  std::string layer;
  std::string op;
  std::string kernel;               // for display: view, tile and group
  double weights = 0;               // including zeros
  double zeros = 0;                 // weights that are 0
  double multiply_adds = 0;         // for one image, as if the layer were dense
  double useful_multiply_adds = 0;  // without those on weights that are zero or only meet padding
  double issued_multiply_adds = 0;  // executed by the kernel, including partly filled blocks and padding
};

}  // namespace paretrim

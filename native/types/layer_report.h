// What one step of the plan costs and how it is computed.
#pragma once

#include <string>

namespace paretrim {

struct LayerReport {
  std::string name;  // node names, joined by " + " if steps were fused
  std::string layer;
  std::string op;
  std::string kernel;               // for people: view, tile and group
  double weights = 0;               // all of them, zeros included
  double zeros = 0;                 // how many are 0
  double multiply_adds = 0;         // dense, of one image
  double useful_multiply_adds = 0;  // without those on weights that are 0 or only meet padding
  double issued_multiply_adds = 0;  // what the kernel executes, partly filled blocks and padding included
};

}  // namespace paretrim

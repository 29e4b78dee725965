// How a network is planned and run.
#pragma once

#include <limits>
#include <string>

#include "types/poll.h"

namespace paretrim {

struct Settings {
  int threads = 1;              // of one call; the caller's own thread is one of them
  std::string instruction_set;  // "" for the best this CPU has, else a name of instruction_sets()
  bool measure = true;          // choose kernels by measuring them; false takes rules of thumb (deterministic, instant)
  std::string choices;          // what an earlier Network::choices() gave; ignored if made for another CPU, graph or version
  double measured_work =
      std::numeric_limits<double>::infinity();  // multiply-adds that measuring may execute; then rules of thumb
  Poll poll;                                    // called between layers while they are planned
};

}  // namespace paretrim

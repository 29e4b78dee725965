// Settings for planning and running a network.
#pragma once

#include <limits>
#include <string>

#include "types/poll.h"

namespace paretrim {

struct Settings {
  int threads = 1;              // per call, including the calling thread
  std::string instruction_set;  // one of instruction_sets(), or "" for the best one
  bool measure = true;          // choose kernels by measuring; false uses heuristics, which are instant and deterministic
  std::string choices;          // from an earlier Network::choices(); ignored if made for another CPU, graph or version
  double measured_work =
      std::numeric_limits<double>::infinity();  // multiply-adds to spend on measuring; after that, heuristics decide
  Poll poll;                                    // called between layers during planning
};

}  // namespace paretrim

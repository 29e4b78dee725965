// Replacements for std::min, std::max and std::rint, included inside the namespace of one instruction set. The standard
// library's are inline functions with external linkage: without optimization, the linker keeps one copy for all files, and a copy
// from an AVX-512 file would crash older CPUs.
template <typename T>
T min_of(T a, T b) {
  return b < a ? b : a;
}

template <typename T>
T max_of(T a, T b) {
  return a < b ? b : a;
}

inline float rounded(float value) { return __builtin_rintf(value); }

// What std::min, std::max and std::rint are, included inside the namespace of one instruction set. The standard library's are
// inline functions that the linker may take from any file that was built without optimization; from here they would bring
// instructions that an older CPU lacks into files of all.
template <typename T>
T least(T a, T b) {
  return b < a ? b : a;
}

template <typename T>
T most(T a, T b) {
  return a < b ? b : a;
}

inline float rounded(float value) { return __builtin_rintf(value); }

#include "trim/budget.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "graph/cost.h"
#include "trim/bytes.h"
#include "trim/reader.h"

namespace paretrim {
namespace trim {
namespace {

std::string whole(double number) { return number < 1e18 ? std::to_string(static_cast<std::int64_t>(number)) : "more than 10^18"; }

// Of numbers that a model decodes, a byte takes about as long as twenty bytes of zeros.
constexpr double modelled_base = 1 << 22, modelled_per_byte = 1 << 8;

// Zeros take next to no bytes, but memory and time. A network of any sparsity may have as many numbers as the largest ones in
// use, and a larger one as many as its bytes give with up to 99.6 % zeros.
constexpr double elements_of_any = 1 << 28, elements_per_byte = 1 << 7;

void check_usual(double value, double usual, std::uint64_t bytes, double times, const std::string& what) {
  if (value <= times * usual) return;
  const std::string wanted = whole(std::ceil(value / usual));
  corrupt("it would take " + whole(value) + " " + what + ", but the limit for " + whole(static_cast<double>(bytes)) +
              " stored bytes is " + whole(std::floor(times * usual)),
          "if you trust the file, load it with limit=" + wanted + ", or set PARETRIM_LIMIT=" + wanted);
}

// The budget is `base`, plus `per_byte` for each stored byte.
void check(double value, double base, double per_byte, std::uint64_t bytes, double times, const std::string& what) {
  check_usual(value, base + per_byte * static_cast<double>(bytes), bytes, times, what);
}

}  // namespace

void check_text(std::uint64_t decoded, std::uint64_t stored, double times) {
  check(static_cast<double>(decoded), 1 << 18, 1 << 7, stored, times, "bytes of text");
}

void check_parameters(std::uint64_t decoded, std::uint64_t file_bytes, double times) {
  check(static_cast<double>(decoded), modelled_base, modelled_per_byte, file_bytes, times, "bytes of parameters");
}

void Allowance::take(std::uint64_t bytes) {
  const auto taken = static_cast<double>(taken_ += bytes);
  if (taken <= times_ * (modelled_base + modelled_per_byte * static_cast<double>(file_bytes_))) return;
  check(static_cast<double>(most_), modelled_base, modelled_per_byte, file_bytes_, times_, "bytes of weights other than 0");
}

void check_budget(const Graph& graph, std::uint64_t file_bytes, double times) {
  const Cost cost = cost_of(graph);
  check(cost.parts, 1 << 14, 1.0 / 64, file_bytes, times, "nodes and inputs");
  check(cost.tensor_bytes, 1 << 24, 1 << 11, file_bytes, times, "bytes of weights and tables");
  const double elements = std::max(elements_of_any, elements_per_byte * static_cast<double>(file_bytes));
  check_usual(cost.tensor_elements, elements, file_bytes, times, "numbers in weights and tables");
  check(cost.live_bytes, 1 << 28, 0, file_bytes, times, "bytes of values at once");
  check(cost.multiply_adds, 17179869184.0, 1 << 18, file_bytes, times, "multiply-adds for one image");
}

}  // namespace trim

double usual_limit() {
  const char* set = std::getenv("PARETRIM_LIMIT");
  if (set == nullptr || *set == '\0') return 1;
  char* end = nullptr;
  const double times = std::strtod(set, &end);
  if (*end != '\0' || !(times > 0)) {
    throw Error(ErrorKind::unsupported_operation, "PARETRIM_LIMIT is '" + std::string(set) + "'; it must be a number above 0");
  }
  return times;
}

double measured_work(std::uint64_t file_bytes, double times) {
  return times * (34359738368.0 + 1048576.0 * static_cast<double>(file_bytes));
}

}  // namespace paretrim

#include "graph/functions.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "graph/attributes.h"
#include "types/error.h"

namespace paretrim {
namespace {

double sigmoid(double x) {
  const double decay = std::exp(-std::fabs(x));
  return (x >= 0 ? 1.0 : decay) / (1.0 + decay);
}

constexpr double smallest = std::numeric_limits<float>::min(), largest = 1e38;
constexpr double selu_alpha = 1.6732632423543772, selu_scale = 1.0507009873554805;

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }

double elu(double x, double alpha) { return x > 0 ? x : alpha * std::expm1(x); }

double gelu_tanh(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / 3.141592653589793) * (x + 0.044715 * std::pow(x, 3))));
}

double power(double x, double exponent) {
  const bool whole = std::trunc(exponent) == exponent;
  if (exponent >= 0) return std::pow(whole ? x : std::max(x, 0.0), exponent);
  const double least = std::max(smallest, std::pow(largest, 1.0 / (exponent - 1.0)));
  return std::pow(whole ? (std::fabs(x) < least ? least : x) : std::max(x, least), exponent);
}

double softshrink(double x, double reach) {
  const double size = std::max(std::fabs(x) - reach, 0.0);
  return x > 0 ? size : x < 0 ? -size : 0.0;
}

double hardsigmoid(double x) { return std::clamp(x + 3.0, 0.0, 6.0) / 6.0; }

struct Function {
  std::string_view name;
  bool takes_constant;
  bool exact;
  double (*of)(double x, double constant);
};

constexpr Function functions[] = {
    {"sigmoid", false, false, [](double x, double) { return sigmoid(x); }},
    {"silu", false, false, [](double x, double) { return x * sigmoid(x); }},
    {"hardsigmoid", false, true, [](double x, double) { return hardsigmoid(x); }},
    {"hardswish", false, true, [](double x, double) { return x * hardsigmoid(x); }},
    {"tanh", false, false, [](double x, double) { return std::tanh(x); }},
    {"gelu", false, false, [](double x, double) { return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0))); }},
    {"gelu_tanh", false, false, [](double x, double) { return gelu_tanh(x); }},
    {"elu", false, false, [](double x, double) { return elu(x, 1.0); }},
    {"selu", false, false, [](double x, double) { return selu_scale * elu(x, selu_alpha); }},
    {"softplus", false, false, [](double x, double) { return softplus(x); }},
    {"logsigmoid", false, false, [](double x, double) { return -softplus(-x); }},
    {"mish", false, false, [](double x, double) { return x * std::tanh(softplus(x)); }},
    {"abs", false, true, [](double x, double) { return std::fabs(x); }},
    {"exp", false, false, [](double x, double) { return std::exp(x); }},
    {"log", false, false, [](double x, double) { return std::log(std::max(x, smallest)); }},
    {"erf", false, false, [](double x, double) { return std::erf(x); }},
    {"sin", false, false, [](double x, double) { return std::sin(x); }},
    {"relu6", false, true, [](double x, double) { return std::clamp(x, 0.0, 6.0); }},
    {"requantize", false, true, [](double x, double) { return x; }},
    {"leaky_relu", true, true, [](double x, double slope) { return x >= 0 ? x : slope * x; }},
    {"clamp_min", true, true, [](double x, double least) { return std::max(x, least); }},
    {"clamp_max", true, true, [](double x, double most) { return std::min(x, most); }},
    {"add_constant", true, true, [](double x, double term) { return x + term; }},
    {"mul_constant", true, true, [](double x, double factor) { return x * factor; }},
    {"power", true, false, power},
    {"elu_alpha", true, false, elu},
    {"celu", true, false, [](double x, double alpha) { return x > 0 ? x : alpha * std::expm1(x / alpha); }},
    {"softplus_beta", true, false, [](double x, double beta) { return softplus(beta * x) / beta; }},
    {"threshold", true, true, [](double x, double least) { return x > least ? x : 0.0; }},
    {"step", true, true, [](double x, double bound) { return x > bound ? 1.0 : 0.0; }},
    {"hardshrink", true, true, [](double x, double reach) { return std::fabs(x) > reach ? x : 0.0; }},
    {"softshrink", true, true, softshrink},
};

const Function* function_named(std::string_view name) {
  for (const Function& function : functions) {
    if (function.name == name) return &function;
  }
  return nullptr;
}

std::uint8_t onto_grid(double real, const ValueType& type) {
  const double value = std::rint(real / static_cast<double>(type.scale)) + type.zero_point;
  return value >= 255 ? 255 : value > 0 ? static_cast<std::uint8_t>(value) : 0;
}

// [C, 256]
template <typename T, typename Of>
std::vector<T> of_pixels(const InputSpec& input, const Of& of) {
  std::vector<T> table;
  table.reserve(input.mean.size() * 256);
  for (std::size_t channel = 0; channel < input.mean.size(); ++channel) {
    for (int pixel = 0; pixel < 256; ++pixel) table.push_back(of((pixel / 255.0 - input.mean[channel]) / input.std[channel]));
  }
  return table;
}

}  // namespace

std::vector<FunctionName> exact_functions() {
  std::vector<FunctionName> found;
  for (const Function& function : functions) {
    if (function.exact) found.push_back({function.name, function.takes_constant});
  }
  return found;
}

void check_function(const Node& node) {
  const std::string name = text(node, "function");
  const Function* function = function_named(name);
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorKind::unsupported_operation, "pointwise function '" + name + "' " + why);
  };
  if (function == nullptr) refuse("is unknown; docs/integer-graph.md lists the known ones");
  const bool given = number(node, "constant").has_value();
  if (function->takes_constant && !given) refuse("lacks its attribute 'constant'; add it");
  if (!function->takes_constant && given) refuse("takes no constant and was given one; leave it out");
}

PointwiseFunction function_of(const Node& node) {
  return {function_named(text(node, "function"))->of, number(node, "constant").value_or(0)};
}

std::vector<std::uint8_t> pointwise_table(const Node& node, const ValueType& source) {
  const PointwiseFunction function = function_of(node);
  std::vector<std::uint8_t> table;
  for (int q = 0; q < 256; ++q) {
    table.push_back(onto_grid(function(static_cast<double>(source.scale) * (q - source.zero_point)), node.type));
  }
  return table;
}

std::vector<float> pixel_values(const InputSpec& input) {
  return of_pixels<float>(input, [](double real) { return static_cast<float>(real); });
}

std::vector<std::uint8_t> pixel_table(const InputSpec& input, const ValueType& type) {
  return of_pixels<std::uint8_t>(input, [&](double real) { return onto_grid(real, type); });
}

}  // namespace paretrim

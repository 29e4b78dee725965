#include "graph/attributes.h"

#include <algorithm>
#include <cmath>

#include "types/error.h"

namespace paretrim {
namespace {

using Kind = AttributeKind;
using Rules = std::vector<AttributeRule>;

std::vector<Rules> make_rules() {
  std::vector<Rules> rules(op_count);
#define PARETRIM_ATTRIBUTE(operation, name, kind, length, minimum, required, ...) \
  rules[static_cast<std::size_t>(Op::operation)].push_back({#name, Kind::kind, length, minimum, required, {__VA_ARGS__}});
#include "graph/operations.inc"
  return rules;
}

// Created when the library is loaded and never destroyed, so neither a fork nor process exit can pull it from under a running
// call.
const std::vector<Rules>& all_rules = *new std::vector<Rules>(make_rules());

const AttributeRule* rule_named(Op op, std::string_view name) {
  for (const AttributeRule& rule : attribute_rules(op)) {
    if (rule.name == name) return &rule;
  }
  return nullptr;
}

std::string names_of(const Rules& rules) {
  std::string names;
  for (const AttributeRule& rule : rules) names += (names.empty() ? "" : ", ") + std::string(rule.name);
  return names.empty() ? "none" : names;
}

bool good(const Attribute& value, const AttributeRule& rule) {
  const auto whole = [&rule](std::int64_t item) { return rule.minimum <= item && item <= largest_extent; };
  switch (rule.kind) {
    case Kind::integer: {
      const auto* item = std::get_if<std::int64_t>(&value);
      return item != nullptr && whole(*item);
    }
    case Kind::integers: {
      const auto* items = std::get_if<std::vector<std::int64_t>>(&value);
      return items != nullptr && items->size() == rule.length && std::all_of(items->begin(), items->end(), whole);
    }
    case Kind::number: {
      const auto* item = std::get_if<double>(&value);
      return std::holds_alternative<std::int64_t>(value) || (item != nullptr && std::isfinite(*item));
    }
    case Kind::text:
      return std::holds_alternative<std::string>(value);
  }
  return false;
}

std::string wanted(const AttributeRule& rule) {
  switch (rule.kind) {
    case Kind::integer:
      return "an integer from " + std::to_string(rule.minimum);
    case Kind::integers:
      return std::to_string(rule.length) + " integers from " + std::to_string(rule.minimum);
    case Kind::number:
      return "a finite number";
    case Kind::text:
      break;
  }
  return "a string";
}

[[noreturn]] void refuse(const Node& node, const std::string& why) {
  throw Error(ErrorKind::unsupported_operation, std::string(name_of(node.op)) + " " + why);
}

const AttributeRule& known_rule(const Node& node, std::string_view name, Kind kind) {
  const AttributeRule* rule = rule_named(node.op, name);
  if (rule == nullptr || rule->kind != kind) refuse(node, "has no such attribute '" + std::string(name) + "'");
  return *rule;
}

template <typename T>
const T* given(const Node& node, const AttributeRule& rule) {
  const auto found = node.attributes.find(rule.name);
  if (found != node.attributes.end()) {
    if (const T* value = std::get_if<T>(&found->second)) return value;
    refuse(node, "has " + std::string(rule.name) + " of another kind; it must be " + wanted(rule));
  }
  if (rule.required) refuse(node, "lacks the attribute '" + std::string(rule.name) + "'; add it");
  return nullptr;
}

std::vector<std::int64_t> of_length(const Node& node, std::string_view name, std::size_t length) {
  std::vector<std::int64_t> values = integers(node, name);
  if (values.size() != length) refuse(node, "has " + std::to_string(values.size()) + " numbers as " + std::string(name));
  return values;
}

}  // namespace

const std::vector<AttributeRule>& attribute_rules(Op op) { return all_rules.at(static_cast<std::size_t>(op)); }

void check_attributes(const Node& node) {
  const Rules& rules = attribute_rules(node.op);
  for (const auto& [name, value] : node.attributes) {
    const AttributeRule* rule = rule_named(node.op, name);
    if (rule == nullptr) refuse(node, "has the unknown attribute '" + name + "'; it takes " + names_of(rules));
    if (!good(value, *rule)) refuse(node, "has a wrong " + name + "; it must be " + wanted(*rule));
  }
  for (const AttributeRule& rule : rules) {
    if (rule.required && node.attributes.find(rule.name) == node.attributes.end()) {
      refuse(node, "lacks the attribute '" + std::string(rule.name) + "'; add it");
    }
  }
}

std::int64_t integer(const Node& node, std::string_view name) {
  const AttributeRule& rule = known_rule(node, name, Kind::integer);
  const auto* value = given<std::int64_t>(node, rule);
  return value != nullptr ? *value : rule.fallback[0];
}

std::vector<std::int64_t> integers(const Node& node, std::string_view name) {
  const AttributeRule& rule = known_rule(node, name, Kind::integers);
  const auto* value = given<std::vector<std::int64_t>>(node, rule);
  if (value != nullptr) return *value;
  return {rule.fallback.begin(), rule.fallback.begin() + static_cast<std::ptrdiff_t>(rule.length)};
}

Pair pair(const Node& node, std::string_view name) {
  const std::vector<std::int64_t> values = of_length(node, name, 2);
  return {values[0], values[1]};
}

Edges edges(const Node& node, std::string_view name) {
  const std::vector<std::int64_t> values = of_length(node, name, 4);
  return {values[0], values[1], values[2], values[3]};
}

std::string text(const Node& node, std::string_view name) {
  return *given<std::string>(node, known_rule(node, name, Kind::text));
}

std::optional<double> number(const Node& node, std::string_view name) {
  const AttributeRule& rule = known_rule(node, name, Kind::number);
  const auto found = node.attributes.find(rule.name);
  if (found == node.attributes.end()) return std::nullopt;
  if (const auto* whole = std::get_if<std::int64_t>(&found->second)) return static_cast<double>(*whole);
  return *given<double>(node, rule);
}

}  // namespace paretrim

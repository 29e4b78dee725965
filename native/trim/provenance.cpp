#include "trim/provenance.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <locale>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "trim/bytes.h"

namespace paretrim::trim {
namespace {

constexpr int deepest = 64;  // nesting of arrays and objects

enum class Kind : std::uint8_t { object, array, text, whole, real, truth, null };

struct ParsedValue {
  Kind kind = Kind::null;
  std::size_t at = 0;      // offset of the value
  std::int64_t whole = 0;  // value of an integer
};

using Members = std::map<std::string, ParsedValue>;
using Items = std::vector<ParsedValue>;

// Parses JSON (RFC 8259), but refuses duplicate keys, deep nesting and numbers that are out of range.
class Reader {
 public:
  explicit Reader(std::string_view text, std::size_t at = 0) : text_(text), at_(at) {}

  // Parses the next value completely. Stores the members of an object or the items of an array if the pointers are not null.
  ParsedValue value(int depth, Members* members, Items* items) {
    skip_spaces();
    ParsedValue found;
    found.at = at_;
    const char next = peek();
    if (next == '{') {
      found.kind = Kind::object;
      object(depth, members);
    } else if (next == '[') {
      found.kind = Kind::array;
      array(depth, items);
    } else if (next == '"') {
      found.kind = Kind::text;
      string();
    } else if (next == '-' || is_digit(next)) {
      number(found);
    } else if (literal("true") || literal("false")) {
      found.kind = Kind::truth;
    } else if (!literal("null")) {
      refuse(literal("NaN") || literal("Infinity") ? "holds NaN or infinity; numbers are finite" : "is not valid JSON");
    }
    return found;
  }

  void end() {
    skip_spaces();
    if (at_ < text_.size()) refuse("is not valid JSON");
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const { corrupt("it " + why + " (at byte " + std::to_string(at_) + ")"); }
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
  }
  bool take(char c) {
    if (peek() != c || at_ >= text_.size()) return false;
    ++at_;
    return true;
  }
  void require(char c) {
    if (!take(c)) refuse("is not valid JSON");
  }
  bool literal(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void object(int depth, Members* members) {
    if (depth >= deepest) refuse("is nested more than " + std::to_string(deepest) + " deep");
    Members own;
    Members& known = members ? *members : own;
    require('{');
    skip_spaces();
    if (take('}')) return;
    do {
      skip_spaces();
      const std::string key = string();
      skip_spaces();
      require(':');
      if (!known.emplace(key, value(depth + 1, nullptr, nullptr)).second) refuse("repeats a key");
      skip_spaces();
    } while (take(','));
    require('}');
  }

  void array(int depth, Items* items) {
    if (depth >= deepest) refuse("is nested more than " + std::to_string(deepest) + " deep");
    require('[');
    skip_spaces();
    if (take(']')) return;
    do {
      const ParsedValue item = value(depth + 1, nullptr, nullptr);
      if (items) items->push_back(item);
      skip_spaces();
    } while (take(','));
    require(']');
  }

  std::string string() {
    std::string result;
    require('"');
    for (;;) {
      if (at_ >= text_.size()) refuse("is not valid JSON");
      const char next = text_[at_++];
      if (next == '"') return result;
      if (static_cast<unsigned char>(next) < 0x20) refuse("is not valid JSON");
      if (next == '\\') {
        escape(result);
      } else {
        result += next;
      }
    }
  }

  void escape(std::string& result) {
    constexpr std::string_view names = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    const char name = peek();
    ++at_;
    if (const std::size_t found = names.find(name); found != std::string_view::npos) {
      result += meanings[found];
      return;
    }
    if (name != 'u') refuse("is not valid JSON");
    std::uint32_t point = four_digits();
    if (point >= 0xd800 && point < 0xdc00 && literal("\\u")) {
      const std::uint32_t second = four_digits();
      if (second < 0xdc00 || second > 0xdfff) refuse("is not valid JSON: it holds half of a character");
      point = 0x10000 + ((point - 0xd800) << 10) + (second - 0xdc00);
    }
    if (point >= 0xd800 && point < 0xe000) refuse("is not valid JSON: it holds half of a character");
    append(result, point);
  }

  std::uint32_t four_digits() {
    std::uint32_t point = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = peek();
      if (std::isxdigit(static_cast<unsigned char>(c)) == 0) refuse("is not valid JSON");
      point = point << 4 | static_cast<std::uint32_t>(is_digit(c) ? c - '0' : (c | 32) - 'a' + 10);
      ++at_;
    }
    return point;
  }

  static void append(std::string& result, std::uint32_t point) {
    const auto more = [&](int shift) { result += static_cast<char>(0x80 | (point >> shift & 0x3f)); };
    if (point < 0x80) {
      result += static_cast<char>(point);
    } else if (point < 0x800) {
      result += static_cast<char>(0xc0 | point >> 6);
      more(0);
    } else if (point < 0x10000) {
      result += static_cast<char>(0xe0 | point >> 12);
      more(6);
      more(0);
    } else {
      result += static_cast<char>(0xf0 | point >> 18);
      more(12);
      more(6);
      more(0);
    }
  }

  void digits() {
    if (!is_digit(peek())) refuse("is not valid JSON");
    while (is_digit(peek())) ++at_;
  }

  void number(ParsedValue& found) {
    const std::size_t start = at_;
    const bool negative = take('-');
    if (literal("Infinity")) refuse("holds NaN or infinity; numbers are finite");
    if (!take('0')) digits();
    found.kind = Kind::whole;
    if (take('.')) {
      found.kind = Kind::real;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      found.kind = Kind::real;
      ++at_;
      if (!take('+')) take('-');
      digits();
    }
    const std::string text(text_.substr(start, at_ - start));
    if (found.kind == Kind::whole) {
      found.whole = whole(std::string_view(text).substr(negative ? 1 : 0), negative);
    } else if (!finite(text)) {
      refuse("holds NaN or infinity; numbers are finite");
    }
  }

  std::int64_t whole(std::string_view text, bool negative) const {
    const std::uint64_t most = (std::uint64_t{1} << 63) - (negative ? 0 : 1);
    std::uint64_t size = 0;
    for (const char c : text) {
      const auto digit = static_cast<std::uint64_t>(c - '0');
      if (size > (most - digit) / 10) refuse("holds an integer of " + std::to_string(text.size()) + " digits, beyond int64");
      size = size * 10 + digit;
    }
    return static_cast<std::int64_t>(negative ? 0 - size : size);
  }

  // Uses the classic locale, because the program's locale may have another decimal point.
  static bool finite(const std::string& text) {
    std::istringstream stream(text);
    stream.imbue(std::locale::classic());
    double value = 0;
    stream >> value;
    return !stream.fail();
  }

  std::string_view text_;
  std::size_t at_;
};

template <std::size_t N>
bool has_exactly(const Members& members, const std::array<std::string_view, N>& names) {
  return members.size() == N && std::all_of(names.begin(), names.end(), [&](std::string_view name) {
           return members.find(std::string(name)) != members.end();
         });
}

void check_stage(std::string_view text, const ParsedValue& stage) {
  constexpr std::array<std::string_view, 8> names = {"accuracy_after", "accuracy_before", "bits",     "epochs",
                                                     "name",           "seconds",         "settings", "sparsity"};
  Members members;
  Reader(text, stage.at).value(0, &members, nullptr);
  if (stage.kind != Kind::object || !has_exactly(members, names)) {
    corrupt(
        "a stage of the history must have exactly the keys accuracy_after, accuracy_before, bits, epochs, name, seconds, "
        "settings and sparsity");
  }
  const auto kind = [&](const char* name) { return members.find(name)->second.kind; };
  const auto number = [&](const char* name) { return kind(name) == Kind::whole || kind(name) == Kind::real; };
  const bool right = kind("name") == Kind::text && kind("settings") == Kind::object && kind("epochs") == Kind::whole &&
                     kind("bits") == Kind::whole && number("seconds") && number("sparsity") && number("accuracy_before") &&
                     number("accuracy_after");
  if (!right) corrupt("a stage of the history must have a string name, settings, integer epochs and bits, and numbers");
}

}  // namespace

void check_provenance(std::string_view text) {
  if (text.empty()) return;
  Members members;
  Reader reader(text);
  const ParsedValue top = reader.value(0, &members, nullptr);
  reader.end();
  if (top.kind != Kind::object) corrupt("it is not an object");
  const auto format = members.find("format");
  if (format == members.end() || format->second.kind != Kind::whole || format->second.whole != 1) {
    corrupt("its format is not 1, the only one that this version reads", "update paretrim");
  }
  if (!has_exactly(members, std::array<std::string_view, 4>{"format", "recipe", "history", "measured"})) {
    corrupt("its keys must be exactly format, recipe, history and measured");
  }
  const auto is = [&](const char* name, Kind kind) { return members.find(name)->second.kind == kind; };
  if (!is("recipe", Kind::text) || !is("history", Kind::array) || !is("measured", Kind::object)) {
    corrupt("recipe must be a string, history a list and measured a mapping");
  }
  Members measured;
  Reader(text, members.find("measured")->second.at).value(0, &measured, nullptr);
  for (const auto& [name, found] : measured) {
    if (found.kind == Kind::object || found.kind == Kind::array || found.kind == Kind::null) {
      corrupt("the values of measured must be numbers or strings");
    }
  }
  Items history;
  Reader(text, members.find("history")->second.at).value(0, nullptr, &history);
  for (const ParsedValue& stage : history) check_stage(text, stage);
}

}  // namespace paretrim::trim

// The library's own errors. The kinds match paretrim.errors; the message says what was given, what is allowed and where.
#pragma once

#include <array>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace paretrim {

// A number with all the digits of a float32, as 1.17549435e-38: std::to_string would write it as 0.000000.
inline std::string digits_of(double number) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.9g", number);
  return text.data();
}

enum class ErrorKind {
  corrupt_file,           // damaged data, or not a .trim file
  unsupported_operation,  // an operation or a setting that the runtime does not support
  data_unavailable,       // invalid images or arguments
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(escaped(message)), kind(kind) {}
  const ErrorKind kind;

 private:
  // Escapes control characters as \xNN, because a message may quote an untrusted file.
  static std::string escaped(const std::string& message) {
    constexpr char digits[] = "0123456789abcdef";
    std::string result;
    for (std::size_t i = 0; i < message.size(); ++i) {
      const auto byte = static_cast<unsigned char>(message[i]);
      const auto next = static_cast<unsigned char>(i + 1 < message.size() ? message[i + 1] : 0);
      const bool second_set = byte == 0xC2 && next >= 0x80 && next < 0xA0;  // C1 control characters in UTF-8
      if (byte >= 0x20 && byte != 0x7F && !second_set) {
        result += message[i];
        continue;
      }
      const unsigned char control = second_set ? next : byte;
      result += {'\\', 'x', digits[control >> 4U], digits[control & 15U]};
      i += second_set ? 1 : 0;
    }
    return result;
  }
};

}  // namespace paretrim

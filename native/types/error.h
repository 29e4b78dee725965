// Every error the library raises on purpose. The kinds are those of paretrim.errors; the message says what was given, what is
// allowed and where.
#pragma once

#include <stdexcept>
#include <string>

namespace paretrim {

enum class ErrorKind {
  corrupt_file,           // bytes that cannot be what they claim to be
  unsupported_operation,  // outside what the runtime computes, or a setting it does not have
  data_unavailable,       // images of another shape or type than the network takes
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(shown(message)), kind(kind) {}
  const ErrorKind kind;

 private:
  // A message may quote an untrusted file: control characters are written out as numbers.
  static std::string shown(const std::string& message) {
    constexpr char digits[] = "0123456789abcdef";
    std::string result;
    for (std::size_t i = 0; i < message.size(); ++i) {
      const auto byte = static_cast<unsigned char>(message[i]);
      const auto next = static_cast<unsigned char>(i + 1 < message.size() ? message[i + 1] : 0);
      const bool second_set = byte == 0xC2 && next >= 0x80 && next < 0xA0;  // controls beyond ASCII, in UTF-8
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

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
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind(kind) {}
  const ErrorKind kind;
};

}  // namespace paretrim

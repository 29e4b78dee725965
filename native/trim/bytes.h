// Reads and writes the uncoded parts of a file. Every read is bounds-checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "types/error.h"

namespace paretrim::trim {

// Refuses a file: what is wrong with it, and what to do.
[[noreturn]] inline void corrupt(const std::string& why, const std::string& next = "copy or write the file again") {
  throw Error(ErrorKind::corrupt_file, why + "; " + next);
}
// Passes an error on, with the place in the file before it.
[[noreturn]] inline void corrupt_at(const std::string& place, const std::exception& error) {
  throw Error(ErrorKind::corrupt_file, place + ": " + error.what());
}

class ByteWriter {
 public:
  void byte(std::uint8_t value) { bytes_.push_back(value); }
  // A varint: seven bits per byte, lowest first; the top bit is set if another byte follows.
  void number(std::uint64_t value) {
    for (; value >= 128; value >>= 7) byte(static_cast<std::uint8_t>(value | 128));
    byte(static_cast<std::uint8_t>(value));
  }
  // Zigzag: 0, -1, 1, -2 .. as 0, 1, 2, 3 ..
  void integer(std::int64_t value) { number(static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63)); }
  void fixed(std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) byte(static_cast<std::uint8_t>(value >> 8 * i));
  }
  void append(const std::uint8_t* data, std::size_t size) { bytes_.insert(bytes_.end(), data, data + size); }
  void text(std::string_view value) {
    number(value.size());
    append(reinterpret_cast<const std::uint8_t*>(value.data()), value.size());
  }
  std::vector<std::uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<std::uint8_t> bytes_;
};

class ByteReader {
 public:
  ByteReader(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  std::size_t position() const { return at_; }
  std::size_t left() const { return size_ - at_; }
  const std::uint8_t* take(std::size_t size) {
    if (size > left()) corrupt("it is truncated");
    at_ += size;
    return data_ + (at_ - size);
  }
  std::uint8_t byte() { return *take(1); }
  // A varint of at most `most`, in its shortest form.
  std::uint64_t number(std::uint64_t most, const char* what) {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::uint8_t next = byte();
      const std::uint64_t part = next & 127;
      if (shift == 63 && part > 1) break;
      value |= part << shift;
      if (next < 128) {
        if (next == 0 && shift > 0) break;
        if (value > most) corrupt(std::string(what) + " is " + std::to_string(value) + ", above " + std::to_string(most));
        return value;
      }
    }
    corrupt(std::string(what) + " is not a number in its shortest form");
  }
  std::int64_t integer(const char* what) {
    const std::uint64_t value = number(~std::uint64_t{0}, what);
    return static_cast<std::int64_t>(value >> 1 ^ (~(value & 1) + 1));
  }
  std::uint64_t fixed(int size) {
    const std::uint8_t* from = take(static_cast<std::size_t>(size));
    std::uint64_t value = 0;
    for (int i = 0; i < size; ++i) value |= std::uint64_t{from[i]} << 8 * i;
    return value;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

}  // namespace paretrim::trim

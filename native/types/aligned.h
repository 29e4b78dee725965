// Zero-initialised memory, aligned to a cache line.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "types/alignment.h"
#include "types/room.h"

namespace paretrim {

template <typename T>
class AlignedArray {
 public:
  AlignedArray() = default;
  explicit AlignedArray(std::size_t count) : size_(count) {
    const std::size_t bytes = (count * sizeof(T) + alignment - 1) / alignment * alignment;
    void* memory = bytes >= much_memory ? mapped(bytes) : std::aligned_alloc(alignment, bytes > 0 ? bytes : alignment);
    if (memory == nullptr) throw std::bad_alloc();
    if (bytes < much_memory) std::memset(memory, 0, bytes);
    data_ = {static_cast<T*>(memory), Free{bytes}};
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    std::size_t bytes = 0;
    void operator()(T* memory) const { bytes >= much_memory ? unmapped(memory, bytes) : std::free(memory); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace paretrim

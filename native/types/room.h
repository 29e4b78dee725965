// Vectors whose memory, where it is much, lies in huge pages: a system hands out and clears a gigabyte in a fraction of the time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace paretrim {

// Sanitizers watch only what comes from their own allocators.
#if defined(__SANITIZE_ADDRESS__)
#define PARETRIM_MAPS 0
#elif defined(__linux__)
#define PARETRIM_MAPS 1
#else
#define PARETRIM_MAPS 0
#endif

#if PARETRIM_MAPS
inline constexpr std::size_t much_memory = std::size_t{1} << 22;  // bytes: two huge pages

// Memory of its own for an array of so many bytes, zeroed; null where there is none.
inline void* mapped(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  madvise(memory, bytes, MADV_HUGEPAGE);  // a wish; without it all is the same, but slower
  return memory;
}
inline void unmapped(void* memory, std::size_t bytes) { munmap(memory, bytes); }

// The same wish for memory of another allocator that was not written yet.
inline void wish_for_huge_pages(void* memory, std::size_t bytes) {
  constexpr std::uintptr_t page = std::uintptr_t{1} << 21;
  const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}
#else
inline constexpr std::size_t much_memory = std::numeric_limits<std::size_t>::max();
inline void* mapped(std::size_t) { return nullptr; }
inline void unmapped(void*, std::size_t) {}
inline void wish_for_huge_pages(void*, std::size_t) {}
#endif

template <typename T>
struct RoomAllocator {
  using value_type = T;

  RoomAllocator() = default;
  template <typename Other>
  RoomAllocator(const RoomAllocator<Other>&) {}

  T* allocate(std::size_t count) {
    if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_alloc();
    if (count * sizeof(T) < much_memory) return static_cast<T*>(::operator new(count * sizeof(T)));
    void* memory = mapped(count * sizeof(T));
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t count) {
    if (count * sizeof(T) < much_memory) return ::operator delete(memory);
    unmapped(memory, count * sizeof(T));
  }

  template <typename Other>
  bool operator==(const RoomAllocator<Other>&) const {
    return true;
  }
  template <typename Other>
  bool operator!=(const RoomAllocator<Other>&) const {
    return false;
  }
};

// A vector of arrays that may be large.
template <typename T>
using Room = std::vector<T, RoomAllocator<T>>;

}  // namespace paretrim

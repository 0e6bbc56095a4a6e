// Device memory: every allocation ends at a page that can't be touched, and starts as NaN.
#ifndef SAMENGINE_MEMORY_H_
#define SAMENGINE_MEMORY_H_

#include <stddef.h>
#include <stdint.h>

#include <map>
#include <mutex>
#include <string>

namespace sam::emulator {

// What an address is, for messages.
std::string DescribeAddress(const void* address);

class Memory {
 public:
  static Memory& Instance();

  // Null when the device's memory, or the machine's, is used up.
  void* Allocate(size_t bytes);
  // False when it is not the start of an allocation.
  bool Free(void* start);
  void FreeAll();
  bool Contains(const void* start, size_t bytes);

  void* AllocatePinned(size_t bytes);
  bool FreePinned(void* start);
  bool IsPinned(const void* start, size_t bytes);

  size_t Total();
  size_t Used();
  void SetTotal(size_t bytes);
  int64_t Live();

  std::string Describe(const void* address);

 private:
  struct Allocation {
    size_t bytes;
    char* mapping;
    size_t mapped;
  };

  std::mutex mutex_;
  std::map<const char*, Allocation> allocations_, pinned_;
  size_t total_ = (size_t)16 << 30;
  size_t used_ = 0;

  static const Allocation* Find(const std::map<const char*, Allocation>& in, const void* start, size_t bytes);
};

}  // namespace sam::emulator

#endif  // SAMENGINE_MEMORY_H_

#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace sam::emulator {

namespace {

constexpr size_t kAlignment = 16;
constexpr size_t kPinnedAlignment = 4096;

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

std::string DescribeAddress(const void* address) { return Memory::Instance().Describe(address); }

Memory& Memory::Instance() {
  static Memory* memory = new Memory();  // outlives whatever still runs at exit
  return *memory;
}

void* Memory::Allocate(size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (bytes > total_ - used_) return nullptr;
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t body = RoundUp(bytes, page);
  size_t mapped = body + 2 * page;
  char* mapping = (char*)mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  mprotect(mapping, page, PROT_NONE);
  mprotect(mapping + page + body, page, PROT_NONE);
  char* start = mapping + page + body - RoundUp(bytes, kAlignment);
  memset(start, 0xff, RoundUp(bytes, kAlignment));
  allocations_[start] = {bytes, mapping, mapped};
  used_ += bytes;
  return start;
}

bool Memory::Free(void* start) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto found = allocations_.find((const char*)start);
  if (found == allocations_.end()) return false;
  munmap(found->second.mapping, found->second.mapped);
  used_ -= found->second.bytes;
  allocations_.erase(found);
  return true;
}

void Memory::FreeAll() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [start, allocation] : allocations_) munmap(allocation.mapping, allocation.mapped);
  allocations_.clear();
  used_ = 0;
}

const Memory::Allocation* Memory::Find(const std::map<const char*, Allocation>& in, const void* start,
                                       size_t bytes) {
  auto after = in.upper_bound((const char*)start);
  if (after == in.begin()) return nullptr;
  auto& [first, allocation] = *--after;
  size_t offset = (size_t)((const char*)start - first);
  return offset <= allocation.bytes && bytes <= allocation.bytes - offset ? &allocation : nullptr;
}

bool Memory::Contains(const void* start, size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  return Find(allocations_, start, bytes) != nullptr;
}

void* Memory::AllocatePinned(size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  void* start = aligned_alloc(kPinnedAlignment, RoundUp(bytes, kPinnedAlignment));
  if (start) pinned_[(const char*)start] = {bytes, nullptr, 0};
  return start;
}

bool Memory::FreePinned(void* start) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (pinned_.erase((const char*)start) == 0) return false;
  free(start);
  return true;
}

bool Memory::IsPinned(const void* start, size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  return Find(pinned_, start, bytes) != nullptr;
}

size_t Memory::Total() {
  std::lock_guard<std::mutex> lock(mutex_);
  return total_;
}

size_t Memory::Used() {
  std::lock_guard<std::mutex> lock(mutex_);
  return used_;
}

void Memory::SetTotal(size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  total_ = bytes > used_ ? bytes : used_;
}

int64_t Memory::Live() {
  std::lock_guard<std::mutex> lock(mutex_);
  return (int64_t)allocations_.size();
}

std::string Memory::Describe(const void* address) {
  std::lock_guard<std::mutex> lock(mutex_);
  char text[200];
  const char* at = (const char*)address;
  for (auto& [start, allocation] : allocations_) {
    if (at < allocation.mapping || at >= allocation.mapping + allocation.mapped) continue;
    if (at < start) {
      snprintf(text, sizeof text, "%zu bytes before a device allocation of %zu bytes", (size_t)(start - at),
               allocation.bytes);
    } else {
      snprintf(text, sizeof text, "%zu bytes behind the start of a device allocation of %zu bytes",
               (size_t)(at - start), allocation.bytes);
    }
    return text;
  }
  snprintf(text, sizeof text, "%p, which is in no device allocation", address);
  return text;
}

}  // namespace sam::emulator

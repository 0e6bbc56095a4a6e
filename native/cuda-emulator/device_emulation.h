// kernels/device.h for the emulator: the same names as on a GPU, on fibres of the CPU. It finds faults of
// logic and of indexing; it does not find races or anything about speed.
#ifndef SAMENGINE_DEVICE_EMULATION_H_
#define SAMENGINE_DEVICE_EMULATION_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fibers.h"

#define __device__
#define SAM_DEVICE static inline
#define SAM_METHOD inline
#define SAM_EMULATED_BOUNDS(threads, ...) threads
#define SAM_KERNEL(name, Arguments, ...) SAM_KERNEL_EARLY(name, Arguments, (void)0, __VA_ARGS__)
#define SAM_KERNEL_EARLY(name, Arguments, early, ...)                                         \
  static void name(const Arguments& a);                                                       \
  static const ::sam::emulator::Kernel name##_kernel{                                         \
      #name, sizeof(Arguments), SAM_EMULATED_BOUNDS(__VA_ARGS__), [](const void* arguments) { \
        const Arguments& a = *(const Arguments*)arguments;                                    \
        early;                                                                                \
        name(a);                                                                              \
      }};                                                                                     \
  static const ::sam::emulator::Registration name##_registration(&name##_kernel);             \
  static void name([[maybe_unused]] const Arguments& a)
#define SAM_SHARED(Type, name, count) \
  Type* name = (Type*)::sam::emulator::StaticShared(sizeof(Type) * (count), alignof(Type))
#define SAM_DYNAMIC_SHARED(Type, name) Type* name = (Type*)::sam::emulator::current->block->dynamic_shared

namespace sam {

SAM_DEVICE int ThreadIndex() { return emulator::current->index; }
SAM_DEVICE int BlockSize() { return emulator::current->block->threads; }
SAM_DEVICE int BlockIndex() { return emulator::current->block->index[0]; }
SAM_DEVICE int BlockIndexY() { return emulator::current->block->index[1]; }
SAM_DEVICE int BlockIndexZ() { return emulator::current->block->index[2]; }
SAM_DEVICE int GridSize() { return emulator::current->block->grid[0]; }
SAM_DEVICE int GridSizeY() { return emulator::current->block->grid[1]; }
SAM_DEVICE int GridSizeZ() { return emulator::current->block->grid[2]; }

// Only looks whether p may be read.
SAM_DEVICE void Prefetch(const void* p) { (void)*(const volatile char*)p; }

// Macros: a barrier knows its place in the source, so that threads at different ones are found.
#define SyncBlock() ::sam::emulator::WaitForBlock(__FILE__, __LINE__)
SAM_DEVICE void SyncWarp() { emulator::ExchangeWords("SyncWarp", 0); }
SAM_DEVICE void FenceDevice() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

SAM_DEVICE uint32_t ShuffleXorBits(uint32_t v, int mask) {
  const emulator::Slot* slots = emulator::ExchangeWords("ShuffleXor", v);
  return (uint32_t)slots[(emulator::current->index & 31) ^ mask].words[0];
}
SAM_DEVICE uint32_t ShuffleBits(uint32_t v, int lane) {
  return (uint32_t)emulator::ExchangeWords("Shuffle", v)[lane & 31].words[0];
}
SAM_DEVICE uint32_t Ballot(bool predicate) {
  const emulator::Slot* slots = emulator::ExchangeWords("Ballot", predicate);
  uint32_t bits = 0;
  for (int i = 0; i < 32; i++) bits |= (uint32_t)slots[i].words[0] << i;
  return bits;
}
SAM_DEVICE int32_t AtomicAdd(int32_t* p, int32_t v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }

SAM_DEVICE float BitsToFloat(uint32_t bits) {
  float r;
  memcpy(&r, &bits, 4);
  return r;
}
SAM_DEVICE uint32_t FloatToBits(float v) {
  uint32_t r;
  memcpy(&r, &v, 4);
  return r;
}
SAM_DEVICE double BitsToDouble(uint64_t bits) {
  double r;
  memcpy(&r, &bits, 8);
  return r;
}
SAM_DEVICE uint64_t DoubleToBits(double v) {
  uint64_t r;
  memcpy(&r, &v, 8);
  return r;
}

#if defined(__FLT16_MAX__)
typedef _Float16 HostHalf;
#else
typedef __fp16 HostHalf;
#endif
SAM_DEVICE float WidenHalf(uint16_t bits) {
  HostHalf h;
  memcpy(&h, &bits, 2);
  return (float)h;
}
SAM_DEVICE uint16_t NarrowHalf(float v) {
  HostHalf h = (HostHalf)v;
  uint16_t bits;
  memcpy(&bits, &h, 2);
  return bits;
}
SAM_DEVICE uint16_t NarrowBFloat(float v) {
  uint32_t bits = FloatToBits(v);
  if (v != v) return 0x7fff;
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

SAM_DEVICE float Exp2(float x) { return x < -126.0f ? 0.0f : __builtin_exp2f(x); }
SAM_DEVICE float Sqrt(float x) { return __builtin_sqrtf(x); }
SAM_DEVICE float Fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
SAM_DEVICE double Fma(double a, double b, double c) { return __builtin_fma(a, b, c); }

namespace emulator {

// WarpReduce of kernels/device.h, the same additions in the same order, in one exchange.
template <class How, class T>
inline T ReduceWarp(T v) {
  const Slot* slots = Collect("WarpReduce", &v, sizeof v, [](Slot* slots) {
    for (int mask = 16; mask > 0; mask /= 2) {
      T next[32];
      for (int i = 0; i < 32; i++) next[i] = How::template Of<T>((T&)slots[i], (T&)slots[i ^ mask]);
      for (int i = 0; i < 32; i++) (T&)slots[i] = next[i];
    }
  });
  return (const T&)slots[current->index % 32];
}

}  // namespace emulator

}  // namespace sam

#endif  // SAMENGINE_DEVICE_EMULATION_H_

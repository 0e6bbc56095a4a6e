// The instructions behind the tensor-core kernels, one function each: matrix products of a warp, copies to
// shared memory that are waited for later, streamed loads, pairs of 16-bit floats. Each has a twin for the
// emulator.
#ifndef SAMENGINE_TENSOR_CORE_H_
#define SAMENGINE_TENSOR_CORE_H_

#include "device.h"

namespace sam {

// Registers of one 16-byte access.
struct alignas(16) Words4 {
  uint32_t w[4];
};
struct alignas(8) Words2 {
  uint32_t w[2];
};

#if defined(SAM_EMULATOR)

SAM_DEVICE void CheckAligned(const void* p, int bytes) {
  if ((uintptr_t)p % bytes != 0) emulator::Fail("misaligned access of " + std::to_string(bytes) + " bytes");
}

template <class Words>
SAM_DEVICE Words LoadStreamed(const void* p) {
  CheckAligned(p, sizeof(Words));
  Words r;
  memcpy(&r, p, sizeof r);
  return r;
}

template <int kBytes>
SAM_DEVICE void CopyAsync(void* shared, const void* global, int valid) {
  CheckAligned(shared, kBytes);
  if (valid > 0) CheckAligned(global, kBytes);
  emulator::CopyLater(shared, global, valid, kBytes);
}
SAM_DEVICE void CommitCopies() { emulator::CommitCopies(); }
template <int kPending>
SAM_DEVICE void WaitForCopies() {
  emulator::WaitForCopies(kPending);
}

SAM_DEVICE float WidenAs(Half, uint32_t bits) { return WidenHalf((uint16_t)bits); }
SAM_DEVICE float WidenAs(BFloat, uint32_t bits) { return BitsToFloat(bits << 16); }
SAM_DEVICE uint32_t PackPair(Half, float low, float high) {
  return NarrowHalf(low) | (uint32_t)NarrowHalf(high) << 16;
}
SAM_DEVICE uint32_t PackPair(BFloat, float low, float high) {
  return NarrowBFloat(low) | (uint32_t)NarrowBFloat(high) << 16;
}
template <class T>
SAM_DEVICE uint32_t SubtractPairs(T t, uint32_t a, uint32_t b) {
  return PackPair(t, WidenAs(t, a) - WidenAs(t, b), WidenAs(t, a >> 16) - WidenAs(t, b >> 16));
}
template <class T>
SAM_DEVICE uint32_t MultiplyPairs(T t, uint32_t a, uint32_t b) {
  return PackPair(t, WidenAs(t, a) * WidenAs(t, b), WidenAs(t, a >> 16) * WidenAs(t, b >> 16));
}

SAM_DEVICE uint32_t PermuteBytes(uint32_t a, uint32_t b, uint32_t selector) {
  uint64_t bytes = (uint64_t)b << 32 | a;
  uint32_t r = 0;
  for (int i = 0; i < 4; i++) r |= (uint32_t)(bytes >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
  return r;
}

SAM_DEVICE void LoadMatrices(uint32_t (&r)[4], const void* row, bool transposed) {
  CheckAligned(row, 16);
  uint64_t mine[2];
  memcpy(mine, row, 16);
  const emulator::Slot* slots = emulator::Exchange("ldmatrix", mine, 16);
  int lane = emulator::current->index % 32;
  for (int i = 0; i < 4; i++) {
    auto at = [&](int row, int column) {
      return (uint32_t)((const uint16_t*)slots[8 * i + row].words)[column];
    };
    int a = lane / 4, b = lane % 4 * 2;
    r[i] = transposed ? at(b, a) | at(b + 1, a) << 16 : at(a, b) | at(a, b + 1) << 16;
  }
}

template <class T>
SAM_DEVICE void MultiplyTiles(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  uint32_t mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  const emulator::Slot* slots = emulator::Collect("mma", mine, sizeof mine, [](emulator::Slot* slots) {
    float x[16][16], w[16][8], sums[16][8] = {};
    for (int lane = 0; lane < 32; lane++) {
      const uint32_t* r = (const uint32_t*)slots[lane].words;
      int row = lane / 4, k = lane % 4 * 2;
      for (int h = 0; h < 2; h++) {
        for (int i = 0; i < 4; i++)
          x[row + i % 2 * 8][k + i / 2 * 8 + h] = WidenAs(T(), r[i] >> 16 * h & 0xffff);
        for (int i = 0; i < 2; i++) w[k + i * 8 + h][row] = WidenAs(T(), r[4 + i] >> 16 * h & 0xffff);
      }
    }
    for (int i = 0; i < 16; i++) {
      for (int k = 0; k < 16; k++) {
        for (int j = 0; j < 8; j++) sums[i][j] += x[i][k] * w[k][j];
      }
    }
    for (int lane = 0; lane < 32; lane++) {
      float* r = (float*)slots[lane].words;
      for (int i = 0; i < 4; i++) r[i] = sums[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
    }
  });
  const float* r = (const float*)slots[emulator::current->index % 32].words;
  for (int i = 0; i < 4; i++) d[i] += r[i];
}

#else

// Read once: not kept in the first-level cache.
template <class Words>
SAM_DEVICE Words LoadStreamed(const void* p);
template <>
__device__ inline __attribute__((always_inline)) Words4 LoadStreamed<Words4>(const void* p) {
  Words4 r;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(r.w[0]), "=r"(r.w[1]), "=r"(r.w[2]), "=r"(r.w[3])
      : "l"(p));
  return r;
}
template <>
__device__ inline __attribute__((always_inline)) Words2 LoadStreamed<Words2>(const void* p) {
  Words2 r;
  asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(r.w[0]), "=r"(r.w[1]) : "l"(p));
  return r;
}
template <>
__device__ inline __attribute__((always_inline)) uint32_t LoadStreamed<uint32_t>(const void* p) {
  uint32_t r;
  asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(r) : "l"(p));
  return r;
}

SAM_DEVICE uint32_t SharedAddress(const void* p) {
  uint32_t r;
  asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(r) : "l"(p));
  return r;
}

// Starts a copy of kBytes of which the first `valid` come from `global`, the rest are zeros. It has happened
// after WaitForCopies.
template <int kBytes>
SAM_DEVICE void CopyAsync(void* shared, const void* global, int valid) {
  if (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(shared)), "l"(global),
                 "r"(valid)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(SharedAddress(shared)), "l"(global),
                 "r"(valid), "n"(kBytes)
                 : "memory");
  }
}
SAM_DEVICE void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most the last kPending committed groups of this thread are under way.
template <int kPending>
SAM_DEVICE void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

SAM_DEVICE uint32_t PackPair(Half, float low, float high) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
SAM_DEVICE uint32_t PackPair(BFloat, float low, float high) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
SAM_DEVICE float WidenAs(Half, uint32_t bits) { return WidenHalf((uint16_t)bits); }
SAM_DEVICE float WidenAs(BFloat, uint32_t bits) { return BitsToFloat(bits << 16); }
SAM_DEVICE uint32_t SubtractPairs(Half, uint32_t a, uint32_t b) {
  uint32_t r;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
// a - b as -1 b + a: sm_80 has no subtraction.
SAM_DEVICE uint32_t SubtractPairs(BFloat, uint32_t a, uint32_t b) {
  uint32_t r;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(b), "r"(0xbf80bf80u), "r"(a));
  return r;
}
SAM_DEVICE uint32_t MultiplyPairs(Half, uint32_t a, uint32_t b) {
  uint32_t r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
SAM_DEVICE uint32_t MultiplyPairs(BFloat, uint32_t a, uint32_t b) {
  uint32_t r;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(0x80008000u));
  return r;
}

// Byte i of the result is the byte of b:a that the selector's nibble i (0..7) numbers.
SAM_DEVICE uint32_t PermuteBytes(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
}

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. Matrix i
// puts elements [l / 4][2 (l % 4)] and the next into r[i]; transposed, [2 (l % 4)][l / 4] and the one below.
SAM_DEVICE void LoadMatrices(uint32_t (&r)[4], const void* row, bool transposed) {
  if (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(SharedAddress(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(SharedAddress(row))
                 : "memory");
  }
}

// d += a b: a 16 x 16, b 16 x 8, d 16 x 8. With g = lane / 4, t = lane % 4: a[0], a[1] hold columns 2 t, 2 t
// + 1 of rows g, g + 8; a[2], a[3] columns 2 t + 8, 2 t + 9; b0, b1 rows 2 t, 2 t + 1 and 2 t + 8, 2 t + 9 of
// column g; d[0], d[1] columns 2 t, 2 t + 1 of row g, d[2], d[3] of row g + 8.
template <class T>
SAM_DEVICE void MultiplyTiles(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ inline __attribute__((always_inline)) void MultiplyTiles<Half>(float (&d)[4],
                                                                          const uint32_t (&a)[4], uint32_t b0,
                                                                          uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ inline __attribute__((always_inline)) void MultiplyTiles<BFloat>(float (&d)[4],
                                                                            const uint32_t (&a)[4],
                                                                            uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif  // SAM_EMULATOR

// M(suffix, T) for the types that tensor cores take.
#define SAM_FOR_HALVES(M) \
  M(f16, ::sam::Half)     \
  M(bf16, ::sam::BFloat)

}  // namespace sam

#endif  // SAMENGINE_TENSOR_CORE_H_

// The instructions behind linear_wgmma.cu, one function each: copies of whole tiles by the tensor map (TMA),
// barriers in shared memory that count their bytes, products of a warpgroup. Only sm_90a has them; they have
// no twins for the emulator.
#ifndef SAMENGINE_HOPPER_H_
#define SAMENGINE_HOPPER_H_

#include "tensor_core.h"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace sam {

// Bytes between the rows of a tile in shared memory: 64 16-bit elements, the span that the 128-byte swizzle
// permutes.
constexpr int kSwizzledRow = 128;

// The place in shared memory of 64 bits on which threads wait for an event.
typedef uint32_t Barrier;

// A barrier whose phase ends after `count` arrivals and all the bytes announced.
SAM_DEVICE void InitBarrier(Barrier barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
// New barriers are seen by the copy engine, once the threads that use them have met.
SAM_DEVICE void FenceBarriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
SAM_DEVICE void Arrive(Barrier barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrives, and announces bytes that copies will bring.
SAM_DEVICE void ArriveExpecting(Barrier barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Until the phase of this parity has ended: 0 for the first one, then 1, 0, ... The phase before the first
// has ended.
SAM_DEVICE void AwaitPhase(Barrier barrier, int parity) {
  uint32_t done;
  do {
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (!done);
}

// Starts the copy of the map's box from (column, row) into shared memory; the barrier counts its bytes, those
// of the zeros outside the matrix too.
SAM_DEVICE void CopyBox(uint32_t shared, uint64_t map, int column, int row, Barrier barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], "
      "[%4];" ::"r"(shared),
      "l"(map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}
SAM_DEVICE void PrefetchMap(uint64_t map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }

// A barrier of `threads` threads of the block, whole warps; number 0 is SyncBlock's.
SAM_DEVICE void SyncThreads(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// What wgmma is told of an operand in shared memory: rows of 64 elements of K, swizzled by 128 bytes, eight
// rows after the other; from a multiple of 1024 bytes, or 32 bytes further for each 16 elements of K.
//   bits 0-13 address / 16; 16-29 leading offset / 16, which this layout does not use; 32-45 bytes from eight
//   rows to the next / 16; 49-51 0 for addresses as above; 62-63 1 for the swizzle of 128 bytes.
SAM_DEVICE uint64_t OperandOf(uint32_t shared) {
  return (uint64_t)((shared & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(8 * kSwizzledRow / 16) << 32 |
         (uint64_t)1 << 62;
}

// d += x w^T for 64 rows of x and 128 of w, both 64 columns of a stage, by the four warps of a warpgroup. It
// begins, issues its four products and waits for them in one statement: in between, nothing may touch d. (No
// line of it may be a brace alone, by which the host finds the end of a kernel in PTX.) With g = lane / 4, t
// = lane % 4: d[4 j + e] is row 16 (warp % 4) + g + 8 (e / 2), column 8 j + 2 t + e % 2.
#define SAM_WGMMA_D                                                                                       \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "  \
  "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "  \
  "%62, %63}"
// 16 columns of K are two units of an operand's address. Behind d: p adds to d, 1, 1 take x and w as they
// are, 0, 0 say that K is contiguous in both.
#define SAM_WGMMA(type) \
  "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " " SAM_WGMMA_D ", x, w, p, 1, 1, 0, 0;\n"
#define SAM_WGMMA_NEXT "add.s64 x, x, 2;\nadd.s64 w, w, 2;\n"
#define SAM_WGMMA_8(d, i)                                                                     \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define SAM_WGMMA_STAGE(type)                                                                             \
  asm volatile(                                                                                           \
      "{\n.reg .pred p;\n.reg .b64 x, w;\nsetp.ne.b32 p, %66, 0;\n"                                       \
      "mov.b64 x, %64;\nmov.b64 w, %65;\nwgmma.fence.sync.aligned;\n" SAM_WGMMA(type)                     \
          SAM_WGMMA_NEXT SAM_WGMMA(type) SAM_WGMMA_NEXT SAM_WGMMA(type) SAM_WGMMA_NEXT SAM_WGMMA(         \
              type) "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0; }"                \
      : SAM_WGMMA_8(d, 0), SAM_WGMMA_8(d, 8), SAM_WGMMA_8(d, 16), SAM_WGMMA_8(d, 24), SAM_WGMMA_8(d, 32), \
        SAM_WGMMA_8(d, 40), SAM_WGMMA_8(d, 48), SAM_WGMMA_8(d, 56)                                        \
      : "l"(x), "l"(w), "r"(1)                                                                            \
      : "memory")
SAM_DEVICE void MultiplyStage(Half, float (&d)[64], uint64_t x, uint64_t w) { SAM_WGMMA_STAGE("f16"); }
SAM_DEVICE void MultiplyStage(BFloat, float (&d)[64], uint64_t x, uint64_t w) { SAM_WGMMA_STAGE("bf16"); }
#undef SAM_WGMMA_STAGE
#undef SAM_WGMMA_8
#undef SAM_WGMMA_NEXT
#undef SAM_WGMMA
#undef SAM_WGMMA_D

}  // namespace sam

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

#endif  // SAMENGINE_HOPPER_H_

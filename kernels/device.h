// What the kernels build on, for nvcc, for clang without a CUDA SDK, and for the emulator
// (native/cuda-emulator, with SAM_EMULATOR defined): indices, barriers, exchanges in a warp, 16-bit floats,
// shared memory.
#ifndef SAMENGINE_DEVICE_H_
#define SAMENGINE_DEVICE_H_

#include <stdint.h>

#include "arguments.h"

#if defined(SAM_EMULATOR)

#include "../native/cuda-emulator/device_emulation.h"

#else

#if !defined(__CUDACC__) || defined(__clang__)
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#endif

#define SAM_DEVICE static __device__ inline __attribute__((always_inline))
#define SAM_METHOD __device__ inline __attribute__((always_inline))

// A kernel: its name, its arguments `a`, most threads of a block (and least blocks of a multiprocessor).
// Where it is launched to start before the kernel in front of it has ended (sm_90), it waits here for that
// end.
#define SAM_KERNEL(name, Arguments, ...) SAM_KERNEL_EARLY(name, Arguments, (void)0, __VA_ARGS__)
// The same, with something to do before that wait. It may touch nothing but weights.
#define SAM_KERNEL_EARLY(name, Arguments, early, ...)                                 \
  SAM_DEVICE void name##_body(const Arguments& a);                                    \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__) name(const Arguments a) { \
    early;                                                                            \
    ::sam::BeginKernel();                                                             \
    name##_body(a);                                                                   \
  }                                                                                   \
  SAM_DEVICE void name##_body([[maybe_unused]] const Arguments& a)
// An array of the block; at the top of a kernel's body, which every thread passes.
#define SAM_SHARED(Type, name, count) __shared__ Type name[count]
// The dynamic shared memory of the launch.
#define SAM_DYNAMIC_SHARED(Type, name)                               \
  extern __shared__ __attribute__((aligned(128))) char name##_raw[]; \
  Type* name = (Type*)name##_raw

namespace sam {

#if defined(__clang__)
SAM_DEVICE int ThreadIndex() { return __nvvm_read_ptx_sreg_tid_x(); }
SAM_DEVICE int BlockSize() { return __nvvm_read_ptx_sreg_ntid_x(); }
SAM_DEVICE int BlockIndex() { return __nvvm_read_ptx_sreg_ctaid_x(); }
SAM_DEVICE int BlockIndexY() { return __nvvm_read_ptx_sreg_ctaid_y(); }
SAM_DEVICE int BlockIndexZ() { return __nvvm_read_ptx_sreg_ctaid_z(); }
SAM_DEVICE int GridSize() { return __nvvm_read_ptx_sreg_nctaid_x(); }
SAM_DEVICE int GridSizeY() { return __nvvm_read_ptx_sreg_nctaid_y(); }
SAM_DEVICE int GridSizeZ() { return __nvvm_read_ptx_sreg_nctaid_z(); }
#else
SAM_DEVICE int ThreadIndex() { return threadIdx.x; }
SAM_DEVICE int BlockSize() { return blockDim.x; }
SAM_DEVICE int BlockIndex() { return blockIdx.x; }
SAM_DEVICE int BlockIndexY() { return blockIdx.y; }
SAM_DEVICE int BlockIndexZ() { return blockIdx.z; }
SAM_DEVICE int GridSize() { return gridDim.x; }
SAM_DEVICE int GridSizeY() { return gridDim.y; }
SAM_DEVICE int GridSizeZ() { return gridDim.z; }
#endif

// Waits until the kernel before has ended and its writes are seen, then lets the next one start, to wait in
// turn. Without programmatic dependent launches both have happened, or do nothing.
SAM_DEVICE void BeginKernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// Brings the 128 bytes around p into the second-level cache.
SAM_DEVICE void Prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

// Waits for all threads of the block.
SAM_DEVICE void SyncBlock() { __syncthreads(); }
// Waits for all lanes of the warp and makes their memory writes visible to each other.
SAM_DEVICE void SyncWarp() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }
// Writes before it are seen by other blocks before writes behind it.
SAM_DEVICE void FenceDevice() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

// The value of another lane; all 32 lanes must come here.
SAM_DEVICE uint32_t ShuffleXorBits(uint32_t v, int mask) {
  uint32_t r;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(r) : "r"(v), "r"(mask));
  return r;
}
SAM_DEVICE uint32_t ShuffleBits(uint32_t v, int lane) {
  uint32_t r;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(r) : "r"(v), "r"(lane));
  return r;
}
// One bit per lane.
SAM_DEVICE uint32_t Ballot(bool predicate) {
  uint32_t r;
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %1, 0; vote.sync.ballot.b32 %0, p, 0xffffffff; }"
               : "=r"(r)
               : "r"((uint32_t)predicate));
  return r;
}

SAM_DEVICE int32_t AtomicAdd(int32_t* p, int32_t v) {
  int32_t old;
  asm volatile("atom.global.add.s32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(v) : "memory");
  return old;
}

SAM_DEVICE float WidenHalf(uint16_t bits) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(bits));
  return r;
}
SAM_DEVICE uint16_t NarrowHalf(float v) {
  uint16_t r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(v));
  return r;
}
SAM_DEVICE uint16_t NarrowBFloat(float v) {
  uint16_t r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(v));
  return r;
}

// 2^x, relative error 2^-22; subnormal results are 0.
SAM_DEVICE float Exp2(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
SAM_DEVICE float Sqrt(float x) {
  float r;
  asm("sqrt.rn.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
SAM_DEVICE float Fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
SAM_DEVICE double Fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
SAM_DEVICE float BitsToFloat(uint32_t bits) {
  float r;
  asm("mov.b32 %0, %1;" : "=f"(r) : "r"(bits));
  return r;
}
SAM_DEVICE uint32_t FloatToBits(float v) {
  uint32_t r;
  asm("mov.b32 %0, %1;" : "=r"(r) : "f"(v));
  return r;
}
SAM_DEVICE double BitsToDouble(uint64_t bits) {
  double r;
  asm("mov.b64 %0, %1;" : "=d"(r) : "l"(bits));
  return r;
}
SAM_DEVICE uint64_t DoubleToBits(double v) {
  uint64_t r;
  asm("mov.b64 %0, %1;" : "=l"(r) : "d"(v));
  return r;
}

}  // namespace sam

#endif  // SAM_EMULATOR

// Before a loop whose arrays must stay in registers.
#if defined(SAM_EMULATOR)
#define SAM_UNROLL
#else
#define SAM_UNROLL _Pragma("unroll")
#endif

namespace sam {

// The same number, of which the compiler knows nothing.
SAM_DEVICE int Opaque(int v) {
  asm volatile("" : "+r"(v));
  return v;
}

}  // namespace sam

// M(suffix, T) for every type of activations.
#define SAM_FOR_ACTIVATIONS(M) \
  M(f32, float)                \
  M(f16, ::sam::Half)          \
  M(bf16, ::sam::BFloat)

namespace sam {

constexpr int kWarp = 32;
constexpr float kInfinity = __builtin_inff();

// Stored 16-bit floats; arithmetic is fp32.
struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};

SAM_DEVICE float ToFloat(float v) { return v; }
SAM_DEVICE float ToFloat(Half v) { return WidenHalf(v.bits); }
SAM_DEVICE float ToFloat(BFloat v) { return BitsToFloat((uint32_t)v.bits << 16); }
SAM_DEVICE void Put(float* to, float v) { *to = v; }
SAM_DEVICE void Put(Half* to, float v) { to->bits = NarrowHalf(v); }
SAM_DEVICE void Put(BFloat* to, float v) { to->bits = NarrowBFloat(v); }

SAM_DEVICE int Lane() { return ThreadIndex() % kWarp; }
SAM_DEVICE int WarpIndex() { return ThreadIndex() / kWarp; }
SAM_DEVICE int BlockWarps() { return BlockSize() / kWarp; }
// This thread and all threads of a one-dimensional grid, for loops over work items.
SAM_DEVICE int64_t GridThread() { return (int64_t)BlockIndex() * BlockSize() + ThreadIndex(); }
SAM_DEVICE int64_t GridThreads() { return (int64_t)GridSize() * BlockSize(); }

template <class T>
SAM_DEVICE T Min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
SAM_DEVICE T Max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
SAM_DEVICE T CeilDiv(T a, T b) {
  return (a + b - 1) / b;
}

SAM_DEVICE float ShuffleXor(float v, int mask) { return BitsToFloat(ShuffleXorBits(FloatToBits(v), mask)); }
SAM_DEVICE int32_t ShuffleXor(int32_t v, int mask) { return (int32_t)ShuffleXorBits((uint32_t)v, mask); }
SAM_DEVICE uint64_t ShuffleXor(uint64_t v, int mask) {
  uint32_t low = ShuffleXorBits((uint32_t)v, mask);
  uint32_t high = ShuffleXorBits((uint32_t)(v >> 32), mask);
  return (uint64_t)high << 32 | low;
}
SAM_DEVICE double ShuffleXor(double v, int mask) { return BitsToDouble(ShuffleXor(DoubleToBits(v), mask)); }
SAM_DEVICE float Shuffle(float v, int lane) { return BitsToFloat(ShuffleBits(FloatToBits(v), lane)); }
SAM_DEVICE int32_t Shuffle(int32_t v, int lane) { return (int32_t)ShuffleBits((uint32_t)v, lane); }

struct Add {
  template <class T>
  SAM_DEVICE T Of(T a, T b) {
    return a + b;
  }
  template <class T>
  SAM_DEVICE T Neutral() {
    return 0;
  }
};
struct Largest {
  template <class T>
  SAM_DEVICE T Of(T a, T b) {
    return a > b ? a : b;
  }
  template <class T>
  SAM_DEVICE T Neutral();
};
template <>
__device__ inline float Largest::Neutral<float>() {
  return -kInfinity;
}
template <>
__device__ inline int32_t Largest::Neutral<int32_t>() {
  return INT32_MIN;
}
template <>
__device__ inline uint64_t Largest::Neutral<uint64_t>() {
  return 0;
}

// Over the lanes of a warp, the same in each and always in the same order.
template <class How, class T>
SAM_DEVICE T WarpReduce(T v) {
#if defined(SAM_EMULATOR)
  return emulator::ReduceWarp<How>(v);
#endif
  for (int mask = kWarp / 2; mask > 0; mask /= 2) v = How::template Of<T>(v, ShuffleXor(v, mask));
  return v;
}

// Over the threads of a block of whole warps, the same in each. `scratch` has 32 elements; it may be used
// again at once.
template <class How, class T>
SAM_DEVICE T BlockReduce(T v, T* scratch) {
  v = WarpReduce<How>(v);
  if (BlockSize() == kWarp) return v;
  SyncBlock();
  if (Lane() == 0) scratch[WarpIndex()] = v;
  SyncBlock();
  v = Lane() < BlockWarps() ? scratch[Lane()] : How::template Neutral<T>();
  return WarpReduce<How>(v);
}

// First element of a row counted over all batch entries.
template <class T>
SAM_DEVICE T* RowOf(const View& v, int row) {
  return (T*)v.data + row / v.rows * v.batch_stride + row % v.rows * v.row_stride;
}

SAM_DEVICE int TotalRows(const View& v) { return v.batch * v.rows; }

// The result of an operation whose output is T or, for logits, fp32.
template <class T>
SAM_DEVICE void PutAs(const View& y, int64_t at, float v) {
  if (y.type == kF32) {
    ((float*)y.data)[at] = v;
  } else {
    Put((T*)y.data + at, v);
  }
}
template <class T>
SAM_DEVICE float GetAs(const View& x, int64_t at) {
  return x.type == kF32 ? ((const float*)x.data)[at] : ToFloat(((const T*)x.data)[at]);
}

// e^x within 3e-7, by 2^x with the rounding error of x / ln 2 made good; 0 below -87, e^88 above 88.
SAM_DEVICE float Exp(float x) {
  x = x > 88.0f ? 88.0f : x;  // a NaN stays a NaN
  float turns = x * 1.44269504f;
  float rest = Fma(x, 1.44269504f, -turns) + x * 1.92596303e-8f;
  float power = Exp2(turns);
  return x < -87.0f ? 0.0f : Fma(power, rest * 0.693147181f, power);
}

// erf with a relative error below 2e-7; the polynomials of native/kernels/simd.h.
SAM_DEVICE float Erf(float x) {
  float t = __builtin_fabsf(x);
  if (t <= 0.9277f) {
    float s = x * x;
    float near = Fma(8.3549072e-5f, s, -8.1396184e-4f);
    near = Fma(near, s, 5.2008145e-3f);
    near = Fma(near, s, -2.6859337e-2f);
    near = Fma(near, s, 0.11283695f);
    near = Fma(near, s, -0.37612635f);
    near = Fma(near, s, 0.12837917f);
    return Fma(near, x, x);
  }
  float u = Min(t, 4.0f);
  float far = Fma(1.613661e-6f, u, -4.5582627e-5f);
  far = Fma(far, u, 5.9270172e-4f);
  far = Fma(far, u, -4.7399043e-3f);
  far = Fma(far, u, 2.6363818e-2f);
  far = Fma(far, u, -0.10997668f);
  far = Fma(far, u, -0.6319387f);
  far = Fma(far, u, -1.1301658f);
  far = Fma(far, u, 3.0300207e-4f);
  far = 1.0f - Exp(far);
  return x < 0 ? -far : far;
}

// x/2 (1 + erf(x / sqrt 2)).
SAM_DEVICE float Gelu(float x) { return 0.5f * x * (1.0f + Erf(x * 0.70710678f)); }

}  // namespace sam

#endif  // SAMENGINE_DEVICE_H_

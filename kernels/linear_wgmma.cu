// linear_wgmma_{activation}: y = activation(x W^T + bias) + residual for many rows, fp16 or bf16, x and W of
// one type; only in the sm_90a image. x [b, m, K], rows of all batch entries at one distance, a multiple of
// 16 bytes, from a 16-byte aligned start; W [N, K]; bias, y and residual as in linear.cu.
//
// A block makes a tile of y of 128 x 128, 64 columns of K at a time. One thread of its last warp keeps the
// copies of up to three such stages under way: a box of x and one of W each, by tensor maps (TMA), with the
// swizzle of 128 bytes, zeros where a box reaches outside. Two warpgroups multiply 64 x 128 each from shared
// memory (wgmma m64n128k16), sums in registers. Barriers: `full` of a stage ends a phase when the stage's
// bytes are there, `empty` when all eight warps have read them. Two blocks share a multiprocessor: while one
// finishes, or waits for its products, the other keeps the tensor cores busy. Splitting along K as in
// linear_mma.cu.
//
// Floor: 2 m N K FLOP over the rate of the tensor cores. Vision encoder, five images: 2.7 TFLOP, 2.7 ms at
// 989 TFLOP/s. m64n128k16 takes 64 clocks and reads 6 KB of shared memory, 96 of 128 bytes a clock. L2: a
// stage of 32 KB in 512 clocks is 64 bytes a clock and multiprocessor, most of what L2 gives; tiles of 128 x
// 256 would take 48, but leave half of the chip idle at N = 1408.
//
// Ladder: 1. this. It has never run: there was no GPU, and the emulator has no twin of its instructions. It
// is not chosen unless asked for (CudaVariants).
//
// Grid: x = ceil(b m / 128), y = ceil(N / 128), z = splits. Block: 288 threads. Dynamic shared memory: 99328
// bytes. The maps have boxes of 64 columns and 128 rows, swizzled by 128 bytes, on x [b m, K] and W [N, K].
// splits > 1: partials and tickets as in linear_mma.cu, tiles of 128.
#include "hopper.h"
#include "split.h"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace sam {

constexpr int kWgmmaTile = 128;
constexpr int kWgmmaDepth = 64;
constexpr int kWgmmaStages = 3;
constexpr int kWgmmaOperand = kWgmmaTile * kSwizzledRow;  // bytes of x, or of W, in a stage
constexpr int kWgmmaStage = 2 * kWgmmaOperand;
constexpr int kWgmmaConsumers = 256;  // threads, in two warpgroups
constexpr int kWgmmaThreads = kWgmmaConsumers + kWarp;
constexpr int kSwizzleAlignment = 1024;

// x_map and w_map are the generic addresses of the maps.
template <class T>
SAM_DEVICE void LinearWgmma(const LinearArguments& a, uint64_t x_map, uint64_t w_map, char* shared,
                            uint64_t* barriers, int32_t* is_last) {
  int first_row = BlockIndex() * kWgmmaTile;
  int first_column = BlockIndexY() * kWgmmaTile;
  int steps = CeilDiv(a.x.columns, kWgmmaDepth);
  int each = CeilDiv(steps, a.splits);
  int begin = BlockIndexZ() * each;
  int count = Max(0, Min(steps, begin + each) - begin);
  shared += (kSwizzleAlignment - SharedAddress(shared) % kSwizzleAlignment) % kSwizzleAlignment;
  uint32_t stages = SharedAddress(shared);
  Barrier full = SharedAddress(barriers);
  Barrier empty = full + kWgmmaStages * sizeof(uint64_t);
  if (ThreadIndex() == 0) {
    for (int s = 0; s < kWgmmaStages; s++) {
      InitBarrier(full + s * sizeof(uint64_t), 1);
      InitBarrier(empty + s * sizeof(uint64_t), kWgmmaConsumers / kWarp);
    }
    FenceBarriers();
  }
  SyncBlock();

  if (ThreadIndex() >= kWgmmaConsumers) {
    if (Lane() != 0) return;
    PrefetchMap(x_map);
    PrefetchMap(w_map);
    for (int i = 0; i < count; i++) {
      int s = i % kWgmmaStages;
      int k = (begin + i) * kWgmmaDepth;
      // A stage is free at first.
      AwaitPhase(empty + s * sizeof(uint64_t), i / kWgmmaStages % 2 ^ 1);
      ArriveExpecting(full + s * sizeof(uint64_t), kWgmmaStage);
      CopyBox(stages + s * kWgmmaStage, x_map, k, first_row, full + s * sizeof(uint64_t));
      CopyBox(stages + s * kWgmmaStage + kWgmmaOperand, w_map, k, first_column, full + s * sizeof(uint64_t));
    }
    return;
  }

  int group = WarpIndex() / 4;
  float sums[kWgmmaTile / 2] = {};
  for (int i = 0; i < count; i++) {
    int s = i % kWgmmaStages;
    AwaitPhase(full + s * sizeof(uint64_t), i / kWgmmaStages % 2);
    uint32_t x = stages + s * kWgmmaStage;
    MultiplyStage(T(), sums, OperandOf(x + group * 64 * kSwizzledRow), OperandOf(x + kWgmmaOperand));
    SyncWarp();
    if (Lane() == 0) Arrive(empty + s * sizeof(uint64_t));
  }

  // The sums meet where the stages were, which both warpgroups have read.
  auto sync = [] { SyncThreads(1, kWgmmaConsumers); };
  constexpr int kPitch = kWgmmaTile + 8;
  float* meeting = (float*)shared;
  static_assert(kWgmmaTile * kPitch * sizeof(float) <= kWgmmaStages * kWgmmaStage);
  sync();
  SAM_UNROLL
  for (int i = 0; i < kWgmmaTile / 2; i++) {
    int row = WarpIndex() * 16 + i / 2 % 2 * 8 + Lane() / 4;
    int column = i / 4 * 8 + Lane() % 4 * 2 + i % 2;
    meeting[row * kPitch + column] = sums[i];
  }
  sync();
  for (int item = ThreadIndex(); item < kWgmmaTile * kWgmmaTile; item += kWgmmaConsumers) {
    int row = first_row + item / kWgmmaTile;
    int column = first_column + item % kWgmmaTile;
    if (row >= TotalRows(a.x) || column >= a.weight.rows) continue;
    float sum = meeting[item / kWgmmaTile * kPitch + item % kWgmmaTile];
    if (a.splits == 1) {
      Finish<T>(a, row, column, sum);
    } else {
      *PartialOf<kWgmmaTile>(a, BlockIndexZ(), row, column) = sum;
    }
  }
  if (a.splits > 1) FinishSplit<T, kWgmmaTile, kWgmmaConsumers>(a, 1.0f, is_last, sync);
}

}  // namespace sam

// A map must be used where the launch put it, not in a copy: clang copies a parameter whose address is taken
// to local memory, so the address of the first parameter comes from its name in PTX.
#define LINEAR_WGMMA(suffix, T)                                                                        \
  SAM_DEVICE void linear_wgmma_##suffix##_body(const WgmmaArguments& wide, uint64_t maps) {            \
    SAM_SHARED(uint64_t, barriers, 2 * sam::kWgmmaStages);                                             \
    SAM_SHARED(int32_t, is_last, 1);                                                                   \
    SAM_DYNAMIC_SHARED(char, shared);                                                                  \
    sam::LinearWgmma<T>(wide.linear, maps, maps + sizeof(TensorMap), shared, barriers, is_last);       \
  }                                                                                                    \
  extern "C" __global__ void __launch_bounds__(sam::kWgmmaThreads, 2)                                  \
      linear_wgmma_##suffix(const WgmmaArguments wide) {                                               \
    uint64_t maps;                                                                                     \
    asm volatile("{ .reg .b64 t; mov.b64 t, linear_wgmma_" #suffix "_param_0; cvta.param.u64 %0, t; }" \
                 : "=l"(maps));                                                                        \
    sam::BeginKernel();                                                                                \
    linear_wgmma_##suffix##_body(wide, maps);                                                          \
  }
SAM_FOR_HALVES(LINEAR_WGMMA)

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

// linear_mma128_{activation}_{weight}, linear_mma64_{activation}_{weight}: y = activation(x W^T + bias) +
// residual for many rows (vision encoder, Q-Former, prefill), fp16 or bf16 activations, every weight format
// but fp32. x [b, m, K] with 4-byte aligned rows; W [N, K]; bias, y and residual as in linear.cu.
//
// A block makes a tile of y, 128 x 128 (8 warps of 64 x 32) or 64 x 64 (4 warps of 32 x 32), over 64 columns
// of K at a time; 3, or 4, such stages are in shared memory, all but one of them under way (cp.async). Lane t
// of each four takes 16 neighbouring columns of a stage (fragments.h), so both operands come by 16-byte loads
// without conflicts: the two 16-byte halves of a row's 32 bytes are swapped in odd rows. Quantised weights
// stay packed in shared memory and are widened and scaled on the way to the tensor cores, rounded once to the
// activation type. Where tiles are too few for the chip, K is split among blocks; the last one to finish a
// tile adds the parts in order.
//
// Floor: 2 m N K FLOP over the rate of the tensor cores. Vision encoder, five images: 2.7 TFLOP, 2.7 ms at
// 989 TFLOP/s. A warp of 64 x 32 reads 96 wavefronts of shared memory for 64 products of 16 x 8 x 16: 1365 of
// 2048 multiply-adds a clock and multiprocessor, two thirds of the rate at most.
//
// Ladder: 1. this; nothing has been measured on a GPU.
//
// Grid: x = ceil(b m / tile), y = ceil(N / tile), z = splits. Block: 256 threads, linear_mma64 128. Dynamic
// shared memory: stages * tile * (128 + 8 * bits of a weight) bytes, Q4 32768 more. splits > 1: partials of
// [splits, b m, tile * grid y] floats, tickets of grid x * grid y.
#include "fragments.h"
#include "split.h"

namespace sam {

constexpr int kDepth = 64;  // columns of K in a stage

template <class T, class F, int kTile, int kWarpsDown, int kWarpsAcross, int kStages>
struct MmaTile {
  static constexpr int kThreads = kWarpsDown * kWarpsAcross * kWarp;
  static constexpr int kDown = kTile / kWarpsDown / 16;  // products of a warp
  static constexpr int kAcross = kTile / kWarpsAcross / 8;
  static constexpr int kRowBytes = kDepth * 2;  // of x
  static constexpr int kWeightRowBytes = kDepth * F::kBits / 8;
  static constexpr int kStageBytes = kTile * (kRowBytes + kWeightRowBytes);
  static constexpr int kCopies = kTile * 8 / kThreads;  // 16-byte pieces of x for each thread
  static constexpr int kPieces = kWeightRowBytes / 16;  // of a row of W
  static constexpr int kWeightCopies = kTile * kPieces / kThreads;

  const LinearArguments& a;
  char* shared;
  const uint32_t* table;
  int first_row, first_column;
  int rows;
  int piece_bytes;  // what the alignment of x allows at once
  const T* x[kCopies];

  SAM_METHOD MmaTile(const LinearArguments& a, char* shared, const uint32_t* table)
      : a(a),
        shared(shared),
        table(table),
        first_row(BlockIndex() * kTile),
        first_column(BlockIndexY() * kTile) {
    rows = TotalRows(a.x);
    uint64_t places = (uint64_t)a.x.data | (uint64_t)a.x.row_stride * 2 | (uint64_t)a.x.batch_stride * 2;
    piece_bytes = places % 16 == 0 ? 16 : places % 8 == 0 ? 8 : 4;
    SAM_UNROLL
    for (int i = 0; i < kCopies; i++) {
      int row = first_row + ThreadIndex() / 8 + i * (kThreads / 8);
      x[i] = row < rows ? RowOf<const T>(a.x, row) + ThreadIndex() % 8 * 8 : nullptr;
    }
  }

  // Place of the 16-byte piece of a row of 128 bytes.
  SAM_DEVICE int Swizzled(int row, int piece) { return row * kRowBytes + (piece ^ (row & 1)) * 16; }

  SAM_METHOD void Start(int stage, int k) const {
    char* to = shared + stage * kStageBytes;
    SAM_UNROLL
    for (int i = 0; i < kCopies; i++) {
      char* piece = to + Swizzled(ThreadIndex() / 8 + i * (kThreads / 8), ThreadIndex() % 8);
      int left = x[i] ? (a.x.columns - k - ThreadIndex() % 8 * 8) * 2 : 0;  // bytes of the row from here
      const char* from = left > 0 ? (const char*)(x[i] + k) : (const char*)a.x.data;
      if (piece_bytes == 16) {
        CopyAsync<16>(piece, from, Max(0, Min(16, left)));
      } else if (piece_bytes == 8) {
        for (int j = 0; j < 16; j += 8)
          CopyAsync<8>(piece + j, from + (left > j ? j : 0), Max(0, Min(8, left - j)));
      } else {
        for (int j = 0; j < 16; j += 4)
          CopyAsync<4>(piece + j, from + (left > j ? j : 0), Max(0, Min(4, left - j)));
      }
    }
    to += kTile * kRowBytes;
    SAM_UNROLL
    for (int i = 0; i < kWeightCopies; i++) {
      int item = ThreadIndex() + i * kThreads;
      int row = item / kPieces;
      int piece = item % kPieces;
      int64_t column = first_column + row;
      bool there = column < a.weight.rows;
      int64_t at = ((there ? column : 0) * a.weight.row_stride + k) * F::kBits / 8 + piece * 16;
      int place = F::kScaled ? row * kWeightRowBytes + piece * 16 : Swizzled(row, piece);
      CopyAsync<16>(to + place, (const char*)a.weight.data + at, there ? 16 : 0);
    }
  }

  // This lane's scale of each of its columns of y, for the columns of K that it takes.
  SAM_METHOD void LoadScales(uint16_t (&scales)[kAcross], int k) const {
    if constexpr (F::kScaled) {
      SAM_UNROLL
      for (int j = 0; j < kAcross; j++) {
        int column = Min(ColumnOf(j) + Lane() / 4, a.weight.rows - 1);
        int group = Min((k + Lane() % 4 * 16) / a.weight.group_size, a.weight.groups - 1);
        scales[j] = ((const uint16_t*)a.weight.scales)[(int64_t)column * a.weight.groups + group];
      }
    }
  }

  // First column of y of the j-th product of this warp.
  SAM_METHOD int ColumnOf(int j) const {
    return first_column + (WarpIndex() % kWarpsAcross * kAcross + j) * 8;
  }

  // Four pairs of W: columns 16 t + 8 h .. of K of the row that this lane has of a product.
  SAM_METHOD void LoadWeights(uint32_t (&pairs)[4], const char* stage, int j, int h, uint16_t scale) const {
    int row = (WarpIndex() % kWarpsAcross * kAcross + j) * 8 + Lane() / 4;
    int t = Lane() % 4;
    const char* from = stage + kTile * kRowBytes;
    if constexpr (F::kBits == 16) {
      Words4 raw = *(const Words4*)(from + Swizzled(row, 2 * t + h));
      Expand<T>(F(), raw.w, pairs, table);
    } else if constexpr (F::kBits == 8) {
      Words2 raw = *(const Words2*)(from + row * kWeightRowBytes + t * 16 + h * 8);
      Expand<T>(F(), raw.w, pairs, table);
    } else {
      Expand<T>(F(), (const uint32_t*)(from + row * kWeightRowBytes + t * 8 + h * 4), pairs, table);
    }
    if constexpr (F::kScaled) {
      SAM_UNROLL
      for (int i = 0; i < 4; i++) pairs[i] = ScalePair(T(), pairs[i], scale);
    }
  }

  SAM_DEVICE uint32_t ScalePair(Half t, uint32_t pair, uint16_t scale) {
    return MultiplyPairs(t, pair, (uint32_t)scale << 16 | scale);
  }
  // The scale has more digits than bf16.
  SAM_DEVICE uint32_t ScalePair(BFloat t, uint32_t pair, uint16_t scale) {
    float s = WidenHalf(scale);
    return PackPair(t, BitsToFloat(pair << 16) * s, BitsToFloat(pair & 0xffff0000u) * s);
  }

  SAM_METHOD void Multiply(const char* stage, const uint16_t (&scales)[kAcross],
                           float (&sums)[kDown][kAcross][4]) const {
    SAM_UNROLL
    for (int h = 0; h < 2; h++) {
      uint32_t w[kAcross][4];
      SAM_UNROLL
      for (int j = 0; j < kAcross; j++) LoadWeights(w[j], stage, j, h, scales[j]);
      SAM_UNROLL
      for (int i = 0; i < kDown; i++) {
        int row = (WarpIndex() / kWarpsAcross * kDown + i) * 16 + Lane() / 4;
        Words4 low = *(const Words4*)(stage + Swizzled(row, Lane() % 4 * 2 + h));
        Words4 high = *(const Words4*)(stage + Swizzled(row + 8, Lane() % 4 * 2 + h));
        SAM_UNROLL
        for (int s = 0; s < 4; s += 2) {
          uint32_t x[4] = {low.w[s], high.w[s], low.w[s + 1], high.w[s + 1]};
          SAM_UNROLL
          for (int j = 0; j < kAcross; j++) MultiplyTiles<T>(sums[i][j], x, w[j][s], w[j][s + 1]);
        }
      }
    }
  }

  // Calls f(row, column, sum) for every sum of the block's tile that is inside y, a row's sums by
  // neighbouring threads. They meet in the memory of the stages, the warps beside each other at a time.
  template <class Function>
  SAM_METHOD void ForEachSum(const float (&sums)[kDown][kAcross][4], const Function& f) const {
    constexpr int kPitch = kTile + 8;
    float* meeting = (float*)shared;
    for (int pass = 0; pass < kWarpsDown; pass++) {
      SyncBlock();
      if (WarpIndex() / kWarpsAcross == pass) {
        SAM_UNROLL
        for (int i = 0; i < kDown; i++) {
          SAM_UNROLL
          for (int j = 0; j < kAcross; j++) {
            SAM_UNROLL
            for (int e = 0; e < 4; e++) {
              int row = i * 16 + e / 2 * 8 + Lane() / 4;
              int column = (WarpIndex() % kWarpsAcross * kAcross + j) * 8 + Lane() % 4 * 2 + e % 2;
              meeting[row * kPitch + column] = sums[i][j][e];
            }
          }
        }
      }
      SyncBlock();
      int start = first_row + pass * kDown * 16;
      for (int item = ThreadIndex(); item < kDown * 16 * kTile; item += kThreads) {
        int row = item / kTile;
        int column = item % kTile;
        if (start + row < rows && first_column + column < a.weight.rows) {
          f(start + row, first_column + column, meeting[row * kPitch + column]);
        }
      }
    }
  }

  SAM_METHOD void Run(int32_t* is_last) const {
    int steps = CeilDiv(a.x.columns, kDepth);
    int each = CeilDiv(steps, a.splits);
    int begin = BlockIndexZ() * each;
    int end = Min(steps, begin + each);
    float sums[kDown][kAcross][4] = {};
    SAM_UNROLL
    for (int s = 0; s < kStages - 1; s++) {
      if (begin + s < end) Start(s, (begin + s) * kDepth);
      CommitCopies();
    }
    uint16_t scales[kAcross] = {}, next_scales[kAcross] = {};
    LoadScales(scales, begin * kDepth);
    int stage = 0;
    for (int step = begin; step < end; step++) {
      WaitForCopies<kStages - 2>();
      SyncBlock();
      int ahead = step + kStages - 1;
      if (ahead < end) Start(stage == 0 ? kStages - 1 : stage - 1, ahead * kDepth);
      CommitCopies();
      LoadScales(next_scales, (step + 1) * kDepth);
      Multiply(shared + stage * kStageBytes, scales, sums);
      SAM_UNROLL
      for (int j = 0; j < kAcross; j++) scales[j] = next_scales[j];
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
    WaitForCopies<0>();
    constexpr float kUnit = F::kScaled ? 1.0f / 128 : 1.0f;
    if (a.splits == 1) {
      ForEachSum(sums, [&](int row, int column, float sum) { Finish<T>(a, row, column, sum * kUnit); });
      return;
    }
    ForEachSum(sums, [&](int row, int column, float sum) {
      *PartialOf<kTile>(a, BlockIndexZ(), row, column) = sum;
    });
    FinishSplit<T, kTile, kThreads>(a, kUnit, is_last, [] { SyncBlock(); });
  }
};

template <class T, class F, int kTile, int kWarpsDown, int kWarpsAcross, int kStages>
SAM_DEVICE void LinearMma(const LinearArguments& a, char* shared, int32_t* is_last) {
  uint32_t* table = (uint32_t*)shared;
  if constexpr (F::kBits == 4) {
    FillPairTable<T>(table);
    shared += kPairTable * 4;
    SyncBlock();
  }
  MmaTile<T, F, kTile, kWarpsDown, kWarpsAcross, kStages>(a, shared, table).Run(is_last);
}

}  // namespace sam

#define LINEAR_MMA(suffix, T, weight_suffix, F)                                   \
  SAM_KERNEL(linear_mma128_##suffix##_##weight_suffix, LinearArguments, 256, 1) { \
    SAM_SHARED(int32_t, is_last, 1);                                              \
    SAM_DYNAMIC_SHARED(char, shared);                                             \
    sam::LinearMma<T, F, 128, 2, 4, 3>(a, shared, is_last);                       \
  }                                                                               \
  SAM_KERNEL(linear_mma64_##suffix##_##weight_suffix, LinearArguments, 128, 2) {  \
    SAM_SHARED(int32_t, is_last, 1);                                              \
    SAM_DYNAMIC_SHARED(char, shared);                                             \
    sam::LinearMma<T, F, 64, 2, 2, 4>(a, shared, is_last);                        \
  }
#define LINEAR_MMAS(suffix, T) SAM_FOR_FRAGMENTS(LINEAR_MMA, suffix, T)
SAM_FOR_HALVES(LINEAR_MMAS)

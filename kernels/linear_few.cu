// linear_few8_{activation}_{weight}, linear_few16_{activation}_{weight}: y = activation(x W^T + bias) +
// residual for at most 8, or 16, rows of x (decode steps: one sequence, beams, several requests), fp16 or
// bf16 activations, every weight format but fp32. x [b, m, K] with K and all strides multiples of 8 elements
// and 16-byte aligned rows; W [N, K]; bias, y and residual as in linear.cu.
//
// What counts is to read W at the speed of memory, whatever m is: W's rows go from memory to registers by 4-
// to 16-byte loads and straight into tensor cores as the 16-row operand, the rows of x are the 8 columns of
// the other one. The warps of a block share 16 rows of W (Q4: 32, as x is read once for each) and divide K
// among themselves; their sums meet in shared memory, added in the order of the warps. Two runs of K are in
// the registers while the next two are under way. Quantised levels are exact in fp16 and bf16; their sums
// over a run are scaled in fp32. Q4 is widened a byte at a time by a table of pairs.
//
// Floor: the bytes of W over the memory's bandwidth; 4096 x 4096 at 4.8 TB/s: fp16 7.0 us, Q8 3.6 us, Q4 1.9
// us. Bytes under way to cover 700 ns: 25 KB on each of 132 multiprocessors; 12 warps of 64 bytes a lane are
// 24 KB. Q4 at 60 % of that bandwidth: 26 weights a clock and multiprocessor, 13 of 32 lookups, 40 of 128
// instructions.
//
// Ladder: 1. this; nothing has been measured on a GPU.
//
// Grid: up to ceil(N / R) blocks, R = 16, Q4 32; fewer go on with the next rows. Block: whole warps up to 256
// threads, linear_few8 with Q4 384. Dynamic shared memory: Q4 32768 bytes, and for all 4 * warps * R * (8 or
// 16) bytes.
#include "epilogue.h"
#include "fragments.h"

namespace sam {

// One warp's share of a product: W's rows [first, first + 16 kTiles) by the 8 kColumns rows of x, over the
// warp's runs of K. kUnroll runs are in the registers while the next kUnroll are under way.
template <class T, class F, int kRun, int kTiles, int kColumns, int kUnroll>
struct Few {
  static constexpr int kSegment = kRun / 4;  // a lane's columns
  static constexpr int kPairs = kRun / 8;
  static constexpr int kWords = kPairs * F::kBits / 16;

  struct Batch {
    uint32_t w[kUnroll][kTiles][2][kWords];
    uint32_t x[kUnroll][kColumns][kPairs];
    uint16_t scales[kUnroll][kTiles][2];
  };

  // Where the lane reads: its segment of run 0 in the first of its rows, and in its row of each eight of x.
  const char* w;
  const uint16_t* scales;
  const T* x[kColumns];
  int eight_rows;  // bytes of W
  int eight_scales;
  int columns, runs_of_group;

  SAM_METHOD Few(const LinearArguments& a) {
    columns = a.x.columns;
    eight_rows = a.weight.row_stride * F::kBits;
    eight_scales = 8 * a.weight.groups;
    runs_of_group = F::kScaled ? a.weight.group_size / kRun : 1;
    SAM_UNROLL
    for (int c = 0; c < kColumns; c++) {
      int row = c * 8 + Lane() / 4;
      x[c] = row < TotalRows(a.x) ? RowOf<const T>(a.x, row) + Lane() % 4 * kSegment : nullptr;
    }
  }

  SAM_METHOD void Start(const LinearArguments& a, int first) {
    int64_t row = first + Lane() / 4;
    w = (const char*)a.weight.data + (row * a.weight.row_stride + Lane() % 4 * kSegment) * F::kBits / 8;
    scales = (const uint16_t*)a.weight.scales + row * a.weight.groups;
  }

  // Runs behind the end are zeros.
  SAM_METHOD void Load(Batch& b, int run, int runs) const {
    SAM_UNROLL
    for (int u = 0; u < kUnroll; u++) {
      bool there = run < runs;
      SAM_UNROLL
      for (int i = 0; i < 2 * kTiles; i++) {
        uint32_t(&words)[kWords] = b.w[u][i / 2][i % 2];
        if (there) {
          LoadWords(words, w + (int64_t)i * eight_rows + run * (kRun * F::kBits / 8));
        } else {
          SAM_UNROLL
          for (int j = 0; j < kWords; j++) words[j] = 0;
        }
        if constexpr (F::kScaled) {
          b.scales[u][i / 2][i % 2] = there ? scales[i * eight_scales + run / runs_of_group] : 0;
        }
      }
      SAM_UNROLL
      for (int c = 0; c < kColumns; c++) {
        SAM_UNROLL
        for (int i = 0; i < kSegment / 8; i++) {
          Words4 v = {};
          int k = run * kRun + Lane() % 4 * kSegment + 8 * i;
          if (x[c] && k < columns) v = *(const Words4*)(x[c] + run * kRun + 8 * i);
          SAM_UNROLL
          for (int j = 0; j < 4; j++) b.x[u][c][4 * i + j] = v.w[j];
        }
      }
      run += BlockWarps();
    }
  }

  SAM_METHOD void Multiply(const Batch& b, float (&sums)[kTiles][kColumns][4], const uint32_t* table) const {
    SAM_UNROLL
    for (int u = 0; u < kUnroll; u++) {
      SAM_UNROLL
      for (int tile = 0; tile < kTiles; tile++) {
        uint32_t rows[2][kPairs];
        Expand<T>(F(), b.w[u][tile][0], rows[0], table);
        Expand<T>(F(), b.w[u][tile][1], rows[1], table);
        SAM_UNROLL
        for (int c = 0; c < kColumns; c++) {
          float parts[4] = {};
          SAM_UNROLL
          for (int s = 0; s < kPairs; s += 2) {
            uint32_t step[4] = {rows[0][s], rows[1][s], rows[0][s + 1], rows[1][s + 1]};
            MultiplyTiles<T>(F::kScaled ? parts : sums[tile][c], step, b.x[u][c][s], b.x[u][c][s + 1]);
          }
          if constexpr (F::kScaled) {
            SAM_UNROLL
            for (int i = 0; i < 4; i++) {
              float scale = WidenHalf(b.scales[u][tile][i / 2]) * (1.0f / 128);
              sums[tile][c][i] = Fma(parts[i], scale, sums[tile][c][i]);
            }
          }
        }
      }
    }
  }
};

// `meeting` has room for the sums of all warps.
template <class T, class F, int kRun, int kTiles, int kColumns, int kUnroll>
SAM_DEVICE void RunFew(const LinearArguments& a, float* meeting, const uint32_t* table) {
  constexpr int kRows = kTiles * 16;
  constexpr int kOutputs = kRows * kColumns * 8;
  int runs = CeilDiv(a.x.columns, kRun);
  int step = kUnroll * BlockWarps();
  Few<T, F, kRun, kTiles, kColumns, kUnroll> few(a);
  for (int first = BlockIndex() * kRows; first < a.weight.rows; first += GridSize() * kRows) {
    few.Start(a, first);
    float sums[kTiles][kColumns][4] = {};
    typename decltype(few)::Batch now, next;
    few.Load(now, WarpIndex(), runs);
    for (int run = WarpIndex(); run < runs; run += step) {
      few.Load(next, run + step, runs);
      few.Multiply(now, sums, table);
      now = next;
    }
    SAM_UNROLL
    for (int i = 0; i < kTiles * kColumns * 4; i++) {
      int tile = i / (kColumns * 4);
      int row = tile * 16 + i % 4 / 2 * 8 + Lane() / 4;
      int column = i / 4 % kColumns * 8 + Lane() % 4 * 2 + i % 2;
      meeting[WarpIndex() * kOutputs + column * kRows + row] = sums[tile][i / 4 % kColumns][i % 4];
    }
    SyncBlock();
    for (int output = ThreadIndex(); output < kOutputs; output += BlockSize()) {
      int row = output / kRows;
      int column = first + output % kRows;
      if (row >= TotalRows(a.x) || column >= a.weight.rows) continue;
      float sum = 0;
      for (int warp = 0; warp < BlockWarps(); warp++) sum += meeting[warp * kOutputs + output];
      Finish<T>(a, row, column, sum);
    }
    SyncBlock();
  }
}

// Of the block's rows of W, what its warps load at first: about a kilobyte of each row (a run of every warp,
// two at a time), and as much for the next time.
template <class F>
SAM_DEVICE void PrefetchFew(const Weight& w) {
  constexpr int kLine = 128;
  constexpr int kLines = 16;
  constexpr int kRows = F::kBits == 4 ? 32 : 16;
  int64_t row_bytes = (int64_t)w.row_stride * F::kBits / 8;
  const char* from = (const char*)w.data + BlockIndex() * kRows * row_bytes;
  for (int i = ThreadIndex(); i < kRows * kLines; i += BlockSize()) {
    int place = i % kLines * kLine;
    if (place < row_bytes) Prefetch(from + i / kLines * row_bytes + place);
  }
}

template <class T, class F, int kColumns>
SAM_DEVICE void LinearFew(const LinearArguments& a, uint32_t* shared) {
  if constexpr (F::kScaled) {
    // A run must lie in one group.
    constexpr int kTiles = F::kBits == 4 ? 2 : 1;
    float* meeting = (float*)shared;
    if constexpr (F::kBits == 4) {
      FillPairTable<T>(shared);
      meeting += kPairTable;
      SyncBlock();
    }
    if (a.weight.group_size % 64 == 0) {
      RunFew<T, F, 64, kTiles, kColumns, 3 - kColumns>(a, meeting, shared);
    } else {
      RunFew<T, F, 32, kTiles, kColumns, F::kBits == 4 ? 1 : 2>(a, meeting, shared);
    }
  } else {
    RunFew<T, F, 32, 1, kColumns, 2>(a, (float*)shared, nullptr);
  }
}

}  // namespace sam

#define LINEAR_FEW(suffix, T, weight_suffix, F)                                                              \
  SAM_KERNEL_EARLY(linear_few8_##suffix##_##weight_suffix, LinearArguments, ::sam::PrefetchFew<F>(a.weight), \
                   F::kBits == 4 ? 384 : 256, F::kBits == 4 ? 1 : 2) {                                       \
    SAM_DYNAMIC_SHARED(uint32_t, shared);                                                                    \
    sam::LinearFew<T, F, 1>(a, shared);                                                                      \
  }                                                                                                          \
  SAM_KERNEL_EARLY(linear_few16_##suffix##_##weight_suffix, LinearArguments,                                 \
                   ::sam::PrefetchFew<F>(a.weight), 256, F::kBits == 4 ? 1 : 2) {                            \
    SAM_DYNAMIC_SHARED(uint32_t, shared);                                                                    \
    sam::LinearFew<T, F, 2>(a, shared);                                                                      \
  }
#define LINEAR_FEWS(suffix, T) SAM_FOR_FRAGMENTS(LINEAR_FEW, suffix, T)
SAM_FOR_HALVES(LINEAR_FEWS)

// linear_few32_{activation}_{weight}, linear_few64_{activation}_{weight}: y = activation(x W^T + bias) +
// residual for 17 to 32, or 33 to 64, rows of x (decode steps of several requests with their beams), fp16 or
// bf16 activations, every weight format but fp32. x, W, bias, y and residual as in linear_few.cu.
//
// As there, W goes from memory to registers and straight into tensor cores as the 16-row operand, each weight
// once and widened once; levels are exact, sums over 32 columns are scaled in fp32. What differs: so many
// rows of x do not fit registers. The 8 warps of a block share them in shared memory, 4 stages of which 3
// are under way (cp.async), and each has 32 rows of W; or 4 warps have the tile's first columns of each
// stage and 4 the next (`splits` = 2: tiles of 128 rows of W instead of 256). Lane t of each four takes 8
// neighbouring columns of x (fragments.h), 16 bytes, without conflicts: the pieces of a row's 128 bytes
// change places in odd rows. A unit of work is a stage of a tile; blocks divide all units evenly, in order. A
// tile that several blocks share is put together by the last of them, from partial sums, in order.
//
// Floor: the bytes of W over the memory's bandwidth, 20 bytes a clock and multiprocessor on an H200: 10
// weights of fp16, 19 of Q8, 37 of Q4 (groups of 64). 128 bytes of W a lane are under way, 32 KB on each
// multiprocessor. What the rest takes beside that, as shares of the memory's time:
//
//                                               64 rows             32 rows
//                                           fp16   Q8    Q4     fp16   Q8    Q4
//   tensor cores, 1270 multiply-adds        0.50  0.97  1.88    0.25  0.48  0.94
//   shared memory: x, lookups of Q4         0.31  0.60  1.75    0.16  0.30  1.17
//   instructions, of sm_90a's machine code  0.33  1.10  2.26    0.27  0.77  1.58
//   bytes of x from the second-level cache  0.25  0.49  0.94    0.13  0.25  0.47
//
// 1270 of 2048 is what mma.sync is said to reach on Hopper (arXiv 2402.13499); the last line is in bytes of
// W, for tiles of 256, twice that for tiles of 128. So fp16 stays under the memory's time, Q8 about reaches
// it at 64 rows, and Q4 does not: it takes 1.58 times as long at 32 rows, 2.0 at 48, 2.26 at 64. Beside
// linear_few8, which counts on 0.6 of the bandwidth for Q4, that is the same at 32 rows, 1.2 times as long at
// 48 and 1.35 at 64.
//
// Ladder: 1. this; nothing has been measured on a GPU.
//
// Grid: any number of blocks up to the units, ceil(N / tile) * ceil(K / (64 splits)). Block: 256 threads.
// splits: 1 or 2; partials: floats of [2 blocks, b m, tile]; tickets: a zero for each tile, left zero.
// Dynamic shared memory: (32 or 64) * max(512 splits, 1040) bytes, Q4 32768 more.
#include "epilogue.h"
#include "fragments.h"

namespace sam {

struct alignas(16) Floats4 {
  float v[4];
};

// A block's share of a product of W by up to 8 kColumns rows of x.
template <class T, class F, int kColumns>
struct FewRows {
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / kWarp;
  static constexpr int kTiles = 2;                         // of 16 rows of W, to a warp
  static constexpr int kRows = 8 * kColumns;               // of x
  static constexpr int kRun = 64;                          // columns of K that a warp takes at a time
  static constexpr int kRunBytes = kRun * 2;               // of x
  static constexpr int kWords = F::kBits / 4;              // of a lane's 8 columns of half a run
  static constexpr int kRing = 16 / F::kBits;              // runs of W under way: 128 bytes a lane
  static constexpr int kStages = 4;                        // of x
  static constexpr int kCopies = kColumns / 4;             // 16-byte pieces of a run of x for each thread
  static constexpr int kPitch = kWarps * kTiles * 16 + 4;  // of rows of sums
  static constexpr int kBatch = 8;                         // loads that a thread has under way at the end

  const LinearArguments& a;
  const uint32_t* table;
  char* shared;           // stages of x, or sums
  const int64_t* places;  // of the rows of y, then of the residual
  int parts;              // of the columns of a step, each for other warps
  int part;               // of this warp
  int tile;               // rows of W
  int warp_row;           // first of this warp in the tile
  int rows, runs, steps, units;
  int thread;
  int begin, end;       // the block's units
  bool has_neighbours;  // whether the 16 columns of a lane of quantised W lie together
  const T* x[kCopies];

  // What is loaded next.
  int next_unit, next_step, next_tile;
  const char* w;
  const uint16_t* scales;

  uint32_t ring[kRing][2 * kTiles][2][kWords];
  uint32_t scale_ring[kRing][2 * kTiles];  // of both halves of a run
  float sums[kTiles][kColumns][4];

  SAM_METHOD FewRows(const LinearArguments& a, char* shared, const uint32_t* table, const int64_t* places)
      : a(a), table(table), shared(shared), places(places), parts(a.splits) {
    int down = kWarps / parts;
    part = WarpIndex() / down;
    tile = down * kTiles * 16;
    warp_row = WarpIndex() % down * kTiles * 16;
    rows = TotalRows(a.x);
    thread = ThreadIndex();
    runs = CeilDiv(a.x.columns, kRun);
    steps = CeilDiv(runs, parts);
    units = CeilDiv(a.weight.rows, tile) * steps;
    begin = StartOf(BlockIndex());
    end = StartOf(BlockIndex() + 1);
    has_neighbours = F::kScaled && a.weight.group_size % kRun == 0;
    SAM_UNROLL
    for (int i = 0; i < kCopies; i++) {
      int row = ThreadIndex() / 8 + i * (kThreads / 8);
      x[i] = RowOf<const T>(a.x, Min(row, rows - 1)) + ThreadIndex() % 8 * 8;
    }
    next_unit = begin;
    next_step = begin % steps;
    Seek(begin / steps);
  }

  // First unit of a block, and the block of a unit.
  SAM_METHOD int StartOf(int block) const { return (int)((int64_t)block * units / GridSize()); }
  SAM_METHOD int BlockOf(int unit) const { return (int)(((int64_t)(unit + 1) * GridSize() - 1) / units); }

  SAM_METHOD void Seek(int to) {
    next_tile = to;
    // All rows of the last warp that has one are in memory; what lies behind reads the same.
    int64_t row = Min(to * tile + warp_row, (a.weight.rows - 1) / (kTiles * 16) * (kTiles * 16)) + Lane() / 4;
    w = (const char*)a.weight.data +
        (row * a.weight.row_stride + Lane() % 4 * (has_neighbours ? 16 : 8)) * F::kBits / 8;
    scales = (const uint16_t*)a.weight.scales + row * a.weight.groups;
  }

  // The next run of W to a slot whose half has been used; quantised, all of it when its second half has.
  SAM_METHOD void LoadHalf(int slot, int half) {
    if (next_unit == end || (F::kScaled && half == 0)) return;
    // Behind the end of K x is zero.
    int run = Min(next_step * parts + part, runs - 1);
    int at = run * (kRun * F::kBits / 8);
    int eight = a.weight.row_stride * F::kBits;
    auto& to = ring[slot];
    if constexpr (!F::kScaled) {
      SAM_UNROLL
      for (int i = 0; i < 2 * kTiles; i++)
        LoadWords(to[i][half], w + (at + half * (kRun / 2 * F::kBits / 8) + i * eight));
      if (half == 0) return;
    } else if (has_neighbours) {
      int group = run >> a.weight.group_size / 128;  // of 64 or 128 columns
      SAM_UNROLL
      for (int i = 0; i < 2 * kTiles; i++) {
        uint32_t both[2 * kWords];
        LoadWords(both, w + (at + i * eight));
        SAM_UNROLL
        for (int j = 0; j < 2 * kWords; j++) to[i][j / kWords][j % kWords] = both[j];
        scale_ring[slot][i] = scales[i * 8 * a.weight.groups + group] * 0x10001u;
      }
    } else {
      SAM_UNROLL
      for (int i = 0; i < 2 * kTiles; i++) {
        LoadWords(to[i][0], w + (at + i * eight));
        LoadWords(to[i][1], w + (at + i * eight + kRun / 2 * F::kBits / 8));
        scale_ring[slot][i] = *(const uint32_t*)(scales + (i * 8 * a.weight.groups + 2 * run));
      }
    }
    next_unit++;
    if (++next_step == steps) {
      next_step = 0;
      Seek(next_tile + 1);
    }
  }

  SAM_METHOD void StartRows(int stage, int step) const {
    SAM_UNROLL
    for (int i = 0; i < kCopies; i++) {
      int row = thread / 8 + i * (kThreads / 8);
      char* to = shared + (stage * parts * kRows + row) * kRunBytes + (thread % 8 ^ row % 2 * 5) * 16;
      for (int p = 0; p < parts; p++) {
        int k = (step * parts + p) * kRun;
        bool is_there = row < rows && k + thread % 8 * 8 < a.x.columns;
        CopyAsync<16>(to + p * kRows * kRunBytes, x[i] + k, is_there ? 16 : 0);
      }
    }
  }

  // A lane's columns of its row of two eights of rows.
  SAM_METHOD void LoadRows(Words4 (&b)[2], const char* piece) const {
    b[0] = *(const Words4*)piece;
    b[1] = *(const Words4*)(piece + 8 * kRunBytes);
  }

  SAM_METHOD void Multiply(int slot, int stage) {
    int t = Lane() % 4;
    const char* from = shared + ((stage * parts + part) * kRows + Lane() / 4) * kRunBytes;
    SAM_UNROLL
    for (int half = 0; half < 2; half++) {
      uint32_t pairs[2 * kTiles][4];
      float scale[2 * kTiles];
      SAM_UNROLL
      for (int i = 0; i < 2 * kTiles; i++) {
        Expand<T>(F(), ring[slot][i][half], pairs[i], table);
        if constexpr (F::kScaled) {
          scale[i] = WidenHalf((uint16_t)(scale_ring[slot][i] >> 16 * half)) * (1.0f / 128);
        }
      }
      LoadHalf(slot, half);
      const char* piece = from + ((has_neighbours ? 2 * t + half : 4 * half + t) ^ Lane() / 4 % 2 * 5) * 16;
      Words4 next[2];
      LoadRows(next, piece);
      SAM_UNROLL
      for (int c = 0; c < kColumns; c += 2) {
        // Not only less to do: what lies behind a branch stays there, or sums of all rows would not fit
        // registers.
        if (c > 0 && rows <= 8 * c) break;
        Words4 b[2] = {next[0], next[1]};
        if (c + 2 < kColumns) LoadRows(next, piece + (c + 2) * 8 * kRunBytes);
        SAM_UNROLL
        for (int j = 0; j < 2; j++) {
          SAM_UNROLL
          for (int i = 0; i < kTiles; i++) {
            float(&sum)[4] = sums[i][c + j];
            float part_sum[4] = {};
            SAM_UNROLL
            for (int s = 0; s < 4; s += 2) {
              uint32_t step[4] = {pairs[2 * i][s], pairs[2 * i + 1][s], pairs[2 * i][s + 1],
                                  pairs[2 * i + 1][s + 1]};
              MultiplyTiles<T>(F::kScaled ? part_sum : sum, step, b[j].w[s], b[j].w[s + 1]);
            }
            if constexpr (F::kScaled) {
              SAM_UNROLL
              for (int e = 0; e < 4; e++) sum[e] = Fma(part_sum[e], scale[2 * i + e / 2], sum[e]);
            }
          }
        }
      }
    }
  }

  // The warps' sums to shared memory, the parts of K added in order: kRows rows of kPitch.
  SAM_METHOD void Meet() {
    float* meeting = (float*)shared + thread % 4 * 2 * kPitch + warp_row + thread % kWarp / 4;
    for (int p = 0; p < parts; p++) {
      SyncBlock();
      if (p != part) continue;
      SAM_UNROLL
      for (int i = 0; i < kTiles; i++) {
        SAM_UNROLL
        for (int c = 0; c < kColumns; c++) {
          SAM_UNROLL
          for (int e = 0; e < 4; e++) {
            float* to = meeting + (c * 8 + e % 2) * kPitch + i * 16 + e / 2 * 8;
            *to = p == 0 ? sums[i][c][e] : *to + sums[i][c][e];
          }
        }
      }
    }
    SyncBlock();
  }

  // Where a block keeps the sums of the first segment of its units, or of the last.
  SAM_METHOD float* PartialOf(int block, bool is_first) const {
    return a.partials + (int64_t)(2 * block + !is_first) * rows * tile;
  }

  // The sums of a segment that is not all of its tile's K. True in the last block to come, when the sum of
  // all segments, in order, is in shared memory.
  SAM_METHOD bool Join(int number, int first, int last, int32_t* is_last) {
    int column = thread % (tile / 4) * 4;
    int first_row = thread / (tile / 4);
    int down = kThreads / (tile / 4);
    float* meeting = (float*)shared;
    float* mine = PartialOf(BlockIndex(), number * steps + first == begin);
    for (int row = first_row; row < rows; row += down) {
      *(Floats4*)(mine + row * tile + column) = *(const Floats4*)(meeting + row * kPitch + column);
    }
    FenceDevice();
    SyncBlock();
    if (thread == 0) {
      int32_t* ticket = a.tickets + number;
      *is_last = AtomicAdd(ticket, last - first) + last - first == steps;
      if (*is_last) *ticket = 0;
    }
    SyncBlock();
    if (!*is_last) return false;
    FenceDevice();
    int start = number * steps;
    int last_block = BlockOf(start + steps - 1);
    for (int from = first_row; from < rows; from += kBatch * down) {
      Floats4 total[kBatch] = {};
      for (int block = BlockOf(start); block <= last_block; block++) {
        const float* partial = PartialOf(block, StartOf(block) >= start);
        SAM_UNROLL
        for (int j = 0; j < kBatch; j++) {
          int row = from + j * down;
          if (row >= rows) continue;
          Floats4 v = *(const Floats4*)(partial + row * tile + column);
          SAM_UNROLL
          for (int e = 0; e < 4; e++) total[j].v[e] += v.v[e];
        }
      }
      SAM_UNROLL
      for (int j = 0; j < kBatch; j++) {
        int row = from + j * down;
        if (row < rows) *(Floats4*)(meeting + row * kPitch + column) = total[j];
      }
    }
    SyncBlock();
    return true;
  }

  // The tile's outputs from the sums in shared memory.
  SAM_METHOD void Put(int number) const {
    int place = thread % tile;
    int column = number * tile + place;
    int down = kThreads / tile;
    if (column >= a.weight.rows) return;
    const float* meeting = (const float*)shared + place;
    float bias = a.bias ? a.bias[column] : 0;
    for (int from = thread / tile; from < rows; from += kBatch * down) {
      float residual[kBatch] = {};
      if (a.residual.data) {
        SAM_UNROLL
        for (int j = 0; j < kBatch; j++) {
          int row = from + j * down;
          if (row < rows) residual[j] = GetAs<T>(a.residual, places[kRows + row] + column);
        }
      }
      SAM_UNROLL
      for (int j = 0; j < kBatch; j++) {
        int row = from + j * down;
        if (row < rows) {
          PutAs<T>(a.y, places[row] + column, Activate(a, meeting[row * kPitch] + bias) + residual[j]);
        }
      }
    }
  }

  // Keeps what is computed from these where it is used, instead of in registers throughout.
  SAM_METHOD void Forget() {
    thread = Opaque(thread);
    tile = Opaque(tile);
    parts = Opaque(parts);
    rows = Opaque(rows);
  }

  // Units [first, last) of a tile.
  SAM_METHOD void RunSegment(int number, int first, int last, int32_t* is_last) {
    Forget();
    SAM_UNROLL
    for (int s = 0; s < kStages - 1; s++) {
      if (first + s < last) StartRows(s, first + s);
      CommitCopies();
    }
    SAM_UNROLL
    for (int i = 0; i < kTiles; i++) {
      SAM_UNROLL
      for (int c = 0; c < kColumns; c++) {
        SAM_UNROLL
        for (int e = 0; e < 4; e++) sums[i][c][e] = 0;
      }
    }
    int stage = 0;
    for (int step = first; step < last; step += kRing) {
      SAM_UNROLL
      for (int slot = 0; slot < kRing; slot++) {
        if (step + slot >= last) continue;
        WaitForCopies<kStages - 2>();
        SyncBlock();
        int ahead = step + slot + kStages - 1;
        if (ahead < last) StartRows((stage + kStages - 1) % kStages, ahead);
        CommitCopies();
        Multiply(slot, stage);
        stage = (stage + 1) % kStages;
      }
    }
    WaitForCopies<0>();
    Forget();
    Meet();
    if (last - first == steps || Join(number, first, last, is_last)) Put(number);
    SyncBlock();
    // What the ring has loaded since is for the next segment, from slot 0.
    for (int i = (last - first) % kRing; i > 0; i--) Turn();
  }

  // Every slot of the ring becomes the one before.
  SAM_METHOD void Turn() {
    SAM_UNROLL
    for (int i = 0; i < 2 * kTiles; i++) {
      SAM_UNROLL
      for (int j = 0; j < 2 * kWords; j++) {
        uint32_t first = ring[0][i][j / kWords][j % kWords];
        SAM_UNROLL
        for (int s = 0; s + 1 < kRing; s++)
          ring[s][i][j / kWords][j % kWords] = ring[s + 1][i][j / kWords][j % kWords];
        ring[kRing - 1][i][j / kWords][j % kWords] = first;
      }
      uint32_t first = scale_ring[0][i];
      SAM_UNROLL
      for (int s = 0; s + 1 < kRing; s++) scale_ring[s][i] = scale_ring[s + 1][i];
      scale_ring[kRing - 1][i] = first;
    }
  }

  SAM_METHOD void Run(int32_t* is_last) {
    for (int unit = begin; unit < end;) {
      int first = unit % steps;
      int last = Min(steps, first + end - unit);
      RunSegment(unit / steps, first, last, is_last);
      unit += last - first;
    }
  }
};

template <class T, class F, int kColumns>
SAM_DEVICE void LinearFewRows(const LinearArguments& a, char* shared, int64_t* places, int32_t* is_last) {
  using Rows = FewRows<T, F, kColumns>;
  uint32_t* table = (uint32_t*)shared;
  if constexpr (F::kBits == 4) shared += kPairTable * 4;
  Rows rows(a, shared, table, places);
  SAM_UNROLL
  for (int slot = 0; slot < Rows::kRing; slot++) {
    rows.LoadHalf(slot, 0);
    rows.LoadHalf(slot, 1);
  }
  if (ThreadIndex() < TotalRows(a.x)) {
    int batch = ThreadIndex() / a.y.rows;
    int row = ThreadIndex() % a.y.rows;
    places[ThreadIndex()] = batch * a.y.batch_stride + row * a.y.row_stride;
    places[Rows::kRows + ThreadIndex()] = batch * a.residual.batch_stride + row * a.residual.row_stride;
  }
  if constexpr (F::kBits == 4) FillPairTable<T>(table);
  SyncBlock();
  rows.Run(is_last);
}

}  // namespace sam

#define LINEAR_FEW_ROWS(suffix, T, weight_suffix, F)                             \
  SAM_KERNEL(linear_few32_##suffix##_##weight_suffix, LinearArguments, 256, 1) { \
    SAM_SHARED(int64_t, places, 64);                                             \
    SAM_SHARED(int32_t, is_last, 1);                                             \
    SAM_DYNAMIC_SHARED(char, shared);                                            \
    sam::LinearFewRows<T, F, 4>(a, shared, places, is_last);                     \
  }                                                                              \
  SAM_KERNEL(linear_few64_##suffix##_##weight_suffix, LinearArguments, 256, 1) { \
    SAM_SHARED(int64_t, places, 128);                                            \
    SAM_SHARED(int32_t, is_last, 1);                                             \
    SAM_DYNAMIC_SHARED(char, shared);                                            \
    sam::LinearFewRows<T, F, 8>(a, shared, places, is_last);                     \
  }
#define LINEAR_FEWS_ROWS(suffix, T) SAM_FOR_FRAGMENTS(LINEAR_FEW_ROWS, suffix, T)
SAM_FOR_HALVES(LINEAR_FEWS_ROWS)

// paged_decode{64,128}_{activation}: causal attention over the cache for steps of few rows (one per beam or
// request), fp16 and bf16, heads of at most 64 or 128 columns (a multiple of 8), 16-byte aligned rows.
// Layouts as in paged_attention.cu.
//
// Up to 16 rows of the step are the 16 rows of the tensor cores' products, so what the beams of a prompt
// share is read once: of a tile of 64 keys, rows whose block tables agree about it are served together, then
// the next ones. The tiles are divided among `splits` blocks, and 16 keys of each tile belong to each of four
// warps; the warps' results are put together in shared memory, the blocks' by the last one to finish a head,
// in order.
//
// Floor: the bytes of the keys and values once. Vicuna-7B, 400 tokens: 6.6 MB a layer, 1.4 us at 4.8 TB/s;
// the weights of the layer take 84 us in fp16, 22 us in Q4.
//
// Ladder: 1. this; nothing has been measured on a GPU.
//
// Grid: x = splits, y = heads, z = ceil(rows / 16). Block: 128 threads. Dynamic shared memory: (64 + 2 * 64)
// rows of (columns + 8) * 2 bytes, columns of the name. Partials: rows * heads * splits * (d + 2) floats.
// Tickets: heads * grid z zeros, left zero.
#include "flash.h"
#include "paged_kv.h"

namespace sam {

constexpr int kDecodeRows = 16;

// Block tables and positions of the block's rows. Lane i of every warp knows row i; rows that are not there
// see nothing.
struct DecodeRows {
  const int32_t* table;
  int last;  // last key the row sees; -1: none

  SAM_METHOD DecodeRows(const PagedAttentionArguments& a, int first) {
    int row = first + Lane();
    bool there = Lane() < kDecodeRows && row < a.q.rows;
    last = there ? a.layout.positions[row] : -1;
    table = a.layout.block_table + (there ? SequenceOf(a.layout, row) : 0) * a.layout.block_table_stride;
  }

  // Those of `rows` whose blocks for keys start .. start + 63, as far as each sees them, are those of row
  // `leader`.
  SAM_METHOD uint32_t Sharing(uint32_t rows, int leader, int start, int block_size) const {
    uint64_t address = (uint64_t)table;
    const int32_t* other = (const int32_t*)((uint64_t)ShuffleBits((uint32_t)(address >> 32), leader) << 32 |
                                            ShuffleBits((uint32_t)address, leader));
    bool same = rows >> Lane() & 1;
    if (same) {
      int end = Min(last, start + kFlashKeys - 1) / block_size;
      for (int block = start / block_size; block <= end; block++) same &= table[block] == other[block];
    }
    return Ballot(same);
  }
};

template <class T, int kDim>
SAM_DEVICE void PagedDecode(const PagedAttentionArguments& a, T* shared, int32_t* is_last) {
  constexpr int kTile = kFlashKeys * kFlashPitch<kDim>;
  int first = BlockIndexZ() * kDecodeRows;
  int head = BlockIndexY();
  int width = a.cache.head_dim;
  const T* q = (const T*)a.q.data + head * width;
  T* keys = shared + kTile;
  T* values = keys + kTile;
  CopyFlashTile<kDim>(
      shared, width,
      [&](int i) {
        return i < kDecodeRows && first + i < a.q.rows ? q + (first + i) * a.q.row_stride : nullptr;
      },
      q);
  CommitCopies();
  WaitForCopies<0>();
  SyncBlock();
  FlashRows<T, kDim> rows;
  rows.Start(shared);
  DecodeRows mine(a, first);
  int own[2] = {Shuffle(mine.last, Lane() / 4), Shuffle(mine.last, Lane() / 4 + 8)};
  auto kv = PagedKv<T>::At(a.cache, a.layout, a.layer, head / (a.heads / a.cache.heads), 0);
  int tiles = WarpReduce<Largest>(mine.last) / kFlashKeys + 1;
  int each = CeilDiv(tiles, a.splits);
  int end = Min(tiles, (BlockIndex() + 1) * each);
  for (int tile = BlockIndex() * each; tile < end; tile++) {
    int start = tile * kFlashKeys;
    uint32_t left = Ballot(mine.last >= start);
    while (left != 0) {
      int leader = 0;
      while ((left >> leader & 1) == 0) leader++;
      uint32_t together = mine.Sharing(left, leader, start, a.cache.block_size);
      left &= ~together;
      int count = WarpReduce<Largest>(together >> Lane() & 1 ? mine.last : -1) + 1 - start;
      kv.table = a.layout.block_table + SequenceOf(a.layout, first + leader) * a.layout.block_table_stride;
      SyncBlock();
      CopyFlashTile<kDim>(
          keys, width, [&](int i) { return i < count ? kv.Key(start + i) : nullptr; }, q);
      CopyFlashTile<kDim>(
          values, width, [&](int i) { return i < count ? kv.Value(start + i) : nullptr; }, q);
      CommitCopies();
      WaitForCopies<0>();
      SyncBlock();
      int shift = WarpIndex() * 16;
      rows.template Take<16>(keys + shift * kFlashPitch<kDim>, values + shift * kFlashPitch<kDim>,
                             a.scale * kLog2E, [&](int r, int key) {
                               return (together >> (Lane() / 4 + 8 * r) & 1) && start + shift + key <= own[r];
                             });
    }
  }
  rows.FinishTotals();

  // The warps' results: per warp and row a maximum, a sum, kDim sums of values.
  constexpr int kRowFloats = kDim + 2;
  float* meeting = (float*)shared;
  SyncBlock();
  SAM_UNROLL
  for (int r = 0; r < 2; r++) {
    float* to = meeting + (WarpIndex() * kDecodeRows + Lane() / 4 + 8 * r) * kRowFloats;
    if (Lane() % 4 == 0) {
      to[0] = rows.largest[r];
      to[1] = rows.totals[r];
    }
    SAM_UNROLL
    for (int d = 0; d < kDim / 8; d++) {
      to[2 + d * 8 + Lane() % 4 * 2] = rows.sums[d][2 * r];
      to[3 + d * 8 + Lane() % 4 * 2] = rows.sums[d][2 * r + 1];
    }
  }
  SyncBlock();
  int count = Min(kDecodeRows, a.q.rows - first);
  int row_floats = width + 2;
  for (int item = ThreadIndex(); item < count * row_floats; item += kFlashThreads) {
    int row = item / row_floats;
    int place = item % row_floats;
    float largest = -kInfinity;
    for (int w = 0; w < kFlashWarps; w++)
      largest = Max(largest, meeting[(w * kDecodeRows + row) * kRowFloats]);
    float sum = place == 0 ? largest : 0;
    for (int w = 0; w < kFlashWarps && place > 0 && largest > -kInfinity; w++) {
      const float* from = meeting + (w * kDecodeRows + row) * kRowFloats;
      sum = Fma(Exp2(from[0] - largest), from[place], sum);
    }
    a.partials[(((int64_t)(first + row) * a.heads + head) * a.splits + BlockIndex()) * row_floats + place] =
        sum;
  }
  FenceDevice();
  SyncBlock();
  if (ThreadIndex() == 0) {
    int32_t* ticket = a.tickets + BlockIndexZ() * a.heads + head;
    *is_last = AtomicAdd(ticket, 1) == a.splits - 1;
    if (*is_last) *ticket = 0;
  }
  SyncBlock();
  if (!*is_last) return;
  FenceDevice();
  for (int item = ThreadIndex(); item < count * width; item += kFlashThreads) {
    int row = first + item / width;
    int column = item % width;
    const volatile float* from = a.partials + ((int64_t)row * a.heads + head) * a.splits * row_floats;
    float largest = -kInfinity;
    for (int s = 0; s < a.splits; s++) largest = Max(largest, (float)from[s * row_floats]);
    float total = 0, sum = 0;
    for (int s = 0; s < a.splits; s++) {
      float share = Exp2(from[s * row_floats] - largest);
      total = Fma(share, from[s * row_floats + 1], total);
      sum = Fma(share, from[s * row_floats + 2 + column], sum);
    }
    Put(RowOf<T>(a.y, row) + head * width + column, sum / total);
  }
}

}  // namespace sam

#define PAGED_DECODE(suffix, T, dim)                                       \
  SAM_KERNEL(paged_decode##dim##_##suffix, PagedAttentionArguments, 128) { \
    SAM_SHARED(int32_t, is_last, 1);                                       \
    SAM_DYNAMIC_SHARED(T, shared);                                         \
    sam::PagedDecode<T, dim>(a, shared, is_last);                          \
  }
#define PAGED_DECODES(suffix, T) \
  PAGED_DECODE(suffix, T, 64)    \
  PAGED_DECODE(suffix, T, 128)
SAM_FOR_HALVES(PAGED_DECODES)

// flash_attention{64,96,128}_{activation}: attention without a mask for fp16 and bf16, heads of at most 64,
// 96 or 128 columns (a multiple of 8), 16-byte aligned rows; without probabilities. Layouts as in
// attention.cu. flash_paged{64,96,128}_{activation}: causal attention over the cache for steps with several
// rows of a sequence (prefill); layouts as in paged_attention.cu.
//
// A block takes 64 query rows of one head, a warp 16 of them; 64 keys and values at a time come to shared
// memory, the next ones while these are worked on. Columns up to 64, 96 or 128 are zeros there (88 of the
// vision encoder: 96).
//
// Floor: 4 m n d FLOP a head over the rate of the tensor cores. Vision encoder: 16 heads x 257 x 257 x 88 x 4
// = 0.37 GFLOP an image and layer, 0.07 of 2.7 TFLOP for five images; with tiles filled up 1.7 times that.
//
// Ladder: 1. this; nothing has been measured on a GPU.
//
// Grid: x = ceil(m / 64), y = heads, z = batch; flash_paged x = ceil(rows / 64) + sequences - 1 or more, y =
// heads. Block: 128 threads. Dynamic shared memory: 5 * 64 * (columns + 8) * 2 bytes, columns of the name.
#include "flash.h"
#include "paged_kv.h"

namespace sam {

// One block's 64 query rows. Keys i < keys count; `first_seen` >= 0: row r sees keys 0 .. first_seen + r.
template <class T, int kDim, class Query, class Kv>
SAM_DEVICE void FlashBlock(int width, int keys, int first_seen, const Query& query, const Kv& kv, float scale,
                           T* shared, const T* valid, FlashRows<T, kDim>& rows) {
  constexpr int kTile = kFlashKeys * kFlashPitch<kDim>;
  T* tiles = shared + kTile;
  auto copy = [&](int start) {
    T* to = tiles + start / kFlashKeys % 2 * 2 * kTile;
    CopyFlashTile<kDim>(
        to, width, [&](int i) { return start + i < keys ? kv.Key(start + i) : nullptr; }, valid);
    CopyFlashTile<kDim>(
        to + kTile, width, [&](int i) { return start + i < keys ? kv.Value(start + i) : nullptr; }, valid);
    CommitCopies();
  };
  CopyFlashTile<kDim>(shared, width, query, valid);
  CommitCopies();
  copy(0);
  WaitForCopies<1>();
  SyncBlock();
  rows.Start(shared + WarpIndex() * 16 * kFlashPitch<kDim>);
  int row = WarpIndex() * 16 + Lane() / 4;
  for (int start = 0; start < keys; start += kFlashKeys) {
    WaitForCopies<0>();
    SyncBlock();
    if (start + kFlashKeys < keys) copy(start + kFlashKeys);
    const T* tile = tiles + start / kFlashKeys % 2 * 2 * kTile;
    rows.template Take<kFlashKeys>(tile, tile + kTile, scale * kLog2E, [&](int r, int key) {
      return start + key < keys && (first_seen < 0 || start + key <= first_seen + row + 8 * r);
    });
  }
  rows.FinishTotals();
}

// The block's rows of y; y(i) is row i, null where there is none.
template <class T, int kDim, class Target>
SAM_DEVICE void StoreFlashRows(const FlashRows<T, kDim>& rows, int width, const Target& y) {
  SAM_UNROLL
  for (int r = 0; r < 2; r++) {
    T* to = y(WarpIndex() * 16 + Lane() / 4 + 8 * r);
    if (!to) continue;
    float share = 1.0f / rows.totals[r];
    SAM_UNROLL
    for (int d = 0; d < kDim / 8; d++) {
      int column = d * 8 + Lane() % 4 * 2;
      if (column >= width) continue;
      Put(to + column, rows.sums[d][2 * r] * share);
      Put(to + column + 1, rows.sums[d][2 * r + 1] * share);
    }
  }
}

template <class T>
struct FlashKv {
  const T *k, *v;
  int64_t k_stride, v_stride;

  SAM_METHOD const T* Key(int i) const { return k + i * k_stride; }
  SAM_METHOD const T* Value(int i) const { return v + i * v_stride; }
};

template <class T, int kDim>
SAM_DEVICE void FlashAttention(const AttentionArguments& a, T* shared) {
  int first = BlockIndex() * kFlashKeys;
  int64_t batch = BlockIndexZ();
  int width = a.q.columns / a.heads;
  int shift = BlockIndexY() * width;
  const T* q = (const T*)a.q.data + batch * a.q.batch_stride + shift;
  T* y = (T*)a.y.data + batch * a.y.batch_stride + shift;
  FlashKv<T> kv{(const T*)a.k.data + batch * a.k.batch_stride + shift,
                (const T*)a.v.data + batch * a.v.batch_stride + shift, a.k.row_stride, a.v.row_stride};
  FlashRows<T, kDim> rows;
  FlashBlock(
      width, a.k.rows, -1,
      [&](int i) { return first + i < a.q.rows ? q + (first + i) * a.q.row_stride : nullptr; }, kv, a.scale,
      shared, q, rows);
  StoreFlashRows(rows, width,
                 [&](int i) { return first + i < a.q.rows ? y + (first + i) * a.y.row_stride : nullptr; });
}

template <class T, int kDim>
SAM_DEVICE void FlashPaged(const PagedAttentionArguments& a, T* shared) {
  // The block's tile among those of all sequences.
  int tile = BlockIndex();
  int sequence = 0;
  for (; sequence < a.layout.sequences; sequence++) {
    int tiles = CeilDiv(a.layout.row_starts[sequence + 1] - a.layout.row_starts[sequence], kFlashKeys);
    if (tile < tiles) break;
    tile -= tiles;
  }
  if (sequence == a.layout.sequences) return;
  int first = a.layout.row_starts[sequence] + tile * kFlashKeys;
  int end = Min(first + kFlashKeys, a.layout.row_starts[sequence + 1]);
  int seen = a.layout.positions[first];
  int width = a.cache.head_dim;
  int head = BlockIndexY();
  auto kv = PagedKv<T>::At(a.cache, a.layout, a.layer, head / (a.heads / a.cache.heads), sequence);
  const T* q = (const T*)a.q.data + head * width;
  T* y = (T*)a.y.data + head * width;
  FlashRows<T, kDim> rows;
  FlashBlock(
      width, seen + end - first, seen,
      [&](int i) { return first + i < end ? q + (first + i) * a.q.row_stride : nullptr; }, kv, a.scale,
      shared, q, rows);
  StoreFlashRows(rows, width,
                 [&](int i) { return first + i < end ? y + (first + i) * a.y.row_stride : nullptr; });
}

}  // namespace sam

#define FLASH_ATTENTION(suffix, T, dim)                                      \
  SAM_KERNEL(flash_attention##dim##_##suffix, AttentionArguments, 128, 2) {  \
    SAM_DYNAMIC_SHARED(T, shared);                                           \
    sam::FlashAttention<T, dim>(a, shared);                                  \
  }                                                                          \
  SAM_KERNEL(flash_paged##dim##_##suffix, PagedAttentionArguments, 128, 2) { \
    SAM_DYNAMIC_SHARED(T, shared);                                           \
    sam::FlashPaged<T, dim>(a, shared);                                      \
  }
#define FLASH_ATTENTIONS(suffix, T) \
  FLASH_ATTENTION(suffix, T, 64)    \
  FLASH_ATTENTION(suffix, T, 96)    \
  FLASH_ATTENTION(suffix, T, 128)
SAM_FOR_HALVES(FLASH_ATTENTIONS)

// paged_attention_{activation}: causal attention over the cache, for every shape and stride; the row at
// position p of a sequence sees that sequence's tokens 0..p. q and y [1, rows, heads * d]; query head h reads
// key/value head h / (heads / kv heads).
//
// A warp per row and query head (attention_rows.h). Bound by latency at few rows and by the first-level cache
// at many.
//
// Grid: any number of blocks; ceil(rows heads / warps of a block) of them give every warp one row. Block:
// whole warps up to 128 threads. No dynamic shared memory.
#include "attention_rows.h"
#include "paged_kv.h"

namespace sam {

template <class T>
SAM_DEVICE void PagedAttention(const PagedAttentionArguments& a, float* tiles) {
  int width = a.cache.head_dim;
  int queries = a.heads / a.cache.heads;
  int items = a.q.rows * a.heads;
  for (int item = BlockIndex() * BlockWarps() + WarpIndex(); item < items;
       item += GridSize() * BlockWarps()) {
    int row = item % a.q.rows;
    int head = item / a.q.rows;
    auto kv = PagedKv<T>::At(a.cache, a.layout, a.layer, head / queries, SequenceOf(a.layout, row));
    AttendRow(RowOf<const T>(a.q, row) + head * width, width, a.layout.positions[row] + 1, kv, a.scale,
              RowOf<T>(a.y, row) + head * width, (float*)nullptr, tiles + WarpIndex() * kKeyTile);
  }
}

}  // namespace sam

#define PAGED_ATTENTION(suffix, T)                                        \
  SAM_KERNEL(paged_attention_##suffix, PagedAttentionArguments, 128, 2) { \
    SAM_SHARED(float, tiles, 4 * sam::kKeyTile);                          \
    sam::PagedAttention<T>(a, tiles);                                     \
  }
SAM_FOR_ACTIVATIONS(PAGED_ATTENTION)

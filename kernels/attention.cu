// attention_{activation}: multi-head attention without a mask, y = softmax(scale q k^T) v per head, for every
// shape and stride. q and y [b, m, heads * d], k and v [b, n, heads * d]; probabilities, where wanted, fp32
// [b * heads, m, n].
//
// A warp per query row and head (attention_rows.h): lanes take keys for the scores, columns for the sums.
// Bound by the first-level cache; flash_attention.cu serves the shapes that matter.
//
// Grid: any number of blocks; ceil(b heads m / warps of a block) of them give every warp one row. Block:
// whole warps up to 128 threads. No dynamic shared memory.
#include "attention_rows.h"

namespace sam {

// Keys and values of one head of one batch entry.
template <class T>
struct DenseKv {
  const T *k, *v;
  int64_t k_stride, v_stride;

  SAM_METHOD const T* Key(int i) const { return k + i * k_stride; }
  SAM_METHOD const T* Value(int i) const { return v + i * v_stride; }
};

template <class T>
SAM_DEVICE void Attention(const AttentionArguments& a, float* tiles) {
  int width = a.q.columns / a.heads;
  int64_t items = (int64_t)a.q.batch * a.heads * a.q.rows;
  int warps = GridSize() * BlockWarps();
  for (int64_t item = BlockIndex() * BlockWarps() + WarpIndex(); item < items; item += warps) {
    int row = (int)(item % a.q.rows);
    int head = (int)(item / a.q.rows % a.heads);
    int batch = (int)(item / a.q.rows / a.heads);
    int shift = head * width;
    DenseKv<T> kv{(const T*)a.k.data + batch * a.k.batch_stride + shift,
                  (const T*)a.v.data + batch * a.v.batch_stride + shift, a.k.row_stride, a.v.row_stride};
    float* probabilities = nullptr;
    if (a.probabilities.data) {
      probabilities = RowOf<float>(a.probabilities, (batch * a.heads + head) * a.q.rows + row);
    }
    int query = batch * a.q.rows + row;
    AttendRow(RowOf<const T>(a.q, query) + shift, width, a.k.rows, kv, a.scale, RowOf<T>(a.y, query) + shift,
              probabilities, tiles + WarpIndex() * kKeyTile);
  }
}

}  // namespace sam

#define ATTENTION(suffix, T)                                   \
  SAM_KERNEL(attention_##suffix, AttentionArguments, 128, 2) { \
    SAM_SHARED(float, tiles, 4 * sam::kKeyTile);               \
    sam::Attention<T>(a, tiles);                               \
  }
SAM_FOR_ACTIVATIONS(ATTENTION)

// Writes to the key/value cache. Floor: the bytes read and written.
//
// rotary_store_kv_{activation}: rotates queries and keys (column i of a head pairs with i + d/2) and stores
// keys and values. qkv [1, rows, (heads + 2 kv heads) * d] holds q, k, v side by side, q is rotated in place;
// cos_sin fp32 [1, positions, d]: cosines of d/2 angles, then sines. A thread per row and pair of columns.
//
// Grid: any number of blocks; ceil(rows (heads + 2 kv heads) d / 2 / block) of them give every thread one
// pair.
//
// copy_kv_blocks_{activation}: copies whole blocks inside the cache in every layer; a pair with a -1 is
// skipped.
//
// Grid: any number of blocks; ceil(pairs layers block_size kv heads d / block) of them give every thread one
// element.
//
// Both: blocks of up to 256 threads, no shared memory.
#include "paged_kv.h"

namespace sam {

template <class T>
SAM_DEVICE void RotaryStoreKv(const RotaryStoreArguments& a) {
  const KvCache& c = a.cache;
  int half = c.head_dim / 2;
  int pairs = (a.heads + 2 * c.heads) * half;
  int64_t layer = a.layer * LayerElements(c);
  for (int64_t item = GridThread(); item < (int64_t)a.qkv.rows * pairs; item += GridThreads()) {
    int row = (int)(item / pairs);
    int pair = (int)(item % pairs);
    int head = pair / half;
    int i = pair % half;
    T* low = RowOf<T>(a.qkv, row) + head * c.head_dim + i;
    float first = ToFloat(low[0]);
    float second = ToFloat(low[half]);
    int stored = head - a.heads;
    if (stored < c.heads) {
      const float* table = RowOf<const float>(a.cos_sin, a.layout.positions[row]) + i;
      float cosine = table[0];
      float sine = table[half];
      float rotated = first * cosine - second * sine;
      second = second * cosine + first * sine;
      first = rotated;
    }
    T* to = low;
    if (stored >= 0) {
      T* memory = (T*)(stored < c.heads ? c.keys : c.values);
      to = memory + layer + ((int64_t)a.layout.slots[row] * c.heads + stored % c.heads) * c.head_dim + i;
    }
    Put(to, first);
    Put(to + half, second);
  }
}

template <class T>
SAM_DEVICE void CopyKvBlocks(const CopyBlocksArguments& a) {
  const KvCache& c = a.cache;
  int block = c.block_size * c.heads * c.head_dim;
  int64_t per_pair = (int64_t)c.layers * block;
  for (int64_t item = GridThread(); item < a.count * per_pair; item += GridThreads()) {
    int pair = (int)(item / per_pair);
    int from = a.pairs[2 * pair];
    int to = a.pairs[2 * pair + 1];
    if (from < 0 || to < 0) continue;
    int64_t rest = item % per_pair;
    int64_t at = rest / block * LayerElements(c) + rest % block;
    ((T*)c.keys)[at + (int64_t)to * block] = ((const T*)c.keys)[at + (int64_t)from * block];
    ((T*)c.values)[at + (int64_t)to * block] = ((const T*)c.values)[at + (int64_t)from * block];
  }
}

}  // namespace sam

#define KV_CACHE(suffix, T)                                                                     \
  SAM_KERNEL(rotary_store_kv_##suffix, RotaryStoreArguments, 256) { sam::RotaryStoreKv<T>(a); } \
  SAM_KERNEL(copy_kv_blocks_##suffix, CopyBlocksArguments, 256) { sam::CopyKvBlocks<T>(a); }
SAM_FOR_ACTIVATIONS(KV_CACHE)

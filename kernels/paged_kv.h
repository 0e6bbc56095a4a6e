// The key/value cache: where the tokens of a sequence lie.
#ifndef SAMENGINE_PAGED_KV_H_
#define SAMENGINE_PAGED_KV_H_

#include "device.h"

namespace sam {

// Elements of one layer's keys, or values.
SAM_DEVICE int64_t LayerElements(const KvCache& c) {
  return (int64_t)c.blocks * c.block_size * (c.heads * c.head_dim);
}

// The sequence that a row of the step belongs to.
SAM_DEVICE int SequenceOf(const StepLayout& layout, int row) {
  int sequence = 0;
  while (sequence + 1 < layout.sequences && row >= layout.row_starts[sequence + 1]) sequence++;
  return sequence;
}

// Keys and values of one head of one sequence in one layer.
template <class T>
struct PagedKv {
  const T *keys, *values;
  const int32_t* table;
  int block_size, stride;

  SAM_DEVICE PagedKv At(const KvCache& c, const StepLayout& layout, int layer, int head, int sequence) {
    int64_t shift = layer * LayerElements(c) + head * c.head_dim;
    return {(const T*)c.keys + shift, (const T*)c.values + shift,
            layout.block_table + sequence * layout.block_table_stride, c.block_size, c.heads * c.head_dim};
  }
  SAM_METHOD int64_t Offset(int i) const {
    return ((int64_t)table[i / block_size] * block_size + i % block_size) * stride;
  }
  SAM_METHOD const T* Key(int i) const { return keys + Offset(i); }
  SAM_METHOD const T* Value(int i) const { return values + Offset(i); }
};

}  // namespace sam

#endif  // SAMENGINE_PAGED_KV_H_

// embedding_{activation}_{weight}: y[i] = table[ids[i]], widened. table [N, K], ids [n], y [1, n, K].
// Floor: the bytes of n rows of the table.
//
// Grid: any number of blocks; ceil(n K / block) of them give every thread one element. Block: up to 256
// threads. No shared memory.
#include "weights.h"

namespace sam {

template <class T, class W>
SAM_DEVICE void Embedding(const EmbeddingArguments& a) {
  int64_t count = (int64_t)a.y.rows * a.y.columns;
  for (int64_t item = GridThread(); item < count; item += GridThreads()) {
    int row = (int)(item / a.y.columns);
    int i = (int)(item % a.y.columns);
    W w = W::At(a.table, a.ids[row]);
    Put(RowOf<T>(a.y, row) + i, w.Value(i) * w.Scale(i));
  }
}

}  // namespace sam

#define EMBEDDING(suffix, T, weight_suffix, W) \
  SAM_KERNEL(embedding_##suffix##_##weight_suffix, EmbeddingArguments, 256) { sam::Embedding<T, W>(a); }
#define EMBEDDINGS(suffix, T) SAM_FOR_WEIGHTS(EMBEDDING, suffix, T)
SAM_FOR_ACTIVATIONS(EMBEDDINGS)

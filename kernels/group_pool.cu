// group_pool_{activation}: the adaptive adjustment (paper, part B) in one pass. A logit per image and
// position, softmax over the images of the group, weighted sum of the features. features [images, positions,
// n], weight [n], bias [1], context [1, positions, n]; weights, where wanted, fp32 [1, images, positions].
//
// A block per position: a warp per image for the logits, then every thread sums its columns over the images;
// the second reading of the features comes from the cache. Floor: the bytes of the features once (5 x 257 x
// 1408 fp16: 3.6 MB).
//
// Grid: one block per position (fewer also work). Block: whole warps up to 256 threads. Dynamic shared
// memory: 4 bytes per image.
#include "device.h"

namespace sam {

template <class T>
SAM_DEVICE void GroupPool(const GroupPoolArguments& a, float* shares) {
  const View& f = a.features;
  int images = f.batch;
  for (int position = BlockIndex(); position < f.rows; position += GridSize()) {
    const T* x = (const T*)f.data + position * f.row_stride;
    for (int j = WarpIndex(); j < images; j += BlockWarps()) {
      float sum = 0;
      for (int i = Lane(); i < f.columns; i += kWarp) {
        sum = Fma(ToFloat(x[j * f.batch_stride + i]), a.weight[i], sum);
      }
      sum = WarpReduce<Add>(sum);
      if (Lane() == 0) shares[j] = sum + a.bias[0];
    }
    SyncBlock();
    float largest = -kInfinity;
    for (int j = 0; j < images; j++) largest = Max(largest, shares[j]);
    float total = 0;
    for (int j = 0; j < images; j++) total += Exp(shares[j] - largest);
    SyncBlock();
    for (int j = ThreadIndex(); j < images; j += BlockSize()) {
      float share = Exp(shares[j] - largest) / total;
      shares[j] = share;
      if (a.weights.data) RowOf<float>(a.weights, j)[position] = share;
    }
    SyncBlock();
    T* y = RowOf<T>(a.context, position);
    for (int i = ThreadIndex(); i < f.columns; i += BlockSize()) {
      float sum = 0;
      for (int j = 0; j < images; j++) sum = Fma(shares[j], ToFloat(x[j * f.batch_stride + i]), sum);
      Put(y + i, sum);
    }
    SyncBlock();
  }
}

}  // namespace sam

#define GROUP_POOL(suffix, T)                                \
  SAM_KERNEL(group_pool_##suffix, GroupPoolArguments, 256) { \
    SAM_DYNAMIC_SHARED(float, shares);                       \
    sam::GroupPool<T>(a, shares);                            \
  }
SAM_FOR_ACTIVATIONS(GROUP_POOL)

// rms_norm_{activation}: y = x / sqrt(mean(x^2) + eps) * gain.
// layer_norm_{activation}: y = (x - mean) / sqrt(variance + eps) * gain + bias.
// x and y [b, m, n] with strides, y may be x; gain and bias [n]; statistics in fp32, the variance around the
// mean.
//
// A block per row; the row is read again from the first-level cache for each pass. Floor: the bytes of x once
// and of y once; at one row the latency of two or three passes.
//
// Grid: one block per row (fewer also work). Block: whole warps up to 512 threads; columns / 8 rounded to
// warps is a good choice. No dynamic shared memory.
#include "device.h"

namespace sam {

template <class T>
SAM_DEVICE void RmsNorm(const NormArguments& a, float* scratch) {
  int n = a.x.columns;
  for (int row = BlockIndex(); row < TotalRows(a.x); row += GridSize()) {
    const T* x = RowOf<const T>(a.x, row);
    T* y = RowOf<T>(a.y, row);
    float squares = 0;
    for (int i = ThreadIndex(); i < n; i += BlockSize()) {
      float v = ToFloat(x[i]);
      squares = Fma(v, v, squares);
    }
    float scale = 1.0f / Sqrt(BlockReduce<Add>(squares, scratch) / (float)n + a.eps);
    for (int i = ThreadIndex(); i < n; i += BlockSize()) Put(y + i, ToFloat(x[i]) * scale * a.gain[i]);
  }
}

template <class T>
SAM_DEVICE void LayerNorm(const NormArguments& a, float* scratch) {
  int n = a.x.columns;
  for (int row = BlockIndex(); row < TotalRows(a.x); row += GridSize()) {
    const T* x = RowOf<const T>(a.x, row);
    T* y = RowOf<T>(a.y, row);
    float sum = 0;
    for (int i = ThreadIndex(); i < n; i += BlockSize()) sum += ToFloat(x[i]);
    float mean = BlockReduce<Add>(sum, scratch) / (float)n;
    float squares = 0;
    for (int i = ThreadIndex(); i < n; i += BlockSize()) {
      float v = ToFloat(x[i]) - mean;
      squares = Fma(v, v, squares);
    }
    float scale = 1.0f / Sqrt(BlockReduce<Add>(squares, scratch) / (float)n + a.eps);
    for (int i = ThreadIndex(); i < n; i += BlockSize()) {
      Put(y + i, Fma((ToFloat(x[i]) - mean) * scale, a.gain[i], a.bias[i]));
    }
  }
}

}  // namespace sam

#define NORMS(suffix, T)                                \
  SAM_KERNEL(rms_norm_##suffix, NormArguments, 512) {   \
    SAM_SHARED(float, scratch, 32);                     \
    sam::RmsNorm<T>(a, scratch);                        \
  }                                                     \
  SAM_KERNEL(layer_norm_##suffix, NormArguments, 512) { \
    SAM_SHARED(float, scratch, 32);                     \
    sam::LayerNorm<T>(a, scratch);                      \
  }
SAM_FOR_ACTIVATIONS(NORMS)

// RMSNorm and LayerNorm over the columns of a row. Statistics in fp32, summed in the lanes of simd.h;
// LayerNorm takes the variance around the mean in a second pass.
#include "kernels.h"
#include "simd.h"

namespace sam::SAM_ISA {

void RmsNorm(const void* args, int64_t begin, int64_t end, void*) {
  const NormArgs* a = (const NormArgs*)args;
  int n = a->x->columns;
  for (int64_t row = begin; row < end; row++) {
    const float* x = RowOf(a->x, row);
    float* y = RowOf(a->y, row);
    V squares = Zero();
    for (int i = 0; i < n; i += 16) {
      V v = Load(x + i, n - i);
      squares = Fma(v, v, squares);
    }
    V scale = Set(1.0f / __builtin_sqrtf(Sum(squares) / (float)n + a->eps));
    for (int i = 0; i < n; i += 16) {
      Store(y + i, Load(x + i, n - i) * scale * Load(a->gain + i, n - i), n - i);
    }
  }
}

void LayerNorm(const void* args, int64_t begin, int64_t end, void*) {
  const NormArgs* a = (const NormArgs*)args;
  int n = a->x->columns;
  for (int64_t row = begin; row < end; row++) {
    const float* x = RowOf(a->x, row);
    float* y = RowOf(a->y, row);
    V sum = Zero();
    for (int i = 0; i < n; i += 16) sum = sum + Load(x + i, n - i);
    float mean_value = Sum(sum) / (float)n;
    V mean = Set(mean_value);
    V squares = Zero();
    for (int i = 0; i < n; i += 16) {
      float part[16];
      // Lanes past the end must not count as -mean.
      V d = Load(x + i, n - i) - mean;
      if (n - i < 16) {
        Store(part, d);
        d = Load(part, n - i);
      }
      squares = Fma(d, d, squares);
    }
    V scale = Set(1.0f / __builtin_sqrtf(Sum(squares) / (float)n + a->eps));
    for (int i = 0; i < n; i += 16) {
      V v = (Load(x + i, n - i) - mean) * scale;
      Store(y + i, Fma(v, Load(a->gain + i, n - i), Load(a->bias + i, n - i)), n - i);
    }
  }
}

}  // namespace sam::SAM_ISA

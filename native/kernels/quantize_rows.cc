// Rows of x as 8-bit codes, symmetric, with the group's largest magnitude as full scale (127), rounded to
// nearest even: the same codes on every instruction set. Columns up to a whole group are zeros.
#include "kernels.h"
#include "simd.h"
#include "weights.h"

namespace sam::SAM_ISA {

void QuantizeRows(const void* args, int64_t begin, int64_t end, void*) {
  const QuantizeRowsArgs* a = (const QuantizeRowsArgs*)args;
  const QuantizedRows* to = &a->rows;
  int64_t k = a->x->columns;
  for (int64_t row = begin; row < end; row++) {
    const float* x = RowOf(a->x, row);
    for (int64_t g = 0; g < to->groups; g++) {
      int64_t from = g * to->group_size;
      int64_t n = k - from < to->group_size ? k - from : to->group_size;
      V largest = Zero(), bad = Zero();
      for (int64_t i = 0; i < n; i += 16) {
        V v = Load(x + from + i, n - i < 16 ? (int)(n - i) : 16);
        largest = Max(largest, Abs(v));
        bad = Fma(v, Zero(), bad);  // a NaN if any of them is a NaN or infinity
      }
      float most = MaxOf(largest);
      float trouble = Sum(bad);
      // Below, the reciprocal would overflow; such a group is zero beside any other.
      float inverse = trouble == 0 && most > 1e-35f ? 127.0f / most : 0;
      int8_t* codes = to->codes + (g * to->rows + row) * to->group_size;
      V total = Zero();
      for (int64_t i = 0; i < to->group_size; i += 16) {
        V v = Zero();
        if (inverse > 0 && i < n)
          v = Round(Load(x + from + i, n - i < 16 ? (int)(n - i) : 16) * Set(inverse));
        total = total + v;
        StoreInt8(codes + i, v);
      }
      to->scales[g * to->rows + row] = inverse > 0 ? most / 127.0f * kScaleUnit : trouble;
      to->offsets[g * to->rows + row] = -128 * (int32_t)Sum(total);
    }
  }
}

}  // namespace sam::SAM_ISA

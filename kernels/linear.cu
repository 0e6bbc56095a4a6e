// linear_{activation}_{weight}: y = activation(x W^T + bias) + residual, for every shape, stride and format.
// x [b, m, K], W [N, K], bias [N], y and residual [b, m, N]; the residual may be y.
//
// A thread computes 4 rows x 4 outputs (1 x 4 when there are at most two rows), straight from memory. Sums of
// 32 products are added up: quantised groups are multiples of it, and long rows keep their digits. The order
// along K is the same for every row, so a row's result does not depend on the rows beside it. Bound by the
// loads of the first-level cache; the kernels of linear_row.cu and linear_mma.cu serve the shapes that
// matter.
//
// Grid: any number of blocks; ceil(tiles / block) of them give every thread one tile, tiles = ceil(N / 4) *
// (m <= 2 ? b m : ceil(b m / 4)). Block: up to 128 threads. No shared memory.
#include "epilogue.h"
#include "weights.h"

namespace sam {

constexpr int kLinearBlock = 4;
constexpr int kLinearRun = 32;

template <class T, class W, int kRows>
SAM_DEVICE void LinearTile(const LinearArguments& a, int row, int n) {
  int rows = TotalRows(a.x);
  int columns = a.x.columns;
  const T* x[kRows];
  W w[kLinearBlock];
  float sums[kRows][kLinearBlock] = {};
  // Past the end, the last row or output is computed again and not stored.
  SAM_UNROLL
  for (int i = 0; i < kRows; i++) x[i] = RowOf<const T>(a.x, Min(row + i, rows - 1));
  SAM_UNROLL
  for (int j = 0; j < kLinearBlock; j++) w[j] = W::At(a.weight, Min(n + j, a.weight.rows - 1));
  for (int start = 0; start < columns; start += kLinearRun) {
    int end = Min(start + kLinearRun, columns);
    float parts[kRows][kLinearBlock] = {};
    for (int k = start; k < end; k++) {
      float values[kLinearBlock];
      SAM_UNROLL
      for (int j = 0; j < kLinearBlock; j++) values[j] = w[j].Value(k);
      SAM_UNROLL
      for (int i = 0; i < kRows; i++) {
        float v = ToFloat(x[i][k]);
        SAM_UNROLL
        for (int j = 0; j < kLinearBlock; j++) parts[i][j] = Fma(v, values[j], parts[i][j]);
      }
    }
    SAM_UNROLL
    for (int j = 0; j < kLinearBlock; j++) {
      float scale = w[j].Scale(start);
      SAM_UNROLL
      for (int i = 0; i < kRows; i++) sums[i][j] = Fma(parts[i][j], scale, sums[i][j]);
    }
  }
  SAM_UNROLL
  for (int i = 0; i < kRows; i++) {
    SAM_UNROLL
    for (int j = 0; j < kLinearBlock; j++) {
      if (row + i < rows && n + j < a.weight.rows) Finish<T>(a, row + i, n + j, sums[i][j]);
    }
  }
}

template <class T, class W>
SAM_DEVICE void Linear(const LinearArguments& a) {
  int rows = TotalRows(a.x);
  int across = CeilDiv(a.weight.rows, kLinearBlock);
  if (rows <= 2) {
    for (int64_t tile = GridThread(); tile < (int64_t)rows * across; tile += GridThreads()) {
      LinearTile<T, W, 1>(a, (int)(tile / across), (int)(tile % across) * kLinearBlock);
    }
  } else {
    int64_t tiles = (int64_t)CeilDiv(rows, kLinearBlock) * across;
    for (int64_t tile = GridThread(); tile < tiles; tile += GridThreads()) {
      LinearTile<T, W, kLinearBlock>(a, (int)(tile / across) * kLinearBlock,
                                     (int)(tile % across) * kLinearBlock);
    }
  }
}

}  // namespace sam

#define LINEAR(suffix, T, weight_suffix, W) \
  SAM_KERNEL(linear_##suffix##_##weight_suffix, LinearArguments, 128, 2) { sam::Linear<T, W>(a); }
#define LINEARS(suffix, T) SAM_FOR_WEIGHTS(LINEAR, suffix, T)
SAM_FOR_ACTIVATIONS(LINEARS)

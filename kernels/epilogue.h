// What every linear layer does with its sums.
#ifndef SAMENGINE_EPILOGUE_H_
#define SAMENGINE_EPILOGUE_H_

#include "device.h"

namespace sam {

SAM_DEVICE float Activate(const LinearArguments& a, float v) { return a.activation == kGelu ? Gelu(v) : v; }

// One output from its sum; the row is counted over all batch entries.
template <class T>
SAM_DEVICE void Finish(const LinearArguments& a, int row, int column, float sum) {
  int batch = row / a.y.rows;
  int place = row % a.y.rows;
  if (a.bias) sum += a.bias[column];
  sum = Activate(a, sum);
  if (a.residual.data) {
    sum += GetAs<T>(a.residual, batch * a.residual.batch_stride + place * a.residual.row_stride + column);
  }
  PutAs<T>(a.y, batch * a.y.batch_stride + place * a.y.row_stride + column, sum);
}

}  // namespace sam

#endif  // SAMENGINE_EPILOGUE_H_

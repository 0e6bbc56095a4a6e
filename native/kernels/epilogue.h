// What every linear layer does with its sums.
#ifndef SAMENGINE_EPILOGUE_H_
#define SAMENGINE_EPILOGUE_H_

#include "kernels.h"
#include "simd.h"

namespace sam::SAM_ISA {

// Up to sixteen columns of one row from their sums.
SAM_INLINE void Finish(const Epilogue* e, int64_t row, int64_t column, V v, int columns) {
  if (e->bias) v = v + Load(e->bias + column, columns);
  if (e->activation) v = v * Set(0.5f) * (Set(1.0f) + Erf(v * Set(0.70710678f)));
  if (e->residual) v = v + Load(RowOf(e->residual, row) + column, columns);
  Store(RowOf(e->y, row) + column, v, columns);
}

}  // namespace sam::SAM_ISA

#endif  // SAMENGINE_EPILOGUE_H_

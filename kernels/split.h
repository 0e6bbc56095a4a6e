// Products split along K: blocks of one tile of y, a block of the grid's z for each part of K, put their sums
// together.
#ifndef SAMENGINE_SPLIT_H_
#define SAMENGINE_SPLIT_H_

#include "epilogue.h"

namespace sam {

// Place of a part's sum.
template <int kTile>
SAM_DEVICE float* PartialOf(const LinearArguments& a, int part, int row, int column) {
  return a.partials + ((int64_t)part * TotalRows(a.x) + row) * GridSizeY() * kTile + column;
}

// To be called by threads 0 .. kThreads - 1 of every block, which `sync` lets meet, when the block's sums are
// in the partials: the last block of a tile adds the parts in order, times `unit`, to y.
template <class T, int kTile, int kThreads, class Sync>
SAM_DEVICE void FinishSplit(const LinearArguments& a, float unit, int32_t* is_last, const Sync& sync) {
  FenceDevice();
  sync();
  if (ThreadIndex() == 0) {
    int32_t* ticket = a.tickets + BlockIndexY() * GridSize() + BlockIndex();
    *is_last = AtomicAdd(ticket, 1) == a.splits - 1;
    if (*is_last) *ticket = 0;
  }
  sync();
  if (!*is_last) return;
  FenceDevice();
  for (int item = ThreadIndex(); item < kTile * kTile; item += kThreads) {
    int row = BlockIndex() * kTile + item / kTile;
    int column = BlockIndexY() * kTile + item % kTile;
    if (row >= TotalRows(a.x) || column >= a.weight.rows) continue;
    float sum = 0;
    for (int z = 0; z < a.splits; z++) sum += *(const volatile float*)PartialOf<kTile>(a, z, row, column);
    Finish<T>(a, row, column, sum * unit);
  }
}

}  // namespace sam

#endif  // SAMENGINE_SPLIT_H_

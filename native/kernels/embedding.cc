// y = rows of a weight matrix, widened to fp32.
#include "kernels.h"
#include "simd.h"
#include "weights.h"

namespace sam::SAM_ISA {

namespace {

template <int kFormat>
void Widen(const sam_weight* w, int64_t row, float* y) {
  const uint8_t* from = RowOfWeight(w, row);
  for (int64_t i = 0; i < w->columns; i += 16) {
    int n = w->columns - i < 16 ? (int)(w->columns - i) : 16;
    Store(y + i, LoadWeights<kFormat>(from, i, n), n);
  }
}

void WidenQuantized(const sam_weight* w, int64_t row, float* y) {
  const sam_part* part = w->parts;
  int64_t blocks = 0;
  for (; row >= part->rows; part++) {
    row -= part->rows;
    blocks += BlocksOf(part);
  }
  QuantizedBlock block = BlockOf(w, blocks + row / kBlockRows);
  int64_t lane = row % kBlockRows;
  for (int64_t i = 0; i < w->columns; i++) {
    int level;
    if (w->format == SAM_Q8) {
      level = block.codes[i / 4 * 64 + lane * 4 + i % 4] - 128;
    } else {
      uint8_t pair = block.codes[i / 8 * 64 + lane * 4 + i % 4];
      level = kLevels[i % 8 < 4 ? pair & 15 : pair >> 4];
    }
    float scale = HalfToFloat(block.scales[i / w->group_size * kBlockRows + lane]);
    y[i] = (float)level * (scale * kScaleUnit);
  }
}

}  // namespace

void Embedding(const void* args, int64_t begin, int64_t end, void*) {
  const EmbeddingArgs* a = (const EmbeddingArgs*)args;
  for (int64_t row = begin; row < end; row++) {
    float* y = RowOf(a->y, row);
    switch (a->table->format) {
      case SAM_F32:
        Widen<SAM_F32>(a->table, a->ids[row], y);
        break;
      case SAM_F16:
        Widen<SAM_F16>(a->table, a->ids[row], y);
        break;
      case SAM_BF16:
        Widen<SAM_BF16>(a->table, a->ids[row], y);
        break;
      default:
        WidenQuantized(a->table, a->ids[row], y);
        break;
    }
  }
}

}  // namespace sam::SAM_ISA

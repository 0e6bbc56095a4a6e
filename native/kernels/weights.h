// How weight matrices lie in memory: floating-point formats row-major, quantised ones as docs/quantisation.md
// says.
#ifndef SAMENGINE_WEIGHTS_H_
#define SAMENGINE_WEIGHTS_H_

#include "kernels.h"
#include "simd.h"

namespace sam::SAM_ISA {

SAM_INLINE const uint8_t* RowOfWeight(const sam_weight* w, int64_t row) {
  const sam_part* part = w->parts;
  while (row >= part->rows) row -= (part++)->rows;
  return (const uint8_t*)part->data + row * w->columns * (w->format == SAM_F32 ? 4 : 2);
}

// Sixteen weights from column k; n of them are inside the row.
template <int kFormat>
SAM_INLINE V LoadWeights(const uint8_t* row, int64_t k, int n) {
  if constexpr (kFormat == SAM_F32) {
    const float* p = (const float*)row + k;
    return n >= 16 ? Load(p) : Load(p, n);
  } else if constexpr (kFormat == SAM_F16) {
    const uint16_t* p = (const uint16_t*)row + k;
    return n >= 16 ? LoadHalf(p) : LoadHalf(p, n);
  } else {
    const uint16_t* p = (const uint16_t*)row + k;
    return n >= 16 ? LoadBf16(p) : LoadBf16(p, n);
  }
}

// A weight is level * scale * kScaleUnit: so a scale is about the largest weight of its group, where fp16 is
// precise.
constexpr float kScaleUnit = 1.0f / 128;

// Q4: what the sixteen codes stand for, their levels; mirrors QuantizedLayout.Levels. Close together near
// 0, where most weights are (docs/quantisation.md).
alignas(16) static constexpr int8_t kLevels[16] = {-100, -77, -59, -45, -32, -20, -10, 0,
                                                   10,   20,  30,  42,  56,  73,  95,  127};

// kBlockRows rows of a quantised matrix.
struct QuantizedBlock {
  const uint8_t* codes;  // Q8: [columns / 4][16][4], level + 128; Q4: [columns / 8][16][4], low nibbles first
  const uint16_t* scales;  // [groups][16]
  int64_t column;          // output column of its first row
  int columns;             // rows that are not padding
};

SAM_INLINE int64_t BlocksOf(const sam_part* part) { return (part->rows + kBlockRows - 1) / kBlockRows; }

// The block of this number, counted over the parts.
SAM_INLINE QuantizedBlock BlockOf(const sam_weight* w, int64_t block) {
  const sam_part* part = w->parts;
  int64_t column = 0;
  for (; block >= BlocksOf(part); part++) {
    block -= BlocksOf(part);
    column += part->rows;
  }
  int64_t groups = (w->columns + w->group_size - 1) / w->group_size;
  int64_t scales = (BlocksOf(part) * groups * kBlockRows * 2 + 63) / 64 * 64;
  int64_t bytes = groups * w->group_size * kBlockRows / (w->format == SAM_Q8 ? 1 : 2);
  int64_t left = part->rows - block * kBlockRows;
  const uint8_t* base = (const uint8_t*)part->data;
  return {base + scales + block * bytes, (const uint16_t*)base + block * groups * kBlockRows,
          column + block * kBlockRows, left < kBlockRows ? (int)left : (int)kBlockRows};
}

}  // namespace sam::SAM_ISA

#endif  // SAMENGINE_WEIGHTS_H_

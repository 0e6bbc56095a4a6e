// y = activation(x W^T + bias) + residual for bf16 weights, row-major as the checkpoint stores them, with
// dpbf16: x is rounded to bf16, products of pairs are summed in fp32 in sixteen chains along K (lane l takes
// the pairs l mod 16), reduced by one fixed tree, so that a result depends neither on the rows beside it nor
// on the number of threads. Both operands are read along K, so nothing is packed: for every panel of weight
// rows and every stretch of K a tile of rows passes over the panel, the chains waiting in scratch for the
// next stretch.
#include "epilogue.h"
#include "kernels.h"
#include "simd.h"
#include "weights.h"

namespace sam::SAM_ISA {

namespace {

constexpr int kRows = 6,
              kColumns = 4;  // of a tile: 24 sums, the weights of a step and one input fill the registers
constexpr int64_t kStretch = 1024;  // a tile's rows and weights fit the first cache
static_assert(kBf16Columns % 16 == 0 && kBf16Columns % kColumns == 0);

SAM_INLINE __m512bh LoadPairs(const uint16_t* p) { return (__m512bh)_mm512_loadu_si512(p); }
SAM_INLINE __m512bh LoadPairs(const uint16_t* p, int n) {
  return (__m512bh)_mm512_maskz_loadu_epi16((__mmask32)((1u << n) - 1), p);
}

// Not the intrinsic: g++ 12 copies its sums around and spills them.
SAM_INLINE __m512 DotPairs(__m512 s, __m512bh a, __m512bh b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(s) : "v"(a), "v"(b));
  return s;
}

// chains[r][c] += products of n columns (the last of a row may be no multiple of 32).
template <int kR>
void Tile(const uint16_t* x, int64_t stride, const uint16_t* const* w, int64_t n, float* chains, bool first) {
  __m512 acc[kR][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kR; r++)
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; c++)
      acc[r][c] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(chains + (r * kBf16Columns + c) * 16);
  int64_t whole = n / 32 * 32;
  for (int64_t i = 0; i < whole; i += 32) {
    __m512bh b[kColumns];
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; c++) b[c] = LoadPairs(w[c] + i);
#pragma GCC unroll 8
    for (int r = 0; r < kR; r++) {
      __m512bh v = LoadPairs(x + r * stride + i);
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; c++) acc[r][c] = DotPairs(acc[r][c], v, b[c]);
    }
  }
  if (int tail = (int)(n - whole)) {
#pragma GCC unroll 8
    for (int r = 0; r < kR; r++) {
      __m512bh v = LoadPairs(x + r * stride + whole, tail);
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; c++) acc[r][c] = DotPairs(acc[r][c], v, LoadPairs(w[c] + whole, tail));
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kR; r++)
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; c++) _mm512_storeu_ps(chains + (r * kBf16Columns + c) * 16, acc[r][c]);
}

void TileOf(int rows, const uint16_t* x, int64_t stride, const uint16_t* const* w, int64_t n, float* chains,
            bool first) {
  switch (rows) {
    case 1:
      return Tile<1>(x, stride, w, n, chains, first);
    case 2:
      return Tile<2>(x, stride, w, n, chains, first);
    case 3:
      return Tile<3>(x, stride, w, n, chains, first);
    case 4:
      return Tile<4>(x, stride, w, n, chains, first);
    case 5:
      return Tile<5>(x, stride, w, n, chains, first);
    default:
      return Tile<kRows>(x, stride, w, n, chains, first);
  }
}

void Piece(const Bf16LinearArgs* a, int64_t row_begin, int64_t row_end, int64_t column_begin,
           int64_t column_end, float* chains) {
  int64_t k = a->w->columns;
  int64_t rows = row_end - row_begin;
  int64_t stretch = rows <= kRows ? k : kStretch;
  for (int64_t column = column_begin; column < column_end; column += kBf16Columns) {
    int columns = column_end - column < kBf16Columns ? (int)(column_end - column) : (int)kBf16Columns;
    // Columns that only fill the last tile repeat the last one; their sums are not used.
    const uint16_t* w[kBf16Columns];
    for (int c = 0; c < kBf16Columns; c++)
      w[c] = (const uint16_t*)RowOfWeight(a->w, column + (c < columns ? c : columns - 1));
    for (int64_t at = 0; at < k; at += stretch) {
      int64_t n = k - at < stretch ? k - at : stretch;
      for (int64_t r = 0; r < rows; r += kRows) {
        int height = rows - r < kRows ? (int)(rows - r) : kRows;
        const uint16_t* x = a->x.values + (row_begin + r) * a->x.columns + at;
        for (int c = 0; c < columns; c += kColumns) {
          const uint16_t* from[kColumns];
          for (int i = 0; i < kColumns; i++) from[i] = w[c + i] + at;
          TileOf(height, x, a->x.columns, from, n, chains + (r * kBf16Columns + c) * 16, at == 0);
        }
      }
    }
    for (int64_t r = 0; r < rows; r++) {
      for (int c = 0; c < columns; c += 16) {
        V sums = SumEach(chains + (r * kBf16Columns + c) * 16);
        Finish(&a->epilogue, row_begin + r, column + c, sums, columns - c < 16 ? columns - c : 16);
      }
    }
  }
}

}  // namespace

void ToBf16Rows(const void* args, int64_t begin, int64_t end, void*) {
  const Bf16RowsArgs* a = (const Bf16RowsArgs*)args;
  int64_t k = a->x->columns;
  for (int64_t row = begin; row < end; row++) {
    const float* x = RowOf(a->x, row);
    uint16_t* to = a->rows.values + row * a->rows.columns;
    for (int64_t i = 0; i < a->rows.columns; i += 16) {
      int64_t left = k - i;
      V v = left >= 16 ? Load(x + i) : left > 0 ? Load(x + i, (int)left) : Zero();
      _mm256_storeu_si256((__m256i*)(to + i), (__m256i)_mm512_cvtneps_pbh(v.v));
    }
  }
}

void Bf16Linear(const void* args, int64_t begin, int64_t end, void* scratch) {
  const Bf16LinearArgs* a = (const Bf16LinearArgs*)args;
  for (int64_t piece = begin; piece < end; piece++) {
    int64_t row = piece % a->row_blocks * a->row_block;
    int64_t row_end = row + a->row_block < a->rows ? row + a->row_block : a->rows;
    int64_t column = piece / a->row_blocks * a->column_block;
    int64_t column_end = column + a->column_block < a->w->rows ? column + a->column_block : a->w->rows;
    Piece(a, row, row_end, column, column_end, (float*)scratch);
  }
}

}  // namespace sam::SAM_ISA

// y = activation(x W^T + bias) + residual, W [N, K] in floating point, row-major as the checkpoint stores it.
// fp32 activations and sums.
//
// A piece of work is a block of rows of x times a block of weight rows. Few rows: weights are
// widened in registers and read once (bound by memory). More rows: for every panel of weight rows and every
// stretch of K, the panel is widened and interleaved into scratch, from where it serves all rows of the
// block, a register tile at a time; the sixteen lanes of every sum wait in scratch for the next stretch. Both
// ways sum along K in the lanes of simd.h, so they agree bit for bit.
#include "epilogue.h"
#include "kernels.h"
#include "simd.h"
#include "weights.h"

namespace sam::SAM_ISA {

namespace {

// The register tile: its sums, the weights of a step and one activation fill the vector registers.
#if defined(__AVX512F__)
constexpr int kTileRows = 6, kTileColumns = 4;
#elif defined(__AVX2__)
constexpr int kTileRows = 4, kTileColumns = 3;
#else
constexpr int kTileRows = 4, kTileColumns = 2;
#endif
constexpr int kDirectTile = 6, kDirectColumns = (int)kWeightRows;

// sums[r][c] = x_r . w_c for kRows x kColumns pairs.
template <int kFormat, int kRows, int kColumns>
SAM_INLINE void Dot(const float* const* x, const uint8_t* const* w, int64_t k, float sums[][kDirectColumns]) {
  V acc[kRows][kColumns];
  for (int r = 0; r < kRows; r++)
    for (int c = 0; c < kColumns; c++) acc[r][c] = Zero();
  int64_t whole = k / 16 * 16;
  for (int64_t i = 0; i < whole; i += 16) {
    V b[kColumns];
    for (int c = 0; c < kColumns; c++) b[c] = LoadWeights<kFormat>(w[c], i, 16);
    for (int r = 0; r < kRows; r++) {
      V a = Load(x[r] + i);
      for (int c = 0; c < kColumns; c++) acc[r][c] = Fma(a, b[c], acc[r][c]);
    }
  }
  if (int tail = (int)(k - whole)) {
    for (int c = 0; c < kColumns; c++) {
      V b = LoadWeights<kFormat>(w[c], whole, tail);
      for (int r = 0; r < kRows; r++) acc[r][c] = Fma(Load(x[r] + whole, tail), b, acc[r][c]);
    }
  }
  for (int r = 0; r < kRows; r++)
    for (int c = 0; c < kColumns; c++) sums[r][c] = Sum(acc[r][c]);
}

template <int kFormat, int kRows>
SAM_INLINE void DotColumns(const float* const* x, const uint8_t* const* w, int columns, int64_t k,
                           float sums[][kDirectColumns]) {
  if (columns == 4) return Dot<kFormat, kRows, 4>(x, w, k, sums);
  for (int c = 0; c < columns; c++) {
    float one[kDirectTile][kDirectColumns];
    Dot<kFormat, kRows, 1>(x, w + c, k, one);
    for (int r = 0; r < kRows; r++) sums[r][c] = one[r][0];
  }
}

template <int kFormat>
void DotTile(const float* const* x, int rows, const uint8_t* const* w, int columns, int64_t k,
             float sums[][kDirectColumns]) {
  switch (rows) {
    case 1:
      return DotColumns<kFormat, 1>(x, w, columns, k, sums);
    case 2:
      return DotColumns<kFormat, 2>(x, w, columns, k, sums);
    case 3:
      return DotColumns<kFormat, 3>(x, w, columns, k, sums);
    case 4:
      return DotColumns<kFormat, 4>(x, w, columns, k, sums);
    case 5:
      return DotColumns<kFormat, 5>(x, w, columns, k, sums);
    default:
      return DotColumns<kFormat, 6>(x, w, columns, k, sums);
  }
}

template <int kFormat>
void DirectBlock(const LinearArgs* a, int64_t row_begin, int64_t row_end, int64_t column_begin,
                 int64_t column_end) {
  for (int64_t column = column_begin; column < column_end; column += kDirectColumns) {
    int columns = column_end - column < kDirectColumns ? (int)(column_end - column) : kDirectColumns;
    const uint8_t* w[kDirectColumns];
    for (int c = 0; c < columns; c++) w[c] = RowOfWeight(a->w, column + c);
    for (int64_t row = row_begin; row < row_end; row += kDirectTile) {
      int rows = row_end - row < kDirectTile ? (int)(row_end - row) : kDirectTile;
      const float* x[kDirectTile];
      for (int r = 0; r < rows; r++) x[r] = RowOf(a->x, row + r);
      float sums[kDirectTile][kDirectColumns];
      DotTile<kFormat>(x, rows, w, columns, a->w->columns, sums);
      for (int r = 0; r < rows; r++) Finish(&a->epilogue, row + r, column, Load(sums[r], columns), columns);
    }
  }
}

// Widens steps * 16 weights from k of each of the panel's rows: packed[tile][step][column of the tile][16],
// zeros beyond the last row and the end of K.
template <int kFormat>
void Pack(const LinearArgs* a, int64_t column_begin, int64_t column_end, int64_t k, int64_t steps,
          float* packed) {
  int64_t end = a->w->columns;
  for (int64_t c = 0; c < kPanelColumns; c++) {
    float* to = packed + c / kTileColumns * steps * kTileColumns * 16 + c % kTileColumns * 16;
    if (column_begin + c >= column_end) {
      for (int64_t s = 0; s < steps; s++) Store(to + s * kTileColumns * 16, Zero());
      continue;
    }
    const uint8_t* w = RowOfWeight(a->w, column_begin + c);
    int64_t whole = end - k < steps * 16 ? steps - 1 : steps;
    for (int64_t s = 0; s < whole; s++)
      Store(to + s * kTileColumns * 16, LoadWeights<kFormat>(w, k + s * 16, 16));
    if (whole < steps) {
      int64_t at = k + whole * 16;
      Store(to + whole * kTileColumns * 16, LoadWeights<kFormat>(w, at, (int)(end - at)));
    }
  }
}

// Asks for n weights from k of every parts-th of the panel's rows, before they are packed.
template <int kFormat>
SAM_INLINE void Prefetch(const LinearArgs* a, int64_t column_begin, int64_t column_end, int64_t k, int64_t n,
                         int64_t part, int64_t parts) {
  constexpr int kBytesOfTwo = kFormat == SAM_F32 ? 8 : 4;
  for (int64_t c = column_begin + part; c < column_begin + kPanelColumns && c < column_end; c += parts) {
    const uint8_t* row = RowOfWeight(a->w, c);
    for (int64_t i = k * kBytesOfTwo / 2; i < (k + n) * kBytesOfTwo / 2; i += 64)
      __builtin_prefetch(row + i, 0, 3);
  }
}

// lanes[r][c] += products of a stretch of K. x: kRows rows from its first column, n columns of them. The
// pragmas make the compiler keep the sums in registers throughout.
template <int kRows>
void Tile(const float* const* x, int64_t n, const float* packed, float* lanes, bool first) {
  int64_t whole = n / 16 * 16;
  float tail[kRows][16];
  for (int r = 0; r < kRows && whole < n; r++) Store(tail[r], Load(x[r] + whole, (int)(n - whole)));
  for (int part = 0; part < 16; part += kPartLanes) {
    float* mine = lanes + part;
    const float* b = packed + part;
    Part acc[kRows][kTileColumns], w[kTileColumns];
    if (first) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++)
#pragma GCC unroll 8
        for (int c = 0; c < kTileColumns; c++) acc[r][c] = ZeroPart();
    } else {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++)
#pragma GCC unroll 8
        for (int c = 0; c < kTileColumns; c++) acc[r][c] = LoadPart(mine + (r * kPanelColumns + c) * 16);
    }
    for (int64_t i = part; i < whole; i += 16, b += kTileColumns * 16) {
#pragma GCC unroll 8
      for (int c = 0; c < kTileColumns; c++) w[c] = LoadPart(b + c * 16);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) {
        Part v = LoadPart(x[r] + i);
#pragma GCC unroll 8
        for (int c = 0; c < kTileColumns; c++) acc[r][c] = FmaPart(v, w[c], acc[r][c]);
      }
    }
    if (whole < n) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) {
        Part v = LoadPart(tail[r] + part);
#pragma GCC unroll 8
        for (int c = 0; c < kTileColumns; c++) acc[r][c] = FmaPart(v, LoadPart(b + c * 16), acc[r][c]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++)
#pragma GCC unroll 8
      for (int c = 0; c < kTileColumns; c++) StorePart(mine + (r * kPanelColumns + c) * 16, acc[r][c]);
  }
}

template <int kRows = kTileRows>
SAM_INLINE void TileOf(int rows, const float* const* x, int64_t n, const float* packed, float* lanes,
                       bool first) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return TileOf<kRows - 1>(rows, x, n, packed, lanes, first);
  }
  Tile<kRows>(x, n, packed, lanes, first);
}

template <int kFormat>
void PanelBlock(const LinearArgs* a, int64_t row_begin, int64_t row_end, int64_t column_begin,
                int64_t column_end, float* scratch) {
  int64_t k = a->w->columns;
  float* packed = scratch;
  float* lanes = scratch + kPanelColumns * a->stretch;  // [rows of the block][kPanelColumns][16]
  for (int64_t column = column_begin; column < column_end; column += kPanelColumns) {
    int64_t panel_end = column_end - column < kPanelColumns ? column_end : column + kPanelColumns;
    for (int64_t at = 0; at < k; at += a->stretch) {
      int64_t n = k - at < a->stretch ? k - at : a->stretch;
      int64_t steps = (n + 15) / 16;
      Pack<kFormat>(a, column, panel_end, at, steps, packed);
      for (int64_t row = row_begin; row < row_end; row += kTileRows) {
        int rows = row_end - row < kTileRows ? (int)(row_end - row) : kTileRows;
        const float* x[kTileRows];
        for (int r = 0; r < rows; r++) x[r] = RowOf(a->x, row + r) + at;
        bool last = at + n == k;
        Prefetch<kFormat>(a, last ? panel_end : column, column_end, last ? 0 : at + n, a->stretch,
                          (row - row_begin) / kTileRows, (row_end - row_begin + kTileRows - 1) / kTileRows);
        float* of_tile = lanes + (row - row_begin) * kPanelColumns * 16;
        for (int64_t c = 0; c < panel_end - column; c += kTileColumns)
          TileOf(rows, x, n, packed + c * steps * 16, of_tile + c * 16, at == 0);
        if (at + n < k) continue;
        for (int r = 0; r < rows; r++) {
          for (int64_t c = column; c < panel_end; c += 16) {
            V sums = SumEach(of_tile + (r * kPanelColumns + c - column) * 16);
            Finish(&a->epilogue, row + r, c, sums, panel_end - c < 16 ? (int)(panel_end - c) : 16);
          }
        }
      }
    }
  }
}

template <int kFormat>
void Block(const LinearArgs* a, int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end,
           float* scratch) {
  if (a->stretch == 0) {
    DirectBlock<kFormat>(a, row_begin, row_end, column_begin, column_end);
  } else {
    PanelBlock<kFormat>(a, row_begin, row_end, column_begin, column_end, scratch);
  }
}

}  // namespace

void Linear(const void* args, int64_t begin, int64_t end, void* scratch) {
  const LinearArgs* a = (const LinearArgs*)args;
  int64_t total_rows = (int64_t)a->x->batch * a->x->rows;
  for (int64_t piece = begin; piece < end; piece++) {
    int64_t row_begin = piece % a->row_blocks * a->row_block;
    int64_t row_end = row_begin + a->row_block < total_rows ? row_begin + a->row_block : total_rows;
    int64_t column_begin = piece / a->row_blocks * a->column_block;
    int64_t column_end =
        column_begin + a->column_block < a->w->rows ? column_begin + a->column_block : a->w->rows;
    switch (a->w->format) {
      case SAM_F32:
        Block<SAM_F32>(a, row_begin, row_end, column_begin, column_end, (float*)scratch);
        break;
      case SAM_F16:
        Block<SAM_F16>(a, row_begin, row_end, column_begin, column_end, (float*)scratch);
        break;
      default:
        Block<SAM_BF16>(a, row_begin, row_end, column_begin, column_end, (float*)scratch);
        break;
    }
  }
}

}  // namespace sam::SAM_ISA

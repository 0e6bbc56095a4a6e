// y = activation(x W^T + bias) + residual for Q8 and Q4 weights. x is quantised to 8 bits first, with a scale
// per group of the weights' length; the products of a group are summed as integers, exactly, and
//   y = sum over groups, in order, of (float)(integer sum) * (weight scale * x scale),
// each group multiplied and added with one rounding. So a result depends neither on the instruction set, nor
// on the rows computed beside it, nor on the number of threads.
//
// Weights are stored as level + 128 (unsigned, as dpbusd wants one operand): the integer sums start at -128
// times the sum of x's codes. Blocks of sixteen weight rows lie interleaved (weights.h) and are read in
// place; a tile covers some rows of x and some blocks. Few rows: one pass over the weights. More: stretches
// of K whose weights, Q4 widened, stay in the first cache while all rows pass, sums waiting in scratch, and
// the next stretch is asked for in small shares.
//
// Not by intrinsics: g++ 12 spills their sums.
#include "epilogue.h"
#include "kernels.h"
#include "simd.h"
#include "weights.h"

namespace sam::SAM_ISA {

namespace {

// Levels of Q4 + 128, as a table of bytes.
struct ShiftedLevels {
  constexpr ShiftedLevels() : bytes() {
    for (int i = 0; i < 16; i++) bytes[i] = (uint8_t)(kLevels[i] + 128);
  }
  alignas(16) uint8_t bytes[16];
};
constexpr ShiftedLevels kShifted;

// Rows of x in a tile and blocks of weights: sums, weights of a step and one activation fill the registers.
#if defined(__AVX512VNNI__)
constexpr int kMostRows = 6, kBlocks = 4;
#elif defined(__AVX512F__)
constexpr int kMostRows = 4, kBlocks = 4;
#elif defined(__AVX2__)
constexpr int kMostRows = 4, kBlocks = 2;
#else
constexpr int kMostRows = 4, kBlocks = 1;
#endif
static_assert(kPanelBlocks % kBlocks == 0);
constexpr int kSumStride = kBlocks * (int)kBlockRows;

// One register's part of a step, four columns of each of its weight rows: Bytes as stored, Weights and Inputs
// ready to be multiplied, Sums the integer sums, one lane a weight row.
#if defined(__AVX512F__)
constexpr int kLanes = 16;
using Bytes = __m512i;
using Sums = __m512i;
SAM_INLINE Bytes LoadBytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
SAM_INLINE void StoreBytes(uint8_t* p, Bytes v) { _mm512_storeu_si512(p, v); }
SAM_INLINE Bytes LowLevels(Bytes v) {
  __m512i table = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i*)kShifted.bytes));
  return _mm512_shuffle_epi8(table, _mm512_and_si512(v, _mm512_set1_epi8(15)));
}
SAM_INLINE Bytes HighLevels(Bytes v) { return LowLevels(_mm512_srli_epi16(v, 4)); }
SAM_INLINE Sums SetSums(int32_t x) { return _mm512_set1_epi32(x); }
using Scales = __m512;
SAM_INLINE Scales LoadScales(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
}
// sums += (float)s * (weight scales * x scale)
SAM_INLINE void AddScaled(float* sums, Sums s, Scales scales, float x) {
  scales = _mm512_mul_ps(scales, _mm512_set1_ps(x));
  _mm512_storeu_ps(sums, _mm512_fmadd_ps(_mm512_cvtepi32_ps(s), scales, _mm512_loadu_ps(sums)));
}
#if defined(__AVX512VNNI__)
using Weights = __m512i;
using Inputs = __m512i;
SAM_INLINE Weights Prepare(Bytes v) { return v; }
SAM_INLINE Inputs LoadInputs(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}
SAM_INLINE Sums Dot(Sums s, Weights w, Inputs x) {
  // Not the intrinsic: g++ 12 copies its sums around and spills them.
  asm("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(w), "v"(x));
  return s;
}
#else
// maddubs would saturate: even and odd columns apart, widened to 16 bits.
struct Weights {
  __m512i even, odd;
};
using Inputs = Weights;
SAM_INLINE Weights Prepare(Bytes v) {
  return {_mm512_and_si512(v, _mm512_set1_epi16(255)), _mm512_srli_epi16(v, 8)};
}
SAM_INLINE Inputs LoadInputs(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  __m512i v = _mm512_set1_epi32(four);
  return {_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), _mm512_srai_epi16(v, 8)};
}
SAM_INLINE Sums Dot(Sums s, Weights w, Inputs x) {
  s = _mm512_add_epi32(s, _mm512_madd_epi16(w.even, x.even));
  return _mm512_add_epi32(s, _mm512_madd_epi16(w.odd, x.odd));
}
#endif

#elif defined(__AVX2__)
constexpr int kLanes = 8;
using Bytes = __m256i;
using Sums = __m256i;
struct Weights {
  __m256i even, odd;
};
using Inputs = Weights;
SAM_INLINE Bytes LoadBytes(const uint8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
SAM_INLINE void StoreBytes(uint8_t* p, Bytes v) { _mm256_storeu_si256((__m256i*)p, v); }
SAM_INLINE Bytes LowLevels(Bytes v) {
  __m256i table = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)kShifted.bytes));
  return _mm256_shuffle_epi8(table, _mm256_and_si256(v, _mm256_set1_epi8(15)));
}
SAM_INLINE Bytes HighLevels(Bytes v) { return LowLevels(_mm256_srli_epi16(v, 4)); }
SAM_INLINE Weights Prepare(Bytes v) {
  return {_mm256_and_si256(v, _mm256_set1_epi16(255)), _mm256_srli_epi16(v, 8)};
}
SAM_INLINE Inputs LoadInputs(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  __m256i v = _mm256_set1_epi32(four);
  return {_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), _mm256_srai_epi16(v, 8)};
}
SAM_INLINE Sums SetSums(int32_t x) { return _mm256_set1_epi32(x); }
SAM_INLINE Sums Dot(Sums s, Weights w, Inputs x) {
  s = _mm256_add_epi32(s, _mm256_madd_epi16(w.even, x.even));
  return _mm256_add_epi32(s, _mm256_madd_epi16(w.odd, x.odd));
}
using Scales = __m256;
SAM_INLINE Scales LoadScales(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
}
SAM_INLINE void AddScaled(float* sums, Sums s, Scales scales, float x) {
  scales = _mm256_mul_ps(scales, _mm256_set1_ps(x));
  _mm256_storeu_ps(sums, _mm256_fmadd_ps(_mm256_cvtepi32_ps(s), scales, _mm256_loadu_ps(sums)));
}

#else  // scalar
constexpr int kLanes = 16;
struct Bytes {
  uint8_t b[64];
};
using Weights = Bytes;
struct Inputs {
  int32_t x[4];
};
struct Sums {
  int32_t l[16];
};
SAM_INLINE Bytes LoadBytes(const uint8_t* p) {
  Bytes v;
  __builtin_memcpy(v.b, p, 64);
  return v;
}
SAM_INLINE void StoreBytes(uint8_t* p, Bytes v) { __builtin_memcpy(p, v.b, 64); }
SAM_INLINE Bytes LowLevels(Bytes v) {
  for (int i = 0; i < 64; i++) v.b[i] = kShifted.bytes[v.b[i] & 15];
  return v;
}
SAM_INLINE Bytes HighLevels(Bytes v) {
  for (int i = 0; i < 64; i++) v.b[i] = kShifted.bytes[v.b[i] >> 4];
  return v;
}
SAM_INLINE Weights Prepare(Bytes v) { return v; }
SAM_INLINE Inputs LoadInputs(const int8_t* p) { return {{p[0], p[1], p[2], p[3]}}; }
SAM_INLINE Sums SetSums(int32_t x) {
  Sums s;
  for (int i = 0; i < 16; i++) s.l[i] = x;
  return s;
}
SAM_INLINE Sums Dot(Sums s, Weights w, Inputs x) {
  for (int i = 0; i < 16; i++)
    s.l[i] +=
        w.b[4 * i] * x.x[0] + w.b[4 * i + 1] * x.x[1] + w.b[4 * i + 2] * x.x[2] + w.b[4 * i + 3] * x.x[3];
  return s;
}
using Scales = V;
SAM_INLINE Scales LoadScales(const uint16_t* p) { return LoadHalf(p); }
SAM_INLINE void AddScaled(float* sums, Sums s, Scales scales, float x) {
  for (int i = 0; i < 16; i++) sums[i] = __builtin_fmaf((float)s.l[i], scales.l[i] * x, sums[i]);
}
#endif

// sums[r][b * 16 + lane] += groups [begin, end) of kRows rows of x from `row`, and kBlocks_ blocks whose
// codes of these groups are given.
template <int kFormat, int kRows, int kBlocks_>
void Tile(const QuantizedRows* x, int64_t row, const QuantizedBlock* w, const uint8_t* const* codes,
          int64_t begin, int64_t end, float* __restrict sums) {
  constexpr int kStep = kFormat == SAM_Q8 ? 128 : 64;  // bytes of eight columns
  const int64_t stride = x->group_size, steps = stride / 8, all_rows = x->rows;
  for (int part = 0; part < 16; part += kLanes) {
    const uint8_t* from[kBlocks_];
    const uint16_t* weight_scales[kBlocks_];
    for (int b = 0; b < kBlocks_; b++) {
      from[b] = codes[b] + part * 4;
      weight_scales[b] = w[b].scales + begin * 16 + part;
    }
    const int8_t* in = x->codes + (begin * all_rows + row) * stride;
    const float* scales = x->scales + begin * all_rows + row;
    const int32_t* offsets = x->offsets + begin * all_rows + row;
    for (int64_t g = begin; g < end; g++, scales += all_rows, offsets += all_rows) {
      Sums acc[kRows][kBlocks_];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++)
#pragma GCC unroll 8
        for (int b = 0; b < kBlocks_; b++) acc[r][b] = SetSums(offsets[r]);
      for (int64_t s = 0; s < steps; s++, in += 8) {
        Bytes raw[kBlocks_];
        Weights now[kBlocks_];
#pragma GCC unroll 8
        for (int b = 0; b < kBlocks_; b++) {
          raw[b] = LoadBytes(from[b]);
          now[b] = Prepare(kFormat == SAM_Q8 ? raw[b] : LowLevels(raw[b]));
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; r++) {
          Inputs v = LoadInputs(in + r * stride);
#pragma GCC unroll 8
          for (int b = 0; b < kBlocks_; b++) acc[r][b] = Dot(acc[r][b], now[b], v);
        }
#pragma GCC unroll 8
        for (int b = 0; b < kBlocks_; b++) {
          now[b] = Prepare(kFormat == SAM_Q8 ? LoadBytes(from[b] + 64) : HighLevels(raw[b]));
          from[b] += kStep;
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; r++) {
          Inputs v = LoadInputs(in + r * stride + 4);
#pragma GCC unroll 8
          for (int b = 0; b < kBlocks_; b++) acc[r][b] = Dot(acc[r][b], now[b], v);
        }
      }
#pragma GCC unroll 8
      for (int b = 0; b < kBlocks_; b++) {
        Scales ws = LoadScales(weight_scales[b]);
        weight_scales[b] += 16;
#pragma GCC unroll 8
        for (int r = 0; r < kRows; r++)
          AddScaled(sums + r * kSumStride + b * 16 + part, acc[r][b], ws, scales[r]);
      }
      in += (all_rows - 1) * stride;
    }
  }
}

template <int kFormat, int kBlocks_>
void TileOf(int rows, const QuantizedRows* x, int64_t row, const QuantizedBlock* w,
            const uint8_t* const* codes, int64_t begin, int64_t end, float* sums) {
  switch (rows) {
    case 1:
      return Tile<kFormat, 1, kBlocks_>(x, row, w, codes, begin, end, sums);
    case 2:
      return Tile<kFormat, 2, kBlocks_>(x, row, w, codes, begin, end, sums);
    case 3:
      return Tile<kFormat, 3, kBlocks_>(x, row, w, codes, begin, end, sums);
    case 4:
      return Tile<kFormat, 4, kBlocks_>(x, row, w, codes, begin, end, sums);
    case 5:
      if constexpr (kMostRows >= 5) return Tile<kFormat, 5, kBlocks_>(x, row, w, codes, begin, end, sums);
      break;
    default:
      if constexpr (kMostRows >= 6) return Tile<kFormat, 6, kBlocks_>(x, row, w, codes, begin, end, sums);
      break;
  }
}

// The stretch of weights that comes next, asked for bit by bit while the tiles of this one are computed.
struct Ahead {
  // Of each of the blocks from `first` on: `bytes` of its codes behind the first `offset`.
  Ahead(const sam_weight* w, int64_t first, int64_t block_end, int64_t offset, int64_t bytes, int64_t tiles)
      : left(bytes), share((bytes / tiles + 63) / 64 * 64), count(0) {
    for (; count < kBlocks && first + count < block_end; count++)
      from[count] = BlockOf(w, first + count).codes + offset;
  }
  // One tile's share.
  void Ask() {
    if (left <= 0) return;
    left -= share;
    for (int b = 0; b < count; b++) {
      for (int64_t at = 0; at < share; at += 64) __builtin_prefetch(from[b] + at, 0, 2);
      from[b] += share;
    }
  }
  const uint8_t* from[kBlocks] = {};
  int64_t left, share;
  int count;
};

// Q4 codes of some columns as Q8's: looked up once for all rows, not once for every tile.
SAM_INLINE void Widen(const uint8_t* from, int64_t columns, uint8_t* to) {
  for (int64_t i = 0; i < columns; i += 8, from += 64, to += 128)
    for (int part = 0; part < 64; part += 4 * kLanes) {
      Bytes raw = LoadBytes(from + part);
      StoreBytes(to + part, LowLevels(raw));
      StoreBytes(to + 64 + part, HighLevels(raw));
    }
}

template <int kFormat>
void Piece(const QuantizedLinearArgs* a, int64_t row_begin, int64_t row_end, int64_t block_begin,
           int64_t block_end, uint8_t* wide) {
  float* sums = (float*)(wide + kStretchBytes);
  int64_t rows = row_end - row_begin;
  int64_t tiles = (rows + kMostRows - 1) / kMostRows;
  int64_t tile_rows = (rows + tiles - 1) / tiles;
  const int64_t group_bytes = a->x.group_size * kBlockRows;  // of a block, widened
  const int64_t stored_bytes = kFormat == SAM_Q8 ? group_bytes : group_bytes / 2;
  // So few tiles would not pay for widening, nor leave time to ask ahead.
  const bool few = tiles <= 2;
  int64_t stretch = tiles == 1 ? a->x.groups : kStretchBytes / (group_bytes * kBlocks);
  for (int64_t first = block_begin; first < block_end; first += kBlocks) {
    int count = block_end - first < kBlocks ? (int)(block_end - first) : kBlocks;
    QuantizedBlock w[kBlocks];
    for (int b = 0; b < count; b++) w[b] = BlockOf(a->w, first + b);
    for (int64_t i = 0; i < rows * kSumStride; i += 16) Store(sums + i, Zero());
    for (int64_t begin = 0; begin < a->x.groups; begin += stretch) {
      int64_t end = a->x.groups - begin < stretch ? a->x.groups : begin + stretch;
      const uint8_t* codes[kBlocks];
      for (int b = 0; b < count; b++) {
        codes[b] = w[b].codes + begin * stored_bytes;
        if (kFormat == SAM_Q4 && !few) {
          Widen(codes[b], (end - begin) * a->x.group_size, wide + b * stretch * group_bytes);
          codes[b] = wide + b * stretch * group_bytes;
        }
      }
      bool last = end == a->x.groups;
      int64_t next = last ? 0 : end;
      int64_t length = a->x.groups - next < stretch ? a->x.groups - next : stretch;
      Ahead ahead(a->w, last ? first + kBlocks : first, block_end, next * stored_bytes, length * stored_bytes,
                  tiles);
      for (int64_t r = 0; r < rows; r += tile_rows) {
        int height = rows - r < tile_rows ? (int)(rows - r) : (int)tile_rows;
        if (!few) ahead.Ask();
        auto tile = [&]<int kStored>() {
          float* of_tile = sums + r * kSumStride;
          if (count == kBlocks) {
            TileOf<kStored, kBlocks>(height, &a->x, row_begin + r, w, codes, begin, end, of_tile);
          } else {
            for (int b = 0; b < count; b++)
              TileOf<kStored, 1>(height, &a->x, row_begin + r, w + b, codes + b, begin, end,
                                 of_tile + b * 16);
          }
        };
        if (kFormat == SAM_Q4 && few) {
          tile.template operator()<SAM_Q4>();
        } else {
          tile.template operator()<SAM_Q8>();
        }
      }
    }
    for (int64_t r = 0; r < rows; r++)
      for (int b = 0; b < count; b++)
        Finish(&a->epilogue, row_begin + r, w[b].column, Load(sums + r * kSumStride + b * 16), w[b].columns);
  }
}

}  // namespace

void QuantizedLinear(const void* args, int64_t begin, int64_t end, void* scratch) {
  const QuantizedLinearArgs* a = (const QuantizedLinearArgs*)args;
  int64_t all_blocks = 0;
  for (int32_t p = 0; p < a->w->part_count; p++) all_blocks += BlocksOf(a->w->parts + p);
  int64_t panels = (all_blocks + kPanelBlocks - 1) / kPanelBlocks;
  for (int64_t piece = begin; piece < end; piece++) {
    int64_t row = piece % a->row_blocks * a->row_block;
    int64_t row_end = row + a->row_block < a->x.rows ? row + a->row_block : a->x.rows;
    int64_t place = piece / a->row_blocks;
    int64_t block = place * panels / a->column_pieces * kPanelBlocks;
    int64_t block_end = (place + 1) * panels / a->column_pieces * kPanelBlocks;
    if (block_end > all_blocks) block_end = all_blocks;
    if (a->w->format == SAM_Q8) {
      Piece<SAM_Q8>(a, row, row_end, block, block_end, (uint8_t*)scratch);
    } else {
      Piece<SAM_Q4>(a, row, row_end, block, block_end, (uint8_t*)scratch);
    }
  }
}

}  // namespace sam::SAM_ISA

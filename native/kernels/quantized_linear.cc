// y = activation(x W^T + bias) + residual for Q8 and Q4 weights. x is quantised to 8 bits first, with a scale
// per group of the weights' length; the products of a group are summed as integers, exactly, and
//   y = sum over groups, in order, of (float)(integer sum) * (weight scale * x scale),
// multiplied and added with separate roundings. So a result depends neither on the instruction set, nor on
// the rows computed beside it, nor on the number of threads.
//
// Weights are stored as level + 128 (unsigned, as dpbusd wants one operand): the integer sums start at -128
// times the sum of x's codes. Blocks of sixteen weight rows lie interleaved (weights.h) and are read in
// place; a tile covers some rows of x and some blocks. Few rows: one pass over the weights. More: stretches
// of K whose weights stay in the first cache while all rows pass, sums waiting in scratch.
//
// Ladder, one core, 224 rows of 4096, Q4 groups of 64 (peak 950 Gop/s): intrinsics, whose sums g++ spills,
// 473 Gop/s; the instruction itself 617; scales of a tile's rows side by side and converted once per group
// 686. Software prefetch of the next rows and weights: 9 % slower.
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
constexpr int kMostRows = 7, kBlocks = 3, kFewRows = 5, kFewBlocks = 4;
#elif defined(__AVX512F__)
constexpr int kMostRows = 5, kBlocks = 3, kFewRows = 5, kFewBlocks = 3;
#elif defined(__AVX2__)
constexpr int kMostRows = 4, kBlocks = 2, kFewRows = 4, kFewBlocks = 2;
#else
constexpr int kMostRows = 4, kBlocks = 1, kFewRows = 4, kFewBlocks = 1;
#endif
static_assert(kFewBlocks <= kPanelBlocks && kBlocks <= kPanelBlocks);
constexpr int kSumStride = (int)(kPanelBlocks * kBlockRows);
constexpr int64_t kCacheBytes = 24 << 10;  // of weights that stay in the first cache

// One register's part of a step, four columns of each of its weight rows: Bytes as stored, Weights and Inputs
// ready to be multiplied, Sums the integer sums, one lane a weight row.
#if defined(__AVX512F__)
constexpr int kLanes = 16;
using Bytes = __m512i;
using Sums = __m512i;
SAM_INLINE Bytes LoadBytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
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
  _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), _mm512_mul_ps(_mm512_cvtepi32_ps(s), scales)));
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
  _mm256_storeu_ps(sums, _mm256_add_ps(_mm256_loadu_ps(sums), _mm256_mul_ps(_mm256_cvtepi32_ps(s), scales)));
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
  for (int i = 0; i < 16; i++) {
    float scale = scales.l[i] * x;
    float product = (float)s.l[i] * scale;
    sums[i] += product;
  }
}
#endif

// sums[r][b * 16 + lane] += groups [begin, end) of kRows rows of x from `row`, and kBlocks_ blocks.
template <int kFormat, int kRows, int kBlocks_>
void Tile(const QuantizedRows* x, int64_t row, const QuantizedBlock* w, int64_t begin, int64_t end,
          float* __restrict sums) {
  constexpr int kStep = kFormat == SAM_Q8 ? 128 : 64;  // bytes of eight columns
  const int64_t steps = x->group_size / 8, stride = x->columns, all_rows = x->rows;
  for (int part = 0; part < 16; part += kLanes) {
    const uint8_t* from[kBlocks_];
    const uint16_t* weight_scales[kBlocks_];
    for (int b = 0; b < kBlocks_; b++) {
      from[b] = w[b].codes + begin * steps * kStep + part * 4;
      weight_scales[b] = w[b].scales + begin * 16 + part;
    }
    const int8_t* in = x->codes + row * stride + begin * steps * 8;
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
    }
  }
}

template <int kFormat, int kBlocks_>
void TileOf(int rows, const QuantizedRows* x, int64_t row, const QuantizedBlock* w, int64_t begin,
            int64_t end, float* sums) {
  switch (rows) {
    case 1:
      return Tile<kFormat, 1, kBlocks_>(x, row, w, begin, end, sums);
    case 2:
      return Tile<kFormat, 2, kBlocks_>(x, row, w, begin, end, sums);
    case 3:
      return Tile<kFormat, 3, kBlocks_>(x, row, w, begin, end, sums);
    case 4:
      return Tile<kFormat, 4, kBlocks_>(x, row, w, begin, end, sums);
    case 5:
      if constexpr (kMostRows >= 5) return Tile<kFormat, 5, kBlocks_>(x, row, w, begin, end, sums);
      break;
    case 6:
      if constexpr (kMostRows >= 6 && kBlocks_ <= kBlocks)
        return Tile<kFormat, 6, kBlocks_>(x, row, w, begin, end, sums);
      break;
    default:
      if constexpr (kMostRows >= 7 && kBlocks_ <= kBlocks)
        return Tile<kFormat, 7, kBlocks_>(x, row, w, begin, end, sums);
      break;
  }
}

template <int kFormat>
void Piece(const QuantizedLinearArgs* a, int64_t row_begin, int64_t row_end, int64_t block_begin,
           int64_t block_end, float* sums) {
  int64_t rows = row_end - row_begin;
  int64_t tiles = (rows + kMostRows - 1) / kMostRows;
  int64_t tile_rows = (rows + tiles - 1) / tiles;
  int panel = rows <= kFewRows ? kFewBlocks : kBlocks;
  int64_t group_bytes = a->x.group_size * kBlockRows * panel / (kFormat == SAM_Q8 ? 1 : 2);
  int64_t stretch = tiles == 1 ? a->x.groups : kCacheBytes / group_bytes;
  if (stretch < 1) stretch = 1;
  for (int64_t first = block_begin; first < block_end; first += panel) {
    int count = block_end - first < panel ? (int)(block_end - first) : panel;
    QuantizedBlock w[kPanelBlocks];
    for (int b = 0; b < count; b++) w[b] = BlockOf(a->w, first + b);
    for (int64_t i = 0; i < rows * kSumStride; i += 16) Store(sums + i, Zero());
    for (int64_t begin = 0; begin < a->x.groups; begin += stretch) {
      int64_t end = a->x.groups - begin < stretch ? a->x.groups : begin + stretch;
      for (int64_t r = 0; r < rows; r += tile_rows) {
        int height = rows - r < tile_rows ? (int)(rows - r) : (int)tile_rows;
        float* of_tile = sums + r * kSumStride;
        if (count == kFewBlocks && panel == kFewBlocks) {
          TileOf<kFormat, kFewBlocks>(height, &a->x, row_begin + r, w, begin, end, of_tile);
        } else if (count == kBlocks) {
          TileOf<kFormat, kBlocks>(height, &a->x, row_begin + r, w, begin, end, of_tile);
        } else {
          for (int b = 0; b < count; b++)
            TileOf<kFormat, 1>(height, &a->x, row_begin + r, w + b, begin, end, of_tile + b * 16);
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
  for (int64_t piece = begin; piece < end; piece++) {
    int64_t row = piece % a->row_blocks * a->row_block;
    int64_t row_end = row + a->row_block < a->x.rows ? row + a->row_block : a->x.rows;
    int64_t block = piece / a->row_blocks * a->blocks;
    int64_t block_end = block + a->blocks < all_blocks ? block + a->blocks : all_blocks;
    if (a->w->format == SAM_Q8) {
      Piece<SAM_Q8>(a, row, row_end, block, block_end, (float*)scratch);
    } else {
      Piece<SAM_Q4>(a, row, row_end, block, block_end, (float*)scratch);
    }
  }
}

}  // namespace sam::SAM_ISA

// Multi-head attention: dense (vision, Q-Former) and causal over the paged cache (language model), and the
// rotary embedding that feeds the latter. Dense: keys are transposed and values packed once for a piece's
// rows; both products keep tiles of six rows in registers, several tiles for one block of keys in the first
// cache. Paged: per row, scores by dot products (lanes along the head, simd.h). Softmax in fp32, then the
// weighted sum of the values key by key, so a row's result does not depend on its neighbours.
#include "kernels.h"
#include "simd.h"

namespace sam::SAM_ISA {

namespace {

SAM_INLINE float DotRow(const float* a, const float* b, int d) {
  V sum = Zero();
  int i = 0;
  for (; i + 16 <= d; i += 16) sum = Fma(Load(a + i), Load(b + i), sum);
  if (i < d) sum = Fma(Load(a + i, d - i), Load(b + i, d - i), sum);
  return Sum(sum);
}

// exp(x), and 0 where products with it would be subnormal, which some processors compute by a slow detour.
SAM_INLINE V ExpOrZero(V x) { return Larger(Set(-75.0f), x, Zero(), Exp(x)); }

// scores[0..n) -> softmax(scale * scores).
SAM_INLINE void Softmax(float* scores, int n, float scale) {
  int whole = n / 16 * 16;
  V by = Set(scale);
  V largest = Set(-__builtin_inff());
  for (int i = 0; i < whole; i += 16) {
    V s = Load(scores + i) * by;
    Store(scores + i, s);
    largest = Max(largest, s);
  }
  for (int i = whole; i < n; i++) {
    scores[i] *= scale;
    largest = Max(largest, Set(scores[i]));
  }
  V top = Set(MaxOf(largest));
  V total = Zero();
  for (int i = 0; i < whole; i += 16) {
    V e = ExpOrZero(Load(scores + i) - top);
    Store(scores + i, e);
    total = total + e;
  }
  if (whole < n) {
    Store(scores + whole, ExpOrZero(Load(scores + whole, n - whole) - top), n - whole);
    total = total + Load(scores + whole, n - whole);
  }
  float inverse = 1.0f / Sum(total);
  for (int i = 0; i < whole; i += 16) Store(scores + i, Load(scores + i) * Set(inverse));
  for (int i = whole; i < n; i++) scores[i] = scores[i] * inverse;
}

// y[0..d) = sum over keys of p[key] * value(key), in the order of the keys, from the first; what is in front
// of the first is in y already.
template <typename RowAt>
SAM_INLINE void WeightedSum(const float* p, int first, int keys, RowAt value, float* y, int d) {
  int i = 0;
  for (; i + 64 <= d; i += 64) {
    V s0 = Zero(), s1 = Zero(), s2 = Zero(), s3 = Zero();
    if (first > 0) s0 = Load(y + i), s1 = Load(y + i + 16), s2 = Load(y + i + 32), s3 = Load(y + i + 48);
    for (int key = first; key < keys; key++) {
      const float* v = value(key) + i;
      V w = Set(p[key]);
      s0 = Fma(w, Load(v), s0);
      s1 = Fma(w, Load(v + 16), s1);
      s2 = Fma(w, Load(v + 32), s2);
      s3 = Fma(w, Load(v + 48), s3);
    }
    Store(y + i, s0);
    Store(y + i + 16, s1);
    Store(y + i + 32, s2);
    Store(y + i + 48, s3);
  }
  for (; i < d; i += 16) {
    V s = first > 0 ? Load(y + i, d - i) : Zero();
    for (int key = first; key < keys; key++) s = Fma(Set(p[key]), Load(value(key) + i, d - i), s);
    Store(y + i, s, d - i);
  }
}

// Rows of a tile of the paged kernel, and keys whose products with them stay in registers.
constexpr int kSharedRows = 4;
constexpr int kSharedKeys = kPartLanes == 16 ? 4 : 1;

// scores[r * stride + key] = dot product of row r and the key, as DotRow computes it, for four keys.
template <typename RowAt>
SAM_INLINE void ScoreFourKeys(const float* const* q, RowAt key_at, int first, int d, float* scores,
                              int64_t stride) {
  float sums[kSharedRows * 4 * 16];
  for (int key = 0; key < 4; key += kSharedKeys) {
    const float* k[kSharedKeys];
    V sum[kSharedRows][kSharedKeys];
    for (int j = 0; j < kSharedKeys; j++) {
      k[j] = key_at(first + key + j);
      for (int r = 0; r < kSharedRows; r++) sum[r][j] = Zero();
    }
    int i = 0;
    for (; i + 16 <= d; i += 16)
      for (int j = 0; j < kSharedKeys; j++) {
        V factor = Load(k[j] + i);
        for (int r = 0; r < kSharedRows; r++) sum[r][j] = Fma(Load(q[r] + i), factor, sum[r][j]);
      }
    if (i < d)
      for (int j = 0; j < kSharedKeys; j++) {
        V factor = Load(k[j] + i, d - i);
        for (int r = 0; r < kSharedRows; r++) sum[r][j] = Fma(Load(q[r] + i, d - i), factor, sum[r][j]);
      }
    for (int r = 0; r < kSharedRows; r++)
      for (int j = 0; j < kSharedKeys; j++) Store(sums + (r * 4 + key + j) * 16, sum[r][j]);
  }
  float each[16];
  Store(each, SumEach(sums));
  for (int r = 0; r < kSharedRows; r++) __builtin_memcpy(scores + r * stride + first, each + 4 * r, 16);
}

// y[r][0..d) = sum over keys of p[r][key] * value(key), as WeightedSum computes it.
template <typename RowAt>
SAM_INLINE void SharedWeightedSum(const float* p, int64_t stride, int keys, RowAt value, float* const* y,
                                  int d) {
  constexpr int kColumns = kPartLanes == 16 ? 4 : 1;
  int i = 0;
  for (; i + 16 * kColumns <= d; i += 16 * kColumns) {
    V sum[kSharedRows][kColumns];
    for (int r = 0; r < kSharedRows; r++)
      for (int c = 0; c < kColumns; c++) sum[r][c] = Zero();
    for (int key = 0; key < keys; key++) {
      const float* v = value(key) + i;
      V factor[kColumns];
      for (int c = 0; c < kColumns; c++) factor[c] = Load(v + 16 * c);
      for (int r = 0; r < kSharedRows; r++) {
        V w = Set(p[r * stride + key]);
        for (int c = 0; c < kColumns; c++) sum[r][c] = Fma(w, factor[c], sum[r][c]);
      }
    }
    for (int r = 0; r < kSharedRows; r++)
      for (int c = 0; c < kColumns; c++) Store(y[r] + i + 16 * c, sum[r][c]);
  }
  for (; i < d; i += 16)
    for (int r = 0; r < kSharedRows; r++) {
      V sum = Zero();
      for (int key = 0; key < keys; key++)
        sum = Fma(Set(p[r * stride + key]), Load(value(key) + i, d - i), sum);
      Store(y[r] + i, sum, d - i);
    }
}

constexpr int kTileRows = 6;
// With six rows: all sums and the factors of a step fit in the registers.
constexpr int kTileParts = kPartLanes == 16 ? 4 : 2;

// y[r][0..P parts) = sum over i < n, in order, of a[r][i] * b[i][0..P parts); `more`: goes on from what is in
// y.
template <int R, int P>
SAM_INLINE void TileProduct(const float* a, int64_t a_row, const float* b, int64_t b_row, int n, float* y,
                            int64_t y_row, bool more) {
  Part sum[R][P];
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) sum[r][p] = more ? LoadPart(y + r * y_row + p * kPartLanes) : ZeroPart();
  for (int i = 0; i < n; i++) {
    Part factor[P];
    for (int p = 0; p < P; p++) factor[p] = LoadPart(b + i * b_row + p * kPartLanes);
    for (int r = 0; r < R; r++) {
      Part x = SetPart(a[r * a_row + i]);
      for (int p = 0; p < P; p++) sum[r][p] = FmaPart(x, factor[p], sum[r][p]);
    }
  }
  for (int r = 0; r < R; r++)
    for (int p = 0; p < P; p++) StorePart(y + r * y_row + p * kPartLanes, sum[r][p]);
}

// The same for a width of any number of parts.
template <int R>
SAM_INLINE void RowsProduct(const float* a, int64_t a_row, const float* b, int64_t b_row, int n, float* y,
                            int64_t y_row, int width, bool more) {
  int at = 0;
  for (; at + kTileParts * kPartLanes <= width; at += kTileParts * kPartLanes)
    TileProduct<R, kTileParts>(a, a_row, b + at, b_row, n, y + at, y_row, more);
  if constexpr (kTileParts > 2)
    for (; at + 2 * kPartLanes <= width; at += 2 * kPartLanes)
      TileProduct<R, 2>(a, a_row, b + at, b_row, n, y + at, y_row, more);
  for (; at < width; at += kPartLanes) TileProduct<R, 1>(a, a_row, b + at, b_row, n, y + at, y_row, more);
}

// tile<R>(row) for tiles of kTileRows rows and one of what is left.
template <typename TileOf>
SAM_INLINE void ForTiles(int rows, TileOf tile) {
  int row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) tile.template operator()<kTileRows>(row);
  switch (rows - row) {
    case 5:
      return tile.template operator()<5>(row);
    case 4:
      return tile.template operator()<4>(row);
    case 3:
      return tile.template operator()<3>(row);
    case 2:
      return tile.template operator()<2>(row);
    case 1:
      return tile.template operator()<1>(row);
  }
}

// to[c][r] = from[r][c] for sixteen rows and columns, of which `rows` and `columns` are there and count as
// zero behind.
SAM_INLINE void TransposeSquare(const float* from, int64_t from_row, int rows, int columns, float* to,
                                int64_t to_row) {
#if defined(__AVX512F__)
  __m512 v[16], w[16];
  for (int i = 0; i < 16; i++) v[i] = i < rows ? Load(from + i * from_row, columns).v : _mm512_setzero_ps();
  for (int i = 0; i < 16; i += 2) {
    w[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
    w[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; j++) {
      v[i + 2 * j] = _mm512_shuffle_ps(w[i + j], w[i + j + 2], 0x44);
      v[i + 2 * j + 1] = _mm512_shuffle_ps(w[i + j], w[i + j + 2], 0xee);
    }
  // v[4 q + c]: rows 4 q to 4 q + 3 of columns c, c + 4, c + 8 and c + 12, a quarter each.
  for (int c = 0; c < 4; c++) {
    __m512 low = _mm512_shuffle_f32x4(v[c], v[4 + c], 0x88),
           low_odd = _mm512_shuffle_f32x4(v[c], v[4 + c], 0xdd);
    __m512 high = _mm512_shuffle_f32x4(v[8 + c], v[12 + c], 0x88);
    __m512 high_odd = _mm512_shuffle_f32x4(v[8 + c], v[12 + c], 0xdd);
    w[c] = _mm512_shuffle_f32x4(low, high, 0x88);
    w[4 + c] = _mm512_shuffle_f32x4(low_odd, high_odd, 0x88);
    w[8 + c] = _mm512_shuffle_f32x4(low, high, 0xdd);
    w[12 + c] = _mm512_shuffle_f32x4(low_odd, high_odd, 0xdd);
  }
#pragma GCC unroll 16
  for (int c = 0; c < 16; c++)
    if (c < columns) _mm512_storeu_ps(to + c * to_row, w[c]);
#else
  for (int c = 0; c < columns && c < 16; c++)
    for (int r = 0; r < 16; r++) to[c * to_row + r] = r < rows ? from[r * from_row + c] : 0;
#endif
}

// panel[block][i][key of the block] = k[key][i]; zeros behind the last key, up to a multiple of sixteen.
SAM_INLINE void TransposeKeys(const float* k, int64_t stride, int keys, int d, float* panel) {
  for (int key = 0; key < keys; key += 16)
    for (int i = 0; i < d; i += 16)
      TransposeSquare(k + key * stride + i, stride, keys - key, d - i,
                      panel + key / kKeyBlock * kKeyBlock * d + i * kKeyBlock + key % kKeyBlock, kKeyBlock);
}

}  // namespace

void Attention(const void* args, int64_t begin, int64_t end, void* scratch) {
  const AttentionArgs* a = (const AttentionArgs*)args;
  int d = a->q->columns / a->heads;
  int rows = a->q->rows;
  int keys = a->k->rows;
  int64_t blocks = (rows + a->row_block - 1) / a->row_block;
  int64_t padded = (keys + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
  int width = (d + 15) / 16 * 16;
  float* panel = (float*)scratch;
  float* values = panel + padded * d;
  float* scores = values + (int64_t)keys * width;
  float* results = scores + kAttentionRows * padded;
  for (int64_t piece = begin; piece < end; piece++) {
    int64_t batch = piece / (a->heads * blocks);
    int head = (int)(piece / blocks % a->heads);
    int first = (int)(piece % blocks * a->row_block);
    int last = first + a->row_block < rows ? first + (int)a->row_block : rows;
    TransposeKeys(a->k->data + batch * a->k->batch_stride + (int64_t)head * d, a->k->row_stride, keys, d,
                  panel);
    const float* v = a->v->data + batch * a->v->batch_stride + (int64_t)head * d;
    for (int key = 0; key < keys; key++) {
      const float* from = v + key * a->v->row_stride;
      float* to = values + (int64_t)key * width;
      for (int i = 0; i < width; i += 16) Store(to + i, i + 16 <= d ? Load(from + i) : Load(from + i, d - i));
    }
    const float* q = a->q->data + batch * a->q->batch_stride + (int64_t)head * d;
    float* y = a->y->data + batch * a->y->batch_stride + (int64_t)head * d;
    // Some tiles of rows while a block of keys or values is in the first cache.
    for (; first < last; first += (int)kAttentionRows) {
      int count = last - first < kAttentionRows ? last - first : (int)kAttentionRows;
      for (int key = 0; key < keys; key += kKeyBlock) {
        int some = keys - key < kKeyBlock ? (keys - key + 15) / 16 * 16 : (int)kKeyBlock;
        ForTiles(count, [&]<int R>(int r) {
          RowsProduct<R>(q + (first + r) * a->q->row_stride, a->q->row_stride, panel + (int64_t)key * d,
                         kKeyBlock, d, scores + r * padded + key, padded, some, false);
        });
      }
      for (int r = 0; r < count; r++) Softmax(scores + r * padded, keys, a->scale);
      for (int key = 0; key < keys; key += kKeyBlock) {
        int some = keys - key < kKeyBlock ? keys - key : (int)kKeyBlock;
        ForTiles(count, [&]<int R>(int r) {
          RowsProduct<R>(scores + r * padded + key, padded, values + (int64_t)key * width, width, some,
                         results + r * width, width, width, key > 0);
        });
      }
      for (int r = 0; r < count; r++) {
        __builtin_memcpy(y + (first + r) * a->y->row_stride, results + r * width, (size_t)d * 4);
        if (a->probabilities) {
          float* p = a->probabilities->data + (batch * a->heads + head) * a->probabilities->batch_stride +
                     (first + r) * a->probabilities->row_stride;
          __builtin_memcpy(p, scores + r * padded, (size_t)keys * 4);
        }
      }
    }
  }
}

void RotaryStoreKv(const void* args, int64_t begin, int64_t end, void*) {
  const RotaryArgs* a = (const RotaryArgs*)args;
  const sam_kv_cache* cache = a->cache;
  int d = cache->head_dim;
  int half = d / 2;
  int64_t width = (int64_t)cache->heads * d;
  int64_t layer = a->layer * (int64_t)cache->blocks * cache->block_size * width;
  for (int64_t row = begin; row < end; row++) {
    float* qkv = a->qkv->data + row * a->qkv->row_stride;
    const float* cos = a->cos_sin->data + a->layout->positions[row] * a->cos_sin->row_stride;
    const float* sin = cos + half;
    int64_t slot = layer + a->layout->slots[row] * width;
    float* keys = cache->keys + slot;
    float* k = qkv + (int64_t)a->heads * d;
    for (int head = 0; head < a->heads + cache->heads; head++) {
      bool is_key = head >= a->heads;
      float* from = qkv + (int64_t)head * d;
      float* to = is_key ? keys + (int64_t)(head - a->heads) * d : from;
      for (int i = 0; i < half; i++) {
        float low = from[i];
        float high = from[i + half];
        to[i] = low * cos[i] - high * sin[i];
        to[i + half] = high * cos[i] + low * sin[i];
      }
    }
    __builtin_memcpy(cache->values + slot, k + width, (size_t)width * 4);
  }
}

void PagedAttention(const void* args, int64_t begin, int64_t end, void* scratch) {
  const PagedAttentionArgs* a = (const PagedAttentionArgs*)args;
  const sam_kv_cache* cache = a->cache;
  const sam_layout* layout = a->layout;
  int d = cache->head_dim;
  int block_size = cache->block_size;
  int64_t width = (int64_t)cache->heads * d;
  int64_t layer = a->layer * (int64_t)cache->blocks * block_size * width;
  int64_t rows = a->q->rows;
  int64_t stride = PagedScoreStride(a->max_context);
  float* scores = (float*)scratch;
  // Keys and values of a head and sequence, copied together for the rows [row, packed_end) of this piece.
  float* packed_keys = scores + kSharedRows * stride;
  float* packed_values = packed_keys + (int64_t)a->max_context * d;
  int64_t packed_end = 0;
  for (int64_t piece = begin; piece < end;) {
    int head = (int)(piece / rows);
    int64_t row = piece % rows;
    if (row == 0) packed_end = 0;
    int count = row + kSharedRows <= rows && piece + kSharedRows <= end ? kSharedRows : 1;
    const int32_t* table[kSharedRows];
    const float* q[kSharedRows];
    float* y[kSharedRows];
    int keys[kSharedRows];
    int sequence = 0;
    int shared = 0;
    for (int r = 0; r < count; r++) {
      while (layout->row_starts[sequence + 1] <= row + r) sequence++;
      table[r] = layout->block_table + sequence * layout->block_table_stride;
      q[r] = a->q->data + (row + r) * a->q->row_stride + (int64_t)head * d;
      y[r] = a->y->data + (row + r) * a->y->row_stride + (int64_t)head * d;
      keys[r] = layout->positions[row + r] + 1;
      shared = r == 0 || keys[r] < shared ? keys[r] : shared;
    }
    int blocks = 0;
    auto alike = [&](int block) {
      for (int r = 1; r < count; r++)
        if (table[r][block] != table[0][block]) return false;
      return true;
    };
    while (blocks * block_size < shared && alike(blocks)) blocks++;
    if (blocks * block_size < shared) shared = blocks * block_size;
    if (count == 1 || shared < 4) shared = 0;
    int64_t shift = layer + (int64_t)(head / (a->heads / cache->heads)) * d;
    auto place = [&](int r, int key) {
      return ((int64_t)table[r][key / block_size] * block_size + key % block_size) * width + shift;
    };
    if (row >= packed_end) {
      int of = 0;
      while (layout->row_starts[of + 1] <= row) of++;
      int64_t last = row + (end - piece) < rows ? row + (end - piece) : rows;
      if (layout->row_starts[of + 1] < last) last = layout->row_starts[of + 1];
      if (last - row >= kPackedRows) {
        packed_end = last;
        int most = 0;
        for (int64_t r = row; r < last; r++)
          if (layout->positions[r] >= most) most = layout->positions[r] + 1;
        for (int key = 0; key < most; key++) {
          __builtin_memcpy(packed_keys + (int64_t)key * d, cache->keys + place(0, key), (size_t)d * 4);
          __builtin_memcpy(packed_values + (int64_t)key * d, cache->values + place(0, key), (size_t)d * 4);
        }
      }
    }
    bool packed = row + count <= packed_end;
    auto key_at = [&](int r, int key) {
      return packed ? packed_keys + (int64_t)key * d : cache->keys + place(r, key);
    };
    auto value_at = [&](int r, int key) {
      return packed ? packed_values + (int64_t)key * d : cache->values + place(r, key);
    };
    int scored = shared / 4 * 4;
    for (int key = 0; key < scored; key += 4)
      ScoreFourKeys(
          q, [&](int at) { return key_at(0, at); }, key, d, scores, stride);
    for (int r = 0; r < count; r++) {
      float* row_scores = scores + r * stride;
      for (int key = scored; key < keys[r]; key++) row_scores[key] = DotRow(q[r], key_at(r, key), d);
      Softmax(row_scores, keys[r], a->scale);
    }
    if (shared > 0)
      SharedWeightedSum(
          scores, stride, shared, [&](int key) { return value_at(0, key); }, y, d);
    for (int r = 0; r < count; r++)
      WeightedSum(
          scores + r * stride, shared, keys[r], [&](int key) { return value_at(r, key); }, y[r], d);
    piece += count;
  }
}

}  // namespace sam::SAM_ISA

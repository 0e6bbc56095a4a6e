// Multi-head attention: dense (vision, Q-Former) and causal over the paged cache (language model), and the
// rotary embedding that feeds the latter. Per row: scores by dot products (lanes along the head, simd.h),
// softmax in fp32, then the weighted sum of the values key by key, so a row's result does not depend on its
// neighbours.
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

// scores[0..n) -> softmax(scale * scores).
SAM_INLINE void Softmax(float* scores, int n, float scale) {
  V largest = Set(-__builtin_inff());
  for (int i = 0; i < n; i += 16) {
    V s = Load(scores + i, n - i) * Set(scale);
    Store(scores + i, s, n - i);
    if (n - i >= 16) {
      largest = Max(largest, s);
    } else {
      for (int j = i; j < n; j++) largest = Max(largest, Set(scores[j]));
    }
  }
  V top = Set(MaxOf(largest));
  V total = Zero();
  for (int i = 0; i < n; i += 16) {
    V e = Exp(Load(scores + i, n - i) - top);
    if (n - i < 16) {
      float part[16];
      Store(part, e);
      e = Load(part, n - i);
    }
    Store(scores + i, e, n - i);
    total = total + e;
  }
  V inverse = Set(1.0f / Sum(total));
  for (int i = 0; i < n; i += 16) Store(scores + i, Load(scores + i, n - i) * inverse, n - i);
}

// y[0..d) = sum over keys of p[key] * value(key), in the order of the keys.
template <typename RowAt>
SAM_INLINE void WeightedSum(const float* p, int keys, RowAt value, float* y, int d) {
  int i = 0;
  for (; i + 64 <= d; i += 64) {
    V s0 = Zero(), s1 = Zero(), s2 = Zero(), s3 = Zero();
    for (int key = 0; key < keys; key++) {
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
    V s = Zero();
    for (int key = 0; key < keys; key++) s = Fma(Set(p[key]), Load(value(key) + i, d - i), s);
    Store(y + i, s, d - i);
  }
}

}  // namespace

void Attention(const void* args, int64_t begin, int64_t end, void* scratch) {
  const AttentionArgs* a = (const AttentionArgs*)args;
  int d = a->q->columns / a->heads;
  int rows = a->q->rows;
  int keys = a->k->rows;
  int64_t blocks = (rows + kAttentionRows - 1) / kAttentionRows;
  float* scores = (float*)scratch;
  for (int64_t piece = begin; piece < end; piece++) {
    int64_t batch = piece / (a->heads * blocks);
    int head = (int)(piece / blocks % a->heads);
    int first = (int)(piece % blocks * kAttentionRows);
    int last = first + kAttentionRows < rows ? first + (int)kAttentionRows : rows;
    const float* k = a->k->data + batch * a->k->batch_stride + (int64_t)head * d;
    const float* v = a->v->data + batch * a->v->batch_stride + (int64_t)head * d;
    int64_t key_stride = a->k->row_stride;
    int64_t value_stride = a->v->row_stride;
    for (int row = first; row < last; row++) {
      const float* q = a->q->data + batch * a->q->batch_stride + row * a->q->row_stride + (int64_t)head * d;
      for (int key = 0; key < keys; key++) scores[key] = DotRow(q, k + key * key_stride, d);
      Softmax(scores, keys, a->scale);
      float* y = a->y->data + batch * a->y->batch_stride + row * a->y->row_stride + (int64_t)head * d;
      WeightedSum(
          scores, keys, [&](int key) { return v + key * value_stride; }, y, d);
      if (a->probabilities) {
        float* p = a->probabilities->data + (batch * a->heads + head) * a->probabilities->batch_stride +
                   row * a->probabilities->row_stride;
        __builtin_memcpy(p, scores, (size_t)keys * 4);
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
  float* scores = (float*)scratch;
  for (int64_t piece = begin; piece < end; piece++) {
    int64_t row = piece / a->heads;
    int head = (int)(piece % a->heads);
    int sequence = 0;
    while (layout->row_starts[sequence + 1] <= row) sequence++;
    const int32_t* table = layout->block_table + sequence * layout->block_table_stride;
    int keys = layout->positions[row] + 1;
    int64_t shift = layer + (int64_t)(head / (a->heads / cache->heads)) * d;
    auto place = [&](int key) {
      return ((int64_t)table[key / block_size] * block_size + key % block_size) * width + shift;
    };
    const float* q = a->q->data + row * a->q->row_stride + (int64_t)head * d;
    for (int key = 0; key < keys; key++) scores[key] = DotRow(q, cache->keys + place(key), d);
    Softmax(scores, keys, a->scale);
    float* y = a->y->data + row * a->y->row_stride + (int64_t)head * d;
    WeightedSum(
        scores, keys, [&](int key) { return cache->values + place(key); }, y, d);
  }
}

}  // namespace sam::SAM_ISA

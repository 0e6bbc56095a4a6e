// Sixteen fp32 lanes, whatever the registers: one 512-bit, two 256-bit, or plain arrays. Sums over K run in
// sixteen chains, lane l taking k = l mod 16 in order, reduced by one fixed tree, so that a result depends
// neither on how many rows are computed together nor on the number of threads.
#ifndef SAMENGINE_SIMD_H_
#define SAMENGINE_SIMD_H_

#include <stdint.h>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#define SAM_INLINE static inline __attribute__((always_inline))

namespace sam::SAM_ISA {

SAM_INLINE float BitsToFloat(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

SAM_INLINE float HalfToFloat(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16;
  uint32_t rest = h & 0x7fff;
  if (rest >= 0x7c00) return BitsToFloat(sign | 0x7f800000 | (rest << 13));
  if (rest >= 0x0400) return BitsToFloat(sign | ((rest << 13) + 0x38000000));
  float tiny = (float)rest * 5.9604644775390625e-8f;  // 2^-24: subnormals
  return sign ? -tiny : tiny;
}

#if defined(__AVX512F__)

struct V {
  __m512 v;
};
SAM_INLINE __mmask16 TailMask(int n) { return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1); }
SAM_INLINE V Zero() { return {_mm512_setzero_ps()}; }
SAM_INLINE V Set(float x) { return {_mm512_set1_ps(x)}; }
SAM_INLINE V Load(const float* p) { return {_mm512_loadu_ps(p)}; }
SAM_INLINE V Load(const float* p, int n) { return {_mm512_maskz_loadu_ps(TailMask(n), p)}; }
SAM_INLINE void Store(float* p, V a) { _mm512_storeu_ps(p, a.v); }
SAM_INLINE void Store(float* p, V a, int n) { _mm512_mask_storeu_ps(p, TailMask(n), a.v); }
SAM_INLINE V Fma(V a, V b, V c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
SAM_INLINE V operator+(V a, V b) { return {_mm512_add_ps(a.v, b.v)}; }
SAM_INLINE V operator-(V a, V b) { return {_mm512_sub_ps(a.v, b.v)}; }
SAM_INLINE V operator*(V a, V b) { return {_mm512_mul_ps(a.v, b.v)}; }
SAM_INLINE V operator/(V a, V b) { return {_mm512_div_ps(a.v, b.v)}; }
SAM_INLINE V Max(V a, V b) { return {_mm512_max_ps(a.v, b.v)}; }
SAM_INLINE V Min(V a, V b) { return {_mm512_min_ps(a.v, b.v)}; }
SAM_INLINE V Abs(V a) { return {_mm512_abs_ps(a.v)}; }
SAM_INLINE V CopySign(V a, V s) {
  return {_mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(a.v), _mm512_castps_si512(s.v),
                                                        _mm512_set1_epi32(0x7fffffff), 0xe4))};
}
SAM_INLINE V Larger(V a, V b, V yes, V no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), no.v, yes.v)};
}
SAM_INLINE V Round(V a) { return {_mm512_roundscale_ps(a.v, 8)}; }
SAM_INLINE V Scale2(V a, V n) { return {_mm512_scalef_ps(a.v, n.v)}; }
SAM_INLINE V LoadHalf(const uint16_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))}; }
SAM_INLINE V LoadHalf(const uint16_t* p, int n) {
  return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(TailMask(n), p))};
}
SAM_INLINE V Bf16(__m256i h) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
}
SAM_INLINE V LoadBf16(const uint16_t* p) { return Bf16(_mm256_loadu_si256((const __m256i*)p)); }
SAM_INLINE V LoadBf16(const uint16_t* p, int n) { return Bf16(_mm256_maskz_loadu_epi16(TailMask(n), p)); }
// Whole numbers from -128 to 127.
SAM_INLINE void StoreInt8(int8_t* p, V a) {
  _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}
SAM_INLINE float Sum(V a) {
  __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
// Lane i is Sum of the vector at p + 16 i: the same additions, sixteen trees side by side.
SAM_INLINE V SumEach(const float* p) {
  __m512 v[16], w[8];
  for (int i = 0; i < 16; i++) v[i] = _mm512_loadu_ps(p + 16 * i);
  // Halves of vectors i and i + 8, then quarters of i, i + 8, i + 4, i + 12.
  for (int i = 0; i < 8; i++)
    w[i] =
        _mm512_add_ps(_mm512_shuffle_f32x4(v[i], v[i + 8], 0x44), _mm512_shuffle_f32x4(v[i], v[i + 8], 0xee));
  for (int i = 0; i < 4; i++)
    v[i] =
        _mm512_add_ps(_mm512_shuffle_f32x4(w[i], w[i + 4], 0x88), _mm512_shuffle_f32x4(w[i], w[i + 4], 0xdd));
  // Quarter q of v[i] holds vector i + 4 {0, 2, 1, 3}[q]: lanes 0 and 2, 1 and 3, then what is left.
  for (int i = 0; i < 2; i++)
    w[i] = _mm512_add_ps(_mm512_unpacklo_ps(v[i], v[i + 2]), _mm512_unpackhi_ps(v[i], v[i + 2]));
  __m512 r = _mm512_add_ps(_mm512_shuffle_ps(w[0], w[1], 0x44), _mm512_shuffle_ps(w[0], w[1], 0xee));
  // Quarter q, place p: vector 4 {0, 2, 1, 3}[q] + {0, 2, 1, 3}[p].
  return {_mm512_permutexvar_ps(_mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15), r)};
}
SAM_INLINE float MaxOf(V a) {
  __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}

#else  // two 256-bit registers, or arrays

template <typename T>
SAM_INLINE void LoadTail(T* buffer, const T* p, int n) {
  for (int i = 0; i < 16; i++) buffer[i] = i < n ? p[i] : T(0);
}

#if defined(__AVX2__)

struct V {
  __m256 a, b;
};
SAM_INLINE V Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
SAM_INLINE V Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
SAM_INLINE V Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
SAM_INLINE void Store(float* p, V x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
#define SAM_BINARY(name, intrinsic) \
  SAM_INLINE V name(V x, V y) { return {intrinsic(x.a, y.a), intrinsic(x.b, y.b)}; }
SAM_BINARY(operator+, _mm256_add_ps)
SAM_BINARY(operator-, _mm256_sub_ps)
SAM_BINARY(operator*, _mm256_mul_ps)
SAM_BINARY(operator/, _mm256_div_ps)
SAM_BINARY(Max, _mm256_max_ps)
SAM_BINARY(Min, _mm256_min_ps)
#undef SAM_BINARY
SAM_INLINE V Fma(V x, V y, V z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
SAM_INLINE V Abs(V x) {
  __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
SAM_INLINE V CopySign(V x, V s) {
  __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_andnot_ps(sign, x.a), _mm256_and_ps(sign, s.a)),
          _mm256_or_ps(_mm256_andnot_ps(sign, x.b), _mm256_and_ps(sign, s.b))};
}
SAM_INLINE V Larger(V x, V y, V yes, V no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ))};
}
SAM_INLINE V Round(V x) { return {_mm256_round_ps(x.a, 8), _mm256_round_ps(x.b, 8)}; }
// a * 2^n for n in [-252, 126] in two factors, so that results down to the subnormals come out right.
SAM_INLINE __m256 Scale2Part(__m256 a, __m256 n) {
  __m256i whole = _mm256_cvtps_epi32(n);
  __m256i half = _mm256_srai_epi32(whole, 1);
  __m256i rest = _mm256_sub_epi32(whole, half);
  __m256i bias = _mm256_set1_epi32(127);
  __m256 f = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  __m256 g = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(a, f), g);
}
SAM_INLINE V Scale2(V x, V n) { return {Scale2Part(x.a, n.a), Scale2Part(x.b, n.b)}; }
SAM_INLINE V LoadHalf(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)),
          _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
SAM_INLINE __m256 Bf16Part(const uint16_t* p) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
SAM_INLINE V LoadBf16(const uint16_t* p) { return {Bf16Part(p), Bf16Part(p + 8)}; }
SAM_INLINE void StoreInt8(int8_t* p, V x) {
  __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
  words = _mm256_permute4x64_epi64(words, 0xd8);
  __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128((__m128i*)p, bytes);
}
SAM_INLINE float Sum(V x) {
  __m256 h = _mm256_add_ps(x.a, x.b);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
SAM_INLINE float MaxOf(V x) {
  __m256 h = _mm256_max_ps(x.a, x.b);
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}

#else  // scalar

struct V {
  float l[16];
};
#define SAM_LANES(expression)                         \
  V r;                                                \
  for (int i = 0; i < 16; i++) r.l[i] = (expression); \
  return r;
SAM_INLINE V Set(float x){SAM_LANES(x)} SAM_INLINE V Zero() { return Set(0); }
SAM_INLINE V Load(const float* p){SAM_LANES(p[i])} SAM_INLINE void Store(float* p, V x) {
  for (int i = 0; i < 16; i++) p[i] = x.l[i];
}
SAM_INLINE V operator+(V x, V y){SAM_LANES(x.l[i] + y.l[i])} SAM_INLINE V operator-(V x, V y){
    SAM_LANES(x.l[i] - y.l[i])} SAM_INLINE V
operator*(V x, V y){SAM_LANES(x.l[i] * y.l[i])} SAM_INLINE V
operator/(V x, V y){SAM_LANES(x.l[i] / y.l[i])} SAM_INLINE V
    Max(V x, V y){SAM_LANES(x.l[i] > y.l[i] ? x.l[i] : y.l[i])} SAM_INLINE V
    Min(V x, V y){SAM_LANES(x.l[i] < y.l[i] ? x.l[i] : y.l[i])} SAM_INLINE V
    Fma(V x, V y, V z){SAM_LANES(x.l[i] * y.l[i] + z.l[i])} SAM_INLINE V
    Abs(V x){SAM_LANES(__builtin_fabsf(x.l[i]))} SAM_INLINE V
    CopySign(V x, V s){SAM_LANES(__builtin_copysignf(x.l[i], s.l[i]))} SAM_INLINE V
    Larger(V x, V y, V yes, V no){SAM_LANES(x.l[i] > y.l[i] ? yes.l[i] : no.l[i])} SAM_INLINE V
    Round(V x){SAM_LANES(__builtin_rintf(x.l[i]))} SAM_INLINE float Scale2One(float a, int n) {
  int half = n >> 1;
  return a * BitsToFloat((uint32_t)(half + 127) << 23) * BitsToFloat((uint32_t)(n - half + 127) << 23);
}
SAM_INLINE V Scale2(V x, V n){SAM_LANES(Scale2One(x.l[i], (int)n.l[i]))} SAM_INLINE V
    LoadHalf(const uint16_t* p){SAM_LANES(HalfToFloat(p[i]))} SAM_INLINE V
    LoadBf16(const uint16_t* p){SAM_LANES(BitsToFloat((uint32_t)p[i] << 16))}
#undef SAM_LANES
SAM_INLINE void StoreInt8(int8_t* p, V x) {
  for (int i = 0; i < 16; i++) p[i] = (int8_t)x.l[i];
}
SAM_INLINE float Sum(V x) {
  float q[4];
  for (int i = 0; i < 4; i++) q[i] = (x.l[i] + x.l[i + 8]) + (x.l[i + 4] + x.l[i + 12]);
  return (q[0] + q[2]) + (q[1] + q[3]);
}
SAM_INLINE float MaxOf(V x) {
  float m = x.l[0];
  for (int i = 1; i < 16; i++) m = x.l[i] > m ? x.l[i] : m;
  return m;
}

#endif

SAM_INLINE V SumEach(const float* p) {
  float sums[16];
  for (int i = 0; i < 16; i++) sums[i] = Sum(Load(p + 16 * i));
  return Load(sums);
}
SAM_INLINE V Load(const float* p, int n) {
  float buffer[16];
  LoadTail(buffer, p, n);
  return Load(buffer);
}
SAM_INLINE void Store(float* p, V x, int n) {
  float buffer[16];
  Store(buffer, x);
  for (int i = 0; i < n && i < 16; i++) p[i] = buffer[i];
}
SAM_INLINE V LoadHalf(const uint16_t* p, int n) {
  uint16_t buffer[16];
  LoadTail(buffer, p, n);
  return LoadHalf(buffer);
}
SAM_INLINE V LoadBf16(const uint16_t* p, int n) {
  uint16_t buffer[16];
  LoadTail(buffer, p, n);
  return LoadBf16(buffer);
}

#endif

// exp with a relative error below 2e-7; 0 below -103, infinity is never reached for arguments up to 88.
SAM_INLINE V Exp(V x) {
  x = Min(Set(88.0f), Max(Set(-103.0f), x));  // in this order a NaN stays a NaN
  V n = Round(x * Set(1.44269504f));
  V r = Fma(n, Set(-0.693359375f), x);
  r = Fma(n, Set(2.12194440e-4f), r);
  V p = Fma(Set(1.39337068e-3f), r, Set(8.36318266e-3f));
  p = Fma(p, r, Set(4.16664630e-2f));
  p = Fma(p, r, Set(0.166665763f));
  p = Fma(p, r, Set(0.5f));
  p = Fma(p * r, r, r) + Set(1.0f);
  return Scale2(p, n);
}

// erf with a relative error below 1.5e-7: a polynomial near 0, else 1 - exp(polynomial). Both were fitted for
// this file.
SAM_INLINE V Erf(V x) {
  V t = Abs(x);
  V s = x * x;
  V near = Fma(Set(8.3549072e-5f), s, Set(-8.1396184e-4f));
  near = Fma(near, s, Set(5.2008145e-3f));
  near = Fma(near, s, Set(-2.6859337e-2f));
  near = Fma(near, s, Set(0.11283695f));
  near = Fma(near, s, Set(-0.37612635f));
  near = Fma(near, s, Set(0.12837917f));
  near = Fma(near, x, x);
  V u = Min(t, Set(4.0f));
  V far = Fma(Set(1.613661e-6f), u, Set(-4.5582627e-5f));
  far = Fma(far, u, Set(5.9270172e-4f));
  far = Fma(far, u, Set(-4.7399043e-3f));
  far = Fma(far, u, Set(2.6363818e-2f));
  far = Fma(far, u, Set(-0.10997668f));
  far = Fma(far, u, Set(-0.6319387f));
  far = Fma(far, u, Set(-1.1301658f));
  far = Fma(far, u, Set(3.0300207e-4f));
  far = CopySign(Set(1.0f) - Exp(far), x);
  return Larger(t, Set(0.9277f), far, near);
}

// What one register holds of the sixteen lanes. A loop that keeps many sums does one part after the other, so
// that they all stay in registers.
#if defined(__AVX512F__)
using Part = V;
SAM_INLINE Part ZeroPart() { return Zero(); }
SAM_INLINE Part SetPart(float x) { return Set(x); }
SAM_INLINE Part LoadPart(const float* p) { return Load(p); }
SAM_INLINE void StorePart(float* p, Part a) { Store(p, a); }
SAM_INLINE Part FmaPart(Part a, Part b, Part c) { return Fma(a, b, c); }
#elif defined(__AVX2__)
using Part = __m256;
SAM_INLINE Part ZeroPart() { return _mm256_setzero_ps(); }
SAM_INLINE Part SetPart(float x) { return _mm256_set1_ps(x); }
SAM_INLINE Part LoadPart(const float* p) { return _mm256_loadu_ps(p); }
SAM_INLINE void StorePart(float* p, Part a) { _mm256_storeu_ps(p, a); }
SAM_INLINE Part FmaPart(Part a, Part b, Part c) { return _mm256_fmadd_ps(a, b, c); }
#else
typedef float Part __attribute__((vector_size(16)));
SAM_INLINE Part ZeroPart() { return Part{}; }
SAM_INLINE Part SetPart(float x) { return Part{x, x, x, x}; }
SAM_INLINE Part LoadPart(const float* p) {
  Part a;
  __builtin_memcpy(&a, p, sizeof(a));
  return a;
}
SAM_INLINE void StorePart(float* p, Part a) { __builtin_memcpy(p, &a, sizeof(a)); }
SAM_INLINE Part FmaPart(Part a, Part b, Part c) { return a * b + c; }
#endif
constexpr int kPartLanes = (int)(sizeof(Part) / sizeof(float));

}  // namespace sam::SAM_ISA

#endif  // SAMENGINE_SIMD_H_

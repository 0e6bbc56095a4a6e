// Weights on their way into tensor cores. A product of 16 x 16 by 16 x 8 does not care in which order it
// takes the columns k, as long as both sides take the same: lane t of each four owns the run's columns [t
// kRun / 4, (t + 1) kRun / 4), which lie together in memory in every format, and gives four of them to each
// step.
#ifndef SAMENGINE_FRAGMENTS_H_
#define SAMENGINE_FRAGMENTS_H_

#include "tensor_core.h"
#include "weights.h"

namespace sam {

template <class A, class B>
constexpr bool kSame = false;
template <class A>
constexpr bool kSame<A, A> = true;

template <class S>
struct FloatFormat {
  static constexpr int kBits = 16;
  static constexpr bool kScaled = false;
};
struct Q8Format {
  static constexpr int kBits = 8;
  static constexpr bool kScaled = true;
};
struct Q4Format {
  static constexpr int kBits = 4;
  static constexpr bool kScaled = true;
};

// M(activation suffix, activation type, weight suffix, format) for every pair that tensor cores serve.
#define SAM_FOR_FRAGMENTS(M, suffix, T)                 \
  M(suffix, T, f16, ::sam::FloatFormat<::sam::Half>)    \
  M(suffix, T, bf16, ::sam::FloatFormat<::sam::BFloat>) \
  M(suffix, T, q8, ::sam::Q8Format)                     \
  M(suffix, T, q4, ::sam::Q4Format)

// Both levels of every byte of Q4 as a pair of floats, once for each lane, so that lookups never meet in a
// bank.
constexpr int kPairTable = 256 * kWarp;

template <class T>
SAM_DEVICE void FillPairTable(uint32_t* table) {
  for (int i = ThreadIndex(); i < kPairTable; i += BlockSize()) {
    int code = i / kWarp;
    table[i] = PackPair(T(), (float)Q4Level(code & 15), (float)Q4Level(code >> 4));
  }
}

// A lane's columns as pairs of T, kPairs of them, from kPairs * kBits / 16 words. Quantised: the levels.
template <class T, int kPairs, class S>
SAM_DEVICE void Expand(FloatFormat<S>, const uint32_t* raw, uint32_t (&pairs)[kPairs], const uint32_t*) {
  SAM_UNROLL
  for (int i = 0; i < kPairs; i++) {
    if constexpr (kSame<T, S>) {
      pairs[i] = raw[i];
    } else {
      pairs[i] = PackPair(T(), WidenAs(S(), raw[i]), WidenAs(S(), raw[i] >> 16));
    }
  }
}

// Bytes become the low bits of a large float whose lowest bit counts 1.
SAM_DEVICE uint32_t LevelPair(Half t, uint32_t bytes, uint32_t selector) {
  // 1024 + (level + 128) - 1152.
  return SubtractPairs(t, PermuteBytes(bytes ^ 0x80808080u, 0x64646464u, selector), 0x64806480u);
}
SAM_DEVICE uint32_t LevelPair(BFloat t, uint32_t bytes, uint32_t selector) {
  // 128 + the low seven bits, less 128 or, for a negative level, 256.
  return SubtractPairs(t, PermuteBytes(bytes & 0x7f7f7f7fu, 0x43434343u, selector),
                       PermuteBytes(bytes & 0x80808080u, 0x43434343u, selector));
}
template <class T, int kPairs>
SAM_DEVICE void Expand(Q8Format, const uint32_t* raw, uint32_t (&pairs)[kPairs], const uint32_t*) {
  SAM_UNROLL
  for (int i = 0; i < kPairs; i += 2) {
    pairs[i] = LevelPair(T(), raw[i / 2], 0x4140);
    pairs[i + 1] = LevelPair(T(), raw[i / 2], 0x4342);
  }
}
template <class T, int kPairs>
SAM_DEVICE void Expand(Q4Format, const uint32_t* raw, uint32_t (&pairs)[kPairs], const uint32_t* table) {
  constexpr uint32_t kBytes = 255 * kWarp * 4;
  SAM_UNROLL
  for (int i = 0; i < kPairs; i++) {
    // The byte, times 128; the lane's place is in the bits below.
    uint32_t at = i % 4 == 0 ? raw[i / 4] << 7 : raw[i / 4] >> (i % 4 * 8 - 7);
    pairs[i] = *(const uint32_t*)((const char*)table + ((at & kBytes) | Lane() * 4));
  }
}

// A lane's words of a run.
template <int kWords>
SAM_DEVICE void LoadWords(uint32_t (&to)[kWords], const void* from) {
  if constexpr (kWords >= 4) {
    SAM_UNROLL
    for (int i = 0; i < kWords / 4; i++) {
      Words4 v = LoadStreamed<Words4>((const Words4*)from + i);
      SAM_UNROLL
      for (int j = 0; j < 4; j++) to[4 * i + j] = v.w[j];
    }
  } else if constexpr (kWords == 2) {
    Words2 v = LoadStreamed<Words2>(from);
    to[0] = v.w[0];
    to[1] = v.w[1];
  } else {
    to[0] = LoadStreamed<uint32_t>(from);
  }
}

}  // namespace sam

#endif  // SAMENGINE_FRAGMENTS_H_

// Fills a weight matrix with random numbers of deviation 1 / sqrt(columns), the same ones for the same seed;
// only bench/gpu uses it. F32, F16, BF16: evenly spread around 0. Q8, Q4: every level as likely as the
// others, under scales that differ by up to a quarter, of Q4 half of them negative, as its levels have a mean
// of their own. What fills columns up becomes zero; rows behind the last stay as they are. Floor: the bytes
// of the matrix.
//
// Grid: any number of blocks; ceil(16-byte pieces of the matrix / block) of them give every thread one piece.
// Block: up to 256 threads. No shared memory.
#include "philox.h"

namespace sam {

// Root mean square of the levels: of -127 .. 127 where random bytes are cut off there, of Q4Level.
constexpr float kQ8Level = 73.47f;
constexpr float kQ4Level = 61.11f;
constexpr uint32_t kQ4Zero = 7;
constexpr float kSqrt3 = 1.7320508f;  // of evenly spread numbers: the largest by the deviation

// Words of one matrix: what they are for is part of the counter.
enum Purpose : uint32_t { kElements = 0, kScales = 1 };
SAM_DEVICE RandomWords Draw(const RandomWeightArguments& a, int64_t number, Purpose purpose) {
  return Philox((uint32_t)a.seed, (uint32_t)(a.seed >> 32), (uint32_t)number, (uint32_t)(number >> 32),
                purpose, 0);
}

// Makes elements of kBits out of as many random bits each: f(bits, number of the element).
template <int kBits, class F>
SAM_DEVICE void MakeElements(RandomWords& words, const F& f) {
  constexpr int kEach = 32 / kBits;
  SAM_UNROLL for (int i = 0; i < 4; i++) {
    uint32_t made = 0;
    SAM_UNROLL for (int j = 0; j < kEach; j++) {
      uint32_t bits = words.at[i] << (32 - kBits * (j + 1)) >> (32 - kBits);
      made |= f(bits, i * kEach + j) << (kBits * j);
    }
    words.at[i] = made;
  }
}

// Sixteen bytes of a row, of which `valid` elements lie in its columns.
SAM_DEVICE void MakePiece(int format, float deviation, int valid, RandomWords& words) {
  float unit = deviation * (kSqrt3 / 32768);
  switch (format) {
    case kWeightF32:
      return MakeElements<32>(words, [&](uint32_t bits, int i) {
        return i < valid ? FloatToBits((float)(int32_t)bits * (unit / 65536)) : 0;
      });
    case kWeightF16:
      return MakeElements<16>(words, [&](uint32_t bits, int i) {
        return i < valid ? (uint32_t)NarrowHalf((float)(int16_t)bits * unit) : 0;
      });
    case kWeightBF16:
      return MakeElements<16>(words, [&](uint32_t bits, int i) {
        return i < valid ? (uint32_t)NarrowBFloat((float)(int16_t)bits * unit) : 0;
      });
    case kWeightQ8:
      return MakeElements<8>(words,
                             [&](uint32_t bits, int i) { return i < valid && bits != 128 ? bits : 0; });
    default:
      return MakeElements<4>(words, [&](uint32_t bits, int i) { return i < valid ? bits : kQ4Zero; });
  }
}

SAM_DEVICE int PieceElements(int format) {
  return format == kWeightF32 ? 4 : format == kWeightQ8 ? 16 : format == kWeightQ4 ? 32 : 8;
}

}  // namespace sam

SAM_KERNEL(random_weight, RandomWeightArguments, 256) {
  using namespace sam;
  const Weight& w = a.weight;
  float deviation = 1 / Sqrt((float)w.columns);
  int each = PieceElements(a.format);
  int across = w.row_stride / each;
  int64_t pieces = (int64_t)w.rows * across;
  for (int64_t i = GridThread(); i < pieces; i += GridThreads()) {
    RandomWords words = Draw(a, i, kElements);
    MakePiece(a.format, deviation, w.columns - (int)(i % across) * each, words);
    ((RandomWords*)w.data)[i] = words;
  }
  int64_t scales = (int64_t)w.rows * w.groups;
  float scale = deviation * 128 / (a.format == kWeightQ8 ? kQ8Level : kQ4Level);
  for (int64_t i = GridThread(); i < scales; i += GridThreads()) {
    // Groups behind the last column keep theirs, which is zero.
    if (i % w.groups * w.group_size >= w.columns) continue;
    RandomWords words = Draw(a, i, kScales);
    float factor = 1 + (float)(int32_t)words.at[0] * (0.25f / 2147483648.0f);
    Put((Half*)w.scales + i, (a.format == kWeightQ4 && words.at[1] & 1 ? -scale : scale) * factor);
  }
}

// Attention on tensor cores: what a warp does with 16 query rows and some keys and values in shared memory.
// Scores never leave the registers.
#ifndef SAMENGINE_FLASH_H_
#define SAMENGINE_FLASH_H_

#include "tensor_core.h"

namespace sam {

constexpr int kFlashKeys = 64;  // keys of a tile
constexpr int kFlashWarps = 4;
constexpr int kFlashThreads = kFlashWarps * kWarp;
constexpr float kLog2E = 1.44269504f;

// A tile in shared memory: rows of kDim 16-bit elements, 16 bytes apart from a multiple of 128, so that eight
// rows lie in different banks.
template <int kDim>
constexpr int kFlashPitch = kDim + 8;
template <int kDim>
constexpr int kFlashTileBytes = kFlashKeys* kFlashPitch<kDim> * 2;

// Starts the copy of 64 rows of at most kDim columns; source(i) is row i, null where there is none: zeros.
template <int kDim, class T, class Source>
SAM_DEVICE void CopyFlashTile(T* tile, int width, const Source& source, const T* valid) {
  constexpr int kPieces = kDim / 8;
  for (int item = ThreadIndex(); item < kFlashKeys * kPieces; item += kFlashThreads) {
    int row = item / kPieces;
    int column = item % kPieces * 8;
    const T* from = source(row);
    bool there = from && column < width;
    CopyAsync<16>(tile + row * kFlashPitch<kDim> + column, there ? from + column : valid, there ? 16 : 0);
  }
}

// The running softmax of 16 rows: lane / 4 and lane / 4 + 8 are this lane's rows.
template <class T, int kDim>
struct FlashRows {
  static constexpr int kSteps = kDim / 16;

  uint32_t q[kSteps][4];
  float sums[kDim / 8][4];
  float largest[2], totals[2];

  // Queries from 16 rows of a tile.
  SAM_METHOD void Start(const T* rows) {
    SAM_UNROLL
    for (int s = 0; s < kSteps; s++) {
      LoadMatrices(q[s], rows + Lane() % 16 * kFlashPitch<kDim> + s * 16 + Lane() / 16 * 8, false);
    }
    SAM_UNROLL
    for (int i = 0; i < kDim / 2; i++) sums[i / 4][i % 4] = 0;
    largest[0] = largest[1] = -kInfinity;
    totals[0] = totals[1] = 0;
  }

  // Takes kKeys keys and values; sees(row 0 or 1 of the lane, key) says which count. `scale` includes log2 e.
  template <int kKeys, class Sees>
  SAM_METHOD void Take(const T* keys, const T* values, float scale, const Sees& sees) {
    float scores[kKeys / 8][4];
    SAM_UNROLL
    for (int n = 0; n < kKeys / 8; n += 2) {
      SAM_UNROLL
      for (int i = 0; i < 4; i++) scores[n][i] = scores[n + 1][i] = 0;
      SAM_UNROLL
      for (int s = 0; s < kSteps; s++) {
        uint32_t k[4];
        LoadMatrices(
            k,
            keys + (n * 8 + Lane() / 16 * 8 + Lane() % 8) * kFlashPitch<kDim> + s * 16 + Lane() / 8 % 2 * 8,
            false);
        MultiplyTiles<T>(scores[n], q[s], k[0], k[1]);
        MultiplyTiles<T>(scores[n + 1], q[s], k[2], k[3]);
      }
    }
    float top[2] = {largest[0], largest[1]};
    SAM_UNROLL
    for (int n = 0; n < kKeys / 8; n++) {
      SAM_UNROLL
      for (int i = 0; i < 4; i++) {
        scores[n][i] = sees(i / 2, n * 8 + Lane() % 4 * 2 + i % 2) ? scores[n][i] * scale : -kInfinity;
        top[i / 2] = Max(top[i / 2], scores[n][i]);
      }
    }
    float correction[2];
    SAM_UNROLL
    for (int r = 0; r < 2; r++) {
      top[r] = Max(top[r], ShuffleXor(top[r], 1));
      top[r] = Max(top[r], ShuffleXor(top[r], 2));
      float base = top[r] == -kInfinity ? 0.0f : top[r];  // nothing seen yet
      correction[r] = Exp2(largest[r] - base);
      largest[r] = top[r];
      top[r] = base;
      totals[r] *= correction[r];
    }
    SAM_UNROLL
    for (int n = 0; n < kKeys / 8; n++) {
      SAM_UNROLL
      for (int i = 0; i < 4; i++) {
        scores[n][i] = Exp2(scores[n][i] - top[i / 2]);
        totals[i / 2] += scores[n][i];
      }
    }
    SAM_UNROLL
    for (int i = 0; i < kDim / 2; i++) sums[i / 4][i % 4] *= correction[i % 4 / 2];
    SAM_UNROLL
    for (int n = 0; n < kKeys / 8; n += 2) {
      uint32_t p[4] = {PackPair(T(), scores[n][0], scores[n][1]), PackPair(T(), scores[n][2], scores[n][3]),
                       PackPair(T(), scores[n + 1][0], scores[n + 1][1]),
                       PackPair(T(), scores[n + 1][2], scores[n + 1][3])};
      SAM_UNROLL
      for (int d = 0; d < kDim / 8; d += 2) {
        uint32_t v[4];
        LoadMatrices(v, values + (n * 8 + Lane() % 16) * kFlashPitch<kDim> + (d + Lane() / 16) * 8, true);
        MultiplyTiles<T>(sums[d], p, v[0], v[1]);
        MultiplyTiles<T>(sums[d + 1], p, v[2], v[3]);
      }
    }
  }

  // Sums of exponentials over all keys, which four lanes share.
  SAM_METHOD void FinishTotals() {
    SAM_UNROLL
    for (int r = 0; r < 2; r++) {
      totals[r] += ShuffleXor(totals[r], 1);
      totals[r] += ShuffleXor(totals[r], 2);
    }
  }
};

}  // namespace sam

#endif  // SAMENGINE_FLASH_H_

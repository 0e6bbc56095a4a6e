// Attention of one query row and head by one warp, wherever keys and values lie.
#ifndef SAMENGINE_ATTENTION_ROWS_H_
#define SAMENGINE_ATTENTION_ROWS_H_

#include "device.h"

namespace sam {

constexpr int kKeyTile = 128;           // keys whose scores a warp holds in shared memory
constexpr int kColumnTile = 8 * kWarp;  // columns of the head whose sums it holds in registers

template <class T>
SAM_DEVICE float Dot(const T* a, const T* b, int count) {
  float sums[4] = {};
  int i = 0;
  for (; i + 3 < count; i += 4) {
    SAM_UNROLL
    for (int j = 0; j < 4; j++) sums[j] = Fma(ToFloat(a[i + j]), ToFloat(b[i + j]), sums[j]);
  }
  for (; i < count; i++) sums[0] = Fma(ToFloat(a[i]), ToFloat(b[i]), sums[0]);
  return sums[0] + sums[1] + (sums[2] + sums[3]);
}

// y = softmax(scale q k^T) v over `keys` keys with a running maximum. kv.Key(i) and kv.Value(i) point at the
// head's part of key and value i. `probabilities`, unless null, receives the softmax. `tile`: kKeyTile floats
// of the warp's own.
template <class T, class Kv>
SAM_DEVICE void AttendRow(const T* q, int width, int keys, const Kv& kv, float scale, T* y,
                          float* probabilities, float* tile) {
  // Wider heads than the registers hold take their scores anew for every part.
  for (int base = 0; base < width; base += kColumnTile) {
    float largest = -kInfinity;
    float total = 0;
    float sums[kColumnTile / kWarp] = {};
    for (int start = 0; start < keys; start += kKeyTile) {
      int count = Min(kKeyTile, keys - start);
      float scores[kKeyTile / kWarp];
      float top = largest;
      SAM_UNROLL
      for (int j = 0; j < kKeyTile / kWarp; j++) {
        int key = j * kWarp + Lane();
        scores[j] = key < count ? scale * Dot(q, kv.Key(start + key), width) : -kInfinity;
        top = Max(top, scores[j]);
        if (probabilities && key < count) probabilities[start + key] = scores[j];
      }
      top = WarpReduce<Largest>(top);
      float correction = Exp(largest - top);
      largest = top;
      total *= correction;
      SAM_UNROLL
      for (int j = 0; j < kKeyTile / kWarp; j++) {
        float e = Exp(scores[j] - largest);
        total += e;
        tile[j * kWarp + Lane()] = e;
      }
      SyncWarp();
      SAM_UNROLL
      for (int c = 0; c < kColumnTile / kWarp; c++) sums[c] *= correction;
      for (int key = 0; key < count; key++) {
        const T* v = kv.Value(start + key);
        float e = tile[key];
        SAM_UNROLL
        for (int c = 0; c < kColumnTile / kWarp; c++) {
          int column = base + c * kWarp + Lane();
          if (column < width) sums[c] = Fma(e, ToFloat(v[column]), sums[c]);
        }
      }
      SyncWarp();
    }
    total = WarpReduce<Add>(total);
    SAM_UNROLL
    for (int c = 0; c < kColumnTile / kWarp; c++) {
      int column = base + c * kWarp + Lane();
      if (column < width) Put(y + column, sums[c] / total);
    }
    if (probabilities && base == 0) {
      // Each lane finishes the scores it wrote.
      for (int key = Lane(); key < keys; key += kWarp) {
        probabilities[key] = Exp(probabilities[key] - largest) / total;
      }
      probabilities = nullptr;
    }
  }
}

}  // namespace sam

#endif  // SAMENGINE_ATTENTION_ROWS_H_

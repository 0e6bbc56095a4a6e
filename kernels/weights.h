// One row of a weight matrix in each format, element by element.
#ifndef SAMENGINE_WEIGHTS_H_
#define SAMENGINE_WEIGHTS_H_

#include "device.h"

// M(activation suffix, activation type, weight suffix, row type) for every pair.
#define SAM_FOR_WEIGHTS(M, suffix, T)                \
  M(suffix, T, f32, ::sam::FloatRow<float>)          \
  M(suffix, T, f16, ::sam::FloatRow<::sam::Half>)    \
  M(suffix, T, bf16, ::sam::FloatRow<::sam::BFloat>) \
  M(suffix, T, q8, ::sam::Q8Row)                     \
  M(suffix, T, q4, ::sam::Q4Row)

namespace sam {

// A weight is Value(k) * Scale(k). Scale is the same for 32 columns from a multiple of 32.
template <class T>
struct FloatRow {
  const T* data;

  SAM_DEVICE FloatRow At(const Weight& w, int row) {
    return {(const T*)w.data + (int64_t)row * w.row_stride};
  }
  SAM_METHOD float Value(int k) const { return ToFloat(data[k]); }
  SAM_METHOD float Scale(int) const { return 1.0f; }
};

struct Q8Row {
  const int8_t* data;
  const Half* scales;
  int group_size;

  SAM_DEVICE Q8Row At(const Weight& w, int row) {
    return {(const int8_t*)w.data + (int64_t)row * w.row_stride,
            (const Half*)w.scales + (int64_t)row * w.groups, w.group_size};
  }
  SAM_METHOD float Value(int k) const { return (float)data[k]; }
  SAM_METHOD float Scale(int k) const { return ToFloat(scales[k / group_size]) * (1.0f / 128); }
};

// Level of a nibble: QuantizedLayout.Levels, eight in each word.
SAM_DEVICE int Q4Level(uint32_t nibble) {
  // -100 -77 -59 -45 -32 -20 -10 0 | 10 20 30 42 56 73 95 127, the first in the lowest byte.
  uint64_t levels = nibble & 8 ? 0x7f5f49382a1e140aull : 0x00f6ece0d3c5b39cull;
  return (int8_t)(levels >> ((nibble & 7) * 8));
}

struct Q4Row {
  const uint8_t* data;
  const Half* scales;
  int group_size;

  SAM_DEVICE Q4Row At(const Weight& w, int row) {
    return {(const uint8_t*)w.data + (int64_t)row * w.row_stride / 2,
            (const Half*)w.scales + (int64_t)row * w.groups, w.group_size};
  }
  SAM_METHOD float Value(int k) const { return (float)Q4Level((uint32_t)data[k / 2] >> (k % 2 * 4) & 15); }
  SAM_METHOD float Scale(int k) const { return ToFloat(scales[k / group_size]) * (1.0f / 128); }
};

}  // namespace sam

#endif  // SAMENGINE_WEIGHTS_H_

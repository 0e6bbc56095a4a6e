// Operations that touch each element once: add, copy and gather, patches, SwiGLU.
#include "kernels.h"
#include "simd.h"

namespace sam::SAM_ISA {

void Add(const void* args, int64_t begin, int64_t end, void*) {
  const AddArgs* a = (const AddArgs*)args;
  int n = a->x->columns;
  for (int64_t row = begin; row < end; row++) {
    const float* x = RowOf(a->x, row);
    const float* b = RowOf(a->addend, row);
    float* y = RowOf(a->y, row);
    for (int i = 0; i < n; i += 16) Store(y + i, Load(x + i, n - i) + Load(b + i, n - i), n - i);
  }
}

// Copies 32-bit elements; also rows chosen by index.
void Copy(const void* args, int64_t begin, int64_t end, void*) {
  const CopyArgs* a = (const CopyArgs*)args;
  int64_t bytes = (int64_t)a->destination->columns * 4;
  for (int64_t row = begin; row < end; row++) {
    const float* x = RowOf(a->source, a->indices ? a->indices[row] : row);
    __builtin_memmove(RowOf(a->destination, row), x, (size_t)bytes);
  }
}

void ExtractPatches(const void* args, int64_t begin, int64_t end, void*) {
  const PatchArgs* a = (const PatchArgs*)args;
  int side = a->pixels->columns;
  int patch = a->patch;
  int across = side / patch;
  for (int64_t row = begin; row < end; row++) {
    int64_t image = row / a->y->rows;
    int place = (int)(row % a->y->rows);
    float* y = RowOf(a->y, row);
    for (int c = 0; c < a->channels; c++) {
      for (int i = 0; i < patch; i++) {
        int64_t line = (int64_t)c * side + place / across * patch + i;
        const float* from = a->pixels->data + image * a->pixels->batch_stride + line * a->pixels->row_stride +
                            place % across * patch;
        __builtin_memcpy(y, from, (size_t)patch * 4);
        y += patch;
      }
    }
  }
}

void SwiGlu(const void* args, int64_t begin, int64_t end, void*) {
  const SwiGluArgs* a = (const SwiGluArgs*)args;
  int n = a->y->columns;
  for (int64_t row = begin; row < end; row++) {
    const float* gate = RowOf(a->gate_up, row);
    const float* up = gate + n;
    float* y = RowOf(a->y, row);
    for (int i = 0; i < n; i += 16) {
      V g = Load(gate + i, n - i);
      V silu = g / (Set(1.0f) + Exp(Zero() - g));
      Store(y + i, silu * Load(up + i, n - i), n - i);
    }
  }
}

}  // namespace sam::SAM_ISA

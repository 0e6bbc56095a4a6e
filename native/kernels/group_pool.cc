// Adaptive adjustment (paper, part B): a logit per image and position, softmax over the images of the group,
// weighted sum. One pass per position: the features of a position are read twice while they are in the cache.
#include "kernels.h"
#include "simd.h"

namespace sam::SAM_ISA {

void GroupPool(const void* args, int64_t begin, int64_t end, void* scratch) {
  const GroupPoolArgs* a = (const GroupPoolArgs*)args;
  const sam_view* f = a->features;
  int n = f->columns;
  int images = f->batch;
  float* w = (float*)scratch;
  for (int64_t p = begin; p < end; p++) {
    float largest = -__builtin_inff();
    for (int j = 0; j < images; j++) {
      const float* x = f->data + j * f->batch_stride + p * f->row_stride;
      V sum = Zero();
      for (int i = 0; i < n; i += 16) sum = Fma(Load(x + i, n - i), Load(a->weight + i, n - i), sum);
      w[j] = Sum(sum) + a->bias[0];
      if (w[j] > largest) largest = w[j];
    }
    float total = 0;
    for (int j = 0; j < images; j++) {
      float lanes[16];
      Store(lanes, Exp(Set(w[j] - largest)));
      w[j] = lanes[0];
      total += w[j];
    }
    for (int j = 0; j < images; j++) {
      w[j] /= total;
      if (a->weights) a->weights->data[j * a->weights->row_stride + p] = w[j];
    }
    float* y = a->context->data + p * a->context->row_stride;
    for (int i = 0; i < n; i += 16) {
      V sum = Zero();
      for (int j = 0; j < images; j++) {
        const float* x = f->data + j * f->batch_stride + p * f->row_stride;
        sum = Fma(Set(w[j]), Load(x + i, n - i), sum);
      }
      Store(y + i, sum, n - i);
    }
  }
}

}  // namespace sam::SAM_ISA

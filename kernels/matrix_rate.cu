// The rate of mma.sync on registers, bf16 with fp32 sums: no memory but the result, which nothing reads. What
// a GPU's tensor cores give at most to kernels of this kind; bench/gpu measures it.
//
// Launch: any grid; block of 256. Each warp does `rounds` times 8 products of 16 x 16 by 16 x 8.
#include "device.h"
#include "tensor_core.h"

namespace {

constexpr int kChains = 8;  // enough independent sums to hide an instruction's latency

}

SAM_KERNEL(matrix_rate, MatrixRateArguments, 256) {
  using namespace sam;
  float sums[kChains][4] = {};
  uint32_t seed = 0x3f803f80u + (uint32_t)ThreadIndex();
  uint32_t x[4] = {seed, seed + 1, seed + 2, seed + 3};
  for (int round = 0; round < a.rounds; round++) {
    for (int i = 0; i < kChains; i++) MultiplyTiles<BFloat>(sums[i], x, seed + i, seed - i);
  }
  float total = 0;
  for (int i = 0; i < kChains; i++) total += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
  a.result[BlockIndex() * BlockSize() + ThreadIndex()] = total;
}

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"): four random words of a key
// and a counter; the same numbers as src/SamEngine/Compute/Philox.cs.
#ifndef SAMENGINE_PHILOX_H_
#define SAMENGINE_PHILOX_H_

#include "device.h"

namespace sam {

struct alignas(16) RandomWords {
  uint32_t at[4];
};

SAM_DEVICE RandomWords Philox(uint32_t k0, uint32_t k1, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = 0xD2511F53ull * c0;
    uint64_t p1 = 0xCD9E8D57ull * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace sam

#endif  // SAMENGINE_PHILOX_H_

// cuTensorMapEncodeTiled: checks what the driver checks of the maps that the backend makes, and writes the
// shape down. No kernel of the emulator reads it.
#include <string.h>

#include "driver.h"
#include "memory.h"

using namespace sam::emulator;

namespace {

constexpr unsigned kRank = 2;
constexpr int kFloat16 = 6, kBFloat16 = 9;  // CUtensorMapDataType
constexpr int kElement = 2;
constexpr int kSwizzle128 = 3;  // CU_TENSOR_MAP_SWIZZLE_128B
constexpr int kMapBytes = 128;

struct Encoded {
  void* data;
  uint64_t sizes[kRank], stride;
  uint32_t box[kRank];
  int32_t type;
};
static_assert(sizeof(Encoded) <= kMapBytes);

}  // namespace

SAM_DRIVER cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* data, const uint64_t* sizes,
                                  const uint64_t* strides, const uint32_t* box,
                                  const uint32_t* element_strides, int interleave, int swizzle, int, int) {
  if (int status = Begin("cuTensorMapEncodeTiled")) return status;
  if ((uintptr_t)map % 64 != 0 || (type != kFloat16 && type != kBFloat16) || rank != kRank ||
      (uintptr_t)data % 16 != 0 || strides[0] % 16 != 0 || strides[0] >= 1ull << 40 || interleave != 0 ||
      swizzle != kSwizzle128 || box[0] * kElement > 128) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (unsigned i = 0; i < kRank; i++) {
    if (sizes[i] == 0 || sizes[i] > 1ull << 32 || box[i] == 0 || box[i] > 256 || element_strides[i] != 1) {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  if (!Memory::Instance().Contains(data, (sizes[1] - 1) * strides[0] + sizes[0] * kElement)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Encoded encoded = {data, {sizes[0], sizes[1]}, strides[0], {box[0], box[1]}, type};
  memset(map, 0, kMapBytes);
  memcpy(map, &encoded, sizeof encoded);
  return 0;
}

#include "kernels.h"

namespace sam::SAM_ISA {
extern const KernelTable table;
const KernelTable table = {kDirectRows,   Linear,         RmsNorm,        LayerNorm,    Embedding,
                           Add,           Copy,           ExtractPatches, Attention,    GroupPool,
                           RotaryStoreKv, PagedAttention, SwiGlu,         QuantizeRows, QuantizedLinear,
                           nullptr,       nullptr};
}  // namespace sam::SAM_ISA

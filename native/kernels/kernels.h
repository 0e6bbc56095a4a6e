// What a kernel file gives to the dispatcher: one function per operation over a range of independent pieces
// of work. Kernel files are compiled once per instruction set, each copy in its own namespace SAM_ISA, and
// include no standard library code, so that the linker cannot replace one copy's helper by another's.
#ifndef SAMENGINE_KERNELS_H_
#define SAMENGINE_KERNELS_H_

#include <stdint.h>

#include "../include/samengine_cpu.h"

namespace sam {

// What is done with the sums of a linear layer: y = activation(sums + bias) + residual.
struct Epilogue {
  const sam_view *y, *residual;
  const float* bias;
  int32_t activation;
};

struct LinearArgs {
  const sam_view* x;
  const sam_weight* w;
  Epilogue epilogue;
  int64_t row_block;     // rows of x that a piece of work covers
  int64_t row_blocks;    // pieces along the rows
  int64_t column_block;  // output columns that a piece covers
  int64_t stretch;  // columns of x that a packed panel covers, a multiple of 16; 0: weights are not packed
};

// Rows of x as 8-bit codes with a scale per group: x = code * scale / kScaleUnit, so that (weights.h) a
// product of codes and scales needs no further factor.
struct QuantizedRows {
  int8_t* codes;     // [groups, rows, group_size]
  float* scales;     // [groups, rows]; NaN where the group holds a NaN or infinity
  int32_t* offsets;  // [groups, rows]: -128 times the sum of the group's codes
  int64_t rows, groups;
  int32_t group_size;
};

struct QuantizeRowsArgs {
  const sam_view* x;
  QuantizedRows rows;
};

struct QuantizedLinearArgs {
  QuantizedRows x;
  const sam_weight* w;
  Epilogue epilogue;
  int64_t row_block;      // rows of x that a piece of work covers
  int64_t row_blocks;     // pieces along the rows
  int64_t column_pieces;  // and along the weight rows, of whole panels
};

// Rows of x in bf16, [rows, columns], zeros behind x's.
struct Bf16Rows {
  uint16_t* values;
  int64_t columns;
};

struct Bf16RowsArgs {
  const sam_view* x;
  Bf16Rows rows;
};

struct Bf16LinearArgs {
  Bf16Rows x;
  const sam_weight* w;
  Epilogue epilogue;
  int64_t rows, row_block, row_blocks;  // rows of x, and as above
  int64_t column_block;                 // output columns that a piece covers
};

struct NormArgs {
  const sam_view *x, *y;
  const float *gain, *bias;
  float eps;
};

struct EmbeddingArgs {
  const sam_weight* table;
  const int32_t* ids;
  const sam_view* y;
};

struct AddArgs {
  const sam_view *x, *addend, *y;
};

struct CopyArgs {
  const sam_view *source, *destination;
  const int32_t* indices;  // rows of the source, or null for the same row
};

struct PatchArgs {
  const sam_view *pixels, *y;
  int32_t channels, patch;
};

struct AttentionArgs {
  const sam_view *q, *k, *v, *y, *probabilities;
  int32_t heads;
  float scale;
  int64_t row_block;  // rows of q that a piece of work covers
};

struct GroupPoolArgs {
  const sam_view *features, *context, *weights;
  const float *weight, *bias;
};

struct RotaryArgs {
  const sam_view *qkv, *cos_sin;
  const sam_kv_cache* cache;
  const sam_layout* layout;
  int32_t layer, heads;
};

struct PagedAttentionArgs {
  const sam_view *q, *y;
  const sam_kv_cache* cache;
  const sam_layout* layout;
  int32_t layer, heads, max_context;
  float scale;
};

struct SwiGluArgs {
  const sam_view *gate_up, *y;
};

// Pieces of work: linear layers: row_blocks x column blocks; norms, quantisation, embedding, add, copy,
// patches, swiglu, rotary: rows; attention: batch x heads x row blocks; group pool: positions; paged
// attention: heads x rows.
struct KernelTable {
  int64_t direct_rows;  // most rows of x for which a linear layer does not pack its weights
  void (*linear)(const void*, int64_t, int64_t, void*);
  void (*rms_norm)(const void*, int64_t, int64_t, void*);
  void (*layer_norm)(const void*, int64_t, int64_t, void*);
  void (*embedding)(const void*, int64_t, int64_t, void*);
  void (*add)(const void*, int64_t, int64_t, void*);
  void (*copy)(const void*, int64_t, int64_t, void*);
  void (*extract_patches)(const void*, int64_t, int64_t, void*);
  void (*attention)(const void*, int64_t, int64_t, void*);
  void (*group_pool)(const void*, int64_t, int64_t, void*);
  void (*rotary_store_kv)(const void*, int64_t, int64_t, void*);
  void (*paged_attention)(const void*, int64_t, int64_t, void*);
  void (*swiglu)(const void*, int64_t, int64_t, void*);
  void (*quantize_rows)(const void*, int64_t, int64_t, void*);
  void (*quantized_linear)(const void*, int64_t, int64_t, void*);
  void (*bf16_rows)(const void*, int64_t, int64_t, void*);    // null: bf16 weights are widened to fp32
  void (*bf16_linear)(const void*, int64_t, int64_t, void*);  // goes with bf16_rows
};

constexpr int64_t kAttentionRows = 24;  // rows whose scores wait together, a multiple of a tile's six
constexpr int64_t kKeyBlock = 64;       // keys whose transpose lies together, a multiple of every tile

// Bytes: keys transposed, values, and of some rows the scores and results.
inline int64_t AttentionScratch(int64_t keys, int64_t head_dim) {
  int64_t padded = (keys + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
  int64_t width = (head_dim + 15) / 16 * 16;
  return (padded * head_dim + keys * width + kAttentionRows * (padded + width)) * 4;
}

// Floats between the scores of two rows, of which the paged kernel has four.
inline int64_t PagedScoreStride(int64_t longest) { return longest + 16; }

// So many rows of a sequence pay for a copy of a head's keys and values, which in the cache lie a whole row
// apart, a power of two: they would share few sets of the processor's caches.
constexpr int64_t kPackedRows = 16;

// Bytes: scores of four rows, and where there can be such a copy, keys and values of a head.
inline int64_t PagedScratch(int64_t rows, int64_t longest, int64_t head_dim) {
  return (4 * PagedScoreStride(longest) + (rows >= kPackedRows ? 2 * longest * head_dim : 0)) * 4;
}

constexpr int64_t kWeightRows = 4;     // weight rows that a linear layer of few rows reads together
constexpr int64_t kPanelColumns = 48;  // weight rows of a packed panel, a multiple of 16 and of every tile

constexpr int64_t kBlockRows = 16;           // weight rows that lie interleaved in a quantised matrix
constexpr int64_t kPanelBlocks = 4;          // such blocks of a panel, a multiple of every tile
constexpr int64_t kStretchBytes = 32 << 10;  // of a panel's weights that stay in the first cache
constexpr int64_t kBf16Columns = 48;         // weight rows of a panel of the bf16 kernel, a multiple of 16

namespace scalar {
extern const KernelTable table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const KernelTable table;
}
namespace avx512 {
extern const KernelTable table;
}
// These two have only what differs from AVX-512.
namespace avx512_vnni {
void QuantizedLinear(const void*, int64_t, int64_t, void*);
}
namespace avx512_bf16 {
void ToBf16Rows(const void*, int64_t, int64_t, void*);
void Bf16Linear(const void*, int64_t, int64_t, void*);
}  // namespace avx512_bf16
#endif

// Address of row r of all rows of a view, counted over the batch.
inline __attribute__((always_inline)) float* RowOf(const sam_view* v, int64_t r) {
  return v->data + (r / v->rows) * v->batch_stride + (r % v->rows) * v->row_stride;
}

}  // namespace sam

#ifdef SAM_ISA
namespace sam::SAM_ISA {
// With sixteen registers a tile of unpacked weights spills: packing pays sooner.
#if defined(__AVX512F__)
constexpr int64_t kDirectRows = 24;
#else
constexpr int64_t kDirectRows = 6;
#endif

void Linear(const void*, int64_t, int64_t, void*);
void RmsNorm(const void*, int64_t, int64_t, void*);
void LayerNorm(const void*, int64_t, int64_t, void*);
void Embedding(const void*, int64_t, int64_t, void*);
void Add(const void*, int64_t, int64_t, void*);
void Copy(const void*, int64_t, int64_t, void*);
void ExtractPatches(const void*, int64_t, int64_t, void*);
void Attention(const void*, int64_t, int64_t, void*);
void GroupPool(const void*, int64_t, int64_t, void*);
void RotaryStoreKv(const void*, int64_t, int64_t, void*);
void PagedAttention(const void*, int64_t, int64_t, void*);
void SwiGlu(const void*, int64_t, int64_t, void*);
void QuantizeRows(const void*, int64_t, int64_t, void*);
void QuantizedLinear(const void*, int64_t, int64_t, void*);
}  // namespace sam::SAM_ISA
#endif

#endif  // SAMENGINE_KERNELS_H_

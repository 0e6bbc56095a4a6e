// What kernels are given: every kernel takes exactly one of these structs by value. Shapes are [batch, rows,
// columns], strides in elements, columns contiguous. The host has checked shapes, ranges and types;
// src/SamEngine.Cuda mirrors these structs, and the size of each is compared when a kernel is loaded.
#ifndef SAMENGINE_ARGUMENTS_H_
#define SAMENGINE_ARGUMENTS_H_

#include <stdint.h>

enum ElementType : int32_t { kF32 = 0, kF16 = 1, kBF16 = 2, kI32 = 3 };
enum WeightFormat : int32_t { kWeightF32 = 0, kWeightF16 = 1, kWeightBF16 = 2, kWeightQ8 = 3, kWeightQ4 = 4 };
enum Activation : int32_t { kNone = 0, kGelu = 1 };

// A window on a buffer; data is its first element, null where an optional view was not given.
struct View {
  void* data;
  int32_t batch, rows, columns, type;
  int64_t batch_stride, row_stride;
};
static_assert(sizeof(View) == 40);

// A weight matrix. F32, F16, BF16: [rows, row_stride]. Q8: signed bytes [rows, row_stride], the levels. Q4:
// nibbles [rows, row_stride / 2], column 8 w + j in bits 4 j .. 4 j + 3 of a row's w-th little-endian 32-bit
// word: the number of the level (QuantizedLayout.Levels). A quantised weight is level * scale / 128. Columns
// behind `columns` are zero, as are rows up to the next multiple of 64, so that a tile may read past the end.
struct Weight {
  const void* data;
  const void* scales;  // fp16 [rows, groups]; null for the floating-point formats
  int32_t rows, columns;
  int32_t row_stride;  // columns from row to row: a multiple of 64 and of the group size
  int32_t group_size, groups, padding;
};
static_assert(sizeof(Weight) == 40);

// Keys and values of the activation type, each [layers, blocks, block_size, heads * head_dim].
struct KvCache {
  void *keys, *values;
  int32_t layers, heads, head_dim, block_size, blocks, padding;
};
static_assert(sizeof(KvCache) == 40);

// Where the rows of a language-model step lie (StepLayout.cs).
struct StepLayout {
  const int32_t *positions, *slots, *row_starts, *block_table;
  int64_t block_table_stride;
  int32_t rows, sequences;
  int32_t most_blocks;  // columns of the block table
  int32_t padding;
};
static_assert(sizeof(StepLayout) == 56);

struct LinearArguments {
  View x, y, residual;
  Weight weight;
  const float* bias;  // null: none
  // Split along K (linear_mma, linear_wgmma): sums of every split [splits, rows, columns of y rounded up to a
  // tile], and one zero per tile, which the kernel leaves zero. Null with splits = 1. linear_few64 has its
  // own partials and splits.
  float* partials;
  int32_t* tickets;
  int32_t activation, splits;
};
static_assert(sizeof(LinearArguments) == 192);

// CUtensorMap: how the copy engine reads boxes of a matrix.
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};
// linear_wgmma: besides, maps of x and W with the boxes that the kernel wants.
struct WgmmaArguments {
  TensorMap x_map, w_map;
  LinearArguments linear;
};
static_assert(sizeof(WgmmaArguments) == 448);

struct NormArguments {
  View x, y;
  const float *gain, *bias;  // bias: layer_norm only
  float eps;
  int32_t padding;
};
static_assert(sizeof(NormArguments) == 104);

struct EmbeddingArguments {
  Weight table;
  View y;
  const int32_t* ids;
};
static_assert(sizeof(EmbeddingArguments) == 88);

struct AddArguments {
  View x, addend, y;
};
static_assert(sizeof(AddArguments) == 120);

struct CopyArguments {
  View source, destination;
};
static_assert(sizeof(CopyArguments) == 80);

struct GatherArguments {
  View x, y;
  const int32_t* indices;
};
static_assert(sizeof(GatherArguments) == 88);

struct PatchArguments {
  View pixels, y;
  int32_t channels, patch;
};
static_assert(sizeof(PatchArguments) == 88);

struct AttentionArguments {
  View q, k, v, y;
  View probabilities;  // F32 [batch * heads, rows, keys]; data null: not wanted
  int32_t heads;
  float scale;
};
static_assert(sizeof(AttentionArguments) == 208);

struct GroupPoolArguments {
  View features, context;
  View weights;  // F32 [1, images, positions]; data null: not wanted
  const float *weight, *bias;
};
static_assert(sizeof(GroupPoolArguments) == 136);

struct RotaryStoreArguments {
  View qkv, cos_sin;
  KvCache cache;
  StepLayout layout;
  int32_t layer, heads;
};
static_assert(sizeof(RotaryStoreArguments) == 184);

struct PagedAttentionArguments {
  View q, y;
  KvCache cache;
  StepLayout layout;
  // Split along the keys (paged_decode only): per row, head and split a maximum, a sum, and head_dim sums;
  // and zeros that the kernel leaves zero. Null for the others.
  float* partials;
  int32_t* tickets;
  int32_t layer, heads;
  float scale;
  int32_t splits;
};
static_assert(sizeof(PagedAttentionArguments) == 208);

struct CopyBlocksArguments {
  KvCache cache;
  const int32_t* pairs;  // [count, 2]: source block, destination block
  int32_t count, padding;
};
static_assert(sizeof(CopyBlocksArguments) == 56);

struct SwiGluArguments {
  View gate_up, y;
};
static_assert(sizeof(SwiGluArguments) == 80);

// As SelectionGroup.cs.
struct SelectionGroup {
  int32_t first_row, row_count, use_log_probs, sample;
  float repetition_penalty, temperature;
  int32_t top_k;
  float top_p;
  int32_t min_tokens_to_keep;
  uint32_t seed_low, seed_high, step;
};
static_assert(sizeof(SelectionGroup) == 48);

// select_rows, then select_groups, with the same arguments.
struct SelectionArguments {
  View logits;  // F32 [1, r, vocabulary]
  const SelectionGroup* groups;
  const int32_t* logit_rows;
  const float* row_scores;
  const int32_t *penalty_ids, *banned_ids;
  float* scores;  // outputs [groups, candidates], non_finite [groups]
  int32_t *rows, *tokens, *non_finite;
  // Scratch between the two: scores of the rows [rows, vocabulary]; each row's best in order [rows,
  // candidates]: sort key, score, token; how many they are, and whether all logits of the row are finite
  // [rows].
  float* row_values;
  float *best_keys, *best_scores;
  int32_t *best_tokens, *best_counts, *finite;
  int64_t penalty_stride, banned_stride;
  int32_t group_count, row_count, penalty_columns, banned_columns, candidates, padding;
};
static_assert(sizeof(SelectionArguments) == 200);

struct TokenLogProbsArguments {
  View logits;  // F32 [1, n, vocabulary]
  const int32_t* targets;
  float* y;
};
static_assert(sizeof(TokenLogProbsArguments) == 56);

struct MatrixRateArguments {
  float* result;  // one per thread
  int32_t rounds, padding;
};
static_assert(sizeof(MatrixRateArguments) == 16);

struct RandomWeightArguments {
  Weight weight;  // is written
  int32_t format, padding;
  uint64_t seed;
};
static_assert(sizeof(RandomWeightArguments) == 56);

#endif  // SAMENGINE_ARGUMENTS_H_

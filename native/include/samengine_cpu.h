// C ABI of the native CPU backend. Every function returns a status and never throws or aborts. Pointers and
// lengths are validated by the caller (the managed ComputeQueue); shapes are [batch, rows, columns] with
// strides in elements.
#ifndef SAMENGINE_CPU_H_
#define SAMENGINE_CPU_H_

#include <stddef.h>
#include <stdint.h>

#define SAM_ABI_VERSION 3
#define SAM_API extern "C" __attribute__((visibility("default")))

typedef enum { SAM_OK = 0, SAM_INVALID = 1, SAM_OUT_OF_MEMORY = 2, SAM_UNSUPPORTED = 3 } sam_status;
typedef enum { SAM_F32 = 0, SAM_F16 = 1, SAM_BF16 = 2, SAM_Q8 = 3, SAM_Q4 = 4 } sam_format;
// Each one contains those before it.
typedef enum {
  SAM_SCALAR = 0,
  SAM_AVX2 = 1,
  SAM_AVX512 = 2,
  SAM_AVX512_VNNI = 3,
  SAM_AVX512_BF16 = 4,
} sam_isa;

typedef struct {
  float* data;  // first element; null: not given
  int32_t batch, rows, columns, padding;
  int64_t batch_stride, row_stride;
} sam_view;

// Rows of a weight matrix that lie together. Quantised parts: see QuantizedLayout.cs.
typedef struct {
  const void* data;
  int32_t rows, padding;
} sam_part;

typedef struct {
  const sam_part* parts;
  int32_t part_count, rows, columns, format, group_size, padding;
} sam_weight;

typedef struct {
  float *keys, *values;  // [layers, blocks, block_size, heads * head_dim]
  int32_t layers, heads, head_dim, block_size, blocks, padding;
} sam_kv_cache;

typedef struct {
  const int32_t *positions, *slots, *row_starts, *block_table;
  int32_t rows, sequences;
  int64_t block_table_stride;
} sam_layout;

typedef struct sam_context sam_context;

SAM_API int32_t sam_abi_version();
// Best instruction set of this machine.
SAM_API int32_t sam_cpu_best_isa();
// Threads: at least 1. SAM_UNSUPPORTED when the machine lacks the instruction set.
SAM_API int32_t sam_cpu_create(int32_t isa, int32_t threads, sam_context** context);
SAM_API void sam_cpu_destroy(sam_context* context);

// No operation may touch these bytes: a build with AddressSanitizer watches them until they are freed; no
// other build does anything.
SAM_API void sam_cpu_guard(void* memory, int64_t bytes);

SAM_API int32_t sam_cpu_linear(sam_context*, const sam_view* x, const sam_weight* w, const sam_view* y,
                               const float* bias, int32_t activation, const sam_view* residual);
SAM_API int32_t sam_cpu_rms_norm(sam_context*, const sam_view* x, const float* gain, float eps,
                                 const sam_view* y);
SAM_API int32_t sam_cpu_layer_norm(sam_context*, const sam_view* x, const float* gain, const float* bias,
                                   float eps, const sam_view* y);
SAM_API int32_t sam_cpu_embedding(sam_context*, const sam_weight* table, const int32_t* ids,
                                  const sam_view* y);
SAM_API int32_t sam_cpu_add(sam_context*, const sam_view* x, const sam_view* addend, const sam_view* y);
SAM_API int32_t sam_cpu_copy(sam_context*, const sam_view* source, const sam_view* destination);
SAM_API int32_t sam_cpu_gather_rows(sam_context*, const sam_view* x, const int32_t* indices,
                                    const sam_view* y);
SAM_API int32_t sam_cpu_extract_patches(sam_context*, const sam_view* pixels, int32_t channels, int32_t patch,
                                        const sam_view* y);
SAM_API int32_t sam_cpu_attention(sam_context*, const sam_view* q, const sam_view* k, const sam_view* v,
                                  int32_t heads, float scale, const sam_view* y,
                                  const sam_view* probabilities);
SAM_API int32_t sam_cpu_group_pool(sam_context*, const sam_view* features, const float* weight,
                                   const float* bias, const sam_view* context_out, const sam_view* weights);
SAM_API int32_t sam_cpu_rotary_store_kv(sam_context*, const sam_view* qkv, const sam_kv_cache* cache,
                                        int32_t layer, int32_t heads, const sam_view* cos_sin,
                                        const sam_layout* layout);
SAM_API int32_t sam_cpu_paged_attention(sam_context*, const sam_view* q, const sam_kv_cache* cache,
                                        int32_t layer, int32_t heads, float scale, const sam_layout* layout,
                                        const sam_view* y);
SAM_API int32_t sam_cpu_copy_kv_blocks(sam_context*, const sam_kv_cache* cache, const int32_t* pairs,
                                       int32_t count);
SAM_API int32_t sam_cpu_swiglu(sam_context*, const sam_view* gate_up, const sam_view* y);

// Mirrors SelectionGroup (managed): per-group parameters of token selection.
typedef struct {
  int32_t first_row, row_count, use_log_probs, sample;
  float repetition_penalty, temperature;
  int32_t top_k;
  float top_p;
  int32_t min_tokens_to_keep;
  uint32_t seed_low, seed_high, step;
} sam_selection_group;

typedef struct {
  const sam_selection_group* groups;
  const int32_t* logit_rows;
  const float* row_scores;
  const int32_t* penalty_ids;
  const int32_t* banned_ids;
  float* scores;
  int32_t *rows, *tokens, *non_finite;
  int64_t penalty_stride, banned_stride;
  int32_t group_count, penalty_columns, banned_columns, candidates;
} sam_selection;

SAM_API int32_t sam_cpu_select_tokens(sam_context*, const sam_view* logits, const sam_selection* selection);
SAM_API int32_t sam_cpu_token_log_probs(sam_context*, const sam_view* logits, const int32_t* targets,
                                        float* y);

#endif  // SAMENGINE_CPU_H_

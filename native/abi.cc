// The C ABI: picks the instruction set and cuts operations into pieces for the pool.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <system_error>

#include "include/samengine_cpu.h"
#include "kernels/kernels.h"
#include "pool.h"
#include "select_tokens.h"

struct sam_context {
  explicit sam_context(int threads) : pool(threads) {}
  sam::Pool pool;
  const sam::KernelTable* kernels = nullptr;
};

namespace {

int32_t BestIsa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return SAM_AVX512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    return SAM_AVX2;
#endif
  return SAM_SCALAR;
}

int64_t RowCount(const sam_view* v) { return (int64_t)v->batch * v->rows; }

// Pieces of at least about 4000 elements, so that small operations stay on one thread.
int64_t RowGrain(const sam_context* c, int64_t rows, int64_t elements_per_row) {
  int64_t least = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, elements_per_row));
  return std::max(least, rows / (c->pool.threads() * 4));
}

template <typename Args>
int32_t Run(sam_context* c, sam::RangeFunction f, const Args& args, int64_t count, int64_t grain,
            int64_t scratch = 0) {
  try {
    return c->pool.Run(f, &args, count, grain, scratch) ? SAM_OK : SAM_OUT_OF_MEMORY;
  } catch (const std::bad_alloc&) {
    return SAM_OUT_OF_MEMORY;
  } catch (...) {
    return SAM_INVALID;
  }
}

}  // namespace

SAM_API int32_t sam_abi_version() { return SAM_ABI_VERSION; }

SAM_API int32_t sam_cpu_best_isa() { return BestIsa(); }

SAM_API int32_t sam_cpu_create(int32_t isa, int32_t threads, sam_context** context) {
  if (threads < 1 || threads > 1024 || context == nullptr || isa < SAM_SCALAR || isa > SAM_AVX512)
    return SAM_INVALID;
  if (isa > BestIsa()) return SAM_UNSUPPORTED;
  try {
    auto made = std::make_unique<sam_context>(threads);
    made->kernels = &sam::scalar::table;
#if defined(__x86_64__)
    if (isa == SAM_AVX2) made->kernels = &sam::avx2::table;
    if (isa == SAM_AVX512) made->kernels = &sam::avx512::table;
#endif
    *context = made.release();
    return SAM_OK;
  } catch (const std::bad_alloc&) {
    return SAM_OUT_OF_MEMORY;
  } catch (const std::system_error&) {
    return SAM_OUT_OF_MEMORY;  // of threads
  } catch (...) {
    return SAM_INVALID;
  }
}

SAM_API void sam_cpu_destroy(sam_context* context) { delete context; }

SAM_API int32_t sam_cpu_linear(sam_context* c, const sam_view* x, const sam_weight* w, const sam_view* y,
                               const float* bias, int32_t activation, const sam_view* residual) {
  int64_t rows = RowCount(x);
  int64_t k = w->columns;
  int64_t columns = w->rows;
  int64_t pieces = c->pool.threads() * 8;  // a few per thread
  int64_t row_blocks = 1, row_block = rows, column_block, stretch = 0, scratch = 0;
  if (rows <= c->kernels->direct_rows) {
    // None too small.
    column_block = std::max(columns / pieces, 16384 / (k * rows));
    column_block = (column_block + sam::kWeightRows) / sam::kWeightRows * sam::kWeightRows;
  } else {
    // A tile's side of x and of the weights fit the first cache, a block of x and the scratch the second.
    int64_t stretches = (k + 767) / 768;
    stretch = ((k + stretches - 1) / stretches + 15) / 16 * 16;
    row_blocks = (rows + 191) / 192;
    row_block = ((rows + row_blocks - 1) / row_blocks + 11) / 12 * 12;
    row_blocks = (rows + row_block - 1) / row_block;
    // Several panels a piece: while one is used, the next is asked for.
    column_block = columns / std::max<int64_t>(1, pieces / row_blocks);
    column_block = (column_block + sam::kPanelColumns) / sam::kPanelColumns * sam::kPanelColumns;
    scratch = sam::kPanelColumns * (stretch + row_block * 16) * (int64_t)sizeof(float);
  }
  int64_t column_blocks = (columns + column_block - 1) / column_block;
  sam::LinearArgs args{x, y, residual, w, bias, activation, row_block, row_blocks, column_block, stretch};
  return Run(c, c->kernels->linear, args, row_blocks * column_blocks, 1, scratch);
}

SAM_API int32_t sam_cpu_rms_norm(sam_context* c, const sam_view* x, const float* gain, float eps,
                                 const sam_view* y) {
  return Run(c, c->kernels->rms_norm, sam::NormArgs{x, y, gain, nullptr, eps}, RowCount(x),
             RowGrain(c, RowCount(x), x->columns));
}

SAM_API int32_t sam_cpu_layer_norm(sam_context* c, const sam_view* x, const float* gain, const float* bias,
                                   float eps, const sam_view* y) {
  return Run(c, c->kernels->layer_norm, sam::NormArgs{x, y, gain, bias, eps}, RowCount(x),
             RowGrain(c, RowCount(x), x->columns));
}

SAM_API int32_t sam_cpu_embedding(sam_context* c, const sam_weight* table, const int32_t* ids,
                                  const sam_view* y) {
  return Run(c, c->kernels->embedding, sam::EmbeddingArgs{table, ids, y}, RowCount(y),
             RowGrain(c, RowCount(y), y->columns));
}

SAM_API int32_t sam_cpu_add(sam_context* c, const sam_view* x, const sam_view* addend, const sam_view* y) {
  return Run(c, c->kernels->add, sam::AddArgs{x, addend, y}, RowCount(y),
             RowGrain(c, RowCount(y), y->columns));
}

SAM_API int32_t sam_cpu_copy(sam_context* c, const sam_view* source, const sam_view* destination) {
  return Run(c, c->kernels->copy, sam::CopyArgs{source, destination, nullptr}, RowCount(destination),
             RowGrain(c, RowCount(destination), destination->columns));
}

SAM_API int32_t sam_cpu_gather_rows(sam_context* c, const sam_view* x, const int32_t* indices,
                                    const sam_view* y) {
  return Run(c, c->kernels->copy, sam::CopyArgs{x, y, indices}, RowCount(y),
             RowGrain(c, RowCount(y), y->columns));
}

SAM_API int32_t sam_cpu_extract_patches(sam_context* c, const sam_view* pixels, int32_t channels,
                                        int32_t patch, const sam_view* y) {
  return Run(c, c->kernels->extract_patches, sam::PatchArgs{pixels, y, channels, patch}, RowCount(y),
             RowGrain(c, RowCount(y), y->columns));
}

SAM_API int32_t sam_cpu_attention(sam_context* c, const sam_view* q, const sam_view* k, const sam_view* v,
                                  int32_t heads, float scale, const sam_view* y,
                                  const sam_view* probabilities) {
  int64_t blocks = (q->rows + sam::kAttentionRows - 1) / sam::kAttentionRows;
  int64_t scratch = ((int64_t)k->rows + 16) * 4;
  return Run(c, c->kernels->attention, sam::AttentionArgs{q, k, v, y, probabilities, heads, scale},
             q->batch * heads * blocks, 1, scratch);
}

SAM_API int32_t sam_cpu_group_pool(sam_context* c, const sam_view* features, const float* weight,
                                   const float* bias, const sam_view* context_out, const sam_view* weights) {
  return Run(c, c->kernels->group_pool, sam::GroupPoolArgs{features, context_out, weights, weight, bias},
             features->rows, RowGrain(c, features->rows, (int64_t)features->columns * features->batch),
             (int64_t)features->batch * 4);
}

SAM_API int32_t sam_cpu_rotary_store_kv(sam_context* c, const sam_view* qkv, const sam_kv_cache* cache,
                                        int32_t layer, int32_t heads, const sam_view* cos_sin,
                                        const sam_layout* layout) {
  return Run(c, c->kernels->rotary_store_kv, sam::RotaryArgs{qkv, cos_sin, cache, layout, layer, heads},
             qkv->rows, RowGrain(c, qkv->rows, qkv->columns));
}

SAM_API int32_t sam_cpu_paged_attention(sam_context* c, const sam_view* q, const sam_kv_cache* cache,
                                        int32_t layer, int32_t heads, float scale, const sam_layout* layout,
                                        const sam_view* y) {
  int32_t longest = 0;
  for (int32_t i = 0; i < q->rows; i++) longest = std::max(longest, layout->positions[i] + 1);
  int64_t pieces = (int64_t)q->rows * heads;
  return Run(c, c->kernels->paged_attention,
             sam::PagedAttentionArgs{q, y, cache, layout, layer, heads, longest, scale}, pieces,
             std::max<int64_t>(1, pieces / (c->pool.threads() * 8)), ((int64_t)longest + 16) * 4);
}

SAM_API int32_t sam_cpu_copy_kv_blocks(sam_context*, const sam_kv_cache* cache, const int32_t* pairs,
                                       int32_t count) {
  size_t block = (size_t)cache->block_size * cache->heads * cache->head_dim;
  for (int32_t layer = 0; layer < cache->layers; layer++) {
    size_t base = (size_t)layer * cache->blocks * block;
    for (int32_t i = 0; i < count; i++) {
      if (pairs[2 * i] < 0 || pairs[2 * i + 1] < 0) continue;
      size_t from = base + pairs[2 * i] * block;
      size_t to = base + pairs[2 * i + 1] * block;
      std::memcpy(cache->keys + to, cache->keys + from, block * 4);
      std::memcpy(cache->values + to, cache->values + from, block * 4);
    }
  }
  return SAM_OK;
}

SAM_API int32_t sam_cpu_swiglu(sam_context* c, const sam_view* gate_up, const sam_view* y) {
  return Run(c, c->kernels->swiglu, sam::SwiGluArgs{gate_up, y}, RowCount(y),
             RowGrain(c, RowCount(y), y->columns));
}

SAM_API int32_t sam_cpu_select_tokens(sam_context* c, const sam_view* logits,
                                      const sam_selection* selection) {
  std::atomic<bool> out_of_memory{false};
  int32_t status = Run(c, sam::SelectTokens, sam::SelectArgs{logits, selection, &out_of_memory},
                       selection->group_count, 1);
  return out_of_memory.load() ? SAM_OUT_OF_MEMORY : status;
}

SAM_API int32_t sam_cpu_token_log_probs(sam_context* c, const sam_view* logits, const int32_t* targets,
                                        float* y) {
  return Run(c, sam::TokenLogProbs, sam::LogProbArgs{logits, targets, y}, logits->rows, 1);
}

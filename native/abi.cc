// The C ABI: picks the instruction set and cuts operations into pieces for the pool.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <vector>

#include "include/samengine_cpu.h"
#include "kernels/kernels.h"
#include "pool.h"
#include "select_tokens.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace {

// How many threads read weights fastest when few rows need them: memory is at its limit before all cores are,
// and the rest would only wait for each other. Calls with large weights try all threads, half of them and so
// on, and time themselves; the fewest within 3 % of the best serve the calls that follow, until the next
// trial. No result depends on it.
class FewRowThreads {
 public:
  explicit FewRowThreads(int all) {
    for (int n = all; n >= 1; n /= 2) candidates_.push_back({n, 0});
    best_ = all;
  }

  static bool Counts(int64_t rows, int64_t bytes) { return rows <= 16 && bytes >= (4 << 20); }

  int Next() const { return Trying() ? candidates_[call_ % candidates_.size()].threads : best_; }

  void Took(int64_t bytes, double seconds) {
    if (Trying()) {
      Candidate& c = candidates_[call_ % candidates_.size()];
      if (seconds > 0) c.rate = std::max(c.rate, (double)bytes / seconds);
    }
    call_++;
    if (call_ == candidates_.size() * kTries) {
      double most = 0;
      for (const Candidate& c : candidates_) most = std::max(most, c.rate);
      for (Candidate& c : candidates_) {
        if (c.rate >= 0.97 * most) best_ = c.threads;
        c.rate = 0;
      }
    } else if (call_ == kCallsUntilNextTrial) {
      call_ = 0;
    }
  }

 private:
  // A step of a 7B model makes 129 such calls.
  static constexpr size_t kTries = 8, kCallsUntilNextTrial = 16384;
  struct Candidate {
    int threads;
    double rate;
  };

  bool Trying() const { return candidates_.size() > 1 && call_ < candidates_.size() * kTries; }

  std::vector<Candidate> candidates_;
  size_t call_ = 0;
  int best_;
};

}  // namespace

struct sam_context {
  explicit sam_context(int threads) : pool(threads), few_row_threads(threads) {}
  ~sam_context() { std::free(rows); }
  sam::Pool pool;
  sam::KernelTable kernels;
  std::mutex few_row_mutex;
  FewRowThreads few_row_threads;

  // Rows of x as a linear layer's kernel wants them, made by one job and used by the next.
  std::mutex rows_mutex;
  void* rows = nullptr;
  size_t rows_bytes = 0;
};

namespace {

int32_t BestIsa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  bool bf16 = vnni && __builtin_cpu_supports("avx512bf16");
  return bf16 ? SAM_AVX512_BF16 : vnni ? SAM_AVX512_VNNI : avx512 ? SAM_AVX512 : avx2 ? SAM_AVX2 : SAM_SCALAR;
#else
  return SAM_SCALAR;
#endif
}

sam::KernelTable KernelsOf(int32_t isa) {
#if defined(__x86_64__)
  if (isa == SAM_AVX2) return sam::avx2::table;
  if (isa >= SAM_AVX512) {
    sam::KernelTable table = sam::avx512::table;
    if (isa >= SAM_AVX512_VNNI) table.quantized_linear = sam::avx512_vnni::QuantizedLinear;
    if (isa >= SAM_AVX512_BF16) {
      table.bf16_rows = sam::avx512_bf16::ToBf16Rows;
      table.bf16_linear = sam::avx512_bf16::Bf16Linear;
    }
    return table;
  }
#endif
  (void)isa;
  return sam::scalar::table;
}

int64_t RowCount(const sam_view* v) { return (int64_t)v->batch * v->rows; }

// Pieces of at least about 4000 elements, so that small operations stay on one thread.
int64_t RowGrain(const sam_context* c, int64_t rows, int64_t elements_per_row) {
  int64_t least = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, elements_per_row));
  return std::max(least, rows / (c->pool.threads() * 4));
}

template <typename Args>
int32_t Run(sam_context* c, sam::RangeFunction f, const Args& args, int64_t count, int64_t grain,
            int64_t scratch = 0, int most_threads = 1 << 20) {
  try {
    return c->pool.Run(f, &args, count, grain, scratch, most_threads) ? SAM_OK : SAM_OUT_OF_MEMORY;
  } catch (const std::bad_alloc&) {
    return SAM_OUT_OF_MEMORY;
  } catch (...) {
    return SAM_INVALID;
  }
}

// Memory for rows of x, kept from call to call; null where there is no more. Its parts start at multiples of
// 64 bytes.
uint8_t* RowsMemory(sam_context* c, size_t bytes) {
  if (c->rows_bytes < bytes) {
    std::free(c->rows);
    c->rows = std::aligned_alloc(64, bytes);
    c->rows_bytes = c->rows ? bytes : 0;
  }
  return static_cast<uint8_t*>(c->rows);
}

size_t Align(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Cuts rows into blocks of at most `most`, of equal length up to `multiple`.
struct Blocks {
  Blocks(int64_t rows, int64_t most, int64_t multiple) {
    int64_t wanted = (rows + most - 1) / most;
    length = ((rows + wanted - 1) / wanted + multiple - 1) / multiple * multiple;
    count = (rows + length - 1) / length;
  }
  int64_t length, count;
};

int32_t FloatLinear(sam_context* c, const sam_view* x, const sam_weight* w, const sam::Epilogue& epilogue,
                    int most_threads) {
  int64_t rows = RowCount(x);
  int64_t k = w->columns;
  int64_t columns = w->rows;
  int64_t pieces = c->pool.threads() * 8;  // a few per thread
  int64_t row_blocks = 1, row_block = rows, column_block, stretch = 0, scratch = 0;
  if (rows <= c->kernels.direct_rows) {
    // None too small.
    column_block = std::max(columns / pieces, 16384 / (k * rows));
    column_block = (column_block + sam::kWeightRows) / sam::kWeightRows * sam::kWeightRows;
  } else {
    // A tile's side of x and of the weights fit the first cache, a block of x and the scratch the second.
    int64_t stretches = (k + 767) / 768;
    stretch = ((k + stretches - 1) / stretches + 15) / 16 * 16;
    Blocks blocks(rows, 192, 12);
    row_blocks = blocks.count;
    row_block = blocks.length;
    // Several panels a piece: while one is used, the next is asked for.
    column_block = columns / std::max<int64_t>(1, pieces / row_blocks);
    column_block = (column_block + sam::kPanelColumns) / sam::kPanelColumns * sam::kPanelColumns;
    scratch = sam::kPanelColumns * (stretch + row_block * 16) * (int64_t)sizeof(float);
  }
  int64_t column_blocks = (columns + column_block - 1) / column_block;
  sam::LinearArgs args{x, w, epilogue, row_block, row_blocks, column_block, stretch};
  return Run(c, c->kernels.linear, args, row_blocks * column_blocks, 1, scratch, most_threads);
}

int32_t QuantizedLinear(sam_context* c, const sam_view* x, const sam_weight* w, const sam::Epilogue& epilogue,
                        int most_threads) {
  int64_t rows = RowCount(x);
  int64_t groups = (w->columns + w->group_size - 1) / w->group_size;
  size_t codes = Align(rows * groups * w->group_size), per_group = Align(rows * groups * 4);
  std::lock_guard<std::mutex> lock(c->rows_mutex);
  uint8_t* memory = RowsMemory(c, codes + 2 * per_group);
  if (!memory) return SAM_OUT_OF_MEMORY;
  sam::QuantizedRows quantized{reinterpret_cast<int8_t*>(memory),
                               reinterpret_cast<float*>(memory + codes),
                               reinterpret_cast<int32_t*>(memory + codes + per_group),
                               rows,
                               groups,
                               w->group_size};
  int32_t status = Run(c, c->kernels.quantize_rows, sam::QuantizeRowsArgs{x, quantized}, rows,
                       RowGrain(c, rows, w->columns / 4));
  if (status != SAM_OK) return status;
  int64_t blocks = 0;
  for (int32_t p = 0; p < w->part_count; p++)
    blocks += (w->parts[p].rows + sam::kBlockRows - 1) / sam::kBlockRows;
  int64_t panels = (blocks + sam::kPanelBlocks - 1) / sam::kPanelBlocks;
  // All of the vision encoder's 257 rows share a reading of the weights; sums and codes fit the second cache.
  Blocks row_blocks(rows, 264, 1);
  // A few pieces per thread, none too small: a piece should take some microseconds.
  int64_t pieces = std::min<int64_t>(c->pool.threads() * 8, panels * w->columns * row_blocks.length / 2048);
  pieces = std::max<int64_t>(1, std::min(pieces, panels));
  if (panels <= 2 * pieces) pieces = panels;
  sam::QuantizedLinearArgs args{quantized, w, epilogue, row_blocks.length, row_blocks.count, pieces};
  return Run(
      c, c->kernels.quantized_linear, args, row_blocks.count * pieces, 1,
      sam::kStretchBytes + row_blocks.length * sam::kPanelBlocks * sam::kBlockRows * (int64_t)sizeof(float),
      most_threads);
}

int32_t Bf16Linear(sam_context* c, const sam_view* x, const sam_weight* w, const sam::Epilogue& epilogue,
                   int most_threads) {
  int64_t rows = RowCount(x);
  int64_t columns = ((w->columns + 31) / 32 | 1) * 32;
  std::lock_guard<std::mutex> lock(c->rows_mutex);
  uint8_t* memory = RowsMemory(c, Align(rows * columns * 2));
  if (!memory) return SAM_OUT_OF_MEMORY;
  sam::Bf16Rows halves{reinterpret_cast<uint16_t*>(memory), columns};
  int32_t status =
      Run(c, c->kernels.bf16_rows, sam::Bf16RowsArgs{x, halves}, rows, RowGrain(c, rows, columns / 4));
  if (status != SAM_OK) return status;
  Blocks row_blocks(rows, 96, 6);
  int64_t pieces = c->pool.threads() * 8;
  int64_t least = 131072 / (columns * row_blocks.length);
  int64_t piece = std::max(least, w->rows * row_blocks.count / pieces);
  piece = (piece + sam::kBf16Columns) / sam::kBf16Columns * sam::kBf16Columns;
  sam::Bf16LinearArgs args{halves, w, epilogue, rows, row_blocks.length, row_blocks.count, piece};
  return Run(c, c->kernels.bf16_linear, args, row_blocks.count * ((w->rows + piece - 1) / piece), 1,
             row_blocks.length * sam::kBf16Columns * 16 * (int64_t)sizeof(float), most_threads);
}

}  // namespace

SAM_API int32_t sam_abi_version() { return SAM_ABI_VERSION; }

SAM_API int32_t sam_cpu_best_isa() { return BestIsa(); }

SAM_API int32_t sam_cpu_create(int32_t isa, int32_t threads, sam_context** context) {
  if (threads < 1 || threads > 1024 || context == nullptr || isa < SAM_SCALAR || isa > SAM_AVX512_BF16)
    return SAM_INVALID;
  if (isa > BestIsa()) return SAM_UNSUPPORTED;
  try {
    auto made = std::make_unique<sam_context>(threads);
    made->kernels = KernelsOf(isa);
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

SAM_API void sam_cpu_guard(void* memory, int64_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_POISON_MEMORY_REGION(memory, bytes);
#else
  (void)memory, (void)bytes;
#endif
}

SAM_API int32_t sam_cpu_linear(sam_context* c, const sam_view* x, const sam_weight* w, const sam_view* y,
                               const float* bias, int32_t activation, const sam_view* residual) {
  sam::Epilogue epilogue{y, residual, bias, activation};
  auto linear = [&](int most_threads) {
    if (w->format == SAM_Q8 || w->format == SAM_Q4) return QuantizedLinear(c, x, w, epilogue, most_threads);
    if (w->format == SAM_BF16 && c->kernels.bf16_linear) return Bf16Linear(c, x, w, epilogue, most_threads);
    return FloatLinear(c, x, w, epilogue, most_threads);
  };
  int64_t eighths = w->format == SAM_F32 ? 32 : w->format == SAM_Q4 ? 4 : w->format == SAM_Q8 ? 8 : 16;
  int64_t bytes = (int64_t)w->rows * w->columns * eighths / 8;
  if (!FewRowThreads::Counts(RowCount(x), bytes)) return linear(c->pool.threads());
  // A thread's turn at the weights is a step's turn: who comes meanwhile would wait for the pool anyway.
  std::lock_guard<std::mutex> lock(c->few_row_mutex);
  auto start = std::chrono::steady_clock::now();
  int32_t status = linear(c->few_row_threads.Next());
  c->few_row_threads.Took(bytes,
                          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return status;
}

SAM_API int32_t sam_cpu_rms_norm(sam_context* c, const sam_view* x, const float* gain, float eps,
                                 const sam_view* y) {
  return Run(c, c->kernels.rms_norm, sam::NormArgs{x, y, gain, nullptr, eps}, RowCount(x),
             RowGrain(c, RowCount(x), x->columns));
}

SAM_API int32_t sam_cpu_layer_norm(sam_context* c, const sam_view* x, const float* gain, const float* bias,
                                   float eps, const sam_view* y) {
  return Run(c, c->kernels.layer_norm, sam::NormArgs{x, y, gain, bias, eps}, RowCount(x),
             RowGrain(c, RowCount(x), x->columns));
}

SAM_API int32_t sam_cpu_embedding(sam_context* c, const sam_weight* table, const int32_t* ids,
                                  const sam_view* y) {
  return Run(c, c->kernels.embedding, sam::EmbeddingArgs{table, ids, y}, RowCount(y),
             RowGrain(c, RowCount(y), y->columns));
}

SAM_API int32_t sam_cpu_add(sam_context* c, const sam_view* x, const sam_view* addend, const sam_view* y) {
  return Run(c, c->kernels.add, sam::AddArgs{x, addend, y}, RowCount(y),
             RowGrain(c, RowCount(y), y->columns));
}

SAM_API int32_t sam_cpu_copy(sam_context* c, const sam_view* source, const sam_view* destination) {
  return Run(c, c->kernels.copy, sam::CopyArgs{source, destination, nullptr}, RowCount(destination),
             RowGrain(c, RowCount(destination), destination->columns));
}

SAM_API int32_t sam_cpu_gather_rows(sam_context* c, const sam_view* x, const int32_t* indices,
                                    const sam_view* y) {
  return Run(c, c->kernels.copy, sam::CopyArgs{x, y, indices}, RowCount(y),
             RowGrain(c, RowCount(y), y->columns));
}

SAM_API int32_t sam_cpu_extract_patches(sam_context* c, const sam_view* pixels, int32_t channels,
                                        int32_t patch, const sam_view* y) {
  return Run(c, c->kernels.extract_patches, sam::PatchArgs{pixels, y, channels, patch}, RowCount(y),
             RowGrain(c, RowCount(y), y->columns));
}

SAM_API int32_t sam_cpu_attention(sam_context* c, const sam_view* q, const sam_view* k, const sam_view* v,
                                  int32_t heads, float scale, const sam_view* y,
                                  const sam_view* probabilities) {
  // Keys are transposed once a piece: no more pieces than keep every thread busy.
  int64_t alike = (int64_t)q->batch * heads;
  Blocks blocks(q->rows, std::max<int64_t>(1, q->rows * alike / (c->pool.threads() * 4)),
                sam::kAttentionRows);
  return Run(c, c->kernels.attention,
             sam::AttentionArgs{q, k, v, y, probabilities, heads, scale, blocks.length}, alike * blocks.count,
             1, sam::AttentionScratch(k->rows, q->columns / heads));
}

SAM_API int32_t sam_cpu_group_pool(sam_context* c, const sam_view* features, const float* weight,
                                   const float* bias, const sam_view* context_out, const sam_view* weights) {
  return Run(c, c->kernels.group_pool, sam::GroupPoolArgs{features, context_out, weights, weight, bias},
             features->rows, RowGrain(c, features->rows, (int64_t)features->columns * features->batch),
             (int64_t)features->batch * 4);
}

SAM_API int32_t sam_cpu_rotary_store_kv(sam_context* c, const sam_view* qkv, const sam_kv_cache* cache,
                                        int32_t layer, int32_t heads, const sam_view* cos_sin,
                                        const sam_layout* layout) {
  return Run(c, c->kernels.rotary_store_kv, sam::RotaryArgs{qkv, cos_sin, cache, layout, layer, heads},
             qkv->rows, RowGrain(c, qkv->rows, qkv->columns));
}

SAM_API int32_t sam_cpu_paged_attention(sam_context* c, const sam_view* q, const sam_kv_cache* cache,
                                        int32_t layer, int32_t heads, float scale, const sam_layout* layout,
                                        const sam_view* y) {
  int32_t longest = 0;
  for (int32_t i = 0; i < q->rows; i++) longest = std::max(longest, layout->positions[i] + 1);
  int64_t pieces = (int64_t)q->rows * heads;
  return Run(c, c->kernels.paged_attention,
             sam::PagedAttentionArgs{q, y, cache, layout, layer, heads, longest, scale}, pieces,
             std::max<int64_t>(4, pieces / (c->pool.threads() * 8)),
             sam::PagedScratch(q->rows, longest, cache->head_dim));
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
  return Run(c, c->kernels.swiglu, sam::SwiGluArgs{gate_up, y}, RowCount(y),
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

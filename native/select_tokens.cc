// Choice of the next tokens, and log-probabilities of given tokens. The semantics are written down at
// ComputeQueue.SelectTokens (managed). Exponentials are summed in double.
#include "select_tokens.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <vector>

namespace sam {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Philox4x32-10, first word; the same numbers as Philox.cs.
uint32_t Philox(uint32_t k0, uint32_t k1, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = 0xD2511F53ull * c0;
    uint64_t p1 = 0xCD9E8D57ull * c2;
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1;
    c3 = (uint32_t)p0;
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c0;
}

float Gumbel(const sam_selection_group& g, uint32_t row, uint32_t token) {
  double u = (Philox(g.seed_low, g.seed_high, token, row, g.step, 0) + 0.5) / 4294967296.0;
  return (float)-std::log(-std::log(u));
}

// log(sum(exp(s))), in double.
double LogSumExp(const float* s, int32_t n) {
  float top = *std::max_element(s, s + n);
  if (top == kNever) return kNever;
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += std::exp((double)s[i] - top);
  return top + std::log(sum);
}

// log_softmax as fp32 libraries give it.
void LogSoftmax(const float* logits, int32_t n, float* s) {
  double total = LogSumExp(logits, n);
  for (int32_t i = 0; i < n; i++) s[i] = (float)((double)logits[i] - total);
}

void Warp(const sam_selection_group& g, float* s, int32_t n, std::vector<float>& sorted,
          std::vector<int32_t>& order) {
  for (int32_t i = 0; i < n; i++) s[i] /= g.temperature;
  int32_t keep = std::max(1, g.min_tokens_to_keep);
  if (g.top_k > 0 && std::max(g.top_k, keep) < n) {
    sorted.assign(s, s + n);
    auto kth = sorted.begin() + (std::max(g.top_k, keep) - 1);
    std::nth_element(sorted.begin(), kth, sorted.end(), [](float a, float b) { return a > b; });
    float least = *kth;
    for (int32_t i = 0; i < n; i++) {
      if (s[i] < least) s[i] = kNever;
    }
  }
  if (g.top_p < 1) {
    // Ascending, as transformers does it: a token goes while the sum up to and with it is at most 1 - p.
    order.clear();
    for (int32_t i = 0; i < n; i++) {
      if (s[i] != kNever) order.push_back(i);
    }
    std::sort(order.begin(), order.end(),
              [s](int32_t a, int32_t b) { return s[a] < s[b] || (s[a] == s[b] && a < b); });
    double total = LogSumExp(s, n);
    double sum = 0;
    for (int64_t i = 0; i + keep < (int64_t)order.size(); i++) {
      sum += std::exp(s[order[i]] - total);
      if (sum > 1 - (double)g.top_p) break;
      s[order[i]] = kNever;
    }
  }
}

struct Candidate {
  float key;    // what the choice goes by
  float score;  // what is reported
  int32_t row, token;
};

bool Better(const Candidate& a, const Candidate& b) {
  if (a.key != b.key) return a.key > b.key;
  return a.row != b.row ? a.row < b.row : a.token < b.token;
}

// Keeps the best `most` in a heap whose front is the worst of them.
void Offer(std::vector<Candidate>& heap, size_t most, const Candidate& c) {
  if (heap.size() < most) {
    heap.push_back(c);
    std::push_heap(heap.begin(), heap.end(), Better);
  } else if (Better(c, heap.front())) {
    std::pop_heap(heap.begin(), heap.end(), Better);
    heap.back() = c;
    std::push_heap(heap.begin(), heap.end(), Better);
  }
}

// Buffers of a thread: steps of a known size allocate nothing.
struct Buffers {
  std::vector<float> scores, sorted;
  std::vector<int32_t> order;
  std::vector<Candidate> heap;
};

void SelectGroup(const SelectArgs* a, int32_t index, Buffers& b) {
  const sam_selection& in = *a->selection;
  const sam_selection_group& g = in.groups[index];
  int32_t n = a->logits->columns;
  b.scores.resize(n);
  b.heap.clear();
  float* s = b.scores.data();
  bool finite = true;
  for (int32_t row = 0; row < g.row_count && finite; row++) {
    int32_t at = g.first_row + row;
    const float* logits = a->logits->data + in.logit_rows[at] * a->logits->row_stride;
    for (int32_t i = 0; i < n; i++) finite &= std::isfinite(logits[i]);
    if (!finite) break;
    if (g.use_log_probs) {
      LogSoftmax(logits, n, s);
    } else {
      std::copy(logits, logits + n, s);
    }
    for (int32_t i = 0; i < in.penalty_columns; i++) {
      int32_t id = in.penalty_ids[at * in.penalty_stride + i];
      if (id < 0) break;
      s[id] = s[id] < 0 ? s[id] * g.repetition_penalty : s[id] / g.repetition_penalty;
    }
    for (int32_t i = 0; i < in.banned_columns; i++) {
      int32_t id = in.banned_ids[index * in.banned_stride + i];
      if (id < 0) break;
      s[id] = kNever;
    }
    if (g.use_log_probs) {
      for (int32_t i = 0; i < n; i++) s[i] += in.row_scores[at];
    }
    if (g.sample) Warp(g, s, n, b.sorted, b.order);
    for (int32_t i = 0; i < n; i++) {
      if (s[i] == kNever) continue;
      float key = g.sample ? s[i] + Gumbel(g, (uint32_t)row, (uint32_t)i) : s[i];
      Offer(b.heap, in.candidates, {key, s[i], row, i});
    }
    if (!g.use_log_probs) {
      double total = LogSumExp(s, n);
      for (auto& c : b.heap) {
        if (c.row == row) c.score = (float)((double)c.score - total);
      }
    }
  }
  in.non_finite[index] = finite ? 0 : 1;
  if (!finite) b.heap.clear();
  if (g.use_log_probs) {
    for (auto& c : b.heap) c.key = c.score;
  }
  std::sort(b.heap.begin(), b.heap.end(), Better);
  int64_t out = (int64_t)index * in.candidates;
  for (int32_t i = 0; i < in.candidates; i++) {
    bool there = i < (int32_t)b.heap.size();
    in.scores[out + i] = there ? b.heap[i].score : kNever;
    in.rows[out + i] = there ? b.heap[i].row : -1;
    in.tokens[out + i] = there ? b.heap[i].token : -1;
  }
}

}  // namespace

void SelectTokens(const void* args, int64_t begin, int64_t end, void*) {
  const SelectArgs* a = (const SelectArgs*)args;
  try {
    thread_local Buffers buffers;
    for (int64_t group = begin; group < end; group++) SelectGroup(a, (int32_t)group, buffers);
  } catch (const std::bad_alloc&) {
    a->out_of_memory->store(true);
  }
}

void TokenLogProbs(const void* args, int64_t begin, int64_t end, void*) {
  const LogProbArgs* a = (const LogProbArgs*)args;
  for (int64_t row = begin; row < end; row++) {
    const float* logits = a->logits->data + row * a->logits->row_stride;
    a->y[row] = (float)(logits[a->targets[row]] - LogSumExp(logits, a->logits->columns));
  }
}

}  // namespace sam

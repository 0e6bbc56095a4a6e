// Choice of the next tokens, and log-probabilities of given tokens. What is chosen is written down at
// ComputeQueue.SelectTokens (managed); native/select_tokens.cc does the same on the CPU. Exponentials are
// summed in double, every sum in a fixed order.
//
// select_rows: a block per selection row makes the row's scores (penalties, bans, warpers) and lists its best
// in order. The k-th largest score and the edge of top-p are found bit by bit in the order of floats' bits:
// 32 passes over the row, which lies in the second-level cache.
//
// Floor: three readings of the logits, about 2 us for 32001 tokens.
// Grid: one block per selection row. Block: whole warps up to 512 threads. No dynamic shared memory.
//
// select_groups: merges the lists of each group's rows. A candidate's place is the number of better ones.
//
// Grid: one block per group. Block: one warp. No dynamic shared memory.
//
// token_log_probs: y[i] = log_softmax(logits[i])[targets[i]].
//
// Grid: one block per row. Block: whole warps up to 512 threads. No dynamic shared memory.
#include "double_math.h"
#include "philox.h"

namespace sam {

// What the threads of a block exchange.
struct SelectScratch {
  double doubles[kWarp];
  uint64_t words[kWarp];
  float floats[kWarp];
  int32_t ints[kWarp];
  int32_t counts[512];
};

// The bits of a float so that they order as the floats do.
SAM_DEVICE uint32_t Ordered(float v) {
  uint32_t bits = FloatToBits(v);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// log(sum(exp)) of a row whose largest element is known.
SAM_DEVICE double LogSumExp(const float* values, int n, float largest, SelectScratch* scratch) {
  double sum = 0;
  for (int i = ThreadIndex(); i < n; i += BlockSize()) sum += Exp((double)values[i] - largest);
  return largest + Log(BlockReduce<Add>(sum, scratch->doubles));
}

SAM_DEVICE float LargestOf(const float* values, int n, SelectScratch* scratch) {
  float largest = -kInfinity;
  for (int i = ThreadIndex(); i < n; i += BlockSize()) largest = Max(largest, values[i]);
  return BlockReduce<Largest>(largest, scratch->floats);
}

// Length of a list that a -1 may end early.
SAM_DEVICE int ListLength(const int32_t* ids, int columns, SelectScratch* scratch) {
  uint64_t rest = 0;
  for (int i = ThreadIndex(); i < columns; i += BlockSize()) {
    if (ids[i] < 0) rest = Max(rest, (uint64_t)(columns - i));
  }
  return columns - (int)BlockReduce<Largest>(rest, scratch->words);
}

// Standard Gumbel noise for one token of one row.
SAM_DEVICE float Gumbel(const SelectionGroup& g, uint32_t row, uint32_t token) {
  uint32_t word = Philox(g.seed_low, g.seed_high, token, row, g.step, 0).at[0];
  double u = (word + 0.5) / 4294967296.0;
  return (float)-Log(-Log(u));
}

SAM_DEVICE int LeastKept(const SelectionGroup& g) { return Max(1, g.min_tokens_to_keep); }

// Scores below the k-th largest go.
SAM_DEVICE void KeepTopK(const SelectionGroup& g, float* values, int n, SelectScratch* scratch) {
  int k = Max(g.top_k, LeastKept(g));
  if (g.top_k <= 0 || k >= n) return;
  uint32_t threshold = 0;
  for (int bit = 31; bit >= 0; bit--) {
    uint32_t candidate = threshold | 1u << bit;
    int32_t count = 0;
    for (int i = ThreadIndex(); i < n; i += BlockSize()) count += Ordered(values[i]) >= candidate;
    if (BlockReduce<Add>(count, scratch->ints) >= k) threshold = candidate;
  }
  for (int i = ThreadIndex(); i < n; i += BlockSize()) {
    if (Ordered(values[i]) < threshold) values[i] = -kInfinity;
  }
  SyncBlock();
}

// Of the tokens whose score has these bits, the first `number` go, in the order of tokens.
SAM_DEVICE void DropEquals(uint32_t bits, int number, float* values, int n, SelectScratch* scratch) {
  int run = CeilDiv(n, BlockSize());
  int begin = Min(n, ThreadIndex() * run);
  int end = Min(n, begin + run);
  int32_t own = 0;
  for (int i = begin; i < end; i++) own += Ordered(values[i]) == bits;
  scratch->counts[ThreadIndex()] = own;
  SyncBlock();
  int before = 0;
  for (int t = 0; t < ThreadIndex(); t++) before += scratch->counts[t];
  for (int i = begin; i < end && before < number; i++) {
    if (Ordered(values[i]) != bits) continue;
    values[i] = -kInfinity;
    before++;
  }
  SyncBlock();
}

// Tokens go in ascending order (score, then token) while the sum of probabilities up to and with each is at
// most 1 - p and enough are left.
SAM_DEVICE void KeepTopP(const SelectionGroup& g, float* values, int n, SelectScratch* scratch) {
  if (!(g.top_p < 1)) return;
  double most = 1 - (double)g.top_p;
  double total = LogSumExp(values, n, LargestOf(values, n, scratch), scratch);
  int32_t kept = 0;
  for (int i = ThreadIndex(); i < n; i += BlockSize()) kept += values[i] != -kInfinity;
  int may_go = Max(0, BlockReduce<Add>(kept, scratch->ints) - LeastKept(g));
  // The first score that stays, and what goes below it.
  uint32_t threshold = 0;
  double gone = 0;
  int gone_count = 0;
  for (int bit = 31; bit >= 0; bit--) {
    uint32_t candidate = threshold | 1u << bit;
    double sum = 0;
    int32_t count = 0;
    for (int i = ThreadIndex(); i < n; i += BlockSize()) {
      if (values[i] == -kInfinity || Ordered(values[i]) >= candidate) continue;
      sum += Exp(values[i] - total);
      count++;
    }
    sum = BlockReduce<Add>(sum, scratch->doubles);
    count = BlockReduce<Add>(count, scratch->ints);
    if (sum <= most && count <= may_go) {
      threshold = candidate;
      gone = sum;
      gone_count = count;
    }
  }
  int32_t equal = 0;
  for (int i = ThreadIndex(); i < n; i += BlockSize()) {
    uint32_t bits = Ordered(values[i]);
    if (bits < threshold) {
      values[i] = -kInfinity;
    } else if (bits == threshold) {
      equal++;
    }
  }
  equal = BlockReduce<Add>(equal, scratch->ints);
  uint32_t bits = threshold & 0x80000000u ? threshold ^ 0x80000000u : ~threshold;
  double each = Exp(BitsToFloat(bits) - total);
  int number = 0;
  while (number < equal && gone_count + number < may_go) {
    gone += each;
    if (gone > most) break;
    number++;
  }
  SyncBlock();
  if (number > 0) DropEquals(threshold, number, values, n, scratch);
}

// The row's best in order. Key and token make one number, so that equal keys go by token.
SAM_DEVICE int ListBest(const SelectionArguments& a, const SelectionGroup& g, int row, const float* values,
                        int n, SelectScratch* scratch) {
  uint64_t last = ~0ull;
  uint64_t own = 0;
  bool stale = true;
  int64_t to = (int64_t)row * a.candidates;
  int count = 0;
  for (; count < a.candidates; count++) {
    if (stale) {
      own = 0;
      for (int i = ThreadIndex(); i < n; i += BlockSize()) {
        if (values[i] == -kInfinity) continue;
        float key = g.sample ? values[i] + Gumbel(g, row - g.first_row, i) + 0.0f : values[i];
        uint64_t packed = (uint64_t)Ordered(key) << 32 | (0xffffffffu - (uint32_t)i);
        if (packed < last) own = Max(own, packed);
      }
      stale = false;
    }
    uint64_t best = BlockReduce<Largest>(own, scratch->words);
    if (best == 0) break;
    if (own == best) {
      uint32_t bits = (uint32_t)(best >> 32);
      a.best_keys[to + count] = BitsToFloat(bits & 0x80000000u ? bits ^ 0x80000000u : ~bits);
      a.best_tokens[to + count] = (int32_t)(0xffffffffu - (uint32_t)best);
      last = best;
      stale = true;
    }
  }
  return count;
}

SAM_DEVICE void SelectRow(const SelectionArguments& a, int row, SelectScratch* scratch) {
  int group = 0;
  while (group < a.group_count &&
         (row < a.groups[group].first_row || row >= a.groups[group].first_row + a.groups[group].row_count)) {
    group++;
  }
  if (group == a.group_count) return;
  const SelectionGroup g = a.groups[group];
  int n = a.logits.columns;
  const float* logits = (const float*)a.logits.data + a.logit_rows[row] * a.logits.row_stride;
  float* values = a.row_values + (int64_t)row * n;
  int32_t bad = 0;
  for (int i = ThreadIndex(); i < n; i += BlockSize())
    bad += (FloatToBits(logits[i]) & 0x7f800000u) == 0x7f800000u;
  bad = BlockReduce<Add>(bad, scratch->ints);
  if (ThreadIndex() == 0) {
    a.finite[row] = bad == 0;
    a.best_counts[row] = 0;
  }
  if (bad != 0) return;
  double total = g.use_log_probs ? LogSumExp(logits, n, LargestOf(logits, n, scratch), scratch) : 0;
  for (int i = ThreadIndex(); i < n; i += BlockSize()) values[i] = (float)(logits[i] - total);
  SyncBlock();
  const int32_t* ids = a.penalty_ids + row * a.penalty_stride;
  int length = ListLength(ids, a.penalty_columns, scratch);
  for (int i = ThreadIndex(); i < length; i += BlockSize()) {
    float v = values[ids[i]];
    values[ids[i]] = v < 0 ? v * g.repetition_penalty : v / g.repetition_penalty;
  }
  SyncBlock();
  ids = a.banned_ids + group * a.banned_stride;
  length = ListLength(ids, a.banned_columns, scratch);
  for (int i = ThreadIndex(); i < length; i += BlockSize()) values[ids[i]] = -kInfinity;
  SyncBlock();
  float offset = g.use_log_probs ? a.row_scores[row] : 0;
  float temperature = g.sample ? g.temperature : 1;
  // Adding 0 also turns -0 into 0: order goes by bits.
  for (int i = ThreadIndex(); i < n; i += BlockSize()) values[i] = (values[i] + offset) / temperature + 0.0f;
  SyncBlock();
  if (g.sample) {
    KeepTopK(g, values, n, scratch);
    KeepTopP(g, values, n, scratch);
  }
  int count = ListBest(a, g, row, values, n, scratch);
  total = g.use_log_probs || count == 0 ? 0 : LogSumExp(values, n, LargestOf(values, n, scratch), scratch);
  SyncBlock();
  for (int i = ThreadIndex(); i < count; i += BlockSize()) {
    int64_t at = (int64_t)row * a.candidates + i;
    a.best_scores[at] = (float)(values[a.best_tokens[at]] - total);
  }
  if (ThreadIndex() == 0) a.best_counts[row] = count;
}

SAM_DEVICE bool IsBetter(float key_a, int row_a, int token_a, float key_b, int row_b, int token_b) {
  if (key_a != key_b) return key_a > key_b;
  return row_a != row_b ? row_a < row_b : token_a < token_b;
}

// Candidates of a group chosen by key, put in the order of their scores, by exchanges of neighbours.
SAM_DEVICE void SortByScore(const SelectionArguments& a, int64_t to, int count) {
  for (int round = 0; round < count; round++) {
    for (int i = round % 2 + 2 * Lane(); i + 1 < count; i += 2 * kWarp) {
      int64_t p = to + i;
      if (!IsBetter(a.scores[p + 1], a.rows[p + 1], a.tokens[p + 1], a.scores[p], a.rows[p], a.tokens[p]))
        continue;
      float score = a.scores[p];
      int32_t row = a.rows[p], token = a.tokens[p];
      a.scores[p] = a.scores[p + 1];
      a.rows[p] = a.rows[p + 1];
      a.tokens[p] = a.tokens[p + 1];
      a.scores[p + 1] = score;
      a.rows[p + 1] = row;
      a.tokens[p + 1] = token;
    }
    SyncWarp();
  }
}

SAM_DEVICE void SelectGroup(const SelectionArguments& a, int group) {
  const SelectionGroup g = a.groups[group];
  bool finite = true;
  int count = 0;
  for (int row = g.first_row; row < g.first_row + g.row_count; row++) {
    finite &= a.finite[row] != 0;
    count += a.best_counts[row];
  }
  count = finite ? Min(count, a.candidates) : 0;
  if (Lane() == 0) a.non_finite[group] = finite ? 0 : 1;
  int64_t to = (int64_t)group * a.candidates;
  for (int i = count + Lane(); i < a.candidates; i += kWarp) {
    a.scores[to + i] = -kInfinity;
    a.rows[to + i] = -1;
    a.tokens[to + i] = -1;
  }
  if (!finite) return;
  for (int item = Lane(); item < g.row_count * a.candidates; item += kWarp) {
    int row = item / a.candidates;
    int place = item % a.candidates;
    if (place >= a.best_counts[g.first_row + row]) continue;
    int64_t at = (int64_t)g.first_row * a.candidates + item;
    float key = a.best_keys[at];
    int token = a.best_tokens[at];
    for (int other = 0; other < g.row_count; other++) {
      if (other == row) continue;
      int64_t list = (int64_t)(g.first_row + other) * a.candidates;
      for (int j = 0; j < a.best_counts[g.first_row + other]; j++) {
        if (!IsBetter(a.best_keys[list + j], other, a.best_tokens[list + j], key, row, token)) break;
        place++;
      }
    }
    if (place >= a.candidates) continue;
    a.scores[to + place] = a.best_scores[at];
    a.rows[to + place] = row;
    a.tokens[to + place] = token;
  }
  SyncWarp();
  if (g.use_log_probs && g.sample) SortByScore(a, to, count);
}

SAM_DEVICE void TokenLogProbs(const TokenLogProbsArguments& a, SelectScratch* scratch) {
  for (int row = BlockIndex(); row < a.logits.rows; row += GridSize()) {
    const float* logits = RowOf<const float>(a.logits, row);
    int n = a.logits.columns;
    double total = LogSumExp(logits, n, LargestOf(logits, n, scratch), scratch);
    if (ThreadIndex() == 0) a.y[row] = (float)(logits[a.targets[row]] - total);
  }
}

}  // namespace sam

SAM_KERNEL(select_rows, SelectionArguments, 512, 1) {
  SAM_SHARED(sam::SelectScratch, scratch, 1);
  sam::SelectRow(a, sam::BlockIndex(), scratch);
}

SAM_KERNEL(select_groups, SelectionArguments, 32) { sam::SelectGroup(a, sam::BlockIndex()); }

SAM_KERNEL(token_log_probs, TokenLogProbsArguments, 512, 1) {
  SAM_SHARED(sam::SelectScratch, scratch, 1);
  sam::TokenLogProbs(a, scratch);
}

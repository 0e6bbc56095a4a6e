// Token selection: not compiled per instruction set, its time is small beside a step's.
#ifndef SAMENGINE_SELECT_TOKENS_H_
#define SAMENGINE_SELECT_TOKENS_H_

#include <atomic>
#include <cstdint>

#include "include/samengine_cpu.h"

namespace sam {

struct SelectArgs {
  const sam_view* logits;
  const sam_selection* selection;
  std::atomic<bool>* out_of_memory;
};

struct LogProbArgs {
  const sam_view* logits;
  const int32_t* targets;
  float* y;
};

void SelectTokens(const void* args, int64_t begin, int64_t end, void* scratch);   // pieces: groups
void TokenLogProbs(const void* args, int64_t begin, int64_t end, void* scratch);  // pieces: rows

}  // namespace sam

#endif  // SAMENGINE_SELECT_TOKENS_H_

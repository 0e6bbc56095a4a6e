#include "pool.h"

#include <algorithm>
#include <cstdlib>

#if defined(__linux__)
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#define SAM_PAUSE() _mm_pause()
#else
#define SAM_PAUSE() ((void)0)
#endif

namespace sam {

namespace {
// About 20 microseconds: longer than the gap between two operations of a step, too short to be noticed when
// idle.
constexpr int kSpins = 2000;

// Parts of Pool::state_.
constexpr uint64_t kJoined = 0x7fff, kOpen = 0x8000;
constexpr int kThreadsShift = 16, kGenerationShift = 32;

uint32_t Generation(uint64_t state) { return static_cast<uint32_t>(state >> kGenerationShift); }
int MostThreads(uint64_t state) { return static_cast<int>(state >> kThreadsShift & 0xffff); }
}  // namespace

Pool::Pool(int threads) : scratch_(threads) {
  try {
    for (int i = 1; i < threads; i++) {
      workers_.emplace_back([this, i] { Worker(i); });
    }
  } catch (...) {
    // The system gives no more threads. A started thread that nobody joins would end the process.
    Stop();
    throw;
  }
}

Pool::~Pool() {
  Stop();
  for (auto& scratch : scratch_) std::free(scratch.memory);
}

void Pool::Stop() {
  {
    std::lock_guard<std::mutex> lock(sleep_mutex_);
    stop_.store(true);
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

bool Pool::Run(RangeFunction function, const void* args, int64_t count, int64_t grain, int64_t scratch_bytes,
               int most_threads) {
  if (count <= 0) return true;
  std::lock_guard<std::mutex> job(job_mutex_);
  for (auto& scratch : scratch_) {
    if (scratch.bytes >= scratch_bytes) continue;
    std::free(scratch.memory);
    scratch.memory = std::aligned_alloc(64, (scratch_bytes + 63) / 64 * 64);
    scratch.bytes = scratch.memory ? scratch_bytes : 0;
    if (!scratch.memory) return false;
  }
  function_ = function;
  args_ = args;
  count_ = count;
  grain_ = grain;
  next_.store(0, std::memory_order_relaxed);
  if (workers_.empty() || count <= grain || most_threads == 1) {
    Share(0);
    return true;
  }
  uint64_t state = static_cast<uint64_t>(Generation(state_.load(std::memory_order_relaxed)) + 1)
                       << kGenerationShift |
                   static_cast<uint64_t>(std::min(most_threads, threads())) << kThreadsShift | kOpen;
  {
    std::lock_guard<std::mutex> lock(sleep_mutex_);
    state_.store(state, std::memory_order_release);
  }
  wake_.notify_all();
  Share(0);
  state_.fetch_and(~kOpen, std::memory_order_relaxed);
  for (int spins = 0; (state_.load(std::memory_order_acquire) & kJoined) != 0; spins++) {
    if (spins < kSpins) {
      SAM_PAUSE();
    } else {
      std::this_thread::yield();
    }
  }
  return true;
}

void Pool::Share(int index) {
  for (;;) {
    int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
    if (begin >= count_) return;
    int64_t end = begin + grain_ < count_ ? begin + grain_ : count_;
    function_(args_, begin, end, scratch_[index].memory);
  }
}

void Pool::Worker(int index) {
#if defined(__linux__)
  pthread_setname_np(pthread_self(), "samengine-pool");  // for profilers and top
#endif
  uint32_t seen = 0;
  auto current = [&] { return Generation(state_.load(std::memory_order_acquire)); };
  for (;;) {
    for (int spins = 0; spins < kSpins && current() == seen; spins++) SAM_PAUSE();
    if (current() == seen) {
      std::unique_lock<std::mutex> lock(sleep_mutex_);
      wake_.wait(lock, [&] { return stop_.load() || current() != seen; });
    }
    if (stop_.load()) return;
    seen = current();
    if (!Join(seen, index)) continue;
    Share(index);
    state_.fetch_sub(1, std::memory_order_release);
  }
}

bool Pool::Join(uint32_t generation, int index) {
  uint64_t state = state_.load(std::memory_order_relaxed);
  while (Generation(state) == generation && (state & kOpen) != 0 && index < MostThreads(state)) {
    if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire, std::memory_order_relaxed))
      return true;
  }
  return false;
}

}  // namespace sam

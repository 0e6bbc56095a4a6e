// A small pool of worker threads that share ranges of work. Workers spin briefly after a job, then sleep. Who
// is late finds the job closed: on a machine that is busy otherwise, a job does not wait for threads that the
// system does not run.
#ifndef SAMENGINE_POOL_H_
#define SAMENGINE_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace sam {

// Work on [begin, end); scratch is 64-byte aligned memory of the thread, of the size asked for.
using RangeFunction = void (*)(const void* args, int64_t begin, int64_t end, void* scratch);

class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Runs function over [0, count) in pieces of `grain`; returns when all is done. Several threads may call;
  // jobs run one after the other. At most `most_threads` take part. False: not enough memory for the scratch.
  bool Run(RangeFunction function, const void* args, int64_t count, int64_t grain, int64_t scratch_bytes,
           int most_threads);

  int threads() const { return static_cast<int>(scratch_.size()); }

 private:
  struct Scratch {
    void* memory = nullptr;
    int64_t bytes = 0;
  };

  void Worker(int index);
  bool Join(uint32_t generation, int index);
  void Share(int index);
  void Stop();

  std::mutex job_mutex_;  // one job at a time
  std::mutex sleep_mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
  std::vector<Scratch> scratch_;

  RangeFunction function_ = nullptr;
  const void* args_ = nullptr;
  int64_t count_ = 0;
  int64_t grain_ = 1;
  std::atomic<int64_t> next_{0};
  // The job: its number in the upper half, then most threads that may take part, whether workers may still
  // join and how many have joined and not left. The fields above are theirs while there are any.
  std::atomic<uint64_t> state_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace sam

#endif  // SAMENGINE_POOL_H_

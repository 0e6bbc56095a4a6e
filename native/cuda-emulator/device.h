// The emulated device: work in the order it was given, run when somebody waits for it, as late as the rules
// of the driver API allow, so that host memory that is reused too early is found.
#ifndef SAMENGINE_DEVICE_QUEUE_H_
#define SAMENGINE_DEVICE_QUEUE_H_

#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runner.h"

namespace sam::emulator {

struct Event {
  int64_t nanoseconds = 0;
};

// Something a stream does.
struct Operation {
  enum Kind { kLaunch, kCopy, kSet, kFree, kRecord };

  Kind kind;
  Launch launch = {};
  std::vector<char> arguments = {};  // of the launch
  void* destination = nullptr;
  const void* source = nullptr;
  std::vector<char> snapshot = {};  // replaces the source: memory that the driver has read already
  size_t bytes = 0;
  unsigned value = 0;  // kSet: elements of `width` bytes
  int width = 1;
  Event* event = nullptr;
};

struct Counters {
  std::atomic<int64_t> launches{0}, copies{0}, allocations{0}, synchronizations{0}, graph_launches{0};
};

class Device {
 public:
  static Device& Instance();

  void Enqueue(Operation operation);
  // Runs everything given so far. The status is 0, or that of the fault that has ended the device.
  int Finish();
  int Fault() { return fault_; }
  // The device is lost: every later call gives this status.
  void Lose(int status, const std::string& message);
  // A new device: forgets the fault and all work.
  void Reset();
  std::string LastError();

  Counters counters;

 private:
  Device();
  void Main();
  void Help();
  void Execute(Operation& operation);
  void ExecuteLaunch(const Launch& launch);
  // Takes blocks of the launch under way until none is left or, unless `until` is 0, it is that late.
  void TakeBlocks(Runner& runner, int64_t until);

  std::mutex mutex_;
  std::condition_variable work_, idle_;
  std::vector<Operation> queue_;
  int64_t given_ = 0, done_ = 0;
  int64_t wanted_ = 0;  // somebody waits for so many operations
  std::atomic<int> fault_{0};
  std::string last_error_;

  std::mutex helpers_mutex_;
  std::condition_variable helpers_work_, helpers_idle_;
  int helping_ = 0;
  int64_t round_ = 0;
  const Launch* launch_ = nullptr;
  std::atomic<int64_t> next_block_{0};
  int64_t blocks_ = 0;
  int threads_;
};

}  // namespace sam::emulator

#endif  // SAMENGINE_DEVICE_QUEUE_H_

#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <algorithm>

#include "driver.h"
#include "memory.h"

namespace sam::emulator {

namespace {

// A launch that takes longer gets help from other threads.
constexpr int64_t kAloneNanoseconds = 50'000;
// Work given beyond this runs without being waited for.
constexpr size_t kMostWaiting = 4096;

int64_t Now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

}  // namespace

Device& Device::Instance() {
  static Device* device = new Device();  // its threads run until the process ends
  return *device;
}

Device::Device() {
  const char* set = getenv("SAM_EMULATOR_THREADS");
  threads_ = set ? std::max(1, atoi(set)) : (int)std::max(1u, std::thread::hardware_concurrency());
  std::thread([this] { Main(); }).detach();
  for (int i = 1; i < threads_; i++) std::thread([this] { Help(); }).detach();
}

void Device::Enqueue(Operation operation) {
  std::unique_lock<std::mutex> lock(mutex_);
  queue_.push_back(std::move(operation));
  given_++;
  if (queue_.size() > kMostWaiting) {
    wanted_ = given_;
    work_.notify_one();
  }
}

int Device::Finish() {
  std::unique_lock<std::mutex> lock(mutex_);
  int64_t all = given_;
  if (done_ < all) {
    wanted_ = std::max(wanted_, all);
    work_.notify_one();
    idle_.wait(lock, [&] { return done_ >= all; });
  }
  return fault_;
}

void Device::Lose(int status, const std::string& message) {
  fprintf(stderr, "samengine_cuda_emulator: %s\n", message.c_str());
  std::lock_guard<std::mutex> lock(mutex_);
  last_error_ = message;
  fault_ = status;
}

void Device::Reset() {
  Finish();
  std::lock_guard<std::mutex> lock(mutex_);
  fault_ = 0;
  last_error_.clear();
}

std::string Device::LastError() {
  std::lock_guard<std::mutex> lock(mutex_);
  return last_error_;
}

void Device::Main() {
  std::vector<Operation> batch;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    work_.wait(lock, [&] { return done_ < wanted_ && !queue_.empty(); });
    batch.swap(queue_);
    lock.unlock();
    for (Operation& operation : batch) {
      // What a lost device has still to do is dropped, except that events count as reached.
      if (fault_ == 0 || operation.kind == Operation::kRecord) Execute(operation);
    }
    lock.lock();
    done_ += (int64_t)batch.size();
    batch.clear();
    idle_.notify_all();
  }
}

void Device::Execute(Operation& o) {
  Memory& memory = Memory::Instance();
  switch (o.kind) {
    case Operation::kLaunch:
      o.launch.arguments = o.arguments.data();
      ExecuteLaunch(o.launch);
      break;
    case Operation::kCopy: {
      const void* source = o.snapshot.empty() ? o.source : o.snapshot.data();
      memmove(o.destination, source, o.bytes);
      break;
    }
    case Operation::kSet:
      if (!memory.Contains(o.destination, o.bytes)) {
        Lose(CUDA_ERROR_ILLEGAL_ADDRESS, "cuMemset: " + DescribeAddress(o.destination));
        break;
      }
      for (size_t i = 0; i < o.bytes; i += (size_t)o.width)
        memcpy((char*)o.destination + i, &o.value, (size_t)o.width);
      break;
    case Operation::kFree:
      memory.Free(o.destination);
      break;
    case Operation::kRecord:
      o.event->nanoseconds = Now();
      break;
  }
}

void Device::ExecuteLaunch(const Launch& launch) {
  static thread_local Runner runner;
  launch_ = &launch;
  blocks_ = (int64_t)launch.grid[0] * launch.grid[1] * launch.grid[2];
  next_block_ = 0;
  TakeBlocks(runner, threads_ > 1 && blocks_ > 1 ? Now() + kAloneNanoseconds : 0);
  if (next_block_ >= blocks_) return;
  {
    std::lock_guard<std::mutex> lock(helpers_mutex_);
    round_++;
    helping_ = threads_ - 1;
    helpers_work_.notify_all();
  }
  TakeBlocks(runner, 0);
  std::unique_lock<std::mutex> lock(helpers_mutex_);
  helpers_idle_.wait(lock, [&] { return helping_ == 0; });
}

void Device::Help() {
  Runner runner;
  int64_t seen = 0;
  std::unique_lock<std::mutex> lock(helpers_mutex_);
  for (;;) {
    helpers_work_.wait(lock, [&] { return round_ > seen; });
    seen = round_;
    lock.unlock();
    TakeBlocks(runner, 0);
    lock.lock();
    if (--helping_ == 0) helpers_idle_.notify_all();
  }
}

void Device::TakeBlocks(Runner& runner, int64_t until) {
  while (fault_ == 0 && (until == 0 || Now() < until)) {
    int64_t block = next_block_++;
    if (block >= blocks_) return;
    std::string message;
    if (!runner.Run(*launch_, block, &message)) {
      bool illegal = message.find("illegal access") != std::string::npos;
      Lose(illegal ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_ERROR_LAUNCH_FAILED, message);
    }
  }
  if (fault_ != 0) next_block_ = blocks_;
}

}  // namespace sam::emulator

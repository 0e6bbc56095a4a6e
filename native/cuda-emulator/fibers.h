// A block of CUDA threads on fibres of one OS thread. A thread that never waits runs on its caller's fibre
// without a switch; at a barrier or an exchange in a warp it gives way to the next. All fibres of a block
// stay on one OS thread.
#ifndef SAMENGINE_FIBERS_H_
#define SAMENGINE_FIBERS_H_

#include <stddef.h>
#include <stdint.h>

#include <string>

namespace sam::emulator {

// What kernels register.
struct Kernel {
  const char* name;
  size_t argument_bytes;
  int most_threads;
  void (*run)(const void* arguments);
};
struct Registration {
  explicit Registration(const Kernel* kernel);
};
const Kernel* FindKernel(const char* name);

// What a lane gives to its warp.
struct Slot {
  uint64_t words[8];
};

struct Block;

struct Warp {
  // Exchanges use the two sets in turn: who reads one exchange's slots is at most one exchange behind.
  Slot slots[2][32];
  const char* operation;
  int arrived;
  int lanes;
  int parity;
};

struct Fiber;

struct Thread {
  int index;
  Block* block;
  Warp* warp;
  Fiber* fiber;
  int parity;          // of its next exchange
  size_t shared_used;  // of the block's static shared memory
};

struct Block {
  int index[3];
  int grid[3];
  int threads;
  char* dynamic_shared;
  char* static_shared;
};

// The running CUDA thread.
extern thread_local Thread* current __attribute__((tls_model("initial-exec")));

// The slots of all lanes of the warp, once every lane has come with the same operation. Valid until the next
// exchange.
const Slot* Exchange(const char* operation, const void* mine, size_t bytes);
inline const Slot* ExchangeWords(const char* operation, uint64_t mine) {
  return Exchange(operation, &mine, 8);
}
// As Exchange; the last lane to come computes `results` of all lanes from their slots, in place.
const Slot* Collect(const char* operation, const void* mine, size_t bytes, void (*compute)(Slot* slots));
void WaitForBlock(const char* file, int line);
// Ends the launch with this message.
[[noreturn]] void Fail(const std::string& message);
// cp.async: the copy happens when it is waited for, so that reading too early is found.
void CopyLater(void* shared, const void* global, int valid, int bytes);
void CommitCopies();
// Until at most so many committed groups of the thread are under way.
void WaitForCopies(int pending);
// The next piece of static shared memory in the order of the kernel's declarations.
void* StaticShared(size_t bytes, size_t alignment);

}  // namespace sam::emulator

#endif  // SAMENGINE_FIBERS_H_

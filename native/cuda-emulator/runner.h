// Runs blocks of CUDA threads on the calling OS thread (fibers.h).
#ifndef SAMENGINE_RUNNER_H_
#define SAMENGINE_RUNNER_H_

#include <setjmp.h>
#include <signal.h>

#include <atomic>
#include <string>
#include <vector>

#include "fibers.h"

namespace sam::emulator {

struct Launch {
  const Kernel* kernel;
  const void* arguments;
  int grid[3];
  int threads;
  size_t dynamic_shared_bytes;
};

// Runs blocks on the calling OS thread.
class Runner {
  // cp.async copies of a thread: those under way in order, and how many each committed group has.
  struct Copy {
    void* shared;
    const void* global;
    int valid, bytes;
  };
  struct Copies {
    std::vector<Copy> pending;
    std::vector<int> groups;
    int open = 0;  // of the group that is not yet committed
  };

 public:
  static constexpr size_t kStaticSharedBytes = 64 * 1024;

  Runner();
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // Threads, and blocks, start from the last instead of the first, and a warp runs ahead until it must wait
  // for others, instead of side by side with them: what lacks a barrier often works in one order only.
  static inline std::atomic<bool> reversed{false};

  // Runs one block. False with a message when it faulted; the runner can be used again.
  bool Run(const Launch& launch, int64_t block, std::string* message);

 private:
  friend const Slot* Collect(const char*, const void*, size_t, void (*)(Slot*));
  friend void WaitForBlock(const char*, int);
  friend void sam::emulator::Fail(const std::string&);
  friend void CopyLater(void*, const void*, int, int);
  friend void CommitCopies();
  friend void WaitForCopies(int);
  friend struct Fiber;

  Fiber* FreeFiber();
  // The next thread to go on, null when there is none: a waiting one that may go on, or one not yet started.
  Thread* Next();
  void Wait();
  void FiberMain();
  void Release(Thread* first, int count);
  void ReleaseBlockIfAllArrived();
  [[noreturn]] void Fail(const std::string& message);
  void Reset();
  static void Enter();
  static void OnFault(int signal, siginfo_t* info, void* context);
  static void InstallHandler();

  friend struct HandlerInstaller;

  Launch launch_;
  bool reversed_ = false;
  Block block_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<Copies> copies_;
  std::vector<Fiber*> fibers_, free_;
  std::vector<Thread*> ready_;  // ring
  size_t ready_first_ = 0, ready_count_ = 0;
  int started_ = 0, finished_ = 0;
  int at_barrier_ = 0;
  std::vector<Thread*> barrier_;
  const char* barrier_file_ = nullptr;
  int barrier_line_ = 0;
  char *dynamic_memory_ = nullptr, *static_memory_ = nullptr;
  size_t dynamic_capacity_ = 0;
  Fiber* home_ = nullptr;
  sigjmp_buf fault_;
  std::string message_;
  void* alternate_stack_ = nullptr;
};

}  // namespace sam::emulator

#endif  // SAMENGINE_RUNNER_H_

#include "fibers.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <new>

#include "memory.h"
#include "runner.h"

#if defined(__x86_64__) && !defined(SAM_EMULATOR_UCONTEXT)
#define SAM_EMULATOR_SWITCH 1
#else
#include <ucontext.h>
#endif

namespace sam::emulator {

thread_local Thread* current __attribute__((tls_model("initial-exec"))) = nullptr;

namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kAlternateStackBytes = 64 * 1024;
constexpr size_t kStaticSharedLimit = 48 * 1024;
constexpr int kPoison = 0xff;  // NaN in every floating-point format

thread_local Runner* running __attribute__((tls_model("initial-exec"))) = nullptr;

std::map<std::string, const Kernel*>& Kernels() {
  static std::map<std::string, const Kernel*> kernels;
  return kernels;
}

size_t Page() {
  static const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return page;
}

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

Registration::Registration(const Kernel* kernel) { Kernels()[kernel->name] = kernel; }

const Kernel* FindKernel(const char* name) {
  auto found = Kernels().find(name);
  return found == Kernels().end() ? nullptr : found->second;
}

#if defined(SAM_EMULATOR_SWITCH)
// Saves the registers a call must keep on the stack it leaves, and takes them from the one it enters.
extern "C" void sam_emulator_switch(void** save, void* enter);
asm(R"(
.text
.globl sam_emulator_switch
.hidden sam_emulator_switch
.type sam_emulator_switch,@function
sam_emulator_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp,(%rdi)
  mov %rsi,%rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size sam_emulator_switch,.-sam_emulator_switch
)");
#endif

struct Fiber {
  Thread* thread = nullptr;  // that it runs
  char* stack = nullptr;     // below it lies a page that can't be touched
#if defined(SAM_EMULATOR_SWITCH)
  void* place = nullptr;

  void Prepare(size_t number) {
    // Tops at different places of a page: fibres that lie alike would share few lines of the first-level
    // cache.
    void** top = (void**)(stack + kStackBytes - number % 14 * 256 - 64);
    *--top = nullptr;
    *--top = (void*)&Runner::Enter;
    place = top - 6;
  }
  static void Switch(Fiber* from, Fiber* to) { sam_emulator_switch(&from->place, to->place); }
#else
  ucontext_t place;

  void Prepare(size_t) {
    getcontext(&place);
    place.uc_stack.ss_sp = stack;
    place.uc_stack.ss_size = kStackBytes;
    place.uc_link = nullptr;
    makecontext(&place, &Runner::Enter, 0);
  }
  static void Switch(Fiber* from, Fiber* to) { swapcontext(&from->place, &to->place); }
#endif
};

// Faults in a kernel end the launch; all others go where they went before.
struct HandlerInstaller {
  static constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE};
  static inline struct sigaction before[64];

  HandlerInstaller() {
    for (int signal : kSignals) {
      struct sigaction action = {};
      action.sa_sigaction = &Runner::OnFault;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
      sigemptyset(&action.sa_mask);
      sigaction(signal, &action, &before[signal]);
    }
  }
};

void Runner::InstallHandler() { static HandlerInstaller installer; }

void Runner::OnFault(int signal, siginfo_t* info, void* context) {
  if (running && current) {
    running->Fail(signal == SIGFPE ? "integer division by zero"
                                   : "illegal access, " + DescribeAddress(info->si_addr));
  }
  const struct sigaction& before = HandlerInstaller::before[signal];
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    sigaction(signal, &before, nullptr);  // comes again at once, and ends the process
  }
}

Runner::Runner() {
  InstallHandler();
  static_memory_ =
      (char*)mmap(nullptr, kStaticSharedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  alternate_stack_ =
      mmap(nullptr, kAlternateStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (static_memory_ == MAP_FAILED || alternate_stack_ == MAP_FAILED) throw std::bad_alloc();
  memset(static_memory_, kPoison, kStaticSharedBytes);
  stack_t alternate = {};
  alternate.ss_sp = alternate_stack_;
  alternate.ss_size = kAlternateStackBytes;
  sigaltstack(&alternate, nullptr);
  home_ = new Fiber();
}

Runner::~Runner() {
  stack_t none = {};
  none.ss_flags = SS_DISABLE;
  sigaltstack(&none, nullptr);
  for (Fiber* fiber : fibers_) {
    munmap(fiber->stack - Page(), kStackBytes + Page());
    delete fiber;
  }
  delete home_;
  munmap(static_memory_, kStaticSharedBytes);
  munmap(alternate_stack_, kAlternateStackBytes);
  if (dynamic_memory_) munmap(dynamic_memory_, dynamic_capacity_ + Page());
}

Fiber* Runner::FreeFiber() {
  if (free_.empty()) {
    Fiber* fiber = new Fiber();
    char* memory = (char*)mmap(nullptr, kStackBytes + Page(), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mprotect(memory, Page(), PROT_NONE);
    fiber->stack = memory + Page();
    fiber->Prepare(fibers_.size());
    fibers_.push_back(fiber);
    free_.push_back(fiber);
  }
  Fiber* fiber = free_.back();
  free_.pop_back();
  return fiber;
}

void Runner::Enter() { running->FiberMain(); }

// Runs threads one after the other; when the next one waits on another fibre, this one is free until it is
// needed.
void Runner::FiberMain() {
  for (;;) {
    launch_.kernel->run(launch_.arguments);
    Fiber* self = current->fiber;
    finished_++;
    ReleaseBlockIfAllArrived();
    Thread* next = Next();
    if (next && !next->fiber) {
      next->fiber = self;
      current = next;
      continue;
    }
    free_.push_back(self);
    current = next;
    Fiber::Switch(self, next ? next->fiber : home_);
  }
}

Thread* Runner::Next() {
  // A warp is started whole before others go on, so that its exchanges complete early.
  bool fresh = started_ < launch_.threads;
  if (ready_count_ > 0 && !(fresh && started_ % 32 != 0)) {
    Thread* thread = ready_[ready_first_];
    ready_first_ = ready_first_ + 1 == ready_.size() ? 0 : ready_first_ + 1;
    ready_count_--;
    return thread;
  }
  if (!fresh) return nullptr;
  int place = started_++;
  return &threads_[reversed_ ? launch_.threads - 1 - place : place];
}

void Runner::Wait() {
  Thread* self = current;
  Thread* next = Next();
  if (!next) {
    current = nullptr;
    Fiber::Switch(self->fiber, home_);
  } else {
    if (!next->fiber) {
      next->fiber = FreeFiber();
    }
    if (next != self) {
      current = next;
      Fiber::Switch(self->fiber, next->fiber);
    }
  }
  current = self;
}

void Runner::Release(Thread* first, int count) {
  for (int i = 0; i < count; i++) {
    if (first + i == current) continue;
    ready_count_++;
    if (reversed_ && count > 1) {
      // A warp goes ahead as far as it can, to where others would have to be waited for.
      ready_first_ = ready_first_ == 0 ? ready_.size() - 1 : ready_first_ - 1;
      ready_[ready_first_] = first + i;
    } else {
      size_t at = ready_first_ + ready_count_ - 1;
      ready_[at >= ready_.size() ? at - ready_.size() : at] = first + i;
    }
  }
}

void Runner::ReleaseBlockIfAllArrived() {
  if (at_barrier_ == 0 || at_barrier_ + finished_ < launch_.threads) return;
  for (Thread* thread : barrier_) Release(thread, 1);
  barrier_.clear();
  at_barrier_ = 0;
}

void WaitForBlock(const char* file, int line) {
  Runner* r = running;
  if (r->at_barrier_ > 0 && (line != r->barrier_line_ || strcmp(file, r->barrier_file_) != 0)) {
    r->Fail("divergent barrier: threads at " + std::string(r->barrier_file_) + ":" +
            std::to_string(r->barrier_line_) + " and thread " + std::to_string(current->index) + " at " +
            file + ":" + std::to_string(line));
  }
  r->barrier_file_ = file;
  r->barrier_line_ = line;
  r->at_barrier_++;
  r->barrier_.push_back(current);
  if (r->at_barrier_ + r->finished_ == r->launch_.threads) {
    r->ReleaseBlockIfAllArrived();
  } else {
    r->Wait();
  }
}

const Slot* Collect(const char* operation, const void* mine, size_t bytes, void (*compute)(Slot* slots)) {
  Runner* r = running;
  Thread* self = current;
  Warp* warp = self->warp;
  if (warp->lanes < 32)
    r->Fail(std::string(operation) + " in a warp of " + std::to_string(warp->lanes) + " threads");
  if (warp->arrived > 0 && warp->operation != operation && strcmp(warp->operation, operation) != 0) {
    r->Fail(std::string("divergent warp: lanes at ") + warp->operation + " and thread " +
            std::to_string(self->index) + " at " + operation);
  }
  warp->operation = operation;
  Slot* slots = warp->slots[self->parity];
  self->parity ^= 1;
  memcpy(&slots[self->index % 32], mine, bytes);
  if (++warp->arrived < 32) {
    r->Wait();
  } else {
    warp->arrived = 0;
    if (compute) compute(slots);
    r->Release(&r->threads_[self->index / 32 * 32], 32);
  }
  return slots;
}

const Slot* Exchange(const char* operation, const void* mine, size_t bytes) {
  return Collect(operation, mine, bytes, nullptr);
}

void* StaticShared(size_t bytes, size_t alignment) {
  size_t at = RoundUp(current->shared_used, alignment);
  current->shared_used = at + bytes;
  if (current->shared_used > kStaticSharedLimit) abort();  // would not compile for a GPU
  return current->block->static_shared + at;
}

void Runner::Fail(const std::string& message) {
  message_ = "kernel " + std::string(launch_.kernel->name) + ", block " + std::to_string(block_.index[0]) +
             " " + std::to_string(block_.index[1]) + " " + std::to_string(block_.index[2]);
  if (current) message_ += ", thread " + std::to_string(current->index);
  message_ += ": " + message;
  siglongjmp(fault_, 1);
}

void Fail(const std::string& message) { running->Fail(message); }

void CopyLater(void* shared, const void* global, int valid, int bytes) {
  auto& copies = running->copies_[current->index];
  memset(shared, kPoison, bytes);
  copies.pending.push_back({shared, global, valid, bytes});
  copies.open++;
}

void CommitCopies() {
  auto& copies = running->copies_[current->index];
  copies.groups.push_back(copies.open);
  copies.open = 0;
}

void WaitForCopies(int pending) {
  auto& copies = running->copies_[current->index];
  int groups = std::max(0, (int)copies.groups.size() - pending);
  int count = 0;
  for (int i = 0; i < groups; i++) count += copies.groups[i];
  for (int i = 0; i < count; i++) {
    const auto& copy = copies.pending[i];
    if (copy.valid > 0) memcpy(copy.shared, copy.global, copy.valid);
    memset((char*)copy.shared + copy.valid, 0, copy.bytes - copy.valid);
  }
  copies.pending.erase(copies.pending.begin(), copies.pending.begin() + count);
  copies.groups.erase(copies.groups.begin(), copies.groups.begin() + groups);
}

// Every fibre starts anew.
void Runner::Reset() {
  free_ = fibers_;
  for (size_t i = 0; i < fibers_.size(); i++) fibers_[i]->Prepare(i);
}

bool Runner::Run(const Launch& launch, int64_t block, std::string* message) {
  launch_ = launch;
  reversed_ = reversed;
  int n = launch.threads;
  if (reversed_) block = (int64_t)launch.grid[0] * launch.grid[1] * launch.grid[2] - 1 - block;
  size_t dynamic = RoundUp(launch.dynamic_shared_bytes, 16);
  if (dynamic > dynamic_capacity_ || !dynamic_memory_) {
    if (dynamic_memory_) munmap(dynamic_memory_, dynamic_capacity_ + Page());
    dynamic_capacity_ = RoundUp(std::max<size_t>(dynamic, 1), Page());
    dynamic_memory_ = (char*)mmap(nullptr, dynamic_capacity_ + Page(), PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (dynamic_memory_ == MAP_FAILED) throw std::bad_alloc();
    mprotect(dynamic_memory_ + dynamic_capacity_, Page(), PROT_NONE);
  }
  block_.index[0] = (int)(block % launch.grid[0]);
  block_.index[1] = (int)(block / launch.grid[0] % launch.grid[1]);
  block_.index[2] = (int)(block / launch.grid[0] / launch.grid[1]);
  std::copy(launch.grid, launch.grid + 3, block_.grid);
  block_.threads = n;
  block_.dynamic_shared = dynamic_memory_ + dynamic_capacity_ - dynamic;
  block_.static_shared = static_memory_;
  memset(block_.dynamic_shared, kPoison, dynamic);
  threads_.resize(n);
  warps_.resize((n + 31) / 32);
  ready_.resize(n);
  copies_.resize(n);
  for (Copies& copies : copies_) {
    copies.pending.clear();
    copies.groups.clear();
    copies.open = 0;
  }
  for (size_t w = 0; w < warps_.size(); w++) {
    warps_[w].arrived = 0;
    warps_[w].lanes = std::min(32, n - (int)w * 32);
  }
  for (int i = 0; i < n; i++) threads_[i] = {i, &block_, &warps_[i / 32], nullptr, 0, 0};
  ready_first_ = ready_count_ = 0;
  started_ = finished_ = at_barrier_ = 0;
  barrier_.clear();
  running = this;
  bool good = true;
  if (sigsetjmp(fault_, 0) == 0) {
    Thread* first = Next();
    first->fiber = FreeFiber();
    current = first;
    Fiber::Switch(home_, first->fiber);
    if (finished_ < n) {
      int waiting = n - finished_ - at_barrier_;
      Fail("deadlock: " + std::to_string(finished_) + " threads have ended, " + std::to_string(at_barrier_) +
           " wait for the block, " + std::to_string(waiting) + " for their warps");
    }
  } else {
    good = false;
    *message = message_;
    Reset();
  }
  size_t used = 0;
  for (const Thread& thread : threads_) used = std::max(used, thread.shared_used);
  memset(static_memory_, kPoison, used);
  current = nullptr;
  running = nullptr;
  return good;
}

}  // namespace sam::emulator

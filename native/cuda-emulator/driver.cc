// Start, devices, contexts, memory, and what tests steer the emulator with.
#include "driver.h"

#include <stdlib.h>
#include <string.h>

#include <map>
#include <mutex>
#include <string>

#include "memory.h"

namespace sam::emulator {

namespace {

struct Failure {
  int status;
  int after;  // calls that still succeed
};

std::mutex failures_mutex;
std::map<std::string, Failure> failures;
std::atomic<int> recording{0};        // streams that forbid unsafe calls everywhere
thread_local int recording_here = 0;  // and in this thread
std::atomic<int> contexts{0};
std::atomic<bool> initialized{false};

// cuMemAlloc_v2 is cuMemAlloc to whoever injects a failure.
std::string Plain(const char* function) {
  std::string name = function;
  return name.size() > 3 && name.compare(name.size() - 3, 3, "_v2") == 0 ? name.substr(0, name.size() - 3)
                                                                         : name;
}

// Statuses after which a real context is gone.
bool IsFatal(int status) {
  return status == CUDA_ERROR_ECC_UNCORRECTABLE || (status >= CUDA_ERROR_ILLEGAL_ADDRESS && status < 800 &&
                                                    status != CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
}

int Injected(const char* function) {
  std::lock_guard<std::mutex> lock(failures_mutex);
  auto found = failures.find(Plain(function));
  if (found == failures.end() || found->second.after-- > 0) return 0;
  int status = found->second.status;
  failures.erase(found);
  return status;
}

}  // namespace

int Begin(const char* function) {
  if (int status = Injected(function)) {
    if (IsFatal(status))
      Device::Instance().Lose(status, std::string(function) + ": injected " + std::to_string(status));
    return status;
  }
  return Device::Instance().Fault();
}

int BeginUncaptured(const char* function) {
  if (int status = Begin(function)) return status;
  return recording + recording_here > 0 ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : 0;
}

int BeginWaiting(const char* function, Stream* stream) {
  if (int status = Begin(function)) return status;
  if (stream && stream->capture) {
    stream->invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return 0;
}

int Give(Stream* stream, Operation operation) {
  if (stream && stream->capture) {
    stream->capture->operations.push_back(std::move(operation));
  } else {
    Device::Instance().Enqueue(std::move(operation));
  }
  return 0;
}

Stream* StreamOf(void* handle) { return (Stream*)handle; }

void BeginRecording(Stream* stream, int mode) {
  stream->capture = new Graph();
  stream->invalidated = false;
  stream->mode = mode;
  if (mode == 0) recording++;
  if (mode == 1) recording_here++;
}

Graph* EndRecording(Stream* stream) {
  Graph* graph = stream->capture;
  stream->capture = nullptr;
  if (stream->mode == 0) recording--;
  if (stream->mode == 1) recording_here--;
  return graph;
}

}  // namespace sam::emulator

using namespace sam::emulator;

SAM_DRIVER cuInit(unsigned) {
  if (int status = Begin("cuInit")) return status;
  initialized = true;
  return 0;
}

SAM_DRIVER cuDriverGetVersion(int* version) {
  if (int status = Begin("cuDriverGetVersion")) return status;
  const char* set = getenv("SAM_EMULATOR_VERSION");
  *version = set ? atoi(set) : 12040;
  return 0;
}

SAM_DRIVER cuDeviceGetCount(int* count) {
  if (int status = Begin("cuDeviceGetCount")) return status;
  if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
  *count = 1;
  return 0;
}

SAM_DRIVER cuDeviceGet(int* device, int ordinal) {
  if (int status = Begin("cuDeviceGet")) return status;
  if (!initialized) return CUDA_ERROR_NOT_INITIALIZED;
  if (ordinal != 0) return CUDA_ERROR_INVALID_DEVICE;
  *device = 0;
  return 0;
}

SAM_DRIVER cuDeviceGetName(char* name, int length, int) {
  if (int status = Begin("cuDeviceGetName")) return status;
  if (length < 1) return CUDA_ERROR_INVALID_VALUE;
  strncpy(name, "SamEngine CUDA emulator", (size_t)length - 1);
  name[length - 1] = 0;
  return 0;
}

SAM_DRIVER cuDeviceGetAttribute(int* value, int attribute, int) {
  if (int status = Begin("cuDeviceGetAttribute")) return status;
  static const std::map<int, int> values = {
      {1, 1024},        // MAX_THREADS_PER_BLOCK
      {2, 1024},        // MAX_BLOCK_DIM_X
      {5, 2147483647},  // MAX_GRID_DIM_X
      {6, 65535},       // MAX_GRID_DIM_Y
      {7, 65535},       // MAX_GRID_DIM_Z
      {8, 49152},       // MAX_SHARED_MEMORY_PER_BLOCK
      {10, 32},         // WARP_SIZE
      {13, 1980000},    // CLOCK_RATE, kHz
      {16, 8},          // MULTIPROCESSOR_COUNT: few, so that grids stay small
      {38, 52428800},   // L2_CACHE_SIZE
      {41, 1},          // UNIFIED_ADDRESSING
      {75, 9},          // COMPUTE_CAPABILITY_MAJOR
      {76, 0},          // COMPUTE_CAPABILITY_MINOR
      {81, 233472},     // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
      {97, 232448},     // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
      {115, 1},         // MEMORY_POOLS_SUPPORTED
  };
  auto found = values.find(attribute);
  if (found == values.end()) return CUDA_ERROR_INVALID_VALUE;
  *value = found->second;
  return 0;
}

SAM_DRIVER cuDeviceTotalMem_v2(size_t* bytes, int) {
  if (int status = Begin("cuDeviceTotalMem_v2")) return status;
  *bytes = Memory::Instance().Total();
  return 0;
}

SAM_DRIVER cuDevicePrimaryCtxRetain(void** context, int) {
  if (int status = Begin("cuDevicePrimaryCtxRetain")) return status;
  contexts++;
  *context = &contexts;
  return 0;
}

// The last release takes the memory with it, and the fault.
SAM_DRIVER cuDevicePrimaryCtxRelease_v2(int) {
  if (contexts == 0) return CUDA_ERROR_INVALID_CONTEXT;
  if (--contexts == 0) {
    Device::Instance().Reset();
    Memory::Instance().FreeAll();
  }
  return 0;
}

SAM_DRIVER cuCtxSetCurrent(void* context) {
  if (int status = Begin("cuCtxSetCurrent")) return status;
  return context && context != &contexts ? CUDA_ERROR_INVALID_CONTEXT : 0;
}

SAM_DRIVER cuCtxSynchronize() {
  if (int status = BeginUncaptured("cuCtxSynchronize")) return status;
  Device::Instance().counters.synchronizations++;
  return Device::Instance().Finish();
}

SAM_DRIVER cuMemGetInfo_v2(size_t* free, size_t* total) {
  if (int status = Begin("cuMemGetInfo_v2")) return status;
  Memory& memory = Memory::Instance();
  *total = memory.Total();
  *free = *total - memory.Used();
  return 0;
}

static int Allocate(void** pointer, size_t bytes) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  Device::Instance().counters.allocations++;
  *pointer = Memory::Instance().Allocate(bytes);
  if (*pointer) return 0;
  // Memory whose release has been enqueued is free by now on a real device.
  if (int status = Device::Instance().Finish()) return status;
  *pointer = Memory::Instance().Allocate(bytes);
  return *pointer ? 0 : CUDA_ERROR_OUT_OF_MEMORY;
}

SAM_DRIVER cuMemAlloc_v2(void** pointer, size_t bytes) {
  if (int status = BeginUncaptured("cuMemAlloc_v2")) return status;
  return Allocate(pointer, bytes);
}

SAM_DRIVER cuMemFree_v2(void* pointer) {
  if (int status = BeginUncaptured("cuMemFree_v2")) return status;
  if (int status = Device::Instance().Finish()) return status;
  return Memory::Instance().Free(pointer) ? 0 : CUDA_ERROR_INVALID_VALUE;
}

// Inside a recording this would be a node of its own; nothing here may allocate in a step.
SAM_DRIVER cuMemAllocAsync(void** pointer, size_t bytes, void* stream) {
  if (int status = Begin("cuMemAllocAsync")) return status;
  if (stream && StreamOf(stream)->capture) return CUDA_ERROR_NOT_SUPPORTED;
  return Allocate(pointer, bytes);
}

SAM_DRIVER cuMemFreeAsync(void* pointer, void* stream) {
  if (int status = Begin("cuMemFreeAsync")) return status;
  if (stream && StreamOf(stream)->capture) return CUDA_ERROR_NOT_SUPPORTED;
  if (!Memory::Instance().Contains(pointer, 1)) return CUDA_ERROR_INVALID_VALUE;
  Operation operation{Operation::kFree};
  operation.destination = pointer;
  return Give(nullptr, std::move(operation));
}

SAM_DRIVER cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  if (int status = BeginUncaptured("cuMemHostAlloc")) return status;
  *pointer = Memory::Instance().AllocatePinned(bytes);
  return *pointer ? 0 : CUDA_ERROR_OUT_OF_MEMORY;
}

SAM_DRIVER cuMemFreeHost(void* pointer) {
  if (int status = BeginUncaptured("cuMemFreeHost")) return status;
  if (int status = Device::Instance().Finish()) return status;
  return Memory::Instance().FreePinned(pointer) ? 0 : CUDA_ERROR_INVALID_VALUE;
}

// Pinned memory is read when the copy runs; other memory is read at once, as the driver stages it.
SAM_DRIVER cuMemcpyHtoDAsync_v2(void* destination, const void* source, size_t bytes, void* stream) {
  if (int status = Begin("cuMemcpyHtoDAsync_v2")) return status;
  Memory& memory = Memory::Instance();
  if (!memory.Contains(destination, bytes)) return CUDA_ERROR_INVALID_VALUE;
  Device::Instance().counters.copies++;
  Operation operation{Operation::kCopy};
  operation.destination = destination;
  operation.source = source;
  operation.bytes = bytes;
  bool recorded = stream && StreamOf(stream)->capture;
  if (!recorded && !memory.IsPinned(source, bytes)) {
    operation.snapshot.assign((const char*)source, (const char*)source + bytes);
  }
  return Give(StreamOf(stream), std::move(operation));
}

// Into pinned memory when the copy runs, into other memory before the call returns.
SAM_DRIVER cuMemcpyDtoHAsync_v2(void* destination, const void* source, size_t bytes, void* stream) {
  if (int status = Begin("cuMemcpyDtoHAsync_v2")) return status;
  Memory& memory = Memory::Instance();
  if (!memory.Contains(source, bytes)) return CUDA_ERROR_INVALID_VALUE;
  Device::Instance().counters.copies++;
  Operation operation{Operation::kCopy};
  operation.destination = destination;
  operation.source = source;
  operation.bytes = bytes;
  Give(StreamOf(stream), std::move(operation));
  bool recorded = stream && StreamOf(stream)->capture;
  return recorded || memory.IsPinned(destination, bytes) ? 0 : Device::Instance().Finish();
}

SAM_DRIVER cuMemcpyDtoDAsync_v2(void* destination, const void* source, size_t bytes, void* stream) {
  if (int status = Begin("cuMemcpyDtoDAsync_v2")) return status;
  Memory& memory = Memory::Instance();
  if (!memory.Contains(source, bytes) || !memory.Contains(destination, bytes))
    return CUDA_ERROR_INVALID_VALUE;
  Device::Instance().counters.copies++;
  Operation operation{Operation::kCopy};
  operation.destination = destination;
  operation.source = source;
  operation.bytes = bytes;
  return Give(StreamOf(stream), std::move(operation));
}

static int Set(void* destination, unsigned value, int width, size_t count, void* stream) {
  size_t bytes = count * (size_t)width;
  if (!Memory::Instance().Contains(destination, bytes)) return CUDA_ERROR_INVALID_VALUE;
  Operation operation{Operation::kSet};
  operation.destination = destination;
  operation.value = value;
  operation.width = width;
  operation.bytes = bytes;
  return Give(StreamOf(stream), std::move(operation));
}

SAM_DRIVER cuMemsetD8Async(void* destination, unsigned char value, size_t count, void* stream) {
  if (int status = Begin("cuMemsetD8Async")) return status;
  return Set(destination, value, 1, count, stream);
}

SAM_DRIVER cuMemsetD16Async(void* destination, unsigned short value, size_t count, void* stream) {
  if (int status = Begin("cuMemsetD16Async")) return status;
  return Set(destination, value, 2, count, stream);
}

SAM_DRIVER cuMemsetD32Async(void* destination, unsigned value, size_t count, void* stream) {
  if (int status = Begin("cuMemsetD32Async")) return status;
  return Set(destination, value, 4, count, stream);
}

static const std::map<int, std::pair<const char*, const char*>>& Names() {
  static const std::map<int, std::pair<const char*, const char*>> names = {
      {CUDA_SUCCESS, {"CUDA_SUCCESS", "no error"}},
      {CUDA_ERROR_INVALID_VALUE, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
      {CUDA_ERROR_OUT_OF_MEMORY, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
      {CUDA_ERROR_NOT_INITIALIZED, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
      {CUDA_ERROR_NO_DEVICE, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
      {CUDA_ERROR_INVALID_DEVICE, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
      {CUDA_ERROR_INVALID_IMAGE, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
      {CUDA_ERROR_INVALID_CONTEXT, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
      {CUDA_ERROR_NO_BINARY_FOR_GPU,
       {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"}},
      {CUDA_ERROR_ECC_UNCORRECTABLE, {"CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"}},
      {CUDA_ERROR_INVALID_PTX, {"CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"}},
      {CUDA_ERROR_INVALID_HANDLE, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
      {CUDA_ERROR_NOT_FOUND, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
      {CUDA_ERROR_NOT_READY, {"CUDA_ERROR_NOT_READY", "device not ready"}},
      {CUDA_ERROR_ILLEGAL_ADDRESS,
       {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
      {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
       {"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"}},
      {CUDA_ERROR_LAUNCH_TIMEOUT, {"CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"}},
      {CUDA_ERROR_CONTEXT_IS_DESTROYED, {"CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"}},
      {CUDA_ERROR_MISALIGNED_ADDRESS, {"CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"}},
      {CUDA_ERROR_LAUNCH_FAILED, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
      {CUDA_ERROR_NOT_SUPPORTED, {"CUDA_ERROR_NOT_SUPPORTED", "operation not supported"}},
      {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
       {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"}},
      {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
       {"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"}},
      {CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE,
       {"CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE", "the graph update was not performed"}},
      {CUDA_ERROR_UNKNOWN, {"CUDA_ERROR_UNKNOWN", "unknown error"}},
  };
  return names;
}

SAM_DRIVER cuGetErrorName(int status, const char** name) {
  auto found = Names().find(status);
  *name = found == Names().end() ? nullptr : found->second.first;
  return *name ? 0 : CUDA_ERROR_INVALID_VALUE;
}

SAM_DRIVER cuGetErrorString(int status, const char** text) {
  auto found = Names().find(status);
  *text = found == Names().end() ? nullptr : found->second.second;
  return *text ? 0 : CUDA_ERROR_INVALID_VALUE;
}

// For tests. The function's name is the driver's, with or without _v2; its next call but `after` gives the
// status. A status that ends a real context ends this device.
SAM_DRIVER samEmulatorFail(const char* function, int status, int after) {
  std::lock_guard<std::mutex> lock(failures_mutex);
  failures[Plain(function)] = {status, after};
  return 0;
}

// Forgets injected failures and the fault that ended the device; memory stays.
SAM_DRIVER samEmulatorReset() {
  {
    std::lock_guard<std::mutex> lock(failures_mutex);
    failures.clear();
  }
  Device::Instance().Reset();
  return 0;
}

// Whether threads and blocks start from the last (Runner::reversed).
SAM_DRIVER samEmulatorReverse(int reversed) {
  Device::Instance().Finish();
  Runner::reversed = reversed != 0;
  return 0;
}

// The device's memory; not less than what is in use.
SAM_DRIVER samEmulatorSetMemory(uint64_t bytes) {
  Memory::Instance().SetTotal(bytes);
  return 0;
}

// Since the start: kernels run or enqueued, copies, allocations of device memory, synchronisations, graphs
// launched; and now: device allocations that live, and their bytes.
SAM_DRIVER samEmulatorCounters(int64_t values[7]) {
  Counters& counters = Device::Instance().counters;
  values[0] = counters.launches;
  values[1] = counters.copies;
  values[2] = counters.allocations;
  values[3] = counters.synchronizations;
  values[4] = counters.graph_launches;
  values[5] = Memory::Instance().Live();
  values[6] = (int64_t)Memory::Instance().Used();
  return 0;
}

// What ended the device, as UTF-8 with a zero behind; empty when nothing did.
SAM_DRIVER samEmulatorLastError(char* text, int length) {
  if (length < 1) return CUDA_ERROR_INVALID_VALUE;
  std::string error = Device::Instance().LastError();
  strncpy(text, error.c_str(), (size_t)length - 1);
  text[length - 1] = 0;
  return 0;
}

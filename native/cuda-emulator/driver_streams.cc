// Modules, launches, streams, events, graphs.
#include <string.h>

#include <memory>
#include <set>
#include <string>

#include "driver.h"
#include "memory.h"

namespace sam::emulator {

namespace {

constexpr int kMostShared = 232448;
constexpr int kSharedWithoutAsking = 49152;
constexpr int kMaxDynamicSharedBytes = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
constexpr int kMaxThreadsPerBlock = 0;     // CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK

struct Function {
  const Kernel* kernel;
  int most_shared = kSharedWithoutAsking;
};

struct Module {
  std::vector<std::unique_ptr<Function>> functions;
};

int LaunchKernel(Function* function, const unsigned grid[3], const unsigned block[3], unsigned shared,
                 void* stream, void** arguments) {
  const Kernel* kernel = function->kernel;
  for (int i = 0; i < 3; i++) {
    if (grid[i] == 0 || block[i] == 0 || (i > 0 && grid[i] > 65535) || grid[i] > 2147483647u) {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  // The kernels' blocks have one dimension.
  if (block[1] != 1 || block[2] != 1 || !arguments || shared > (unsigned)function->most_shared) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (block[0] > (unsigned)kernel->most_threads) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  Device::Instance().counters.launches++;
  Operation operation{Operation::kLaunch};
  operation.launch.kernel = kernel;
  for (int i = 0; i < 3; i++) operation.launch.grid[i] = (int)grid[i];
  operation.launch.threads = (int)block[0];
  operation.launch.dynamic_shared_bytes = shared;
  operation.arguments.assign((const char*)arguments[0], (const char*)arguments[0] + kernel->argument_bytes);
  return Give(StreamOf(stream), std::move(operation));
}

}  // namespace

}  // namespace sam::emulator

using namespace sam::emulator;

// The image only has to be there: functions come from the kernels linked into this library.
SAM_DRIVER cuModuleLoadData(void** module, const void* image) {
  if (int status = BeginUncaptured("cuModuleLoadData")) return status;
  if (!image) return CUDA_ERROR_INVALID_IMAGE;
  *module = new Module();
  return 0;
}

SAM_DRIVER cuModuleLoadDataEx(void** module, const void* image, unsigned, int*, void**) {
  if (int status = BeginUncaptured("cuModuleLoadDataEx")) return status;
  if (!image) return CUDA_ERROR_INVALID_IMAGE;
  *module = new Module();
  return 0;
}

SAM_DRIVER cuModuleUnload(void* module) {
  if (int status = BeginUncaptured("cuModuleUnload")) return status;
  Device::Instance().Finish();
  delete (Module*)module;
  return 0;
}

SAM_DRIVER cuModuleGetFunction(void** function, void* module, const char* name) {
  if (int status = Begin("cuModuleGetFunction")) return status;
  const Kernel* kernel = FindKernel(name);
  if (!kernel) return CUDA_ERROR_NOT_FOUND;
  auto& functions = ((Module*)module)->functions;
  functions.push_back(std::make_unique<Function>(Function{kernel}));
  *function = functions.back().get();
  return 0;
}

SAM_DRIVER cuFuncGetParamInfo(void* function, size_t index, size_t* offset, size_t* bytes) {
  if (int status = Begin("cuFuncGetParamInfo")) return status;
  if (index > 0) return CUDA_ERROR_INVALID_VALUE;
  *offset = 0;
  if (bytes) *bytes = ((Function*)function)->kernel->argument_bytes;
  return 0;
}

SAM_DRIVER cuFuncSetAttribute(void* function, int attribute, int value) {
  if (int status = Begin("cuFuncSetAttribute")) return status;
  if (attribute != kMaxDynamicSharedBytes) return 0;  // preferences
  if (value < 0 || value > kMostShared) return CUDA_ERROR_INVALID_VALUE;
  ((Function*)function)->most_shared = value > kSharedWithoutAsking ? value : kSharedWithoutAsking;
  return 0;
}

SAM_DRIVER cuFuncGetAttribute(int* value, int attribute, void* function) {
  if (int status = Begin("cuFuncGetAttribute")) return status;
  if (attribute == kMaxThreadsPerBlock) {
    *value = ((Function*)function)->kernel->most_threads;
  } else if (attribute == kMaxDynamicSharedBytes) {
    *value = ((Function*)function)->most_shared;
  } else {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return 0;
}

SAM_DRIVER cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared, void* stream, void** arguments,
                          void**) {
  if (int status = Begin("cuLaunchKernel")) return status;
  unsigned grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
  return LaunchKernel((Function*)function, grid, block, shared, stream, arguments);
}

SAM_DRIVER cuLaunchKernelEx(const CUlaunchConfig* c, void* function, void** arguments, void**) {
  if (int status = Begin("cuLaunchKernelEx")) return status;
  unsigned grid[3] = {c->gridDimX, c->gridDimY, c->gridDimZ},
           block[3] = {c->blockDimX, c->blockDimY, c->blockDimZ};
  return LaunchKernel((Function*)function, grid, block, c->sharedMemBytes, c->hStream, arguments);
}

SAM_DRIVER cuStreamCreate(void** stream, unsigned) {
  if (int status = BeginUncaptured("cuStreamCreate")) return status;
  *stream = new Stream();
  return 0;
}

SAM_DRIVER cuStreamDestroy_v2(void* handle) {
  if (int status = Begin("cuStreamDestroy_v2")) return status;
  Stream* stream = StreamOf(handle);
  if (stream->capture) delete EndRecording(stream);
  delete stream;
  return 0;
}

SAM_DRIVER cuStreamSynchronize(void* stream) {
  if (int status = BeginWaiting("cuStreamSynchronize", StreamOf(stream))) return status;
  Device::Instance().counters.synchronizations++;
  return Device::Instance().Finish();
}

SAM_DRIVER cuStreamQuery(void* stream) {
  if (int status = BeginWaiting("cuStreamQuery", StreamOf(stream))) return status;
  return Device::Instance().Finish();
}

// All work runs in the order it was given: there is nothing to wait for.
SAM_DRIVER cuStreamWaitEvent(void*, void*, unsigned) { return Begin("cuStreamWaitEvent"); }

SAM_DRIVER cuEventCreate(void** event, unsigned) {
  if (int status = Begin("cuEventCreate")) return status;
  *event = new Event();
  return 0;
}

SAM_DRIVER cuEventDestroy_v2(void* event) {
  if (int status = Begin("cuEventDestroy_v2")) return status;
  Device::Instance().Finish();
  delete (Event*)event;
  return 0;
}

SAM_DRIVER cuEventRecord(void* event, void* stream) {
  if (int status = Begin("cuEventRecord")) return status;
  if (stream && StreamOf(stream)->capture) return 0;  // an event in a graph only orders it
  Operation operation{Operation::kRecord};
  operation.event = (Event*)event;
  return Give(nullptr, std::move(operation));
}

SAM_DRIVER cuEventSynchronize(void*) {
  if (int status = BeginUncaptured("cuEventSynchronize")) return status;
  Device::Instance().counters.synchronizations++;
  return Device::Instance().Finish();
}

SAM_DRIVER cuEventQuery(void*) {
  if (int status = BeginUncaptured("cuEventQuery")) return status;
  return Device::Instance().Finish();
}

SAM_DRIVER cuEventElapsedTime(float* milliseconds, void* start, void* end) {
  if (int status = Begin("cuEventElapsedTime")) return status;
  if (int status = Device::Instance().Finish()) return status;
  *milliseconds = (float)(((Event*)end)->nanoseconds - ((Event*)start)->nanoseconds) * 1e-6f;
  return 0;
}

SAM_DRIVER cuStreamBeginCapture_v2(void* handle, int mode) {
  if (int status = Begin("cuStreamBeginCapture_v2")) return status;
  Stream* stream = StreamOf(handle);
  if (!stream || stream->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  BeginRecording(stream, mode);
  return 0;
}

SAM_DRIVER cuStreamEndCapture(void* handle, void** graph) {
  if (int status = Begin("cuStreamEndCapture")) return status;
  Stream* stream = StreamOf(handle);
  if (!stream || !stream->capture) return CUDA_ERROR_INVALID_VALUE;
  *graph = EndRecording(stream);
  if (!stream->invalidated) return 0;
  delete (Graph*)*graph;
  *graph = nullptr;
  return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
}

SAM_DRIVER cuStreamIsCapturing(void* stream, int* capturing) {
  if (int status = Begin("cuStreamIsCapturing")) return status;
  *capturing = stream && StreamOf(stream)->capture ? StreamOf(stream)->invalidated ? 2 : 1 : 0;
  return 0;
}

SAM_DRIVER cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
  if (int status = Begin("cuGraphInstantiateWithFlags")) return status;
  *executable = new Graph(*(const Graph*)graph);
  return 0;
}

SAM_DRIVER cuGraphLaunch(void* executable, void* stream) {
  if (int status = Begin("cuGraphLaunch")) return status;
  Device& device = Device::Instance();
  device.counters.graph_launches++;
  for (const Operation& operation : ((const Graph*)executable)->operations) {
    if (operation.kind == Operation::kLaunch) device.counters.launches++;
    if (operation.kind == Operation::kCopy) device.counters.copies++;
    Give(StreamOf(stream), operation);
  }
  return 0;
}

SAM_DRIVER cuGraphExecUpdate_v2(void* executable, void* graph, CUgraphExecUpdateResultInfo* info) {
  if (int status = Begin("cuGraphExecUpdate_v2")) return status;
  auto& old = ((Graph*)executable)->operations;
  const auto& fresh = ((const Graph*)graph)->operations;
  bool alike = old.size() == fresh.size();
  for (size_t i = 0; alike && i < old.size(); i++) {
    alike = old[i].kind == fresh[i].kind && old[i].launch.kernel == fresh[i].launch.kernel;
  }
  *info = {alike ? 0 : 2, nullptr, nullptr};  // CU_GRAPH_EXEC_UPDATE_SUCCESS, _ERROR_TOPOLOGY_CHANGED
  if (!alike) return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  old = fresh;
  return 0;
}

SAM_DRIVER cuGraphExecDestroy(void* executable) {
  if (int status = Begin("cuGraphExecDestroy")) return status;
  delete (Graph*)executable;
  return 0;
}

SAM_DRIVER cuGraphDestroy(void* graph) {
  if (int status = Begin("cuGraphDestroy")) return status;
  delete (Graph*)graph;
  return 0;
}

// The part of the CUDA driver API that the emulator exports, with the names, values and layouts of cuda.h.
#ifndef SAMENGINE_DRIVER_H_
#define SAMENGINE_DRIVER_H_

#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "device.h"

#define SAM_DRIVER extern "C" __attribute__((visibility("default"))) int

enum CudaStatus {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NOT_INITIALIZED = 3,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_IMAGE = 200,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
  CUDA_ERROR_ECC_UNCORRECTABLE = 214,
  CUDA_ERROR_INVALID_PTX = 218,
  CUDA_ERROR_INVALID_HANDLE = 400,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_NOT_READY = 600,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
  CUDA_ERROR_LAUNCH_TIMEOUT = 702,
  CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
  CUDA_ERROR_MISALIGNED_ADDRESS = 716,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_NOT_SUPPORTED = 801,
  CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
  CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
  CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE = 910,
  CUDA_ERROR_UNKNOWN = 999,
};

struct CUlaunchConfig {
  unsigned gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
  void* hStream;
  void* attrs;
  unsigned numAttrs;
};

struct CUgraphExecUpdateResultInfo {
  int result;
  void *errorNode, *errorFromNode;
};

namespace sam::emulator {

struct Graph {
  std::vector<Operation> operations;
};

struct Stream {
  Graph* capture = nullptr;  // what is being recorded, or null
  bool invalidated = false;  // something happened that may not be recorded
  int mode = 0;  // of the recording: 0 forbids unsafe calls everywhere, 1 in its thread, 2 nowhere
};

// What every call begins with: the status of a lost device or of an injected failure, else 0.
int Begin(const char* function);
// For calls that may not come while a stream records, as far as its mode forbids them.
int BeginUncaptured(const char* function);
// For calls on a stream that waits: not while it records.
int BeginWaiting(const char* function, Stream* stream);
// Enqueues, or records.
int Give(Stream* stream, Operation operation);
Stream* StreamOf(void* handle);
void BeginRecording(Stream* stream, int mode);
// What was recorded; the caller owns it.
Graph* EndRecording(Stream* stream);

}  // namespace sam::emulator

#endif  // SAMENGINE_DRIVER_H_

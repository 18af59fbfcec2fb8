// Lists the GPUs that the guest sees and lets each compute something; on the console and in /workspace/gpu.txt.
//
// Task: no arguments. Result: the file gpu.txt, and `devices: N` or `error: …` as data.

#include <cuda_runtime.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

extern "C" {
#include "shim.h"
}

namespace {

constexpr const char *kReport = "/workspace/gpu.txt";

bool failed = false;

// Writes to the console and to the report, which may be missing.
class Report {
 public:
  explicit Report(const char *path) : file_(std::fopen(path, "w")) {}
  Report(const Report &) = delete;
  Report &operator=(const Report &) = delete;
  ~Report() { close(); }

  void line(const char *format, ...) {
    va_list console, file;
    va_start(console, format);
    va_copy(file, console);
    std::vprintf(format, console);
    std::putchar('\n');
    if (file_ != nullptr) {
      written_ &= std::vfprintf(file_, format, file) >= 0 && std::fputc('\n', file_) != EOF;
    }
    va_end(file);
    va_end(console);
  }

  // True when everything is in the file.
  bool close() {
    if (file_ != nullptr) {
      closed_ = std::fclose(file_) == 0 && written_;
      file_ = nullptr;
    }
    return closed_;
  }

 private:
  std::FILE *file_;
  bool written_ = true;
  bool closed_ = false;
};

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// A number that a device knows about itself, or -1. Asked one by one: CUDA 13 dropped some of them from cudaDeviceProp.
int attribute(cudaDeviceAttr which, int device) {
  int value = -1;
  return cudaDeviceGetAttribute(&value, which, device) == cudaSuccess ? value : -1;
}

__global__ void add_index(unsigned *values, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] += i;
}

// Runs a kernel on the current device: a driver can list a GPU and still not run code on it.
cudaError_t compute(bool &right) {
  constexpr unsigned kCount = 1u << 20, kThreads = 256, kStart = 7;
  std::vector<unsigned> values(kCount, kStart);
  const size_t size = kCount * sizeof(unsigned);
  unsigned *on_device = nullptr;

  cudaError_t status = cudaMalloc(&on_device, size);
  if (status != cudaSuccess) return status;
  status = cudaMemcpy(on_device, values.data(), size, cudaMemcpyHostToDevice);
  if (status == cudaSuccess) {
    add_index<<<kCount / kThreads, kThreads>>>(on_device, kCount);
    status = cudaGetLastError();
  }
  if (status == cudaSuccess) status = cudaMemcpy(values.data(), on_device, size, cudaMemcpyDeviceToHost);
  cudaFree(on_device);

  right = status == cudaSuccess;
  for (unsigned i = 0; i < kCount; ++i) right = right && values[i] == kStart + i;
  return status;
}

cudaError_t describe(int device, Report &report) {
  cudaDeviceProp properties;
  cudaError_t status = cudaGetDeviceProperties(&properties, device);
  if (status != cudaSuccess) return status;

  report.line("device %d: %s", device, properties.name);
  report.line("  compute capability:  %d.%d", properties.major, properties.minor);
  report.line("  global memory:       %zu MiB", properties.totalGlobalMem >> 20);
  report.line("  multiprocessors:     %d", properties.multiProcessorCount);
  report.line("  threads per block:   %d", properties.maxThreadsPerBlock);
  report.line("  shared memory/block: %zu KiB", properties.sharedMemPerBlock >> 10);
  report.line("  L2 cache:            %d KiB", properties.l2CacheSize >> 10);
  report.line("  core clock:          %d MHz", attribute(cudaDevAttrClockRate, device) / 1000);
  report.line("  memory clock:        %d MHz", attribute(cudaDevAttrMemoryClockRate, device) / 1000);
  report.line("  PCI address:         %04x:%02x:%02x.0", properties.pciDomainID, properties.pciBusID,
              properties.pciDeviceID);

  bool right = false;
  status = cudaSetDevice(device);
  if (status == cudaSuccess) status = compute(right);
  if (status != cudaSuccess) return status;
  report.line("  kernel:              %s", right ? "ran, right result" : "ran, WRONG RESULT");
  return right ? cudaSuccess : cudaErrorUnknown;
}

// Counts the devices and describes each in the report.
cudaError_t query(int &count, Report &report) {
  int driver = 0, runtime = 0;
  cudaError_t status = cudaDriverGetVersion(&driver);
  if (status == cudaSuccess) status = cudaRuntimeGetVersion(&runtime);
  if (status != cudaSuccess) return status;
  // The driver's is the newest CUDA that it knows; 0 means that there is no driver.
  report.line("CUDA: driver %s, runtime %s", version_text(driver).c_str(), version_text(runtime).c_str());

  status = cudaGetDeviceCount(&count);
  for (int device = 0; device < count && status == cudaSuccess; ++device) status = describe(device, report);
  return status;
}

void *answer(const std::string &data) {
  // The shim copies the bytes; its interface merely lacks a const.
  return new_task_result(reinterpret_cast<uint8_t *>(const_cast<char *>(data.data())), data.size());
}

void *work(const Task *) {
  Report report(kReport);
  int count = 0;
  const cudaError_t status = query(count, report);
  std::string data = "devices: " + std::to_string(count);
  if (status != cudaSuccess) {
    failed = true;
    data = std::string("error: ") + cudaGetErrorName(status) + ": " + cudaGetErrorString(status);
  }
  report.line("%s", data.c_str());

  const bool written = report.close();
  if (!written) {
    failed = true;
    data = std::string("error: can't write ") + kReport;
    std::puts(data.c_str());
  }
  void *result = answer(data);
  if (written) add_file_to_result(result, kReport);
  return result;
}

}  // namespace

int main() {
  run(work);
  return failed ? 1 : 0;
}

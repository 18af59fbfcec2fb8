// A Gevulot program on the GPU: adds up 0..n-1 on the device, n being the task's first argument.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

extern "C" {
#include "shim.h"
}

__global__ void add(unsigned long long *sum, unsigned long long n)
{
    unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
    if (i < n)
        atomicAdd(sum, i);
}

static void *on_task(const struct Task *task)
{
    unsigned long long n = task->args && task->args[0] ? std::strtoull(task->args[0], nullptr, 10) : 1000;
    unsigned long long *sum = nullptr, result = 0;
    cudaError_t status = cudaMalloc(&sum, sizeof *sum);
    if (status == cudaSuccess) {
        cudaMemset(sum, 0, sizeof *sum);
        add<<<(n + 255) / 256, 256>>>(sum, n);
        status = cudaMemcpy(&result, sum, sizeof result, cudaMemcpyDeviceToHost);
        cudaFree(sum);
    }
    std::string answer = status == cudaSuccess ? std::to_string(result) : cudaGetErrorString(status);
    std::printf("task %s: %s\n", task->id, answer.c_str());
    return new_task_result(reinterpret_cast<std::uint8_t *>(&answer[0]), answer.size());
}

int main()
{
    run(on_task);
}

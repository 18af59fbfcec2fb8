// What provers spend their time on, on the GPU: number-theoretic transforms (NTT) over BN254's scalar field.
//
// Task: args [BITS [SEED]]. Makes a polynomial p of 2^(BITS-1) coefficients from SEED, and squares it by way of its
// values at the 2^BITS roots of unity: NTT, a product at each root, inverse NTT.
// Result: the file product.bin (2^BITS coefficients of p*p, 32 bytes each, little-endian) and, as data,
// `right 2^BITS` or `error: …`.
//
// The device's result is checked twice on the CPU: against the same transform there, and, as that could be wrong in
// the same way, by p(z)*p(z) == (p*p)(z) at points z, by Horner's rule alone.

#include <cuda_runtime.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "field.cuh"

extern "C" {
#include "shim.h"
}

namespace {

using bn254::Field;

constexpr const char *kProduct = "/workspace/product.bin";
constexpr unsigned kDefaultBits = 16, kMaximumBits = 24, kThreads = 256, kPoints = 3;

bool failed = false;

// One butterfly of a layer: `i` counts the 2^(bits-1) of them, `half` is half the layer's block.
BOTH void butterfly(Field *values, const Field *roots, unsigned i, unsigned half, unsigned stride) {
  const unsigned place = i % half, low = i / half * 2 * half + place;
  const Field a = values[low], b = bn254::multiply(values[low + half], roots[place * stride]);
  values[low] = bn254::add(a, b);
  values[low + half] = bn254::subtract(a, b);
}

// Where element i goes before the layers: its index with the bits reversed.
BOTH unsigned reversed(unsigned i, unsigned bits) {
  unsigned result = 0;
  for (unsigned bit = 0; bit < bits; ++bit) result |= (i >> bit & 1) << (bits - 1 - bit);
  return result;
}

BOTH void exchange(Field *values, unsigned i, unsigned bits) {
  const unsigned other = reversed(i, bits);
  if (i < other) {
    const Field kept = values[i];
    values[i] = values[other];
    values[other] = kept;
  }
}

__global__ void exchange_all(Field *values, unsigned bits) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < 1u << bits) exchange(values, i, bits);
}

__global__ void layer(Field *values, const Field *roots, unsigned half, unsigned stride, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) butterfly(values, roots, i, half, stride);
}

__global__ void square_all(Field *values, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] = bn254::multiply(values[i], values[i]);
}

__global__ void scale_all(Field *values, Field factor, unsigned count) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] = bn254::multiply(values[i], factor);
}

// The powers of `root` that the layers need, and 1/2^bits.
struct Domain {
  explicit Domain(unsigned bits) : bits(bits), size(1u << bits) {
    const Field root = bn254::root_of_unity(bits), back = bn254::inverse(root);
    Field power = bn254::one(), power_back = bn254::one();
    for (unsigned i = 0; i < size / 2; ++i) {
      roots.push_back(power);
      roots_back.push_back(power_back);
      power = bn254::multiply(power, root);
      power_back = bn254::multiply(power_back, back);
    }
    scale = bn254::inverse(bn254::from_number(size));
  }
  unsigned bits, size;
  std::vector<Field> roots, roots_back;
  Field scale;
};

// p*p on the CPU, by the same transforms.
std::vector<Field> squared_on_cpu(std::vector<Field> values, const Domain &domain) {
  for (const std::vector<Field> *roots : {&domain.roots, &domain.roots_back}) {
    for (unsigned i = 0; i < domain.size; ++i) exchange(values.data(), i, domain.bits);
    for (unsigned half = 1; half < domain.size; half *= 2) {
      for (unsigned i = 0; i < domain.size / 2; ++i) {
        butterfly(values.data(), roots->data(), i, half, domain.size / (2 * half));
      }
    }
    for (Field &each : values) each = bn254::multiply(each, roots == &domain.roots ? each : domain.scale);
  }
  return values;
}

// Device memory that is freed whatever happens.
class OnDevice {
 public:
  OnDevice() = default;
  OnDevice(const OnDevice &) = delete;
  OnDevice &operator=(const OnDevice &) = delete;
  ~OnDevice() { cudaFree(data_); }
  cudaError_t copy_in(const std::vector<Field> &values) {
    const cudaError_t status = cudaMalloc(&data_, values.size() * sizeof(Field));
    if (status != cudaSuccess) return status;
    return cudaMemcpy(data_, values.data(), values.size() * sizeof(Field), cudaMemcpyHostToDevice);
  }
  cudaError_t copy_out(std::vector<Field> &values) const {
    return cudaMemcpy(values.data(), data_, values.size() * sizeof(Field), cudaMemcpyDeviceToHost);
  }
  Field *data() const { return data_; }

 private:
  Field *data_ = nullptr;
};

unsigned blocks(unsigned count) { return (count + kThreads - 1) / kThreads; }

void transform(Field *values, const Field *roots, const Domain &domain) {
  exchange_all<<<blocks(domain.size), kThreads>>>(values, domain.bits);
  for (unsigned half = 1; half < domain.size; half *= 2) {
    layer<<<blocks(domain.size / 2), kThreads>>>(values, roots, half, domain.size / (2 * half), domain.size / 2);
  }
}

// p*p on the GPU, in place; `seconds` is the time of the kernels alone.
cudaError_t squared_on_gpu(std::vector<Field> &values, const Domain &domain, double &seconds) {
  OnDevice on_device, roots, roots_back;
  cudaError_t status = on_device.copy_in(values);
  if (status == cudaSuccess) status = roots.copy_in(domain.roots);
  if (status == cudaSuccess) status = roots_back.copy_in(domain.roots_back);
  if (status != cudaSuccess) return status;
  const auto start = std::chrono::steady_clock::now();
  transform(on_device.data(), roots.data(), domain);
  square_all<<<blocks(domain.size), kThreads>>>(on_device.data(), domain.size);
  transform(on_device.data(), roots_back.data(), domain);
  scale_all<<<blocks(domain.size), kThreads>>>(on_device.data(), domain.scale, domain.size);
  status = cudaGetLastError();
  if (status == cudaSuccess) status = cudaDeviceSynchronize();
  seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return status == cudaSuccess ? on_device.copy_out(values) : status;
}

// SplitMix64: the same coefficients on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  Field next() {
    const Field high = bn254::from_number(number()), shift = bn254::from_number(1ull << 32);
    return bn254::add(bn254::multiply(high, bn254::multiply(shift, shift)), bn254::from_number(number()));
  }

 private:
  uint64_t number() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
  }
  uint64_t state_;
};

Field at(const std::vector<Field> &coefficients, const Field &z) {
  Field value = {{0, 0, 0, 0}};
  for (auto each = coefficients.rbegin(); each != coefficients.rend(); ++each) {
    value = bn254::add(bn254::multiply(value, z), *each);
  }
  return value;
}

bool is_square(const std::vector<Field> &product, const std::vector<Field> &p, Random &random) {
  for (unsigned i = 0; i < kPoints; ++i) {
    const Field z = random.next(), value = at(p, z);
    if (!bn254::equal(at(product, z), bn254::multiply(value, value))) return false;
  }
  return true;
}

bool same(const std::vector<Field> &a, const std::vector<Field> &b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!bn254::equal(a[i], b[i])) return false;
  }
  return a.size() == b.size();
}

bool write_product(const std::vector<Field> &product) {
  std::FILE *file = std::fopen(kProduct, "wb");
  if (file == nullptr) return false;
  bool written = true;
  for (const Field &each : product) {
    const Field number = bn254::to_number(each);  // x86-64 is little-endian, as the file is
    written = written && std::fwrite(number.limb, sizeof number.limb, 1, file) == 1;
  }
  return std::fclose(file) == 0 && written;
}

// "" when the right product is in the file, else what went wrong.
std::string prove(unsigned bits, uint64_t seed) {
  Random random(seed);
  const Domain domain(bits);
  std::vector<Field> p(domain.size, Field{{0, 0, 0, 0}});
  for (unsigned i = 0; i < domain.size / 2; ++i) p[i] = random.next();

  std::vector<Field> product = p;
  double on_gpu = 0;
  const cudaError_t status = squared_on_gpu(product, domain, on_gpu);
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Field> expected = squared_on_cpu(p, domain);
  const double on_cpu = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!is_square(expected, p, random)) return "the CPU's product is wrong";
  std::printf("2^%u: the CPU's product is right, %.1f ms\n", bits, on_cpu * 1e3);

  if (status != cudaSuccess) return std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status);
  if (!same(product, expected) || !is_square(product, p, random)) return "the GPU's product is wrong";
  std::printf("2^%u: the GPU's product is right, %.1f ms\n", bits, on_gpu * 1e3);
  return write_product(product) ? "" : std::string("can't write ") + kProduct;
}

void *answer(const std::string &data) {
  // The shim copies the bytes; its interface merely lacks a const.
  return new_task_result(reinterpret_cast<uint8_t *>(const_cast<char *>(data.data())), data.size());
}

void *work(const Task *task) {
  const char *const *args = task->args;
  const char *bits_text = args != nullptr ? args[0] : nullptr;
  const char *seed_text = bits_text != nullptr ? args[1] : nullptr;
  const unsigned long bits = bits_text != nullptr ? std::strtoul(bits_text, nullptr, 10) : kDefaultBits;
  const uint64_t seed = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : 1;

  std::string problem = "BITS is a number from 1 to 24";
  if (bits >= 1 && bits <= kMaximumBits) problem = prove(static_cast<unsigned>(bits), seed);
  failed = !problem.empty();
  const std::string data = failed ? "error: " + problem : "right 2^" + std::to_string(bits);
  std::puts(data.c_str());
  void *result = answer(data);
  if (!failed) add_file_to_result(result, kProduct);
  return result;
}

}  // namespace

int main() {
  run(work);
  return failed ? 1 : 0;
}

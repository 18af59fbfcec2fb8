// The scalar field of BN254 (alt_bn128), in Montgomery form, for the host and the device.

#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define BOTH __host__ __device__
#else
#define BOTH
#endif

namespace bn254 {

// An element times 2^256 modulo r, as four 64-bit limbs, the lowest first; always below r.
struct Field {
  uint64_t limb[4];
};

// r = 21888242871839275222246405745257275088548364400416034343698204186575808495617, prime; r-1 is a multiple of 2^28.
constexpr unsigned kTwoAdicity = 28;

BOTH inline Field modulus() {
  return {{0x43e1f593f0000001ull, 0x2833e84879b97091ull, 0xb85045b68181585dull, 0x30644e72e131a029ull}};
}
// 2^256 mod r: one in Montgomery form.
BOTH inline Field one() {
  return {{0xac96341c4ffffffbull, 0x36fc76959f60cd29ull, 0x666ea36f7879462eull, 0x0e0a77c19a07df2full}};
}
// 2^512 mod r: multiplying by it brings a number into Montgomery form.
BOTH inline Field square_of_radix() {
  return {{0x1bb8e645ae216da7ull, 0x53fe3ab1e35c59e3ull, 0x8c49833d53bb8085ull, 0x0216d0b17f4e44a5ull}};
}
// -1/r mod 2^64
constexpr uint64_t kInverse = 0xc2e1f593efffffffull;

BOTH inline bool below(const Field &a, const Field &b) {
  for (int i = 3; i >= 0; --i) {
    if (a.limb[i] != b.limb[i]) return a.limb[i] < b.limb[i];
  }
  return false;
}

BOTH inline bool equal(const Field &a, const Field &b) {
  bool same = true;
  for (int i = 0; i < 4; ++i) same = same && a.limb[i] == b.limb[i];
  return same;
}

BOTH inline Field minus_raw(const Field &a, const Field &b) {
  Field result;
  uint64_t borrow = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned __int128 difference = (unsigned __int128)a.limb[i] - b.limb[i] - borrow;
    result.limb[i] = (uint64_t)difference;
    borrow = (uint64_t)(difference >> 64) & 1;
  }
  return result;
}

BOTH inline Field plus_raw(const Field &a, const Field &b) {
  Field result;
  uint64_t carry = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned __int128 sum = (unsigned __int128)a.limb[i] + b.limb[i] + carry;
    result.limb[i] = (uint64_t)sum;
    carry = (uint64_t)(sum >> 64);
  }
  return result;  // r is below 2^254, so two elements never carry out
}

BOTH inline Field add(const Field &a, const Field &b) {
  const Field sum = plus_raw(a, b);
  return below(sum, modulus()) ? sum : minus_raw(sum, modulus());
}

BOTH inline Field subtract(const Field &a, const Field &b) {
  return below(a, b) ? minus_raw(plus_raw(a, modulus()), b) : minus_raw(a, b);
}

// a * b / 2^256 mod r: Montgomery's product, one limb of b at a time (CIOS).
BOTH inline Field multiply(const Field &a, const Field &b) {
  const Field r = modulus();
  uint64_t t[6] = {0, 0, 0, 0, 0, 0};
  for (int i = 0; i < 4; ++i) {
    unsigned __int128 carry = 0;
    for (int j = 0; j < 4; ++j) {
      carry += (unsigned __int128)a.limb[j] * b.limb[i] + t[j];
      t[j] = (uint64_t)carry;
      carry >>= 64;
    }
    carry += t[4];
    t[4] = (uint64_t)carry;
    t[5] = (uint64_t)(carry >> 64);

    const uint64_t m = t[0] * kInverse;
    carry = (unsigned __int128)m * r.limb[0] + t[0];
    carry >>= 64;
    for (int j = 1; j < 4; ++j) {
      carry += (unsigned __int128)m * r.limb[j] + t[j];
      t[j - 1] = (uint64_t)carry;
      carry >>= 64;
    }
    carry += t[4];
    t[3] = (uint64_t)carry;
    t[4] = t[5] + (uint64_t)(carry >> 64);
  }
  const Field product = {{t[0], t[1], t[2], t[3]}};
  return below(product, r) ? product : minus_raw(product, r);
}

BOTH inline Field from_number(uint64_t number) {
  const Field raw = {{number, 0, 0, 0}};
  return multiply(raw, square_of_radix());
}

// Out of Montgomery form: the number itself.
BOTH inline Field to_number(const Field &a) {
  const Field unit = {{1, 0, 0, 0}};
  return multiply(a, unit);
}

BOTH inline Field power(Field base, Field exponent) {
  Field result = one();
  for (int bit = 0; bit < 256; ++bit) {
    if (exponent.limb[bit / 64] >> (bit % 64) & 1) result = multiply(result, base);
    base = multiply(base, base);
  }
  return result;
}

// 1/a, by Fermat; 0 for 0.
BOTH inline Field inverse(const Field &a) {
  const Field two = {{2, 0, 0, 0}};
  return power(a, minus_raw(modulus(), two));
}

// An element whose powers are the 2^bits roots of unity (bits <= 28). 5 generates the field's multiplicative group.
BOTH inline Field root_of_unity(unsigned bits) {
  const Field unit = {{1, 0, 0, 0}};
  Field exponent = minus_raw(modulus(), unit);
  for (unsigned shift = 0; shift < bits; ++shift) {
    for (int i = 0; i < 4; ++i) exponent.limb[i] = exponent.limb[i] >> 1 | (i < 3 ? exponent.limb[i + 1] << 63 : 0);
  }
  return power(from_number(5), exponent);
}

}  // namespace bn254

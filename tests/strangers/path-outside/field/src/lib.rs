//! The field of 2^61 - 1 elements.
use num_bigint::BigUint;

const P: u64 = (1 << 61) - 1;

pub fn multiply(a: u64, b: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(P)) as u64
}

pub fn inverse(a: u64) -> u64 {
    let power = BigUint::from(a).modpow(&BigUint::from(P - 2), &BigUint::from(P));
    power.to_u64_digits()[0]
}

pub fn tag() -> String {
    hashing::tag(&P.to_le_bytes())
}

//! MiMC over the scalar field of BN254, and a one-block hash made from it.
//!
//! Permutation (Albrecht et al., "MiMC", ASIACRYPT 2016): with key k and round constants c, round i does
//! `x ← (x + k + c[i])^5`; after the last round k is added once more. Here:
//!
//! - Exponent 5, the smallest d with gcd(d, r − 1) = 1 for BN254's r (3 divides r − 1), so that a round is a bijection.
//! - [`ROUNDS`] = ⌈log₅ r⌉ = ⌈254 / log₂ 5⌉ = 110 rounds, the paper's bound against interpolation.
//! - c[0] = 0 as in the paper. c[i] is the SHA-512 of [`DOMAIN`] and i (4 bytes, little-endian), read as a little-endian
//!   number and reduced modulo r: nobody chose them, and 512 bits make the reduction's bias negligible.
//!
//! With a fixed key the permutation is easy to invert, so the hash adds its input (Miyaguchi–Preneel, one block, zero
//! state): `H(m) = E₀(m) + m`.
//!
//! This is an example: a product would take a hash with years of analysis behind its exact parameters.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::{Field, PrimeField, Zero};
use sha2::{Digest, Sha512};

pub const ROUNDS: usize = 110;
pub const DOMAIN: &[u8] = b"gevulot-orchestrator/examples/groth16/mimc5-bn254/round-constant";

/// The round constants c[0..ROUNDS].
pub fn constants() -> &'static [Fr] {
    static CONSTANTS: OnceLock<Vec<Fr>> = OnceLock::new();
    CONSTANTS.get_or_init(|| (0..ROUNDS).map(constant).collect())
}

fn constant(round: usize) -> Fr {
    if round == 0 {
        return Fr::zero();
    }
    let number = u32::try_from(round).expect("few rounds").to_le_bytes();
    let digest = Sha512::new()
        .chain_update(DOMAIN)
        .chain_update(number)
        .finalize();
    Fr::from_le_bytes_mod_order(&digest)
}

/// H(m) = E₀(m) + m.
pub fn hash(preimage: Fr) -> Fr {
    let permuted = constants().iter().fold(preimage, |x, c| (x + c).pow([5]));
    permuted + preimage
}

//! Making and checking a proof, and how proof, hash and preimage are written down.

use ark_bn254::{Bn254, Fr};
use ark_ff::{BigInteger, PrimeField};
use ark_groth16::{Groth16, Proof, ProvingKey, VerifyingKey};
use ark_snark::SNARK;
use ark_std::rand::rngs::OsRng;
use num_bigint::BigUint;

use crate::keys::{compressed, exactly};
use crate::{mimc, Error, PreimageCircuit};

/// Two points of G1 and one of G2, compressed.
pub const PROOF_LEN: usize = 128;

/// Proves knowledge of `preimage`. Returns the public hash and the proof's [`PROOF_LEN`] bytes.
///
/// The blinding factors come from the operating system, so two proofs of one statement differ.
pub fn prove(key: &ProvingKey<Bn254>, preimage: Fr) -> Result<(Fr, Vec<u8>), Error> {
    let hash = mimc::hash(preimage);
    let circuit = PreimageCircuit {
        preimage: Some(preimage),
        hash: Some(hash),
    };
    let proof = Groth16::<Bn254>::prove(key, circuit, &mut OsRng)
        .map_err(|e| Error(format!("proving: {e}")))?;
    Ok((hash, compressed(&proof)))
}

/// Checks a proof. Errors say why the bytes are no proof at all; `false` means a proof of something else.
pub fn verify(key: &VerifyingKey<Bn254>, hash: Fr, proof: &[u8]) -> Result<bool, Error> {
    // Also checks that the points lie on their curves and in their groups, without which Groth16 is not sound.
    let proof: Proof<Bn254> = exactly(proof).map_err(|e| Error(format!("not a proof: {e}")))?;
    Groth16::<Bn254>::verify(key, &[hash], &proof).map_err(|e| Error(format!("verifying: {e}")))
}

/// A field element as people write it: decimal, or hexadecimal after 0x. White space around it is ignored.
///
/// Nothing is reduced modulo r: a number would have many names then, and a preimage many spellings.
pub fn parse_number(text: &str) -> Result<Fr, Error> {
    let text = text.trim();
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let plain = digits.chars().all(|c| c.is_digit(radix)); // the parser would take '_' and '+' too
    let number = BigUint::parse_bytes(digits.as_bytes(), radix)
        .filter(|_| plain)
        .ok_or_else(|| {
            Error(format!(
                "{text:?} is no number; write it in decimal, or in hexadecimal after 0x"
            ))
        })?;
    if number < Fr::MODULUS.into() {
        Ok(number.into())
    } else {
        Err(Error(format!(
            "{text} is not below the modulus of BN254's scalar field"
        )))
    }
}

/// 0x and 64 hexadecimal digits.
pub fn format_number(number: Fr) -> String {
    let digits: String = number
        .into_bigint()
        .to_bytes_be()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("0x{digits}")
}

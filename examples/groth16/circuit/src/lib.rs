//! Groth16 over BN254: a proof of knowing the preimage of a MiMC hash. Shared by my-prover and my-verifier.

mod circuit;
pub mod keys;
pub mod mimc;
mod proof;

use std::fmt;
use std::path::Path;

pub use ark_bn254::{Bn254, Fr};
pub use ark_groth16::{ProvingKey, VerifyingKey};
pub use circuit::PreimageCircuit;
pub use proof::{format_number, parse_number, prove, verify, PROOF_LEN};

/// A message for people.
#[derive(Debug)]
pub struct Error(pub String);

impl Error {
    /// What went wrong with one file.
    pub fn about(path: &Path, what: impl fmt::Display) -> Error {
        Error(format!("{}: {what}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

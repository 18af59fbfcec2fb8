//! Proving and verifying key, from a DEMO setup.
//!
//! Groth16 needs a setup for each circuit, and whoever knows its randomness can forge proofs. Here the randomness
//! comes from a seed printed below, so **anyone can forge proofs for these keys**. In return the prover's and the
//! verifier's build make the same keys, byte for byte, without exchanging a file. A real system takes its keys
//! from a ceremony and packs them the same way (`stage.files`).

use std::path::Path;

use ark_bn254::{Bn254, Fr};
use ark_groth16::{Groth16, ProvingKey, VerifyingKey};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use ark_snark::CircuitSpecificSetupSNARK;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};

use crate::{Error, PreimageCircuit};

pub const PROVING_KEY: &str = "proving.key";
pub const VERIFYING_KEY: &str = "verifying.key";
const SEED: &[u8] = b"gevulot-orchestrator/examples/groth16/demo-setup/not-a-ceremony";

/// Runs the demo setup. The same keys every time.
pub fn demo_setup() -> Result<(ProvingKey<Bn254>, VerifyingKey<Bn254>), Error> {
    let mut rng = ChaCha20Rng::from_seed(Sha256::digest(SEED).into());
    let shape = PreimageCircuit::default();
    <Groth16<Bn254> as CircuitSpecificSetupSNARK<Fr>>::setup(shape, &mut rng)
        .map_err(|e| Error(format!("setup: {e}")))
}

/// Writes a key in arkworks's compressed form.
pub fn write(path: &Path, key: &impl CanonicalSerialize) -> Result<(), Error> {
    std::fs::write(path, compressed(key)).map_err(|e| Error::about(path, e))
}

/// Reads a key and checks that every point is on its curve and in its group.
pub fn read<K: CanonicalDeserialize>(path: &Path) -> Result<K, Error> {
    let bytes = std::fs::read(path).map_err(|e| Error::about(path, e))?;
    exactly(&bytes).map_err(|e| Error::about(path, e))
}

pub(crate) fn compressed(value: &impl CanonicalSerialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.compressed_size());
    value
        .serialize_compressed(&mut bytes)
        .expect("writing to memory");
    bytes
}

/// A value that uses up all of `bytes`.
pub(crate) fn exactly<T: CanonicalDeserialize>(mut bytes: &[u8]) -> Result<T, Error> {
    let value = T::deserialize_compressed(&mut bytes).map_err(|e| Error(e.to_string()))?;
    if bytes.is_empty() {
        Ok(value)
    } else {
        Err(Error(format!("{} bytes too many", bytes.len())))
    }
}
